"""How strongly each word counts: `(x)`, `((x))`, `(x:1.3)`, `[x]`, `\\(` for a bracket, and what the weights do."""

import re
from collections.abc import Iterable

from torch import Tensor

BREAK = "BREAK"  # as a fragment's text, with the weight -1: the chunk ends here
EMPHASES = ("original", "no-norm", "ignore", "none")
MORE = 1.1

_PIECES = re.compile(
    r"\\[()\[\]\\]|\\|\(|\[|:\s*(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)|\)|\]|[^\\()\[\]:]+|:", re.S
)
_BREAKS = re.compile(r"(?<!\s)\s*\bBREAK\b\s*")


def emphasis(text: str, is_on: bool = True) -> list[tuple[str, float]]:
    """Fragments and their weights; neighbours of one weight are one fragment. Unclosed brackets run to the end.

    Args:
        is_on: False takes brackets and weights for letters (the emphasis "none"); BREAK still counts.
    """
    fragments: list[list] = []
    changes: list[tuple[int, int, float]] = []  # from fragment, to fragment, factor; they nest
    round_, square = [], []

    def close(opened: list[int], factor: float) -> None:
        changes.append((opened.pop(), len(fragments), factor))

    for piece in _PIECES.finditer(text) if is_on else ():
        token = piece[0]
        if token[0] == "\\" and len(token) > 1:
            fragments.append([token[1], 1.0])
        elif token == "(":
            round_.append(len(fragments))
        elif token == "[":
            square.append(len(fragments))
        elif piece["weight"] and round_:
            close(round_, float(piece["weight"]))
        elif token == ")" and round_:
            close(round_, MORE)
        elif token == "]" and square:
            close(square, 1 / MORE)
        else:
            _say(token, fragments)
    if not is_on:
        _say(text, fragments)
    while round_:
        close(round_, MORE)
    while square:
        close(square, 1 / MORE)
    return _merged(_multiplied(fragments, changes))


def _say(text: str, fragments: list[list]) -> None:
    """A piece of text, with a fragment of its own for each BREAK in it."""
    for n, part in enumerate(_BREAKS.split(text)):
        if n:
            fragments.append([BREAK, -1.0])
        fragments.append([part, 1.0])


def _multiplied(fragments: list[list], changes: Iterable[tuple[int, int, float]]) -> list[tuple[str, float]]:
    """Every factor on every fragment that it spans, in one pass: a prompt may nest ten thousand deep."""
    begin: dict[int, list[tuple[int, float]]] = {}
    for start, end, factor in changes:
        if end > start:
            begin.setdefault(start, []).append((end, factor))
    spans = _Spans()
    weighed = []
    for n, (text, weight) in enumerate(fragments):
        spans.leave(n)
        for end, factor in sorted(begin.get(n, ()), reverse=True):
            spans.enter(end, factor)
        is_break = text == BREAK and weight == -1
        weighed.append((text, -1.0 if is_break else weight * spans.product))
    return weighed


class _Spans:
    """The spans that are open, innermost last, each with the product of all factors up to it."""

    def __init__(self) -> None:
        self._open: list[tuple[int, float, float]] = []

    @property
    def product(self) -> float:
        return self._open[-1][2] if self._open else 1.0

    def leave(self, place: int) -> None:
        while self._open and self._open[-1][0] <= place:
            self._open.pop()

    def enter(self, end: int, factor: float) -> None:
        outlasted = []
        while self._open and self._open[-1][0] < end:  # `[(a]b)`: spans that cross
            outlasted.append(self._open.pop())
        for one in [(end, factor), *((e, f) for e, f, _ in reversed(outlasted))]:
            self._open.append((*one, self.product * one[1]))


def _merged(fragments: list[tuple[str, float]]) -> list[tuple[str, float]]:
    merged: list[tuple[list[str], float]] = []
    for text, weight in fragments:
        if merged and merged[-1][1] == weight and weight != -1:
            merged[-1][0].append(text)
        else:
            merged.append(([text], weight))
    told = [("".join(texts), weight) for texts, weight in merged]
    return [one for one in told if one[0]] or [("", 1.0)]


def weighed(states: Tensor, weights: Tensor, way: str) -> Tensor:
    """Token states (N, L, D) under their weights (N, L), in one of EMPHASES.

    "original" brings the mean of each chunk back to what it was before, as A1111 does chunk by chunk; "no-norm" only
    multiplies, "ignore" and "none" do not.
    """
    if way in ("ignore", "none") or bool((weights == 1).all()):
        return states
    heavier = states * weights[..., None].to(states)
    if way == "no-norm":
        return heavier
    return heavier * (states.mean((1, 2), keepdim=True) / heavier.mean((1, 2), keepdim=True))
