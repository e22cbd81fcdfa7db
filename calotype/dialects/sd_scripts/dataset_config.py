"""The dataset config of sd-scripts (`--dataset_config`): datasets and their subsets, each with options of its own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.dialects.sd_scripts import args
from calotype.dialects.sd_scripts.config import (
    MAX_PARENTS,
    check_known,
    check_supported,
    defaults_note,
    read_table,
    typed,
)
from calotype.errors import CalotypeError, Message, listed
from calotype.options import checked, visible
from calotype.tasks.training import TrainLora

_words = str.split
RENAMED = {"batch_size": "train_batch_size", "num_repeats": "dataset_repeats"}  # options of TrainLora by other names
# Options of TrainLora that each subset, or each dataset, may have of its own; and what only a subset has.
OF_SUBSETS = frozenset(
    _words("""
    num_repeats shuffle_caption keep_tokens keep_tokens_separator caption_separator secondary_separator enable_wildcard
    caption_prefix caption_suffix caption_dropout_rate caption_dropout_every_n_epochs caption_tag_dropout_rate
    caption_extension flip_aug color_aug random_crop alpha_mask cache_latents_to_disk prior_loss_weight
    """)
)
OF_DATASETS = frozenset(
    _words("""
    resolution batch_size enable_bucket min_bucket_reso max_bucket_reso bucket_reso_steps bucket_no_upscale
    validation_split validation_seed
    """)
)
FACTS = frozenset(("class_tokens",))  # of a subset, though not an option; may be given for all
OWN_FACTS = frozenset(_words("image_dir metadata_file is_reg conditioning_data_dir"))
IGNORED = frozenset(("cache_info", "cache_latents", "skip_cache_check"))
UNSUPPORTED = frozenset(
    _words("face_crop_aug_range token_warmup_min token_warmup_step network_multiplier custom_attributes")
)
FOR_ALL = OF_SUBSETS | FACTS | IGNORED | UNSUPPORTED | args.NOTES.keys() & {"resize_interpolation"}
KNOWN = {  # options by the place where they stand
    "general": FOR_ALL | OF_DATASETS,
    "datasets": FOR_ALL | OF_DATASETS | {"subsets"},
    "subsets": FOR_ALL | OWN_FACTS,
}
DEFAULTS = {name: args.DEFAULTS[name] for name in ("enable_bucket", "caption_extension")}


@dataclass(frozen=True, kw_only=True)
class Subset:
    """One `[[datasets.subsets]]`, with what its dataset and `[general]` say; paths as they stand there."""

    where: Message  # its name in messages
    dataset: int  # index
    options: Mapping[str, Any]  # of TrainLora
    own: frozenset[str] = frozenset()  # those of them that the subset itself sets
    image_dir: str = ""
    metadata_file: str = ""
    conditioning_data_dir: str = ""
    class_tokens: str = ""
    is_reg: bool = False


@dataclass(frozen=True)
class DatasetConfig:
    """The content of a dataset config."""

    path: Path
    subsets: tuple[Subset, ...]
    notes: tuple[Message, ...] = ()

    def located(self, text: str) -> tuple[Path, bool]:
        """A path of the file, and whether it is relative to the file's folder or one of its parents.

        As in sd-scripts it is relative to the working folder; only what is not there is looked for beside the file.
        """
        names = [text, text.replace("\\", "/")] if "\\" in text else [text]
        folder = self.path.absolute().parent
        folders = [Path(), *[folder, *folder.parents][: MAX_PARENTS + 1]]
        found = ((n, folder / name) for n, folder in enumerate(folders) for name in names if (folder / name).exists())
        n, path = next(found, (0, Path(text)))
        return path, n > 0


def read_dataset_config(path: Path) -> DatasetConfig:
    """Reads a dataset config, TOML or JSON. An option of a subset overrides that of its dataset, and that `[general]`.

    Raises:
        CalotypeError: unreadable; an option that is unknown, unsupported, in the wrong place or of a wrong type; no
            subset.
    """
    data = read_table(path)
    check_known(path, data, ("general", "datasets"))
    general = _table(path, "general", data.get("general", {}))
    options, facts = _options(Message("{path}, [general]", path=path), "general", general)
    tables, subsets = [general], []
    for n, dataset in enumerate(_tables(path, "datasets", data.get("datasets", [])), 1):
        place = Message("{path}, dataset {number}", path=path, number=n)
        own, own_facts = _options(place, "datasets", dataset)
        tables.append(dataset)
        if not dataset.get("subsets"):
            raise CalotypeError("{where} has no [[datasets.subsets]]; add one with an image_dir", where=place)
        for m, subset in enumerate(_tables(place, "datasets.subsets", dataset["subsets"]), 1):
            where = Message("{path}, dataset {number}, subset {subset}", path=path, number=n, subset=m)
            subset_options, subset_facts = _options(where, "subsets", subset)
            tables.append(subset)
            if not {"image_dir", "metadata_file"} & subset_facts.keys():
                raise CalotypeError("{where} has no image_dir; give the folder with its pictures", where=where)
            subsets.append(
                Subset(
                    where=where,
                    dataset=n - 1,
                    options=options | own | subset_options,
                    own=frozenset(subset_options),
                    **(facts | own_facts | subset_facts),
                )
            )
    if not subsets:
        raise CalotypeError("{path} has no [[datasets]]; add one with [[datasets.subsets]]", path=path)
    notes = dict.fromkeys(args.NOTES[name] for table in tables for name in table if name in args.NOTES)
    return DatasetConfig(path, tuple(subsets), tuple(notes))


def with_defaults(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[Message]]:
    """The options of a run with those that its dataset config lacks at sd-scripts' defaults; and notes.

    Args:
        options: those of TrainLora that are given, by the command line or a settings file.
    """
    path = Path(str(options["dataset_config"]))
    config, notes = read_dataset_config(path), []
    missing = {
        name: value
        for name, value in DEFAULTS.items()
        if name not in options and any(name not in subset.options for subset in config.subsets)
    }
    if missing:
        notes.append(defaults_note(path, missing))
    overridden = [
        name
        for name, value in options.items()
        if value != args.DEFAULTS.get(name) and any(s.options.get(name, value) != value for s in config.subsets)
    ]
    if overridden:
        notes.append(
            Message(
                "{file} overrides {names} of the command line or settings, as in sd-scripts",
                file=path.name,
                names=", ".join(overridden),
            )
        )
    return missing | dict(options), notes


def _table(where: object, name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise CalotypeError("{where}: {name} is a table of options, not {value}", where=where, name=name, value=value)
    return value


def _tables(where: object, name: str, value: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise CalotypeError("{where}: {name} is a list, written as [[{name}]]", where=where, name=name)
    return [_table(where, name, entry) for entry in value]


def _options(where: Message, place: str, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of TrainLora, and facts of a subset, in one table of the file."""
    data = {args.ALIASES.get(name, name): value for name, value in data.items() if value is not None}
    _check_places(where, place, data)
    check_known(where, data, KNOWN[place])
    check_supported(where, data, UNSUPPORTED)
    kinds = {spec.name: spec.type for spec in visible(TrainLora)}
    options: dict[str, Any] = {}
    for name in [name for name in data if name in OF_SUBSETS | OF_DATASETS]:
        option = RENAMED.get(name, name)
        value = data[name] if data[name] is True else typed(where, option, kinds[option], data[name])
        try:
            options[option] = checked(TrainLora, option, value)
        except CalotypeError as fault:
            named = Message("{where}, {name}", where=where, name=name) if option != name else where
            raise CalotypeError("{where}: {fault}", where=named, fault=fault) from None
    return options, dict(_facts(where, data))


