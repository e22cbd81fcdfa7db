"""Parsing of prompts before tokenization: LoRA references, AND composition, prompt matrix."""

import itertools
import math
import re
from dataclasses import dataclass
from typing import Self

from calotype.errors import CalotypeError

_EXTRA = re.compile(r"<(\w+):([^<>]+)>")
_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)\s*")
LORAS = ("lora", "lyco")
_CALL = re.compile(rf"<\s*({'|'.join(LORAS)})\s*:.{{0,40}}", re.I | re.S)


@dataclass(frozen=True)
class LoraRef:
    """A LoRA in the prompt, `<lora:name:0.8>`, with its weights for text encoder and U-Net."""

    name: str
    text: float = 1.0
    unet: float = 1.0

    @classmethod
    def read(cls, body: str) -> Self:
        """Parses the text after `lora:`, such as `name`, `name:0.8`, `name:0.5:0.9`, `name:te=0.5:unet=0.9`.

        Raises:
            ValueError: no name, or a weight is not a number.
        """
        plain, named = [], {}
        for part in body.split(":"):
            key, equals, value = part.partition("=")
            if equals:
                named[key.strip()] = value
            else:
                plain.append(part.strip())
        if not plain or not plain[0]:
            raise ValueError("no name")
        text = float(named.get("te", plain[1] if len(plain) > 1 and plain[1] else 1.0))
        unet = float(named.get("unet", plain[2] if len(plain) > 2 and plain[2] else text))
        if not (math.isfinite(text) and math.isfinite(unet)):
            raise ValueError("no weight")
        return cls(plain[0], text, unet)

    def __str__(self) -> str:
        both = f"{self.text:g}" if self.text == self.unet else f"{self.text:g}:{self.unet:g}"
        return f"<lora:{self.name}:{both}>"


def extras(prompt: str) -> tuple[str, list[LoraRef], list[str]]:
    """The prompt without `<kind:...>`, the LoRAs in it, and all other `<...>` as they are written."""
    loras, unknown = [], []
    for match in _EXTRA.finditer(prompt):
        try:
            kind = match[1].lower()
            (loras if kind in LORAS else unknown).append(LoraRef.read(match[2]) if kind in LORAS else match[0])
        except ValueError:
            unknown.append(match[0])
    return _EXTRA.sub("", prompt), loras, unknown


def listed_loras(text: str) -> list[LoraRef]:
    """`mine:0.8,other` as LoRAs. Raises CalotypeError for anything else."""
    try:
        return [LoraRef.read(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError:
        raise CalotypeError("{option:lora} is such as mine:0.8,other, not {text!r}", text=text) from None


def called_loras(prompt: str) -> list[str]:
    """The names of the LoRAs in a prompt, also if it is concatenated with other texts.

    Raises:
        CalotypeError: an incomplete reference that another text could complete: `<lora:a`, or `<lo<lora:a:1>ra:b:1>`.
    """
    rest, loras, unknown = extras(prompt)
    incomplete = _CALL.search(rest) or next((match for text in unknown if (match := _CALL.search(text))), None)
    if incomplete:
        raise CalotypeError("a LoRA in a prompt is written <lora:name:0.8>, not {text!r}", text=incomplete[0])
    return [lora.name for lora in loras]


def listed_names(text: str) -> list[str]:
    """`a, b` as names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def composition(prompt: str) -> list[tuple[str, float]]:
    """The sub-prompts of `a AND b :0.8`, each with its weight, 1 by default."""
    return [_weighed(part) for part in _AND.split(prompt)]


def _weighed(part: str) -> tuple[str, float]:
    text, _, weight = part.rpartition(":")
    return (text.rstrip(), float(weight)) if _WEIGHT.fullmatch(weight) and ":" in part else (part.rstrip(), 1.0)


def matrix(prompt: str) -> list[str]:
    """All prompts of `a|b|c`: the first part with every subset of the rest, in binary counting order.

    A `|` inside square brackets belongs to the schedule and does not split.
    """
    first, *rest = alternatives(prompt)
    prompts = []
    for choice in itertools.product((False, True), repeat=len(rest)):
        included = [part for part, is_in in zip(rest, reversed(choice), strict=True) if is_in]
        prompts.append(", ".join([first, *included]))
    return prompts


def alternatives(prompt: str) -> list[str]:
    """The parts that `matrix` combines; only the prompt itself if it has no `|`."""
    return [part.strip() for part in _split_outside(prompt)]


def _split_outside(prompt: str) -> list[str]:
    parts, depth = [""], 0
    for char in re.findall(r"\\.|.", prompt, re.S):
        depth += {"[": 1, "]": -1}.get(char, 0) if depth or char == "[" else 0
        if char == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return parts
