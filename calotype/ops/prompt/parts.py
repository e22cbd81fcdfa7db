"""What is taken out of a prompt, or split from it, before its words are read."""

import itertools
import re
from dataclasses import dataclass
from typing import Self

_EXTRA = re.compile(r"<(\w+):([^<>]+)>")
_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)\s*")
LORAS = ("lora", "lyco")


@dataclass(frozen=True)
class Extra:
    """A LoRA called in the prompt, `<lora:name:0.8>`, and how much of it goes where."""

    name: str
    text: float = 1.0
    unet: float = 1.0

    @classmethod
    def read(cls, body: str) -> Self:
        """What stands behind `lora:`, such as `name`, `name:0.8`, `name:0.5:0.9`, `name:te=0.5:unet=0.9`.

        Raises:
            ValueError: a weight is no number.
        """
        plain, named = [], {}
        for part in body.split(":"):
            key, equals, value = part.partition("=")
            if equals:
                named[key.strip()] = value
            else:
                plain.append(part.strip())
        text = float(named.get("te", plain[1] if len(plain) > 1 and plain[1] else 1.0))
        return cls(plain[0], text, float(named.get("unet", plain[2] if len(plain) > 2 and plain[2] else text)))

    def __str__(self) -> str:
        both = f"{self.text:g}" if self.text == self.unet else f"{self.text:g}:{self.unet:g}"
        return f"<lora:{self.name}:{both}>"


def extras(prompt: str) -> tuple[str, list[Extra], list[str]]:
    """The prompt without `<kind:...>`, the LoRAs called in it, and what else was called, as it was written."""
    loras, unknown = [], []
    for found in _EXTRA.finditer(prompt):
        try:
            kind = found[1].lower()
            (loras if kind in LORAS else unknown).append(Extra.read(found[2]) if kind in LORAS else found[0])
        except ValueError:
            unknown.append(found[0])
    return _EXTRA.sub("", prompt), loras, unknown


def composition(prompt: str) -> list[tuple[str, float]]:
    """The parts of `a AND b :0.8`, each with its weight, 1 where none is given."""
    return [_weighed(part) for part in _AND.split(prompt)]


def _weighed(part: str) -> tuple[str, float]:
    text, _, weight = part.rpartition(":")
    return (text.rstrip(), float(weight)) if _WEIGHT.fullmatch(weight) and ":" in part else (part.rstrip(), 1.0)


def matrix(prompt: str) -> list[str]:
    """All prompts of `a|b|c`: the first part with every choice of the others, in the order of counting in binary.

    A `|` inside square brackets belongs to the schedule and does not split.
    """
    first, *others = (part.strip() for part in _split_outside(prompt))
    prompts = []
    for chosen in itertools.product((False, True), repeat=len(others)):
        taken = [part for part, is_in in zip(others, reversed(chosen), strict=True) if is_in]
        prompts.append(", ".join([first, *taken]))
    return prompts


def _split_outside(prompt: str) -> list[str]:
    parts, depth = [""], 0
    for piece in re.findall(r"\\.|.", prompt, re.S):
        depth += {"[": 1, "]": -1}.get(piece, 0) if depth or piece == "[" else 0
        if piece == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return parts
