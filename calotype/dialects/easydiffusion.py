"""Easy Diffusion: PNG texts by the names of its fields, or JSON of them in the EXIF comment."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from calotype.dialects.emphasis import from_compel
from calotype.dialects.fields import Fields, as_names, as_number, parse_object
from calotype.dialects.parameters import Parameters
from calotype.tasks.prompts import LoraRef

LABELS = {  # in files whose metadata are also stored as text
    **{"Stable Diffusion model": "use_stable_diffusion_model", "VAE model": "use_vae_model", "Sampler": "sampler_name"},
    **{"Steps": "num_inference_steps", "Prompt Strength": "prompt_strength", "LoRA model": "use_lora_model"},
    **{"LoRA Strength": "lora_alpha", "Seamless Tiling": "tiling", "Use Face Correction": "use_face_correction"},
    **{"Use Upscaling": "use_upscale", "Upscale By": "upscale_amount", "Embedding models": "use_embedding_models"},
    **{"ControlNet model": "use_controlnet_model", "ControlNet Filter": "control_filter_to_apply"},
    **{"Hypernetwork model": "use_hypernetwork_model", "Hypernetwork Strength": "hypernetwork_strength"},
    **{"Prompt": "prompt", "Negative Prompt": "negative_prompt", "Seed": "seed", "Clip Skip": "clip_skip"},
    **{"Width": "width", "Height": "height", "Guidance Scale": "guidance_scale"},
    **{"Latent Upscaler Steps": "latent_upscaler_steps"},
}
KEYWORDS = (*LABELS, *LABELS.values(), "distilled_guidance_scale", "scheduler_name")
INFORMATION = ("use_embedding_models", "output_format", "output_quality", "num_outputs", "used_random_seed")
INFORMATION += ("vram_usage_level", "metadata_output_format", "original_prompt", "session_id", "block_nsfw")
INFORMATION += ("show_only_filtered_image", "stream_progress_updates", "stream_image_progress", "output_lossless")
INFORMATION += ("active_tags", "inactive_tags", "save_to_disk_path")
_MARK = "use_stable_diffusion_model"
MARKS = frozenset({_MARK, "Stable Diffusion model"})  # keywords of no other program


def read(texts: Mapping[str, str]) -> Parameters | None:
    objects = (parse_object(text) for text in texts.values())
    own = {name: text for name, text in texts.items() if name in KEYWORDS}
    for data in (own, *filter(None, objects)):
        named = {LABELS.get(name, name): value for name, value in data.items()}
        if _MARK in named and "prompt" in named:
            return _parameters(Fields(named))
    return None


def _parameters(fields: Fields) -> Parameters:
    strength = fields.number("prompt_strength")
    is_tiled = fields.get("tiling") == "xy" and bool(fields.take("tiling"))  # in one direction it is not followed
    parameters = Parameters(
        program="Easy Diffusion",
        prompt=from_compel(fields.text("prompt")),
        negative=from_compel(fields.text("negative_prompt")),
        loras=tuple(_loras(fields)),
        model=_file(fields.text("use_stable_diffusion_model")),
        vae=_file(fields.text("use_vae_model")),
        seed=fields.integer("seed"),
        steps=fields.integer("num_inference_steps"),
        sampler=fields.text("sampler_name"),
        schedule=fields.text("scheduler_name"),
        guidance=fields.number("guidance_scale"),
        width=fields.integer("width"),
        height=fields.integer("height"),
        clip_skip=2 if fields.flag("clip_skip") else None,
        tiling=is_tiled,
        is_from_picture=strength is not None,
        strength=strength,
    )
    unfollowed, information = fields.rest(INFORMATION)
    return replace(parameters, unfollowed=unfollowed, information=information)


def _file(name: str) -> str:
    return "" if name in ("None", "null") else name


def _loras(fields: Fields) -> list[LoraRef]:
    """One name and its strength, or lists of them, which PNG has as Python writes lists or with commas."""
    names, weights = (_listed(fields.take(name)) for name in ("use_lora_model", "lora_alpha"))
    numbers = [as_number(weight) for weight in weights] + [None] * len(names)
    pairs = zip(names, numbers, strict=False)
    return [LoraRef(name, *(1.0 if number is None else number,) * 2) for name, number in pairs if _file(name)]


def _listed(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(entry) for entry in value]
    text = "" if value is None else str(value)
    return [name.strip("'\" ") for name in as_names(text.strip().removeprefix("[").removesuffix("]"))]
