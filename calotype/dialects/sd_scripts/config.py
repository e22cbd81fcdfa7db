"""Config files of lora-scripts, sd-scripts and kohya_ss as options of TrainLora: TOML, train.sh, train.ps1, JSON."""

import json
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.dialects.sd_scripts import args
from calotype.dialects.sd_scripts.kohya_ss import is_form, options_of_form
from calotype.dialects.sd_scripts.powershell import read_powershell
from calotype.dialects.sd_scripts.shell import read_shell
from calotype.dialects.sd_scripts.words import LISTS, TRAINERS, Unreadable, check_kind, parse_arguments
from calotype.errors import CalotypeError, Message, listed
from calotype.files import read_text
from calotype.options import checked, nearest, visible
from calotype.tasks.training import MODULES, TrainLora, network_arguments, split_arguments

MAX_BYTES = 1_000_000  # usual files have a few thousand
CONFIG_FILE = Message("a config file")
READERS: dict[str, Callable[[str], tuple[list[str], list[str]]]] = {".sh": read_shell, ".ps1": read_powershell}
PATHS = (
    "model",
    "vae",
    "photos",
    "regular",
    "output_dir",
    "network_weights",
    "resume",
    "dataset_config",
    "conditioning_data_dir",
    "in_json",
    "logging_dir",
    "sample_prompts",
)
WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
TOKEN_LENGTHS = (75, 150, 225)  # values of max_token_length
MAX_PARENTS = 3  # lora-scripts' autosaves lie two folders below the one that their paths are relative to


