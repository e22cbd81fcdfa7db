"""Metadata files of sd-scripts' fine-tuning method: JSON or JSONL with caption and tags of each picture."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, Message, plural
from calotype.files import read_text
from calotype.suffixes import SUFFIXES
from calotype.training.data.dataset import Example, pictures_in

MAX_BYTES = 500_000_000
METADATA_FILE = Message("a metadata file")


def read_metadata_file(
    path: Path, folder: Path | None, separator: str, has_wildcards: bool
) -> tuple[list[Example], list[Message]]:
    """The pictures that a metadata file lists, by path or by name in `folder`; and a note about those that are missing.

    The caption is the caption, a separator, and the tags; with wildcards each line of the caption gets the tags.

    Raises:
        CalotypeError: the file cannot be read, or lists no picture that exists.
    """
    entries = list(_entries(path))
    stems = {picture.stem: picture for picture in reversed(pictures_in(folder))} if folder else {}
    examples, missing = [], []
    for key, entry in entries:
        picture = _picture(key, folder, stems)
        if picture is None:
            missing.append(key)
            continue
        caption, tags = (_text(path, key, entry.get(name)) for name in ("caption", "tags"))
        examples.append(Example(picture, _caption(caption, tags, separator, has_wildcards)))
    if not examples:
        raise CalotypeError(
            "none of the {count} pictures of {path} exist; give the folder in which they are as image_dir",
            count=len(entries),
            path=path,
        )
    if not missing:
        return examples, []
    note = plural(
        len(missing),
        "left out: 1 picture of {path} does not exist ({name})",
        "left out: {count} pictures of {path} do not exist, the first is {name}",
        path=path,
        name=missing[0],
    )
    return examples, [note]


def _entries(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text = read_text(path, MAX_BYTES, METADATA_FILE)
    try:
        if path.suffix.lower() == ".jsonl":
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
            entries = [(line["image_path"], line) for line in lines]
        else:
            entries = list(json.loads(text).items())
    except (ValueError, RecursionError) as fault:
        raise CalotypeError("{path} is not valid JSON: {fault}", path=path, fault=fault) from None
    except (AttributeError, KeyError, TypeError):
        entries = []
    if not entries or not all(isinstance(key, str) and isinstance(entry, dict) for key, entry in entries):
        raise CalotypeError(
            "{path} is no metadata file of sd-scripts; it is such as {example}, with an entry for each picture",
            path=path,
            example='{"a.png": {"caption": "1girl", "tags": "smile, outdoors"}}',
        )
    yield from entries


def _picture(key: str, folder: Path | None, stems: Mapping[str, Path]) -> Path | None:
    """The picture of an entry; in older files its name has no extension."""
    path = folder / key if folder else Path(key)
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return path
    return stems.get(Path(key).name)


def _text(path: Path, key: str, value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise CalotypeError("{path}: caption and tags of {name} are texts, not {value!r}", path=path, name=key, value=value)


def _caption(caption: str, tags: str, separator: str, has_wildcards: bool) -> str:
    lines = [line.strip() for line in caption.splitlines() if line.strip()]
    lines = lines if has_wildcards else lines[:1]
    tags = separator.join(tags.splitlines())
    return "\n".join(separator.join(part for part in (line, tags) if part) for line in lines or [""])
