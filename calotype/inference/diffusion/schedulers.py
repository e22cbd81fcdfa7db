"""Creates diffusers' schedulers, a new one for each pass, as they are stateful."""

import copy
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calotype.ops.noise import Source
from calotype.samplers import SAMPLERS, SHAPED, Sampler

MODULES = {  # of each class within diffusers.schedulers; importing all of diffusers takes seconds
    "DPMSolverMultistepScheduler": "dpmsolver_multistep",
    "DPMSolverSinglestepScheduler": "dpmsolver_singlestep",
    "EulerAncestralDiscreteScheduler": "euler_ancestral_discrete",
    "EulerDiscreteScheduler": "euler_discrete",
    "HeunDiscreteScheduler": "heun_discrete",
    "LMSDiscreteScheduler": "lms_discrete",
    "KDPM2DiscreteScheduler": "k_dpm_2_discrete",
    "KDPM2AncestralDiscreteScheduler": "k_dpm_2_ancestral_discrete",
    "DDIMScheduler": "ddim",
    "PNDMScheduler": "pndm",
    "UniPCMultistepScheduler": "unipc_multistep",
    "DEISMultistepScheduler": "deis_multistep",
    "LCMScheduler": "lcm",
}
MAX_SIGMA = 30.0  # twice the first sigma of Stable Diffusion 1
DETERMINISTIC = (
    "DDIMScheduler",
    "EulerDiscreteScheduler",
)  # their step takes a generator, which is not used with these settings
SPACING = {"uniform": "linspace", "sgm uniform": "trailing", "ddim": "leading"}
# Sabour et al. 2024, "Align Your Steps": optimised timesteps for ten steps.
ALIGN_YOUR_STEPS = {
    "sd": (999, 850, 736, 645, 545, 455, 343, 233, 124, 24),
    "sdxl": (999, 845, 730, 587, 443, 310, 193, 116, 53, 13),
}


def make_scheduler(
    sampler: Sampler, schedule: str, steps: int, schedule_config: Mapping[str, Any], family: str = "sd1"
) -> Any:
    """A diffusers scheduler with its timesteps set.

    Args:
        schedule: one that the sampler supports; never "automatic".
        schedule_config: of the model's training, by the names of a scheduler's config.
        family: of the model, for Align Your Steps.
    """
    scheduler_class = _class(sampler.scheduler)
    config = _config(
        scheduler_class, {**schedule_config, **sampler.settings}, schedule, is_second_order=sampler.evaluations > 1
    )
    scheduler = scheduler_class(**config)
    if sampler.name == "Euler a" and schedule != "uniform":
        _use_euler_sigmas(scheduler, schedule, steps, schedule_config, family)
    elif schedule in ("simple", "normal", "align your steps"):
        scheduler.set_timesteps(timesteps=_timesteps(schedule, steps, scheduler, family))
    else:
        scheduler.set_timesteps(steps)
    return scheduler


def _class(name: str) -> type:
    return getattr(importlib.import_module(f"diffusers.schedulers.scheduling_{MODULES[name]}"), name)


def _config(
    scheduler_class: type, schedule_config: Mapping[str, Any], schedule: str, is_second_order: bool
) -> dict[str, Any]:
    """The config for the class, without parameters that it does not have.

    With zero terminal SNR the first sigma is infinite, which second-order samplers and schedules that are spaced in
    sigma cannot handle: they start at MAX_SIGMA. If the class has no option for it, the betas are rescaled here.
    """
    parameters = inspect.signature(scheduler_class.__init__).parameters
    config = {name: value for name, value in schedule_config.items() if name in parameters}
    if schedule_config.get("rescale_betas_zero_snr") and (is_second_order or schedule in SHAPED):
        config |= {"trained_betas": rescale_zero_terminal_snr(_betas(schedule_config), 1 / MAX_SIGMA)}
        config.pop("rescale_betas_zero_snr", None)
    elif schedule_config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in parameters:
        config["trained_betas"] = rescale_zero_terminal_snr(_betas(schedule_config))
    if f"use_{schedule}_sigmas" in parameters:
        config[f"use_{schedule}_sigmas"] = True
    if "timestep_spacing" in parameters and schedule in SPACING:
        config["timestep_spacing"] = SPACING[schedule]
    if "steps_offset" in parameters:
        config["steps_offset"] = 1  # only used by "ddim"
    return config | {name: False for name in ("clip_sample",) if name in parameters}


def _betas(schedule_config: Mapping[str, Any]) -> np.ndarray:
    if schedule_config.get("trained_betas") is not None:
        return np.asarray(schedule_config["trained_betas"], np.float64)
    start, end, count = (
        schedule_config["beta_start"],
        schedule_config["beta_end"],
        schedule_config.get("num_train_timesteps", 1000),
    )
    if schedule_config.get("beta_schedule") == "linear":
        return np.linspace(start, end, count)
    return np.linspace(start**0.5, end**0.5, count) ** 2


