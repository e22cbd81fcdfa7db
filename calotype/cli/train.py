"""`calotype train`: training on photos."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calotype.cli.flags import OUTPUT_FLAGS, argument, flag, flags, given_options, hidden_flag, set_signature
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
    TrainRepairer,
    TrainRestorer,
    TrainUpscaler,
    note,
    read_task,
)

FILE = Path | None
FORMAT_OPTIONS = ("save_model_as", "save_format")  # options of the file format
MULTI_VALUE = ("--network-args", "--optimizer-args", "--lr-scheduler-args")
HELP = "Train on pictures: LoRAs, GANs, upscalers, face restorers, repairers, diffusion models."


def lora(**values: Any) -> int:
    """Train a LoRA of a person, an object or a style on a folder of photos.

    Options are named as in kohya's sd-scripts. The training state is saved regularly: after an interruption, the same
    command resumes. The file works in A1111, ComfyUI and diffusers, and here as <lora:NAME:1>.
    """
    settings, reporter = Settings.gather(given_options(Settings, values)), _reporter(values)
    return _run(_lora_task(values, reporter), settings, reporter)


def upscaler(**values: Any) -> int:
    """Fine-tune or train a Real-ESRGAN on a folder of sharp pictures.

    They are degraded as in Real-ESRGAN, and the network is trained to restore them. After an interruption, the same
    command resumes. The files work in upscale --model FILE, A1111, chaiNNer and upscayl.
    """
    return _run_enhancing("train_upscaler", TrainUpscaler, values)


def restorer(**values: Any) -> int:
    """Train a face restorer on a folder of sharp faces, or evaluate one with --evaluate.

    Faces are blurred, downscaled and made noisy as in GFPGAN, and the network is trained to restore them. The file
    works in restore --face-model FILE. After an interruption, the same command resumes.
    """
    return _run_enhancing("train_restorer", TrainRestorer, values)


def repairer(**values: Any) -> int:
    """Train a network that finds scratches, hairs and dust on a folder of sharp, undamaged photos.

    They are printed, scratched and dusted, and the network is trained to find that. The file works in
    restore --repair-model FILE. After an interruption, the same command resumes.
    """
    return _run_enhancing("train_repairer", TrainRepairer, values)


def _run_enhancing(kind: str, cls: type, values: dict[str, Any]) -> int:
    settings = Settings.gather(given_options(Settings, values))
    task = read_task(kind, _split_output_file({**given_options(cls, values), "photos": values["photos"]}, cls))
    return _run(task, settings, _reporter(values))


def _reporter(values: Mapping[str, Any]) -> Reporter:
    """The reporter; silent in all but the first of several processes."""
    from calotype.training.run.rank import rank

    return reporter_for(values if rank() == 0 else {"json": False, "quiet": True})


def gan(**values: Any) -> int:
    """Train a GAN, a generator against a discriminator, on the pictures in a folder.

    Snapshots are generated from the same latents during the run and become a film at its end.
    `calotype imagine --model FILE` generates pictures with the file. After an interruption, the same command resumes.
    With --demo it trains on smileys that come with the program.
    """
    settings = Settings.gather(given_options(Settings, values))
    task = read_task("train_gan", _split_output_file(given_options(TrainGan, values), TrainGan))
    return _run(task, settings, _reporter(values))


def diffusion(**values: Any) -> int:
    """Train a small Stable Diffusion on captioned pictures from scratch.

    A folder, or a .tar, contains NAME.png with NAME.txt beside it, each line a caption. Tokenizer, KL-VAE, text encoder
    and U-Net are trained in the --minutes given. After an interruption, the same command resumes. The result is a
    folder for calotype imagine --model FOLDER, and for diffusers.
    """
    settings = Settings.gather(given_options(Settings, values))
    task = read_task("train_diffusion", {**given_options(TrainDiffusion, values), "photos": values["photos"]})
    return _run(task, settings, _reporter(values))


def _run(task: Any, settings: Settings, reporter: Reporter) -> int:
    from calotype import runner
    from calotype.engine import Engine

    return show(runner.run(runner.Request((task,)), Engine(settings)), reporter)


def caption(**values: Any) -> int:
    """Write captions for training photos, or crop them around the face (--face).

    A caption consists of the trigger word, the name of the folder (10_anna person: "anna person") and, with --tagger,
    tags. It is a text file beside the photo; an existing one is kept, or gets the trigger word with --prefix. Photos
    are not changed.
    """
    settings = Settings.gather(given_options(Settings, values))
    task = read_task("caption", {**given_options(Caption, values), "photos": values["photos"]})
    return _run(task, settings, reporter_for(values))


def join_values(args: Sequence[str]) -> list[str]:
    """Joins `--network_args a=1 b=2`, several values of one flag as in sd-scripts, to one value."""
    words: list[str] = []
    is_open = has_value = False
    for word in args:
        is_assignment = re.match(r"\w+=", word)
        if word.startswith("-"):
            name, equals, _ = word.partition("=")
            is_open, has_value = name.replace("_", "-") in MULTI_VALUE, bool(equals)
        elif is_open and has_value and is_assignment:
            words[-1] += f" {word}"
            continue
        else:
            is_open, has_value = is_open and bool(is_assignment), True
        words.append(word)
    return words


def _lora_task(values: Mapping[str, Any], reporter: Reporter) -> TrainLora:
    """The task from the config file, if there is one, overridden by the command line."""
    from calotype.dialects.sd_scripts.config import read_config, translate
    from calotype.dialects.sd_scripts.dataset_config import with_defaults

    kohya = {name: values[name] for name in ("train_data_dir", *KOHYA_ONLY) if values[name] is not None}
    options, notes = translate(kohya | given_options(TrainLora, values), "the command line")
    options = _split_output_file(options, TrainLora)
    if values["config"] is not None:
        config = read_config(values["config"])
        notes = [*config.notes, *notes]
        options = config.under(options)
    if options.get("dataset_config") is not None:
        options, more = with_defaults(options)
        notes = [*notes, *more]
    for sentence in dict.fromkeys(notes):
        reporter.emit(note(sentence))
    return read_task("train_lora", options)


def _split_output_file(options: dict[str, Any], cls: type) -> dict[str, Any]:
    """Splits `-o folder/my.safetensors` into folder, name and, if there is a choice, file format."""
    path = Path(str(options.get("output_dir", "")))
    kinds = next(((s.name, about(s).choices) for s in visible(cls) if s.name in FORMAT_OPTIONS), ("", ("safetensors",)))
    kind = path.suffix.lower()[1:]
    if kind not in {*kinds[1]} - {"both"} or path.is_dir():
        return options
    for name, value in (("output_name", path.stem), (kinds[0], kind)):
        if name and options.get(name, value) != value:
            raise CalotypeError(
                "{option:out} {path} and {option} {given} do not agree; give one of them",
                option=name,
                path=path,
                given=options[name],
            )
        options = {**options, **({name: value} if name else {})}
    return {**options, "output_dir": path.parent}


def _kohya_only_options() -> list[str]:
    """Options of sd-scripts that Calotype does not have by that name; `translate` converts them."""
    ours = {name.replace("-", "_") for spec in visible(TrainLora) for name in (spec.name, *about(spec).aliases)}
    known = {*args.ALIASES, *args.IGNORED, *args.NOTES, *args.UNSUPPORTED, *args.EXPANDED}
    return sorted(known - ours - {"train_data_dir", "config_file"})


KOHYA_ONLY = _kohya_only_options()
set_signature(
    lora,
    argument("photos", Path | None, "folder with photos, or with N_name folders of them", "PHOTOS", None),
    flag(
        *("config", "options from a TOML or JSON file, or from a train.sh or train.ps1 (parsed, never run)"),
        *("--config", "--config-file"),
        kind=FILE,
    ),
    flag("train_data_dir", "PHOTOS, by sd-scripts' name", kind=FILE),
    *flags(TrainLora, Settings),
    *(hidden_flag(name, bool if name in args.SWITCHES else str) for name in KOHYA_ONLY),
    *OUTPUT_FLAGS,
)
set_signature(
    caption,
    argument("photos", Path, "folder with photos, or with N_name folders of them", "PHOTOS"),
    *flags(Caption, Settings),
    *OUTPUT_FLAGS,
)
set_signature(
    upscaler,
    argument("photos", Path, "folder with sharp pictures", "PHOTOS"),
    *flags(TrainUpscaler, Settings),
    *OUTPUT_FLAGS,
)
set_signature(
    restorer,
    argument("photos", Path, "folder with sharp faces", "FACES"),
    *flags(TrainRestorer, Settings),
    *OUTPUT_FLAGS,
)
set_signature(
    repairer,
    argument("photos", Path, "folder with sharp, undamaged photos", "PHOTOS"),
    *flags(TrainRepairer, Settings),
    *OUTPUT_FLAGS,
)
set_signature(
    gan,
    argument("photos", Path | None, "folder with pictures, subfolders included", "FOLDER", None),
    *flags(TrainGan, Settings),
    *OUTPUT_FLAGS,
)
set_signature(
    diffusion,
    argument("photos", Path, "folder of captioned pictures, or a .tar of them", "PICTURES"),
    *flags(TrainDiffusion, Settings),
    *OUTPUT_FLAGS,
)
COMMANDS = (lora, caption, gan, upscaler, restorer, repairer, diffusion)
