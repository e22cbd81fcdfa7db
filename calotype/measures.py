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
FADED = "black is {black} of 255, alike all over the photo: it has faded, and its tones are set right"
NOT_FADED = "black is {black} and white {white} of 255: the tones are left"
GREY_TONES = "a grey photo, black {black} and white {white} of 255: left, {option:repair} fading widens its tones"
WIDENED = "black {black} and white {white} of 255 are moved to the ends of the tones"
CAST = "black is {black} and white {white} in red, green and blue, alike all over the photo: both are made neutral"
NO_CAST = "black is {black} and white {white} in red, green and blue: no cast that is alike all over the photo"
UNCLEAR_CAST = (
    "black is {black} and white {white} in red, green and blue: a cast, or the colours of the motif; left, "
    "{option:repair} fading takes it out"
)
TONED = (
    "one tint over all tones, as sepia or a motif of one colour has it: left, {option:repair} fading widens its tones "
    "and keeps the tint"
)
TINTED = (
    "one tint over most of the photo, with coloured parts, as of a tinted print: left, {option:repair} fading widens "
    "its tones and keeps the tint"
)
KEPT_TINT = "one tint over all tones, or most of the photo, as of a sepia or tinted print: the tint is kept"
GREY = "a grey photo stays grey"
TEMPLATES = (NO_TEXTURE, TEXTURE, FADED, NOT_FADED, GREY_TONES, WIDENED, CAST, NO_CAST, UNCLEAR_CAST, TONED, TINTED)
TEMPLATES += (KEPT_TINT, GREY)


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
