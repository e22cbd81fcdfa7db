"""The loss of a network that finds marks, and the figures that it is measured by."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from calotype.training.repair.pairs import Pairs

ENTROPY = 4.0  # weight of the cross entropy over that of the overlap
FIRST_WEIGHT, LAST_WEIGHT = 6.0, 1.5  # of a marked pixel over a clean one: at the start, and from the middle of the run
SURE = 0.8  # probability from which a pixel counts as found
NEAR = 3  # pixels: a found pixel next to a mark counts as right, one of a mark next to a found one as found


def repair_loss(logits: Tensor, pairs: Pairs, progress: float) -> Tensor:
    """Cross entropy and overlap (Dice) of the mask.

    Args:
        logits: (N, 1, H, W), of the mask.
        progress: of the run, 0 to 1. At first nothing would be taken for a mark, as few pixels are one; later precision
            counts.
    """
    mask, weight, probability = pairs.mask, pairs.weight, logits.sigmoid()
    positive = logits.new_tensor(FIRST_WEIGHT + (LAST_WEIGHT - FIRST_WEIGHT) * min(1.0, 2 * progress))
    entropy = F.binary_cross_entropy_with_logits(logits, mask, weight, pos_weight=positive)
    overlap = (2 * (probability * mask).sum() + 1) / ((probability * weight).sum() + mask.sum() + 1)
    return ENTROPY * entropy + 1 - overlap


@dataclass
class Figures:
    """Counts of pixels, and what follows from them."""

    found: int = 0
    right: int = 0
    marked: int = 0
    recalled: int = 0

    def add(self, logits: Tensor, pairs: Pairs) -> None:
        """Args as of `repair_loss`."""
        mask, found = pairs.mask, (logits.sigmoid() > SURE).float()
        self.found += int(found.sum())
        self.right += int((found * _grown(mask)).sum())
        self.marked += int(mask.sum())
        self.recalled += int((mask * _grown(found)).sum())

    @property
    def precision(self) -> float:
        return self.right / max(1, self.found)

    @property
    def recall(self) -> float:
        return self.recalled / max(1, self.marked)


def _grown(mask: Tensor) -> Tensor:
    return F.max_pool2d(mask, NEAR, 1, NEAR // 2)
