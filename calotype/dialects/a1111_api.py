"""Requests to A1111's HTTP API as tasks. Fields that no option follows are refused by name if they have an effect."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from calotype.errors import CalotypeError
from calotype.options import shown
from calotype.samplers import schedule_named
from calotype.tasks.captions import INSTALLED

DRAWING = {
    **{"prompt": "", "negative_prompt": "", "styles": (), "seed": -1, "subseed": -1, "subseed_strength": 0},
    **{"seed_resize_from_h": 0, "seed_resize_from_w": 0, "sampler_name": None, "sampler_index": None},
    **{"scheduler": None, "batch_size": 1, "n_iter": 1, "steps": 50, "cfg_scale": 7.0, "width": 512, "height": 512},
    **{"tiling": False, "denoising_strength": None, "override_settings": {}, "send_images": True},
}  # fields that are followed, with A1111's defaults
TXT2IMG = DRAWING | {"enable_hr": False, "hr_scale": 2.0, "hr_upscaler": None, "hr_second_pass_steps": 0}
IMG2IMG = DRAWING | {
    **{"init_images": None, "resize_mode": 0, "denoising_strength": 0.75, "mask": None, "mask_blur": 4},
    **{"mask_blur_x": None, "mask_blur_y": None, "inpainting_fill": 0, "inpaint_full_res": True},
    **{"inpaint_full_res_padding": 0, "inpainting_mask_invert": 0, "include_init_images": False},
}
EXTRAS = {
    **{"resize_mode": 0, "gfpgan_visibility": 0, "codeformer_visibility": 0, "codeformer_weight": 0},
    **{"upscaling_resize": 2, "upscaling_resize_w": 512, "upscaling_resize_h": 512, "upscaling_crop": True},
    **{"upscaler_1": "None"},
}
INTERROGATE = {"model": "clip"}
THRESHOLDS = {"clip": 0.35, "deepdanbooru": 0.5}  # least confidence of a tag, by A1111's model
NEUTRAL = {
    **dict.fromkeys(("eta", "s_noise", "initial_noise_multiplier"), (0, 1)),
    **dict.fromkeys(("s_min_uncond", "s_churn", "s_tmin", "firstphase_width", "firstphase_height"), (0,)),
    **{"s_tmax": (0, math.inf), "image_cfg_scale": (0, 1, 1.5), "refiner_switch_at": (0, 0.8, 1)},
    **{"upscaler_2": ("None",), "hr_sampler_name": ("Use same sampler",), "hr_scheduler": ("Use same scheduler",)},
    **{"hr_checkpoint_name": ("Use same checkpoint",), "refiner_checkpoint": ("None",), "script_name": ("None",)},
}  # values of fields that no option follows, which have no effect; so do null, false, zero and what is empty
WITHOUT_EFFECT = (
    *(
        "do_not_save_samples",
        "do_not_save_grid",
        "save_images",
        "override_settings_restore_afterwards",
        "force_task_id",
    ),
    *("comments", "script_args", "show_extras_results", "upscale_first", "request"),
)  # of the client's files and pages
SETTINGS = ("sd_model_checkpoint", "sd_vae", "CLIP_stop_at_last_layers")
FILLS = ("blur", "original", "noise", "nothing")  # inpainting_fill
RESIZES = ("stretch", "crop", "fill")  # resize_mode


@dataclass(frozen=True)
class ApiRequest:
    """A task, and the pictures that it needs, in base64, by option."""

    kind: str
    task: dict[str, Any]
    pictures: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)  # all fields with their values


def read_txt2img(data: Mapping[str, Any], settings: Mapping[str, Any]) -> ApiRequest:
    """`settings`: of the account, by A1111's names. Raises CalotypeError for what is not supported."""
    values = _fields(data, TXT2IMG)
    task = _drawing(values, settings)
    if values["enable_hr"]:
        task |= {"hires": _number(values, "hr_scale"), "hires_strength": _number(values, "denoising_strength", 0.75)}
        task |= {"hires_steps": _integer(values, "hr_second_pass_steps")}
        task |= {"hires_upscaler": str(values["hr_upscaler"] or "Latent")}
    return ApiRequest("imagine", task, {}, values)


