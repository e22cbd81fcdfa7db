"""Colours a black and white photo, by strokes of colour or by a photo in colour."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from calotype.checkpoints.models import Models
from calotype.errors import PictureError
from calotype.ops import colorize
from calotype.ops.color import to_uint8_rgb
from calotype.ops.colorize import Given, Look
from calotype.picture import Picture
from calotype.picture.alpha import in_8_bits
from calotype.picture.fit import in_rgb
from calotype.record import Result
from calotype.tasks import Colour, Note, Progress, note

MIN_CONFIDENCE = 0.7  # of a face whose surroundings are compared
ROUNDED = 1  # level of 255: a profile that changes no grey by more has the tone curve of sRGB
UNCOLOURED = 1e-7  # weight of what a place has itself beside a reference
STEPS = 3


def colour(task: Colour, models: Models) -> Iterator[Progress | Note | Result]:
    """Opens the photo and what gives it colours, spreads them, and yields the Result last.

    The result has the `grey_values` of the photo, bit for bit.
    """
    opened = Picture.open(task.source, models.settings.max_pixels, task.page, task.damaged_file)
    photo = _for_colours(opened)
    visible = photo.with_visible_colours()
    if colorize.is_in_colour(visible.pixels):
        raise PictureError(
            "{source} is in colour already; give a black and white photo, or one of a single tone such as sepia",
            source=task.source,
        )
    yield Progress(0, STEPS, "colours")
    small = colorize.reduced(visible.pixels)
    given, facts = _given(task, visible, small, models)
    if photo.pixels is not opened.pixels:
        yield note("its colour profile has another tone curve than sRGB, so the photo is converted to sRGB first")
    yield Progress(1, STEPS, "colours")
    own = colorize.chroma_of(small) if small.shape[2] == 3 else np.zeros((*small.shape[:2], 2), np.float32)
    level = _level(small)
    chroma = colorize.propagate(level, given, own, UNCOLOURED if task.reference else colorize.OWN)
    yield Progress(2, STEPS, "colours")
    pixels = colorize.colour_at_full_size(colorize.grey_values(photo.pixels), colorize.guide(level, chroma))
    yield Result.of(task, opened, photo.then(pixels, photo.alpha), [], facts)


def _for_colours(photo: Picture) -> Picture:
    """A grey photo with a profile in sRGB; its values stay where the profile has the curve of sRGB already."""
    profile = photo.metadata.icc
    if photo.pixels.shape[2] == 3 or profile is None:
        return photo
    levels = np.arange(256, dtype=np.uint8).reshape(1, 256, 1)
    converted, icc = in_rgb(levels, profile)
    if np.abs(converted.astype(int) - levels).max() <= ROUNDED:
        return replace(photo, metadata=replace(photo.metadata, icc=icc))
    pixels, icc = in_rgb(photo.pixels, profile)
    return replace(photo.then(pixels, photo.alpha), metadata=replace(photo.metadata, icc=icc))


def _given(task: Colour, photo: Picture, small: np.ndarray, models: Models) -> tuple[Given, dict[str, Any]]:
    """The colours of strokes and reference together, and the hashes of their files; a stroke counts first."""
    facts: dict[str, Any] = {}
    strokes = reference = None
    if task.hints:
        hints = Picture.open_option("hints", task.hints, models.settings.max_pixels)
        strokes, facts["hints"] = _strokes(task, hints, photo), hints.sha256
    if task.reference:
        coloured = Picture.open_option("reference", task.reference, models.settings.max_pixels)
        reference, facts["reference"] = _reference(task, coloured, _look(photo, small, models), models), coloured.sha256
    if strokes is None or reference is None:
        return strokes or reference, facts
    is_stroke = strokes.weight > 0
    chroma = np.where(is_stroke[..., None], strokes.chroma, reference.chroma)
    return Given(chroma, np.where(is_stroke, strokes.weight, reference.weight)), facts


def _strokes(task: Colour, hints: Picture, photo: Picture) -> Given:
    (height, width), (own_height, own_width) = hints.pixels.shape[:2], photo.pixels.shape[:2]
    if (height, width) != (own_height, own_width):
        raise PictureError(
            "{hints} has {width} × {height} pixels and {source} {own_width} × {own_height}; paint the strokes over a "
            "copy of the photo",
            hints=task.hints,
            width=width,
            height=height,
            source=task.source,
            own_width=own_width,
            own_height=own_height,
            option="hints",
        )
    alpha = hints.alpha
    if alpha is not None and alpha.dtype == np.uint16:
        alpha = in_8_bits(alpha)
    given = colorize.strokes(to_uint8_rgb(hints.pixels), alpha, to_uint8_rgb(photo.pixels))
    if given is None:
        raise PictureError(
            "there is no stroke of colour in {hints}; paint some, on a transparent layer or over a copy of the photo",
            hints=task.hints,
            option="hints",
        )
    return given


def _reference(task: Colour, coloured: Picture, look: Look, models: Models) -> Given:
    coloured = coloured.with_visible_colours().in_srgb()
    if not colorize.has_colours(coloured.pixels):
        raise PictureError(
            "the reference {reference} has no colours; give a photo in colour",
            reference=task.reference,
            option="reference",
        )
    small = colorize.reduced(coloured.pixels)
    return colorize.from_reference(look, _look(coloured, small, models), colorize.chroma_of(small))


def _look(picture: Picture, small: np.ndarray, models: Models) -> Look:
    """The picture as it is compared, without its colours; faces are found as in any grey photo."""
    level = _level(small)
    grey = colorize.grey_values(picture.pixels)
    scale = level.shape[0] / len(grey)
    faces = models.detector().find(to_uint8_rgb(grey[..., None]))
    boxes = [tuple(value * scale for value in face.box) for face in faces if face.confidence >= MIN_CONFIDENCE]
    is_opaque = None
    if picture.alpha is not None:
        is_opaque = colorize.reduced(picture.alpha) > np.iinfo(picture.alpha.dtype).max // 2
    return Look(level, boxes, is_opaque)


def _level(small: np.ndarray) -> np.ndarray:
    """(h, w) lightness from 0 to 1."""
    return colorize.grey_values(small).astype(np.float32) / np.iinfo(small.dtype).max
