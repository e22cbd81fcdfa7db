"""A quick look at latents on their way: no network, one small matrix from latents to colours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.models.diffusion import Diffusion


class LatentPreview:
    """Made once for a model; the matrix is fitted when somebody looks."""

    def __init__(self, model: Diffusion):
        self._model = model
        self._matrix: Tensor | None = None

    def at(self, x: Tensor, answer: Tensor, t: Tensor, made: Any) -> Callable[[], np.ndarray]:
        """What the picture seems to become: (h, w, 3) uint8 when called. `x` as the network was given it."""

        def look() -> np.ndarray:
            return self._coloured(_clean(x[0], answer[0], t, made))

        return look

    @torch.inference_mode()
    def _coloured(self, latents: Tensor) -> np.ndarray:
        if self._matrix is None:
            self._matrix = self._fitted()
        rgb = torch.einsum("chw,cd->hwd", torch.cat([latents, torch.ones_like(latents[:1])]), self._matrix)
        return (rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy()

    def _fitted(self) -> Tensor:
        """(C + 1, 3): least squares over soft fields of colour and what the VAE makes of them."""
        fields = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        pixels = F.interpolate(fields, (16 * self._model.factor,) * 2, mode="bicubic").clamp(0, 1)
        latents = self._model.encode_mean(pixels)
        colours = F.adaptive_avg_pool2d(pixels, latents.shape[2:])
        given = torch.cat([latents, torch.ones_like(latents[:, :1])], 1).movedim(1, -1).flatten(0, 2)
        return torch.linalg.lstsq(given, colours.movedim(1, -1).flatten(0, 2)).solution


def _clean(x: Tensor, answer: Tensor, t: Tensor, made: Any) -> Tensor:
    """The clean latents that the network's answer means (Ho et al. 2020, equation 15; for v: Salimans and Ho 2022)."""
    signal = float(made.alphas_cumprod[round(float(t))]) ** 0.5
    noise = (1 - signal**2) ** 0.5
    if made.config.prediction_type == "v_prediction":
        return signal * x - noise * answer
    return (x - noise * answer) / max(signal, 1e-3)
