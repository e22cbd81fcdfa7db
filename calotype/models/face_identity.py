"""Face identity distance by dlib's face descriptor (King 2009, a ResNet of 29 layers); for evaluation only.

Two photos of one person have a distance below 0.6, as its author measured. Nothing is trained with it.
"""

import importlib.util

import numpy as np
from torch import Tensor

from calotype.errors import CalotypeError, Remedy
from calotype.ops.color import to_pixels
from calotype.ops.faces import align, similarity

SIDE = 150  # pixels of the network's input
# YuNet's eyes, nose and mouth corners (x, y) in dlib's own chips with its padding of a quarter: medians over 25 faces
CHIP = np.array([[49.2, 45.7], [99.4, 45.7], [74.3, 76.1], [52.8, 100.8], [95.8, 100.8]])


def is_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models"))


def missing() -> CalotypeError:
    """The message if they are not installed."""
    return CalotypeError(
        "dlib's descriptors of faces are not installed; {remedy} to have a column for them",
        remedy=Remedy("install", "likeness"),
    )


class FaceIdentity:
    """The distance of two faces as persons."""

    def __init__(self) -> None:
        import dlib
        from face_recognition_models import face_recognition_model_location

        self._network = dlib.face_recognition_model_v1(face_recognition_model_location())

    def distance(self, a: Tensor, b: Tensor, landmarks: np.ndarray) -> float:
        """Distance of the descriptors: 0 for the same picture, over 0.6 for different persons.

        Args:
            a, b: (3, H, W) RGB in [0, 1].
            landmarks: (5, 2) in both.
        """
        chips = [self._chip(picture, landmarks) for picture in (a, b)]
        first, second = (np.array(self._network.compute_face_descriptor(chip)) for chip in chips)
        return float(np.linalg.norm(first - second))

    def _chip(self, picture: Tensor, landmarks: np.ndarray) -> np.ndarray:
        pixels = to_pixels(picture, like=np.empty((1, 1, 3), np.uint8))
        return np.ascontiguousarray(align(pixels, similarity(landmarks, CHIP), SIDE))
