"""InvokeAI: `invokeai_metadata` (version 3 and later), `sd-metadata` (version 2), `Dream` (a command line)."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from calotype.dialects.emphasis import from_compel
from calotype.dialects.fields import Fields, as_integer, as_number, as_text, parse_object
from calotype.dialects.parameters import Parameters
from calotype.tasks.prompts import LoraRef

INFORMATION = (
    *("app_version", "generation_mode", "created_by", "metadata_type", "_canvas_objects", "canvas_v2_metadata"),
    *("ref_images", "type", "postprocessing", "model_hash", "app_id", "model_weights", "workflow", "graph"),
)
_CURRENT = ("invokeai_metadata", "invokeai")
_MARKS = {"generation_mode", "positive_prompt", "positive_conditioning"}  # of which every version writes one
_OFTEN = {"app_version", "rand_device", "scheduler", "cfg_scale", "negative_prompt", "negative_conditioning"}
_DREAM = {"s": "steps", "S": "seed", "W": "width", "H": "height", "C": "cfg_scale", "A": "sampler", "f": "strength"}
_DREAM |= {"I": "init_img", "V": "variations", "v": "variation_amount", "G": "facetool_strength", "U": "upscale"}
_DREAM |= {"n": "n_samples", "ft": "facetool", "M": "mask", "T": "fit"}
_FROM_PICTURE = ("img2img", "inpaint", "outpaint")


def read(texts: Mapping[str, str]) -> Parameters | None:
    """By the keywords of a PNG, or in a comment, as EXIF of JPEG and WebP has it."""
    for key in _CURRENT:
        if data := parse_object(texts.get(key, "")):
            return _current(data)
    data = parse_object(texts.get("sd-metadata", ""))
    if data and isinstance(data.get("image"), dict):
        return _old(data["image"], as_text(data.get("model_weights")) or "")
    for data in filter(None, map(parse_object, texts.values())):
        inner = next((inner for key in _CURRENT if (inner := _object(data.get(key)))), None)
        if inner or (data.keys() & _MARKS and len(data.keys() & _OFTEN) > 1):
            return _current(inner or data)
        data = _object(data.get("sd-metadata")) or data
        if isinstance(data.get("image"), dict) and data["image"].keys() >= {"prompt", "steps", "seed"}:
            return _old(data["image"], as_text(data.get("model_weights")) or "")
    return _dream(texts["Dream"]) if texts.get("Dream") else None


def _object(value: Any) -> dict[str, Any] | None:
    """An object in an object, or in a text in it."""
    return value if isinstance(value, dict) else parse_object(value) if isinstance(value, str) else None


def _current(data: dict[str, Any]) -> Parameters:
    fields = Fields(data)
    mode = str(fields.get("generation_mode") or "")
    scheduler = fields.text("scheduler")
    strength = fields.number("strength")
    is_from_picture = any(word in mode for word in _FROM_PICTURE) or "init_image" in fields
    unet = fields.take("unet")  # version 3.0.0
    loras = _loras(fields.take("loras")) or _loras(unet.get("loras") if isinstance(unet, dict) else None)
    parameters = Parameters(
        program="InvokeAI",
        prompt=from_compel(fields.text("positive_prompt", "positive_conditioning")),
        negative=from_compel(fields.text("negative_prompt", "negative_conditioning")),
        loras=tuple(loras),
        model=_model_name(fields.take("model")) or _model_name(unet),
        vae=_model_name(fields.take("vae")),
        seed=fields.integer("seed"),
        steps=fields.integer("steps"),
        sampler=scheduler,
        schedule=_schedule(scheduler),
        guidance=fields.number("cfg_scale"),
        rescale=fields.number("cfg_rescale_multiplier"),
        width=fields.integer("width"),
        height=fields.integer("height"),
        clip_skip=_clip_skip(fields),
        noise=_noise(fields),
        tiling=_is_tiled(fields),
        is_from_picture=is_from_picture,
        strength=strength if is_from_picture else None,
    )
    if fields.get("hrf_enabled") is not True:
        for name in ("hrf_method", "hrf_strength", "hrf_width", "hrf_height"):
            fields.take(name)
    for side in ("positive", "negative"):  # SDXL: the same text again, unless the person wrote another
        style = f"{side}_style_prompt"
        if fields.get(style) == data.get(f"{side}_prompt"):
            fields.take(style)
    unfollowed, information = fields.rest(INFORMATION)
    return replace(parameters, unfollowed=unfollowed, information=information)


def _noise(fields: Fields) -> str:
    """InvokeAI draws noise on the CPU, unless it is set otherwise; numbers of CUDA are A1111's."""
    return "a1111" if fields.text("rand_device") == "cuda" else "cpu"


