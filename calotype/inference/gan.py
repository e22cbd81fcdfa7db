"""Sampling from a GAN generator: pictures from latents, and interpolation between latents."""

import math
import secrets
from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from calotype.checkpoints import open_gan as gan
from calotype.checkpoints.models import Models
from calotype.checkpoints.store import Checkpoint
from calotype.errors import CalotypeError
from calotype.inference.diffusion.xy_grid import compose_grid
from calotype.ops.color import to_pixels
from calotype.picture import Picture
from calotype.record import Film, Result
from calotype.tasks import Imagine, Progress

GAN_OPTIONS = ("model", "seed", "count", "batch", "grid", "truncation", "interpolate", "place")
FRAMES_PER_LEG, SECONDS_PER_FRAME = 24, 1 / 12  # frames from one picture to the next, and duration of each
MIN_SIDE = 256  # pixels of the side of a video frame


def find_gan(task: Imagine, models: Models) -> Checkpoint | None:
    """The GAN checkpoint that a task names; None if its model is a diffusion model.

    Raises:
        CalotypeError: options of GANs for another model.
    """
    checkpoint = models.store.find(task.model, "diffusion")
    if gan.is_gan(checkpoint.path):
        return checkpoint
    for name in ("truncation", "interpolate"):
        if getattr(task, name) != _default(name):
            raise CalotypeError(
                "{option} is for GAN generators, which `{task:train_gan}` makes; {found} is not one",
                option=name,
                found=checkpoint.name,
            )
    return None


@torch.inference_mode()
def sample_gan(task: Imagine, checkpoint: Checkpoint, models: Models) -> Iterator[Progress | Result | Film]:
    """Yields a Result for every picture and, if requested, one for a sheet of them; or a Film that interpolates them.

    Raises:
        CalotypeError: the file is damaged, or options that a GAN does not have.
    """
    for spec in fields(task):
        if spec.name not in GAN_OPTIONS and getattr(task, spec.name) != spec.default:
            prompt_sentence = "{found} is a GAN generator, which takes no text: it has no use for a prompt"
            option_sentence = "{found} is a GAN generator, which takes no text: it has no use for {option}"
            raise CalotypeError(
                prompt_sentence if spec.name == "prompt" else option_sentence, option=spec.name, found=checkpoint.name
            )
    model = models.gan(checkpoint)
    generator = model.generator.to(models.device)
    first_seed = task.seed if task.seed >= 0 else secrets.randbelow(2**32)
    task = replace(task, seed=first_seed)
    latents = torch.stack([_latent(first_seed + n, generator.shape.latent) for n in range(task.count)])
    if task.interpolate:
        yield from _interpolate(task, latents, generator)
        return
    results = []
    for n, latent in enumerate(latents):
        picture = Picture(_generate(generator, task.truncation * latent))
        picture_task = replace(task, seed=(first_seed + n) % 2**64, count=1, grid=False, batch=1, place=0)
        results.append(Result.of(picture_task, None, picture, [model], models.computed(None)))
        yield Progress(n + 1, len(latents), "pictures")
        yield results[-1]
    if task.grid and len(results) > 1:
        columns = math.ceil(len(results) ** 0.5)
        pixels = [result.picture.pixels for result in results]
        sheet = compose_grid([pixels[n : n + columns] for n in range(0, len(pixels), columns)], [], [])
        sheet_result = Result.of(task, None, Picture(sheet), [model], models.computed(None))
        yield replace(sheet_result, is_sheet=True)


def _interpolate(task: Imagine, latents: Tensor, generator: torch.nn.Module) -> Iterator[Progress | Film]:
    """A film from picture to picture and back to the first, by spherical interpolation (Shoemake 1985), which keeps the
    norm of latents."""
    if len(latents) < 2:
        raise CalotypeError("{option:interpolate} needs pictures to interpolate; give {option:count} 2 or more")
    frames, total = [], len(latents) * FRAMES_PER_LEG
    factor = max(1, MIN_SIDE // generator.shape.side)
    for n, start in enumerate(latents):
        end = latents[(n + 1) % len(latents)]
        for step in range(FRAMES_PER_LEG):
            weight = (1 - math.cos(math.pi * step / FRAMES_PER_LEG)) / 2  # ease in and out at the pictures
            frame = _generate(generator, task.truncation * slerp(start, end, weight))
            frames.append(frame.repeat(factor, 0).repeat(factor, 1))
            yield Progress(len(frames), total, "frames")
    yield Film(tuple(frames), SECONDS_PER_FRAME, task.seed)


def slerp(start: Tensor, end: Tensor, weight: float) -> Tensor:
    """Spherical interpolation from `start` to `end`, with weight 0 to 1; the norm is interpolated linearly."""
    lengths = start.norm(), end.norm()
    angle = torch.arccos((start @ end / (lengths[0] * lengths[1])).clamp(-1, 1))
    if angle < 1e-4:
        return torch.lerp(start, end, weight)
    direction = torch.sin((1 - weight) * angle) * start / lengths[0] + torch.sin(weight * angle) * end / lengths[1]
    return direction / torch.sin(angle) * torch.lerp(*lengths, weight)


def _latent(seed: int, count: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed % 2**64))


def _generate(generator: torch.nn.Module, latent: Tensor) -> np.ndarray:
    """Generates one picture at a time: in float32 the bits depend on the batch."""
    device = next(generator.parameters()).device
    x = (generator(latent[None].to(device))[0].float().cpu() + 1) / 2
    return to_pixels(x, np.empty((1, 1, 3), np.uint8))


def _default(name: str) -> object:
    return next(spec.default for spec in fields(Imagine) if spec.name == name)
