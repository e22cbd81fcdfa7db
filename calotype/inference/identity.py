"""How much a restored face looks like the photo's: by dlib's descriptors where they are installed, else by the mesh."""

import numpy as np
import torch
from torch import Tensor

from calotype.checkpoints.models import Models
from calotype.models import face_identity
from calotype.ops.face_measures import mesh_distance
from calotype.ops.face_parts import Mesh
from calotype.ops.faces import template
from calotype.tasks import Restore

DLIB, MESH = "dlib", "mesh"  # as records name the measure


def identity_measure(task: Restore) -> str:
    """The recorded measure, or the best one installed. Raises CalotypeError where the recorded one isn't installed."""
    is_installed = face_identity.is_installed()
    if task.auto_identity == DLIB and not is_installed:
        raise face_identity.missing()
    return task.auto_identity or (DLIB if is_installed else MESH)


def identity_score(
    measure: str, photo: np.ndarray, photo_mesh: Mesh, crop: np.ndarray, mesh: Mesh, models: Models
) -> float:
    """1 for the same picture, under 0.4 mostly for another person: crops are (side, side, C) float32 in [0, 1]."""
    if measure == DLIB:
        distance = models.face_identity().distance(_tensor(photo), _tensor(crop), template(photo.shape[0]))
    else:
        distance = mesh_distance(photo, photo_mesh, crop, mesh)
    return float(np.clip(1 - distance, 0, 1))


def _tensor(crop: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1).expand(3, -1, -1)
