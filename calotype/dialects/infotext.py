"""A1111's infotext (generation parameters in picture metadata): formatting, parsing, and reading as parameters.

prompt
Negative prompt: ...
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, ...
"""

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from calotype.dialects.fields import Fields
from calotype.dialects.parameters import Parameters, SecondPass
from calotype.tasks.prompts import LoraRef, listed_loras

NEGATIVE = "Negative prompt:"
_NEGATIVE = re.compile(r"\s*Negative prompt\s*[:：]", re.I)
_STEPS = re.compile(r"\s*Steps\s*[:：]\s*\d", re.I)
_INSIDE = re.compile(r"(?<=\s)Steps:\s*\d+\s*,\s*\w[\w \-/]{1,40}:", re.I)
_ALONE = re.compile(r"\s*(?:Sampler|Seed|Size|CFG scale|Model|Model hash|Version)\s*:", re.I)
_NAME = re.compile(r"\s*(\w[\w \-/.()+]{1,60}):\s*")
_ODD_NAME = re.compile(r"""\s*([^\s:,"'(){}\[\]][^:,"'(){}\[\]]{0,60}):\s""")
_QUOTED = re.compile(r'("(?:\\.|[^\\"])*")\s*(?:,|$)')
_QUOTES = re.compile(r':\s*("(?:\\.|[^\\"])*("\s*(?:,|$))?)')  # a value in quotes, the end in the second group
_CLOSING = re.compile(r'(?<!\\)"\s*(?:,|$)')
_SIZE = re.compile(r"\s*\(?\s*(\d{1,6})\s*[x×,]\s*(\d{1,6})\s*\)?\s*")
_FULL_WIDTH = str.maketrans("：，", ":,")
_MAX_LINES = 200  # of one value
_MIN_FIELDS = 3  # of a line that is parsed as parameters, as in A1111

INFORMATION = (
    *("Version", "App", "Model hash", "VAE hash", "Hashes", "Lora hashes", "TI hashes", "User", "Date", "Created Date"),
    *("Created by", "Template", "Negative Template", "Raw prompt", "Raw negative prompt", "Metadata scheme"),
    *("Parser", "Pipeline", "Operations", "Backend", "Civitai resources", "Civitai metadata", "Training", "Time taken"),
    *(
        "Base model hash",
        "Hires Module 1",
        "Batch size",
        "Batch pos",
        "Software",
        "Source Identifier",
        "Init image size",
    ),
)  # fields that change nothing in a picture
_OWN = (
    *(
        "steps",
        "sampler",
        "schedule type",
        "cfg scale",
        "seed",
        "size",
        "model",
        "model hash",
        "vae",
        "vae hash",
        "rng",
    ),
    *("denoising strength", "clip skip", "hires upscale", "hires upscaler", "hires resize", "hires steps", "version"),
    *("variation seed", "variation seed strength", "mask blur", "face restoration", "eta", "ensd", "lora hashes"),
)  # A1111's own fields, each with a value of one line
EMPHASES = ("original", "no-norm", "ignore", "none")
_USUAL = {"use same choices", "use same checkpoint", "use same sampler", "use same scheduler", "use same vae"}
_CONTENT = {"original": "original", "fill": "blur", "latent noise": "noise", "latent nothing": "nothing"}


class Infotext(NamedTuple):
    """The parts of an infotext; no fields where it has no line of parameters."""

    prompt: str
    negative: str
    fields: dict[str, str]


def format_infotext(prompt: str, negative: str, fields: Mapping[str, Any]) -> str:
    """The infotext; `fields` in their order, without those that are None."""
    pairs = ", ".join(f"{name}: {quoted(value)}" for name, value in fields.items() if value is not None)
    return "\n".join(filter(None, [prompt, f"{NEGATIVE} {negative}" if negative else "", pairs]))


