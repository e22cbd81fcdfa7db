"""MediaPipe's face mesh and irises: 468 points of a face and five of each iris, found in an aligned crop."""

from pathlib import Path

import cv2
import numpy as np
import torch

from calotype.models.graph import read_graph
from calotype.ops.face_parts import CORNERS, LID_POINTS, Mesh

FACE_CROP = 1.5  # side of the mesh network's crop, as a multiple of the face's; the first crop is only near that
EYE_CROP = 2.3  # side of the iris network's crop, as a multiple of the eye's width


class FaceMesh:
    """`find` may be called from several threads."""

    def __init__(self, mesh_path: Path, iris_path: Path):
        """Raises CalotypeError if one of the files cannot be read."""
        self.mesh_network, self.iris_network = read_graph(mesh_path), read_graph(iris_path)

    @torch.inference_mode()
    def find(self, crop: np.ndarray) -> Mesh:
        """The mesh of the face in an aligned crop, (side, side, C) float32 in [0, 1], C 1 or 3.

        Crops of other alignment work too, if the face is upright and fills about half of their height.
        """
        picture = np.ascontiguousarray(np.broadcast_to(crop, (*crop.shape[:2], 3)), dtype=np.float32)
        side = crop.shape[0]
        points, _ = self._find_points(picture, np.full(2, (side - 1) / 2), side)
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        points, confidence = self._find_points(picture, (low + high) / 2, FACE_CROP * float((high - low).max()))
        lids, irises = self._find_irises(picture, points[:, :2])
        return Mesh(points, irises, lids, confidence)

    def _find_points(self, picture: np.ndarray, centre: np.ndarray, width: float) -> tuple[np.ndarray, float]:
        """(468, 3) points and the confidence, in a square of this width."""
        scale = self.mesh_network.side / max(1.0, width)
        crop, matrix = _square(picture, centre, scale, self.mesh_network.side)
        output = self.mesh_network(_batch(crop))
        points = output["mesh"][0].reshape(-1, 3).numpy()
        points[:, :2] = (points[:, :2] - matrix[:, 2]) / scale
        points[:, 2] /= scale
        return points, float(output["confidence"])

    def _find_irises(self, picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(2, 16, 2) contours and (2, 5, 2) irises. The network knows one eye; the other is shown mirrored."""
        small = self.iris_network.side
        crops, matrices = [], []
        for outer, inner in CORNERS:
            centre, width = points[[outer, inner]].mean(0), np.linalg.norm(points[outer] - points[inner])
            crop, matrix = _square(picture, centre, small / max(1.0, EYE_CROP * width), small)
            if outer == CORNERS[1][0]:
                crop, matrix[0] = crop[:, ::-1], [0, 0, small - 1] - matrix[0]
            crops.append(crop)
            matrices.append(matrix)
        output = self.iris_network(_batch(*crops))["points"].reshape(2, -1, 3).numpy()[..., :2]
        eyes = np.stack([(eye - m[:, 2]) / m[[0, 1], [0, 1]] for eye, m in zip(output, matrices, strict=True)])
        eyes = eyes.astype(np.float32)
        return eyes[:, :LID_POINTS], eyes[:, -5:]


def _square(picture: np.ndarray, centre: np.ndarray, scale: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A (side, side, 3) square around a point, and the (2, 3) matrix to it; antialiased when shrinking."""
    finer = max(1, int(1 / scale))
    matrices = [
        np.hstack([np.eye(2) * n * scale, ((n * side - 1) / 2 - centre * n * scale)[:, None]]) for n in (finer, 1)
    ]
    crop = cv2.warpAffine(picture, matrices[0], (finer * side, finer * side), borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA), matrices[1]


def _batch(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
