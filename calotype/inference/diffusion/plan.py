"""One drawing as it is planned, and the clock that counts its steps."""

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
    """Counts steps over all that is drawn, and tells how long the rest will take."""

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
    """One prompt at one size, ready to be drawn with any seed."""

    task: Imagine  # nothing left open
    model: Diffusion
    parsed_prompt: ParsedPrompt
    sampler: Sampler
    schedule: str
    canvas: Canvas
    prompt_encoder: PromptEncoder
    preview: LatentPreview
    adapters: "tuple[tuple[Adapter, float, float], ...]" = ()  # strengths in the text encoders and in the U-Net
    embeddings: "tuple[Embedding, ...]" = ()  # the learned words that the prompts call
    is_compiled: bool = False

    @property
    def used(self) -> list[Any]:
        """The model and what is put on it, each with name and sha256."""
        return [self.model, *(adapter for adapter, *_ in self.adapters), *self.embeddings]


@dataclass(frozen=True, eq=False)
class DenoisePass:
    """One way down the noise."""

    scheduler: Any
    start_index: int  # index of the first timestep
    prompts: list[StepPrompts]
    init_latents: Tensor | None  # (1 or N, C, h, w): what it starts from
    latent_shape: tuple[int, int]  # of the latents


def attach_adapters(adapters: "tuple[tuple[Adapter, float, float], ...]", model: Diffusion) -> Sequence[str]:
    """Puts just these adapters on the model, whatever is on it. Returns the names of what has no place in it.

    Raises:
        CalotypeError: an adapter for another base; the model is then without any.
    """

    def attach_all() -> "Attached":
        from calotype.checkpoints.lora import attach

        return attach(adapters, model.unet, [part.encoder for part in model.text], model.name)

    return model.wear(adapters, attach_all)
