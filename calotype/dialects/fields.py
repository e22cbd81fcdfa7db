"""Values out of metadata that strangers wrote: bounded JSON, and fields by name with their types checked."""

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

MAX_JSON = 16 << 20  # characters; workflows with pictures in them reach some megabytes
MAX_DEPTH = 64
MAX_VALUE = 400  # characters of a value that is only shown
_MAX_INTEGER = 2**64 - 1


def parse_object(text: str) -> dict[str, Any] | None:
    """The JSON object in a text; None if it is something else, too long, or nested more than `MAX_DEPTH` deep."""
    text = text.strip().strip("\0")
    if not text.startswith("{") or len(text) > MAX_JSON:
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and is_shallow(data) else None


def is_shallow(data: Any, max_depth: int = MAX_DEPTH) -> bool:
    level = [data]
    for _ in range(max_depth):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return True
    return False


def as_text(value: Any) -> str | None:
    """A text or number as text; None for anything else."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def as_number(value: Any) -> float | None:
    """A finite number, also one that is written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_integer(value: Any) -> int | None:
    """An integer from 0 to 2^64 - 1, also one that is written as text or as 20.0."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal() and len(value.strip()) < 25:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        number = as_number(value)
        value = int(number) if number is not None and number == int(number) else None
    return value if value is not None and 0 <= value <= _MAX_INTEGER else None


def as_names(value: Any) -> list[str]:
    """A list of texts, also one that is written as one text with commas."""
    if isinstance(value, str):
        value = value.split(",")
    return [entry.strip() for entry in value if isinstance(entry, str)] if isinstance(value, list) else []


def shown(value: Any) -> str:
    """Any value as one short text."""
    if isinstance(value, str):
        text = value
    else:
        try:
            text = json.dumps(value, ensure_ascii=False)
        except (ValueError, TypeError):
            text = type(value).__name__
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."


class Fields:
    """Takes fields out of a mapping, by name in any case; what is not taken is left in `rest`."""

    def __init__(self, data: Mapping[str, Any]):
        self._data = {str(name): value for name, value in data.items()}
        self._names = {_key(name): name for name in reversed(self._data)}

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._names

    def get(self, *names: str) -> Any:
        """The first of these fields that is there, which stays."""
        return next((self._data[self._names[key]] for name in names if (key := _key(name)) in self._names), None)

    def take(self, *names: str) -> Any:
        """The first of these fields that is there; all of them are taken out."""
        value = self.get(*names)
        for name in names:
            if original := self._names.pop(_key(name), None):
                self._data.pop(original, None)
        return value

    def text(self, *names: str) -> str:
        return self._converted(as_text, names) or ""

    def integer(self, *names: str) -> int | None:
        return self._converted(as_integer, names)

    def number(self, *names: str) -> float | None:
        return self._converted(as_number, names)

    def flag(self, *names: str) -> bool:
        value = self.take(*names)
        return value is True or (isinstance(value, str) and value.strip().lower() == "true")

    def _converted(self, convert: Any, names: tuple[str, ...]) -> Any:
        """The converted value; one of a wrong type stays, and so is named as not followed."""
        value = self.get(*names)
        converted = convert(value)
        if converted is not None or value is None:
            self.take(*names)
        return converted

    def rest(self, information: Collection[str] = ()) -> tuple[dict[str, str], dict[str, str]]:
        """The fields left that change a picture, and those that only describe it (their names are in `information`).

        Fields that say nothing (null, false, an empty text or list, "None") are left out.
        """
        known = {_key(name) for name in information}
        left = {name: shown(value) for name, value in self._data.items() if _says_something(value)}
        changing = {name: value for name, value in left.items() if _key(name) not in known}
        return changing, {name: value for name, value in left.items() if name not in changing}


def _key(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


def _says_something(value: Any) -> bool:
    return value not in (None, False, "", "None", "none", "False") and value != [] and value != {}
