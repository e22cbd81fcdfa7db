"""Synthetic degradation of pictures, for training restoration: tensors in and out, seeded, no files, no weights."""

from calotype.ops.degrade.age import AgeRecipe, age, age_texture, faded
from calotype.ops.degrade.face import FaceRecipe, degrade_faces
from calotype.ops.degrade.jpeg import jpeg
from calotype.ops.degrade.second_order import SecondOrder, second_order

__all__ = [
    "AgeRecipe",
    "FaceRecipe",
    "SecondOrder",
    "age",
    "age_texture",
    "degrade_faces",
    "faded",
    "jpeg",
    "second_order",
]
