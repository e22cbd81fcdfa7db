"""A fresh scheduler of diffusers for each drawing: it carries state."""

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

PLACE = {  # of each scheduler within diffusers.schedulers; a whole import of diffusers would take seconds
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
LOUDEST = 30.0  # sigma; twice as much as Stable Diffusion 1 begins with
QUIET = ("DDIMScheduler", "EulerDiscreteScheduler")  # they take a generator, and as used here draw nothing from it
SPACING = {"uniform": "linspace", "sgm uniform": "trailing", "ddim": "leading"}
# Sabour et al. 2024, "Align Your Steps": the timesteps found best for ten steps.
ALIGNED = {
    "sd": (999, 850, 736, 645, 545, 455, 343, 233, 124, 24),
    "sdxl": (999, 845, 730, 587, 443, 310, 193, 116, 53, 13),
}


def scheduler(sampler: Sampler, schedule: str, steps: int, training: Mapping[str, Any], family: str = "sd1") -> Any:
    """A diffusers scheduler with its timesteps set.

    Args:
        schedule: one that the sampler can follow; never "automatic".
        training: what the model was trained with, by the names of a scheduler's config.
        family: the model's, for Align Your Steps.
    """
    cls = _class(sampler.scheduler)
    config = _config(cls, {**training, **sampler.settings}, schedule, is_wild=sampler.evaluations > 1)
    made = cls(**config)
    if sampler.name == "Euler a" and schedule != "uniform":
        _follow(made, schedule, steps, training, family)
    elif schedule in ("simple", "normal", "align your steps"):
        made.set_timesteps(timesteps=_listed(schedule, steps, made, family))
    else:
        made.set_timesteps(steps)
    return made


def _class(name: str) -> type:
    return getattr(importlib.import_module(f"diffusers.schedulers.scheduling_{PLACE[name]}"), name)


def _config(cls: type, told: Mapping[str, Any], schedule: str, is_wild: bool) -> dict[str, Any]:
    """What the class takes of it.

    A model with zero terminal SNR begins at infinite noise, from which steps that look ahead, and schedules that are
    spread over sigma, never come down well: they begin at LOUDEST. Where the class does not know of it at all, it is
    put into the betas.
    """
    known = inspect.signature(cls.__init__).parameters
    config = {name: value for name, value in told.items() if name in known}
    if told.get("rescale_betas_zero_snr") and (is_wild or schedule in SHAPED):
        config |= {"trained_betas": zero_terminal(_betas(told), 1 / LOUDEST)}
        config.pop("rescale_betas_zero_snr", None)
    elif told.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in known:
        config["trained_betas"] = zero_terminal(_betas(told))
    if f"use_{schedule}_sigmas" in known:
        config[f"use_{schedule}_sigmas"] = True
    if "timestep_spacing" in known and schedule in SPACING:
        config["timestep_spacing"] = SPACING[schedule]
    if "steps_offset" in known:
        config["steps_offset"] = 1  # counts for "ddim" alone
    return config | {name: False for name in ("clip_sample",) if name in known}


def _betas(told: Mapping[str, Any]) -> np.ndarray:
    if told.get("trained_betas") is not None:
        return np.asarray(told["trained_betas"], np.float64)
    start, end, count = told["beta_start"], told["beta_end"], told.get("num_train_timesteps", 1000)
    if told.get("beta_schedule") == "linear":
        return np.linspace(start, end, count)
    return np.linspace(start**0.5, end**0.5, count) ** 2


def signals(training: Mapping[str, Any]) -> Tensor:
    """The root of the cumulated alphas at each timestep, float32: how much of the picture is left in the noise."""
    betas = _betas(training)
    if training.get("rescale_betas_zero_snr"):
        betas = zero_terminal(betas)
    return torch.from_numpy(np.sqrt(np.cumprod(1 - betas))).float()


def zero_terminal(betas: np.ndarray, least: float = 2.0**-12) -> np.ndarray:
    """Betas whose last signal is nearly nothing, `least`: Lin et al. 2023, algorithm 1, kept above zero."""
    signal = np.sqrt(np.cumprod(1 - betas))
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    signal = np.maximum(signal, least * (1 - 1e-5 * np.arange(len(signal))))  # still falling, by very little
    squared = signal**2
    return 1 - np.concatenate([squared[:1], squared[1:] / squared[:-1]])


def _listed(schedule: str, steps: int, made: Any, family: str) -> list[int]:
    """Timesteps from the noisiest down, for schedules that diffusers has no word for."""
    count = made.config.num_train_timesteps
    if schedule == "simple":  # every n-th of the trained ones
        return [count - 1 - int(n * count / steps) for n in range(steps)]
    if schedule == "normal":
        return [round(t) for t in np.linspace(count - 1, 0, steps + 1)[:-1]] if steps > 1 else [count - 1]
    known = np.asarray(ALIGNED["sdxl" if family == "sdxl" else "sd"], np.float64)
    sigmas = (1 / made.alphas_cumprod.double().numpy() - 1) ** 0.5
    wanted = np.exp(
        np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(known)), np.log(sigmas[known.astype(int)]))
    )
    return sorted({int(np.abs(np.log(sigmas) - np.log(one)).argmin()) for one in wanted}, reverse=True)


