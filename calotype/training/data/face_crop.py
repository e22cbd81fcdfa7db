"""Where to cut a photo so that the face fills it as training wants: square or upright, with room around it."""

from collections.abc import Sequence

from calotype.models.face_detector import CONFIDENT, DetectedFace

UPRIGHT = 4 / 3  # height over width of a portrait
EYE_LEVEL = 0.42  # of a portrait's height, where the middle of the face comes


def largest(faces: Sequence[DetectedFace]) -> tuple[DetectedFace | None, int]:
    """The largest face, and how many there are."""
    sure = [face for face in faces if face.confidence >= CONFIDENT]
    return max(sure, key=lambda face: face.box[2] * face.box[3], default=None), len(sure)


def window(face: DetectedFace, size: tuple[int, int], shape: str, margin: float) -> tuple[slice, slice]:
    """Rows and columns of the crop: wholly within the picture, as large as asked for where that fits.

    Args:
        size: height and width of the picture.
        shape: "square" or "portrait".
        margin: room on each side, in lengths of the face.
    """
    height, width = size
    x, y, w, h = face.box
    wide = max(w, h) * (1 + 2 * margin)
    tall = wide * (UPRIGHT if shape == "portrait" else 1)
    shrink = min(1.0, width / wide, height / tall)
    wide, tall = max(1, min(width, round(wide * shrink))), max(1, min(height, round(tall * shrink)))
    left = _within(x + w / 2 - wide / 2, width - wide)
    top = _within(y + h / 2 - tall * (EYE_LEVEL if shape == "portrait" else 0.5), height - tall)
    return slice(top, top + tall), slice(left, left + wide)


def _within(start: float, most: int) -> int:
    return min(max(0, round(start)), most)
