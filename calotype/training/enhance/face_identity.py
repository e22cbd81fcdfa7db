"""Is it the same person? dlib's face descriptor (King 2009, a ResNet of 29 layers), from wheels; for measuring only.

Two photos of one person are less than 0.6 apart, as its author measured. Nothing here learns from it.
"""

import importlib.util

import numpy as np
from torch import Tensor

from calotype.errors import CalotypeError, Remedy
from calotype.ops.color import to_pixels
from calotype.ops.faces import align, similarity

SIDE = 150  # pixels that it takes
# YuNet's eyes, nose and mouth corners (x, y) in dlib's own chips with its padding of a quarter: medians over 25 faces
CHIP = np.array([[49.2, 45.7], [99.4, 45.7], [74.3, 76.1], [52.8, 100.8], [95.8, 100.8]])


def is_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models"))


def missing() -> CalotypeError:
    """What to say where they are not."""
    return CalotypeError(
        "dlib's descriptors of faces are not installed; {remedy} to have a column for them",
        remedy=Remedy("install", "likeness"),
    )


class Likeness:
    """How far apart two faces are as persons."""

    def __init__(self) -> None:
        import dlib
        from face_recognition_models import face_recognition_model_location

        self._network = dlib.face_recognition_model_v1(face_recognition_model_location())

    def apart(self, one: Tensor, other: Tensor, landmarks: np.ndarray) -> float:
        """0 for the same, over 0.6 for another person.

        Args:
            one, other: (3, H, W) RGB in [0, 1].
            landmarks: (5, 2) in both.
        """
        chips = [self._chip(picture, landmarks) for picture in (one, other)]
        first, second = (np.array(self._network.compute_face_descriptor(chip)) for chip in chips)
        return float(np.linalg.norm(first - second))

    def _chip(self, picture: Tensor, landmarks: np.ndarray) -> np.ndarray:
        pixels = to_pixels(picture, like=np.empty((1, 1, 3), np.uint8))
        return np.ascontiguousarray(align(pixels, similarity(landmarks, CHIP), SIDE))