def _is_tiled(fields: Fields) -> bool:
    """Seamless in both directions; in one only, which no option follows, the field stays."""
    if not (fields.get("seamless_x") is True and fields.get("seamless_y") is True):
        return False
    return fields.flag("seamless_x") and fields.flag("seamless_y")


def _clip_skip(fields: Fields) -> int | None:
    """InvokeAI counts the layers left out: 0 is none, which is 1 here."""
    skipped, clip = fields.integer("clip_skip"), fields.get("clip")
    if isinstance(clip, dict) and as_integer(clip.get("skipped_layers")) is not None:
        skipped = as_integer(fields.take("clip")["skipped_layers"]) if skipped is None else skipped
    return skipped + 1 if skipped else None


def _schedule(scheduler: str) -> str:
    return "karras" if scheduler.endswith("_k") else "uniform" if scheduler else ""


def _model_name(data: Any) -> str:
    """The name in a reference to a model, which every version writes otherwise."""
    for key in ("model", "lora", "vae"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
    if isinstance(data, dict):
        data = data.get("name") or data.get("model_name")
    name = as_text(data) or ""
    return "" if name == "null" else name


def _loras(data: Any) -> list[LoraRef]:
    entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
    named = [(_model_name(entry), as_number(entry.get("weight"))) for entry in entries]
    return [LoraRef(name, *(1.0 if weight is None else weight,) * 2) for name, weight in named if name]


def _old(data: dict[str, Any], model: str) -> Parameters:
    fields = Fields(data)
    written = fields.take("prompt")
    if isinstance(written, list):
        first = written[0] if written and isinstance(written[0], dict) else {}
        written = (
            " ".join(str(entry.get("prompt", "")) for entry in written if isinstance(entry, dict)) if first else ""
        )
    prompt, negative = _split_negative(as_text(written) or "")
    is_from_picture = any(word in str(fields.get("type")) for word in _FROM_PICTURE) or bool(
        fields.get("init_image_path", "init_img")
    )
    strength, sampler = fields.number("strength"), fields.text("sampler", "sampler_name")
    parameters = Parameters(
        program="InvokeAI",
        prompt=prompt,
        negative=negative,
        model=model,
        seed=fields.integer("seed"),
        steps=fields.integer("steps"),
        sampler=sampler,
        guidance=fields.number("cfg_scale"),
        width=fields.integer("width"),
        height=fields.integer("height"),
        is_from_picture=is_from_picture,
        strength=strength if is_from_picture else None,
        tiling=fields.flag("seamless"),
        noise="a1111",
    )
    for name in ("threshold", "perlin"):
        if not as_number(fields.get(name)):
            fields.take(name)
    unfollowed, information = fields.rest(INFORMATION)
    return replace(parameters, unfollowed=unfollowed, information=information)


def _split_negative(text: str) -> tuple[str, str]:
    """In the older versions `[words]` in the prompt are the negative prompt."""
    negative = [part.strip(" ,") for part in re.findall(r"(?<!\\)\[([^\[\]]*)\]", text)]
    prompt = re.sub(r"(?<!\\)\[[^\[\]]*\]", "", text)
    return from_compel(" ".join(prompt.split(" ")).strip()), from_compel(", ".join(filter(None, negative)))


def _dream(text: str) -> Parameters | None:
    """`"prompt [negative]" -s 50 -S 1234 -W 512 -H 512 -C 7.5 -A k_lms`"""
    match = re.match(r'\s*"((?:\\.|[^"\\])*)"(.*)', text, re.S)
    prompt, rest = (
        (match[1].replace(r"\"", '"'), match[2]) if match else re.match(r"(.*?)((?:\s-\w.*)?)$", text, re.S).groups()
    )
    try:
        words = shlex.split(rest)
    except ValueError:
        return None
    data: dict[str, Any] = {"prompt": prompt}
    while words:
        word = words.pop(0)
        match = re.fullmatch(r"-(ft|\w)(.*)|--(\w+)(?:=(.*))?", word, re.S)
        if match is None:
            continue
        name = match[3] or _DREAM.get(match[1], match[1])
        value = match[4] if match[3] else match[2]
        takes_next = words and not re.match(r"-\D", words[0])
        data[name] = value or (words.pop(0) if takes_next else True)
    return _old(data, "") if "steps" in data or "seed" in data else None