@dataclass(frozen=True)
class Config:
    """The content of a config file: options of TrainLora, and notes about what is not followed."""

    options: dict[str, Any]
    notes: tuple[Message, ...] = ()

    def under(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options, overridden by those of the command line; its epochs also override the file's steps."""
        options = dict(self.options)
        if "max_train_epochs" in given:
            options.pop("max_train_steps", None)
        return options | dict(given)


def read_config(path: Path) -> Config:
    """Options from flat or sectioned TOML, or from a shell or PowerShell script, which is parsed and never run.

    Options missing in a file with sd-scripts' names get sd-scripts' defaults. Paths are relative to the file's folder,
    or to its parent folder that contains the photos.

    Raises:
        CalotypeError: unreadable, an unknown option (with the nearest known one), or an unsupported one.
    """
    data, unused = _data(path)
    notes: list[Message] = []
    if is_form(data):
        data, notes = options_of_form(data, _known_names(), str(path))
    if unused:
        data = {**parse_arguments(unused, str(path)), **data}
        notes.append(
            Message(
                "{file} sets {names}, but does not pass it to its command; Calotype uses it",
                file=path.name,
                names=", ".join(word.split("=")[0].split()[0] for word in unused),
            )
        )
    is_kohyas = bool({"pretrained_model_name_or_path", "train_data_dir"} & data.keys())
    options, more = translate({name: value for name, value in data.items() if value not in ("", None, [])}, str(path))
    notes += more
    if is_kohyas:
        _fill_defaults(path, options, notes)
    _resolve_paths(path, options)
    try:
        args = network_arguments(options.pop("network_args", ""), str(options.get("network_module", MODULES[0])))
        options = {name: checked(TrainLora, name, value) for name, value in (args | options).items()}
    except CalotypeError as fault:
        raise CalotypeError("{path}: {fault}", path=path, fault=fault) from None
    return Config(options, tuple(notes))


def translate(data: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[Message]]:
    """Converts options with names of sd-scripts or Calotype to options of TrainLora; and notes on what is not followed.

    Args:
        where: name of the source, for messages.

    Raises:
        CalotypeError: an unknown option (with the nearest known one), or an unsupported one.
    """
    notes: list[Message] = []
    return _known_options(where, _renamed(_expand_form(data)), notes), notes


def _data(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The options of the file by its own names, and the options that its script sets but never uses."""
    text = read_text(path, MAX_BYTES, CONFIG_FILE)
    try:
        if path.suffix.lower() in READERS:
            words, unused = READERS[path.suffix.lower()](text)
            return _from_command(path, words), unused
        return _flat(path, _table(path, text)), []
    except Unreadable as fault:
        raise CalotypeError(
            "{path}, line {line}: {statement}; Calotype parses a script and does not run it: write the value there, or "
            "give the options themselves",
            path=path,
            line=fault.line,
            statement=fault.statement,
        ) from None


def read_table(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The content of a TOML file, or of a JSON file. Raises CalotypeError if it cannot be read as such."""
    return _table(path, read_text(path, max_bytes, CONFIG_FILE))


def _table(path: Path, text: str) -> dict[str, Any]:
    if path.suffix.lower() == ".json":
        return _from_json(path, text)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as fault:
        raise CalotypeError(
            "{path} is not valid TOML: {fault}; scripts have the extension .sh or .ps1, kohya_ss' settings .json",
            path=path,
            fault=fault,
        ) from None


def _from_command(path: Path, words: list[str]) -> dict[str, Any]:
    if not words:
        raise CalotypeError(
            "{path} does not call train_network.py; give the script that starts the training", path=path
        )
    script = words[0].replace("\\", "/").rsplit("/", 1)[-1]
    if script not in TRAINERS:
        raise CalotypeError(
            "{path} calls {script}; Calotype supports {names}",
            path=path,
            script=script,
            names=listed(TRAINERS, " and "),
        )
    return parse_arguments(words[1:], str(path))


def _from_json(path: Path, text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise CalotypeError("{path} is not valid JSON: {fault}", path=path, fault=fault) from None
    if not isinstance(data, dict):
        raise CalotypeError(
            "{path} is JSON, but no settings; give the file that kohya_ss' form saved, or a dataset config", path=path
        )
    return data


def _flat(path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens sections, as sd-scripts does; lora-scripts' presets describe themselves in one, which is dropped.

    A dataset config becomes the option that names it.
    """
    if "datasets" in data:
        return {"dataset_config": str(path.absolute())}
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            flat |= value if name != "metadata" else {}
        else:
            flat[name] = value
    return flat


def _expand_form(data: Mapping[str, Any]) -> dict[str, Any]:
    """Options of lora-scripts' form as options of sd-scripts."""
    options = dict(data)
    if options.pop("use_8bit_adam", False):
        options.setdefault("optimizer_type", "AdamW8bit")
    if options.pop("use_lion_optimizer", False):
        options.setdefault("optimizer_type", "Lion")
    extra = [
        f"{key.removeprefix('prodigy_')}={options.pop(key)}"
        for key in ("prodigy_d0", "prodigy_d_coef")
        if key in options
    ]
    if extra:
        options["optimizer_args"] = [*_as_list(options.get("optimizer_args", [])), *extra]
    _expand_preview(options)
    return options


def _expand_preview(options: dict[str, Any]) -> None:
    """The form's prompt for sample pictures as a prompt line of sd-scripts."""
    keys = {"sample_width": "w", "sample_height": "h", "sample_cfg": "l", "sample_seed": "d", "sample_steps": "s"}
    values = {key: options.pop(key, None) for key in ("positive_prompts", "negative_prompts", *keys)}
    options.pop("randomly_choice_prompt", None)
    is_off = options.get("enable_preview") is False
    if is_off:
        for name in [name for name in options if name.startswith("sample_")]:
            del options[name]
    elif values["positive_prompts"] and "sample_prompts" not in options and "prompt_file" not in options:
        line = [values["positive_prompts"]] + ([f"--n {values['negative_prompts']}"] * bool(values["negative_prompts"]))
        line += [f"--{flag} {values[key]}" for key, flag in keys.items() if values[key] is not None]
        options["sample_prompts"] = " ".join(line)


def _renamed(data: Mapping[str, Any]) -> dict[str, Any]:
    return {args.ALIASES.get(name, name): value for name, value in data.items()}


def _known_names() -> frozenset[str]:
    fields = (spec.name for spec in visible(TrainLora))
    return frozenset((*fields, *args.ALIASES, *args.IGNORED, *args.NOTES, *args.UNSUPPORTED, *args.EXPANDED))


def _known_options(where: str, data: Mapping[str, Any], notes: list[Message]) -> dict[str, Any]:
    """The options that Calotype has. Raises CalotypeError for unknown or unsupported ones."""
    fields, known = {spec.name: spec for spec in visible(TrainLora)}, _known_names()
    check_known(where, data, known)
    check_kind(where, data.get("model_train_type", args.KINDS[0]), args.KINDS)
    check_kind(where, data.get("network_module", MODULES[0]), MODULES)
    check_supported(where, data, args.UNSUPPORTED - fields.keys())
    noted = [name for name in data if name in args.NOTES and name not in fields and data[name]]
    notes += dict.fromkeys(args.NOTES[name] for name in noted)
    options = {name: typed(where, name, fields[name].type, value) for name, value in data.items() if name in fields}
    _apply_kohya_rules(data, options, notes)
    return options


def check_known(where: object, names: Iterable[str], known: Collection[str]) -> None:
    """Raises CalotypeError for names that are not known, with the nearest known one of each."""
    if unknown := [name for name in names if name not in known]:
        hinted = (Message("{name}{hint}", name=name, hint=nearest(name, known)) for name in unknown)
        raise CalotypeError("{where} has unknown options: {names}", where=where, names=listed(hinted, "; "))


def check_supported(where: object, data: Mapping[str, Any], unsupported: Collection[str]) -> None:
    """Raises CalotypeError for options that are not supported, unless they are off."""
    names = [name for name in data if name in unsupported and not _is_off(name, data[name])]
    if names:
        raise CalotypeError(
            "{where} sets {names}, which Calotype does not support; remove it to train without",
            where=where,
            names=", ".join(names),
        )


def _is_off(name: str, value: Any) -> bool:
    neutral = args.NEUTRAL.get(name)
    return value in (False, None, "false", {}) if neutral is None else str(value) in (str(neutral), f"{neutral}.0")


def typed(where: object, name: str, kind: Any, value: Any) -> Any:
    """The value as the option's type: text of lists and numbers for text options, a bool for switches."""
    if value is True and kind is not bool:
        raise CalotypeError("{where} gives no value for {name}", where=where, name=name)
    if name == "resolution":
        return "x".join(str(side).strip() for side in (value if isinstance(value, list) else str(value).split(",")))
    if name in LISTS:
        return " ".join(str(entry) for entry in _as_list(value))
    if isinstance(value, list):
        if len({str(entry) for entry in value}) > 1:
            raise CalotypeError("{where} gives several values for {name}; Calotype takes one", where=where, name=name)
        value = value[0]
    if kind is bool and not isinstance(value, bool):
        words = {"1": True, "true": True, "0": False, "false": False}
        return words.get(str(value).lower(), value)
    return str(value) if kind is str and not isinstance(value, bool) else value


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else split_arguments(str(value))


def _apply_kohya_rules(data: Mapping[str, Any], options: dict[str, Any], notes: list[Message]) -> None:
    """Special meanings in sd-scripts of some values and combinations of options."""
    if "lr_scheduler" in options:
        options["lr_scheduler"] = str(options["lr_scheduler"]).split(":")[0]  # adafactor:1e-4 has a learning rate too
    if options.get("log_with") in ("wandb", "all"):
        options["log_with"] = "none" if options["log_with"] == "wandb" else "auto"
        unsent = args.NOTES["wandb_api_key"]
        notes += [unsent] if unsent not in notes else []
    if "max_train_epochs" in options and str(options.pop("max_train_steps", 0)) != "0":
        notes.append(Message("max_train_epochs overrides max_train_steps, as in sd-scripts"))
    length = options.get("max_token_length")
    if isinstance(length, int | str) and str(length).isdigit() and int(length) not in TOKEN_LENGTHS:
        options["max_token_length"] = max((n for n in TOKEN_LENGTHS if n <= int(length)), default=TOKEN_LENGTHS[0])
        notes.append(
            Message(
                "captions may have {count} tokens, not {requested}",
                count=options["max_token_length"],
                requested=str(length),
            )
        )


def _fill_defaults(path: Path, options: dict[str, Any], notes: list[Message]) -> None:
    """Adds sd-scripts' defaults that differ from Calotype's."""
    missing = {name: value for name, value in args.DEFAULTS.items() if name not in options}
    if "dataset_config" in options:  # which may say it: `dataset_config.with_defaults` fills the others
        missing = {name: value for name, value in missing.items() if name not in args.OF_DATASETS}
    if {"unet_lr", "text_encoder_lr"} <= options.keys():
        missing.pop("learning_rate", None)
    if "max_train_epochs" not in options and "max_train_steps" not in options:
        missing["max_train_steps"] = args.STEPS
    options |= missing
    if missing:
        notes.append(defaults_note(path, missing))


def defaults_note(path: Path, missing: Mapping[str, Any]) -> Message:
    """That options which a file does not give have these values, such as "no enable_bucket, resolution 512"."""
    return Message(
        "options missing in {file} have sd-scripts' defaults: {settings}",
        file=path.name,
        settings=listed(_setting(name, value) for name, value in missing.items()),
    )


def _setting(name: str, value: Any) -> Message:
    return Message("no {name}", name=name) if value is False else Message("{name} {setting}", name=name, setting=value)


def _resolve_paths(path: Path, options: dict[str, Any]) -> None:
    """Resolves relative paths against the folder in which the photos or the model exist."""
    folders = [path.absolute().parent, *path.absolute().parent.parents][: MAX_PARENTS + 1]
    references = [str(options[name]) for name in ("photos", "dataset_config", "model") if name in options]
    root = next((folder for name in references for folder in folders if (folder / name).exists()), folders[0])
    for name in PATHS:
        if name not in options or Path(str(options[name])).is_absolute():
            continue
        path_there = root / str(options[name])
        is_name = name in ("model", "vae") and Path(str(options[name])).suffix.lower() not in WEIGHTS
        if (is_name or name in ("sample_prompts", "dataset_config")) and not path_there.exists():
            continue  # a catalog name; prompts as text; a file in the working folder
        options[name] = str(path_there) if name in ("model", "vae") else path_there
