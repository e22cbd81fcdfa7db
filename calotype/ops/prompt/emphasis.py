"""Attention weights: `(x)`, `((x))`, `(x:1.3)`, `[x]`, `\\(` for a literal bracket, and how they are applied."""

import re
from collections.abc import Iterable

from torch import Tensor

BREAK = "BREAK"  # a fragment with this text and the weight -1 ends the chunk
EMPHASES = ("original", "no-norm", "ignore", "none")
STEP = 1.1

_TOKENS = re.compile(
    r"\\[()\[\]\\]|\\|\(|\[|:\s*(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)|\)|\]|[^\\()\[\]:]+|:", re.S
)
_BREAKS = re.compile(r"(?<!\s)\s*\bBREAK\b\s*")


def emphasis(text: str, is_on: bool = True) -> list[tuple[str, float]]:
    """Fragments and their weights; neighbours of equal weight are merged. Unclosed brackets extend to the end.

    Args:
        is_on: if False, brackets and weights are plain text (the emphasis "none"); BREAK still works.
    """
    fragments: list[list] = []
    changes: list[tuple[int, int, float]] = []  # first fragment, end fragment, factor; they nest
    round_, square = [], []

    def close(opened: list[int], factor: float) -> None:
        changes.append((opened.pop(), len(fragments), factor))

    for match in _TOKENS.finditer(text) if is_on else ():
        token = match[0]
        if token[0] == "\\" and len(token) > 1:
            fragments.append([token[1], 1.0])
        elif token == "(":
            round_.append(len(fragments))
        elif token == "[":
            square.append(len(fragments))
        elif match["weight"] and round_:
            close(round_, float(match["weight"]))
        elif token == ")" and round_:
            close(round_, STEP)
        elif token == "]" and square:
            close(square, 1 / STEP)
        else:
            _append_text(token, fragments)
    if not is_on:
        _append_text(text, fragments)
    while round_:
        close(round_, STEP)
    while square:
        close(square, 1 / STEP)
    return _merged(_multiplied(fragments, changes))


def _append_text(text: str, fragments: list[list]) -> None:
    """Appends a text, with a separate fragment for each BREAK in it."""
    for n, fragment in enumerate(_BREAKS.split(text)):
        if n:
            fragments.append([BREAK, -1.0])
        fragments.append([fragment, 1.0])


def _multiplied(fragments: list[list], changes: Iterable[tuple[int, int, float]]) -> list[tuple[str, float]]:
    """Multiplies each fragment by the factors of all spans around it, in one pass: prompts may nest very deep."""
    begin: dict[int, list[tuple[int, float]]] = {}
    for start, end, factor in changes:
        if end > start:
            begin.setdefault(start, []).append((end, factor))
    spans = _Spans()
    weighted = []
    for n, (text, weight) in enumerate(fragments):
        spans.leave(n)
        for end, factor in sorted(begin.get(n, ()), reverse=True):
            spans.enter(end, factor)
        is_break = text == BREAK and weight == -1
        weighted.append((text, -1.0 if is_break else weight * spans.product))
    return weighted


class _Spans:
    """The open spans, innermost last, each with the product of all factors up to it."""

    def __init__(self) -> None:
        self._open: list[tuple[int, float, float]] = []

    @property
    def product(self) -> float:
        return self._open[-1][2] if self._open else 1.0

    def leave(self, index: int) -> None:
        while self._open and self._open[-1][0] <= index:
            self._open.pop()

    def enter(self, end: int, factor: float) -> None:
        outlasted = []
        while self._open and self._open[-1][0] < end:  # `[(a]b)`: spans that cross
            outlasted.append(self._open.pop())
        for span in [(end, factor), *((e, f) for e, f, _ in reversed(outlasted))]:
            self._open.append((*span, self.product * span[1]))


def _merged(fragments: list[tuple[str, float]]) -> list[tuple[str, float]]:
    merged: list[tuple[list[str], float]] = []
    for text, weight in fragments:
        if merged and merged[-1][1] == weight and weight != -1:
            merged[-1][0].append(text)
        else:
            merged.append(([text], weight))
    joined = [("".join(texts), weight) for texts, weight in merged]
    return [fragment for fragment in joined if fragment[0]] or [("", 1.0)]


def apply_weights(states: Tensor, weights: Tensor, mode: str) -> Tensor:
    """Token states (N, L, D) scaled by their weights (N, L); `mode` is one of EMPHASES.

    "original" restores the mean of each chunk afterwards, as A1111 does; "no-norm" only multiplies, "ignore" and "none"
    change nothing.
    """
    if mode in ("ignore", "none") or bool((weights == 1).all()):
        return states
    scaled = states * weights[..., None].to(states)
    if mode == "no-norm":
        return scaled
    return scaled * (states.mean((1, 2), keepdim=True) / scaled.mean((1, 2), keepdim=True))
