"""How close forgeries come to real pictures, in figures, and with nothing to fetch.

The features are those of a convolutional network with random weights, always the same ones. Naeem et al., "Reliable
Fidelity and Diversity Metrics for Generative Models" (ICML 2020), show that such an embedding ranks generators, and
does so better than one trained on ImageNet where the pictures are of another kind. Figures compare runs on one folder
with each other; they are no FID of the literature, which takes Inception's features and 50,000 pictures.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.errors import CalotypeError

WIDTHS, KERNEL, SEED = (3, 32, 64, 128), 3, 20_240
SIDE = 64  # pixels; all pictures are looked at in this size
NUMBERS = 64  # of one picture
NEIGHBOURS = 3
ALIKE = 1e-4  # of the features' length; pictures that differ less are the same
TOGETHER = 64


class RandomFeatures:
    """Pictures, (n, 3, S, S) in [-1, 1] at a time, to features (N, 64): means over places of three random layers,
    projected."""

    def __init__(self) -> None:
        chance = torch.Generator().manual_seed(SEED)
        self._layers = [
            torch.randn(b, a, KERNEL, KERNEL, generator=chance) * math.sqrt(2 / (a * KERNEL**2))
            for a, b in pairwise(WIDTHS)
        ]
        total = sum(width * 16 for width in WIDTHS[1:])
        self._project = torch.randn(total, NUMBERS, generator=chance) / math.sqrt(total)

    @torch.no_grad()
    def __call__(self, pictures: Iterable[Tensor]) -> Tensor:
        return torch.cat([self._one(x) for some in pictures for x in some.float().cpu().split(TOGETHER)])

    def _one(self, x: Tensor) -> Tensor:
        if x.shape[-1] != SIDE:
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
        told = []
        for layer in self._layers:
            x = F.leaky_relu(F.conv2d(x, layer, stride=2, padding=1), 0.2)
            told.append(F.adaptive_avg_pool2d(x, 4).flatten(1))
        return torch.cat(told, 1) @ self._project


def frechet(one: Tensor, other: Tensor) -> float:
    """Fréchet distance of two Gaussians fitted to features (N, D) (Heusel et al. 2017): 0 for the same."""
    (mean, spread), (mean_, spread_) = ((x.mean(0), torch.cov(x.T)) for x in (one.double(), other.double()))
    root = torch.linalg.eigvals(spread @ spread_).real.clamp(min=0).sqrt().sum()
    return float(((mean - mean_) ** 2).sum() + spread.trace() + spread_.trace() - 2 * root)


def precision_recall(real: Tensor, forged: Tensor) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019) with k = 3: the share of forgeries among the real
    pictures, and of real pictures among the forgeries."""
    return _within(forged, real), _within(real, forged)


def _within(points: Tensor, others: Tensor) -> float:
    """The share of points that lie nearer to one of the others than that one's k-th neighbour."""
    reach = torch.cdist(others, others).kthvalue(min(NEIGHBOURS + 1, len(others)), dim=1).values
    return float((torch.cdist(points, others) <= reach).any(1).float().mean())


def spread(features: Tensor) -> float:
    """The mean distance between two pictures: how much they differ from each other."""
    count = len(features)
    return float(torch.cdist(features, features).sum() / max(1, count * (count - 1)))


@dataclass(frozen=True)
class Figures:
    """What is measured at a snapshot."""

    frechet: float
    precision: float
    recall: float
    diversity: float  # of the forgeries, as a share of the real pictures'


class Measure:
    """Compares forgeries with real pictures. Both come in parts, of which one at a time is in memory."""

    def __init__(self, real: Callable[[], Iterable[Tensor]]):
        """Args: real: gives parts (n, 3, S, S) in [-1, 1] when first wanted."""
        self._given, self._look = real, RandomFeatures()

    @cached_property
    def real(self) -> Tensor:
        """Raises CalotypeError where the pictures are all alike: then nothing can be told from them."""
        seen = self._look(self._given())
        if len(seen) > 1 and float(seen.std(0).norm()) < ALIKE * float(seen.mean(0).norm()):
            raise CalotypeError(
                "the {count} pictures to learn from are all alike; give different ones", count=len(seen)
            )
        return seen

    def __call__(self, forged: Iterable[Tensor]) -> Figures:
        seen = self._look(forged)
        if not torch.isfinite(seen).all():
            return Figures(math.nan, math.nan, math.nan, math.nan)
        share = spread(seen) / max(1e-9, spread(self.real))
        return Figures(frechet(self.real, seen), *precision_recall(self.real, seen), share)
