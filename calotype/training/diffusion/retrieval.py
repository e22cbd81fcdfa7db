"""Retrieval score on validation images: how often a generated picture is closest to the true one of its caption."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from calotype.models.diffusion import Diffusion
from calotype.tasks import Progress
from calotype.training.data.captioned import Pair

MAX_PICTURES, CANDIDATES = 200, 100  # max pictures to generate; pictures to find the true one among
STEPS, GUIDANCE = 30, 3.0
BATCH_SIZE = 25  # max pictures generated at once


@dataclass(frozen=True, eq=False)
class Score:
    """Result of `retrieval_score`."""

    hits: int
    count: int
    expected_hits: float  # hits of random guesses
    pixels: Tensor  # (count, 3, S, S) uint8
    indices: tuple[int, ...]  # of the true pictures in the dataset


@torch.inference_mode()
def retrieval_score(
    model: Diffusion,
    pairs: Sequence[Pair],
    validation: Sequence[int],
    latents: Tensor,
    sqrt_alphas_cumprod: Tensor,
    seed: int,
    remaining: Callable[[], float] = lambda: math.inf,
) -> Iterator[Progress | Score]:
    """Generates validation images from their first captions, and looks for the closest latents in their group.

    Args:
        validation: indices of the validation images.
        latents: (N, C, h, w), the VAE's means of all pictures.
        sqrt_alphas_cumprod: (T,).
        remaining: seconds left; a random subset that fits is generated, at least one picture.
    """
    indices = random.Random(seed).sample(list(validation), min(MAX_PICTURES, len(validation)))
    hits, expected_hits, pictures, first = 0, 0.0, [], 0
    size = BATCH_SIZE if remaining() == math.inf else 1
    while first < len(indices) and size > 0:
        start, batch = time.monotonic(), indices[first : first + size]
        prompts = [pairs[n].captions[0] for n in batch]
        noise = torch.cat([noise_of(index, latents.shape[1:], seed) for index in batch])
        pixels = model.decode(_sample(model, prompts, noise, sqrt_alphas_cumprod))
        pictures.append((pixels * 255).round().to(torch.uint8))
        for index, encoded in zip(batch, model.encode_mean(pixels), strict=True):
            distractors = [n for n, pair in enumerate(pairs) if pair.group == pairs[index].group and n != index]
            distractors = random.Random(f"{seed} {index}").sample(distractors, min(CANDIDATES - 1, len(distractors)))
            candidates = latents[torch.tensor([index, *distractors])].float().cpu()
            hits += int((candidates - encoded).square().mean((1, 2, 3)).argmin() == 0)
            expected_hits += 1 / len(candidates)
        first += len(batch)
        yield Progress(first, len(indices), "validation pictures generated")
        pace = (time.monotonic() - start) / len(batch)
        size = int(min(BATCH_SIZE, 2 * size, max(0.0, remaining()) / pace))
    yield Score(hits, first, expected_hits, torch.cat(pictures), tuple(indices[:first]))


def noise_of(index: int, shape: torch.Size, seed: int) -> Tensor:
    """(1, C, h, w): the initial noise of a picture, independent of its batch."""
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63))


def _sample(model: Diffusion, prompts: Sequence[str], x: Tensor, sqrt_alphas_cumprod: Tensor) -> Tensor:
    """(N, C, h, w) noise -> latents: DDIM (Song et al. 2021) with eta 0, trailing timesteps, v-prediction."""
    conditioner = model.text[0]
    rows = [(conditioner.tokenizer.encode(prompt)[:75], {}) for prompt in ["", *prompts]]
    states = [model.encode_prompt([row], lambda found: found).states for row in rows]
    text_states = torch.cat([states[0].expand(len(prompts), -1, -1), *states[1:]])
    count = len(sqrt_alphas_cumprod)
    timesteps = [round(count - n * count / STEPS) - 1 for n in range(STEPS)]
    alphas = [float(sqrt_alphas_cumprod[t]) for t in timesteps] + [1.0]
    for t, (alpha_t, alpha_next) in zip(timesteps, pairwise(alphas), strict=True):
        sigma_t, sigma_next = (1 - alpha_t**2) ** 0.5, (1 - alpha_next**2) ** 0.5
        uncond, cond = model.predict(torch.cat([x, x]), torch.tensor(t), text_states, {}, False).chunk(2)
        v = uncond + GUIDANCE * (cond - uncond)
        x = alpha_next * (alpha_t * x - sigma_t * v) + sigma_next * (sigma_t * x + alpha_t * v)
    return x
