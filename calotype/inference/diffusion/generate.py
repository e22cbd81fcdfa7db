"""Text-to-image generation."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.checkpoints.models import Models
from calotype.errors import CalotypeError, Message
from calotype.inference.diffusion.canvas import open_canvas, resized
from calotype.inference.diffusion.conditioning import PromptEncoder, step_prompts
from calotype.inference.diffusion.denoise import denoise
from calotype.inference.diffusion.infotext import infotext
from calotype.inference.diffusion.plan import DenoisePass, GenerationPlan, LatentsGenerator, StepClock, attach_adapters
from calotype.inference.diffusion.preview import LatentPreview
from calotype.inference.diffusion.prompt import ParsedPrompt, fits, misfit_message, vectors_of
from calotype.inference.diffusion.schedulers import make_scheduler, start_index
from calotype.inference.diffusion.xy_grid import Cell, cells, make_sheet
from calotype.inference.gan import find_gan, sample_gan
from calotype.models.diffusion import Diffusion
from calotype.ops.color import to_pixels, to_tensor
from calotype.ops.noise import Source, initial_noise, source
from calotype.picture import Picture
from calotype.record import Film, Result
from calotype.samplers import LANCZOS, LATENT, PRESETS, Preset, sampler_named
from calotype.tasks import Imagine, Note, Progress, Tiling, note, read_size
from calotype.tasks.drawing import MAX_SEED

DEFAULT_BATCH = {"cpu": 4, "cuda": 8, "mps": 4}  # pictures per batch; measured: larger batches gain little
COMPILE_ABOVE = 4000  # steps from which compiling (a minute) pays off, at 40 steps per second without and 125 with it
UNET_MEMORY_FACTOR = 18  # peak memory of the U-Net relative to its widest layer, measured
VAE_MEMORY_FACTOR = 8


class Seeds(NamedTuple):
    """The seeds of one picture."""

    seed: int
    variation: int


@torch.inference_mode()
def imagine(task: Imagine, models: Models) -> Iterator[Progress | Note | Result | Film]:
    """Yields progress, a Result for every picture and, if requested, last one for a sheet of all of them.

    Closing the generator cancels within one step.
    """
    if gan_checkpoint := find_gan(task, models):
        yield from sample_gan(task, gan_checkpoint, models)
        return
    results: list[Result] = []
    cells_with_seeds = _with_seeds(cells(replace(task, seed=_random_if_open(task.seed))))
    clock = StepClock(sum(_count_steps(cell.task, _likely_family(cell.task), models) for cell in cells_with_seeds))
    is_compiled = _is_compiled(models, clock.total)
    for cell in cells_with_seeds:
        parsed_prompt = ParsedPrompt.of(cell.task, models.settings)
        yield from map(note, parsed_prompt.notes)
        model = models.diffusion(cell.task.model, cell.task.vae, cell.task.prediction)
        for event in _generate(cell.task, parsed_prompt, model, models, clock, is_compiled):
            if isinstance(event, Result):
                results.append(event)
            yield event
    if len(results) > 1 and (task.grid or task.x or task.y or task.matrix):
        yield make_sheet(task, cells_with_seeds, results)


@torch.inference_mode()
def draw(task: Imagine, model: Diffusion, models: Models) -> Iterator[Progress | Note | Result]:
    """Generates one prompt with the given model instead of the one the task names, without compiling it.

    Args:
        model: the adapters of the prompt stay attached to it until others are, or it is told to detach them.
        models: gives the adapters and embeddings that the prompt names, and upscalers.
    Raises:
        CalotypeError: one of these is not available, or memory does not suffice.
    """
    task = _with_seeds([Cell(replace(task, seed=_random_if_open(task.seed)))])[0].task
    parsed_prompt = ParsedPrompt.of(task, models.settings)
    yield from map(note, parsed_prompt.notes)
    yield from _generate(task, parsed_prompt, model, models, StepClock(_count_steps(task, model.family, models)))


def _random_if_open(seed: int) -> int:
    return seed if seed >= 0 else secrets.randbelow(2**32)


def _with_seeds(planned_cells: list[Cell]) -> list[Cell]:
    """Cells with random seeds where a seed is -1; open variation seeds get the same one."""
    variation_seed, seeded = _random_if_open(-1), []
    for cell in planned_cells:
        task = replace(cell.task, seed=_random_if_open(cell.task.seed))
        if task.variation and task.variation_seed < 0:
            task = replace(task, variation_seed=variation_seed)
        seeded.append(replace(cell, task=task))
    return seeded


def with_preset(task: Imagine, preset: Preset) -> Imagine:
    """The task with the preset of the model for options that the user left open."""
    return replace(
        task,
        steps=preset.steps if task.steps is None else task.steps,
        guidance=preset.guidance if task.guidance is None else task.guidance,
        rescale=preset.rescale if task.rescale is None else task.rescale,
        sampler=preset.sampler if task.sampler == "auto" else task.sampler,
        schedule=preset.schedule if task.sampler == "auto" and task.schedule == "automatic" else task.schedule,
    )


def _is_compiled(models: Models, steps: int) -> bool:
    """`steps`: of all pictures together, which decide whether compiling pays off."""
    setting, is_long = models.settings.compile, models.device.type == "cuda" and steps >= COMPILE_ABOVE
    return setting == "on" or (setting == "auto" and is_long)


def _likely_family(task: Imagine) -> str:
    """For the progress bar, before the model is loaded: the large models have similar numbers of steps."""
    return "emoji" if task.model == "emoji" else "sd1"


def _count_steps(task: Imagine, family: str, models: Models) -> int:
    """The number of steps of a cell, for the progress bar: batches times steps."""
    steps = with_preset(task, PRESETS[family]).steps
    first_pass = steps if task.init is None else max(1, int(steps * min(task.strength, 1)))
    second_pass = max(1, int((task.hires_steps or steps) * task.hires_strength)) if task.has_second_pass else 0
    batches = -(-task.count // _max_batch(task, models))
    return batches * (first_pass + second_pass)


def _generate(
    task: Imagine,
    parsed_prompt: ParsedPrompt,
    model: Diffusion,
    models: Models,
    clock: StepClock,
    is_compiled: bool = False,
) -> Iterator[Progress | Note | Result]:
    plan, notes = _plan(task, model, parsed_prompt, models)
    plan = replace(plan, is_compiled=is_compiled)
    yield from map(note, notes)
    batch_size = _fitting_batch(plan, models)
    seeds = _seeds(plan.task)
    for first in range(0, len(seeds), batch_size):
        batch = seeds[first : first + batch_size]
        is_reproduced = plan.task.place >= 0  # the same batch and index in it give the same bits
        batch_seeds, first_index = (batch * plan.task.batch, plan.task.place) if is_reproduced else (batch, 0)
        latents = yield from _sample(plan, batch_seeds, models, clock)
        for n, seed in enumerate(batch, first_index):
            pixels = plan.model.decode(latents[n : n + 1], plan.task.tiling)[0]
            yield _result(plan, seed, pixels, (len(batch_seeds), n), models)


def _seeds(task: Imagine) -> list[Seeds]:
    """Seeds of each picture; with a variation the variation seed is incremented instead of the seed, as in A1111.

    After the largest seed comes 0.
    """
    if task.variation:
        return [Seeds(task.seed, (task.variation_seed + n) % (MAX_SEED + 1)) for n in range(task.count)]
    return [Seeds((task.seed + n) % (MAX_SEED + 1), task.variation_seed) for n in range(task.count)]


def _plan(
    task: Imagine, model: Diffusion, parsed_prompt: ParsedPrompt, models: Models
) -> tuple[GenerationPlan, list[Message]]:
    """Everything that is determined before the first step, and notes."""
    task = with_preset(task, PRESETS[model.family])
    has_zero_snr = bool(model.training.get("rescale_betas_zero_snr"))
    sampler, schedule = sampler_named(task.sampler, task.schedule, has_zero_snr)
    check = partial(_check_memory, task, model, models=models)
    opened_canvas = open_canvas(task, model.native, model.multiple, models.settings.max_pixels, check)
    if task.has_second_pass and task.hires_upscaler.lower() not in (*LATENT, LANCZOS):
        models.upscaler(task.hires_upscaler)  # a missing one raises before the first pass
    adapters = parsed_prompt.adapters(models)
    unfit = attach_adapters(adapters, model)
    called_embeddings = parsed_prompt.embeddings(models, adapters)
    embeddings = tuple(word for word in called_embeddings if fits(word, model))
    vectors = {word.name: vectors_of(word, model) for word in embeddings}
    prompt_encoder = PromptEncoder(model, task.emphasis, task.clip_skip, vectors)
    notes = [misfit_message(word, model) for word in called_embeddings if not fits(word, model)] + list(
        opened_canvas.notes
    )
    if unfit:
        sentence = "{count} modules of the LoRA have no place in {model}, such as {unfit}"
        notes.append(Message(sentence, count=len(unfit), model=model.name, unfit=unfit[0]))
    return GenerationPlan(
        task,
        model,
        parsed_prompt,
        sampler,
        schedule,
        opened_canvas,
        prompt_encoder,
        LatentPreview(model),
        adapters,
        embeddings,
    ), notes


def _max_batch(task: Imagine, models: Models) -> int:
    return task.batch or DEFAULT_BATCH.get(models.device.type, 4)


def _check_memory(task: Imagine, model: Diffusion, size: tuple[int, int], models: Models) -> None:
    """Raises CalotypeError if the smallest batch does not fit; called before anything of that size is allocated."""
    needed = _peak_memory(task, model, size, task.batch or 1)
    free = models.free_memory(models.device, needed)
    if needed <= free:
        return
    width, height = (round(side * max(task.hires, 1)) for side in size[::-1])
    smaller = "a smaller {option:outpaint}" if task.outpaint else "a smaller {option:size} and enlarge the result"
    raise CalotypeError(
        "{model} needs about {needed:.1f} GiB of memory for a picture of {width}x{height}, and "
        "{free:.1f} are free; use {smaller}",
        model=model.name,
        needed=needed / 2**30,
        width=width,
        height=height,
        free=free / 2**30,
        smaller=Message(smaller),
    )


def _fitting_batch(plan: GenerationPlan, models: Models) -> int:
    """The batch size: as requested, or as large as fits into memory, up to DEFAULT_BATCH."""
    if plan.task.batch:
        return plan.task.batch
    count = _max_batch(plan.task, models)
    free = models.free_memory(models.device, _peak_memory(plan.task, plan.model, plan.canvas.work, count))
    counts = range(count, 1, -1)
    return next((n for n in counts if _peak_memory(plan.task, plan.model, plan.canvas.work, n) <= free), 1)


def _peak_memory(task: Imagine, model: Diffusion, size: tuple[int, int], count: int) -> float:
    """Peak memory in bytes: of the U-Net for the batch with both conditions, or of the VAE for one picture."""
    unet, vae = model.unet.config, model.vae.config
    area = size[0] * size[1] * max(task.hires, 1) ** 2
    latents = 2 * count * area / model.factor**2
    return max(
        latents * unet.block_out_channels[0] * model.dtype.itemsize * UNET_MEMORY_FACTOR,
        area * vae.block_out_channels[0] * model.dtype.itemsize * VAE_MEMORY_FACTOR,
    )


def _sample(plan: GenerationPlan, seeds: Sequence[Seeds], models: Models, clock: StepClock) -> LatentsGenerator:
    """Denoised latents (N, C, h, w), one for each seed, after both passes."""
    task, pixels = plan.task, plan.canvas.pixels
    init_latents = None if pixels is None else plan.model.encode_mean(pixels, task.tiling)
    if plan.canvas.blended:
        further = [plan.model.encode_mean(picture, task.tiling) for picture in plan.canvas.blended]
        init_latents = mean_of_length([init_latents, *further])
    latents = yield from _denoise_pass(plan, seeds, task.steps, init_latents, task.strength, clock)
    if task.has_second_pass:
        latents = yield from _hires_pass(plan, latents, seeds, models, clock)
    return latents


def mean_of_length(latents: Sequence[Tensor]) -> Tensor:
    """The mean of latents (1, C, h, w), as long as they are: their mean alone is shorter, which decodes as grey.

    For two of the same length it is their spherical interpolation (slerp) at one half.
    """
    mean = torch.stack(tuple(latents)).mean(0)
    length = sum(part.norm() for part in latents) / len(latents)
    return mean * (length / mean.norm().clamp(min=1e-6))


def _denoise_pass(
    plan: GenerationPlan,
    seeds: Sequence[Seeds],
    steps: int,
    init_latents: Tensor | None,
    strength: float,
    clock: StepClock,
    first_pass: int = 0,
) -> LatentsGenerator:
    """One denoising pass on the canvas, from noise or from `init_latents`.

    Args:
        first_pass: in a second pass, the number of steps of the first, for prompt scheduling.
    """
    model = plan.model
    scheduler = make_scheduler(plan.sampler, plan.schedule, steps, model.training, model.family)
    shape = tuple(side // model.factor for side in plan.canvas.work)
    first_step = 0 if init_latents is None else start_index(scheduler, steps, strength)
    sources, noise = _initial_noise(plan, seeds, shape)
    prompts = step_prompts(plan.parsed_prompt.prompt, plan.parsed_prompt.negative, steps, first_pass)
    return (
        yield from denoise(
            plan, DenoisePass(scheduler, first_step, prompts, init_latents, shape), noise, sources, clock
        )
    )


def _initial_noise(plan: GenerationPlan, seeds: Sequence[Seeds], shape: tuple[int, int]) -> tuple[list[Source], Tensor]:
    """The noise source of each picture, and the initial noise."""
    task = plan.task
    sources = [source(picture_seeds.seed, task.noise) for picture_seeds in seeds]
    small = read_size(task.seed_resize, "seed_resize")
    resized_from = tuple(side // plan.model.factor for side in small) if small else None
    noises = [
        initial_noise(
            noise_source,
            lambda seed: source(seed, task.noise),
            picture_seeds.seed,
            (plan.model.channels, *shape),
            (picture_seeds.variation, task.variation) if task.variation else None,
            resized_from,
        )
        for noise_source, picture_seeds in zip(sources, seeds, strict=True)
    ]
    return sources, torch.stack(noises)


def _hires_pass(
    plan: GenerationPlan, latents: Tensor, seeds: Sequence[Seeds], models: Models, clock: StepClock
) -> LatentsGenerator:
    """The second pass of hires fix: enlarges, adds noise, denoises again. As in A1111, with the same seeds."""
    task, model = plan.task, plan.model
    canvas = plan.canvas.enlarged(task.hires, model.multiple)
    if task.hires_upscaler.lower() in LATENT:
        mode, is_antialiased = LATENT[task.hires_upscaler.lower()]
        shape = tuple(side // model.factor for side in canvas.work)
        init_latents = F.interpolate(latents, shape, mode=mode, antialias=is_antialiased)
    else:
        init_latents = yield from _enlarge_latents(plan, latents, canvas.work, models)
    steps, enlarged_plan = task.hires_steps or task.steps, replace(plan, canvas=canvas)
    return (yield from _denoise_pass(enlarged_plan, seeds, steps, init_latents, task.hires_strength, clock, task.steps))


def _enlarge_latents(plan: GenerationPlan, latents: Tensor, size: tuple[int, int], models: Models) -> LatentsGenerator:
    """Latents -> pixels -> upscaler or Lanczos -> latents."""
    name, enlarged = plan.task.hires_upscaler, []
    for latent in latents:
        pixels = plan.model.decode(latent[None], plan.task.tiling)[0]
        if name.lower() != LANCZOS:
            from calotype.inference.upscale import enlarge

            network = models.upscaler(name)
            result = yield from enlarge(
                to_pixels(pixels, np.empty((1, 1, 3), np.uint8)), network, size, Tiling(), models
            )
            pixels = to_tensor(result.pixels)
        enlarged.append(plan.model.encode_mean(resized(pixels, size)[None], plan.task.tiling))
    return torch.cat(enlarged)


def _result(
    plan: GenerationPlan, seeds: Seeds, pixels: Tensor, batch_position: tuple[int, int], models: Models
) -> Result:
    """`batch_position`: the size of the batch, and the index in it."""
    final = plan.canvas.enlarged(plan.task.hires, plan.model.multiple) if plan.task.has_second_pass else plan.canvas
    composited = final.composited(pixels)
    source = final.source
    picture = (
        source.then(composited, final.alpha) if source is not None and final.base is not None else Picture(composited)
    )
    picture_options = {
        "seed": seeds.seed,
        "variation_seed": seeds.variation,
        "batch": batch_position[0],
        "place": batch_position[1],
    }
    task = replace(plan.task, **picture_options, count=1, grid=False, matrix=False, x="", y="")
    computed = models.computed(plan.model) | ({"mask": final.mask_sha256} if final.mask_sha256 else {})
    text = infotext(task, plan, picture)
    drawn = replace(picture, metadata=replace(picture.metadata, texts={"parameters": text}))
    return Result.of(task, source, drawn, plan.used, computed)
