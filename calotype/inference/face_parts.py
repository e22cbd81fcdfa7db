"""What a face's mesh is used for in restoring: masks of the face and its parts."""

import numpy as np
from torch import Tensor

from calotype.checkpoints.models import Models
from calotype.ops.face_parts import face_masks
from calotype.ops.faces import FaceBlend, yaw
from calotype.record import FaceRecord
from calotype.tasks import Restore

MAX_YAW = 50  # degrees to the side, up to which the mesh fits


def blended(drawn: Tensor, face: FaceRecord, task: Restore, models: Models) -> FaceBlend | None:
    """How the restored crop of a face, (3, side, side), is laid over the photo; None: by the mask of every face."""
    if not task.uses_face_mesh:
        return None
    if abs(yaw(np.array(face.landmarks))) > MAX_YAW:
        return None
    mesh = models.face_mesh().find(drawn.permute(1, 2, 0).numpy())
    if not mesh.is_sure:
        return None
    side = drawn.shape[1]
    return FaceBlend(*face_masks(mesh, side), np.full((side, side), face.strength, np.float32))
