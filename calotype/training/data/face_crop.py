"""Crops of photos around a face for training: square or portrait, with a margin."""

from collections.abc import Sequence

from calotype.models.face_detector import CONFIDENT, DetectedFace

UPRIGHT = 4 / 3  # height over width of a portrait
EYE_LEVEL = 0.42  # of the face's center, relative to a portrait's height


def largest(faces: Sequence[DetectedFace]) -> tuple[DetectedFace | None, int]:
    """The largest face, and the number of faces."""
    confident = [face for face in faces if face.confidence >= CONFIDENT]
    return max(confident, key=lambda face: face.box[2] * face.box[3], default=None), len(confident)


def window(face: DetectedFace, size: tuple[int, int], shape: str, margin: float) -> tuple[slice, slice]:
    """Rows and columns of the crop, within the picture; smaller than requested if it does not fit.

    Args:
        size: height and width of the picture.
        shape: "square" or "portrait".
        margin: on each side, in face sizes.
    """
    height, width = size
    x, y, w, h = face.box
    wide = max(w, h) * (1 + 2 * margin)
    tall = wide * (UPRIGHT if shape == "portrait" else 1)
    shrink = min(1.0, width / wide, height / tall)
    wide, tall = max(1, min(width, round(wide * shrink))), max(1, min(height, round(tall * shrink)))
    left = _clamped(x + w / 2 - wide / 2, width - wide)
    top = _clamped(y + h / 2 - tall * (EYE_LEVEL if shape == "portrait" else 0.5), height - tall)
    return slice(top, top + tall), slice(left, left + wide)


def _clamped(start: float, max_start: int) -> int:
    return min(max(0, round(start)), max_start)
