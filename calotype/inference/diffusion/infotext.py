"""The infotext of a picture in A1111's format, for compatibility with tools that read it."""

from calotype import __version__
from calotype.dialects.infotext import format_infotext
from calotype.inference.diffusion.plan import GenerationPlan
from calotype.picture import Picture
from calotype.samplers import LATENT, schedule_title
from calotype.tasks import Imagine, read_size

RNG = {"cpu": "CPU", "a1111": "NV"}
EMPHASIS = {"original": None, "no-norm": "No norm", "ignore": "Ignore", "none": "None"}
FILL = {"original": "original", "blur": "fill", "noise": "latent noise", "nothing": "latent nothing"}


def infotext(task: Imagine, plan: GenerationPlan, picture: Picture) -> str:
    """The prompt as written, the negative prompt, and the fields by A1111's names in A1111's order.

    Args:
        task: that of the plan, for this one picture.
    """
    height, width = picture.pixels.shape[:2]
    first = (round(side / max(task.hires, 1)) for side in (width, height))
    fields = {
        "Steps": task.steps,
        "Sampler": plan.sampler.name,
        "Schedule type": schedule_title(plan.schedule),
        "CFG scale": f"{task.guidance:g}",
        "Seed": task.seed,
        "Size": "x".join(map(str, first)),
        "Model hash": plan.model.sha256[:10],
        "Model": plan.model.name,
        "VAE": task.vae or None,
        **_variation(task),
        "Denoising strength": f"{task.strength:g}"
        if task.init
        else f"{task.hires_strength:g}"
        if task.has_second_pass
        else None,
        "Clip skip": task.clip_skip if task.clip_skip > 1 else None,
        "RNG": RNG[task.noise],
        "Tiling": True if task.tiling else None,
        "CFG Rescale": f"{task.rescale:g}" if task.rescale else None,
        **_second_pass(task),
        **_inpainting(task),
        **_short_hashes(plan),
        "Emphasis": EMPHASIS[task.emphasis],
        "Version": f"Calotype {__version__}",
    }
    return format_infotext(*plan.parsed_prompt.written, fields)


def _short_hashes(plan: GenerationPlan) -> dict[str, str]:
    adapters = [adapter for adapter, *_ in plan.adapters]
    networks_by_title = {"Lora hashes": adapters, "TI hashes": plan.own_embeddings}
    return {
        key: ", ".join(f"{network.name}: {network.short_hash}" for network in networks)
        for key, networks in networks_by_title.items()
        if networks
    }


def _variation(task: Imagine) -> dict[str, object]:
    size = read_size(task.seed_resize, "seed_resize")
    resized_from = f"{size[1]}x{size[0]}" if size else None
    if not task.variation:
        return {"Seed resize from": resized_from}
    return {
        "Variation seed": task.variation_seed,
        "Variation seed strength": f"{task.variation:g}",
        "Seed resize from": resized_from,
    }


def _second_pass(task: Imagine) -> dict[str, object]:
    if not task.has_second_pass:
        return {}
    return {
        "Hires upscale": f"{task.hires:g}",
        "Hires steps": task.hires_steps or None,
        "Hires upscaler": task.hires_upscaler.capitalize()
        if task.hires_upscaler.lower() in LATENT
        else task.hires_upscaler,
    }


def _inpainting(task: Imagine) -> dict[str, object]:
    if task.mask is None:
        return {}
    return {
        "Mask blur": task.mask_blur,
        "Inpaint area": "Only masked" if task.only_masked else None,
        "Masked area padding": task.padding if task.only_masked else None,
        "Masked content": FILL[task.fill],
    }