def _follow(made: Any, schedule: str, steps: int, training: Mapping[str, Any], family: str) -> None:
    """Gives Euler a the way down of Euler, which knows every schedule."""
    ladder = scheduler(SAMPLERS["Euler"], schedule, steps, training, family)
    made.set_timesteps(len(ladder.timesteps))
    made.sigmas, made.timesteps = ladder.sigmas, ladder.timesteps


def begins_at(made: Any, steps: int, strength: float) -> int:
    """The first entry of `timesteps` to run, where only the last part is drawn anew.

    int(strength * steps) steps are run, at least one where the strength is not 0, as in A1111 and diffusers.
    """
    run = steps if strength >= 1 else max(int(steps * strength), 1 if strength else 0)
    return min((steps - run) * made.order, len(made.timesteps)) if run else len(made.timesteps)


class Stepper:
    """Steps down with noise from every picture's own source, which the scheduler draws from where it needs some."""

    def __init__(self, made: Any, sampler: Sampler, sources: Sequence[Source]):
        self._made, self._sources = made, sources
        known = inspect.signature(made.step).parameters
        self._takes_noise = "variance_noise" in known and "sde" in str(sampler.settings.get("algorithm_type"))
        self._draws = not self._takes_noise and "generator" in known and made.__class__.__name__ not in QUIET

    def step(self, answer: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """(N, C, h, w) latents at time `t`, and what the network said of them -> one step further."""
        if self._takes_noise:
            return self._made.step(answer, t, x, variance_noise=self._noise(x), return_dict=False)[0]
        if not self._draws:
            return self._made.step(answer, t, x, return_dict=False)[0]
        own = [getattr(source, "generator", None) for source in self._sources]
        if None not in own:
            return self._made.step(answer, t, x, generator=own, return_dict=False)[0]
        return self._with_noise(answer, t, x, self._noise(x))

    def _noise(self, x: Tensor) -> Tensor:
        return torch.stack([source(tuple(x.shape[1:])) for source in self._sources])

    def _with_noise(self, answer: Tensor, t: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        """The step with given noise, for a scheduler that insists on drawing its own.

        A step is linear in its noise: two steps with known noises tell how strongly it counts.
        """
        ends, known = [], []
        for seed, made in enumerate((copy.deepcopy(self._made), self._made)):
            ends.append(made.step(answer, t, x, generator=torch.Generator().manual_seed(seed), return_dict=False)[0])
            known.append(torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)))
        apart = known[1] - known[0]
        share = ((ends[1] - ends[0]) * apart).sum() / (apart * apart).sum()
        return ends[1] + share * (noise - known[1])
