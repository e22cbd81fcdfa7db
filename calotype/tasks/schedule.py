"""Prompt editing and alternation: `[from:to:when]`, `[to:when]`, `[from::when]`, `[a|b|c]`.

Other text is left unchanged: `[x]` is emphasis, `[a:b]` and unmatched brackets are plain text. Nothing here recurses,
so prompts may nest arbitrarily deep.
"""

import re
from dataclasses import dataclass, field

_TOKENS = re.compile(r"\\.|\\|[()\[\]:|]|[^\\()\[\]:|]+", re.S)
_NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*")
_MAX_STEP = 10**6  # larger values of `when` are clamped


@dataclass
class _Bracket:
    """An open bracket and its content: `segments`, separated by `:` or `|`, which are in `signs`."""

    bracket: str
    segments: list[list] = field(default_factory=lambda: [[]])
    signs: list[str] = field(default_factory=list)

    def add(self, item: object) -> None:
        self.segments[-1].append(item)

    def split(self, sign: str) -> None:
        self.signs.append(sign)
        self.segments.append([])

    def plain(self) -> list:
        """The frame as plain text, its bracket left open."""
        items: list = [self.bracket] if self.bracket else []
        for n, segment in enumerate(self.segments):
            items += ([self.signs[n - 1]] if n else []) + segment
        return items


@dataclass(frozen=True, eq=False)
class _Switch:
    before: list
    after: list
    when: int  # the last step that shows `before`


@dataclass(frozen=True, eq=False)
class _Alternation:
    choices: list[list]


def schedule(prompt: str, steps: int, first_pass: int = 0) -> list[tuple[int, str]]:
    """The prompt at each step, as (last step, text), steps counted from 1; the last entry ends at `steps`.

    `when` is a step, or, with a decimal point, a fraction of all steps; the change comes after it.

    Args:
        first_pass: in the second pass of a hires fix, the steps of the first one: steps are counted on from there,
            and fractions from 1.0 to 2.0 are the second pass.
    """
    tree, edges = _parsed(prompt, steps, first_pass)
    entries: list[tuple[int, str]] = []
    for step in sorted(edge for edge in edges if 1 <= edge <= steps):
        text = _at(tree, step)
        if entries and entries[-1][1] == text:
            entries[-1] = (step, text)
        else:
            entries.append((step, text))
    return entries


def _parsed(prompt: str, steps: int, first_pass: int) -> tuple[list, set[int]]:
    edges = {steps}
    stack = [_Bracket("")]
    for token in _TOKENS.findall(prompt):
        if token in ("(", "["):
            stack.append(_Bracket(token))
        elif token == ")" and stack[-1].bracket == "(":
            _close(stack, ")")
        elif token == "]" and (depth := _open_square(stack)):
            while len(stack) > depth + 1:
                _close(stack)
            frame = stack.pop()
            stack[-1].add(_closed(frame, steps, first_pass, edges))
        elif token in (":", "|") and stack[-1].bracket == "[":
            stack[-1].split(token)
        else:
            stack[-1].add(token)
    while len(stack) > 1:
        _close(stack)
    return stack[0].segments[0], edges


def _close(stack: list[_Bracket], bracket: str = "") -> None:
    """Closes the innermost frame as plain text within its parent."""
    frame = stack.pop()
    stack[-1].add([*frame.plain(), bracket])


def _open_square(stack: list[_Bracket]) -> int:
    """Index of the innermost open `[`; unclosed round brackets above it are plain text. 0: none."""
    depth = len(stack) - 1
    while depth and stack[depth].bracket != "[":
        depth -= 1
    return depth


def _closed(frame: _Bracket, steps: int, first_pass: int, edges: set[int]) -> object:
    """`[ ... ]` parsed: a switch, alternation, or plain text."""
    colons = frame.signs.count(":")
    number = "".join(item for item in frame.segments[-1] if isinstance(item, str)) if colons in (1, 2) else ""
    if (number_match := _NUMBER.fullmatch(number)) and frame.signs[-1] == ":" and len(frame.segments[-1]) <= 1:
        when = _step(number_match[1], steps, first_pass)
        edges.add(when)
        before, after = _around(frame)
        return _Switch(before, after, when)
    if frame.signs and not colons:
        edges.update(range(1, steps + 1))
        return _Alternation(frame.segments)
    return [*frame.plain(), "]"]


def _around(frame: _Bracket) -> tuple[list, list]:
    """Before and after of `before:after:when`, in which `|` is plain text."""
    sides: list[list] = [[]]
    for n, segment in enumerate(frame.segments[:-1]):
        if n and frame.signs[n - 1] == ":":
            sides.append([])
        elif n:
            sides[-1].append("|")
        sides[-1] += segment
    return (sides[0], sides[1]) if len(sides) == 2 else ([], sides[0])


def _step(number: str, steps: int, first_pass: int) -> int:
    value = max(-_MAX_STEP, min(_MAX_STEP, float(number)))
    if "." in number:
        value = (value - (1 if first_pass else 0)) * steps
    else:
        value -= first_pass
    return min(steps, int(value))


def _at(tree: list, step: int) -> str:
    """The text at a step, counted from 1."""
    texts, stack = [], [iter(tree)]
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
        elif isinstance(item, str):
            texts.append(item)
        elif isinstance(item, list):
            stack.append(iter(item))
        elif isinstance(item, _Switch):
            stack.append(iter(item.before if step <= item.when else item.after))
        else:
            stack.append(iter(item.choices[(step - 1) % len(item.choices)]))
    return "".join(texts)
