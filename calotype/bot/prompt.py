"""Prompts as Midjourney writes them, read as options of `Imagine`.

`{red, blue} apple::2 background::-.5 --ar 3:2 --no text`: permutations in braces become prompts of their own, parts
with weights become sub-prompts joined by AND, and parameters stand at the end.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from calotype.errors import CalotypeError, Message
from calotype.options import nearest, option, shown

MAX_PROMPTS = 40  # of one command, by permutations and --repeat
MAX_DEPTH = 8  # of braces within braces
MAX_LENGTH = 6000  # characters of one, as Discord's longest option
COUNT = 4  # pictures of a grid
SIZE, STEPS = 512, 20  # of a model that the table says nothing about
DRAFT_STEPS = 0.4  # of the usual ones
STEP = 64  # sizes are multiples of it
MAX_SEED = 2**32 - 1
LONGEST_RATIO = 8  # of sides

NO_EFFECT = frozenset(
    (
        *("cref", "cw", "exp", "fast", "hd", "motion", "oref", "ow", "p", "profile", "public", "raw", "relax"),
        *("sref", "stealth", "style", "sv", "sw", "turbo", "video"),
    )
)
SHORT = {"c": "chaos", "s": "stylize", "w": "weird", "q": "quality", "r": "repeat", "version": "v", "aspect": "ar"}
_PARAMETER = re.compile(r"(?:(?<=\s)|^)(?:--|—)(?=[a-zA-Z])")  # phones write -- as a dash
_WEIGHT = re.compile(r"::\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+))?(?!:)")


@dataclass(frozen=True)
class ModelRow:
    """What a word after `--v` or `--niji` means: a row of the table that the owner edits."""

    model: str = option("", "name of the model")
    size: int = option(SIZE, "side of its square pictures in pixels", min=64, max=4096)
    steps: int = option(STEPS, "its usual steps", min=1, max=1000)
    prompt: str = option("", "appended to the prompt: the style, for a model of several", max_length=200)


@dataclass(frozen=True)
class ImaginePrompt:
    """One prompt of a command.

    Attributes:
        text: as it was written, without permutations and --repeat: what a remix begins with.
        task: options of `Imagine`.
        image_weight: of --iw; None if not given.
        repeat: how many jobs are asked for.
        notes: how parameters were understood that Calotype does not have.
    """

    text: str
    task: Mapping[str, Any]
    image_weight: float | None = None
    repeat: int = 1
    notes: tuple[Message, ...] = ()


@dataclass
class _Reading:
    """What the parameters of one prompt have said so far."""

    row: ModelRow
    rows: Mapping[str, ModelRow]
    task: dict[str, Any] = field(default_factory=dict)
    notes: list[Message] = field(default_factory=list)
    ratio: Fraction = Fraction(1)
    steps: float = 1.0  # factor
    repeat: int = 1
    image_weight: float | None = None


def read_prompts(text: str, rows: Mapping[str, ModelRow], usual: ModelRow | None = None) -> list[ImaginePrompt]:
    """All prompts of a command.

    Args:
        rows: by what they are called: "v 6", "niji".
        usual: where neither --v nor --niji is given.
    Raises:
        CalotypeError: an unknown or repeated parameter, a value out of range, too many prompts.
    """
    if len(text) > MAX_LENGTH:
        raise CalotypeError("{option} takes up to {limit:,} characters", option="prompt", limit=MAX_LENGTH)
    prompts = [read_prompt(part, rows, usual or ModelRow()) for part in permutations(text)]
    if (count := sum(prompt.repeat for prompt in prompts)) > MAX_PROMPTS:
        raise _too_many(count)
    return prompts


def permutations(text: str) -> list[str]:
    r"""`{red, blue} apple` as `red apple` and `blue apple`; braces may be nested, `\{`, `\}` and `\,` are literal.

    Raises:
        CalotypeError: a brace without its other half, too many braces within each other, or too many prompts.
    """
    choices, rest = _alternatives(text, 0, depth=0)
    assert rest == len(text)
    return list(dict.fromkeys(" ".join(choice.split()) for choice in choices))


def _alternatives(text: str, at: int, depth: int) -> tuple[list[str], int]:
    """The texts from a place to its closing brace or the end, and where that is. `depth`: of open braces."""
    if depth > MAX_DEPTH:
        raise CalotypeError(
            "braces in the prompt go up to {limit} deep; write fewer within each other", limit=MAX_DEPTH
        )
    done: list[str] = []
    current = [""]
    while at < len(text):
        char = text[at]
        if char == "\\" and text[at + 1 : at + 2] in ("{", "}", ","):
            current, at = [choice + text[at + 1] for choice in current], at + 2
        elif char == "{":
            inner, at = _alternatives(text, at + 1, depth + 1)
            current = _limited([before + choice for before in current for choice in inner])
        elif char == "}" and depth:
            return _limited(done + current), at + 1
        elif char == "}":
            raise CalotypeError("a closing brace in the prompt has no opening one; write \\}} for a brace itself")
        elif char == "," and depth:
            done, current, at = _limited(done + current), [""], at + 1
        else:
            current, at = [choice + char for choice in current], at + 1
    if depth:
        raise CalotypeError("an opening brace in the prompt is not closed; write \\{{ for a brace itself")
    return current, at


def _limited(choices: list[str]) -> list[str]:
    if len(choices) > MAX_PROMPTS:
        raise _too_many(len(choices))
    return choices


def _too_many(count: int) -> CalotypeError:
    return CalotypeError(
        "this makes {count} prompts or more, and one command takes up to {limit}; write fewer alternatives",
        count=count,
        limit=MAX_PROMPTS,
    )


def literal(text: str) -> str:
    """A prompt whose braces are characters, as it is written in a command."""
    return re.sub(r"[{}]", r"\\\g<0>", text)


def read_prompt(text: str, rows: Mapping[str, ModelRow], usual: ModelRow) -> ImaginePrompt:
    """One prompt, in which braces are characters. Raises CalotypeError as `read_prompts` does."""
    words, *parameters = _PARAMETER.split(text)
    reading, given = _Reading(usual, rows), set()
    for parameter in parameters:
        name, _, value = parameter.strip().partition(" ")
        name, value = SHORT.get(name.lower(), name.lower()), value.strip()
        if name in given and name != "no":
            raise CalotypeError("--{name} stands twice in the prompt; give it once", name=name)
        given.add(name)
        _apply(reading, name, value)
    if {"v", "niji"} <= given:
        raise CalotypeError(
            "--{first} and --{second} both choose the model; give one of them", first="v", second="niji"
        )
    return _finished(reading, words.strip(), text)


def _apply(reading: _Reading, name: str, value: str) -> None:
    if name in NO_EFFECT:
        reading.notes.append(Message("--{name} has no effect here", name=name))
    elif name in FLAG_READERS:
        if value:
            raise CalotypeError("--{name} takes no value; the words of the prompt stand before it", name=name)
        FLAG_READERS[name](reading)
    elif name in READERS:
        READERS[name](reading, value)
    else:
        hint = nearest(name, [*READERS, *FLAG_READERS, *SHORT])
        raise CalotypeError("there is no parameter --{name}{hint}", name=shown(name).strip("'\""), hint=hint)


def _finished(reading: _Reading, words: str, text: str) -> ImaginePrompt:
    row, task = reading.row, reading.task
    if row.prompt:
        words = f"{words}, {row.prompt}" if words else row.prompt
    if not words:
        raise CalotypeError("the prompt has no words; write what the picture shows")
    task["prompt"] = weighted(words)
    task["count"] = COUNT
    if row.model:
        task["model"] = row.model
    if reading.ratio != 1:
        task["size"] = size_of(reading.ratio, row.size)
    if reading.steps != 1:
        task["steps"] = max(1, round(row.steps * reading.steps))
    return ImaginePrompt(without_repeat(text), task, reading.image_weight, reading.repeat, tuple(reading.notes))


def without_repeat(text: str) -> str:
    """A prompt without --repeat."""
    first, *parameters = _PARAMETER.split(text)
    kept = [part.strip() for part in parameters if part.partition(" ")[0].lower() not in ("repeat", "r")]
    return " --".join([first.strip(), *kept]).strip()


def weighted(words: str) -> str:
    """`a::2 b::-.5` as sub-prompts joined by AND, whose weights sum up to 1 and keep their proportions.

    Two colons inside square brackets belong to a schedule, as in `[fog::10]`.
    """
    parts = list(_parts(words))
    if len(parts) == 1 and parts[0][1] == 1.0:
        return parts[0][0]
    total = sum(weight for _, weight in parts)
    if total <= 0 or not math.isfinite(total):
        raise CalotypeError("the weights of the prompt sum up to {total:g}; make the sum positive", total=total)
    return " AND ".join(f"{part} :{_number(weight / total)}" for part, weight in parts)


def _parts(words: str) -> Iterator[tuple[str, float]]:
    start = depth = at = 0
    while at < len(words):
        depth = max(0, depth + {"[": 1, "]": -1}.get(words[at], 0))
        match = None if depth else _WEIGHT.match(words, at)
        if match:
            if not (part := words[start:at].strip()):
                raise CalotypeError("there are no words before the :: in the prompt; write what it weighs")
            yield part, float(match[1]) if match[1] else 1.0
            start = at = match.end()
        else:
            at += 1
    if rest := words[start:].strip():
        yield rest, 1.0


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


def size_of(ratio: Fraction, side: int) -> str:
    """WxH of about the area of a square with this side, in multiples of 64, or less for a small side."""
    step = STEP if side >= SIZE else STEP // 2 if side >= SIZE // 2 else STEP // 4
    root = math.sqrt(ratio)
    width, height = (max(step, round(side * factor / step) * step) for factor in (root, 1 / root))
    return f"{width}x{height}"


# Parameters


def _ar(reading: _Reading, value: str) -> None:
    match = re.fullmatch(r"(\d{1,4}):(\d{1,4})", value)
    if not match or not int(match[1]) or not int(match[2]):
        raise CalotypeError(
            "--{name} is such as 3:2, width to height in whole numbers, not {value}", name="ar", value=shown(value)
        )
    reading.ratio = Fraction(int(match[1]), int(match[2]))
    if not 1 / LONGEST_RATIO <= reading.ratio <= LONGEST_RATIO:
        raise CalotypeError("--{name} goes up to {limit}:1 and down to 1:{limit}", name="ar", limit=LONGEST_RATIO)


def _seed(reading: _Reading, value: str) -> None:
    reading.task["seed"] = int(_in_range("seed", value, 0, MAX_SEED, is_whole=True))


def _no(reading: _Reading, value: str) -> None:
    if not value:
        raise CalotypeError("--{name} takes what the picture is not to show, such as --{name} text, frame", name="no")
    before = reading.task.get("negative")
    reading.task["negative"] = f"{before}, {value}" if before else value


def _chaos(reading: _Reading, value: str) -> None:
    chaos = _in_range("chaos", value, 0, 100)
    if chaos:
        reading.task["variation"] = chaos / 100
        reading.notes.append(
            Message("--{name} {chaos:g} mixes {chaos:g} % of another seed's noise in", name="chaos", chaos=chaos)
        )


def _stylize(reading: _Reading, value: str) -> None:
    stylize = _in_range("stylize", value, 0, 1000)
    guidance = round(10 - 3 * stylize / 100 if stylize <= 100 else 7 - 4 * (stylize - 100) / 900, 1)
    reading.task["guidance"] = guidance
    reading.notes.append(
        Message(
            "--{name} {stylize:g} is a guidance scale of {guidance:g}",
            name="stylize",
            stylize=stylize,
            guidance=guidance,
        )
    )


def _weird(reading: _Reading, value: str) -> None:
    weird = _in_range("weird", value, 0, 3000)
    if weird:
        rescale = round(weird / 3000, 2)
        reading.task["rescale"] = rescale
        reading.notes.append(
            Message(
                "--{name} {weird:g} is a guidance rescale of {rescale:g}", name="weird", weird=weird, rescale=rescale
            )
        )


def _image_weight(reading: _Reading, value: str) -> None:
    reading.image_weight = _in_range("iw", value, 0, 3)


def _repeat(reading: _Reading, value: str) -> None:
    reading.repeat = int(_in_range("repeat", value, 1, MAX_PROMPTS, is_whole=True))


def _stop(reading: _Reading, value: str) -> None:
    stop = _in_range("stop", value, 10, 100)
    reading.steps *= stop / 100
    if stop < 100:
        reading.notes.append(Message("--{name} {stop:g} takes {stop:g} % of the steps", name="stop", stop=stop))


def _quality(reading: _Reading, value: str) -> None:
    reading.steps *= _in_range("quality", value, 0.25, 4)


def _version(kind: str) -> Callable[[_Reading, str], None]:
    def apply(reading: _Reading, value: str) -> None:
        name = f"{kind} {value}".strip().lower()
        if name not in reading.rows:
            known = sorted(row for row in reading.rows if row.split()[0] in ("v", "niji"))
            raise CalotypeError(
                "--{name} stands for no model here; these do: {known}",
                name=shown(name).strip("'\""),
                known=", ".join(f"--{row}" for row in known) or "–",
            )
        reading.row = reading.rows[name]

    return apply


def _tile(reading: _Reading) -> None:
    reading.task["tiling"] = True


def _draft(reading: _Reading) -> None:
    reading.steps *= DRAFT_STEPS
    reading.notes.append(Message("--{name} takes {percent:g} % of the steps", name="draft", percent=DRAFT_STEPS * 100))


def _in_range(name: str, value: str, low: float, high: float, is_whole: bool = False) -> float:
    """Raises CalotypeError: no number, or out of range."""
    pattern = r"\d{1,12}" if is_whole else r"\d{1,12}(?:\.\d{0,12})?|\.\d{1,12}"
    if not re.fullmatch(pattern, value, re.ASCII) or not low <= float(value) <= high:
        template = (
            "--{name} is a whole number from {low} up to {high}, not {value}"
            if is_whole
            else "--{name} is a number from {low:g} up to {high:g}, not {value}"
        )
        raise CalotypeError(template, name=name, low=low, high=high, value=shown(value))
    return float(value)


READERS: dict[str, Callable[[_Reading, str], None]] = {
    "ar": _ar,
    "seed": _seed,
    "no": _no,
    "chaos": _chaos,
    "stylize": _stylize,
    "weird": _weird,
    "iw": _image_weight,
    "repeat": _repeat,
    "stop": _stop,
    "quality": _quality,
    "v": _version("v"),
    "niji": _version("niji"),
}
FLAG_READERS: dict[str, Callable[[_Reading], None]] = {"tile": _tile, "draft": _draft}  # they take no value
