"""`calotype lora`: what LoRA files are, and making others of them."""

from typing import Any

from calotype.cli.flags import TELL, argument, flag, flags, given, shape
from calotype.cli.show import print_json, reporter_for, show, table
from calotype.settings import Settings
from calotype.tasks import TASKS, read_task

HELP = "Look into LoRA files, merge, resize, extract and convert them."
TAGS = 30  # words that are shown of a folder; --json has them all


def info(**values: Any) -> int:
    """Tell what a LoRA is: base, ranks, trigger words, how it was trained, hashes."""
    from calotype.checkpoints.lora.info import describe
    from calotype.checkpoints.models import Models
    from calotype.pipelines.lora_tools import read_lora, tag_counts

    adapter = read_lora(values["lora"], Models(Settings.gather(given(Settings, values))))
    facts, tags = describe(adapter), tag_counts(adapter.metadata)
    if values["json"]:
        print_json({**facts, "tags": tags, "metadata": dict(adapter.metadata)})
        return 0
    parts, settings = facts.pop("parts"), facts.pop("settings")
    rows = [[name.replace("_", " "), _told(value)] for name, value in facts.items() if value not in ("", 0, [])]
    table("", ["", ""], rows)
    print()
    cells = [[name, part["modules"], _span(part["ranks"]), _span(part["alphas"])] for name, part in parts.items()]
    table("", ["part", "modules", "rank", "alpha"], cells)
    if tags:
        print()
        table("trained on", ["", ""], [[folder, _commonest(counts)] for folder, counts in tags.items()])
    if settings:
        print()
        table("settings", ["", ""], [[name.replace("_", " "), value[:200]] for name, value in settings.items()])
    return 0


def merge(**values: Any) -> int:
    """Make one LoRA of several, or put them into a checkpoint for good.

    Without --rank the result is exact, and the ranks add up. A checkpoint draws afterwards as with the LoRAs at these
    weights.
    """
    return _run("merge_lora", values, {"loras": tuple(values["loras"])})


def resize(**values: Any) -> int:
    """Give a LoRA a lower rank, by singular values, so that its file is smaller."""
    return _run("resize_lora", values, {"lora": values["lora"]})


def extract(**values: Any) -> int:
    """Make a LoRA of what one checkpoint has learnt beyond another."""
    return _run("extract_lora", values, {"tuned": values["tuned"], "base": values["base"]})


def convert(**values: Any) -> int:
    """Write a LoRA as kohya's programs, diffusers or peft want it. No bit of the weights changes.

    For peft the result is a folder, with a folder in it for each part of the model. diffusers before 0.35 does not
    read alpha from such a file.
    """
    return _run("convert_lora", values, {"lora": values["lora"]})


def _run(kind: str, values: dict[str, Any], named: dict[str, Any]) -> int:
    settings = Settings.gather(given(Settings, values))
    task = read_task(kind, {**given(TASKS[kind], values), **named})
    from calotype import runner
    from calotype.engine import Engine

    return show(runner.run(runner.Request((task,)), Engine(settings)), reporter_for(values))


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _span(numbers: list[float]) -> str:
    if len(numbers) > 3:
        return f"{numbers[0]:g} to {numbers[-1]:g}"
    return ", ".join(f"{number:g}" for number in numbers)


def _commonest(counts: dict[str, int]) -> str:

    first = sorted(counts.items(), key=lambda pair: -pair[1])
    rest = f", and {len(first) - TAGS} more" if len(first) > TAGS else ""
    return ", ".join(f"{tag} ({count})" for tag, count in first[:TAGS]) + rest


LORA = argument("lora", str, "file, or name in the list of models", "LORA")
SEVERAL = argument(
    "loras", list[str], "files or names, each with its weight such as my.safetensors:0.8", "LORA[:WEIGHT]"
)
TUNED = argument("tuned", str, "the checkpoint that has learnt: a name, a file or a diffusers folder", "TUNED")
BASE = argument("base", str, "the checkpoint that it began with", "BASE")
shape(info, LORA, flag("json", "as JSON, with all metadata"), *flags(Settings))
shape(merge, SEVERAL, *flags(TASKS["merge_lora"], Settings), *TELL)
shape(resize, LORA, *flags(TASKS["resize_lora"], Settings), *TELL)
shape(extract, TUNED, BASE, *flags(TASKS["extract_lora"], Settings), *TELL)
shape(convert, LORA, *flags(TASKS["convert_lora"], Settings), *TELL)
COMMANDS = (info, merge, resize, extract, convert)
