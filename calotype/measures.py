"""What was measured of a photo, and what was decided from it.

Records hold decisions filled in, as text, as they hold notes; interfaces recognize and translate them. So values in
the templates are text already.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from calotype.errors import Message, recognized

PHOTOS = "{value} photos lie on this scan: cut them apart first, each is then restored by itself"
SINGLE_PHOTO = "one photo lies on this scan, with the lid of the scanner around it: it is left there"
NO_LID = "one picture fills the scan"
BLANK = "the scan is blank"
SKEWED = (
    "the photos lie turned by up to {value} degrees, from {threshold}: left so, cutting them out sets them straight"
)
STRAIGHT = "the photos lie straight, within {value} degrees"
BORDER = "a plain border takes up to {value} % of a side, from {threshold}: left, it is cut off only where asked"
NO_BORDER = "no plain border"

NOISE = "noise of {value} levels of 255, from {threshold}: left to the network that enlarges, which smooths it"
NO_NOISE = "noise of {value} levels of 255, grainy from {threshold}: nothing to smooth"
BLURRED = "edges are {value} pixels soft, from {threshold}: fewer details than pixels, so a larger scale adds little"
NOT_BLURRED = "edges are {value} pixels soft, blurred from {threshold}: sharp"
BLOCKS = (
    "JPEG's blocks have steps of {value} levels, from {threshold}: left to the network that enlarges, which smooths"
)
NO_BLOCKS = "JPEG's blocks have steps of {value} levels, visible from {threshold}: nothing to smooth"

TEXTURE = "a texture repeats over the whole print ({value}, from {threshold}) and is taken out before enlarging"
NO_TEXTURE = "no texture repeats over the whole print ({value}, from {threshold}), so none is taken out"

FADED = "black is {black} of 255, alike all over the photo: it has faded, and its tones are set right"
NOT_FADED = "black is {black} and white {white} of 255: the tones are left"
GREY_TONES = "a grey photo, black {black} and white {white} of 255: left, {option:repair} fading widens its tones"
WIDENED = "black {black} and white {white} of 255 are moved to the ends of the tones"
CAST = "black is {black} and white {white} in red, green and blue, alike all over the photo: their tint is reduced"
SKIN_CAST = (
    "black is {black} and white {white} in red, green and blue, alike all over the photo: their tint is reduced, as "
    "far as the colours of skin allow"
)
PALE_CAST = (
    "black is {black} and white {white} in red, green and blue, alike all over the photo: their tint is reduced, and "
    "the pale colours become stronger"
)
ASKED_CAST = "black is {black} and white {white} in red, green and blue: their tint is reduced"
NO_CAST = "black is {black} and white {white} in red, green and blue: no cast that is alike all over the photo"
TOO_SMALL = "the photo is too small for its black and white to tell of fading: left"
NOT_LIFTED = (
    "black is {black} and white {white} in red, green and blue: neither is black lifted in all three alike nor white "
    "yellow as old paper is, so these are taken for the colours of the motif"
)
FULL_WHITE = (
    "black is {black} and white {white} in red, green and blue: black is lifted, but white is too bright for a faded "
    "print, so it may be the motif; left, {option:repair} fading sets it right"
)
TINTS_DIFFER = (
    "black is {black} and white {white} in red, green and blue: black is lifted, but dark places differ in their tint, "
    "so it may be the motif; left, {option:repair} fading sets it right"
)
UNTINTED_BLACK = (
    "black is {black} and white {white} in red, green and blue: black is lifted, but has hardly a tint, and white is "
    "not yellow, so it may be haze; left, {option:repair} fading sets it right"
)
NOT_AGED = (
    "black is {black} and white {white} in red, green and blue: white is yellow, but a brown black, a bright white "
    "and pale colours do not come together, as in an aged print, so it may be the motif; left, {option:repair} fading "
    "sets it right"
)
NO_PEOPLE = (
    "black is {black} and white {white} in red, green and blue: black is tinted, but no face is found for sure, beside "
    "which that is a cast, so it may be the motif; left, {option:repair} fading sets it right"
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

SCRATCHES = "scratches and hairs found and filled: {value}"
NO_SCRATCHES = "no scratch or hair that is sure enough to be filled"
FEW_SCRATCHES = (
    "sure scratches or hairs: {value}, too few to be filled unasked; {option:repair} scratches fills them and what is "
    "likely"
)
SPECKS = "specks of dust found and filled: {value}"
NO_SPECKS = "no speck of dust that is sure enough to be filled"
LEFT_SPECKS = (
    "sure specks: {value}, of dust, or else stars or glints, as too few sure scratches show that the photo is "
    "damaged; {option:repair} scratches fills them"
)
MASKED = "the mask covers {value} % of the photo, which is filled"
NOTHING_MASKED = "the mask is all black, so no damage is filled"

FACE = "face {number}: {width} pixels wide, edges {blur} pixels soft, turned aside by {angle} degrees: restored"
FACE_LEFT = "face {number}: {width} pixels wide, edges {blur} pixels soft, turned aside by {angle} degrees: left"

TEMPLATES = (PHOTOS, SINGLE_PHOTO, NO_LID, BLANK, SKEWED, STRAIGHT, BORDER, NO_BORDER, NOISE, NO_NOISE, BLURRED)
TEMPLATES += (NOT_BLURRED, BLOCKS, NO_BLOCKS, TEXTURE, NO_TEXTURE, FADED, NOT_FADED, GREY_TONES, WIDENED, CAST, NO_CAST)
TEMPLATES += (SKIN_CAST, PALE_CAST, ASKED_CAST, TONED, TINTED, KEPT_TINT, GREY, FACE, FACE_LEFT)
TEMPLATES += (TOO_SMALL, NOT_LIFTED, FULL_WHITE, TINTS_DIFFER, UNTINTED_BLACK, NOT_AGED, NO_PEOPLE)
TEMPLATES += (SCRATCHES, NO_SCRATCHES, FEW_SCRATCHES, SPECKS, NO_SPECKS, LEFT_SPECKS, MASKED, NOTHING_MASKED)
WORDS = ("photos", "skew", "border", "noise", "blur", "blocks", "texture", "scratches", "specks", "mask", "fading")
WORDS += ("cast", "face")  # of measures


def figure(value: float) -> str:
    """A number with three digits, for the place of a value in TEMPLATES."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:z.3g}"


@dataclass(frozen=True)
class Measure:
    """One measure of a photo, with its decision."""

    name: str
    value: float
    threshold: float
    is_beyond: bool  # the threshold, in whatever else the decision asks for, too
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
        """As JSON for clients: its title, and the decision, are messages as data."""
        return asdict(self) | {"title": Message.of(self.name).as_data(), "decision": self.message.as_data()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Measure":
        """From a record, where the decision is text. Raises KeyError, TypeError or ValueError for anything else."""
        measure = cls(**data)
        figures = (measure.value, measure.threshold)
        are_numbers = all(isinstance(figure, int | float) and math.isfinite(figure) for figure in figures)
        if not are_numbers or not all(isinstance(text, str) for text in (measure.name, measure.decision)):
            raise ValueError("a measure has a name, two figures and a decision")
        return measure