def _facts(where: Message, data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if name not in FACTS | OWN_FACTS:
            continue
        if name == "is_reg":
            if not isinstance(value, bool):
                raise CalotypeError("{where}: is_reg is true or false, not {value!r}", where=where, value=value)
        elif not isinstance(value, str):
            raise CalotypeError(
                "{where}: {name} is a text in quotation marks, not {value!r}", where=where, name=name, value=value
            )
        if value != "":
            yield name, value


def _check_places(where: Message, place: str, data: Mapping[str, Any]) -> None:
    """Raises CalotypeError for an option that is known, but not in this place."""
    places = {"general": "[general]", "datasets": "[[datasets]]", "subsets": "[[datasets.subsets]]"}
    every_place = frozenset().union(*KNOWN.values())
    for name in data:
        if name in KNOWN[place]:
            continue
        if name in every_place:
            right = [text for key, text in places.items() if name in KNOWN[key]]
            raise CalotypeError(
                "{where}: {name} belongs into {places}", where=where, name=name, places=listed(right, " or ")
            )
        if name in {spec.name for spec in visible(TrainLora)} | args.IGNORED | args.UNSUPPORTED:
            raise CalotypeError(
                "{where}: {name} is no option of a dataset config; give it on the command line or in the settings",
                where=where,
                name=name,
            )
