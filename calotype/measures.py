"""What was measured of a photo, and what was decided from it.

Records hold decisions filled in, as text, as they hold notes; interfaces recognize and translate them. So values in
the templates are text already.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calotype.errors import Message, recognized

NO_TEXTURE = "no texture repeats over the whole print ({value}, from {threshold}), so none is taken out"
TEXTURE = "a texture repeats over the whole print ({value}, from {threshold}) and is taken out before enlarging"
TEMPLATES = (NO_TEXTURE, TEXTURE)


def figure(value: float) -> str:
    """A number with three digits, for the place of a value in TEMPLATES."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Measure:
    """One measure of a photo, with its decision."""

    name: str
    value: float
    threshold: float
    is_beyond: bool  # the threshold, on the side of damage
    decision: str  # one of TEMPLATES, filled in

    @classmethod
    def of(cls, name: str, value: float, threshold: float, is_beyond: bool, decision: Message) -> "Measure":
        """With three digits of the figures."""
        return cls(name, float(figure(value)), float(figure(threshold)), bool(is_beyond), str(decision))

    @property
    def message(self) -> Message:
        """The decision, to be worded."""
        return recognized(self.decision, TEMPLATES)

    def as_data(self) -> dict[str, Any]:
        """As JSON for clients: the decision is a message as data."""
        names = ("name", "value", "threshold", "is_beyond")
        return {name: getattr(self, name) for name in names} | {"decision": self.message.as_data()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Measure":
        """From a record, where the decision is text. Raises KeyError or ValueError for anything else."""
        kinds = {"name": str, "value": float, "threshold": float, "is_beyond": bool, "decision": str}
        return cls(**{name: kind(data[name]) for name, kind in kinds.items()})
