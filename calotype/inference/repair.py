"""Repairs of a scanned print, before networks enlarge what is damaged.

A repair measures the photo as the repairs before it leave it, decides, and mends pixels. A new one is a line in
`tasks.pictures.REPAIRS` and one in `REPAIRS` here, which have the same order.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calotype.checkpoints.models import Models
from calotype.errors import Message
from calotype.measures import NO_TEXTURE, TEXTURE, Measure, figure
from calotype.ops.repair.texture import ASKED_THRESHOLD, THRESHOLD, measure_texture, remove_texture
from calotype.picture import Picture
from calotype.record import REPAIRED
from calotype.tasks import Note, Progress, Restore, chosen_repairs

Mend = Callable[[np.ndarray], Generator[Progress, None, np.ndarray]]  # (H, W, C) to the same type and size


@dataclass(frozen=True, eq=False)
class Damage:
    """What a repair measured, and how it mends it."""

    measures: tuple[Measure, ...]  # the first one stands for the repair in the record
    mend: Mend | None = None  # None: there is nothing to mend
    mask: np.ndarray | None = None  # (H, W) bool, the only pixels that may change; None: all


@dataclass(frozen=True, eq=False)
class Repaired:
    """A photo after its repairs; without any, the picture is the one that was given."""

    picture: Picture
    measures: tuple[Measure, ...] = ()
    masks: dict[str, np.ndarray] = field(default_factory=dict)  # of the repairs that have one: (H, W) bool
    computed: dict[str, Any] = field(default_factory=dict)  # for the record


def repair(picture: Picture, task: Restore, models: Models) -> Generator[Progress | Note, None, Repaired]:
    """The photo without the damage that is found, with a note of each repair.

    A repair that is asked for by name begins at a lower threshold than one of `auto`, and says where it finds nothing.
    """
    is_asked = task.repair != "auto"
    names = () if task.aligned else chosen_repairs(task.repair if is_asked else task.auto_repair or "auto")
    found, masks, repaired = [], {}, {}
    for name in names:
        damage = REPAIRS[name](picture, task, models, is_asked)
        found += damage.measures
        if is_asked or damage.mend is not None:
            yield from (Note(measure.message) for measure in damage.measures if is_asked or measure.is_beyond)
        if damage.mend is None:
            continue
        picture = picture.then((yield from _mended(picture.pixels, damage)), picture.alpha)
        repaired[name] = damage.measures[0].value
        masks |= {} if damage.mask is None else {name: damage.mask}
    return Repaired(picture, tuple(found), masks, {REPAIRED: repaired} if repaired else {})


def _mended(pixels: np.ndarray, damage: Damage) -> Generator[Progress, None, np.ndarray]:
    mended = yield from damage.mend(pixels)
    return mended if damage.mask is None else np.where(damage.mask[..., None], mended, pixels)


def at_once(function: Callable[[np.ndarray], np.ndarray]) -> Mend:
    """A repair without progress."""

    def mend(pixels: np.ndarray) -> Generator[Progress, None, np.ndarray]:
        yield from ()
        return function(pixels)

    return mend


def _texture(picture: Picture, task: Restore, models: Models, is_asked: bool) -> Damage:
    threshold = ASKED_THRESHOLD if is_asked else THRESHOLD
    texture = measure_texture(picture.pixels, threshold)
    is_found = texture.gain is not None
    template = TEXTURE if is_found else NO_TEXTURE
    decision = Message(template, value=figure(texture.excess), threshold=figure(threshold))
    measure = Measure.of("texture", texture.excess, threshold, is_found, decision)
    return Damage((measure,), at_once(lambda pixels: remove_texture(pixels, texture)) if is_found else None)


REPAIRS: dict[str, Callable[[Picture, Restore, Models, bool], Damage]] = {
    "texture": _texture,
}
