"""Losses of faces: how far the points of their mesh lie from the true ones, and how far their descriptor is."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.models.face_identity import CHIP, SIDE
from calotype.ops.faces import scale_of, similarity, template

SMOOTH = 1e-4  # added to the square of a distance, so that the gradient of 0 exists


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
        return _mean_distance(self._points, output, target) / self.mesh.side

    def _points(self, x: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, 468, 2), in pixels of the mesh's own size
        small = F.interpolate(x.float().clamp(0, 1), size=(self.mesh.side,) * 2, mode="bilinear", antialias=True)
        return self.mesh(small)["mesh"].unflatten(1, (-1, 3))[..., :2]


class DescriptorLoss(nn.Module):
    """Mean distance of dlib's face descriptors in two batches of aligned faces, and in their mirror images.

    As the identity loss of Wang et al. 2021, "GFPGAN" (arXiv 2101.04061), eq. 7, with a network that may be used.
    """

    def __init__(self, descriptor: nn.Module):
        """Args:
        descriptor: `models.face_identity.FaceDescriptor`; its weights are not trained.
        """
        super().__init__()
        self.descriptor = descriptor.requires_grad_(False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """(N, 3, H, W) each, in [0, 1], square and aligned as in FFHQ; over 0.6 for different persons."""
        return _mean_distance(self._descriptors, output, target)

    def _descriptors(self, x: Tensor) -> Tensor:  # (N, 3, H, W) -> (2 N, 128)
        chips = descriptor_chips(x.float().clamp(0, 1))
        return self.descriptor(torch.cat([chips, chips.flip(3)]))


def _mean_distance(vectors: Callable[[Tensor], Tensor], output: Tensor, target: Tensor) -> Tensor:
    """Of the (..., D) vectors of two batches of pictures, in float32; the gradient goes into `output` alone."""
    with torch.autocast(output.device.type, enabled=False):
        with torch.no_grad():
            true = vectors(target)
        return ((vectors(output) - true).square().sum(-1) + SMOOTH).sqrt().mean()


def descriptor_chips(faces: Tensor) -> Tensor:
    """(N, 3, H, H), aligned as in FFHQ -> (N, 3, 150, 150), aligned as dlib's descriptor wants them; differentiable."""
    side = faces.shape[-1]
    matrix = similarity(template(side), CHIP)
    back = np.linalg.inv(matrix[:, :2])  # of pixels in the chip to such in the face
    centre = back @ ((SIDE - 1) / 2 - matrix[:, 2])
    theta = np.column_stack([back * (SIDE / side), (2 * centre + 1) / side - 1])
    small = max(1, min(side, round(side * scale_of(matrix))))
    reduced = F.interpolate(faces, size=(small, small), mode="bilinear", antialias=True) if small < side else faces
    grid = F.affine_grid(
        torch.from_numpy(theta).to(faces).expand(len(faces), -1, -1), [len(faces), 3, SIDE, SIDE], align_corners=False
    )
    return F.grid_sample(reduced, grid, mode="bicubic", padding_mode="border", align_corners=False)
