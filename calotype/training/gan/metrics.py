"""Metrics of generated pictures compared with real ones, without any download.

The features are those of a convolutional network with fixed random weights. Naeem et al., "Reliable Fidelity and
Diversity Metrics for Generative Models" (ICML 2020), show that such an embedding ranks generators, and better than one
trained on ImageNet for pictures of other domains. The metrics compare runs on the same dataset; they are not FID of the
literature, which uses Inception's features and 50,000 pictures.
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
SIDE = 64  # pixels; all pictures are resized to this side
FEATURES = 64  # features of one picture
NEIGHBOURS = 3
MIN_RELATIVE_STD = 1e-4  # std relative to the norm of the mean; below it the pictures are all alike
BATCH_SIZE = 64


class RandomFeatures:
    """Batches of pictures (n, 3, S, S) in [-1, 1] -> features (N, 64): average pooled outputs of three random layers,
    projected."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(SEED)
        self._layers = [
            torch.randn(b, a, KERNEL, KERNEL, generator=rng) * math.sqrt(2 / (a * KERNEL**2))
            for a, b in pairwise(WIDTHS)
        ]
        total = sum(width * 16 for width in WIDTHS[1:])
        self._project = torch.randn(total, FEATURES, generator=rng) / math.sqrt(total)

    @torch.no_grad()
    def __call__(self, pictures: Iterable[Tensor]) -> Tensor:
        return torch.cat([self._features(x) for batch in pictures for x in batch.float().cpu().split(BATCH_SIZE)])

    def _features(self, x: Tensor) -> Tensor:
        if x.shape[-1] != SIDE:
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
        pooled = []
        for layer in self._layers:
            x = F.leaky_relu(F.conv2d(x, layer, stride=2, padding=1), 0.2)
            pooled.append(F.adaptive_avg_pool2d(x, 4).flatten(1))
        return torch.cat(pooled, 1) @ self._project


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of two Gaussians fitted to features (N, D) (Heusel et al. 2017)."""
    (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(0), torch.cov(x.T)) for x in (a.double(), b.double()))
    root = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()
    return float(((mean_a - mean_b) ** 2).sum() + cov_a.trace() + cov_b.trace() - 2 * root)


def precision_recall(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019) with k = 3: the fraction of generated pictures within
    the manifold of the real ones, and of real ones within that of the generated ones."""
    return _fraction_within(fake, real), _fraction_within(real, fake)


def _fraction_within(points: Tensor, reference: Tensor) -> float:
    """The fraction of points that are closer to a reference point than that point's k-th neighbor."""
    radius = torch.cdist(reference, reference).kthvalue(min(NEIGHBOURS + 1, len(reference)), dim=1).values
    return float((torch.cdist(points, reference) <= radius).any(1).float().mean())


def mean_pairwise_distance(features: Tensor) -> float:
    """The mean distance between all pairs, a measure of diversity."""
    count = len(features)
    return float(torch.cdist(features, features).sum() / max(1, count * (count - 1)))


@dataclass(frozen=True)
class GanScores:
    """The metrics of a snapshot."""

    frechet: float
    precision: float
    recall: float
    diversity: float  # of the generated pictures, relative to that of the real ones


class GanMetrics:
    """Compares generated with real pictures. Both are given in batches, of which one at a time is in memory."""

    def __init__(self, real: Callable[[], Iterable[Tensor]]):
        """Args: real: returns batches (n, 3, S, S) in [-1, 1]; called at the first use."""
        self._batches, self._embed = real, RandomFeatures()

    @cached_property
    def real(self) -> Tensor:
        """Features of the real pictures. Raises CalotypeError if all are alike: metrics are undefined then."""
        features = self._embed(self._batches())
        if len(features) > 1 and float(features.std(0).norm()) < MIN_RELATIVE_STD * float(features.mean(0).norm()):
            raise CalotypeError("the {count} training pictures are all alike; give different ones", count=len(features))
        return features

    def __call__(self, fake: Iterable[Tensor]) -> GanScores:
        features = self._embed(fake)
        if not torch.isfinite(features).all():
            return GanScores(math.nan, math.nan, math.nan, math.nan)
        diversity = mean_pairwise_distance(features) / max(1e-9, mean_pairwise_distance(self.real))
        return GanScores(frechet_distance(self.real, features), *precision_recall(self.real, features), diversity)
