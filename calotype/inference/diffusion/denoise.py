"""The loop of latent diffusion: predict, guide, step."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.errors import CalotypeError
from calotype.inference.diffusion.conditioning import StepPrompts
from calotype.inference.diffusion.plan import DenoisePass, GenerationPlan, StepClock, Work, attach_adapters
from calotype.inference.diffusion.schedulers import Stepper
from calotype.models.diffusion import Condition
from calotype.ops.noise import Source


def denoised(job: GenerationPlan, way: DenoisePass, noise: Tensor, sources: list[Source], clock: StepClock) -> Work:
    """The loop: predict, guide, step."""
    made, hole = way.scheduler, _small(job.canvas.hole, way.shape)
    timesteps = made.timesteps[way.begin :]
    if hasattr(made, "set_begin_index"):
        made.set_begin_index(way.begin)
    x = _first(job, way, noise, timesteps, hole)
    around = _around_hole(job, hole, way.clean) if job.model.is_inpainting else None
    walk = Stepper(made, job.sampler, sources)
    for n, t in enumerate(timesteps):
        attach_adapters(job.adapters, job.model)  # another drawing may have come between
        said = way.said[min(n // made.order, len(way.said) - 1)]
        given = made.scale_model_input(x, t)
        answer = _guided(job, given, t, said, around)
        x = walk.step(answer, t, x)
        if hole is not None and around is None:
            kept = (
                way.clean
                if n + 1 == len(timesteps)
                else made.add_noise(way.clean.expand_as(x), noise, timesteps[n + 1 : n + 2])
            )
            x = kept * (1 - hole) + x * hole
        yield clock.tick(job.look.at(given, answer, t, made))
    return x


def _first(job: GenerationPlan, way: DenoisePass, noise: Tensor, timesteps: Tensor, hole: Tensor | None) -> Tensor:
    """Where the way down begins: noise alone, or the clean latents with as much of it as there is at that point."""
    if way.clean is None:
        return noise * way.scheduler.init_noise_sigma
    clean = way.clean.expand_as(noise)
    if hole is not None and job.task.fill in ("noise", "nothing"):
        clean = clean * (1 - hole) + (noise * hole if job.task.fill == "noise" else 0)
    if not len(timesteps):
        return clean
    return way.scheduler.add_noise(clean, noise, timesteps[:1])


def _small(hole: Tensor | None, shape: tuple[int, int]) -> Tensor | None:
    """(1, 1, H, W) -> (1, 1, h, w): a latent with any pixel of the hole under it is drawn anew."""
    return None if hole is None else F.adaptive_max_pool2d(hole, shape)


def _around_hole(job: GenerationPlan, hole: Tensor | None, clean: Tensor | None) -> Tensor:
    """(1, 1 + C, h, w) for an inpainting model: the hole, and the latents of the picture with the hole in grey."""
    if hole is None or clean is None:
        shape = tuple(side // job.model.factor for side in job.canvas.work)
        grey = job.model.encode_mean(torch.full((1, 3, *job.canvas.work), 0.5))
        return torch.cat([torch.ones(1, 1, *shape), grey], 1)
    pixels = torch.where(job.canvas.hole > 0, torch.tensor(0.5), job.canvas.pixels)
    return torch.cat([hole, job.model.encode_mean(pixels)], 1)


def _guided(job: GenerationPlan, x: Tensor, t: Tensor, said: StepPrompts, around: Tensor | None) -> Tensor:
    """The network's answer under guidance: u + sum of w g (c - u). Ho and Salimans 2022; Liu et al. 2022 for AND.

    All conditions of one length, of all pictures, go through together. Guidance 1 with one condition needs no second
    run.
    """
    scale, count = job.task.guidance, len(x)
    has_unwanted = not (scale == 1 and [weight for _, weight in said.wanted] == [1.0])
    x = x if around is None else torch.cat([x, around.expand(count, -1, *x.shape[2:])], 1)
    answers = []
    for rows in job.reader.together(said, has_unwanted):
        number, is_first = len(rows.states), not answers
        answer = job.model.predict(
            x.repeat(number, 1, 1, 1),
            t,
            rows.states.repeat_interleave(count, 0),
            _added(job, rows, count, has_unwanted and is_first),
            job.task.tiling,
            job.is_compiled,
        )
        answers.append(answer.unflatten(0, (number, count)))
    answer = torch.cat(answers)
    if not torch.isfinite(answer).all():
        raise CalotypeError(
            "the model {model} gives no numbers (NaN or infinity); its file is damaged", model=job.model.name
        )
    if not has_unwanted:
        return answer[0]
    weights = torch.tensor([weight for _, weight in said.wanted])[:, None, None, None, None]
    guided = answer[0] + scale * (weights * (answer[1:] - answer[0])).sum(0)
    return _rescaled(guided, answer[1], job.task.rescale)


def _rescaled(guided: Tensor, plain: Tensor, share: float) -> Tensor:
    """Lin et al. 2023, equations 15 and 16: guidance must not make the answer louder."""
    if not share:
        return guided
    axes = tuple(range(1, guided.dim()))
    even = guided * (plain.std(axes, keepdim=True) / guided.std(axes, keepdim=True))
    return share * even + (1 - share) * guided


def _added(job: GenerationPlan, rows: Condition, count: int, has_unwanted: bool) -> Mapping[str, Tensor]:
    """SDXL's further conditions: the pooled text, and the sizes that training pictures had and were cut to."""
    if rows.pooled is None or job.model.family != "sdxl":
        return {}
    height, width = job.canvas.work
    numbers = job.model.time_ids(height, width, len(rows.pooled), has_unwanted)
    return {
        "text_embeds": rows.pooled.repeat_interleave(count, 0),
        "time_ids": numbers.repeat_interleave(count, 0),
    }
