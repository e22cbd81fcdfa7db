"""`calotype train`: learning from photos."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calotype.cli.flags import TELL, argument, flag, flags, given, hidden, shape
from calotype.cli.show import Reporter, reporter_for, show
from calotype.dialects.sd_scripts import args
from calotype.errors import CalotypeError
from calotype.options import about, visible
from calotype.settings import Settings
from calotype.tasks import (
    Caption,
    TrainDiffusion,
    TrainGan,
    TrainLora,
    TrainRestorer,
    TrainUpscaler,
    note,
    read_task,
)

FILE = Path | None
KINDS = ("save_model_as", "save_format")  # options that choose the kind of file
SEVERAL = ("--network-args", "--optimizer-args", "--lr-scheduler-args")
HELP = "Learn from pictures: a face, thing or style, to forge pictures, to enlarge them, to restore faces."


def lora(**values: Any) -> int:
    """Learn a face, a thing or a style as a LoRA, from a folder of photos.

    Options are called as in kohya's sd-scripts. What is learnt is saved again and again: after an interruption, the
    same command goes on where it was. The file works in A1111, ComfyUI and diffusers, and here as <lora:NAME:1>.
    """
    settings, reporter = Settings.gather(given(Settings, values)), _reporter(values)
    return _run(_task(values, reporter), settings, reporter)


def upscaler(**values: Any) -> int:
    """Fine-tune or train a Real-ESRGAN on a folder of sharp pictures.

    They are made worse in Real-ESRGAN's way, and the network learns to make them good again. After an interruption,
    the same command goes on where it was. The files work in upscale --model FILE, A1111, chaiNNer and upscayl.
    """
    return _from_photos("train_upscaler", TrainUpscaler, values)


def restorer(**values: Any) -> int:
    """Learn to restore faces, from a folder of sharp ones, or measure with --evaluate how well a network does.

    Faces are blurred, shrunk and made noisy in GFPGAN's way, and the network learns to make them good again. The file
    works in restore --face-model FILE. After an interruption, the same command goes on where it was.
    """
    return _from_photos("train_restorer", TrainRestorer, values)


def _from_photos(kind: str, cls: type, values: dict[str, Any]) -> int:
    settings = Settings.gather(given(Settings, values))
    task = read_task(kind, _as_file({**given(cls, values), "photos": values["photos"]}, cls))
    return _run(task, settings, _reporter(values))


def _reporter(values: Mapping[str, Any]) -> Reporter:
    """Of several processes one speaks."""
    from calotype.training.run.rank import rank

    return reporter_for(values if rank() == 0 else {"json": False, "quiet": True})


def gan(**values: Any) -> int:
    """Learn to forge pictures like those in a folder: two networks at war, a forger and an expert.

    From the same latents it draws the same forgeries again and again, and at the end makes a film of them in which they
    become real. `calotype imagine --model FILE` draws from the file that is learnt. After an interruption, the same
    command goes on where it was. With --demo it learns from smileys that come with the program.
    """
    settings = Settings.gather(given(Settings, values))
    task = read_task("train_gan", _as_file(given(TrainGan, values), TrainGan))
    return _run(task, settings, _reporter(values))


def diffusion(**values: Any) -> int:
    """Learn to draw from captioned pictures alone: Stable Diffusion in miniature, from nothing.

    A folder, or a .tar, holds NAME.png with NAME.txt beside it, each line a caption. Tokenizer, KL-VAE, text encoder
    and U-Net are learnt in the --minutes given. After an interruption, the same command goes on where it was. What
    comes of it is a folder for calotype imagine --model FOLDER, and for diffusers.
    """
    settings = Settings.gather(given(Settings, values))
    task = read_task("train_diffusion", {**given(TrainDiffusion, values), "photos": values["photos"]})
    return _run(task, settings, _reporter(values))


def _run(task: Any, settings: Settings, reporter: Reporter) -> int:
    from calotype import runner
    from calotype.engine import Engine

    return show(runner.run(runner.Request((task,)), Engine(settings)), reporter)


def caption(**values: Any) -> int:
    """Write captions for photos to learn from, or crop them around the face (--face).

    A caption is made of the trigger word, what the folder is called (10_anna person: "anna person") and, with
    --tagger, tags. It is a text file beside the photo; one that is there stays, or gets the trigger word with --prefix.
    Photos are only read.
    """
    settings = Settings.gather(given(Settings, values))
    task = read_task("caption", {**given(Caption, values), "photos": values["photos"]})
    return _run(task, settings, reporter_for(values))


def joined(args: Sequence[str]) -> list[str]:
    """`--network_args a=1 b=2`, several words behind one flag as sd-scripts has them, as one word."""
    found: list[str] = []
    is_open = has_value = False
    for word in args:
        is_assignment = re.match(r"\w+=", word)
        if word.startswith("-"):
            name, equals, _ = word.partition("=")
            is_open, has_value = name.replace("_", "-") in SEVERAL, bool(equals)
        elif is_open and has_value and is_assignment:
            found[-1] += f" {word}"
            continue
        else:
            is_open, has_value = is_open and bool(is_assignment), True
        found.append(word)
    return found


def _task(values: Mapping[str, Any], reporter: Reporter) -> TrainLora:
    """From the settings file, if there is one; the command line wins over it."""
    from calotype.dialects.sd_scripts.config import read_config, translated

    kohyas = {name: values[name] for name in ("train_data_dir", *KOHYAS) if values[name] is not None}
    found, notes = translated(kohyas | given(TrainLora, values), "the command line")
    found = _as_file(found, TrainLora)
    if values["config"] is not None:
        config = read_config(values["config"])
        notes = [*config.notes, *notes]
        found = config.under(found)
    for sentence in dict.fromkeys(notes):
        reporter.emit(note(sentence))
    if "photos" not in found:
        raise CalotypeError("give the folder with your photos: {task:train_lora} PHOTOS")
    return read_task("train_lora", found)


def _as_file(found: dict[str, Any], cls: type) -> dict[str, Any]:
    """`-o folder/my.safetensors` tells folder, name and, where there are several, kind of file."""
    path = Path(str(found.get("output_dir", "")))
    kinds = next(((s.name, about(s).choices) for s in visible(cls) if s.name in KINDS), ("", ("safetensors",)))
    kind = path.suffix.lower()[1:]
    if kind not in {*kinds[1]} - {"both"} or path.is_dir():
        return found
    for name, value in (("output_name", path.stem), (kinds[0], kind)):
        if name and found.get(name, value) != value:
            raise CalotypeError(
                "{option:out} {path} and {option} {given} do not agree; give one of them",
                option=name,
                path=path,
                given=found[name],
            )
        found = {**found, **({name: value} if name else {})}
    return {**found, "output_dir": path.parent}


def _kohyas() -> list[str]:
    """Options that sd-scripts has and we have by no such name; what becomes of them, the reader of configs knows."""

    ours = {other.replace("-", "_") for spec in visible(TrainLora) for other in (spec.name, *about(spec).aliases)}
    known = {*args.ALIASES, *args.NEEDLESS, *args.SAID, *args.BEYOND, *args.SPREAD}
    return sorted(known - ours - {"train_data_dir", "config_file"})


KOHYAS = _kohyas()
shape(
    lora,
    argument("photos", Path | None, "folder with photos, or with N_name folders of them", "PHOTOS", None),
    flag(
        *("config", "settings from a TOML file, or from lora-scripts' train.sh or train.ps1 (read, never run)"),
        *("--config", "--config-file"),
        kind=FILE,
    ),
    flag("train_data_dir", "PHOTOS, as sd-scripts calls it", kind=FILE),
    *flags(TrainLora, Settings),
    *(hidden(name, bool if name in args.SWITCHES else str) for name in KOHYAS),
    *TELL,
)
shape(
    caption,
    argument("photos", Path, "folder with photos, or with N_name folders of them", "PHOTOS"),
    *flags(Caption, Settings),
    *TELL,
)
shape(
    upscaler,
    argument("photos", Path, "folder with sharp pictures", "PHOTOS"),
    *flags(TrainUpscaler, Settings),
    *TELL,
)
shape(
    restorer,
    argument("photos", Path, "folder with sharp faces", "FACES"),
    *flags(TrainRestorer, Settings),
    *TELL,
)
shape(
    gan,
    argument("photos", Path | None, "folder with pictures; its sub-folders count too", "FOLDER", None),
    *flags(TrainGan, Settings),
    *TELL,
)
shape(
    diffusion,
    argument("photos", Path, "folder of captioned pictures, or a .tar of them", "PICTURES"),
    *flags(TrainDiffusion, Settings),
    *TELL,
)
COMMANDS = (lora, caption, gan, upscaler, restorer, diffusion)