def quoted(value: Any) -> str:
    """The value, as a JSON string if it contains separators."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ',\n:"') else text


def parse_infotext(text: str) -> Infotext:
    """Prompts, and all fields by their names as they are written.

    The line of parameters is the last one that begins with "Steps:", or else the last line of the text, and has at
    least three fields. Lines behind it are fields too, as of extensions, or continue a value.
    """
    lines = text.strip().strip("\0").strip().split("\n")
    lines, at = _find_parameters(lines)
    if at is None:
        return Infotext(*_prompts(lines), {})
    fields: dict[str, str] = {}
    for line in _joined([_plain(lines[at]), *lines[at + 1 :]]):
        is_of_several = not fields or line.partition(":")[0].strip().lower() in _OWN
        found = dict(_fields(line, is_whole=not is_of_several))
        last = next(reversed(fields), "")
        if not found and line.strip() and last.lower() not in _OWN:
            fields[last] += f"\n{line.strip()}"
        fields |= {name: value for name, value in found.items() if name not in fields}
    return Infotext(*_prompts(lines[:at]), fields)


def _joined(lines: list[str]) -> Iterator[str]:
    """The lines, those together over which a value in quotes extends."""
    closing = [n for n, line in enumerate(lines) if _CLOSING.search(line)]
    n = 0
    while n < len(lines):
        line, n, first = lines[n], n + 1, n
        while _ends_in_quotes(line) and (at := bisect_left(closing, n)) < len(closing):
            if closing[at] - first >= _MAX_LINES:
                break
            line, n = "\n".join([line, *lines[n : closing[at] + 1]]), closing[at] + 1
        yield line


def _ends_in_quotes(line: str) -> bool:
    *_, last = (None, *_QUOTES.finditer(line))
    return last is not None and last[2] is None and last.end() == len(line)


def _find_parameters(lines: list[str]) -> tuple[list[str], int | None]:
    """The lines, split anew where all is in one, and the number of that with parameters."""
    for n in range(len(lines) - 1, -1, -1):
        if _STEPS.match(lines[n]) and _has_enough_fields(lines[n]):
            return lines, n
    split = _split_inside(lines)
    return (split, len(split) - 1) if _has_enough_fields(split[-1]) else (split, None)


def _has_enough_fields(line: str) -> bool:
    return len(list(islice(_fields(_plain(line)), _MIN_FIELDS))) == _MIN_FIELDS


def _plain(line: str) -> str:
    """The line, with ASCII punctuation if it was translated: "Steps：20，Sampler：Euler"."""
    return line.translate(_FULL_WIDTH) if re.match(r"\s*Steps\s*：", line, re.I) else line


def _split_inside(lines: list[str]) -> list[str]:
    """Lines of an infotext whose line ends became spaces, as some sites store it."""
    if _ALONE.match(lines[-1]):
        return lines
    text = "\n".join(lines)
    starts = [match.start() for match in _INSIDE.finditer(text)]
    if not starts or not {"seed", "sampler"} & {name.lower() for name, _ in _fields(text[starts[-1] :])}:
        return lines
    prompts, parameters = text[: starts[-1]], text[starts[-1] :]
    return [*re.sub(r"\s+(?=Negative prompt:)", "\n", prompts, count=1).split("\n"), parameters.replace("\n", " ")]


def _fields(line: str, is_whole: bool = False) -> Iterator[tuple[str, str]]:
    """The fields `name: value` of a line.

    A value may be a JSON string, a JSON object or list; a part without a name belongs to the value before it.

    Args:
        is_whole: the line is one field, whatever commas it has.
    """
    at, name, value = 0, "", ""
    while at < len(line):
        match = _NAME.match(line, at) or (_ODD_NAME.match(line, at) if name else None)
        if match and (name == "" or not is_whole):
            if name:
                yield name, value
            name, (value, at) = match[1].strip(), _value(line, match.end(), is_whole)
            continue
        end = line.find(",", at) if not is_whole else -1
        end = end if end >= 0 else len(line)
        value += f",{line[at:end]}" if line[at:end].strip() else ""
        at = end + 1
    if name:
        yield name, value.strip()


def _value(line: str, at: int, is_whole: bool) -> tuple[str, int]:
    """The value that begins there, and where the next field begins."""
    if match := _QUOTED.match(line, at):
        return _unquoted(match[1]), match.end()
    if line[at : at + 1] in ("{", "["):
        try:
            _, end = json.JSONDecoder().raw_decode(line, at)
            if re.match(r"\s*(?:,|$)", line[end:]):
                return line[at:end], line.find(",", end) + 1 or len(line)
        except (ValueError, RecursionError):
            pass
    end = -1 if is_whole else line.find(",", at)
    end = end if end >= 0 else len(line)
    return line[at:end].strip(), end + 1


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value, strict=False))  # with line ends as they are
    except ValueError:
        return value


def _prompts(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt: the lines before and from the first that starts with `NEGATIVE`."""
    start = next((n for n, line in enumerate(lines) if _NEGATIVE.match(line)), len(lines))
    rest = [line.strip() for line in lines[start:]]
    if rest:
        rest[0] = _NEGATIVE.sub("", rest[0], count=1).strip()
    return "\n".join(line.strip() for line in lines[:start]).strip(), "\n".join(rest).strip()


