"""Limits on the work of one untrusted request. Ranges of single numbers are defined with the options."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from calotype.errors import CalotypeError
from calotype.tasks.diffusion import TrainDiffusion
from calotype.tasks.drawing import Imagine, read_margins, read_size
from calotype.tasks.enhancing import TrainRestorer, TrainUpscaler
from calotype.tasks.prompts import composition
from calotype.tasks.training import TrainLora
from calotype.tasks.training_gan import TrainGan
from calotype.tasks.training_repair import TrainRepairer

NATIVE = (1024, 1024)  # height and width if the model decides: the largest of any model
STEPS = 30  # of a sampler, if the model decides
SMALLEST = 256**2  # pixels; a smaller picture costs as much
SAMPLES = 4  # sample pictures of a training run at once
UNCERTAINTY = 2.0  # times the work of restoring a photo, where it is shown what is invented
MILLION = 1e6


@dataclass(frozen=True)
class Limits:
    """Limits of one request. The size of files is not checked here: `Settings.max_pixels` limits that.

    The work of generating is pixels x pictures x steps, of both passes, times the number of sub-prompts joined by AND
    plus their thousands of characters; that of training pixels x batch size x steps, plus its sample pictures.
    """

    picture: float = 2**24  # pixels of a generated picture: 4096 x 4096
    pixels: float = 2**28  # of all pictures of a request, which may be in memory together: 256 of 1024 x 1024
    cells: int = 1000  # pictures of an XY grid
    drawing: float = 1e10  # 500 pictures of 1024 x 1024 in 20 steps
    scale: float = 16  # upscaling factor
    training: float = 2e11  # 190,000 steps with one picture of 1024 x 1024
    batch: float = 2**26  # pixels of one step: 64 pictures of 1024 x 1024
    photos: int = 1000  # training pictures, if their number is not known
    epochs: int = 1000
    minutes: float = 24 * 60
    rank: int = 512
    weights: float = 1e9  # parameters of a new network
    files: int = 100  # that a training run saves before its end


LIMITS = Limits()
LIMITED_OPTIONS = {
    **{"scale": "scale", "max_train_epochs": "epochs", "minutes": "minutes"},
    **dict.fromkeys(("network_dim", "conv_dim", "rank", "conv_rank"), "rank"),
}  # options, and their limits


def check_work(
    task: Any, cell_tasks: Sequence[Any], limits: Limits = LIMITS, start: tuple[int, int] | None = None
) -> None:
    """Raises CalotypeError, naming the limit, if a request exceeds one.

    Args:
        cell_tasks: the task itself, or a task for each cell of its XY grid.
        start: height and width of the initial picture, once they are known; mask and margins are of that size.
    """
    if start and getattr(task, "init", None) and (task.mask or task.outpaint) and not task.size:
        cell_tasks = [
            replace(cell_task, size=f"{min(start[1], 16384)}x{min(start[0], 16384)}") for cell_task in cell_tasks
        ]
    for cell_task in cell_tasks:
        for name, limit in LIMITED_OPTIONS.items():
            value, limit_value = getattr(cell_task, name, None), getattr(limits, limit)
            if value is not None and value > limit_value:
                raise CalotypeError("{option} goes up to {limit:g} in a request", option=name, limit=limit_value)
    if isinstance(task, Imagine):
        _check_drawing(cell_tasks, limits)
    elif type(task) in TRAINING:
        TRAINING[type(task)](task, limits)


def work_of(task: Any, cell_tasks: Sequence[Any], photos: int = 1) -> float:
    """How much a task computes, in a unit of its kind: those of the same kind and models take time about in proportion.
    0: nothing that counts.

    Args:
        cell_tasks: as for `check_work`.
        photos: files that it works on, or learns from.
    """
    if getattr(task, "dry_run", False):
        return 0.0
    if isinstance(task, Imagine):
        return float(sum(map(_work, cell_tasks)))
    if isinstance(task, TrainLora):
        height, width = read_size(task.resolution, "resolution") or NATIVE
        batch = task.train_batch_size * task.gradient_accumulation_steps
        return float(height * width * (batch * task.max_train_steps or photos * task.max_train_epochs))
    if getattr(task, "has_uncertainty", False):
        return UNCERTAINTY * photos
    return 1.0 if type(task) in TRAINING else float(photos)


def _check_drawing(tasks: Sequence[Imagine], limits: Limits) -> None:
    sizes = [_pixels(task) for task in tasks]
    if max(sizes) > limits.picture:
        raise CalotypeError(
            "a picture of {size:.1f} megapixels is too large for a request, which takes up to {limit:.1f}; give a "
            "smaller {option:size}",
            size=max(sizes) / MILLION,
            limit=limits.picture / MILLION,
        )
    pixels = sum(size * task.count for size, task in zip(sizes, tasks, strict=True))
    if pixels > limits.pixels:
        raise CalotypeError(
            "these pictures have {pixels:,.0f} megapixels in total, and a request takes up to {limit:,.0f}; take fewer",
            pixels=pixels / MILLION,
            limit=limits.pixels / MILLION,
            option="count",
        )
    work = sum(map(_work, tasks))
    if work > limits.drawing:
        raise CalotypeError(
            "these pictures are {times:.2f} times the work allowed in a request; take fewer pictures, fewer "
            "{option:steps}, a smaller {option:size} or a shorter prompt",
            times=work / limits.drawing,
        )


def _area(task: Imagine) -> int:
    """Pixels of the first pass."""
    height, width = read_size(task.size, "size") or NATIVE
    left, top, right, bottom = read_margins(task.outpaint)
    return (height + top + bottom) * (width + left + right)


def _pixels(task: Imagine) -> float:
    return _area(task) * max(task.hires, 1) ** 2


def _work(task: Imagine) -> float:
    steps = task.steps or STEPS
    second = (task.hires_steps or steps) * max(_pixels(task), SMALLEST) if task.has_second_pass else 0
    prompts = len(composition(task.prompt)) + (len(task.prompt) + len(task.negative)) // 1000
    return task.count * prompts * (steps * max(_area(task), SMALLEST) + second)


def _check_training(pixels: float, batch: float, steps: float, limits: Limits, more: float = 0) -> None:
    """`more` is the work of a run besides its steps, in pixels x pictures x steps."""
    if pixels * batch > limits.batch:
        raise CalotypeError(
            "one step is {times:.2f} times the work allowed in a request; take a smaller batch, or smaller pictures",
            times=pixels * batch / limits.batch,
        )
    work = pixels * batch * steps + more
    if work > limits.training:
        raise CalotypeError(
            "this training is {times:.2f} times the work allowed in a request; take fewer steps or smaller "
            "pictures, or validate and generate samples more rarely",
            times=work / limits.training,
        )


def _check_weights(count: float, limits: Limits) -> None:
    if count > limits.weights:
        raise CalotypeError(
            "this network has about {count:,.0f} million parameters, and a request takes up to {limit:,.0f}; take "
            "fewer channels or layers",
            count=count / MILLION,
            limit=limits.weights / MILLION,
        )


def _check_lora(task: TrainLora, limits: Limits) -> None:
    height, width = read_size(task.resolution, "resolution") or NATIVE
    batch = task.train_batch_size * task.gradient_accumulation_steps
    steps = task.max_train_steps or -(-task.max_train_epochs * limits.photos // batch)
    every_epochs, every_steps = task.samples_after
    sample_count = _times(steps, every_steps) + _times(task.max_train_epochs, every_epochs)
    file_count = _times(steps, task.save_every_n_steps) + _times(task.max_train_epochs, task.save_every_n_epochs)
    if file_count > limits.files:
        raise CalotypeError(
            "this training saves {count:,} files, and a request takes up to {limit:,}; save them more rarely "
            "({option:save_every_n_epochs}, {option:save_every_n_steps})",
            count=file_count,
            limit=limits.files,
        )
    _check_training(height * width, task.train_batch_size, 0, limits)
    samples = sample_count * SAMPLES * STEPS * height * width
    _check_training(height * width, 1, batch * steps, limits, samples)


def _times(count: int, every: int) -> int:
    return count // every if every else 0


def _check_diffusion(task: TrainDiffusion, limits: Limits) -> None:
    unet, vae = (sum(width**2 for width in widths) for widths in (task.unet_widths, task.vae_widths))
    text = task.text_layers * 12 * task.text_width**2 + task.vocab_size * task.text_width
    _check_weights(60 * unet + 40 * vae + text, limits)
    _check_training(task.resolution**2, task.train_batch_size or 512, task.max_train_steps, limits)
    _check_training(task.resolution**2, task.vae_batch_size or 96, task.vae_train_steps, limits)


def _check_gan(task: TrainGan, limits: Limits) -> None:
    _check_weights(3e7 * task.channels**2, limits)
    _check_training(task.resolution**2, task.train_batch_size, task.steps, limits)


def _check_upscaler(task: TrainUpscaler, limits: Limits) -> None:
    if task.model == "none":
        _check_weights(27 * (task.num_feat**2 + 256 * task.num_feat) * (task.num_block or 23), limits)
    _check_enhancing(task, task.gt_size, limits)


def _check_restorer(task: TrainRestorer, limits: Limits) -> None:
    _check_weights(sum(40 * width**2 * depth for width, depth in zip(task.widths, task.depths, strict=True)), limits)
    _check_enhancing(task, task.side, limits)


def _check_enhancing(task: TrainUpscaler | TrainRestorer, side: int, limits: Limits) -> None:
    steps = 0 if task.minutes else task.l1_stage_steps + task.gan_steps
    measured = _times(steps, task.validate_every) * SAMPLES * side**2
    _check_training(side**2, task.batch_size, steps, limits, measured)


def _check_repairer(task: TrainRepairer, limits: Limits) -> None:
    _check_weights(sum(40 * width**2 for width in task.widths), limits)
    steps = 0 if task.minutes else task.max_train_steps
    measured = _times(steps, task.validate_every) * SAMPLES * task.patch_size**2
    _check_training(task.patch_size**2, task.train_batch_size, steps, limits, measured)


TRAINING: dict[type, Callable[[Any, Limits], None]] = {
    TrainLora: _check_lora,
    TrainDiffusion: _check_diffusion,
    TrainGan: _check_gan,
    TrainUpscaler: _check_upscaler,
    TrainRestorer: _check_restorer,
    TrainRepairer: _check_repairer,
}
