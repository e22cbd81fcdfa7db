"""The landmark loss: how far the points of a face mesh lie from those of the true face."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMOOTH = 1e-4  # of square pixels, so that the gradient of a distance of 0 exists


class LandmarkLoss(nn.Module):
    """Mean distance of the points of MediaPipe's face mesh in two batches of aligned faces.

    Its points move with eyes, mouth and outline, and a network that only compares pixels moves them little. The network
    of the mesh looks at the whole aligned crop, which is near enough to the square that it was made for.
    """

    def __init__(self, mesh: nn.Module):
        """Args:
        mesh: `models.graph.GraphNetwork` of the mesh; its weights are not trained.
        """
        super().__init__()
        self.mesh = mesh.requires_grad_(False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """(N, 3, H, W) each, in [0, 1], of any square size; a fraction of their side."""
        with torch.autocast(output.device.type, enabled=False):
            with torch.no_grad():
                true = self._points(target)
            distances = ((self._points(output) - true).square().sum(2) + SMOOTH).sqrt()
        return distances.mean() / self.mesh.side

    def _points(self, x: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, 468, 2), in pixels of the mesh's own size
        small = F.interpolate(x.float().clamp(0, 1), size=(self.mesh.side,) * 2, mode="bilinear", antialias=True)
        return self.mesh(small)["mesh"].unflatten(1, (-1, 3))[..., :2]
