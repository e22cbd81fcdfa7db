"""The task that draws a picture of any program again, from the parameters in it, and what it cannot follow."""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.dialects.parameters import Parameters, SecondPass, file_stem
from calotype.dialects.readers import read_parameters
from calotype.dialects.samplers import resolve
from calotype.errors import CalotypeError, Message, Remedy, listed
from calotype.files import readable
from calotype.options import as_data
from calotype.samplers import LANCZOS, LATENT
from calotype.tasks import Imagine, read_task
from calotype.tasks.limits import Limits
from calotype.tasks.prompts import LoraRef, called_loras

if TYPE_CHECKING:
    from calotype.picture import Picture

NO_LIMITS = Limits(
    **dict.fromkeys(("picture", "pixels", "drawing", "scale"), math.inf)
)  # for the owner of the computer
UPSCALERS = {  # A1111's names of networks that the catalog has
    "r-esrgan 4x+": "realesrgan-x4plus",
    "r-esrgan 4x+ anime6b": "realesrgan-x4plus-anime",
    "r-esrgan 2x+": "realesrgan-x2plus",
    "r-esrgan general 4xv3": "realesr-general-x4v3",
    "r-esrgan general wdn 4xv3": "realesr-general-wdn-x4v3",
    "r-esrgan animevideo": "realesr-animevideov3",
}
PLAIN_UPSCALERS = ("none", "nearest", "lanczos")
_SHOWN_FIELDS = 12  # of those that are not followed, in the note
_TAG = re.compile(r"<(lora|lyco):([^<>:]+)((?::[^<>]*)?)>", re.I)
Names = Callable[[str], Collection[str]]


def picture_parameters(picture: "Picture") -> Parameters | None:
    """The parameters in the metadata of a picture, or None."""
    return read_parameters(picture.metadata.texts, picture.pixels.shape[:2])


def task_from_parameters(
    picture: "Picture", where: Path, names: Names, given: Mapping[str, Any] | None = None
) -> tuple[Imagine, list[Message]]:
    """The task in the parameters of a picture, and notes about what is not followed.

    The picture is untrusted: models and LoRAs are names in the store, never files. Whoever runs the task may override
    any option.

    Args:
        names: of the installed models, by kind (`ModelStore.names`). A VAE or LoRA that is not installed is left out.
        given: options that override those in the picture.

    Raises:
        CalotypeError: there are no parameters, or the picture was made from another one that is not given.
    """
    given = dict(given or {})
    parameters = picture_parameters(picture)
    if parameters is None or (parameters.steps is None and parameters.seed is None):
        raise CalotypeError("{where} has no record and no generation parameters", where=readable(where))
    if parameters.is_from_picture and "init" not in given:
        raise CalotypeError(
            "{where} was made from another picture, which its parameters don't contain; give it with {option:init}",
            where=readable(where),
        )
    redrawing = _Redrawing(parameters, names, given, picture.pixels.shape[:2])
    options = {name: value for name, value in redrawing.options().items() if value not in (None, "")}
    options = {name: value for name, value in options.items() if name not in given}
    try:
        task = read_task("imagine", options, trusted=False, names=names, limits=NO_LIMITS)
    except CalotypeError as fault:
        raise CalotypeError(
            "the parameters of {where} can't be used: {fault}", option=fault.option, where=readable(where), fault=fault
        ) from None
    return with_options(task, given), redrawing.notes


def options_from_parameters(parameters: Parameters, names: Names) -> tuple[dict[str, Any], list[Message]]:
    """The options of `imagine` in parameters without their picture, unchecked, and notes about what is not followed.

    Raises CalotypeError for a prompt that cannot be read.
    """
    size, notes, given = (parameters.height or 0, parameters.width or 0), [], {}
    if not parameters.has_own_model and not installed_name(names, "diffusion", parameters.model):
        given = {"model": ""}  # the model that is chosen stays
        if parameters.model:
            text = "the model {model} is not installed; the one that is chosen here stays"
            notes = [Message(text, model=readable(file_stem(parameters.model)))]
    redrawing = _Redrawing(parameters, names, given, size)
    options = {name: value for name, value in redrawing.options().items() if value not in (None, "", "0x0")}
    return options, [*notes, *redrawing.notes]


def installed_name(names: Names, kind: str, name: str) -> str | None:
    """The name in the store of a model, whatever folder, extension and case another program writes."""
    installed = names(kind)
    if name in installed:
        return name
    return {file_stem(known).casefold(): known for known in installed}.get(file_stem(name).casefold())


def with_options(task: Imagine, given: Mapping[str, Any]) -> Imagine:
    """The task with options of the person who runs it."""
    return read_task("imagine", {**as_data(task), **given}) if given else task


