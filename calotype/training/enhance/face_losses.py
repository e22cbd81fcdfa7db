"""Losses of faces: how far the points of mesh and eyes lie from the true ones, and how far their descriptor does."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.models.face_identity import CHIP, SIDE
from calotype.models.face_mesh import EYE_CROP
from calotype.ops.face_parts import CORNERS, LID_POINTS, LOWER_LID, UPPER_LID
from calotype.ops.faces import scale_of, similarity, template

SMOOTH = 1e-4  # added to the square of a distance, so that the gradient of 0 exists
EVENNESS = 2.0  # weight of how unequally both eyes are open, beside the distance of their points


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
        return _mean_distance(partial(_mesh_points, self.mesh), output, target) / self.mesh.side


class EyeLoss(nn.Module):
    """Mean distance of lids and irises in two batches of aligned faces, and how unequally their eyes are open.

    MediaPipe's iris network sees each eye as `models.face_mesh` shows it, where the true face has it.
    """

    def __init__(self, mesh: nn.Module, iris: nn.Module):
        """Args:
        mesh, iris: `models.graph.GraphNetwork` of each; their weights are not trained.
        """
        super().__init__()
        self.mesh, self.iris = mesh.requires_grad_(False), iris.requires_grad_(False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """(N, 3, H, W) each, in [0, 1], of any square size; a fraction of the eyes' width."""
        with torch.autocast(output.device.type, enabled=False):
            with torch.no_grad():
                grid = self._eye_grid(target)
                true = self._eyes(target, grid)
            drawn = self._eyes(output, grid)
        distance = ((drawn - true).square().sum(-1) + SMOOTH).sqrt().mean()
        unequal = [(eyes := _openness(points))[:, 0] - eyes[:, 1] for points in (drawn, true)]
        return distance + EVENNESS * (unequal[0] - unequal[1]).abs().mean()

    def _eye_grid(self, faces: Tensor) -> Tensor:
        """(N, 3, H, W) -> (2 N, 2 side, 2 side, 2), where the squares around both eyes of each face are sampled.

        The network knows the picture's left eye; the other one is shown to it mirrored.
        """
        points = _mesh_points(self.mesh, faces) * (2 / self.mesh.side) - 1 + 1 / self.mesh.side  # -1 to 1
        corners = points[:, torch.tensor(CORNERS, device=points.device)]  # (N, 2, 2, 2): eye, corner, (x, y)
        half = EYE_CROP / 2 * (corners[:, :, 0] - corners[:, :, 1]).norm(dim=-1)
        theta = points.new_zeros(*half.shape, 2, 3)
        theta[..., 0, 0], theta[..., 1, 1] = half * half.new_tensor([1, -1]), half
        theta[..., 2] = corners.mean(2)
        finer = 2 * self.iris.side
        return F.affine_grid(theta.flatten(0, 1), [2 * len(faces), 3, finer, finer], align_corners=False)

    def _eyes(self, faces: Tensor, grid: Tensor) -> Tensor:
        """(N, 2, 21, 2): contour and iris of each eye, a fraction of its width."""
        pairs = faces.float().clamp(0, 1).repeat_interleave(2, 0)
        crops = F.grid_sample(pairs, grid, mode="bilinear", padding_mode="border", align_corners=False)
        points = self.iris(F.avg_pool2d(crops, 2))["points"].unflatten(1, (-1, 3))[..., :2]
        eyes = torch.cat([points[:, :LID_POINTS], points[:, -5:]], 1) * (EYE_CROP / self.iris.side)
        return eyes.unflatten(0, (-1, 2))


def _openness(eyes: Tensor) -> Tensor:
    """(N, 2, 21, 2) -> (N, 2): the height of each eye over its width, as `ops.face_measures.eye_openness`."""
    heights = eyes[:, :, LOWER_LID].mean(2)[..., 1] - eyes[:, :, UPPER_LID].mean(2)[..., 1]
    return heights / (eyes[:, :, 8] - eyes[:, :, 0]).norm(dim=-1).clamp(min=0.1)


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


def _mesh_points(mesh: nn.Module, faces: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 468, 2), in pixels of the mesh's own size."""
    small = F.interpolate(faces.float().clamp(0, 1), size=(mesh.side,) * 2, mode="bilinear", antialias=True)
    return mesh(small)["mesh"].unflatten(1, (-1, 3))[..., :2]


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
