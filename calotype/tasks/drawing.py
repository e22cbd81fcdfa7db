"""Making pictures from words."""

import re
from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option
from calotype.samplers import LANCZOS, LATENT, sampler_named, schedule_named
from calotype.tasks.prompts import called_loras, listed_loras, listed_names


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How noise becomes a picture."""

    TITLE = "How it is drawn"

    steps: int | None = option(None, "steps of the sampler; the model's own where not given", min=1, max=1000)
    guidance: float | None = option(
        None, "how closely to follow the words (CFG scale); 1: plainly", min=0, max=100, title="Guidance scale"
    )
    rescale: float | None = option(
        None, "guidance rescale, against glaring colours at high guidance", min=0, max=1, title="Guidance rescale"
    )
    sampler: str = option("auto", "by A1111's name, such as 'Euler a' or 'DPM++ 2M Karras'; auto: the model's own")
    schedule: str = option("automatic", "schedule type by A1111's name, such as karras", title="Schedule type")
    clip_skip: int = option(0, "take the text encoder's n-th layer from the end; 0: the model's own", min=0, max=12)
    emphasis: str = option(
        "original", "what weights such as (word:1.2) do", choices=("original", "no-norm", "ignore", "none")
    )
    noise: str = option(
        "cpu",
        "where noise comes from; a1111: as its GPU and NV pictures",
        choices=("cpu", "a1111"),
        title="Noise source",
    )
    variation_seed: int = option(-1, "seed to go towards; -1 takes a random one", min=-1, max=2**63 - 1)
    variation: float = option(0.0, "how far towards the variation seed", min=0, max=1, title="Variation strength")
    seed_resize: str = option("", "keep the noise of this size, WxH, in the middle", title="Seed from size")
    tiling: bool = option(False, "a texture whose edges meet")


@dataclass(frozen=True, kw_only=True)
class Start:
    """The picture that drawing starts from, where it is not noise alone."""

    TITLE = "From a picture: img2img, inpaint, outpaint"

    init: Path | None = option(None, "picture to start from (img2img)", is_path=True, title="Start picture")
    strength: float = option(
        0.75, "how much of it to draw anew (denoising strength)", min=0, max=1, title="Denoising strength"
    )
    resize: str = option(
        "crop", "how it comes to another size", choices=("crop", "fill", "stretch"), title="Resize mode"
    )
    mask: Path | None = option(None, "picture of its size; what is white there is drawn anew (inpaint)", is_path=True)
    invert_mask: bool = option(False, "draw anew what is black instead")
    mask_blur: int = option(4, "pixels over which the new fades in, inside the mask", min=0, max=256)
    fill: str = option(
        "original",
        "what the hole holds at first",
        choices=("original", "blur", "noise", "nothing"),
        title="Masked content",
    )
    only_masked: bool = option(False, "work on the part around the mask alone, at full size")
    padding: int = option(
        32, "pixels around the mask that count as its surroundings", min=0, max=1024, title="Padding of the mask"
    )
    outpaint: str = option("", "pixels to add: 64, or left,top,right,bottom")


@dataclass(frozen=True, kw_only=True)
class Hires:
    """A second, larger pass."""

    TITLE = "A second pass, larger (hires fix)"

    hires: float = option(0.0, "draw again this many times larger; 0: no second pass", min=0, max=8, title="Enlarge by")
    hires_upscaler: str = option(
        "latent",
        "latent, latent (nearest) and its kin, lanczos, or a network for enlarging",
        title="Upscaler",
        names="upscale",
        words=(*LATENT, LANCZOS),
        parsed=lambda text: () if text.lower() in (*LATENT, LANCZOS) else (text,),
    )
    hires_steps: int = option(
        0, "steps of the second pass; 0: as the first", min=0, max=1000, title="Steps of the second pass"
    )
    hires_strength: float = option(
        0.7, "how much of it to draw anew", min=0, max=1, title="Strength of the second pass"
    )


@dataclass(frozen=True, kw_only=True)
class Imagine(Sampling, Start, Hires):
    """Make pictures from words."""

    TITLE = "What is drawn"

    prompt: str = option("", "what to draw, in A1111's grammar", max_length=20_000, names="lora", parsed=called_loras)
    negative: str = option(
        "", "what not to draw", title="Negative prompt", max_length=20_000, names="lora", parsed=called_loras
    )
    model: str = option("emoji", "name in the catalog, a checkpoint file, or a diffusers folder", names="diffusion")
    vae: str = option("", "another VAE: name or file", names="vae")
    lora: str = option(
        "",
        "LoRAs by name or file, such as mine:0.8,other; or <lora:mine:0.8> in the prompt",
        title="LoRAs",
        max_length=4000,
        names="lora",
        parsed=lambda text: [lora.name for lora in listed_loras(text)],
    )
    style: str = option(
        "", "names from styles.csv in the home folder, by commas", title="Styles", names="style", parsed=listed_names
    )
    size: str = option("", "WxH in pixels, or one number; the model's own where not given")
    seed: int = option(-1, "the same seed gives the same picture; -1 takes a random one", min=-1, max=2**63 - 1)
    count: int = option(1, "how many pictures; the seed counts up", min=1, max=10_000, title="Number of pictures")
    batch: int = option(0, "how many are computed together; 0 chooses by memory", min=0, max=64, title="Batch size")
    grid: bool = option(False, "one more picture that shows all", title="Grid of all")
    matrix: bool = option(False, "every combination of the parts of 'a|b|c'", title="Prompt matrix")
    truncation: float = option(
        1.0, "of a forger (GAN): how far from its average; .7 is likelier and less varied", min=0, max=2
    )
    interpolate: bool = option(
        False,
        "of a forger: a film that walks from picture to picture, as GIF and MP4",
        title="Film from picture to picture",
    )
    x: str = option(
        "",
        "draw a sheet over an option, such as steps=10,20,30 or 'guidance=1-9 (+2)'",
        title="Sheet: from left to right",
        max_length=4000,
    )
    y: str = option("", "the sheet's other axis", title="Sheet: from top to bottom", max_length=4000)
    place: int = option(
        -1,
        "of the one picture in a batch that is made again: the bits of float32 depend on it",
        min=-1,
        max=63,
        is_hidden=True,
    )

    def __post_init__(self) -> None:
        read_size(self.size, "size")
        read_size(self.seed_resize, "seed_resize")
        read_margins(self.outpaint)
        if self.sampler != "auto":
            sampler_named(self.sampler, self.schedule)
        schedule_named(self.schedule)
        if self.init is None and (self.mask or self.outpaint):
            raise CalotypeError(
                "{option} needs the picture that it belongs to; give {option:init}",
                option="mask" if self.mask else "outpaint",
            )
        if 0 < self.hires < 1:
            raise CalotypeError(
                "{option:hires} is how many times larger, 1 at least, such as 1.5; not {hires:g}", hires=self.hires
            )
        if self.place >= max(self.batch, 1):
            raise CalotypeError(
                "the place {place} is not within a batch of {batch}", place=self.place, batch=self.batch
            )
        if self.has_second_pass and self.init is not None:
            raise CalotypeError(
                "{option:hires} draws from words alone; for a second pass over a picture, give it with {option:init}"
            )
        if self.interpolate and self.grid:
            raise CalotypeError(
                "{option:interpolate} makes one film of all, so {option:grid} would change nothing; leave it out"
            )
        if self.mask and self.outpaint:
            raise CalotypeError("{option:mask} and {option:outpaint} don't go together; do one after the other")

    @property
    def has_second_pass(self) -> bool:
        return self.hires >= 1


def read_size(text: str, option: str) -> tuple[int, int] | None:
    """(height, width) of "768x512" or "512"; None for nothing. Raises CalotypeError."""
    if not text:
        return None
    found = re.fullmatch(r"\s*(\d{1,5})(?:\s*[x×X*]\s*(\d{1,5}))?\s*", text)
    width, height = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not (8 <= width <= 16384 and 8 <= height <= 16384):
        raise CalotypeError(
            "{option} is such as 512 or 768x512 (width x height, 8 to 16384 pixels), not {text!r}",
            option=option,
            text=text,
        )
    return height, width


def read_margins(text: str) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of "64" or "64,0,64,0". Raises CalotypeError."""
    parts = text.split(",") if text else ["0"]
    if len(parts) not in (1, 4) or not all(re.fullmatch(r"\s*\d{1,5}\s*", part) for part in parts):
        raise CalotypeError("{option:outpaint} is such as 64, or left,top,right,bottom, not {text!r}", text=text)
    left, top, right, bottom = [int(part) for part in parts] * (4 // len(parts))
    return left, top, right, bottom
