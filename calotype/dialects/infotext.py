"""A1111's infotext (generation parameters in picture metadata): formatting and parsing.

prompt
Negative prompt: ...
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, ...
"""

import json
import re
from collections.abc import Mapping
from typing import Any

NEGATIVE = "Negative prompt:"
_FIELD = re.compile(r'\s*(\w[\w \-/]{1,60}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(-?\d+)x(-?\d+)")
NOVELAI_SAMPLERS = {
    "k_euler_ancestral": "Euler a",
    "k_euler": "Euler",
    "k_lms": "LMS",
    "k_heun": "Heun",
    "k_dpm_2": "DPM2",
    "k_dpm_2_ancestral": "DPM2 a",
    "k_dpmpp_2m": "DPM++ 2M",
    "k_dpmpp_2s_ancestral": "DPM++ 2S a",
    "k_dpmpp_sde": "DPM++ SDE",
    "plms": "PLMS",
    "ddim": "DDIM",
}


def format_infotext(prompt: str, negative: str, fields: Mapping[str, Any]) -> str:
    """The infotext; `fields` in their order, without those that are None."""
    pairs = ", ".join(f"{name}: {quoted(value)}" for name, value in fields.items() if value is not None)
    return "\n".join(filter(None, [prompt, f"{NEGATIVE} {negative}" if negative else "", pairs]))


def quoted(value: Any) -> str:
    """The value, as a JSON string if it contains separators."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ',\n:"') else text


def parse_infotext(text: str) -> dict[str, str]:
    """All fields by A1111's names, with "Prompt" and "Negative prompt"; a size also as "Size-1" and "Size-2".

    The last line is parsed as parameters only if it has at least three. Missing fields get A1111's defaults:
    "Clip skip", "Schedule type", "RNG" (GPU).
    """
    *lines, last = text.strip().split("\n")
    if len(_FIELD.findall(last)) < 3:
        lines, last = [*lines, last], ""
    prompt, negative = _prompts(lines)
    fields = {"Prompt": prompt, "Negative prompt": negative}
    for name, value in _FIELD.findall(last):
        value = _unquoted(value.strip())
        size = _SIZE.fullmatch(value)
        if size:
            fields |= {f"{name}-1": size[1], f"{name}-2": size[2]}
        fields[name] = value
    if last:
        fields = {"Clip skip": "1", "Schedule type": "Automatic", "RNG": "GPU"} | fields
    return fields


def _prompts(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt: the lines before and from the first that starts with `NEGATIVE`."""
    start = next((n for n, line in enumerate(lines) if line.strip().startswith(NEGATIVE)), len(lines))
    rest = [line.strip() for line in lines[start:]]
    if rest:
        rest[0] = rest[0].removeprefix(NEGATIVE).strip()
    return "\n".join(line.strip() for line in lines[:start]).strip(), "\n".join(rest).strip()


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value


def from_novelai(description: str, comment: str) -> str:
    """NovelAI's `Description` and `Comment` (JSON) as infotext; empty if the comment is not NovelAI's."""
    try:
        settings = json.loads(comment)
        return format_infotext(
            _weights_converted(str(description)),
            _weights_converted(str(settings.get("uc") or "")),
            {
                "Steps": settings["steps"],
                "Sampler": NOVELAI_SAMPLERS.get(settings.get("sampler"), "Euler a"),
                "CFG scale": settings["scale"],
                "Seed": settings["seed"],
                "Size": f"{settings['width']}x{settings['height']}" if "width" in settings else None,
                "Clip skip": 2,
                "ENSD": 31337,
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


def _weights_converted(text: str) -> str:
    """In NovelAI `{x}` is a weight of 1.05, and parentheses are literal."""
    text = text.replace("(", r"\(").replace(")", r"\)")
    return re.sub(r"(\{+)([^{}]*)(\}+)", _weight_converted, text)


def _weight_converted(match: re.Match) -> str:
    depth = min(len(match[1]), len(match[3]))
    return f"{match[1][depth:]}({match[2]}:{1.05**depth:.4g}){match[3][depth:]}"
