"""Restoring and upscaling."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

from calotype.errors import CalotypeError
from calotype.options import as_name, nearest, option, same_as
from calotype.tasks.drawing import read_size

LARGEST_SCALE = 16  # by which a picture is enlarged to cover a size
FACE_PARTS = ("eyes", "brows", "nose", "mouth", "skin")  # with strengths of their own
PHOTO_COUNT = "photos"  # key of `Record.computed`: how many photos are on a scan
REPAIRS = ("texture", "scratches", "fading")  # in the order in which they are done
FORMATS = ("auto", "jpeg", "png", "webp", "tiff", "bmp", "avif", "heic", "jxl")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the file of the picture is read."""

    TITLE = "Input file"

    damaged_file: bool = option(
        False, "read what is left of a JPEG or PNG that is damaged or cut off", title="Read a damaged file"
    )


@dataclass(frozen=True, kw_only=True)
class Saving:
    """The file format of the result."""

    TITLE = "Output file"

    format: str = option(
        "auto", "file format of the result; auto keeps the source's", choices=FORMATS, title="File format"
    )
    quality: int = option(95, "quality of JPEG, WebP, AVIF, HEIC and JPEG XL", min=1, max=100)
    strip_location: bool = option(False, "remove the GPS location of the photo from the result")
    page: int = option(0, "picture in a file that holds several; 0: the main one", min=0, max=1_000_000, is_hidden=True)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a large picture is split into tiles for the network."""

    TITLE = "Tiling and transparency"

    tile: int = option(0, "tile side in input pixels; 0 chooses by free memory", min=0, max=4096)
    overlap: int = option(32, "overlap of neighbouring tiles in input pixels", min=0, max=1024)
    denoise: float = option(
        0.5, "realesr-general-x4v3 only: denoising strength; 1 denoises strongly, 0 keeps the noise", min=0, max=1
    )
    alpha: str = option(
        "network",
        "how the alpha channel is enlarged: by the network, or by Lanczos",
        choices=("network", "lanczos"),
        title="Transparency",
    )


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Which network `auto` stands for."""

    TITLE = "Speed"
    UPSCALER_OPTION: ClassVar[str]  # the option that names the network

    speed: str = option(
        "auto",
        "quick: a compact network such as photo-x2; best: realesrgan-x4plus, or realesrgan-x4plus-anime for drawings; "
        "auto: best on a graphics card or where it takes under 30 seconds, quick otherwise",
        choices=("auto", "quick", "best"),
    )
    auto_upscaler: str = option(
        "", "the network that auto stands for, where a record has it", names="upscale", is_hidden=True
    )
    auto_seconds: float = option(
        30.0, "the time in which {option:speed} auto takes the best network", min=0, max=1e6, is_hidden=True
    )

    @property
    def is_automatic(self) -> bool:
        """Whether `speed` chooses the network."""
        return getattr(self, self.UPSCALER_OPTION) == "auto"

    def check_speed(self) -> None:
        """Raises CalotypeError for a speed beside the name of a network."""
        if self.speed != "auto" and not self.is_automatic:
            raise CalotypeError(
                "{option} names the network, so {option:speed} has no effect; leave one of them out",
                option=self.UPSCALER_OPTION,
            )


@dataclass(frozen=True, kw_only=True)
class Upscale(Speed, Tiling, Reading, Saving):
    """Enlarge a picture with a super-resolution network."""

    TITLE = "Upscaling"
    UPSCALER_OPTION = "model"

    source: Path = option(help="picture", is_path=True, title="Picture")
    model: str = option(
        "auto", "catalog name, checkpoint file, or auto: chosen by {option:speed}", names="upscale", words=("auto",)
    )
    scale: float = option(
        0.0, "upscaling factor, any number; 0 uses the network's own, which is 4 for auto", min=0, max=64
    )

    def __post_init__(self) -> None:
        self.check_speed()


