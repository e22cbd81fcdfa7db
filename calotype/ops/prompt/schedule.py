"""Prompts that change while the picture is drawn: `[from:to:when]`, `[to:when]`, `[from::when]`, `[a|b|c]`.

A text that is no such thing stays what it is: `[x]` is left for emphasis, `[a:b]` and brackets without a partner are
letters. Nothing here recurses, so a prompt may nest as deep as it likes.
"""

import re
from dataclasses import dataclass, field

_TOKENS = re.compile(r"\\.|\\|[()\[\]:|]|[^\\()\[\]:|]+", re.S)
_NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*")
_MOST = 10**6  # steps; beyond is never


@dataclass
class _Bracket:
    """An open bracket and what came after it. `parts` are split at each `:` and `|`, which stand in `signs`."""

    bracket: str
    parts: list[list] = field(default_factory=lambda: [[]])
    signs: list[str] = field(default_factory=list)

    def add(self, item: object) -> None:
        self.parts[-1].append(item)

    def split(self, sign: str) -> None:
        self.signs.append(sign)
        self.parts.append([])

    def plain(self) -> list:
        """The frame as letters, its bracket left open."""
        items: list = [self.bracket] if self.bracket else []
        for n, part in enumerate(self.parts):
            items += ([self.signs[n - 1]] if n else []) + part
        return items


@dataclass(frozen=True, eq=False)
class _Switch:
    before: list
    after: list
    when: int  # the last step that shows `before`


@dataclass(frozen=True, eq=False)
class _Turns:
    choices: list[list]


def schedule(prompt: str, steps: int, first_pass: int = 0) -> list[tuple[int, str]]:
    """What the prompt says, as (last step, text), steps counted from 1; the last entry ends at `steps`.

    `when` is a step, or with a point a fraction of all steps; the change comes after it.

    Args:
        first_pass: in the second pass of a hires fix, the steps of the first one: steps go on counting from there,
            and fractions from 1.0 to 2.0 are the second pass.
    """
    tree, edges = _parsed(prompt, steps, first_pass)
    found: list[tuple[int, str]] = []
    for step in sorted(edge for edge in edges if 1 <= edge <= steps):
        text = _at(tree, step)
        if found and found[-1][1] == text:
            found[-1] = (step, text)
        else:
            found.append((step, text))
    return found


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
    return stack[0].parts[0], edges


def _close(stack: list[_Bracket], bracket: str = "") -> None:
    """The innermost frame as letters, within the one around it."""
    frame = stack.pop()
    stack[-1].add([*frame.plain(), bracket])


def _open_square(stack: list[_Bracket]) -> int:
    """The place of the innermost open `[`; round brackets above it that were never closed are letters. 0: none."""
    depth = len(stack) - 1
    while depth and stack[depth].bracket != "[":
        depth -= 1
    return depth


def _closed(frame: _Bracket, steps: int, first_pass: int, edges: set[int]) -> object:
    """What `[ ... ]` is: a switch, turns, or letters."""
    colons = frame.signs.count(":")
    number = "".join(item for item in frame.parts[-1] if isinstance(item, str)) if colons in (1, 2) else ""
    if (found := _NUMBER.fullmatch(number)) and frame.signs[-1] == ":" and len(frame.parts[-1]) <= 1:
        when = _step(found[1], steps, first_pass)
        edges.add(when)
        before, after = _around(frame)
        return _Switch(before, after, when)
    if frame.signs and not colons:
        edges.update(range(1, steps + 1))
        return _Turns(frame.parts)
    return [*frame.plain(), "]"]


def _around(frame: _Bracket) -> tuple[list, list]:
    """Before and after of `before:after:when`, where a `|` between is a letter."""
    sides: list[list] = [[]]
    for n, part in enumerate(frame.parts[:-1]):
        if n and frame.signs[n - 1] == ":":
            sides.append([])
        elif n:
            sides[-1].append("|")
        sides[-1] += part
    return (sides[0], sides[1]) if len(sides) == 2 else ([], sides[0])


def _step(number: str, steps: int, first_pass: int) -> int:
    value = max(-_MOST, min(_MOST, float(number)))
    if "." in number:
        value = (value - (1 if first_pass else 0)) * steps
    else:
        value -= first_pass
    return min(steps, int(value))


def _at(tree: list, step: int) -> str:
    """The text at a step, counted from 1."""
    said, waiting = [], [iter(tree)]
    while waiting:
        item = next(waiting[-1], None)
        if item is None:
            waiting.pop()
        elif isinstance(item, str):
            said.append(item)
        elif isinstance(item, list):
            waiting.append(iter(item))
        elif isinstance(item, _Switch):
            waiting.append(iter(item.before if step <= item.when else item.after))
        else:
            waiting.append(iter(item.choices[(step - 1) % len(item.choices)]))
    return "".join(said)
