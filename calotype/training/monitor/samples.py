"""Sample pictures of a training run, drawn with the model as it is now."""

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
    """How prompts are drawn that do not say it themselves."""

    size: tuple[int, int]  # width, height
    seed: int  # the n-th prompt takes seed + n, so that each has the same one whenever it is drawn
    sampler: str = "auto"
    clip_skip: int = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """One of them."""

    number: int
    path: Path
    prompt: str
    how: str
    picture: Picture


def drawn(
    prompts: Sequence[Prompt], ways: SampleConfig, model: Diffusion, models: Models, folder: Path, name: str, when: str
) -> Iterator[Progress | Sample]:
    """Yields progress and, for every prompt, the sample that was saved as `folder/NAME_NN_SEED.png`.

    All chance comes from the prompts' seeds. What the prompts call on top (`<lora:other:1>`) is taken off again.

    Args:
        when: what the picture's parameters tell about the run, such as "mine, epoch 3, step 42".
    Raises:
        CalotypeError: a prompt calls what is not there, the memory does not suffice, the disk is full.
    """
    make_folder(folder)
    try:
        for number, prompt in enumerate(prompts):
            for event in draw(_task(prompt, number, ways), model, models):
                if isinstance(event, Drawing):
                    yield Progress(number * event.total + event.done, len(prompts) * event.total, "drawing samples")
                elif isinstance(event, Result):
                    yield _saved(event, number, folder, name, when)
    finally:
        model.detach_adapters()


def _task(prompt: Prompt, number: int, ways: SampleConfig) -> Imagine:
    width, height = prompt.width or ways.size[0], prompt.height or ways.size[1]
    return Imagine(
        prompt=prompt.prompt,
        negative=prompt.negative,
        size=f"{width}x{height}",
        seed=(ways.seed + number) % 2**63 if prompt.seed is None else prompt.seed,
        steps=prompt.steps,
        guidance=prompt.scale,
        sampler=prompt.sampler or ways.sampler,
        clip_skip=ways.clip_skip,
        emphasis="none" if prompt.is_plain else "original",
    )


def _saved(result: Result, number: int, folder: Path, name: str, when: str) -> Sample:
    """Without a record: `calotype again` could not make the picture, for the LoRA as it was then is gone."""
    options, metadata = result.record.options, result.picture.metadata
    text = f"{metadata.texts['parameters']}, Training: {quoted(when)}"
    picture = replace(result.picture, metadata=replace(metadata, texts={"parameters": text}))
    path = folder / f"{name}_{number:02d}_{options['seed']}.png"
    save(picture, path, format="png")
    height, width = picture.pixels.shape[:2]
    how = f"{options['steps']} steps of {options['sampler']}, guidance {options['guidance']:g}, "
    how += f"{width}x{height}, seed {options['seed']}"
    how += f", not {options['negative']}" if options["negative"] else ""
    return Sample(number, path, options["prompt"], how, picture)
