"""Samples drawn during training with the current weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calotype.checkpoints.models import Models
from calotype.dialects.infotext import quoted
from calotype.dialects.sd_scripts.prompts import Prompt
from calotype.files import make_folder
from calotype.inference.diffusion.generate import draw
from calotype.models.diffusion import Diffusion
from calotype.picture import Picture, save
from calotype.record import Result
from calotype.tasks import Drawing, Imagine, Progress


@dataclass(frozen=True)
class SampleConfig:
    """Defaults for options that a prompt does not set."""

    size: tuple[int, int]  # width, height
    seed: int  # the n-th prompt uses seed + n, the same at every step
    sampler: str = "auto"
    clip_skip: int = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """One saved sample."""

    number: int
    path: Path
    prompt: str
    how: str
    picture: Picture


def draw_samples(
    prompts: Sequence[Prompt],
    config: SampleConfig,
    model: Diffusion,
    models: Models,
    folder: Path,
    name: str,
    progress: str,
) -> Iterator[Progress | Sample]:
    """Yields progress and, for every prompt, the sample saved as `folder/NAME_NN_SEED.png`.

    Noise depends only on the prompts' seeds. LoRAs of the prompts (`<lora:other:1>`) are detached at the end.

    Args:
        progress: state of the run for the picture's parameters, e.g. "mine, epoch 3, step 42".
    Raises:
        CalotypeError: a prompt uses a missing model, not enough memory, the disk is full.
    """
    make_folder(folder)
    try:
        for number, prompt in enumerate(prompts):
            for event in draw(_task(prompt, number, config), model, models):
                if isinstance(event, Drawing):
                    yield Progress(number * event.total + event.done, len(prompts) * event.total, "drawing samples")
                elif isinstance(event, Result):
                    yield _save_sample(event, number, folder, name, progress)
    finally:
        model.detach_adapters()


def _task(prompt: Prompt, number: int, config: SampleConfig) -> Imagine:
    width, height = prompt.width or config.size[0], prompt.height or config.size[1]
    return Imagine(
        prompt=prompt.prompt,
        negative=prompt.negative,
        size=f"{width}x{height}",
        seed=(config.seed + number) % 2**63 if prompt.seed is None else prompt.seed,
        steps=prompt.steps,
        guidance=prompt.scale,
        sampler=prompt.sampler or config.sampler,
        clip_skip=config.clip_skip,
        emphasis="none" if prompt.is_plain else "original",
    )


def _save_sample(result: Result, number: int, folder: Path, name: str, progress: str) -> Sample:
    """Saves without a record: `calotype again` could not reproduce it, since the weights of that step are gone."""
    options, metadata = result.record.options, result.picture.metadata
    text = f"{metadata.texts['parameters']}, Training: {quoted(progress)}"
    picture = replace(result.picture, metadata=replace(metadata, texts={"parameters": text}))
    path = folder / f"{name}_{number:02d}_{options['seed']}.png"
    save(picture, path, format="png")
    height, width = picture.pixels.shape[:2]
    how = f"{options['steps']} steps of {options['sampler']}, guidance {options['guidance']:g}, "
    how += f"{width}x{height}, seed {options['seed']}"
    how += f", not {options['negative']}" if options["negative"] else ""
    return Sample(number, path, options["prompt"], how, picture)
