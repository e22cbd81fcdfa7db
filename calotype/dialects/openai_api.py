"""Requests to OpenAI's images API as tasks. Parameters and values that are not supported are refused by name.

Besides OpenAI's parameters a request may have options of this program for sampling, such as `seed` and `negative`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from calotype.errors import CalotypeError, Wording
from calotype.options import as_name, kinds, nearest, option
from calotype.tasks.drawing import Imagine, Sampling
from calotype.tasks.guard import read_request

QUALITIES = ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd")
STEPS = {"low": 10, "high": 40, "hd": 40, "xhigh": 60, "max": 100}  # by quality; the model's default for others
ANSWERED_QUALITIES = {"auto": "medium", "standard": "medium", "hd": "high"}  # the others as they are
FIDELITY_STRENGTHS = {"high": 0.5}  # by input_fidelity; the default of the task for others
FAMILIES = ("gpt-image-", "chatgpt-image-", "dall-e-")  # models that programs name; the default model draws
PARAMETERS = {"init": "image", "count": "n"}  # options of the task that have other names here
TASK_OPTIONS = {spec.name for spec in fields(Imagine)} - {"model", "size", "style"}  # the same here, where they exist
MAX_IDENTIFIER = 512


@dataclass(frozen=True, kw_only=True)
class ImageParameters(Sampling):
    """What all requests have."""

    TITLE = "Pictures"

    model: str = option("", "name of a model; OpenAI's names mean the default model", max_length=500)
    n: int = option(1, "number of pictures", min=1, max=10)
    size: str = option("auto", "WxH in pixels; auto: the model's default, or after the picture", max_length=40)
    response_format: str = option(
        "b64_json", "pictures in base64, or addresses that need the same token", choices=("b64_json", "url")
    )
    user: str = option("", "accepted, has no effect", max_length=MAX_IDENTIFIER)
    seed: int = option(-1, "random seed; -1 picks a random one")
    negative: str = option("", "negative prompt", max_length=20_000)
    vae: str = option("", "name of a replacement VAE", max_length=500)
    lora: str = option("", "LoRAs by name, such as mine:0.8,other", max_length=4000)

    @property
    def output(self) -> dict[str, Any]:
        """Options of the file of a result."""
        return {"format": "png"}

    @property
    def implied(self) -> dict[str, Any]:
        """Options of the task that follow from parameters with another meaning; those that are given go first."""
        return {}

    def task(self, given: Collection[str], files: Collection[str]) -> dict[str, Any]:
        """Options of the task `imagine`.

        Args:
            given: names of the parameters in the request.
            files: options whose pictures are in the request, of `init` and `mask`.
        """
        task = self.implied | {name: getattr(self, name) for name in sorted(TASK_OPTIONS & set(given))}
        if self.model and not self.model.lower().startswith(FAMILIES):
            task["model"] = self.model
        if self.size != "auto":
            task["size"] = self.size
        if "mask" in files:  # OpenAI's masks are transparent where the picture is redrawn
            task["invert_mask"] = True
        return task | {"count": self.n}


@dataclass(frozen=True, kw_only=True)
class RenderParameters(ImageParameters):
    """What requests with a prompt have."""

    prompt: str = option(help="prompt", max_length=20_000)
    quality: str = option("auto", "number of steps, where {option:steps} is not given", choices=QUALITIES)
    output_format: str = option("png", "file format", choices=("png", "jpeg", "webp"))
    output_compression: int | None = option(None, "quality of JPEG and WebP", min=0, max=100)
    background: str = option("auto", "background of the picture; always opaque", choices=("auto", "opaque"))
    moderation: str = option("auto", "accepted, has no effect: nothing is moderated", choices=("auto", "low"))
    style: str = option("vivid", "OpenAI's default, which has no effect here", choices=("vivid",))
    safety_identifier: str = option("", "returned in the answer, has no other effect", max_length=MAX_IDENTIFIER)
    stream: bool = option(False, "answer with server-sent events")
    partial_images: int = option(0, "number of previews at most; needs stream", min=0, max=3)

    def __post_init__(self) -> None:
        if self.output_compression is not None and self.output_format == "png":
            raise CalotypeError("{option} needs output_format jpeg or webp", option="output_compression")
        if self.partial_images and not self.stream:
            raise CalotypeError("{option} needs stream", option="partial_images")
        if self.stream and self.response_format == "url":
            raise CalotypeError("{option} url and stream can't be combined", option="response_format")

    @property
    def output(self) -> dict[str, Any]:
        quality = {} if self.output_compression is None else {"quality": max(1, self.output_compression)}
        return {"format": self.output_format, **quality}

    @property
    def implied(self) -> dict[str, Any]:
        return {"steps": STEPS[self.quality]} if self.quality in STEPS else {}


@dataclass(frozen=True, kw_only=True)
class GenerateImage(RenderParameters):
    """Pictures from a prompt, with OpenAI's parameters."""


@dataclass(frozen=True, kw_only=True)
class EditImage(RenderParameters):
    """Pictures from a picture and a prompt, with OpenAI's parameters."""

    input_fidelity: str = option("low", "high keeps more of the picture: strength 0.5", choices=("low", "high"))
    strength: float = option(0.75, "denoising strength: how much of the picture is redrawn", min=0, max=1)

    @property
    def implied(self) -> dict[str, Any]:
        fidelity = self.input_fidelity
        strength = {"strength": FIDELITY_STRENGTHS[fidelity]} if fidelity in FIDELITY_STRENGTHS else {}
        return super().implied | strength


@dataclass(frozen=True, kw_only=True)
class VaryImage(ImageParameters):
    """Variations of a picture, with OpenAI's parameters."""

    prompt: str = option("", "prompt of the variations", max_length=20_000)
    strength: float = option(0.75, "denoising strength: how much of the picture is redrawn", min=0, max=1)


class OpenAIWording(Wording):
    """Options by the names of OpenAI's parameters."""

    def option(self, name: str) -> str:
        return PARAMETERS.get(name, name)


def read_parameters(cls: type, data: Mapping[str, Any]) -> tuple[Any, frozenset[str]]:
    """The request, and the names of the parameters that it has; null is as if a parameter was not given.

    Raises:
        CalotypeError: a parameter that is not supported, or an invalid value.
    """
    given = {name: value for name, value in data.items() if value is not None}
    known = kinds(cls)
    for name in given:
        if name not in known:
            hint = nearest(name, known)
            raise CalotypeError("{name} is not supported{hint}", name=as_name(name), hint=hint, option=name[:100])
    return read_request(cls, given), frozenset(given)


def form_values(cls: type, data: Mapping[str, str]) -> dict[str, Any]:
    """The texts of a form, of which those of booleans become such."""
    known, words = kinds(cls), {"true": True, "false": False}
    return {name: words.get(text.lower(), text) if known.get(name) is bool else text for name, text in data.items()}
