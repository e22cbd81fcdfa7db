"""Pictures from words, step by step."""

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
from calotype.inference.diffusion.canvas import canvas, resized
from calotype.inference.diffusion.conditioning import PromptEncoder, said_at_each
from calotype.inference.diffusion.denoise import denoised
from calotype.inference.diffusion.infotext import told
from calotype.inference.diffusion.plan import DenoisePass, GenerationPlan, StepClock, Work, attach_adapters
from calotype.inference.diffusion.preview import LatentPreview
from calotype.inference.diffusion.prompt import ParsedPrompt, fits, misfit, vectors_of
from calotype.inference.diffusion.schedulers import begins_at, scheduler
from calotype.inference.diffusion.xy_grid import Cell, cells, sheet
from calotype.inference.gan import forged, is_asked
from calotype.models.diffusion import Diffusion
from calotype.ops.color import to_pixels, to_tensor
from calotype.ops.noise import Source, initial_noise, source
from calotype.picture import Picture
from calotype.record import Film, Result
from calotype.samplers import LANCZOS, LATENT, PRESETS, Preset, sampler_named
from calotype.tasks import Imagine, Note, Progress, Tiling, note, read_size

TOGETHER = {"cpu": 4, "cuda": 8, "mps": 4}  # pictures computed together; measured: more gain little
LONG = 4000  # steps from which compiling, a minute, repays at 40 steps a second without and 125 with it
SPARE = 18  # peak memory of the U-Net over its widest layer, measured
SPARE_VAE = 8


class Seeds(NamedTuple):
    """What one picture begins with."""

    seed: int
    variation: int


@torch.inference_mode()
def imagine(task: Imagine, models: Models) -> Iterator[Progress | Note | Result | Film]:
    """Yields progress, a Result for every picture and, where it was asked for, one for a sheet of all of them, last.

    Closing it cancels within one step.
    """
    if found := is_asked(task, models):
        yield from forged(task, found, models)
        return
    made: list[Result] = []
    planned = _seeded(cells(replace(task, seed=_chosen(task.seed))))
    clock = StepClock(sum(_evaluations(cell.task, _likely_family(cell.task), models) for cell in planned))
    is_compiled = _is_compiled(models, clock.total)
    for cell in planned:
        words = ParsedPrompt.of(cell.task, models.settings)
        yield from map(note, words.notes)
        model = models.diffusion(cell.task.model, cell.task.vae)
        for event in _one_prompt(cell.task, words, model, models, clock, is_compiled):
            if isinstance(event, Result):
                made.append(event)
            yield event
    if len(made) > 1 and (task.grid or task.x or task.y or task.matrix):
        yield sheet(task, planned, made)


@torch.inference_mode()
def draw(task: Imagine, model: Diffusion, models: Models) -> Iterator[Progress | Note | Result]:
    """Draws one prompt with a model that is given, whatever the task names, and never compiled.

    Args:
        model: keeps the adapters of the prompt until others are attached or `model.detach_adapters` is called.
        models: for what the prompt calls: adapters, learned words, networks for enlarging.
    Raises:
        CalotypeError: what is called is not there, or memory does not suffice.
    """
    task = _seeded([Cell(replace(task, seed=_chosen(task.seed)))])[0].task
    words = ParsedPrompt.of(task, models.settings)
    yield from map(note, words.notes)
    yield from _one_prompt(task, words, model, models, StepClock(_evaluations(task, model.family, models)))


def _chosen(seed: int) -> int:
    return seed if seed >= 0 else secrets.randbelow(2**32)


def _seeded(planned: list[Cell]) -> list[Cell]:
    """Every seed chosen that is open in some cell; where variations are open, all go towards the same one."""
    other, found = _chosen(-1), []
    for cell in planned:
        task = replace(cell.task, seed=_chosen(cell.task.seed))
        if task.variation and task.variation_seed < 0:
            task = replace(task, variation_seed=other)
        found.append(replace(cell, task=task))
    return found


def settled(task: Imagine, preset: Preset) -> Imagine:
    """The task with the model's own choices where the person made none."""
    return replace(
        task,
        steps=preset.steps if task.steps is None else task.steps,
        guidance=preset.guidance if task.guidance is None else task.guidance,
        rescale=preset.rescale if task.rescale is None else task.rescale,
        sampler=preset.sampler if task.sampler == "auto" else task.sampler,
        schedule=preset.schedule if task.sampler == "auto" and task.schedule == "automatic" else task.schedule,
    )


def _is_compiled(models: Models, steps: int) -> bool:
    """`steps`: of all that is drawn together, which tell whether compiling repays."""
    wish, is_long = models.settings.compile, models.device.type == "cuda" and steps >= LONG
    return wish == "on" or (wish == "auto" and is_long)


def _likely_family(task: Imagine) -> str:
    """For the bar, before the model is opened: those of all large models take nearly as many steps."""
    return "emoji" if task.model == "emoji" else "sd1"


