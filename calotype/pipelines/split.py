"""Cuts the photos out of a scan."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from calotype.checkpoints.models import Models
from calotype.errors import Message, PictureError, plural
from calotype.ops import scan
from calotype.ops.color import to_uint8_rgb
from calotype.ops.scan import Scan, ScannedPhoto
from calotype.outputs.compare import outlined
from calotype.picture import Picture
from calotype.record import Result
from calotype.tasks import Note, Progress, Split, note
from calotype.tasks.events import Drawing
from calotype.tasks.pictures import PHOTO_COUNT

PLAN_SIDE = 1600  # longer side of the picture of a plan, pixels


def split(task: Split, models: Models) -> Iterator[Progress | Note | Result]:
    """Opens the scan, finds its photos, and yields a Result for each: cut out, straight, with upright faces.

    A picture that fills the scan is a Result with the picture as it was opened.
    """
    opened = Picture.open(task.source, models.settings.max_pixels, task.page, task.damaged_file)
    yield Progress(0, 1, "photos")
    rows, columns = opened.known_part()
    found = scan.find_photos(opened.on_white().pixels[rows, columns])
    clipped = [scan.is_clipped(photo, (rows.stop - rows.start, columns.stop - columns.start)) for photo in found.photos]
    found = found.moved(columns.start, rows.start)
    if found.is_blank:
        raise PictureError(
            "there is no photo on {source}, only the lid of the scanner; scan it again, or leave it out",
            source=task.source,
        )
    photos = found.photos or (None,)
    if task.photo > len(photos):
        raise PictureError(
            "{source} has {photos}, no photo {number}; leave {option:photo} out for all",
            source=task.source,
            photos=plural(len(photos), "1 photo", "{count} photos"),
            number=task.photo,
        )
    yield from _plan(found, task)
    if task.dry_run:
        outlines = [photo.corners for photo in found.photos]
        yield Drawing(1, 1, "photos", look=lambda: np.asarray(outlined(opened, outlines, PLAN_SIDE)))
    for number, photo in enumerate(photos, 1):
        if task.dry_run or task.photo not in (0, number):
            continue
        yield Progress(number - 1, len(photos), "photos")
        numbered, facts = replace(task, photo=number), {PHOTO_COUNT: len(photos)}
        if photo is None:
            yield Result.of(numbered, opened, opened, [], facts)
            continue
        if clipped[number - 1]:
            yield note("photo {number} goes beyond the edge of the scan, so a part of it is missing", number=number)
        picture, turns = _cut_out(opened, photo, found, task, models)
        yield Result.of(numbered, opened, picture, [], facts | _place(photo, turns))


def _plan(found: Scan, task: Split) -> Iterator[Note]:
    """How many photos there are; for a plan, also where they lie."""
    if not found.photos:
        yield note("one picture fills the scan, so there is nothing to cut: it is kept as it is")
        return
    yield Note(plural(len(found.photos), "1 photo was found", "{count} photos were found"))
    for number, photo in enumerate(found.photos if task.dry_run else (), 1):
        left, top, _, _ = photo.box
        yield Note(
            Message(
                "photo {number}: {width:.0f} × {height:.0f} pixels at {x:z.0f}, {y:z.0f}, turned by {angle:z.1f}°",
                number=number,
                width=photo.size[1],
                height=photo.size[0],
                x=max(left, 0.0),
                y=max(top, 0.0),
                angle=photo.angle,
            )
        )


def _cut_out(opened: Picture, photo: ScannedPhoto, found: Scan, task: Split, models: Models) -> tuple[Picture, int]:
    """The photo, and by how many counterclockwise quarters it was turned to make its faces upright."""
    pixels = scan.cut(opened.pixels, photo, found.lid)
    alpha = None if opened.alpha is None else scan.cut(opened.alpha[..., None], photo, (0.0,))
    if task.cut_borders:
        border = scan.measure_border(pixels)
        pixels = scan.without_border(pixels, border)
        alpha = None if alpha is None else scan.without_border(alpha, border)
    turns = models.detector().upright_turns(to_uint8_rgb(pixels)) if task.upright else 0
    turned = np.rot90(pixels, turns)
    return opened.part(turned, None if alpha is None else _plane(np.rot90(alpha, turns)), turns), turns


def _plane(alpha: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(alpha[..., 0])


def _place(photo: ScannedPhoto, turns: int) -> dict[str, Any]:
    """Where the photo lies on the scan, and by how many degrees clockwise it is turned, for the record."""
    corners = [[round(float(value), 1) + 0.0 for value in corner] for corner in photo.corners]  # + 0.0: 0.0 for -0.0
    return {"corners": corners, "turned": round(math.remainder(photo.angle + 90 * turns, 360), 2) + 0.0}