@dataclass(frozen=True, kw_only=True)
class Restore(Speed, Tiling, Reading, Saving):
    """Restore an old photo: the faces by a face restoration network, the rest by a super-resolution network."""

    TITLE = "Restoration"
    UPSCALER_OPTION = "upscaler"

    source: Path = option(help="photo", is_path=True, title="Photo")
    scale: float = option(2.0, "upscaling factor of the result, any number", min=0.01, max=64)
    upscaler: str = option(
        "auto",
        "super-resolution network for the whole picture: catalog name, file, none, or auto: chosen by {option:speed}",
        names="upscale",
        words=("auto", "none"),
    )
    face_model: str = option(
        "auto",
        "face restoration network: catalog name, file, none; auto uses the best one installed",
        names="faces",
        words=("auto", "none"),
    )
    faces: str = option(
        "all", "faces to restore: all, none, center, or numbers from the report such as 1,3", title="Faces to restore"
    )
    strength: str = option(
        "1",
        "weight of the restored pixels, 0 to 1; faces by number, parts of faces and the rest by name: "
        "0.8,2=0.3,eyes=0.5,background=1; parts: eyes, brows, nose, mouth, skin",
    )
    repair: str = option(
        "auto",
        "damage of the print to repair first: auto repairs what is found, none, or a list; texture: what repeats over "
        "the whole print, as the weave of silk paper, a halftone raster or lines of a scanner; scratches: hairs, dust "
        "and tears too; fading: tones and colours that faded, and the cast of yellowed paper",
        max_length=100,
    )
    mask: Path | None = option(
        None,
        "a picture of the photo's size, white where it is damaged: that is repaired, and no scratches are searched; or "
        "a folder with one for each photo, NAME-mask.png or NAME.png",
        is_path=True,
        title="Mask of the damage",
    )
    repair_model: str = option(
        "marks", "network that finds scratches: catalog name or file", names="repair", title="Network for scratches"
    )
    inpaint_model: str = option(
        "none",
        "network that fills what is repaired, such as LaMa: catalog name or file; none: from the pixels around",
        names="inpaint",
        words=("none",),
        title="Network for filling",
    )
    fading: float = option(0.8, "how much of fading and cast is taken out: 0 nothing, 1 all of it", min=0, max=1)
    auto_repair: str = option(
        "", "what auto repairs, where a record has it", max_length=100, title="What auto repairs", is_hidden=True
    )
    examined: bool = option(
        True, "whether measures of the photo are recorded, which earlier records do not have", is_hidden=True
    )
    fidelity: float = option(
        0.5, "CodeFormer only: 0 for the best quality, 1 for the closest to the input", min=0, max=1
    )
    aligned: bool = option(
        False, "the source is one aligned face crop: no detection, no pasting", title="Aligned face crop"
    )
    min_confidence: float = option(
        0.7, "skip faces with a lower detection confidence", min=0, max=1, title="Minimum confidence"
    )
    min_face: int = option(20, "skip faces narrower than this, in pixels", min=0, max=65_535, title="Minimum face size")
    min_likeness: float = option(
        0.4,
        "how much a restored face has to look like the photo, 0 to 1; it is blended back until it does; 0: it never is",
        min=0,
        max=1,
        title="Least likeness",
    )
    unclear_strength: float = option(
        0.4,
        "strength of faces of which the photo shows too little to be restored, as a part of that of others, 0 to 1; "
        "1: as others",
        min=0,
        max=1,
        title="Strength of unclear faces",
    )
    auto_face_model: str = option(
        "",
        "the network that auto stands for, where a record has it; the best one installed where empty",
        names="faces",
        is_hidden=True,
    )

    auto_face_mesh: str = option(
        "", "whether faces are treated by their mesh, where a record has it", max_length=20, is_hidden=True
    )
    has_uncertainty: bool = option(
        False,
        "also write NAME-uncertainty.png: where restored faces are invented, as they change when the photo is moved, "
        "mirrored or noisier by a little; faces take about seven times as long",
        title="Show what is invented",
    )
    has_mask: bool = option(
        False,
        "also write NAME-mask.png: white where damage was repaired, to correct by hand for {option:mask}",
        title="Show the damage found",
    )
    auto_identity: str = option(
        "", "how likeness is measured, where a record has it", choices=("", "dlib", "mesh"), is_hidden=True
    )

    cover: str = option(
        "", "size that the result covers, such as 768x512, instead of {option:scale}", max_length=20, is_hidden=True
    )
    crop: bool = option(False, "cut what goes beyond {option:cover}, on both sides alike", is_hidden=True)

    def __post_init__(self) -> None:
        self.check_speed()
        read_size(self.cover, "cover")
        chosen_faces(self.faces)
        Strengths.read(self.strength)
        chosen_repairs(self.repair)
        chosen_repairs(self.auto_repair or "none")
        if self.mask and "scratches" not in chosen_repairs(self.repair):
            raise CalotypeError(
                "{option:mask} is for the repair scratches; add it to {option:repair}, or leave one of them out"
            )
        if self.aligned and self.mask:
            raise CalotypeError(
                "{option:aligned} repairs nothing, so {option:mask} has no effect; leave one of them out"
            )
        if self.aligned and self.repair not in ("auto", "none"):
            raise CalotypeError(
                "{option:aligned} repairs nothing, so {option:repair} has no effect; leave one of them out"
            )
        if self.aligned and "none" in (self.faces, self.face_model):
            raise CalotypeError("{option:aligned} restores the picture as one face; leave out none")

    @property
    def uses_face_mesh(self) -> bool:
        return self.auto_face_mesh != "none"

    @property
    def face_version(self) -> int:
        """How faces are treated: by the present version 3, or as a record of an earlier one has it."""
        return {"none": 0, "1": 1, "2": 2}.get(self.auto_face_mesh, 3)

    def for_size(self, size: tuple[int, int]) -> "Restore":
        """The task with the scale that `cover` asks for, for a picture of this height and width.

        Raises:
            CalotypeError: that is more than `LARGEST_SCALE`.
        """
        target = read_size(self.cover, "cover")
        if target is None:
            return self
        scale = max(target[0] / size[0], target[1] / size[1])
        if scale > LARGEST_SCALE:
            raise CalotypeError(
                "{option} {cover} is {scale:.0f} times the size of the picture, and {limit} times is the most",
                option="cover",
                cover=self.cover,
                scale=scale,
                limit=LARGEST_SCALE,
            )
        return replace(self, scale=max(scale, 0.01), cover="")


