"""Making photos ready to be learnt from: captions beside them, or crops around the faces in them."""

from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option
from calotype.suffixes import SUFFIXES

SHAPES = ("square", "portrait")


@dataclass(frozen=True, kw_only=True)
class Tagging:
    """Words that a network finds."""

    TITLE = "Tags"

    tagger: Path | None = option(
        None, "WD14 tagger to ask for tags: its model.onnx, or the folder with it and selected_tags.csv", is_path=True
    )
    tagger_tags: Path | None = option(
        None, "its list of tags, where it lies elsewhere", is_path=True, title="Tags of the tagger"
    )
    threshold: float = option(0.35, "how sure it must be of a tag", min=0, max=1)
    character_threshold: float = option(0.85, "how sure of a known figure's name", min=0, max=1)
    exclude_tags: str = option("", "tags never to write, with commas between", max_length=20_000)


@dataclass(frozen=True, kw_only=True)
class Cropping:
    """Faces."""

    TITLE = "Faces"

    face: bool = option(
        False, "write copies cropped around the largest face, with their captions", title="Crop around the face"
    )
    face_shape: str = option("square", "shape of these", choices=SHAPES)
    face_margin: float = option(0.75, "room on each side of the face, in faces", min=0, max=5)


@dataclass(frozen=True, kw_only=True)
class Caption(Tagging, Cropping):
    """Write captions for photos to learn from, from their folder's name, a trigger word and tags."""

    TITLE = "What is written, and where"

    photos: Path = option(help="folder with photos, or with N_name folders of them", is_path=True)
    trigger: str = option("", "word that shall call what is learnt; it begins every caption", title="Trigger word")
    prefix: bool = option(
        False,
        "keep what captions say, and put the trigger word before it, in the same files",
        title="Prefix what is there",
    )
    caption_extension: str = option(".txt", "ending of caption files")
    out: Path | None = option(
        None,
        "folder for captions (beside the photos where not given) or crops (PHOTOS-faces)",
        is_path=True,
        title="Folder for results",
    )
    overwrite: bool = option(False, "replace captions and crops that are there")

    def __post_init__(self) -> None:
        if self.prefix and not self.trigger.strip():
            raise CalotypeError(
                "{option:prefix} puts the trigger word before captions; give it with {option:trigger} WORD"
            )
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
                "{option:caption_extension} {caption_extension} is that of pictures; .txt is usual",
                caption_extension=self.caption_extension,
            )
