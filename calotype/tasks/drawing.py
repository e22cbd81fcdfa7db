"""Generating pictures from prompts."""

import re
from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option
from calotype.samplers import LANCZOS, LATENT, sampler_named, schedule_named
from calotype.tasks.prompts import called_loras, listed_loras, listed_names

MAX_SEED = 2**64 - 1  # as ComfyUI has them
PREDICTIONS = ("auto", "epsilon", "v", "flow")  # what the U-Net of a model may predict


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampler, guidance and noise."""

    TITLE = "Sampling"

    steps: int | None = option(None, "sampling steps; the model's default where not given", min=1, max=1000)
    guidance: float | None = option(
        None,
        "guidance scale (CFG scale): how closely to follow the prompt; 1: no guidance",
        min=0,
        max=100,
        title="Guidance scale",
    )
    rescale: float | None = option(
        None, "guidance rescale, against overexposure at high guidance", min=0, max=1, title="Guidance rescale"
    )
    sampler: str = option(
        "auto", "sampler by A1111's name, such as 'Euler a' or 'DPM++ 2M Karras'; auto: the model's default"
    )
    schedule: str = option("automatic", "schedule type by A1111's name, such as karras", title="Schedule type")
    clip_skip: int = option(
        0, "use the n-th layer from the end of the text encoder; 0: the model's default", min=0, max=12
    )
    emphasis: str = option(
        "original", "how weights such as (word:1.2) are applied", choices=("original", "no-norm", "ignore", "none")
    )
    noise: str = option(
        "cpu",
        "random number generator of the noise; a1111: as its GPU and NV settings",
        choices=("cpu", "a1111"),
        title="Noise source",
    )
    variation_seed: int = option(-1, "seed of the variation; -1 picks a random one", min=-1, max=MAX_SEED)
    variation: float = option(
        0.0, "interpolation of the noise towards the variation seed's", min=0, max=1, title="Variation strength"
    )
    seed_resize: str = option("", "keep the noise of this size, WxH, in the centre", title="Seed from size")
    tiling: bool = option(False, "seamless texture whose opposite edges match")


@dataclass(frozen=True, kw_only=True)
class Start:
    """The initial picture of img2img, and the mask of inpainting."""

    TITLE = "img2img, inpainting, outpainting"

    init: Path | None = option(None, "initial picture (img2img)", is_path=True, title="Initial picture")
    strength: float = option(
        0.75, "denoising strength: how much of the initial picture is redrawn", min=0, max=1, title="Denoising strength"
    )
    resize: str = option(
        "crop", "how the initial picture is resized", choices=("crop", "fill", "stretch"), title="Resize mode"
    )
    mask: Path | None = option(None, "mask, a picture of the same size: white is redrawn (inpainting)", is_path=True)
    invert_mask: bool = option(False, "redraw black instead of white")
    mask_blur: int = option(4, "soft edge inside the mask, in pixels", min=0, max=256)
    fill: str = option(
        "original",
        "initial content of the masked region",
        choices=("original", "blur", "noise", "nothing"),
        title="Masked content",
    )
    only_masked: bool = option(False, "inpaint the region around the mask alone, at full resolution")
    padding: int = option(32, "context around the mask, in pixels", min=0, max=1024, title="Padding of the mask")
    outpaint: str = option("", "pixels to add: 64, or left,top,right,bottom")
    blend: Path | None = option(
        None,
        "folder with up to 7 further pictures, whose latents are averaged with those of the initial one",
        is_path=True,
        title="Pictures to blend",
        is_hidden=True,
    )


@dataclass(frozen=True, kw_only=True)
class Hires:
    """A second, larger pass."""

    TITLE = "Hires fix: a second, larger pass"

    hires: float = option(
        0.0, "upscaling factor of the second pass; 0: no second pass", min=0, max=8, title="Upscale by"
    )
    hires_upscaler: str = option(
        "latent",
        "latent, latent (nearest) and similar, lanczos, or a super-resolution network",
        title="Upscaler",
        names="upscale",
        words=(*LATENT, LANCZOS),
        parsed=lambda text: () if text.lower() in (*LATENT, LANCZOS) else (text,),
    )
    hires_steps: int = option(
        0, "steps of the second pass; 0: as the first", min=0, max=1000, title="Steps of the second pass"
    )
    hires_strength: float = option(
        0.7, "denoising strength of the second pass", min=0, max=1, title="Denoising strength of the second pass"
    )


@dataclass(frozen=True, kw_only=True)
class Imagine(Sampling, Start, Hires):
    """Generate pictures from a prompt."""

    TITLE = "Prompt and model"

    prompt: str = option("", "prompt, in A1111's syntax", max_length=20_000, names="lora", parsed=called_loras)
    negative: str = option(
        "", "negative prompt", title="Negative prompt", max_length=20_000, names="lora", parsed=called_loras
    )
    model: str = option("emoji", "name in the catalog, a checkpoint file, or a diffusers folder", names="diffusion")
    vae: str = option("", "replacement VAE: name or file", names="vae")
    prediction: str = option(
        "auto",
        "what the model predicts, if its file does not say so; auto: by its keys, metadata or .yaml, else epsilon",
        choices=PREDICTIONS,
        title="Prediction type",
    )
    lora: str = option(
        "",
        "LoRAs by name or file, such as mine:0.8,other; or <lora:mine:0.8> in the prompt",
        title="LoRAs",
        max_length=4000,
        names="lora",
        parsed=lambda text: [lora.name for lora in listed_loras(text)],
    )
    style: str = option(
        "",
        "styles from styles.csv in the home folder, separated by commas",
        title="Styles",
        names="style",
        parsed=listed_names,
    )
    size: str = option("", "WxH in pixels, or one number; the model's default where not given")
    seed: int = option(
        -1, "random seed; the same seed gives the same picture, -1 picks a random one", min=-1, max=MAX_SEED
    )
    count: int = option(
        1, "number of pictures; the seed increases by 1 for each", min=1, max=10_000, title="Number of pictures"
    )
    batch: int = option(0, "pictures computed together; 0 chooses by memory", min=0, max=64, title="Batch size")
    grid: bool = option(False, "also write a grid of all pictures", title="Grid of all pictures")
    matrix: bool = option(False, "every combination of the parts of 'a|b|c'", title="Prompt matrix")
    truncation: float = option(
        1.0, "GAN only: truncation towards the average latent; .7 is more typical and less varied", min=0, max=2
    )
    interpolate: bool = option(
        False,
        "GAN only: latent interpolation from picture to picture, as GIF and MP4",
        title="Interpolation film",
    )
    x: str = option(
        "",
        "XY grid over an option, such as steps=10,20,30 or 'guidance=1-9 (+2)'",
        title="XY grid: x axis",
        max_length=4000,
    )
    y: str = option("", "the grid's other axis", title="XY grid: y axis", max_length=4000)
    place: int = option(
        -1,
        "index of the one picture of a batch that is reproduced: the bits of float32 depend on it",
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
        if self.init is None and (self.mask or self.outpaint or self.blend):
            raise CalotypeError(
                "{option} needs an initial picture; give {option:init}",
                option="mask" if self.mask else "outpaint" if self.outpaint else "blend",
            )
        if self.blend and (self.mask or self.outpaint):
            raise CalotypeError("pictures are blended whole; leave out {option:mask} and {option:outpaint}")
        if 0 < self.hires < 1:
            raise CalotypeError(
                "{option:hires} is an upscaling factor of at least 1, such as 1.5, not {hires:g}", hires=self.hires
            )
        if self.place >= max(self.batch, 1):
            raise CalotypeError("index {place} is not within a batch of {batch}", place=self.place, batch=self.batch)
        if self.has_second_pass and self.init is not None:
            raise CalotypeError(
                "{option:hires} needs a first pass from a prompt alone; for a second pass over a picture, give it with "
                "{option:init}"
            )
        if self.interpolate and self.grid:
            raise CalotypeError(
                "{option:interpolate} makes one film of all pictures, so {option:grid} has no effect; leave it out"
            )
        if self.mask and self.outpaint:
            raise CalotypeError("{option:mask} and {option:outpaint} can't be combined; use one after the other")

    @property
    def has_second_pass(self) -> bool:
        return self.hires >= 1


def read_size(text: str, option: str) -> tuple[int, int] | None:
    """(height, width) of "768x512" or "512"; None for an empty text. Raises CalotypeError."""
    if not text:
        return None
    match = re.fullmatch(r"\s*(\d{1,5})(?:\s*[x×X*]\s*(\d{1,5}))?\s*", text)
    width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not (8 <= width <= 16384 and 8 <= height <= 16384):
        raise CalotypeError(
            "{option} is such as 512 or 768x512 (width x height, 8 to 16384 pixels), not {text!r}",
            option=option,
            text=text,
        )
    return height, width


def read_margins(text: str) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of "64" or "64,0,64,0". Raises CalotypeError."""
    margins = text.split(",") if text else ["0"]
    if len(margins) not in (1, 4) or not all(re.fullmatch(r"\s*\d{1,5}\s*", margin) for margin in margins):
        raise CalotypeError("{option:outpaint} is such as 64, or left,top,right,bottom, not {text!r}", text=text)
    left, top, right, bottom = [int(margin) for margin in margins] * (4 // len(margins))
    return left, top, right, bottom
