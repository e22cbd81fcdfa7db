"""How well a model draws what it never saw: is its picture nearest to the true one, among many of that kind?"""

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

MOST, AMONG = 200, 100  # pictures that are drawn; pictures among which the true one should be nearest
STEPS, GUIDANCE = 30, 3.0
TOGETHER = 25  # pictures drawn at once, at most


@dataclass(frozen=True, eq=False)
class Score:
    """What came out."""

    hits: int
    count: int
    chance: float  # hits that guessing would have
    drawn: Tensor  # (count, 3, S, S) uint8
    places: tuple[int, ...]  # of the true pictures, in the set


@torch.inference_mode()
def nearest(
    model: Diffusion,
    pairs: Sequence[Pair],
    held: Sequence[int],
    latents: Tensor,
    signals: Tensor,
    seed: int,
    remaining: Callable[[], float] = lambda: math.inf,
) -> Iterator[Progress | Score]:
    """Draws what is held back from its usual caption, and looks for the nearest of its group in the VAE's latents.

    Args:
        held: places of pictures that were not learnt from.
        latents: (N, C, h, w), the means of all pictures.
        signals: (T,): the root of the cumulated alphas.
        remaining: seconds that are left; as many pictures are drawn as fit, chosen at random, one at least.
    """
    places = random.Random(seed).sample(list(held), min(MOST, len(held)))
    hits, chance, drawn, first = 0, 0.0, [], 0
    size = TOGETHER if remaining() == math.inf else 1
    while first < len(places) and size > 0:
        begun, some = time.monotonic(), places[first : first + size]
        prompts = [pairs[n].captions[0] for n in some]
        noise = torch.cat([noise_of(place, latents.shape[1:], seed) for place in some])
        pixels = model.decode(_drawn(model, prompts, noise, signals))
        drawn.append((pixels * 255).round().to(torch.uint8))
        for place, made in zip(some, model.encode_mean(pixels), strict=True):
            rivals = [n for n, pair in enumerate(pairs) if pair.group == pairs[place].group and n != place]
            rivals = random.Random(f"{seed} {place}").sample(rivals, min(AMONG - 1, len(rivals)))
            among = latents[torch.tensor([place, *rivals])].float().cpu()
            hits += int((among - made).square().mean((1, 2, 3)).argmin() == 0)
            chance += 1 / len(among)
        first += len(some)
        yield Progress(first, len(places), "pictures held back, drawn")
        pace = (time.monotonic() - begun) / len(some)
        size = int(min(TOGETHER, 2 * size, max(0.0, remaining()) / pace))
    yield Score(hits, first, chance, torch.cat(drawn), tuple(places[:first]))


def noise_of(place: int, shape: torch.Size, seed: int) -> Tensor:
    """(1, C, h, w): what the picture at a place is drawn from, whatever is drawn beside it."""
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed((seed * 1_000_003 + place) % 2**63))


def _drawn(model: Diffusion, prompts: Sequence[str], x: Tensor, signals: Tensor) -> Tensor:
    """(N, C, h, w) latents from noise: DDIM (Song et al. 2021) without more of it, on trailing timesteps, for v."""
    part = model.text[0]
    rows = [(part.tokenizer.encode(prompt)[:75], {}) for prompt in ["", *prompts]]
    told = [model.encode_prompt([row], lambda found: found).states for row in rows]
    words = torch.cat([told[0].expand(len(prompts), -1, -1), *told[1:]])
    count = len(signals)
    times = [round(count - n * count / STEPS) - 1 for n in range(STEPS)]
    ahead = [float(signals[t]) for t in times] + [1.0]
    for t, (signal, then) in zip(times, pairwise(ahead), strict=True):
        noise_share, noise_then = (1 - signal**2) ** 0.5, (1 - then**2) ** 0.5
        plain, wanted = model.predict(torch.cat([x, x]), torch.tensor(t), words, {}, False).chunk(2)
        v = plain + GUIDANCE * (wanted - plain)
        x = then * (signal * x - noise_share * v) + noise_then * (noise_share * x + signal * v)
    return x
