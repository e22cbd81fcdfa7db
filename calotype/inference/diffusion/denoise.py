"""The denoising loop of latent diffusion: predict, guide, step."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.errors import CalotypeError
from calotype.inference.diffusion.conditioning import StepPrompts
from calotype.inference.diffusion.plan import DenoisePass, GenerationPlan, LatentsGenerator, StepClock, attach_adapters
from calotype.inference.diffusion.schedulers import Stepper
from calotype.models.diffusion import Condition
from calotype.ops.noise import Source


def denoise(
    plan: GenerationPlan, denoise_pass: DenoisePass, noise: Tensor, sources: list[Source], clock: StepClock
) -> LatentsGenerator:
    """Yields progress with previews; returns the denoised latents."""
    scheduler, mask = denoise_pass.scheduler, _latent_mask(plan.canvas.mask, denoise_pass.latent_shape)
    timesteps = scheduler.timesteps[denoise_pass.start_index :]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(denoise_pass.start_index)
    latents = _initial_latents(plan, denoise_pass, noise, timesteps, mask)
    inpaint_channels = _inpaint_channels(plan, mask, denoise_pass.init_latents) if plan.model.is_inpainting else None
    stepper = Stepper(scheduler, plan.sampler, sources)
    for n, t in enumerate(timesteps):
        attach_adapters(plan.adapters, plan.model)  # another generation may have attached others meanwhile
        prompts = denoise_pass.prompts[min(n // scheduler.order, len(denoise_pass.prompts) - 1)]
        model_input = scheduler.scale_model_input(latents, t)
        prediction = _predict_guided(plan, model_input, t, prompts, inpaint_channels)
        latents = stepper.step(prediction, t, latents)
        if mask is not None and inpaint_channels is None:
            known_latents = (
                denoise_pass.init_latents
                if n + 1 == len(timesteps)
                else scheduler.add_noise(denoise_pass.init_latents.expand_as(latents), noise, timesteps[n + 1 : n + 2])
            )
            latents = known_latents * (1 - mask) + latents * mask
        yield clock.tick(plan.preview.at(model_input, prediction, t, scheduler))
    return latents


def _initial_latents(
    plan: GenerationPlan, denoise_pass: DenoisePass, noise: Tensor, timesteps: Tensor, mask: Tensor | None
) -> Tensor:
    """The latents of the first timestep: pure noise, or the initial latents with noise added."""
    if denoise_pass.init_latents is None:
        return noise * denoise_pass.scheduler.init_noise_sigma
    latents = denoise_pass.init_latents.expand_as(noise)
    if mask is not None and plan.task.fill in ("noise", "nothing"):
        latents = latents * (1 - mask) + (noise * mask if plan.task.fill == "noise" else 0)
    if not len(timesteps):
        return latents
    return denoise_pass.scheduler.add_noise(latents, noise, timesteps[:1])


def _latent_mask(mask: Tensor | None, shape: tuple[int, int]) -> Tensor | None:
    """(1, 1, H, W) -> (1, 1, h, w): a latent is masked if any of its pixels is."""
    return None if mask is None else F.adaptive_max_pool2d(mask, shape)


def _inpaint_channels(plan: GenerationPlan, mask: Tensor | None, init_latents: Tensor | None) -> Tensor:
    """(1, 1 + C, h, w) for an inpainting model: the mask, and the latents of the picture with a grey mask."""
    if mask is None or init_latents is None:
        shape = tuple(side // plan.model.factor for side in plan.canvas.work)
        grey = plan.model.encode_mean(torch.full((1, 3, *plan.canvas.work), 0.5))
        return torch.cat([torch.ones(1, 1, *shape), grey], 1)
    pixels = torch.where(plan.canvas.mask > 0, torch.tensor(0.5), plan.canvas.pixels)
    return torch.cat([mask, plan.model.encode_mean(pixels)], 1)


def _predict_guided(
    plan: GenerationPlan, latents: Tensor, timestep: Tensor, prompts: StepPrompts, inpaint_channels: Tensor | None
) -> Tensor:
    """The prediction with classifier-free guidance: u + sum of w g (c - u). Ho and Salimans 2022; AND: Liu et al. 2022.

    Conditions of equal length, of all pictures, are one batch. Guidance 1 with one condition needs no unconditional
    prediction.
    """
    scale, count = plan.task.guidance, len(latents)
    has_negative = not (scale == 1 and [weight for _, weight in prompts.prompts] == [1.0])
    latents = (
        latents
        if inpaint_channels is None
        else torch.cat([latents, inpaint_channels.expand(count, -1, *latents.shape[2:])], 1)
    )
    predictions = []
    for conditions in plan.prompt_encoder.encode_step(prompts, has_negative):
        number, is_first = len(conditions.states), not predictions
        prediction = plan.model.predict(
            latents.repeat(number, 1, 1, 1),
            timestep,
            conditions.states.repeat_interleave(count, 0),
            _added_cond(plan, conditions, count, has_negative and is_first),
            plan.task.tiling,
            plan.is_compiled,
        )
        predictions.append(prediction.unflatten(0, (number, count)))
    prediction = torch.cat(predictions)
    if not torch.isfinite(prediction).all():
        raise CalotypeError(
            "the prediction of the model {model} is not finite (NaN or infinity); its file is damaged",
            model=plan.model.name,
        )
    if not has_negative:
        return prediction[0]
    weights = torch.tensor([weight for _, weight in prompts.prompts])[:, None, None, None, None]
    guided = prediction[0] + scale * (weights * (prediction[1:] - prediction[0])).sum(0)
    return _rescaled_guidance(guided, prediction[1], plan.task.rescale)


def _rescaled_guidance(guided: Tensor, conditional: Tensor, rescale: float) -> Tensor:
    """Lin et al. 2023, equations 15 and 16: guidance must not increase the standard deviation of the prediction."""
    if not rescale:
        return guided
    axes = tuple(range(1, guided.dim()))
    normalised = guided * (conditional.std(axes, keepdim=True) / guided.std(axes, keepdim=True))
    return rescale * normalised + (1 - rescale) * guided


def _added_cond(plan: GenerationPlan, conditions: Condition, count: int, has_negative: bool) -> Mapping[str, Tensor]:
    """SDXL's additional conditions: the pooled text states, and the time ids (original size, crop, target size)."""
    if conditions.pooled is None or plan.model.family != "sdxl":
        return {}
    height, width = plan.canvas.work
    time_ids = plan.model.time_ids(height, width, len(conditions.pooled), has_negative)
    return {
        "text_embeds": conditions.pooled.repeat_interleave(count, 0),
        "time_ids": time_ids.repeat_interleave(count, 0),
    }