def read(text: str) -> Parameters | None:
    """The parameters in an infotext; None if it has no line of them with steps, seed or sampler."""
    infotext = parse_infotext(text)
    fields = Fields({name: value for name, value in infotext.fields.items() if value.lower() not in _USUAL})
    if not any(name in fields for name in ("Steps", "Seed", "Sampler")):
        return None
    program = _program(fields)
    hires, strength = _second_pass(fields), fields.number("Denoising strength")
    inpainting = _inpainting(fields)
    width, height = _size(fields, "Size", "Resolution")
    parameters = Parameters(
        program=program,
        prompt=infotext.prompt,
        negative=infotext.negative,
        loras=tuple(_lora_weights(fields, infotext.prompt)),
        model=fields.text("Model", "Base model"),
        vae=_vae(fields.text("VAE")),
        seed=fields.integer("Seed"),
        steps=fields.integer("Steps"),
        sampler=fields.text("Sampler"),
        schedule=fields.text("Schedule type", "Scheduler"),
        guidance=fields.number("CFG scale", "Guidance scale"),
        rescale=fields.number("CFG Rescale", "CFG rescale φ"),
        width=width,
        height=height,
        clip_skip=fields.integer("Clip skip"),
        noise=_noise(fields.text("RNG"), program),
        emphasis=_emphasis(fields),
        variation_seed=fields.integer("Variation seed"),
        variation=fields.number("Variation seed strength"),
        seed_resize=fields.text("Seed resize from"),
        tiling=fields.flag("Tiling"),
        inpainting=inpainting,
        is_from_picture=bool(inpainting)
        or "Init image hash" in fields
        or (strength is not None and hires is None and "txt2img" not in str(fields.get("Operations"))),
        strength=strength if hires is None else None,
        hires=replace(hires, strength=strength) if hires else None,
    )
    unfollowed, information = fields.rest(INFORMATION)
    return replace(parameters, unfollowed=unfollowed, information=information)


def _program(fields: Fields) -> str:
    version = f"{fields.get('Version') or ''}"
    if fields.get("App"):
        return str(fields.get("App"))
    for start, program in (("Calotype", "Calotype"), ("Fooocus", "Fooocus"), ("ComfyUI", "ComfyUI"), ("f", "Forge")):
        if version.startswith(start):
            return program
    return "A1111"


def _noise(text: str, program: str) -> str:
    """A1111 and SD.Next draw noise on the GPU unless they say otherwise; "NV" is the same numbers."""
    if text:
        return "cpu" if text.upper() == "CPU" else "a1111"
    return "cpu" if program in ("Fooocus", "ComfyUI") else "a1111"


def _emphasis(fields: Fields) -> str:
    name = str(fields.get("Emphasis") or "original").lower().replace(" ", "-")
    if name not in EMPHASES:
        return "original"
    fields.take("Emphasis")
    return name


def _vae(text: str) -> str:
    return "" if text.lower() in ("none", "automatic", "default", "default (model)", "built-in", "baked vae") else text


def _size(fields: Fields, *names: str) -> tuple[int | None, int | None]:
    """Width and height; a size that cannot be read stays."""
    match = _SIZE.fullmatch(str(fields.get(*names) or ""))
    if match is None:
        return None, None
    fields.take(*names)
    return int(match[1]), int(match[2])


def _inpainting(fields: Fields) -> dict[str, str | int | bool]:
    """The options of a mask; empty where there was none."""
    options: dict[str, str | int | bool | None] = {
        "mask_blur": fields.integer("Mask blur"),
        "padding": fields.integer("Masked area padding"),
    }
    if fields.get("Inpaint area") in ("Only masked", "Whole picture"):
        options["only_masked"] = fields.take("Inpaint area") == "Only masked"
    if (content := str(fields.get("Masked content")).lower()) in _CONTENT:
        fields.take("Masked content")
        options["fill"] = _CONTENT[content]
    return {name: value for name, value in options.items() if value is not None}


def _second_pass(fields: Fields) -> SecondPass | None:
    if not any(name in fields for name in ("Hires upscale", "Hires resize", "Hires upscaler", "Hires steps")):
        return None
    width, height = _size(fields, "Hires resize")
    return SecondPass(
        scale=fields.number("Hires upscale"),
        width=width,
        height=height,
        steps=fields.integer("Hires steps"),
        upscaler=fields.text("Hires upscaler"),
        prompt=fields.text("Hires prompt"),
        negative=fields.text("Hires negative prompt"),
        sampler=fields.text("Hires sampler"),
        schedule=fields.text("Hires schedule type"),
        guidance=fields.number("Hires CFG Scale"),
        model=fields.text("Hires checkpoint"),
    )


def _lora_weights(fields: Fields, prompt: str) -> list[LoraRef]:
    """Fooocus names its LoRAs beside the prompt: `Lora weights: "a: 0.5, b: 1"`."""
    text = fields.text("Lora weights")
    parts = [re.sub(r"\s*:\s*(?=[-\d.]+$)", ":", part.strip()) for part in text.split(",") if part.strip()]
    return [lora for lora in listed_loras(",".join(parts)) if f"<lora:{lora.name}" not in prompt]
