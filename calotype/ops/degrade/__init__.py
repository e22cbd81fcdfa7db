"""Making good pictures bad, to learn how bad ones become good: tensors in and out, seeded, no files, no weights."""

from calotype.ops.degrade.age import Wear, age, faded, worn
from calotype.ops.degrade.face import FaceRecipe, degrade_faces
from calotype.ops.degrade.jpeg import jpeg
from calotype.ops.degrade.second_order import SecondOrder, second_order

__all__ = ["FaceRecipe", "SecondOrder", "Wear", "age", "degrade_faces", "faded", "jpeg", "second_order", "worn"]
