"""AI Horde: the request, as JSON, that its clients store. (ArtBot's pictures have an infotext.)"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from calotype.dialects.emphasis import from_comfyui
from calotype.dialects.fields import Fields, as_number, as_text, parse_object
from calotype.dialects.parameters import Parameters
from calotype.tasks.prompts import LoraRef

INFORMATION = (
    *("n", "nsfw", "censor_nsfw", "trusted_workers", "r2", "shared", "slow_workers", "workers", "jobId", "worker_id"),
    *(
        "worker_name",
        "id",
        "apikey",
        "kudos",
        "gen_metadata",
        "replacement_filter",
        "seed_variation",
        "allow_downgrade",
    ),
    *(
        "return_control_map",
        "image_is_control",
        "models",
        "model",
        "created",
        "timestamp",
        "dry_run",
        "extra_slow_workers",
    ),
)


def read(texts: Mapping[str, str]) -> Parameters | None:
    for text in texts.values():
        data = parse_object(text)
        if data is None:
            continue
        inner = data.get("params") if isinstance(data.get("params"), dict) else {}
        fields = Fields({**{name: value for name, value in data.items() if name != "params"}, **inner})
        if "prompt" in fields and "karras" in fields and "sampler_name" in fields:
            return _parameters(fields)
    return None


def _parameters(fields: Fields) -> Parameters:
    prompt, _, negative = fields.text("prompt").partition("###")
    negative = negative or fields.text("negative_prompt", "negative")
    models = fields.get("models")
    model = models[0] if isinstance(models, list) and models else fields.get("model")
    strength = fields.number("denoising_strength")
    is_from_picture = bool(fields.get("source_image", "source_processing"))
    parameters = Parameters(
        program="AI Horde",
        prompt=from_comfyui(prompt.strip()),
        negative=from_comfyui(negative.strip()),
        loras=tuple(_loras(fields.take("loras"))),
        model=as_text(model) or "",
        seed=fields.integer("seed"),
        steps=fields.integer("steps"),
        sampler=fields.text("sampler_name"),
        schedule="karras" if fields.flag("karras") else fields.text("scheduler") or "normal",
        guidance=fields.number("cfg_scale"),
        width=fields.integer("width"),
        height=fields.integer("height"),
        clip_skip=_clip_skip(fields),
        tiling=fields.flag("tiling"),
        is_from_picture=is_from_picture,
        strength=strength if is_from_picture else None,
    )
    if fields.get("hires_fix") is not True:
        fields.take("hires_fix_denoising_strength")
    unfollowed, information = fields.rest(INFORMATION)
    return replace(parameters, unfollowed=unfollowed, information=information)


def _clip_skip(fields: Fields) -> int | None:
    skip = fields.integer("clip_skip")
    return skip if skip and skip > 1 else None


def _loras(data: Any) -> list[LoraRef]:
    loras = []
    for entry in data if isinstance(data, list) else []:
        name = as_text(entry.get("name")) if isinstance(entry, dict) else None
        if name:
            unet, text = (as_number(entry.get(key)) for key in ("model", "clip"))
            unet = 1.0 if unet is None else unet
            loras.append(LoraRef(name, unet if text is None else text, unet))
    return loras
