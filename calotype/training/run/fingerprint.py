"""The fingerprint of a training run, by which a state file belongs to it, to a similar run, or to another one."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from calotype.tasks import options_of


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """SHA-256 of everything that determines the result, and of that without the options that may change on resume.

    Args:
        options: task options that determine the result, JSON-ready.
        data: what else does, JSON-ready: hashes of pictures and models, data types.
        free: names of options that may differ when a run is resumed.
        names_changes: whether the values of the free options are stored too, so that `changes` can name them.
    """

    options: Mapping[str, Any]
    data: Sequence[Any]
    free: Collection[str] = ()
    names_changes: bool = False

    @cached_property
    def full(self) -> str:
        return _sha256([dict(self.options), *self.data])

    @cached_property
    def core(self) -> str:
        return _sha256([{name: value for name, value in self.options.items() if name not in self.free}, *self.data])

    def __str__(self) -> str:
        """The form in state files: `full`, or `full core`, or `full core` and the free options as JSON."""
        words = [self.full, self.core] if self.free else [self.full]
        return " ".join([*words, json.dumps(self._free_options)] if self.names_changes else words)

    def changes(self, stored: str) -> set[str] | None:
        """The free options that differ from those of a state file; None if it belongs to another run.

        If the state file does not store their values, all free options are returned.
        """
        full, core, values = (*stored.split(" ", 2), "", "")[:3]
        if full == self.full:
            return set()
        if not self.free or core != self.core:
            return None
        if not (self.names_changes and values):
            return set(self.free)
        before = json.loads(values)
        return {name for name, value in self._free_options.items() if value != before.get(name)}

    @property
    def _free_options(self) -> dict[str, Any]:
        return {name: self.options[name] for name in self.free if name in self.options}


def hashed_options(task: Any, unhashed: Collection[str]) -> dict[str, Any]:
    """The options of a task that determine the result, for a Fingerprint.

    Options that the task's class lists as ADDED_LATER are left out at their defaults, so that states of versions
    without them still belong to the same run.

    Args:
        unhashed: names of options that do not determine the result.
    """
    later = {spec.name: spec.default for spec in fields(task) if spec.name in getattr(task, "ADDED_LATER", ())}
    return {
        name: value
        for name, value in options_of(task).items()
        if name not in unhashed and not (name in later and value == later[name])
    }


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
