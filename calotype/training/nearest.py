"""How well a model draws what it never saw: is its picture nearest to the true one, among many of that kind?"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from calotype.models.diffusion import Diffusion
from calotype.tasks import Progress
from calotype.training.pairs import Pair

MOST, AMONG = 200, 100  # pictures that are drawn; pictures among which the true one should be nearest
STEPS, GUIDANCE = 30, 3.0
TOGETHER = 25


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
    model: Diffusion, pairs: Sequence[Pair], held: Sequence[int], latents: Tensor, signals: Tensor, seed: int
) -> Iterator[Progress | Score]:
    """Draws what is held back from its usual caption, and looks for the nearest of its group in the VAE's latents.

    Args:
        held: places of pictures that were not learnt from.
        latents: (N, C, h, w), the means of all pictures.
        signals: (T,): the root of the cumulated alphas.
    """
    places = sorted(random.Random(seed).sample(list(held), min(MOST, len(held))))
    hits, chance, drawn = 0, 0.0, []
    for first in range(0, len(places), TOGETHER):
        some = places[first : first + TOGETHER]
        pixels = model.pixels(_drawn(model, [pairs[n].captions[0] for n in some], latents.shape[1:], signals, first))
        drawn.append((pixels * 255).round().to(torch.uint8))
        for place, made in zip(some, model.latents(pixels), strict=True):
            rivals = [n for n, pair in enumerate(pairs) if pair.group == pairs[place].group and n != place]
            rivals = random.Random(f"{seed} {place}").sample(rivals, min(AMONG - 1, len(rivals)))
            among = latents[torch.tensor([place, *rivals])].float().cpu()
            hits += int((among - made).square().mean((1, 2, 3)).argmin() == 0)
            chance += 1 / len(among)
        yield Progress(first + len(some), len(places), "pictures held back, drawn")
    yield Score(hits, len(places), chance, torch.cat(drawn), tuple(places))


def _drawn(model: Diffusion, prompts: Sequence[str], shape: torch.Size, signals: Tensor, seed: int) -> Tensor:
    """(N, C, h, w) latents: DDIM (Song et al. 2021) without noise, on trailing timesteps, for v-prediction."""
    part = model.text[0]
    rows = [(part.tokenizer.encode(prompt)[:75], {}) for prompt in ["", *prompts]]
    told = [model.read([row], lambda found: found).states for row in rows]
    words = torch.cat([told[0].expand(len(prompts), -1, -1), *told[1:]])
    x = torch.randn(len(prompts), *shape, generator=torch.Generator().manual_seed(seed))
    count = len(signals)
    times = [round(count - n * count / STEPS) - 1 for n in range(STEPS)]
    ahead = [float(signals[time]) for time in times] + [1.0]
    for time, (signal, then) in zip(times, pairwise(ahead), strict=True):
        noise_share, noise_then = (1 - signal**2) ** 0.5, (1 - then**2) ** 0.5
        plain, wanted = model.predict(torch.cat([x, x]), torch.tensor(time), words, {}, False).chunk(2)
        v = plain + GUIDANCE * (wanted - plain)
        x = then * (signal * x - noise_share * v) + noise_then * (noise_share * x + signal * v)
    return x
