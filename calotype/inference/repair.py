"""Repairs of a scanned print, before networks enlarge what is damaged.

A repair measures the photo as the repairs before it leave it, decides, and mends pixels. A new one is a line in
`tasks.pictures.REPAIRS` and one in `REPAIRS` here, which have the same order.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from calotype import measures
from calotype.checkpoints.models import Models
from calotype.errors import Message
from calotype.inference.damage import CROP, fill_marks, fill_of, find_marks, read_mask
from calotype.measures import Measure, figure
from calotype.models.network import Network
from calotype.ops.repair.damage import ASKED, UNASKED
from calotype.ops.repair.fading import (
    LIFTED,
    LIFTED_TINT,
    changes_of,
    measure_fading,
    measure_skin,
    remove_fading,
    suited_to_skin,
)
from calotype.ops.repair.fill import CONTEXT, navier_stokes
from calotype.ops.repair.texture import ASKED_THRESHOLD, THRESHOLD, measure_texture, remove_texture
from calotype.picture import Picture
from calotype.picture.metadata.icc import light_of
from calotype.record import REPAIRED
from calotype.tasks import Note, Progress, Restore, chosen_repairs

Mend = Callable[[np.ndarray], Generator[Progress, None, np.ndarray]]  # (H, W, C) to the same type and size


@dataclass(frozen=True, eq=False)
class Damage:
    """What a repair measured, and how it mends it."""

    measures: tuple[Measure, ...]  # the first one stands for the repair in the record
    mend: Mend | None = None  # None: there is nothing to mend
    mask: np.ndarray | None = None  # (H, W) bool, the only pixels that may change; None: all
    networks: tuple[Network, ...] = ()  # that mend it
    computed: dict[str, Any] = field(default_factory=dict)  # for the record
    hints: tuple[Message, ...] = ()  # what was seen and is left, for those who may ask for it


@dataclass(frozen=True, eq=False)
class Repaired:
    """A photo after its repairs; without any, the picture is the one that was given."""

    picture: Picture
    measures: tuple[Measure, ...] = ()
    masks: dict[str, np.ndarray] = field(default_factory=dict)  # of the repairs that have one: (H, W) bool
    networks: tuple[Network, ...] = ()
    computed: dict[str, Any] = field(default_factory=dict)  # for the record

    def mask(self) -> np.ndarray:
        """(H, W) bool: true in what repairs with a mask changed."""
        whole = np.zeros(self.picture.pixels.shape[:2], bool)
        return np.logical_or.reduce([whole, *self.masks.values()])


def repair(picture: Picture, task: Restore, models: Models) -> Generator[Progress | Note, None, Repaired]:
    """The photo without the damage that is found, with a note of each repair.

    A repair that is asked for by name begins at a lower threshold than one of `auto`, and says where it finds nothing.
    """
    is_asked = task.repair != "auto"
    if task.aligned:
        return Repaired(picture)
    chosen = chosen_repairs(task.repair if is_asked else task.auto_repair or "auto")
    measured = chosen if is_asked or not task.examined else chosen_repairs("auto")  # also where a record chooses
    found, masks, repaired, networks, computed = [], {}, {}, [], {}
    for name in measured:
        damage = REPAIRS[name](picture, task, models, is_asked)
        found += damage.measures
        if name not in chosen:
            continue
        computed |= damage.computed
        yield from map(Note, damage.hints)
        if is_asked or damage.mend is not None or damage.computed:
            yield from (Note(measure.message) for measure in damage.measures if is_asked or measure.is_beyond)
        if damage.mend is None:
            continue
        picture = picture.then((yield from _mended(picture.pixels, damage)), picture.alpha)
        repaired[name] = damage.measures[0].value
        masks |= {} if damage.mask is None else {name: damage.mask}
        networks += damage.networks
    computed |= {REPAIRED: repaired} if repaired else {}
    return Repaired(picture, tuple(found), masks, tuple(networks), computed)


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
    template = measures.TEXTURE if is_found else measures.NO_TEXTURE
    decision = Message(template, value=figure(texture.excess), threshold=figure(threshold))
    measure = Measure.of("texture", texture.excess, threshold, is_found, decision)
    return Damage((measure,), at_once(lambda pixels: remove_texture(pixels, texture)) if is_found else None)


def _scratches(picture: Picture, task: Restore, models: Models, is_asked: bool) -> Damage:
    if task.mask:
        return _masked(picture, task, models)
    finder, rule = models.repairer(task.repair_model), ASKED if is_asked else UNASKED
    marks = find_marks(picture.pixels, finder, lambda: models.found_faces(picture), rule)
    scratches, specks = Message(measures.NO_SCRATCHES), Message(measures.NO_SPECKS)
    if marks.left_scratches:
        scratches = Message(measures.FEW_SCRATCHES, value=figure(marks.left_scratches))
    if marks.left_specks:
        specks = Message(measures.LEFT_SPECKS, value=figure(marks.left_specks))
    if marks.scratches:
        scratches = Message(measures.SCRATCHES, value=figure(marks.scratches))
    if marks.specks:
        specks = Message(measures.SPECKS, value=figure(marks.specks))
    found = (
        Measure.of("scratches", marks.scratches or marks.left_scratches, 1, marks.scratches > 0, scratches),
        Measure.of("specks", marks.specks or marks.left_specks, 1, marks.specks > 0, specks),
    )
    if not marks.count:
        hints = (scratches, *((specks,) if marks.left_specks else ()))
        return Damage(found, hints=hints if marks.left_scratches else ())  # specks alone may be stars
    damage = _filled(marks.mask, task, models)
    return replace(damage, measures=found, networks=(finder, *damage.networks))


def _masked(picture: Picture, task: Restore, models: Models) -> Damage:
    """What a mask covers, instead of what would be found."""
    mask, sha256 = read_mask(task.mask, picture.pixels.shape[:2], models.settings.max_pixels)
    percent = 100 * float(mask.mean())
    decision = Message(measures.MASKED, value=figure(percent)) if percent else Message(measures.NOTHING_MASKED)
    measure = Measure.of("mask", percent, 0, True, decision)
    damage = _filled(mask, task, models) if percent else Damage(())
    return replace(damage, measures=(measure,), computed={"mask": sha256})


def _filled(mask: np.ndarray, task: Restore, models: Models) -> Damage:
    """Filled by an inpainting network where one is named."""
    if task.inpaint_model == "none":
        return Damage((), lambda pixels: fill_marks(pixels, mask, navier_stokes, CONTEXT), mask)
    network = models.inpainter(task.inpaint_model)
    return Damage((), lambda pixels: fill_marks(pixels, mask, fill_of(network), CROP), mask, (network,))


def _fading(picture: Picture, task: Restore, models: Models, is_asked: bool) -> Damage:
    """Where it is asked for, it is repaired whatever the photo looks like."""
    known = picture.without_missing_rows()
    light = light_of(picture.metadata.icc, known.pixels.shape[2], known.pixels.dtype)
    fading = measure_fading(known.pixels, light, known.alpha)
    skins = _skins(picture, models, light) if fading.kind in ("tinted_black", "faded", "yellowed") else ()
    if fading.kind == "tinted_black" and len(skins):
        fading = replace(fading, kind="faded")  # hair, pupils and clothes are black in nearly every photo of people
    is_faded = fading.kind in ("faded", "yellowed")
    fading = suited_to_skin(fading, skins) if is_faded else fading
    is_found = is_asked or is_faded
    values = {"black": _levels(fading.black), "white": _levels(fading.white)}
    widened, neutralized = (change >= VISIBLE for change in changes_of(fading))
    tones = measures.NOT_FADED
    if is_asked or fading.kind == "yellowed":
        tones = measures.WIDENED if widened else measures.NOT_FADED
    elif fading.kind in ("faded", "grey") or _is_over(fading.level, LIFTED):
        tones = TONES.get(fading.kind, MISSING.get(fading.missing, measures.NOT_FADED))
    coloured = measures.SKIN_CAST if len(skins) else measures.PALE_CAST
    cast = coloured if fading.kept or fading.saturation > 1 else measures.CAST
    if is_asked and not is_faded:
        cast = measures.ASKED_CAST if neutralized else measures.NO_CAST
    tint = (ASKED_TINTS if is_asked else TINTS).get(fading.kind, cast)
    if not is_found and fading.missing and (fading.kind != "good" or _is_over(fading.tint, LIFTED_TINT)):
        tint = MISSING[fading.missing]
    found = (
        Measure.of("fading", fading.level, LIFTED, is_asked or fading.kind == "faded", Message(tones, **values)),
        Measure.of("cast", fading.tint, LIFTED_TINT, is_found, Message(tint, **values)),
    )
    mend = at_once(lambda pixels: remove_fading(pixels, fading, light, task.fading))
    return Damage(found, mend if is_found else None)


def _skins(picture: Picture, models: Models, light: np.ndarray) -> np.ndarray:
    """(N, 3) levels, of faces that are sure."""
    faces = [face for face in models.found_faces(picture) if face.confidence >= SURE]
    return np.array([measure_skin(picture.pixels, light, face.landmarks) for face in faces]).reshape(-1, 3)


VISIBLE = 0.5  # levels that black or white changes, for a sentence
SURE = 0.8  # confidence of a face that stands for people
TONES = {"faded": measures.FADED, "grey": measures.GREY_TONES, "toned": measures.TONED, "tinted": measures.TINTED}
TINTS = {"toned": measures.TONED, "tinted": measures.TINTED, "grey": measures.GREY, "good": measures.NO_CAST}
MISSING = {
    "size": measures.TOO_SMALL,
    "lift": measures.NOT_LIFTED,
    "low_white": measures.FULL_WHITE,
    "agreement": measures.TINTS_DIFFER,
    "tint": measures.UNTINTED_BLACK,
    "age": measures.NOT_AGED,
    "people": measures.NO_PEOPLE,
}
ASKED_TINTS = {"toned": measures.KEPT_TINT, "tinted": measures.KEPT_TINT, "grey": measures.GREY}


def _is_over(value: float, threshold: float) -> bool:
    """As both are shown."""
    return float(figure(value)) >= threshold


def _levels(colour: np.ndarray) -> str:
    """Such as "12/8/4"."""
    return "/".join(f"{level:.0f}" for level in colour)


REPAIRS: dict[str, Callable[[Picture, Restore, Models, bool], Damage]] = {
    "texture": _texture,
    "scratches": _scratches,
    "fading": _fading,
}