def read_img2img(data: Mapping[str, Any], settings: Mapping[str, Any]) -> ApiRequest:
    """As `read_txt2img`."""
    values = _fields(data, IMG2IMG)
    pictures = values["init_images"]
    if not isinstance(pictures, list) or len(pictures) != 1:
        raise CalotypeError("{option} is a list with one picture", option="init_images")
    task = _drawing(values, settings)
    task["strength"] = _number(values, "denoising_strength")
    task["resize"] = _entry(values, "resize_mode", RESIZES)
    files = {"init": pictures[0]}
    if values["mask"]:
        files["mask"] = values["mask"]
        blurs = {values["mask_blur_x"], values["mask_blur_y"]} - {None, values["mask_blur"]}
        if len(blurs) > 1:
            raise CalotypeError("{option} differs from mask_blur_y, which is not supported", option="mask_blur_x")
        task |= {"mask_blur": blurs.pop() if blurs else _integer(values, "mask_blur")}
        task |= {"fill": _entry(values, "inpainting_fill", FILLS), "only_masked": bool(values["inpaint_full_res"])}
        task |= {"padding": _integer(values, "inpaint_full_res_padding")}
        task |= {"invert_mask": bool(values["inpainting_mask_invert"])}
    return ApiRequest("imagine", task, files, values)


def read_extras(data: Mapping[str, Any], picture: str, face_models: Collection[str]) -> ApiRequest:
    """One picture of extra-single-image or extra-batch-images.

    `face_models`: those at hand.
    """
    values = _fields({name: value for name, value in data.items() if name not in ("image", "imageList")}, EXTRAS)
    mode = _entry(values, "resize_mode", ("scale", "size"))
    gfpgan, codeformer = _number(values, "gfpgan_visibility"), _number(values, "codeformer_visibility")
    if gfpgan and codeformer:
        raise CalotypeError("{option} and gfpgan_visibility cannot be combined", option="codeformer_visibility")
    upscaler, scale = str(values["upscaler_1"] or "None"), _number(values, "upscaling_resize")
    has_upscaler = upscaler.lower() != "none"
    task: dict[str, Any] = {"scale": scale if has_upscaler and mode == "scale" else 1.0}
    if has_upscaler and mode == "size":
        task |= {"cover": f"{_integer(values, 'upscaling_resize_w')}x{_integer(values, 'upscaling_resize_h')}"}
        task |= {"crop": bool(values["upscaling_crop"])}
    task["upscaler"] = "none" if upscaler.lower() in ("none", "lanczos", "nearest") else upscaler
    if not (gfpgan or codeformer):
        return ApiRequest("restore", task | {"faces": "none"}, {"source": picture}, values)
    family = "codeformer" if codeformer else "gfpgan"
    models = sorted((name for name in face_models if name.startswith(family)), reverse=True)
    if not models:
        raise CalotypeError("no face restoration network {family} is installed", family=family)
    task |= {"face_model": models[0], "strength": f"{gfpgan or codeformer:g},background=1"}
    task |= {"fidelity": _number(values, "codeformer_weight")} if codeformer else {}
    return ApiRequest("restore", task, {"source": picture}, values)


def read_interrogate(data: Mapping[str, Any]) -> ApiRequest:
    """A caption job with the tags of a picture; `prompt_of` words them."""
    values = _fields({name: value for name, value in data.items() if name != "image"}, INTERROGATE)
    model = values["model"]
    if not isinstance(model, str) or model not in THRESHOLDS:
        models = " or ".join(THRESHOLDS)
        raise CalotypeError("{option} is {models}, not {value}", option="model", models=models, value=shown(model))
    task = {"tagger": INSTALLED, "threshold": THRESHOLDS[model]}
    return ApiRequest("caption", task, {"photos": data.get("image")}, values)


def prompt_of(tags: str, model: str) -> str:
    """Tags as a prompt: the surest first for clip, sorted for deepdanbooru; their brackets are no weights."""
    names = tags.split(", ")
    return re.sub(r"([\\()\[\]])", r"\\\1", ", ".join(sorted(names) if model == "deepdanbooru" else names))


def model_name(title: str) -> str:
    """The name in a title such as "name.safetensors [0123456789]"."""
    return re.sub(r"\.(safetensors|ckpt)$", "", re.sub(r"\s*\[[0-9a-f]{6,64}\]$", "", title.strip()))


