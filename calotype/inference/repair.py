"""Repairs of a scanned print, before networks enlarge what is damaged."""

from collections.abc import Generator
from typing import Any

from calotype.ops.repair.texture import ASKED_THRESHOLD, THRESHOLD, measure_texture, remove_texture
from calotype.picture import Picture
from calotype.record import REPAIRED
from calotype.tasks import Note, Restore, chosen_repairs, note


def repair(picture: Picture, task: Restore) -> Generator[Note, None, tuple[Picture, dict[str, Any]]]:
    """The photo without the damage that is found, and what the record says of it; the photo itself where there is none.

    A repair that is asked for by name begins at a lower threshold than one of `auto`.
    """
    is_asked = task.repair != "auto"
    if task.aligned or "texture" not in chosen_repairs(task.repair if is_asked else task.auto_repair or "auto"):
        return picture, {}
    threshold = ASKED_THRESHOLD if is_asked else THRESHOLD
    texture = measure_texture(picture.pixels, threshold)
    if texture.gain is None:
        if is_asked:
            yield note("no texture repeats over the whole print, so none is taken out")
        return picture, {}
    yield note(
        "a texture repeats over the whole print ({excess:.1f}, from {threshold:g}) and is taken out before enlarging",
        excess=texture.excess,
        threshold=threshold,
    )
    repaired = picture.then(remove_texture(picture.pixels, texture), picture.alpha)
    return repaired, {REPAIRED: {"texture": round(texture.excess, 2)}}
