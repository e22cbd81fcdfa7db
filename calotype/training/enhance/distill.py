"""Knowledge distillation: a student is trained on what a teacher makes of degraded patches.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531), for the idea; here the output is
a picture, so the loss is that of Real-ESRGAN's training with the teacher's output in place of the ground truth.
"""

import hashlib
import json
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.models.network import Network
from calotype.ops.degrade import SecondOrder, second_order
from calotype.tasks import Progress
from calotype.training.data.disk_cache import load_or_compute, save_tensors
from calotype.training.data.patches import HighRes, cut_patch
from calotype.training.enhance.gan_step import Batch

VERSION = 1  # of what a cached pair depends on besides its key
CROP_FACTORS = (1.0, 1.5, 2.0, 3.0)  # a crop is downscaled by one of them: then it is sharp even if the photo is not
TEACHER_BATCH = 8  # patches at once
CUDA_TEACHER_BATCH = 64
MAX_MEMORY = 2 << 30  # bytes of pairs that stay in memory; the others are read from disk each time


@dataclass(frozen=True, eq=False)
class TeacherPair:
    """A degraded patch and the teacher's output for it, in the student's scale."""

    low: Tensor  # (3, h, w) uint8
    target: Tensor  # (3, h * scale, w * scale) uint8


class TeacherPairs:
    """A fixed number of pairs, kept on disk by what they depend on.

    Args:
        scale: the student's; the teacher's is a multiple of it.
        side: of the targets, in pixels.
        clean: probability of a patch that is only downscaled.
        seed: of the patches and their degradation.
        folder: of the cache.
    """

    def __init__(
        self,
        teacher: Network,
        photos: Sequence[HighRes],
        *,
        count: int,
        scale: int,
        side: int,
        clean: float,
        seed: int,
        folder: Path,
    ):
        self.teacher, self.photos, self.count, self.folder = teacher, photos, count, folder
        self.scale, self.side, self.clean, self.seed = scale, side, clean, seed
        self._in_memory: dict[int, TeacherPair] = {}
        self._memory_count = MAX_MEMORY // (3 * (side**2 + (side // scale) ** 2))

    def prepare(self) -> Iterator[Progress]:
        """Computes the pairs that are not on disk yet."""
        missing = [n for n in range(self.count) if not self._path(n).is_file()]
        size = CUDA_TEACHER_BATCH if self.teacher.device.type == "cuda" else TEACHER_BATCH
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(missing), size):
                chunk = missing[start : start + size]
                lows = torch.stack(list(pool.map(self._low, chunk)))
                for n, low, target in zip(chunk, lows, self.targets(lows), strict=True):
                    save_tensors(self._path(n), _as_tensors(low, target))
                yield Progress(start + len(chunk), len(missing), "patches of the teacher")

    def pair(self, n: int) -> TeacherPair:
        """Reads a pair; one that is lost is computed again."""

        def compute() -> dict[str, Tensor]:
            low = self._low(n)
            return _as_tensors(low, self.targets(low[None])[0])

        if n in self._in_memory:
            return self._in_memory[n]
        pair = TeacherPair(**load_or_compute(self._path(n), ("low", "target"), compute))
        if len(self._in_memory) < self._memory_count:
            self._in_memory[n] = pair
        return pair

    def batch(self, step: int, *, size: int, device: torch.device) -> Batch:
        """Random pairs, flipped and rotated alike."""
        rng = random.Random(f"{self.seed} {step}")
        lows, targets = [], []
        for _ in range(size):
            pair = self.pair(rng.randrange(self.count))
            flips, turns = rng.random() < 0.5, rng.randrange(4)
            for patches, patch in ((lows, pair.low), (targets, pair.target)):
                patches.append((patch.flip(2) if flips else patch).rot90(turns, (1, 2)))
        low, target = (torch.stack(patches).to(device).float() / 255 for patches in (lows, targets))
        return Batch(low, target, target)

    def targets(self, low: Tensor) -> Tensor:
        """The teacher's output for (N, 3, h, w) in [0, 1], downscaled to the student's scale, on the CPU."""
        output = self.teacher(low).clamp(0, 1)
        size = (low.shape[2] * self.scale, low.shape[3] * self.scale)
        return output if output.shape[2:] == size else F.interpolate(output, size, mode="area")

    def _low(self, n: int) -> Tensor:
        """The student's input of a pair: (3, h, w) in [0, 1], quantized to 1/255."""
        rng = self._rng(n)
        photo = self.photos[rng.randrange(len(self.photos))]
        shortest = min(photo.pixels.shape[:2])
        factors = [f for f in CROP_FACTORS if f * self.side <= shortest] or [CROP_FACTORS[0]]
        crop = cut_patch(photo.pixels, round(self.side * rng.choice(factors)), rng)[None]
        true = crop if crop.shape[2] == self.side else F.interpolate(crop, (self.side,) * 2, mode="area")
        if rng.random() < self.clean:
            return _to_bytes(F.interpolate(true, scale_factor=1 / self.scale, mode="area"))[0].float() / 255
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        return second_order(true, generator, SecondOrder(self.scale))[0]

    def _path(self, n: int) -> Path:
        photo = self.photos[self._rng(n).randrange(len(self.photos))]
        teacher = (self.teacher.sha256 or self.teacher.name, str(self.teacher.dtype))
        key = [VERSION, photo.sha256, len(self.photos), n, self.seed, self.scale, self.side, self.clean, teacher]
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def _rng(self, n: int) -> random.Random:
        return random.Random(f"{self.seed} pair {n}")


def _as_tensors(low: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The fields of a TeacherPair."""
    return {"low": _to_bytes(low), "target": _to_bytes(target)}


def _to_bytes(x: Tensor) -> Tensor:
    return (x * 255).round().clamp(0, 255).byte()
