"""Weights in prompts of other programs, in A1111's syntax."""

import re

MAX_PROMPT = 100_000  # characters; what is longer is not converted, and too long to draw
_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,6})?|\.\d{1,6}")
_SIGNS = re.compile(r"\++|-+")
_WORD = re.compile(r"(?<![\w+-])([\w']+)(\++|-+)(?![\w+-])")


def from_comfyui(text: str) -> str:
    """In ComfyUI square brackets are letters; `(x)` and `(x:1.2)` are as in A1111."""
    return re.sub(r"(?<!\\)([\[\]])", r"\\\1", text)


def from_compel(text: str) -> str:
    """InvokeAI's Compel: `word++`, `(two words)-`, `(two words)1.3`; a `+` is 1.1, a `-` 0.9, `(x)` alone is `x`."""
    if len(text) > MAX_PROMPT:
        return text
    text = _WORD.sub(lambda match: f"({match[1]}:{_power(match[2]):.4g})", from_comfyui(text))
    out: list[str] = []
    opened: list[int] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            out.append(text[at : at + 2])
            at += 2
            continue
        if char == "(":
            opened.append(len(out))
            out.append("(")
        elif char == ")" and opened:
            start = opened.pop()
            weight, at = _weight_behind(text, at + 1, "".join(out[start:]))
            out[start] = "(" if weight else ""
            out.append(weight)
            continue
        elif char != ")":
            out.append(char)
        at += 1
    for start in opened:
        out[start] = ""
    return "".join(out)


def _weight_behind(text: str, at: int, inside: str) -> tuple[str, int]:
    """The end of a weighted part, and where the text goes on; empty for parentheses without a weight."""
    if match := _SIGNS.match(text, at):
        return f":{_power(match[0]):.4g})", match.end()
    if match := _NUMBER.match(text, at):
        return f":{float(match[0]):.4g})", match.end()
    already = re.search(r":\d+(?:\.\d+)?$", inside)  # A1111's own syntax, or that of `_WORD`
    return (")" if already else ""), at


def _power(signs: str) -> float:
    return (1.1 if signs[0] == "+" else 0.9) ** min(len(signs), 20)
