"""GAN training: losses, gradient penalty, differentiable augmentation, EMA decay."""

import random
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.errors import CalotypeError
from calotype.options import nearest

Critic = Callable[[Tensor], Tensor]  # (N, 3, H, W) in [-1, 1] -> (N,)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic pairing loss (Jolicoeur-Martineau 2019; R3GAN) of logits (N,) of real and generated pictures."""
    return F.softplus(fake - real).mean()


def generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(real - fake).mean()


def gradient_penalty(discriminator: Critic, pictures: Tensor) -> Tensor:
    """Zero-centered gradient penalty (Mescheder, Geiger and Nowozin 2018): R1 on real pictures, R2 on generated ones.

    Args:
        pictures: (N, 3, H, W) float32, the discriminator's input, with augmentation.
    Returns:
        the mean squared norm of the gradient of the logits with respect to the pictures.
    """
    pictures = pictures.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(pictures).sum(), pictures, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def ema_decay(half_life: int, batch: int, image_count: int) -> float:
    """EMA decay from a half-life in pictures, with a ramp-up at the beginning (StyleGAN2-ADA)."""
    return 0.5 ** (batch / max(1e-8, min(half_life, 0.05 * image_count)))


# ---------------------------------------------------------------------- DiffAugment: Zhao et al., NeurIPS 2020


def _color(x: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness by -0.5 to 0.5, saturation by a factor of 0 to 2, contrast by a factor of 0.5 to 1.5."""
    brightness, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, generator=generator).to(x)
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def _translation(x: Tensor, generator: torch.Generator, ratio: float = 0.125) -> Tensor:
    """Shifts by up to an eighth of the side, padded with grey."""
    side = x.shape[-1]
    max_shift = round(side * ratio)
    down, right = torch.randint(0, 2 * max_shift + 1, (2, len(x)), generator=generator).to(x.device)
    positions = torch.arange(side, device=x.device)
    x = F.pad(x, (max_shift,) * 4).permute(0, 2, 3, 1)
    rows, columns = (down[:, None] + positions)[:, :, None], (right[:, None] + positions)[:, None]
    return x[torch.arange(len(x), device=x.device)[:, None, None], rows, columns].permute(0, 3, 1, 2)


def _cutout(x: Tensor, generator: torch.Generator, ratio: float = 0.5) -> Tensor:
    """Fills a random square of half the side with grey, which may extend over the edge."""
    side = x.shape[-1]
    half = round(side * ratio) // 2
    top, left = torch.randint(0, side + 1, (2, len(x), 1), generator=generator).to(x.device) - half
    positions = torch.arange(side, device=x.device)
    rows = (positions >= top) & (positions < top + 2 * half)
    columns = (positions >= left) & (positions < left + 2 * half)
    return x * ~(rows[:, :, None] & columns[:, None, :])[:, None]


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}


def parse_augmentations(text: str) -> list[str]:
    """Parses "color,translation". Raises CalotypeError for an unknown name."""
    names = [name.strip() for name in text.split(",") if name.strip() and name.strip() != "none"]
    for name in names:
        if name not in AUGMENTATIONS:
            known = ", ".join(AUGMENTATIONS)
            raise CalotypeError(
                "{option:augment} has no {name}{hint}; choose from {known}, and none",
                name=name,
                hint=nearest(name, AUGMENTATIONS),
                known=known,
            )
    return names


def augment(x: Tensor, names: Iterable[str], generator: torch.Generator) -> Tensor:
    """Augments (N, 3, S, S) in [-1, 1] at random; differentiable."""
    for name in names:
        x = AUGMENTATIONS[name](x, generator)
    return x


def random_flip(x: Tensor, rng: random.Random) -> Tensor:
    """Flips each picture horizontally with probability 0.5."""
    is_flipped = torch.tensor([rng.random() < 0.5 for _ in range(len(x))], device=x.device)
    return torch.where(is_flipped[:, None, None, None], x.flip(3), x)
