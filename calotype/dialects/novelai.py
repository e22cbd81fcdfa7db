"""NovelAI: `Comment` is JSON in the PNG, or in the lowest bits of its alpha channel ("stealth")."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from calotype.dialects.emphasis import MAX_PROMPT
from calotype.dialects.fields import Fields, as_text, parse_object
from calotype.dialects.parameters import Parameters

SCHEDULES = {"native": "uniform", "polyexponential": "exponential"}
INFORMATION = (
    *("request_type", "signed_hash", "version", "params_version", "n_samples", "hide_debug_overlay", "score"),
    *("legacy", "legacy_v3_extend", "legacy_uc", "stream", "add_original_image", "lora_clip_weights", "image_format"),
    *("lora_unet_weights", "qualityToggle", "ucPreset", "use_coords", "use_order", "deliberate_euler_ancestral_bug"),
    *("prefer_brownian", "explike_fine_detail", "minimize_sigma_inf", "uncond_per_vibe", "wonky_vibe_correlation"),
    *("Source", "Generation time", "dynamic_thresholding_percentile", "dynamic_thresholding_mimic_scale"),
    *("cfg_sched_eligibility", "extra_noise_seed", "extra_passthrough_testing", "inpaintImg2ImgStrength"),
)  # fields that change nothing, or only details of their own server
_NEUTRAL = {"uncond_scale": 1.0, "controlnet_strength": 1.0, "skip_cfg_above_sigma": None, "sm_dyn": False}
_NEUTRAL |= {"reference_information_extracted_multiple": None, "reference_strength_multiple": None}
_FROM_PICTURE = ("Img2ImgRequest", "NativeInfillingRequest")
_WEIGHT = re.compile(r"(?<![\d.])(-?\d{1,3}(?:\.\d{1,6})?)::((?:(?!::).)*)(?:::|$)", re.S)


def read(texts: Mapping[str, str]) -> Parameters | None:
    for keyword in ("Comment", "UserComment", "parameters"):  # the EXIF comment of its WebP has all texts of its PNG
        data = parse_object(texts.get(keyword, ""))
        if data and isinstance(data.get("Comment"), str):
            texts = {**texts, **{name: text for name, text in data.items() if isinstance(text, str)}}
            data = parse_object(data["Comment"])
        if data and "steps" in data and ("uc" in data or texts.get("Software") == "NovelAI"):
            return _parameters(data, texts)
    return None


def _parameters(data: dict[str, Any], texts: Mapping[str, str]) -> Parameters:
    fields = Fields({name: value for name, value in data.items() if value != _NEUTRAL.get(name, ...)})
    is_v4 = "v4_prompt" in fields
    prompt, characters = _caption(fields.take("v4_prompt"))
    negative, negative_characters = _caption(fields.take("v4_negative_prompt"))
    prompt = texts.get("Description", "") or fields.text("prompt") or prompt
    negative = fields.text("uc") or negative
    fields.take("prompt")
    is_from_picture = fields.get("request_type") in _FROM_PICTURE or "image" in fields
    strength = fields.number("strength")  # the older version writes it into every picture
    noise_schedule = fields.text("noise_schedule")
    parameters = Parameters(
        program="NovelAI",
        prompt=weights_converted(prompt.strip()),
        negative=weights_converted(negative.strip()),
        model=texts.get("Source", ""),
        seed=fields.integer("seed"),
        steps=fields.integer("steps"),
        sampler=fields.text("sampler"),
        schedule=SCHEDULES.get(noise_schedule, noise_schedule),
        guidance=fields.number("scale"),
        rescale=fields.number("cfg_rescale"),
        width=fields.integer("width"),
        height=fields.integer("height"),
        noise="a1111",
        clip_skip=None if is_v4 or "XL" in texts.get("Source", "") else 2,
        is_from_picture=is_from_picture,
        strength=strength if is_from_picture else None,
        has_own_model=True,
    )
    if not is_from_picture:
        fields.take("noise")
    unfollowed, information = fields.rest(INFORMATION)
    people = {"Character prompts": " | ".join(characters), "Character negatives": " | ".join(negative_characters)}
    return replace(
        parameters,
        unfollowed=unfollowed | {name: text for name, text in people.items() if text},
        information=information,
    )


def _caption(data: Any) -> tuple[str, list[str]]:
    """The base caption of `v4_prompt`, and those of its characters."""
    caption = data.get("caption") if isinstance(data, dict) else None
    if not isinstance(caption, dict):
        return "", []
    people = caption.get("char_captions")
    people = people if isinstance(people, list) else []
    texts = [as_text(entry.get("char_caption")) or "" for entry in people if isinstance(entry, dict)]
    return as_text(caption.get("base_caption")) or "", [text for text in texts if text]


def weights_converted(text: str) -> str:
    """NovelAI's weights in A1111's syntax: `{x}` is 1.05, `[x]` 1/1.05, `1.5::x::` 1.5; parentheses are literal."""
    if len(text) > MAX_PROMPT:
        return text
    text = re.sub(r"(?<!\\)([()])", r"\\\1", text)
    text = _WEIGHT.sub(lambda match: f"({match[2]}:{float(match[1]):.4g})", text)
    partners = _partners(text)
    out, ends, at = [], {}, 0
    while at < len(text):
        depth = 1
        if at in partners:
            while text[at + depth] == text[at] and partners.get(at + depth) == partners[at] - depth:
                depth += 1
            out.append("(")
            ends[partners[at] - depth + 1] = depth, 1.05 ** (depth if text[at] == "{" else -depth)
        elif at in ends:
            depth, weight = ends[at]
            out.append(f":{weight:.4g})")
        elif text[at] not in "{}[]":  # a bracket without its partner says nothing
            out.append(text[at])
        at += depth
    return "".join(out)


def _partners(text: str) -> dict[int, int]:
    """The places of opening brackets, and of the brackets that close them."""
    open_places: list[int] = []
    partners = {}
    for place, char in enumerate(text):
        if char in "{[":
            open_places.append(place)
        elif char in "}]" and open_places and text[open_places[-1]] == {"}": "{", "]": "["}[char]:
            partners[open_places.pop()] = place
    return partners
