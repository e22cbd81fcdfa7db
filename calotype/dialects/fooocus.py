"""Fooocus: JSON in PNG's `parameters` or the EXIF comment (the scheme "fooocus"; "a1111" is an infotext).

Also the labels of its older versions and of RuinedFooocus.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from calotype.dialects.emphasis import from_comfyui
from calotype.dialects.fields import Fields, as_number, as_text, parse_object
from calotype.dialects.parameters import Parameters
from calotype.tasks.prompts import LoraRef

INFORMATION = (
    *("version", "metadata_scheme", "created_by", "base_model_hash", "refiner_model_hash", "full_prompt", "software"),
    *(
        "full_negative_prompt",
        "performance",
        "prompt_expansion",
        "Fooocus V2 Expansion",
        "fooocus_v2_expansion",
        "user",
    ),
    *("refiner_switch", "loras_hash", "lora_hashes", "image_number", "lcm"),
)
_MARKS = ("base_model", "base_model_name", "full_prompt", "metadata_scheme", "performance", "adm_guidance")
_SIZE = re.compile(r"\D{0,3}(\d{1,6})\D{1,5}(\d{1,6})\D{0,3}")


def read(texts: Mapping[str, str]) -> Parameters | None:
    for text in texts.values():
        data = parse_object(text)
        if data is None:
            continue
        fields = Fields(data)
        if any(mark in fields for mark in _MARKS) and "prompt" in fields and "seed" in fields:
            return _parameters(fields)
    return None


def _parameters(fields: Fields) -> Parameters:
    width, height = _size(fields)
    software = fields.get("software")
    parameters = Parameters(
        program=software if isinstance(software, str) else "Fooocus",
        prompt=from_comfyui(fields.text("prompt")),
        negative=from_comfyui(fields.text("negative_prompt", "negative")),
        loras=tuple(_loras(fields)),
        model=fields.text("base_model", "base_model_name"),
        vae=_vae(fields.text("vae")),
        seed=fields.integer("seed"),
        steps=fields.integer("steps"),
        sampler=fields.text("sampler", "sampler_name"),
        schedule=fields.text("scheduler"),
        guidance=fields.number("guidance_scale", "cfg"),
        width=width,
        height=height,
        clip_skip=_clip_skip(fields),
    )
    if str(fields.get("styles")) in ("[]", "()"):
        fields.take("styles")
    unfollowed, information = fields.rest(INFORMATION)
    return replace(parameters, unfollowed=unfollowed, information=information)


def _vae(text: str) -> str:
    return "" if text.lower().startswith(("default", "none")) else text


def _clip_skip(fields: Fields) -> int | None:
    if (skip := fields.integer("clip_skip")) is None:
        layer = as_number(fields.get("base_clip_skip"))  # Fooocus-MRE counts from the end: -2
        skip = int(-layer) if layer is not None and -13 < layer < 0 and fields.take("base_clip_skip") else None
    return skip if skip and skip > 1 else None


def _size(fields: Fields) -> tuple[int | None, int | None]:
    """`"(1152, 896)"`, a list of two, or `width` and `height`."""
    resolution = fields.get("resolution")
    text = ",".join(map(str, resolution)) if isinstance(resolution, list) else str(resolution or "")
    if match := _SIZE.fullmatch(text):
        fields.take("resolution")
        return int(match[1]), int(match[2])
    return fields.integer("width"), fields.integer("height")


def _loras(fields: Fields) -> list[LoraRef]:
    """`loras: [[name, weight, hash], ...]`, or `lora_combined_1: "name : weight"`, or `LoRA 1: "name : weight"`."""
    found: list[Any] = []
    listed = fields.take("loras")
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict):
            entry = [entry.get("name"), entry.get("weight")]
        found.append(entry.rsplit(":", 1) if isinstance(entry, str) else entry)
    for number in range(1, 33):
        for name in (f"lora_combined_{number}", f"LoRA {number}"):
            text = fields.text(name)
            if text and not listed:
                found.append(text.rsplit(":", 1))
        name, weight = fields.text(f"l{number}"), fields.take(f"w{number}")  # Fooocus-MRE
        found.append([name, weight])
    loras = []
    for entry in found:
        name, weight, *_ = [*entry, None, None] if isinstance(entry, list) else [None, None]
        number = 1.0 if weight is None else as_number(weight)
        if (text := (as_text(name) or "").strip()) and text != "None" and number is not None:
            loras.append(LoraRef(text, number, number))
    return loras