@dataclass
class _Redrawing:
    parameters: Parameters
    names: Names
    given: Mapping[str, Any]
    size: tuple[int, int]  # of the picture: height, width
    notes: list[Message] = field(default_factory=list)

    def options(self) -> dict[str, Any]:
        parameters = self.parameters
        sampler, schedule = self._sampler()
        options = {
            "prompt": self._prompt(parameters.prompt),
            "negative": self._prompt(parameters.negative),
            "lora": self._loras(),
            "model": self._model(),
            "vae": self._vae(),
            "steps": parameters.steps,
            "sampler": sampler,
            "schedule": schedule,
            "guidance": parameters.guidance,
            "rescale": parameters.rescale,
            "seed": parameters.seed,
            "size": self._size(),
            "clip_skip": parameters.clip_skip if parameters.clip_skip != 1 else None,
            "emphasis": parameters.emphasis,
            "noise": parameters.noise,
            "variation_seed": parameters.variation_seed if parameters.variation else None,
            "variation": parameters.variation,
            "seed_resize": parameters.seed_resize,
            "tiling": parameters.tiling or None,
            "strength": parameters.strength,
            **(parameters.inpainting if "mask" in self.given else {}),
            **(self._second_pass(parameters.hires) if parameters.hires else {}),
        }
        self._name_missing(options)
        self._name_unfollowed()
        return options

    def _sampler(self) -> tuple[str | None, str | None]:
        if "sampler" in self.given:
            return None, None
        schedule = self.given.get("schedule", self.parameters.schedule)
        sampler, schedule, notes = resolve(self.parameters.sampler, schedule)
        self.notes += notes
        return sampler, schedule

    def _model(self) -> str | None:
        name = self.parameters.model
        if "model" in self.given:
            return None
        if name and (found := self._installed("diffusion", name)):
            return found
        if name and not self.parameters.has_own_model:
            raise CalotypeError(
                "the model {model} of this picture is not installed; add it, or give another with {option:model}",
                model=readable(file_stem(name)),
                remedy=Remedy("list_models"),
            )
        if name:
            self.notes.append(
                Message(
                    "the model {model} exists in {program} only, the default is used",
                    model=readable(name),
                    program=self.parameters.program,
                )
            )
        else:
            self.notes.append(Message("its parameters name no model, the default is used"))
        return None

    def _vae(self) -> str | None:
        name = self.parameters.vae
        if not name or "vae" in self.given:
            return None
        found = self._installed("vae", name)
        if found is None:
            self.notes.append(Message("the VAE {vae} is not installed, the model's own is used", vae=readable(name)))
        return found

    def _installed(self, kind: str, name: str) -> str | None:
        return installed_name(self.names, kind, name)

    def _loras(self) -> str | None:
        if "lora" in self.given:
            return None
        found = [(lora, self._installed("lora", lora.name)) for lora in self.parameters.loras]
        for lora, name in found:
            if name is None:
                self._name_lora(lora.name)
        named = [str(LoraRef(name, lora.text, lora.unet)) for lora, name in found if name]
        return ",".join(tag.removeprefix("<lora:").removesuffix(">") for tag in named) or None

    def _prompt(self, text: str) -> str:
        """The prompt with the LoRAs by their names in the store, and without those that are not installed."""

        def renamed(match: re.Match) -> str:
            name = self._installed("lora", match[2].strip())
            if name is None:
                self._name_lora(match[2])
            return f"<{match[1]}:{name}{match[3]}>" if name else ""

        text = _TAG.sub(renamed, text)
        called_loras(text)  # raises for an incomplete one
        return text.strip()

    def _name_lora(self, name: str) -> None:
        self.notes.append(Message("the LoRA {lora} is not installed and left out", lora=readable(file_stem(name))))

    def _size(self) -> str:
        """Of the first pass: of the parameters, or that of the picture."""
        parameters = self.parameters
        if parameters.width and parameters.height:
            return f"{parameters.width}x{parameters.height}"
        scale = max(parameters.hires.scale or 1, 1) if parameters.hires else 1
        return "x".join(str(round(side / scale)) for side in self.size[::-1])

    def _second_pass(self, hires: SecondPass) -> dict[str, Any]:
        return {
            "hires": self._scale(hires),
            "hires_steps": hires.steps,
            "hires_upscaler": self._upscaler(hires.upscaler),
            "hires_strength": hires.strength,
        }

    def _scale(self, hires: SecondPass) -> float:
        """The factor of the second pass; of a size, along the side that grows more."""
        if hires.scale and hires.scale >= 1:
            return hires.scale
        width, height = self.parameters.width, self.parameters.height
        if width and height and (hires.width or hires.height):
            return max((hires.width or 0) / width, (hires.height or 0) / height, 1.0)
        return 1.0

    def _upscaler(self, name: str) -> str | None:
        plain = name.strip().casefold()
        if not plain or plain in (*LATENT, LANCZOS):
            return plain or None
        if plain in PLAIN_UPSCALERS:
            return LANCZOS
        found = self._installed("upscale", UPSCALERS.get(plain, name))
        if found is None:
            self.notes.append(
                Message("the upscaler {upscaler} is not installed, lanczos is used", upscaler=readable(name))
            )
        return found or LANCZOS

    def _name_missing(self, options: Mapping[str, Any]) -> None:
        if options["steps"] is None and "steps" not in self.given:
            self.notes.append(Message("its parameters have no steps, the model's default is used"))
        if options["seed"] is None and "seed" not in self.given:
            self.notes.append(Message("its parameters have no seed, a random one is used"))

        if self.parameters.inpainting and "mask" not in self.given:
            self.notes.append(
                Message("it was made with a mask, which its parameters don't contain; give it with {option:mask}")
            )

    def _name_unfollowed(self) -> None:
        if training := self.parameters.information.get("Training"):
            self.notes.append(
                Message(
                    "it was generated with a LoRA during its training ({training}), which is not applied here",
                    training=readable(training),
                )
            )
        fields = list(self._unfollowed())
        if fields:
            more = len(fields) - _SHOWN_FIELDS
            ending = Message(" and {count} more", count=more) if more > 0 else Message("")
            self.notes.append(
                Message(
                    "its parameters are not all followed: {fields}{ending}",
                    fields=listed(fields[:_SHOWN_FIELDS]),
                    ending=ending,
                )
            )

    def _unfollowed(self) -> Iterator[str]:
        """The fields that no option follows, with their values: "Refiner (sdxl-refiner)"."""
        shown = self.parameters.fields()
        for name in (*self.parameters.differences(), *self.parameters.unfollowed):
            value = readable(shown.get(name, "") or self.parameters.unfollowed.get(name, ""))
            yield f"{readable(name)} ({value[:60]})" if value else readable(name)
