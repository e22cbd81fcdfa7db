"""Requests to OpenAI's images API as tasks. Parameters and values that are not supported are refused by name.

Besides OpenAI's parameters a request may have options of this program for sampling, such as `seed` and `negative`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from calotype.errors import CalotypeError, Wording
from calotype.options import is_optional, kinds, option, required_kind
from calotype.tasks.drawing import Imagine, Sampling
from calotype.tasks.guard import read_request

STEPS = {"low": 10, "high": 40, "hd": 40, "xhigh": 60, "max": 100}  # by quality; the model's default for others
QUALITIES = ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd")
ANSWERED_QUALITIES = {"auto": "medium", "standard": "medium", "hd": "high"}  # the others as they are
PARAMETERS = {"init": "image", "count": "n"}  # options of the task by other names
FAMILIES = ("gpt-image-", "chatgpt-image-", "dall-e-")  # models that programs name; the default model draws
MAX_IDENTIFIER = 512


@dataclass(frozen=True, kw_only=True)
class VaryImage(Sampling):
    """Variations of a picture (img2img), with OpenAI's parameters."""

    TITLE = "Pictures"
    OPTIONS = ("seed", "negative", "vae", "lora", "strength")  # of the task, by the same names; so are all of Sampling

    model: str = option("", "name of a model; OpenAI's names mean the default model", max_length=500)
    n: int = option(1, "number of pictures", min=1, max=10)
    size: str = option("auto", "WxH in pixels; auto: the model's default, or that of the picture", max_length=40)
    response_format: str = option(
        "b64_json", "pictures in base64, or addresses that need the same token", choices=("b64_json", "url")
    )
    user: str = option("", "accepted, has no effect", max_length=MAX_IDENTIFIER)
    seed: int = option(Imagine.seed, "random seed; -1 picks a random one")
    negative: str = option("", "negative prompt", max_length=20_000)
    vae: str = option("", "name of a replacement VAE", max_length=500)
    lora: str = option("", "LoRAs by name, such as mine:0.8,other", max_length=4000)
    strength: float = option(Imagine.strength, "denoising strength: how much of the picture is redrawn", min=0, max=1)
    prompt: str = option("", "prompt of the variations", max_length=20_000)

    @property
    def output(self) -> dict[str, Any]:
        """Options of the result's file."""
        return {"format": "png"}

    @property
    def steps_by_quality(self) -> int | None:
        return None

    def task(self, given: Mapping[str, Any], files: Mapping[str, Any]) -> dict[str, Any]:
        """The options of the task `imagine`.

        Args:
            given: names of the parameters in the request.
            files: pictures in the request, by the options `init` and `mask`.
        """
        names = {*(spec.name for spec in fields(Sampling)), *self.OPTIONS}
        task = {name: getattr(self, name) for name in sorted(names) if name in given}
        if self.steps is None and self.steps_by_quality:
            task["steps"] = self.steps_by_quality
        if self.model and not self.model.lower().startswith(FAMILIES):
            task["model"] = self.model
        if self.size != "auto":
            task["size"] = self.size
        if "mask" in files:  # OpenAI's masks are transparent where the picture is redrawn
            task["invert_mask"] = True
        return task | {"prompt": self.prompt, "count": self.n}


@dataclass(frozen=True, kw_only=True)
class EditImage(VaryImage):
    """Pictures from a picture and a prompt, with or without a mask, with OpenAI's parameters."""

    TITLE = "Pictures"

    prompt: str = option(help="prompt", max_length=20_000)
    quality: str = option("auto", "number of steps, where {option:steps} is not given", choices=QUALITIES)
    output_format: str = option("png", "file format", choices=("png", "jpeg", "webp"))
    output_compression: int | None = option(None, "quality of JPEG and WebP", min=0, max=100)
    background: str = option("auto", "background of the picture; always opaque", choices=("auto", "opaque"))
    moderation: str = option("auto", "accepted, has no effect: nothing is moderated", choices=("auto", "low"))
    style: str = option("vivid", "only OpenAI's default is supported; describe the style instead", choices=("vivid",))
    safety_identifier: str = option("", "returned in the answer, has no other effect", max_length=MAX_IDENTIFIER)
    stream: bool = option(False, "answer with server-sent events")
    partial_images: int = option(0, "with {option:stream}: number of previews at most", min=0, max=3)

    def __post_init__(self) -> None:
        if self.output_compression is not None and self.output_format == "png":
            raise CalotypeError("{option:output_compression} needs {option:output_format} jpeg or webp")
        if self.partial_images and not self.stream:
            raise CalotypeError("{option:partial_images} needs {option:stream}")

    @property
    def output(self) -> dict[str, Any]:
        quality = {} if self.output_compression is None else {"quality": max(1, self.output_compression)}
        return {"format": self.output_format, **quality}

    @property
    def steps_by_quality(self) -> int | None:
        return STEPS.get(self.quality)


@dataclass(frozen=True, kw_only=True)
class GenerateImage(EditImage):
    """Pictures from a prompt, with OpenAI's parameters."""

    TITLE = "Pictures"
    OPTIONS = ("seed", "negative", "vae", "lora")

    strength: None = None


class OpenAIWording(Wording):
    """Options by the names of OpenAI's parameters."""

    def option(self, name: str) -> str:
        return PARAMETERS.get(name, name)


OPENAI = OpenAIWording()


def read_parameters(cls: type, data: Mapping[str, Any]) -> tuple[Any, frozenset[str]]:
    """The request, and the names of the parameters that were given; null is as if it was not given.

    Raises:
        CalotypeError: an unknown parameter, or an invalid value.
    """
    given = {name: value for name, value in data.items() if value is not None}
    return read_request(cls, given), frozenset(given)


def form_values(cls: type, data: Mapping[str, str]) -> dict[str, Any]:
    """Values of a form, which are texts: booleans become such."""
    types = kinds(cls)
    words = {"true": True, "false": False}
    return {name: words.get(text.lower(), text) if types.get(name) is bool else text for name, text in data.items()}
