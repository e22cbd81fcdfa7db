"""Pictures from a forger, the generator of a GAN: a latent in, a picture out, and walks between latents."""

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
from calotype.inference.diffusion.xy_grid import composed
from calotype.ops.color import to_pixels
from calotype.picture import Picture
from calotype.record import Film, Result
from calotype.tasks import Imagine, Progress

TAKEN = ("model", "seed", "count", "batch", "grid", "truncation", "interpolate", "place")
LEG, REST = 24, 1 / 12  # frames from one picture to the next, and seconds of each
LEAST = 256  # pixels of a film's side


def is_asked(task: Imagine, models: Models) -> Checkpoint | None:
    """The forger that a task names; None where its model draws from words.

    Raises:
        CalotypeError: options that only a forger has, for another model.
    """
    found = models.store.find(task.model, "diffusion")
    if gan.is_gan(found.path):
        return found
    for name in ("truncation", "interpolate"):
        if getattr(task, name) != _default(name):
            raise CalotypeError(
                "{option} is for forgers, which `{task:train_gan}` makes; {found} is none",
                option=name,
                found=found.name,
            )
    return None


@torch.inference_mode()
def forged(task: Imagine, found: Checkpoint, models: Models) -> Iterator[Progress | Result | Film]:
    """A Result for every picture, one for a sheet of them where it was asked for, or a Film of a walk between them.

    Raises:
        CalotypeError: the file is damaged, or options that a forger has no use for.
    """
    for spec in fields(task):
        if spec.name not in TAKEN and getattr(task, spec.name) != spec.default:
            words = "{found} is a forger, which draws without words: it has no use for a prompt"
            other = "{found} is a forger, which draws without words: it has no use for {option}"
            raise CalotypeError(words if spec.name == "prompt" else other, option=spec.name, found=found.name)
    model = models.gan(found)
    generator = model.generator.to(models.device)
    first = task.seed if task.seed >= 0 else secrets.randbelow(2**32)
    task = replace(task, seed=first)
    latents = torch.stack([_latent(first + n, generator.shape.latent) for n in range(task.count)])
    if task.interpolate:
        yield from _walk(task, latents, generator)
        return
    made = []
    for n, latent in enumerate(latents):
        picture = Picture(_drawn(generator, task.truncation * latent))
        one = replace(task, seed=first + n, count=1, grid=False, batch=1, place=0)
        made.append(Result.of(one, None, picture, [model], models.computed(None)))
        yield Progress(n + 1, len(latents), "pictures")
        yield made[-1]
    if task.grid and len(made) > 1:
        columns = math.ceil(len(made) ** 0.5)
        pixels = [result.picture.pixels for result in made]
        sheet = composed([pixels[n : n + columns] for n in range(0, len(pixels), columns)], [], [])
        whole = Result.of(task, None, Picture(sheet), [model], models.computed(None))
        yield replace(whole, is_sheet=True)


def _walk(task: Imagine, latents: Tensor, generator: torch.nn.Module) -> Iterator[Progress | Film]:
    """From picture to picture and back to the first, along great circles (Shoemake 1985), which keep to latents' usual
    length."""
    if len(latents) < 2:
        raise CalotypeError("{option:interpolate} walks between pictures; give {option:count} 2 or more")
    frames, total = [], len(latents) * LEG
    factor = max(1, LEAST // generator.shape.side)
    for n, here in enumerate(latents):
        there = latents[(n + 1) % len(latents)]
        for step in range(LEG):
            share = (1 - math.cos(math.pi * step / LEG)) / 2  # slow at the pictures themselves
            frame = _drawn(generator, task.truncation * between(here, there, share))
            frames.append(frame.repeat(factor, 0).repeat(factor, 1))
            yield Progress(len(frames), total, "frames")
    yield Film(tuple(frames), REST, task.seed)


def between(one: Tensor, other: Tensor, share: float) -> Tensor:
    """On the great circle from one latent to another, share 0 to 1 of the way; lengths go over evenly."""
    lengths = one.norm(), other.norm()
    angle = torch.arccos((one @ other / (lengths[0] * lengths[1])).clamp(-1, 1))
    if angle < 1e-4:
        return torch.lerp(one, other, share)
    way = torch.sin((1 - share) * angle) * one / lengths[0] + torch.sin(share * angle) * other / lengths[1]
    return way / torch.sin(angle) * torch.lerp(*lengths, share)


def _latent(seed: int, count: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed % 2**63))


def _drawn(generator: torch.nn.Module, latent: Tensor) -> np.ndarray:
    """One at a time: the bits of float32 depend on what is drawn together."""
    device = next(generator.parameters()).device
    x = (generator(latent[None].to(device))[0].float().cpu() + 1) / 2
    return to_pixels(x, np.empty((1, 1, 3), np.uint8))


def _default(name: str) -> object:
    return next(spec.default for spec in fields(Imagine) if spec.name == name)
