"""SwarmUI: JSON with `sui_image_params`, in PNG's `parameters` or in the EXIF comment."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from calotype.dialects.emphasis import from_comfyui
from calotype.dialects.fields import Fields, as_names, as_number, parse_object
from calotype.dialects.parameters import Parameters, SecondPass
from calotype.tasks.prompts import LoraRef

INFORMATION = (
    *("swarm_version", "date", "generation_time", "prep_time", "original_prompt", "aspectratio", "images", "batchsize"),
    *("nopreviews", "wildcardseed", "imageformat", "used_wildcards", "personalnote", "automaticvae", "resolution"),
    *("donotsave", "used_embeddings", "sidelength", "noseedincrement", "loraweights", "lorasectionconfinement"),
    *("refinercontrolpercentage", "refinermethod", "internalbackendtype", "exactbackendid", "saveintermediateimages"),
    *("sui_extra_data", "sui_models", "original_negativeprompt", "colordepth", "donotsaveintermediates"),
)
_UPSCALERS = {"pixel": "Lanczos", "latent": "Latent", "model": ""}


def read(texts: Mapping[str, str]) -> Parameters | None:
    for text in texts.values():
        data = parse_object(text)
        if data and isinstance(data.get("sui_image_params"), dict):
            extra = data.get("sui_extra_data")
            return _parameters(data["sui_image_params"], extra if isinstance(extra, dict) else {})
    return None


def _parameters(data: dict[str, Any], extra: dict[str, Any]) -> Parameters:
    fields = Fields(data)
    percentage = as_number(fields.get("refinercontrolpercentage"))
    hires = _second_pass(fields)
    creativity = fields.number("initimagecreativity")
    is_from_picture = "initimage" in fields or creativity is not None
    clip_layer = as_number(fields.take("clipstopatlayer"))
    parameters = Parameters(
        program="SwarmUI",
        prompt=from_comfyui(fields.text("prompt")),
        negative=from_comfyui(fields.text("negativeprompt")),
        loras=tuple(_loras(fields)),
        model=fields.text("model"),
        vae="" if fields.flag("automaticvae") else fields.text("vae"),
        seed=fields.integer("seed"),
        steps=fields.integer("steps"),
        sampler=fields.text("sampler", "comfyuisampler") or "euler",
        schedule=fields.text("scheduler", "comfyuischeduler") or "normal",
        guidance=fields.number("cfgscale"),
        rescale=fields.number("rescalecfgmultiplier"),
        width=fields.integer("width"),
        height=fields.integer("height"),
        clip_skip=int(-clip_layer) if clip_layer is not None and -13 < clip_layer < -1 else None,
        variation_seed=fields.integer("variationseed"),
        variation=fields.number("variationseedstrength"),
        tiling=fields.flag("seamlesstileable"),
        is_from_picture=is_from_picture,
        strength=creativity if is_from_picture else None,
        hires=hires,
    )
    unfollowed, information = fields.rest(INFORMATION)
    if percentage and hires is None:
        unfollowed["refinercontrolpercentage"] = f"{percentage:g}"
    return replace(parameters, unfollowed=unfollowed, information={**information, **Fields(extra).rest()[0]})


def _second_pass(fields: Fields) -> SecondPass | None:
    """A refiner that upscales after the base is the second pass of hires fix."""
    scale = as_number(fields.get("refinerupscale"))
    if not scale or scale <= 1:
        return None
    kind, _, name = fields.text("refinerupscalemethod").partition("-")
    fields.take("refinerupscale")
    return SecondPass(
        scale=scale,
        steps=fields.integer("refinersteps"),
        strength=fields.number("refinercontrolpercentage"),
        upscaler=_UPSCALERS.get(kind, "") or name or "Lanczos",
        guidance=fields.number("refinercfgscale"),
        model=fields.text("refinermodel"),
        sampler=fields.text("refinersampler"),
        schedule=fields.text("refinerscheduler"),
    )


def _loras(fields: Fields) -> list[LoraRef]:
    names, weights = as_names(fields.take("loras")), fields.take("loraweights")
    weights = weights.split(",") if isinstance(weights, str) else weights if isinstance(weights, list) else []
    numbers = [as_number(weight) for weight in weights]
    pairs = zip_longest(names, numbers[: len(names)])
    return [LoraRef(name, *(1.0 if weight is None else weight,) * 2) for name, weight in pairs if name]
