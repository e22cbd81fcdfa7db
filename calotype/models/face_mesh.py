"""MediaPipe's face mesh and irises: 468 points of a face and five of each iris, found in an aligned crop."""

from pathlib import Path

import cv2
import numpy as np
import torch

from calotype.models.graph import read_graph
from calotype.ops.face_parts import CORNERS, LID_POINTS, Mesh

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
        side = crop.shape[0]
        picture = np.ascontiguousarray(np.broadcast_to(crop, (*crop.shape[:2], 3)), dtype=np.float32)
        small = self.mesh_network.side
        flags = cv2.INTER_AREA if side > small else cv2.INTER_CUBIC
        output = self.mesh_network(_batch(cv2.resize(picture, (small, small), interpolation=flags)))
        points = output["mesh"][0].reshape(-1, 3).numpy()
        points[:, :2] = (points[:, :2] + 0.5) * (side / small) - 0.5
        points[:, 2] *= side / small
        lids, irises = self._find_irises(picture, points[:, :2])
        return Mesh(points, irises, lids, float(output["confidence"]))

    def _find_irises(self, picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(2, 16, 2) contours and (2, 5, 2) irises. The network knows one eye; the other is shown mirrored."""
        small = self.iris_network.side
        crops, matrices = [], []
        for outer, inner in CORNERS:
            centre, width = points[[outer, inner]].mean(0), np.linalg.norm(points[outer] - points[inner])
            scale = small / max(1e-3, EYE_CROP * width)
            matrix = np.hstack([np.eye(2) * scale, (small / 2 - 0.5 - centre * scale)[:, None]])
            if outer == CORNERS[1][0]:
                matrix[0] = [0, 0, small - 1] - matrix[0]
            crops.append(cv2.warpAffine(picture, matrix, (small, small), borderMode=cv2.BORDER_REPLICATE))
            matrices.append(matrix)
        output = self.iris_network(_batch(*crops))["points"].reshape(2, -1, 3).numpy()[..., :2]
        eyes = np.stack([(eye - m[:, 2]) / m[[0, 1], [0, 1]] for eye, m in zip(output, matrices, strict=True)])
        eyes = eyes.astype(np.float32)
        return eyes[:, :LID_POINTS], eyes[:, -5:]


def _batch(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