def sqrt_alphas_cumprod(schedule_config: Mapping[str, Any]) -> Tensor:
    """sqrt(alphas_cumprod) at each timestep, float32: the scale of x0 in the noisy latents."""
    betas = _betas(schedule_config)
    if schedule_config.get("rescale_betas_zero_snr"):
        betas = rescale_zero_terminal_snr(betas)
    return torch.from_numpy(np.sqrt(np.cumprod(1 - betas))).float()


def rescale_zero_terminal_snr(betas: np.ndarray, min_value: float = 2.0**-12) -> np.ndarray:
    """Betas whose last sqrt(alphas_cumprod) is `min_value`: Lin et al. 2023, algorithm 1, kept above zero."""
    sqrt_alphas = np.sqrt(np.cumprod(1 - betas))
    sqrt_alphas = (sqrt_alphas - sqrt_alphas[-1]) * sqrt_alphas[0] / (sqrt_alphas[0] - sqrt_alphas[-1])
    sqrt_alphas = np.maximum(sqrt_alphas, min_value * (1 - 1e-5 * np.arange(len(sqrt_alphas))))  # strictly decreasing
    alphas_cumprod = sqrt_alphas**2
    return 1 - np.concatenate([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])


def _timesteps(schedule: str, steps: int, scheduler: Any, family: str) -> list[int]:
    """Timesteps in descending order, for schedules that diffusers does not have."""
    count = scheduler.config.num_train_timesteps
    if schedule == "simple":  # every n-th training timestep
        return [count - 1 - int(n * count / steps) for n in range(steps)]
    if schedule == "normal":
        return [round(t) for t in np.linspace(count - 1, 0, steps + 1)[:-1]] if steps > 1 else [count - 1]
    best = np.asarray(ALIGN_YOUR_STEPS["sdxl" if family == "sdxl" else "sd"], np.float64)
    sigmas = (1 / scheduler.alphas_cumprod.double().numpy() - 1) ** 0.5
    target_sigmas = np.exp(
        np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(best)), np.log(sigmas[best.astype(int)]))
    )
    return sorted({int(np.abs(np.log(sigmas) - np.log(sigma)).argmin()) for sigma in target_sigmas}, reverse=True)


def _use_euler_sigmas(
    scheduler: Any, schedule: str, steps: int, schedule_config: Mapping[str, Any], family: str
) -> None:
    """Gives Euler a the sigmas of Euler, which supports every schedule."""
    euler = make_scheduler(SAMPLERS["Euler"], schedule, steps, schedule_config, family)
    scheduler.set_timesteps(len(euler.timesteps))
    scheduler.sigmas, scheduler.timesteps = euler.sigmas, euler.timesteps


def start_index(scheduler: Any, steps: int, strength: float) -> int:
    """The index of the first timestep for a strength.

    int(strength * steps) steps are run, at least one if the strength is not 0, as in A1111 and diffusers.
    """
    steps_to_run = steps if strength >= 1 else max(int(steps * strength), 1 if strength else 0)
    return (
        min((steps - steps_to_run) * scheduler.order, len(scheduler.timesteps))
        if steps_to_run
        else len(scheduler.timesteps)
    )


class Stepper:
    """Runs scheduler steps with noise from each picture's own source, for schedulers that need noise."""

    def __init__(self, scheduler: Any, sampler: Sampler, sources: Sequence[Source]):
        self._scheduler, self._sources = scheduler, sources
        parameters = inspect.signature(scheduler.step).parameters
        self._takes_noise = "variance_noise" in parameters and "sde" in str(sampler.settings.get("algorithm_type"))
        self._takes_generator = (
            not self._takes_noise and "generator" in parameters and scheduler.__class__.__name__ not in DETERMINISTIC
        )

    def step(self, prediction: Tensor, timestep: Tensor, latents: Tensor) -> Tensor:
        """(N, C, h, w) latents at a timestep, and the prediction -> latents at the next timestep."""
        if self._takes_noise:
            return self._scheduler.step(
                prediction, timestep, latents, variance_noise=self._draw_noise(latents), return_dict=False
            )[0]
        if not self._takes_generator:
            return self._scheduler.step(prediction, timestep, latents, return_dict=False)[0]
        generators = [getattr(source, "generator", None) for source in self._sources]
        if None not in generators:
            return self._scheduler.step(prediction, timestep, latents, generator=generators, return_dict=False)[0]
        return self._step_with_noise(prediction, timestep, latents, self._draw_noise(latents))

    def _draw_noise(self, latents: Tensor) -> Tensor:
        return torch.stack([source(tuple(latents.shape[1:])) for source in self._sources])

    def _step_with_noise(self, prediction: Tensor, timestep: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
        """The step with given noise, for a scheduler that only draws its own.

        A step is linear in its noise: two steps with known noises determine the coefficient.
        """
        results, noises = [], []
        for seed, scheduler in enumerate((copy.deepcopy(self._scheduler), self._scheduler)):
            results.append(
                scheduler.step(
                    prediction, timestep, latents, generator=torch.Generator().manual_seed(seed), return_dict=False
                )[0]
            )
            noises.append(torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)))
        difference = noises[1] - noises[0]
        noise_coefficient = ((results[1] - results[0]) * difference).sum() / (difference * difference).sum()
        return results[1] + noise_coefficient * (noise - noises[1])
