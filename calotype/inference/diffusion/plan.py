"""The plan of a generation, and the clock that counts its steps."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from calotype.inference.diffusion.canvas import Canvas
from calotype.inference.diffusion.conditioning import PromptEncoder, StepPrompts
from calotype.inference.diffusion.preview import LatentPreview
from calotype.inference.diffusion.prompt import ParsedPrompt
from calotype.models.diffusion import Diffusion
from calotype.samplers import Sampler
from calotype.tasks import Drawing, Imagine, Note, Progress

if TYPE_CHECKING:
    from calotype.checkpoints.lora import Adapter, Attached
    from calotype.checkpoints.textual_inversion import Embedding

LatentsGenerator = Generator[Progress | Note, None, Tensor]


class StepClock:
    """Counts the steps of all pictures, and estimates the remaining time."""

    def __init__(self, total: int):
        self.total, self.done, self._started = total, 0, time.monotonic()
        self._first = 0.0

    def tick(self, preview: Any) -> Drawing:
        self.done += 1
        now = time.monotonic()
        self._first = self._first or now
        seconds_per_step = (now - self._first) / (self.done - 1) if self.done > 1 else now - self._started
        return Drawing(
            self.done, max(self.total, self.done), "steps", seconds_per_step * (self.total - self.done), preview
        )


@dataclass(frozen=True, eq=False)
class GenerationPlan:
    """One prompt at one size, ready to be generated with any seed."""

    task: Imagine  # without open options
    model: Diffusion
    parsed_prompt: ParsedPrompt
    sampler: Sampler
    schedule: str
    canvas: Canvas
    prompt_encoder: PromptEncoder
    preview: LatentPreview
    adapters: "tuple[tuple[Adapter, float, float], ...]" = ()  # strengths in the text encoders and in the U-Net
    embeddings: "tuple[Embedding, ...]" = ()  # the textual inversion embeddings in the prompts
    is_compiled: bool = False

    @property
    def used(self) -> list[Any]:
        """The model with its adapters and embeddings, each with name and sha256."""
        return [self.model, *(adapter for adapter, *_ in self.adapters), *self.own_embeddings]

    @property
    def own_embeddings(self) -> "list[Embedding]":
        """The embeddings that are files of their own, not those within the LoRAs."""
        bundled = [word for adapter, *_ in self.adapters for word in adapter.embeddings]
        return [word for word in self.embeddings if not any(word is own for own in bundled)]


@dataclass(frozen=True, eq=False)
class DenoisePass:
    """One denoising pass."""

    scheduler: Any
    start_index: int  # index of the first timestep
    prompts: list[StepPrompts]
    init_latents: Tensor | None  # (1 or N, C, h, w); None starts from noise
    latent_shape: tuple[int, int]  # of the latents


def attach_adapters(adapters: "tuple[tuple[Adapter, float, float], ...]", model: Diffusion) -> Sequence[str]:
    """Attaches exactly these adapters to the model, in place of others. Returns the names of unmatched modules.

    Raises:
        CalotypeError: an adapter for another base model; the model then has no adapters.
    """

    def attach_all() -> "Attached":
        from calotype.checkpoints.lora import attach

        return attach(adapters, model.unet, [part.encoder for part in model.text], model.name)

    return model.apply_adapters(adapters, attach_all)
