"""`calotype lora`: tools for LoRA files."""

from typing import Any

from calotype.cli.flags import OUTPUT_FLAGS, argument, flag, flags, given_options, set_signature
from calotype.cli.show import print_json, reporter_for, show, table
from calotype.settings import Settings
from calotype.tasks import TASKS, read_task

HELP = "Inspect, merge, resize, extract and convert LoRA files."
TAGS = 30  # shown per folder; --json has all


def info(**values: Any) -> int:
    """Show the base model, ranks, trigger words, training settings and hashes of a LoRA."""
    from calotype.checkpoints.lora.info import describe
    from calotype.checkpoints.models import Models
    from calotype.pipelines.lora_tools import read_lora, tag_counts

    adapter = read_lora(values["lora"], Models(Settings.gather(given_options(Settings, values))))
    facts, tags = describe(adapter), tag_counts(adapter.metadata)
    if values["json"]:
        print_json({**facts, "tags": tags, "metadata": dict(adapter.metadata)})
        return 0
    parts, settings = facts.pop("parts"), facts.pop("settings")
    rows = [[name.replace("_", " "), _as_text(value)] for name, value in facts.items() if value not in ("", 0, [])]
    table("", ["", ""], rows)
    print()
    cells = [
        [name, part["modules"], _range_text(part["ranks"]), _range_text(part["alphas"])] for name, part in parts.items()
    ]
    table("", ["part", "modules", "rank", "alpha"], cells)
    if tags:
        print()
        table("trained on", ["", ""], [[folder, _top_tags(counts)] for folder, counts in tags.items()])
    if settings:
        print()
        table("settings", ["", ""], [[name.replace("_", " "), value[:200]] for name, value in settings.items()])
    return 0


def merge(**values: Any) -> int:
    """Merge LoRAs into one, or fuse them into a checkpoint.

    Without --rank the result is exact, and the ranks add up. A fused checkpoint gives the same pictures as with the
    LoRAs at these weights.
    """
    return _run("merge_lora", values, {"loras": tuple(values["loras"])})


def resize(**values: Any) -> int:
    """Reduce the rank of a LoRA by SVD, so that its file is smaller."""
    return _run("resize_lora", values, {"lora": values["lora"]})


def extract(**values: Any) -> int:
    """Extract a LoRA from the difference of two checkpoints."""
    return _run("extract_lora", values, {"tuned": values["tuned"], "base": values["base"]})


def convert(**values: Any) -> int:
    """Convert a LoRA to the key names of kohya's programs, diffusers or peft. The weights stay bit-exact.

    For peft the result is a folder with a subfolder per model component. diffusers before 0.35 does not read alpha from
    such a file.
    """
    return _run("convert_lora", values, {"lora": values["lora"]})


def _run(kind: str, values: dict[str, Any], named: dict[str, Any]) -> int:
    settings = Settings.gather(given_options(Settings, values))
    task = read_task(kind, {**given_options(TASKS[kind], values), **named})
    from calotype import runner
    from calotype.engine import Engine

    return show(runner.run(runner.Request((task,)), Engine(settings)), reporter_for(values))


def _as_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _range_text(numbers: list[float]) -> str:
    if len(numbers) > 3:
        return f"{numbers[0]:g} to {numbers[-1]:g}"
    return ", ".join(f"{number:g}" for number in numbers)


def _top_tags(counts: dict[str, int]) -> str:

    by_count = sorted(counts.items(), key=lambda pair: -pair[1])
    rest = f", and {len(by_count) - TAGS} more" if len(by_count) > TAGS else ""
    return ", ".join(f"{tag} ({count})" for tag, count in by_count[:TAGS]) + rest


LORA = argument("lora", str, "file, or name in the list of models", "LORA")
LORAS = argument("loras", list[str], "files or names, each with its weight such as my.safetensors:0.8", "LORA[:WEIGHT]")
TUNED = argument("tuned", str, "fine-tuned checkpoint: a name, a file or a diffusers folder", "TUNED")
BASE = argument("base", str, "base checkpoint it was fine-tuned from", "BASE")
set_signature(info, LORA, flag("json", "as JSON, with all metadata"), *flags(Settings))
set_signature(merge, LORAS, *flags(TASKS["merge_lora"], Settings), *OUTPUT_FLAGS)
set_signature(resize, LORA, *flags(TASKS["resize_lora"], Settings), *OUTPUT_FLAGS)
set_signature(extract, TUNED, BASE, *flags(TASKS["extract_lora"], Settings), *OUTPUT_FLAGS)
set_signature(convert, LORA, *flags(TASKS["convert_lora"], Settings), *OUTPUT_FLAGS)
COMMANDS = (info, merge, resize, extract, convert)
