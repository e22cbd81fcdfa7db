"""A fast preview of latents: a linear map from latents to RGB instead of the VAE."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.models.diffusion import Diffusion


class LatentPreview:
    """One instance per model; the matrix is fitted at the first preview."""

    def __init__(self, model: Diffusion):
        self._model = model
        self._matrix: Tensor | None = None

    def at(self, x: Tensor, prediction: Tensor, t: Tensor, scheduler: Any) -> Callable[[], np.ndarray]:
        """A function that returns the preview of x0, (h, w, 3) uint8. `x` is the scaled model input."""

        def preview() -> np.ndarray:
            return self._to_rgb(predict_x0(x[0], prediction[0], t, scheduler))

        return preview

    @torch.inference_mode()
    def _to_rgb(self, latents: Tensor) -> np.ndarray:
        if self._matrix is None:
            self._matrix = self._fit_matrix()
        rgb = torch.einsum("chw,cd->hwd", torch.cat([latents, torch.ones_like(latents[:1])]), self._matrix)
        return (rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy()

    def _fit_matrix(self) -> Tensor:
        """(C + 1, 3): least squares from the VAE's latents of random smooth colours to these colours."""
        fields = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        pixels = F.interpolate(fields, (16 * self._model.factor,) * 2, mode="bicubic").clamp(0, 1)
        latents = self._model.encode_mean(pixels)
        colours = F.adaptive_avg_pool2d(pixels, latents.shape[2:])
        given = torch.cat([latents, torch.ones_like(latents[:, :1])], 1).movedim(1, -1).flatten(0, 2)
        return torch.linalg.lstsq(given, colours.movedim(1, -1).flatten(0, 2)).solution


def predict_x0(x: Tensor, prediction: Tensor, t: Tensor, scheduler: Any) -> Tensor:
    """x0 by the prediction (Ho et al. 2020, equation 15; for v: Salimans and Ho 2022)."""
    alpha_t = float(scheduler.alphas_cumprod[round(float(t))]) ** 0.5
    sigma_t = (1 - alpha_t**2) ** 0.5
    if scheduler.config.prediction_type == "v_prediction":
        return alpha_t * x - sigma_t * prediction
    return (x - sigma_t * prediction) / max(alpha_t, 1e-3)
