"""The line of parameters that A1111 writes into its pictures: made, and read again.

prompt
Negative prompt: ...
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, ...
"""

import json
import re
from collections.abc import Mapping
from typing import Any

NEGATIVE = "Negative prompt:"
_PAIR = re.compile(r'\s*(\w[\w \-/]{1,60}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(-?\d+)x(-?\d+)")
_NOVEL = {
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


def written(prompt: str, negative: str, fields: Mapping[str, Any]) -> str:
    """The text; `fields` in their order, those that are None left out."""
    pairs = ", ".join(f"{name}: {quoted(value)}" for name, value in fields.items() if value is not None)
    return "\n".join(filter(None, [prompt, f"{NEGATIVE} {negative}" if negative else "", pairs]))


def quoted(value: Any) -> str:
    """The value, as a JSON string where it would break the line apart."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ',\n:"') else text


def read(text: str) -> dict[str, str]:
    """All fields by A1111's names, with "Prompt" and "Negative prompt"; a size also as "Size-1" and "Size-2".

    The last line counts as parameters only where it has three of them. What A1111 takes for granted when it is missing
    is filled in: "Clip skip", "Schedule type", "RNG" (its default is the graphics card's).
    """
    *lines, last = text.strip().split("\n")
    if len(_PAIR.findall(last)) < 3:
        lines, last = [*lines, last], ""
    prompt, negative = _prompts(lines)
    fields = {"Prompt": prompt, "Negative prompt": negative}
    for name, value in _PAIR.findall(last):
        value = _unquoted(value.strip())
        size = _SIZE.fullmatch(value)
        if size:
            fields |= {f"{name}-1": size[1], f"{name}-2": size[2]}
        fields[name] = value
    if last:
        fields = {"Clip skip": "1", "Schedule type": "Automatic", "RNG": "GPU"} | fields
    return fields


def _prompts(lines: list[str]) -> tuple[str, str]:
    """What stands before and after the first line that begins the negative prompt."""
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
    """NovelAI's `Description` and `Comment` (JSON) as infotext; empty where the comment is no such thing."""
    try:
        told = json.loads(comment)
        return written(
            _weights_converted(str(description)),
            _weights_converted(str(told.get("uc") or "")),
            {
                "Steps": told["steps"],
                "Sampler": _NOVEL.get(told.get("sampler"), "Euler a"),
                "CFG scale": told["scale"],
                "Seed": told["seed"],
                "Size": f"{told['width']}x{told['height']}" if "width" in told else None,
                "Clip skip": 2,
                "ENSD": 31337,
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


def _weights_converted(text: str) -> str:
    """`{x}` is 1.05 in NovelAI, and round brackets are letters there."""
    text = text.replace("(", r"\(").replace(")", r"\)")
    return re.sub(r"(\{+)([^{}]*)(\}+)", _weight_converted, text)


def _weight_converted(found: re.Match) -> str:
    depth = min(len(found[1]), len(found[3]))
    return f"{found[1][depth:]}({found[2]}:{1.05**depth:.4g}){found[3][depth:]}"