def _drawing(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    settings = {**settings, **_settings(values["override_settings"])}
    styles = values["styles"] or ()
    if not isinstance(styles, list | tuple) or not all(isinstance(style, str) for style in styles):
        raise CalotypeError("{option} is a list of names", option="styles")
    task = {
        "prompt": _text(values, "prompt"),
        "negative": _text(values, "negative_prompt"),
        "style": ",".join(styles),
        "seed": _integer(values, "seed"),
        "variation_seed": _integer(values, "subseed"),
        "variation": _number(values, "subseed_strength"),
        "sampler": str(values["sampler_name"] or values["sampler_index"] or "Euler"),
        "schedule": schedule_named(str(values["scheduler"] or "automatic")),
        "count": _integer(values, "batch_size") * _integer(values, "n_iter"),
        "batch": _integer(values, "batch_size"),
        "steps": _integer(values, "steps"),
        "guidance": _number(values, "cfg_scale"),
        "size": f"{_integer(values, 'width')}x{_integer(values, 'height')}",
        "tiling": bool(values["tiling"]),
    }
    height, width = _integer(values, "seed_resize_from_h"), _integer(values, "seed_resize_from_w")
    task |= {"seed_resize": f"{width}x{height}"} if height > 0 and width > 0 else {}
    task |= {"model": model_name(settings["sd_model_checkpoint"])} if settings.get("sd_model_checkpoint") else {}
    vae = settings.get("sd_vae") or "Automatic"
    task |= {"vae": model_name(vae)} if vae not in ("Automatic", "None") else {}
    task |= {"clip_skip": settings["CLIP_stop_at_last_layers"]} if settings.get("CLIP_stop_at_last_layers") else {}
    return task


def _settings(data: Any) -> dict[str, Any]:
    """Raises CalotypeError for a setting that is not supported."""
    if not isinstance(data, Mapping | None):
        raise CalotypeError("{option} takes settings by their names", option="override_settings")
    return read_settings(data or {})


def read_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are followed. Raises CalotypeError for any other one."""
    for name, value in data.items():
        if name not in SETTINGS:
            raise CalotypeError("the setting {name} is not supported", name=shown(name), option="override_settings")
        kind = int if name == "CLIP_stop_at_last_layers" else str
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise CalotypeError("{option} is not {value}", option=name, value=shown(value))
    return {name: value for name, value in data.items() if value is not None}


def _fields(data: Mapping[str, Any], followed: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in data.items():
        if name not in followed and name not in WITHOUT_EFFECT and not _is_neutral(name, value):
            if name == "alwayson_scripts" and isinstance(value, Mapping):
                scripts = ", ".join(shown(script) for script in value)
                raise CalotypeError("the scripts {scripts} are not supported", scripts=scripts, option=name)
            raise CalotypeError("{option} is not supported, and has the value {value}", option=name, value=shown(value))
    return {name: default if data.get(name) is None else data[name] for name, default in followed.items()}


def _is_neutral(name: str, value: Any) -> bool:
    if not value:
        return True
    if name == "alwayson_scripts" and isinstance(value, Mapping):  # those that are switched off
        return all(isinstance(entry, Mapping) and entry.get("args") in ([], [False], None) for entry in value.values())
    return not isinstance(value, dict | list) and value in NEUTRAL.get(name, ())


def _text(values: Mapping[str, Any], name: str) -> str:
    if not isinstance(values[name], str):
        raise CalotypeError("{option} is a text, not {value}", option=name, value=shown(values[name]))
    return values[name]


def _number(values: Mapping[str, Any], name: str, default: float = 0.0) -> float:
    value = default if values[name] is None else values[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CalotypeError("{option} is a number, not {value}", option=name, value=shown(value))
    return float(value)


def _integer(values: Mapping[str, Any], name: str) -> int:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise CalotypeError("{option} is an integer, not {value}", option=name, value=shown(value))
    return int(value)


def _entry(values: Mapping[str, Any], name: str, entries: tuple[str, ...]) -> str:
    number = _integer(values, name)
    if not 0 <= number < len(entries):
        raise CalotypeError("{option} goes from 0 up to {limit}", option=name, limit=len(entries) - 1)
    return entries[number]