def _evaluations(task: Imagine, family: str, models: Models) -> int:
    """Steps that a cell will take, for the bar: pictures times steps, by batches."""
    steps = settled(task, PRESETS[family]).steps
    run = steps if task.init is None else max(1, int(steps * min(task.strength, 1)))
    second = max(1, int((task.hires_steps or steps) * task.hires_strength)) if task.has_second_pass else 0
    batches = -(-task.count // _most_together(task, models))
    return batches * (run + second)


def _one_prompt(
    task: Imagine, words: ParsedPrompt, model: Diffusion, models: Models, clock: StepClock, is_compiled: bool = False
) -> Iterator[Progress | Note | Result]:
    job, notes = _job(task, model, words, models)
    job = replace(job, is_compiled=is_compiled)
    yield from map(note, notes)
    most = _fitting_batch(job, models)
    seeds = _seeds(job.task)
    for first in range(0, len(seeds), most):
        wanted = seeds[first : first + most]
        is_again = job.task.place >= 0  # the same batch, and place in it, give the same bits
        together, place = (wanted * job.task.batch, job.task.place) if is_again else (wanted, 0)
        latents = yield from _drawn(job, together, models, clock)
        for n, seed in enumerate(wanted, place):
            pixels = job.model.decode(latents[n : n + 1], job.task.tiling)[0]
            yield _result(job, seed, pixels, (len(together), n), models)


def _seeds(task: Imagine) -> list[Seeds]:
    """Of each picture; with a variation its seed counts up and the other stays, as in A1111."""
    if task.variation:
        return [Seeds(task.seed, task.variation_seed + n) for n in range(task.count)]
    return [Seeds(task.seed + n, task.variation_seed) for n in range(task.count)]


def _job(task: Imagine, model: Diffusion, words: ParsedPrompt, models: Models) -> tuple[GenerationPlan, list[Message]]:
    """All that is settled before the first step, and what to say of it."""
    task = settled(task, PRESETS[model.family])
    has_zero_snr = bool(model.training.get("rescale_betas_zero_snr"))
    sampler, schedule = sampler_named(task.sampler, task.schedule, has_zero_snr)
    check = partial(_check_memory, task, model, models=models)
    made = canvas(task, model.native, model.multiple, models.settings.max_pixels, check)
    if task.has_second_pass and task.hires_upscaler.lower() not in (*LATENT, LANCZOS):
        models.upscaler(task.hires_upscaler)  # one that is missing is told before the first pass
    adapters = words.adapters(models)
    unfit = attach_adapters(adapters, model)
    called = words.embeddings(models)
    embeddings = tuple(word for word in called if fits(word, model))
    vectors = {word.name: vectors_of(word, model) for word in embeddings}
    reader = PromptEncoder(model, task.emphasis, task.clip_skip, vectors)
    notes = [misfit(word, model) for word in called if not fits(word, model)] + list(made.notes)
    if unfit:
        left_out = "{count} modules of the LoRA have no place in {model}, such as {unfit}"
        notes.append(Message(left_out, count=len(unfit), model=model.name, unfit=unfit[0]))
    return GenerationPlan(
        task, model, words, sampler, schedule, made, reader, LatentPreview(model), adapters, embeddings
    ), notes


def _most_together(task: Imagine, models: Models) -> int:
    return task.batch or TOGETHER.get(models.device.type, 4)


def _check_memory(task: Imagine, model: Diffusion, work: tuple[int, int], models: Models) -> None:
    """Raises CalotypeError where not even the smallest batch fits; called before anything of that size is made."""
    free, needed = models.free_memory(models.device), _needed(task, model, work, task.batch or 1)
    if needed <= free:
        return
    width, height = (round(side * max(task.hires, 1)) for side in work[::-1])
    smaller = "a smaller {option:outpaint}" if task.outpaint else "a smaller {option:size} and enlarge the result"
    raise CalotypeError(
        "{model} needs about {needed:.1f} GiB of memory for a picture of {width}x{height}, and "
        "{free:.1f} are free; take {smaller}",
        model=model.name,
        needed=needed / 2**30,
        width=width,
        height=height,
        free=free / 2**30,
        smaller=Message(smaller),
    )


def _fitting_batch(job: GenerationPlan, models: Models) -> int:
    """How many pictures are computed together: as asked, or as many as memory holds, up to TOGETHER."""
    if job.task.batch:
        return job.task.batch
    free = models.free_memory(models.device)
    counts = range(_most_together(job.task, models), 1, -1)
    return next((n for n in counts if _needed(job.task, job.model, job.canvas.work, n) <= free), 1)


def _needed(task: Imagine, model: Diffusion, work: tuple[int, int], count: int) -> float:
    """Bytes at the peak: of the U-Net's widest layer with both conditions, or of the VAE's, picture by picture."""
    unet, vae = model.unet.config, model.vae.config
    area = work[0] * work[1] * max(task.hires, 1) ** 2
    latents = 2 * count * area / model.factor**2
    return max(
        latents * unet.block_out_channels[0] * model.dtype.itemsize * SPARE,
        area * vae.block_out_channels[0] * model.dtype.itemsize * SPARE_VAE,
    )


def _drawn(job: GenerationPlan, seeds: Sequence[Seeds], models: Models, clock: StepClock) -> Work:
    """Clean latents (N, C, h, w), one for each seed, after both passes."""
    task, pixels = job.task, job.canvas.pixels
    clean = None if pixels is None else job.model.encode_mean(pixels, task.tiling)
    x = yield from _pass(job, seeds, task.steps, clean, task.strength, clock)
    if task.has_second_pass:
        x = yield from _again_larger(job, x, seeds, models, clock)
    return x


def _pass(
    job: GenerationPlan,
    seeds: Sequence[Seeds],
    steps: int,
    clean: Tensor | None,
    strength: float,
    clock: StepClock,
    first_pass: int = 0,
) -> Work:
    """One way down on the job's canvas, from noise alone or from `clean` latents.

    Args:
        first_pass: in a second pass, the steps of the first, for prompts that change on their way.
    """
    model = job.model
    made = scheduler(job.sampler, job.schedule, steps, model.training, model.family)
    shape = tuple(side // model.factor for side in job.canvas.work)
    begin = 0 if clean is None else begins_at(made, steps, strength)
    sources, noise = _noise(job, seeds, shape)
    said = said_at_each(job.words.prompt, job.words.negative, steps, first_pass)
    return (yield from denoised(job, DenoisePass(made, begin, said, clean, shape), noise, sources, clock))


def _noise(job: GenerationPlan, seeds: Sequence[Seeds], shape: tuple[int, int]) -> tuple[list[Source], Tensor]:
    """Each picture's own source, and what it draws first."""
    task = job.task
    sources = [source(own.seed, task.noise) for own in seeds]
    small = read_size(task.seed_resize, "seed_resize")
    resized_from = tuple(side // job.model.factor for side in small) if small else None
    first = [
        initial_noise(
            draw,
            lambda seed: source(seed, task.noise),
            own.seed,
            (job.model.channels, *shape),
            (own.variation, task.variation) if task.variation else None,
            resized_from,
        )
        for draw, own in zip(sources, seeds, strict=True)
    ]
    return sources, torch.stack(first)


def _again_larger(job: GenerationPlan, x: Tensor, seeds: Sequence[Seeds], models: Models, clock: StepClock) -> Work:
    """The second pass of a hires fix: enlarged, noised again, drawn again. As A1111, with the same seeds."""
    task, model = job.task, job.model
    room = job.canvas.enlarged(task.hires, model.multiple)
    if task.hires_upscaler.lower() in LATENT:
        mode, is_antialiased = LATENT[task.hires_upscaler.lower()]
        shape = tuple(side // model.factor for side in room.work)
        clean = F.interpolate(x, shape, mode=mode, antialias=is_antialiased)
    else:
        clean = yield from _enlarged(job, x, room.work, models)
    steps, larger = task.hires_steps or task.steps, replace(job, canvas=room)
    return (yield from _pass(larger, seeds, steps, clean, task.hires_strength, clock, task.steps))


def _enlarged(job: GenerationPlan, x: Tensor, size: tuple[int, int], models: Models) -> Work:
    """Latents -> pixels -> a network for enlarging, or Lanczos -> latents."""
    name, latents = job.task.hires_upscaler, []
    for one in x:
        pixels = job.model.decode(one[None], job.task.tiling)[0]
        if name.lower() != LANCZOS:
            from calotype.inference.upscale import enlarge

            network = models.upscaler(name)
            done = yield from enlarge(to_pixels(pixels, np.empty((1, 1, 3), np.uint8)), network, size, Tiling(), models)
            pixels = to_tensor(done.pixels)
        latents.append(job.model.encode_mean(resized(pixels, size)[None], job.task.tiling))
    return torch.cat(latents)


def _result(job: GenerationPlan, seeds: Seeds, pixels: Tensor, where: tuple[int, int], models: Models) -> Result:
    """`where` it was in its batch: the batch's size, and the place."""
    final = job.canvas.enlarged(job.task.hires, job.model.multiple) if job.task.has_second_pass else job.canvas
    done = final.finished(pixels)
    before = final.source
    picture = before.then(done, final.alpha) if before is not None and final.base is not None else Picture(done)
    own = {"seed": seeds.seed, "variation_seed": seeds.variation, "batch": where[0], "place": where[1]}
    task = replace(job.task, **own, count=1, grid=False, matrix=False, x="", y="")
    computed = models.computed(job.model) | ({"mask": final.mask_sha256} if final.mask_sha256 else {})
    text = told(task, job, picture)
    drawn = replace(picture, metadata=replace(picture.metadata, texts={"parameters": text}))
    return Result.of(task, before, drawn, job.used, computed)