@dataclass(frozen=True, kw_only=True)
class Split(Reading, Saving):
    """Cut the photos out of a scan that holds several, each turned straight and upright."""

    TITLE = "Splitting"

    source: Path = option(help="scan", is_path=True, title="Scan")
    photo: int = option(
        0, "cut out the photo of this number alone, in reading order; 0: all", min=0, max=1000, title="Number"
    )
    cut_borders: bool = option(False, "also cut off the plain border that a photo has itself")
    upright: bool = option(True, "turn photos by quarters until their faces are upright", title="Faces upright")
    dry_run: bool = option(False, "tell which photos are found and where, and write nothing", title="Plan only")


@dataclass(frozen=True, kw_only=True)
class Colour(Reading, Saving):
    """Colour a black and white photo by strokes or by a photo in colour; its lightness stays as it is, bit for bit."""

    TITLE = "Colouring"

    source: Path = option(help="photo", is_path=True, title="Photo")
    hints: Path | None = option(
        None,
        "strokes of colour in a picture as large as the photo: on a transparent layer, or painted over the photo",
        is_path=True,
        title="Strokes of colour",
    )
    reference: Path | None = option(
        None,
        "photo in colour whose colours places that look alike get, first around faces",
        is_path=True,
        title="Photo in colour",
    )

    def __post_init__(self) -> None:
        if not (self.hints or self.reference):
            raise CalotypeError(
                "colours come from {option:hints} or {option:reference}; give one of them, or both", option="hints"
            )


