"""Generation parameters of a picture, as every reader of a dialect returns them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from calotype.tasks.prompts import LoraRef


@dataclass(frozen=True, kw_only=True)
class SecondPass:
    """The second pass of hires fix; what is None or empty is as in the first pass."""

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    strength: float | None = None
    upscaler: str = ""
    prompt: str = ""
    negative: str = ""
    sampler: str = ""
    schedule: str = ""
    guidance: float | None = None
    model: str = ""
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What was shown about a picture; None or empty where it was not.

    Names of models, samplers, schedules and upscalers are those of the program that wrote them.
    """

    program: str
    prompt: str = ""  # in A1111's syntax
    negative: str = ""
    loras: tuple[LoraRef, ...] = ()  # besides those in the prompt
    model: str = ""
    vae: str = ""
    seed: int | None = None
    steps: int | None = None
    sampler: str = ""
    schedule: str = ""
    guidance: float | None = None
    rescale: float | None = None
    width: int | None = None
    height: int | None = None
    clip_skip: int | None = None
    noise: str = "cpu"
    emphasis: str = "original"
    variation_seed: int | None = None
    variation: float | None = None
    seed_resize: str = ""
    tiling: bool = False
    strength: float | None = None  # of a picture made from another one
    is_from_picture: bool = False
    inpainting: Mapping[str, str | int | bool] = field(default_factory=dict)  # options of the mask, by our names
    hires: SecondPass | None = None
    has_own_model: bool = False  # its models exist in that program alone
    unfollowed: Mapping[str, str] = field(default_factory=dict)  # fields that no option follows
    information: Mapping[str, str] = field(default_factory=dict)  # fields that change nothing

    def fields(self) -> dict[str, str]:
        """All of it, by A1111's names."""
        rows = {
            "Program": self.program,
            "Prompt": self.prompt,
            "Negative prompt": self.negative,
            "Steps": self.steps,
            "Sampler": self.sampler,
            "Schedule type": self.schedule,
            "CFG scale": self.guidance,
            "Seed": self.seed,
            "Size": f"{self.width}x{self.height}" if self.width and self.height else None,
            "Model": self.model,
            "VAE": self.vae,
            "LoRAs": ", ".join(map(str, self.loras)),
            "Variation seed": self.variation_seed,
            "Variation seed strength": self.variation,
            "Seed resize from": self.seed_resize,
            "Denoising strength": self.strength if self.hires is None else self.hires.strength,
            "Clip skip": self.clip_skip,
            "CFG Rescale": self.rescale,
            "Tiling": "True" if self.tiling else None,
            "Emphasis": self.emphasis if self.emphasis != "original" else None,
            **{INPAINTING[name]: str(value) for name, value in self.inpainting.items()},
            "RNG": {"cpu": "CPU", "a1111": "GPU"}[self.noise],
            **(_hires_fields(self.hires) if self.hires else {}),
        }
        shown = {name: _as_text(value) for name, value in rows.items() if value not in (None, "")}
        return {**shown, **{n: v for n, v in {**self.unfollowed, **self.information}.items() if n not in shown}}

    def differences(self) -> Iterator[str]:
        """The options of the second pass, by A1111's names, that differ from those of the first."""
        if self.hires is None:
            return
        for name, title in SAME_IN_BOTH_PASSES.items():
            first, second = getattr(self, name), getattr(self.hires, name)
            if second not in (None, "") and _plain(second, name) != _plain(first, name):
                yield title


INPAINTING = {
    "mask_blur": "Mask blur",
    "only_masked": "Only masked",
    "padding": "Masked area padding",
    "fill": "Masked content",
}
SAME_IN_BOTH_PASSES = {
    "prompt": "Hires prompt",
    "negative": "Hires negative prompt",
    "sampler": "Hires sampler",
    "schedule": "Hires schedule type",
    "guidance": "Hires CFG Scale",
    "model": "Hires checkpoint",
    "seed": "Hires seed",
}


def _hires_fields(hires: SecondPass) -> dict[str, object]:
    size = f"{hires.width}x{hires.height}" if hires.width and hires.height else None
    rows = {"Hires upscale": hires.scale, "Hires resize": size, "Hires steps": hires.steps}
    rows |= {"Hires upscaler": hires.upscaler}
    return rows | {title: getattr(hires, name) for name, title in SAME_IN_BOTH_PASSES.items()}


def _as_text(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _plain(value: object, name: str) -> object:
    if not isinstance(value, str):
        return value
    return file_stem(value).casefold() if name == "model" else value.strip().casefold()


def file_stem(name: str) -> str:
    """The name of a model without folder, extension and hash: `SD/a.b.safetensors [0123abcd]` is `a.b`."""
    name = re.sub(r"\s*\[[0-9a-fA-F]+\]\s*$", "", name.strip()).replace("\\", "/").rsplit("/", 1)[-1]
    return re.sub(r"\.(safetensors|ckpt|pt|pth|bin|gguf|sft)$", "", name, flags=re.I)
