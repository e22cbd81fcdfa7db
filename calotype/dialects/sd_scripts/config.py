"""A settings file of lora-scripts or sd-scripts as options of our own: TOML, train.sh or train.ps1."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.dialects.sd_scripts import args
from calotype.dialects.sd_scripts.powershell import read_powershell
from calotype.dialects.sd_scripts.shell import read_shell
from calotype.dialects.sd_scripts.words import MANY, TRAINERS, Unreadable, named
from calotype.errors import CalotypeError, Message, listed
from calotype.files import read_text
from calotype.options import checked, nearest, visible
from calotype.tasks.training import MODULES, TrainLora, network_arguments

LARGEST = 1_000_000  # bytes; such files have a few thousand
READERS: dict[str, Callable[[str], tuple[list[str], list[str]]]] = {".sh": read_shell, ".ps1": read_powershell}
CONVERTED = (
    "model",
    "vae",
    "photos",
    "regular",
    "output_dir",
    "network_weights",
    "resume",
    "logging_dir",
    "sample_prompts",
)
WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
LENGTHS = (75, 150, 225)  # of captions, in tokens
FOLDERS_UP = 3  # lora-scripts keeps its autosaves two folders below the one that their paths begin at


@dataclass(frozen=True)
class Config:
    """What a settings file says: options of TrainLora, and sentences about what is taken otherwise than told."""

    options: dict[str, Any]
    notes: tuple[Message, ...] = ()

    def under(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """With what the command line says, which wins; epochs of one do not meet the steps of the other."""
        rest = dict(self.options)
        if "max_train_epochs" in told:
            rest.pop("max_train_steps", None)
        return rest | dict(told)


def read_config(path: Path) -> Config:
    """Options from flat or sectioned TOML, or from a shell or PowerShell script, which is read and never run.

    What a file with sd-scripts' names leaves out has sd-scripts' default. Relative paths begin at the file's folder, or
    at the one above it in which the photos lie.

    Raises:
        CalotypeError: unreadable, an unknown option (with the nearest known one), or one that Calotype cannot follow.
    """
    data, lost = _data(path)
    notes: list[Message] = []
    if lost:
        data = {**named(lost, str(path)), **data}
        notes.append(
            Message(
                "{file} sets {names}, but its own command loses it; here it counts",
                file=path.name,
                names=", ".join(word.split("=")[0].split()[0] for word in lost),
            )
        )
    is_kohyas = bool({"pretrained_model_name_or_path", "train_data_dir"} & data.keys())
    found, more = translated({name: value for name, value in data.items() if value not in ("", None, [])}, str(path))
    notes += more
    if is_kohyas:
        _fill(path, found, notes)
    _place(path, found)
    try:
        args = network_arguments(found.pop("network_args", ""), str(found.get("network_module", MODULES[0])))
        found = {name: checked(TrainLora, name, value) for name, value in (args | found).items()}
    except CalotypeError as fault:
        raise CalotypeError("{path}: {fault}", path=path, fault=fault) from None
    return Config(found, tuple(notes))


def translated(data: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[Message]]:
    """Options of TrainLora, from options by sd-scripts' names or our own; and sentences about what is not followed.

    Args:
        where: they come from, for sentences.

    Raises:
        CalotypeError: an unknown option (with the nearest known one), or one that Calotype cannot follow.
    """
    notes: list[Message] = []
    return _known(where, _renamed(_spread(data)), notes), notes


def _data(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What the file says, by its own names; and options that it sets but never uses."""
    text = _text(path)
    try:
        if path.suffix.lower() in READERS:
            words, lost = READERS[path.suffix.lower()](text)
            return _from_command(path, words), lost
        return _flat(path, tomllib.loads(text)), []
    except tomllib.TOMLDecodeError as fault:
        raise CalotypeError(
            "{path} is no TOML: {fault}; a script's name ends in .sh or .ps1", path=path, fault=fault
        ) from None
    except Unreadable as fault:
        raise CalotypeError(
            "{path}, line {line}: {statement}; Calotype reads a script and does not run it: write the value there, or "
            "give the options themselves",
            path=path,
            line=fault.line,
            statement=fault.statement,
        ) from None