@dataclass(frozen=True, kw_only=True)
class FindFaces:
    """Find the faces of a photo, numbered as in restoring, tell what restoring does, and make a small copy."""

    TITLE = "Faces"
    FILE_NAME: ClassVar[str] = "photo.jpg"  # of the result of a job

    source: Path = option(help="photo", is_path=True, title="Photo")
    page: int = same_as(Saving, "page")
    damaged_file: bool = same_as(Reading, "damaged_file")
    out: Path | None = option(
        Path("photo.jpg"), "the small copy of the photo, a JPEG", is_path=True, title="Output file"
    )
    side: int = option(1600, "longer side of the copy in pixels, at most", min=64, max=4096, title="Side of the copy")
    scale: float = same_as(Restore, "scale")
    upscaler: str = same_as(Restore, "upscaler")
    speed: str = same_as(Restore, "speed")
    auto_seconds: float = same_as(Restore, "auto_seconds")
    face_model: str = same_as(Restore, "face_model")
    faces: str = same_as(Restore, "faces")
    strength: str = same_as(Restore, "strength")
    repair: str = same_as(Restore, "repair")
    fading: float = same_as(Restore, "fading")
    mask: Path | None = same_as(Restore, "mask")
    repair_model: str = same_as(Restore, "repair_model")
    inpaint_model: str = same_as(Restore, "inpaint_model")
    min_confidence: float = same_as(Restore, "min_confidence")
    min_face: int = same_as(Restore, "min_face")

    def __post_init__(self) -> None:
        self.restoration  # noqa: B018  raises what it would

    @property
    def restoration(self) -> Restore:
        """The restoration whose plan is told."""
        names = {spec.name for spec in fields(self)} & {spec.name for spec in fields(Restore)}
        return Restore(**{name: getattr(self, name) for name in names})


def chosen_faces(text: str) -> str | frozenset[int]:
    """`all`, `none` or `center` unchanged; numbers such as "1,3" as a set. Raises CalotypeError for anything else."""
    if text in ("all", "none", "center"):
        return text
    try:
        numbers = frozenset(int(number) for number in text.split(","))
    except ValueError:
        numbers = frozenset({0})
    if min(numbers) < 1:
        raise CalotypeError("{option:faces} is all, none, center, or face numbers such as 1,3, not {text!r}", text=text)
    return numbers


def chosen_repairs(text: str) -> tuple[str, ...]:
    """The repairs of "auto" (all), "none" (no one) or of a list of names. Raises CalotypeError for anything else."""
    if text in ("auto", "none"):
        return REPAIRS if text == "auto" else ()
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in REPAIRS]:
        raise CalotypeError(
            "{option:repair} is auto, none, or a list of {known}, not {text!r}{hint}",
            known=", ".join(REPAIRS),
            text=text,
            hint=nearest(unknown[0], REPAIRS),
        )
    return tuple(name for name in REPAIRS if name in names)


def _face_or_part(name: str) -> int | str:
    """What a strength is for: the number of a face, or a name. Raises CalotypeError for an unknown name."""
    names = (*FACE_PARTS, "background")
    if name in names:
        return name
    try:
        return int(name)
    except ValueError:
        raise CalotypeError(
            "{option:strength} names faces by number, parts ({parts}) or background, not {name}{hint}",
            parts=", ".join(FACE_PARTS),
            name=as_name(name),
            hint=nearest(name, names),
        ) from None


@dataclass(frozen=True)
class Strengths:
    """Weights of the restored pixels: for all, for single faces by number, for parts of faces, for the background."""

    overall: float
    faces: Mapping[int, float]
    background: float
    parts: Mapping[str, float]  # names of FACE_PARTS

    @classmethod
    def read(cls, text: str) -> "Strengths":
        """Reads "0.8", "0.8,2=0.3", "eyes=0.3,mouth=0.6", "0.5,background=1".

        Raises CalotypeError for anything else.
        """
        overall, named = 1.0, {}
        try:
            for entry in text.split(","):
                name, equals, value = entry.strip().rpartition("=")
                if not 0 <= float(value) <= 1:
                    raise ValueError
                if equals:
                    named[_face_or_part(name.strip())] = float(value)
                else:
                    overall = float(value)
        except ValueError:
            raise CalotypeError(
                "{option:strength} is a number from 0 to 1, or such as 0.8,2=0.3,eyes=0.5,background=1, not {text!r}",
                text=text,
            ) from None
        parts = {name: named.pop(name) for name in FACE_PARTS if name in named}
        background = named.pop("background", overall)
        return cls(overall, named, background, parts)

    def of(self, number: int) -> float:
        return self.faces.get(number, self.overall)

    def leaves(self, number: int) -> bool:
        """Whether nothing of this face is restored. A part counts unless the face itself is named with 0."""
        return self.of(number) == 0 and (number in self.faces or not any(self.parts.values()))
