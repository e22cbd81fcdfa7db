"""Preparing training photos: captions beside them, or crops around faces."""

from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option
from calotype.suffixes import SUFFIXES

SHAPES = ("square", "portrait")
INSTALLED = "installed"  # as `tagger` of a job: that of its worker


@dataclass(frozen=True, kw_only=True)
class Tagging:
    """Tags from a WD14 tagger."""

    TITLE = "Tags"

    tagger: Path | None = option(
        None, "WD14 tagger: its model.onnx, or the folder with it and selected_tags.csv", is_path=True
    )
    tagger_tags: Path | None = option(
        None, "its selected_tags.csv, if elsewhere", is_path=True, title="Tag list of the tagger"
    )
    threshold: float = option(0.35, "confidence threshold for general tags", min=0, max=1)
    character_threshold: float = option(0.85, "confidence threshold for character tags", min=0, max=1)
    exclude_tags: str = option("", "tags to leave out, separated by commas", max_length=20_000)


@dataclass(frozen=True, kw_only=True)
class Cropping:
    """Crops around faces."""

    TITLE = "Faces"

    face: bool = option(
        False, "write copies cropped around the largest face, with their captions", title="Crop around the face"
    )
    face_shape: str = option("square", "shape of the crops", choices=SHAPES)
    face_margin: float = option(0.75, "margin on each side of the face, in face sizes", min=0, max=5)


@dataclass(frozen=True, kw_only=True)
class Caption(Tagging, Cropping):
    """Write captions for training photos, from their folder's name, a trigger word and tags."""

    TITLE = "Captions and output"

    photos: Path = option(help="folder with photos, or with N_name folders of them", is_path=True)
    trigger: str = option("", "trigger word, the first word of every caption", title="Trigger word")
    prefix: bool = option(
        False,
        "keep existing captions and put the trigger word before them, in the same files",
        title="Prefix existing captions",
    )
    caption_extension: str = option(".txt", "extension of caption files")
    out: Path | None = option(
        None,
        "output folder for captions (beside the photos where not given) or crops (PHOTOS-faces)",
        is_path=True,
        title="Output folder",
    )
    overwrite: bool = option(False, "overwrite existing captions and crops")

    def __post_init__(self) -> None:
        if self.prefix and not self.trigger.strip():
            raise CalotypeError("{option:prefix} needs a trigger word; give it with {option:trigger} WORD")
        if "\n" in self.trigger or "\r" in self.trigger:
            raise CalotypeError("{option:trigger} is one line")
        ending = self.caption_extension.removeprefix(".")
        if not ending.isalnum():
            raise CalotypeError(
                "{option:caption_extension} is such as .txt, not {caption_extension!r}",
                caption_extension=self.caption_extension,
            )
        if f".{ending.lower()}" in SUFFIXES:
            raise CalotypeError(
                "{option:caption_extension} {caption_extension} is the extension of a picture; .txt is usual",
                caption_extension=self.caption_extension,
            )
