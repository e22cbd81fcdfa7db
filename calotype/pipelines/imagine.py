"""Text-to-image: latent diffusion with our own sampling loop. Rombach et al. 2022; Ho and Salimans 2022 (guidance)."""

from calotype.inference.diffusion.generate import imagine

__all__ = ["imagine"]
