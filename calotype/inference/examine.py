"""What is wrong with a photo, in figures: measured before anything is repaired or restored."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from calotype import measures
from calotype.errors import Message
from calotype.measures import Measure, figure
from calotype.ops import examine as ops
from calotype.ops.faces import yaw
from calotype.ops.scan import find_photos, measure_border
from calotype.picture import Picture
from calotype.record import FaceRecord

SKEW = 0.5  # degrees
NOSE_DEPTH = 0.55  # for the angle in sentences: not the one that faces are treated by, as records hold these sentences
PHOTOS = (measures.NO_LID, measures.SINGLE_PHOTO, measures.PHOTOS)  # by how many are found
MEASURES: dict[str, tuple[Callable[[np.ndarray], float], float]] = {
    "noise": (ops.noise, 5.0),
    "blur": (ops.blur, 1.3),
    "blocks": (ops.blocks, 1.0),
}  # functions with their thresholds
BEYOND = {"noise": measures.NOISE, "blur": measures.BLURRED, "blocks": measures.BLOCKS}  # decisions
BELOW = {"noise": measures.NO_NOISE, "blur": measures.NOT_BLURRED, "blocks": measures.NO_BLOCKS}


def examine(picture: Picture) -> Iterator[Measure]:
    """What concerns the whole photo, besides what repairs measure."""
    pixels = picture.without_missing_rows().pixels
    yield from _layout(pixels)
    for name, (measure, threshold) in MEASURES.items():
        value = float(figure(measure(pixels)))  # as it is shown: "1.3 from 1.3" is beyond
        template = BEYOND[name] if value >= threshold else BELOW[name]
        decision = Message(template, value=figure(value), threshold=figure(threshold))
        yield Measure.of(name, value, threshold, value >= threshold, decision)


def _layout(pixels: np.ndarray) -> Iterator[Measure]:
    """How many photos lie on the scan, and how; the border of a photo that fills it."""
    scan = find_photos(pixels)
    count = len(scan.photos)
    skew = float(figure(max((abs(photo.angle) for photo in scan.photos), default=0.0)))
    decision = Message(PHOTOS[min(count, 2)], value=count) if not scan.is_blank else Message(measures.BLANK)
    yield Measure.of("photos", max(1, count) if not scan.is_blank else 0, 2, count >= 2, decision)
    if count:
        decision = Message(
            measures.SKEWED if skew >= SKEW else measures.STRAIGHT, value=figure(skew), threshold=figure(SKEW)
        )
        yield Measure.of("skew", skew, SKEW, skew >= SKEW, decision)
    elif not scan.is_blank:
        border, (height, width) = measure_border(pixels), pixels.shape[:2]
        width = 100 * max(border.top / height, border.bottom / height, border.left / width, border.right / width)
        decision = Message(measures.BORDER if border else measures.NO_BORDER, value=figure(width), threshold="1")
        yield Measure.of("border", width, 1, bool(border), decision)


def examine_faces(picture: Picture, faces: Iterable[FaceRecord], narrowest: int) -> Iterator[Measure]:
    """The width of each face in pixels, how soft its edges are, and how far it is turned aside.

    Args:
        narrowest: width below which faces are not restored.
    """
    for face in faces:
        left, top, width, height = (round(max(0.0, value)) for value in face.box)
        crop = picture.pixels[top : top + height, left : left + width]
        template = measures.FACE if face.treated else measures.FACE_LEFT
        decision = Message(
            template,
            number=face.number,
            width=width,
            blur=figure(ops.blur(crop) if crop.size else 0.0),
            angle=f"{abs(yaw(np.array(face.landmarks), NOSE_DEPTH)):.0f}",
        )
        yield Measure.of("face", width, narrowest, face.treated, decision)
