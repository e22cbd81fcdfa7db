"""A drawing made again: from our record, or from the line of parameters that A1111 and its kin leave in their files."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.album.names import readable
from calotype.album.sidecar import Story, find_source, sha256_of
from calotype.errors import CalotypeError
from calotype.tasks import Imagine, read_task

if TYPE_CHECKING:
    from calotype.picture import Picture


def recorded_task(story: Story, source: Path | None) -> Imagine:
    """The recorded task, on the pictures that it began with, wherever they lie now.

    Raises:
        CalotypeError: one of them is gone or has other bytes, or this version does not know an option.
    """
    record = story.record
    data = dict(record.options)
    if record.source_sha256:
        data["init"] = find_source(story, source)
    if mask := record.computed.get("mask"):
        data["mask"] = _mask(story, Path(data["mask"]), mask)
    return read_task("imagine", data)


def _mask(story: Story, was: Path, sha256: str) -> Path:
    for place in (was, story.found_in.parent / was.name):
        if place.is_file() and sha256_of(place) == sha256:
            return place
    raise CalotypeError(
        "the mask {was} isn't where it was, or has changed; put it beside the picture", was=readable(was.name)
    )


def told_task(picture: "Picture", where: Path, vaes: Collection[str] = ()) -> tuple[Imagine, list[str]]:
    """What A1111, Forge or NovelAI tell in a picture of theirs, as a task of ours, and what of it is not followed.

    Args:
        vaes: those at hand; one that is not is left out, since most checkpoints have one in them.

    Raises:
        CalotypeError: the picture tells nothing, or of something that cannot be made from words alone.
    """
    fields = infotext_fields(picture)
    if "Steps" not in fields or "Seed" not in fields:
        raise CalotypeError(
            "{where} doesn't tell how it was made; there is no record and no parameters in it", where=readable(where)
        )
    if "Mask blur" in fields or ("Denoising strength" in fields and "Hires upscaler" not in fields):
        raise CalotypeError(
            "{where} was made from another picture, which its parameters don't hold", where=readable(where)
        )
    told = {name: value for name, value in _data(fields).items() if value not in (None, "")}
    vae = told.pop("vae", None)
    at_hand = {Path(name).stem.casefold(): name for name in vaes}.get(Path(vae or "").stem.casefold())
    notes = [f"the VAE {vae} is not at hand, the model's own is taken"] if vae and not at_hand else []
    if learnt := fields.get("Training"):
        notes.append(f"it was drawn with a LoRA on its way ({learnt}), which is not put on here")
    return read_task("imagine", told | ({"vae": at_hand} if at_hand else {})), notes


def infotext_fields(picture: "Picture") -> dict[str, str]:
    """The line of parameters, read; NovelAI's form is turned into A1111's. Empty where the picture has none."""
    from calotype.ops.infotext import from_novelai, read

    drawn = picture.metadata.drawn
    text = picture.metadata.infotext
    if not text and drawn.get("Software") == "NovelAI":
        text = from_novelai(drawn.get("Description", ""), drawn.get("Comment", ""))
    return read(text) if text else {}


def _data(fields: dict[str, str]) -> dict[str, Any]:
    """Fields by A1111's names -> options."""
    return {
        "prompt": fields["Prompt"],
        "negative": fields["Negative prompt"],
        "model": fields.get("Model"),
        "vae": fields.get("VAE") if fields.get("VAE") not in ("None", "Automatic") else None,
        "emphasis": fields.get("Emphasis", "original").lower().replace(" ", "-"),
        "steps": fields["Steps"],
        "sampler": fields.get("Sampler"),
        "schedule": fields.get("Schedule type"),
        "guidance": fields.get("CFG scale"),
        "rescale": fields.get("CFG Rescale"),
        "seed": fields["Seed"],
        "size": fields.get("Size"),
        "clip_skip": fields["Clip skip"] if fields["Clip skip"] != "1" else None,
        "noise": "cpu" if fields["RNG"] == "CPU" else "a1111",
        "variation_seed": fields.get("Variation seed"),
        "variation": fields.get("Variation seed strength"),
        "seed_resize": fields.get("Seed resize from"),
        "tiling": True if fields.get("Tiling") == "True" else None,
        "hires": fields.get("Hires upscale") or _times_larger(fields),
        "hires_steps": fields.get("Hires steps"),
        "hires_upscaler": fields.get("Hires upscaler"),
        "hires_strength": fields.get("Denoising strength"),
    }


def _times_larger(fields: dict[str, str]) -> float | None:
    """Where the second pass was given by its size: how many times larger, along the side that grows more."""
    try:
        return max(float(fields[f"Hires resize-{n}"]) / float(fields[f"Size-{n}"]) for n in (1, 2))
    except (KeyError, ValueError, ZeroDivisionError):
        return None