def _text(path: Path) -> str:
    return read_text(path, LARGEST, Message("a file of settings"))


def _from_command(path: Path, words: list[str]) -> dict[str, Any]:
    if not words:
        raise CalotypeError(
            "{path} has no call of train_network.py in it; give the script that starts the training", path=path
        )
    script = words[0].replace("\\", "/").rsplit("/", 1)[-1]
    if script not in TRAINERS:
        raise CalotypeError(
            "{path} calls {script}; Calotype trains what {names} train",
            path=path,
            script=script,
            names=" and ".join(TRAINERS),
        )
    return named(words[1:], str(path))


def _flat(path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """Sections are only there for the eye, as in sd-scripts; lora-scripts' presets tell of themselves in one."""
    if any(isinstance(value, list) and value and isinstance(value[0], dict) for value in data.values()):
        raise CalotypeError(
            "{path} describes folders (dataset_config); give the photos' folder and its options instead", path=path
        )
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            found |= value if name != "metadata" else {}
        else:
            found[name] = value
    return found


def _spread(data: Mapping[str, Any]) -> dict[str, Any]:
    """What lora-scripts' form keeps apart, as sd-scripts has it."""
    found = dict(data)
    if found.pop("use_8bit_adam", False):
        found.setdefault("optimizer_type", "AdamW8bit")
    if found.pop("use_lion_optimizer", False):
        found.setdefault("optimizer_type", "Lion")
    extra = [
        f"{key.removeprefix('prodigy_')}={found.pop(key)}" for key in ("prodigy_d0", "prodigy_d_coef") if key in found
    ]
    if extra:
        found["optimizer_args"] = [*_listed(found.get("optimizer_args", [])), *extra]
    _spread_preview(found)
    return found


def _spread_preview(found: dict[str, Any]) -> None:
    """The form's prompt for sample pictures, as a line of kohya's."""
    keys = {"sample_width": "w", "sample_height": "h", "sample_cfg": "l", "sample_seed": "d", "sample_steps": "s"}
    values = {key: found.pop(key, None) for key in ("positive_prompts", "negative_prompts", *keys)}
    found.pop("randomly_choice_prompt", None)
    is_off = found.get("enable_preview") is False
    if is_off:
        for name in [name for name in found if name.startswith("sample_")]:
            del found[name]
    elif values["positive_prompts"] and "sample_prompts" not in found and "prompt_file" not in found:
        told = [values["positive_prompts"]] + ([f"--n {values['negative_prompts']}"] * bool(values["negative_prompts"]))
        told += [f"--{flag} {values[key]}" for key, flag in keys.items() if values[key] is not None]
        found["sample_prompts"] = " ".join(told)


def _renamed(data: Mapping[str, Any]) -> dict[str, Any]:
    return {args.ALIASES.get(name, name): value for name, value in data.items()}


def _known(where: str, data: Mapping[str, Any], notes: list[Message]) -> dict[str, Any]:
    """What of it are options of ours. Raises CalotypeError for what is unknown, or beyond us."""
    fields = {spec.name: spec for spec in visible(TrainLora)}
    known = {*fields, *args.ALIASES, *args.NEEDLESS, *args.SAID, *args.BEYOND, *args.SPREAD}
    unknown = [name for name in data if name not in known]
    if unknown:
        hinted = (Message("{name}{hint}", name=name, hint=nearest(name, known)) for name in unknown)
        raise CalotypeError(
            "{where} has options that Calotype does not know: {names}", where=where, names=listed(hinted, "; ")
        )
    if data.get("model_train_type", args.KINDS[0]) not in args.KINDS:
        raise CalotypeError(
            "{where} is for {kind}; Calotype trains {names}",
            where=where,
            kind=data["model_train_type"],
            names=" and ".join(args.KINDS),
        )
    if data.get("network_module", MODULES[0]) not in MODULES:
        raise CalotypeError(
            "{where} is for {kind}; Calotype trains {names}",
            where=where,
            kind=data["network_module"],
            names=", ".join(MODULES),
        )
    beyond = [
        name for name in data if name in args.BEYOND and name not in fields and data[name] not in (False, "false")
    ]
    if beyond:
        raise CalotypeError(
            "{where} asks for {names}, which Calotype cannot do; take it out to go without",
            where=where,
            names=", ".join(beyond),
        )
    said = [name for name in data if name in args.SAID and name not in fields and data[name]]
    notes += dict.fromkeys(args.SAID[name] for name in said)
    found = {name: _value(where, name, fields[name].type, value) for name, value in data.items() if name in fields}
    _follow_kohya(data, found, notes)
    return found


def _value(where: str, name: str, kind: Any, value: Any) -> Any:
    """Text of a list or a number where an option is text, yes or no of a word where it is a switch."""
    if value is True and kind is not bool:
        raise CalotypeError("{where} gives no value for {name}", where=where, name=name)
    if name == "resolution":
        return "x".join(str(side).strip() for side in (value if isinstance(value, list) else str(value).split(",")))
    if name in MANY:
        return " ".join(str(part) for part in _listed(value))
    if isinstance(value, list):
        if len({str(one) for one in value}) > 1:
            raise CalotypeError("{where} gives several values for {name}; Calotype takes one", where=where, name=name)
        value = value[0]
    if kind is bool and not isinstance(value, bool):
        words = {"1": True, "true": True, "0": False, "false": False}
        return words.get(str(value).lower(), value)
    return str(value) if kind is str and not isinstance(value, bool) else value


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else str(value).split()


def _follow_kohya(data: Mapping[str, Any], found: dict[str, Any], notes: list[Message]) -> None:
    """Where two of sd-scripts' options together, or odd values of one, mean something of their own."""
    if "lr_scheduler" in found:
        found["lr_scheduler"] = str(found["lr_scheduler"]).split(":")[0]  # adafactor:1e-4 tells a rate too
    if found.get("log_with") in ("wandb", "all"):
        found["log_with"] = "none" if found["log_with"] == "wandb" else "auto"
        unsent = args.SAID["wandb_api_key"]
        notes += [unsent] if unsent not in notes else []
    if "max_train_epochs" in found and str(found.pop("max_train_steps", 0)) != "0":
        notes.append(Message("max_train_epochs counts and max_train_steps does not, as in sd-scripts"))
    length = found.get("max_token_length")
    if isinstance(length, int | str) and str(length).isdigit() and int(length) not in LENGTHS:
        found["max_token_length"] = max((n for n in LENGTHS if n <= int(length)), default=LENGTHS[0])
        notes.append(
            Message("captions may have {count} tokens, not {asked}", count=found["max_token_length"], asked=str(length))
        )


def _fill(path: Path, found: dict[str, Any], notes: list[Message]) -> None:
    """sd-scripts' defaults, where they are not ours."""
    missing = {name: value for name, value in args.DEFAULTS.items() if name not in found}
    if {"unet_lr", "text_encoder_lr"} <= found.keys():
        missing.pop("learning_rate", None)
    if "max_train_epochs" not in found and "max_train_steps" not in found:
        missing["max_train_steps"] = args.STEPS
    found |= missing
    if missing:
        notes.append(
            Message(
                "what {file} leaves out is as in sd-scripts: {settings}",
                file=path.name,
                settings=listed(_setting(name, value) for name, value in missing.items()),
            )
        )


def _setting(name: str, value: Any) -> Message:
    return Message("no {name}", name=name) if value is False else Message("{name} {setting}", name=name, setting=value)


def _place(path: Path, found: dict[str, Any]) -> None:
    """Relative paths, from the folder where what they name is found."""
    above = [path.absolute().parent, *path.absolute().parent.parents][: FOLDERS_UP + 1]
    told = [str(found[name]) for name in ("photos", "model") if name in found]
    root = next((folder for name in told for folder in above if (folder / name).exists()), above[0])
    for name in CONVERTED:
        if name not in found or Path(str(found[name])).is_absolute():
            continue
        there = root / str(found[name])
        is_name = name in ("model", "vae") and Path(str(found[name])).suffix.lower() not in WEIGHTS
        if (is_name or name == "sample_prompts") and not there.exists():
            continue  # a name in the catalog; prompts themselves
        found[name] = str(there) if name in ("model", "vae") else there
