"""Samplers and schedules by A1111's names, and the defaults for each model family.

Without torch, since interfaces check names with it. `inference/diffusion/schedulers.py` makes diffusers' schedulers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from calotype.errors import CalotypeError
from calotype.options import nearest

SPACED = ("uniform", "sgm uniform", "ddim")
SHAPED = ("karras", "exponential", "beta")
LISTED = ("simple", "normal", "align your steps")
SCHEDULES = ("automatic", *SPACED, *SHAPED, *LISTED)


@dataclass(frozen=True)
class Sampler:
    """One sampler: its scheduler in diffusers, and the schedules that it supports."""

    name: str
    scheduler: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    automatic: str = "uniform"  # the schedule that "automatic" stands for, as in A1111
    schedules: tuple[str, ...] = (*SPACED, *SHAPED, *LISTED)
    evaluations: int = 1  # of the network per step
    aliases: tuple[str, ...] = ()
    note: str = ""


def _dpm(name: str, automatic: str, *aliases: str, note: str = "", **settings: Any) -> Sampler:
    return Sampler(name, "DPMSolverMultistepScheduler", settings, automatic, aliases=aliases, note=note)


_TABLE = (
    _dpm("DPM++ 2M", "karras", "k_dpmpp_2m", algorithm_type="dpmsolver++", solver_order=2),
    _dpm("DPM++ 2M SDE", "exponential", "k_dpmpp_2m_sde", algorithm_type="sde-dpmsolver++", solver_order=2),
    _dpm(
        "DPM++ 2M SDE Heun",
        "exponential",
        "k_dpmpp_2m_sde_heun",
        algorithm_type="sde-dpmsolver++",
        solver_order=2,
        solver_type="heun",
    ),
    _dpm("DPM++ 3M SDE", "exponential", "k_dpmpp_3m_sde", algorithm_type="sde-dpmsolver++", solver_order=3),
    Sampler(
        "DPM++ SDE",
        "DPMSolverSinglestepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "lower_order_final": True},
        "karras",
        schedules=("uniform", *SHAPED, *LISTED),
        aliases=("k_dpmpp_sde",),
        note="a step is one run of the network, not two; its noise is drawn step by step, not from a Brownian tree",
    ),
    Sampler("Euler a", "EulerAncestralDiscreteScheduler", aliases=("k_euler_a", "k_euler_ancestral")),
    Sampler("Euler", "EulerDiscreteScheduler", aliases=("k_euler",)),
    Sampler("Heun", "HeunDiscreteScheduler", evaluations=2, aliases=("k_heun",)),
    Sampler("LMS", "LMSDiscreteScheduler", schedules=(*SPACED, *SHAPED), aliases=("k_lms",)),
    Sampler(
        "DPM2",
        "KDPM2DiscreteScheduler",
        automatic="karras",
        schedules=(*SPACED, *SHAPED),
        evaluations=2,
        aliases=("k_dpm_2",),
    ),
    Sampler(
        "DPM2 a",
        "KDPM2AncestralDiscreteScheduler",
        automatic="karras",
        schedules=(*SPACED, *SHAPED),
        evaluations=2,
        aliases=("k_dpm_2_a", "k_dpm_2_ancestral"),
    ),
    Sampler("DDIM", "DDIMScheduler", automatic="ddim", schedules=SPACED),
    Sampler("PLMS", "PNDMScheduler", {"skip_prk_steps": True}, automatic="ddim", schedules=SPACED),
    Sampler("UniPC", "UniPCMultistepScheduler", {"solver_order": 2}, schedules=(*SPACED, *SHAPED)),
    Sampler("DEIS", "DEISMultistepScheduler", {"solver_order": 2}, schedules=(*SPACED, *SHAPED)),
    Sampler(
        "LCM",
        "LCMScheduler",
        automatic="lcm",
        schedules=("lcm",),
        note="for models and LoRAs made for it; few steps, guidance 1 to 2",
    ),
)
SAMPLERS: dict[str, Sampler] = {sampler.name: sampler for sampler in _TABLE}

# A1111's samplers that diffusers does not have, and the nearest that it has.
MISSING = {
    "DPM++ 2S a": "DPM++ SDE",
    "DPM fast": "DPM++ 2M",
    "DPM adaptive": "DPM++ 2M",
    "Restart": "DPM++ 2M SDE",
    "DDIM CFG++": "DDIM",
    "HeunPP2": "Heun",
    "IPNDM": "DEIS",
    "IPNDM_V": "DEIS",
}


# Latent upscalers of the hires fix, by A1111's names: torch's mode, and whether antialiased.
LATENT = {
    "latent": ("bilinear", False),
    "latent (antialiased)": ("bilinear", True),
    "latent (bicubic)": ("bicubic", False),
    "latent (bicubic antialiased)": ("bicubic", True),
    "latent (nearest)": ("nearest", False),
    "latent (nearest-exact)": ("nearest-exact", False),
}
LANCZOS = "lanczos"  # upscales pixels instead of latents


@dataclass(frozen=True)
class Preset:
    """Defaults of a model family; chosen by visual comparison."""

    steps: int
    guidance: float
    sampler: str
    schedule: str = "automatic"
    rescale: float = 0.0
    size: int = 512


PRESETS = {
    "emoji": Preset(16, 3.5, "DPM++ 2M", "sgm uniform", size=256),
    "sd1": Preset(20, 7.0, "DPM++ 2M", size=512),
    "sd2": Preset(20, 7.0, "DPM++ 2M", size=768),
    "sdxl": Preset(25, 6.0, "DPM++ 2M", size=1024),
}


def schedule_title(schedule: str) -> str:
    """A schedule as A1111 writes it; lcm, which only one sampler has, is "Automatic"."""
    return {"sgm uniform": "SGM Uniform", "ddim": "DDIM", "lcm": "Automatic"}.get(schedule, schedule.title())


def sampler_named(text: str, schedule: str = "automatic", has_zero_snr: bool = False) -> tuple[Sampler, str]:
    """By A1111's name in any case, "DPM++ 2M Karras" too; the schedule is never "automatic".

    "automatic" is A1111's choice for the sampler; but a model with zero terminal SNR must start at its last timestep
    (Lin et al. 2023, section 3.3), as "sgm uniform" does.

    Raises:
        CalotypeError: unknown, not in diffusers, or a schedule that the sampler does not support.
    """
    name, suffix = _without_schedule(text)
    if name not in _KNOWN:
        missing = {known.lower(): known for known in MISSING}.get(name)
        if missing:
            raise CalotypeError(
                "the sampler {name} does not exist in diffusers, which Calotype stands on; {nearest} comes nearest",
                option="sampler",
                name=missing,
                nearest=MISSING[missing],
            )
        raise CalotypeError(
            "no sampler is named {text!r}{hint}; there are {names}",
            option="sampler",
            text=text,
            hint=nearest(text, SAMPLERS),
            names=", ".join(sorted(SAMPLERS)),
        )
    sampler = _KNOWN[name]
    requested = schedule_named(schedule)
    requested = suffix if requested == "automatic" and suffix else requested
    if requested == "automatic":
        requested = "sgm uniform" if has_zero_snr and "sgm uniform" in sampler.schedules else sampler.automatic
    if requested not in sampler.schedules:
        if len(sampler.schedules) == 1:
            raise CalotypeError(
                "the sampler {sampler} cannot follow the schedule {schedule}; it takes its own one, automatic",
                sampler=sampler.name,
                schedule=requested,
            )
        raise CalotypeError(
            "the sampler {sampler} cannot follow the schedule {schedule}; it takes {names}",
            sampler=sampler.name,
            schedule=requested,
            names=", ".join(sampler.schedules),
        )
    return sampler, requested


def schedule_named(text: str) -> str:
    """One of SCHEDULES, by A1111's name in any case, with spaces or underscores."""
    name = " ".join(text.lower().replace("_", " ").replace("-", " ").split())
    name = {"normal": "normal", "sgm": "sgm uniform", "ays": "align your steps", "": "automatic"}.get(name, name)
    if name not in SCHEDULES:
        raise CalotypeError(
            "no schedule is named {text!r}{hint}; there are {names}",
            option="schedule",
            text=text,
            hint=nearest(name, SCHEDULES),
            names=", ".join(SCHEDULES),
        )
    return name


def _without_schedule(text: str) -> tuple[str, str]:
    """ "DPM++ 2M Karras" -> ("dpm++ 2m", "karras"), as in A1111's older names."""
    name = " ".join(text.lower().split())
    name = name.replace("dpmpp", "dpm++") if not name.startswith("k_") else name
    for schedule in SHAPED:
        for ending in (f" {schedule}", f"_{schedule}", "_ka" if schedule == "karras" else f" {schedule}"):
            if name.endswith(ending) and name.removesuffix(ending) in _KNOWN:
                return name.removesuffix(ending), schedule
    return name, ""


_KNOWN = {alias.lower(): sampler for sampler in _TABLE for alias in (sampler.name, *sampler.aliases)}
