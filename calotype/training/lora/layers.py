"""Trainable adapters of one layer: LoRA (Hu et al. 2021), LoHa and LoKr (Yeh et al. 2023, LyCORIS).

Each is initialized to a zero change. Parameters are float32, and cast to the input's dtype. Dropout uses torch's
default generator, which the run seeds before each step.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.training.lora.fused_cpu import add_lora, is_supported


@dataclass(frozen=True)
class Dropouts:
    """Dropout probabilities: of single values, of ranks, of whole layers."""

    number: float = 0.0
    rank: float = 0.0
    layer: float = 0.0


class LoraLayer(nn.Module):
    """Base class: an adapter whose output is added to that of a frozen layer."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, alpha: float, dropouts: Dropouts, seed: int):
        super().__init__()
        self.rank, self.alpha, self.scale, self.dropouts = rank, alpha, alpha / rank, dropouts
        self.shape = tuple(layer.weight.shape)
        self._conv = None if len(self.shape) == 2 else (layer.stride, layer.padding, layer.dilation)
        self.generator = torch.Generator().manual_seed(seed)
        self.create_parameters()
        del self.generator

    def create_parameters(self) -> None:
        """Creates the parameters."""
        raise NotImplementedError

    def delta(self, x: Tensor) -> Tensor:
        """The scaled output of the adapter alone."""
        raise NotImplementedError

    def add_to(self, layer: nn.Module, x: Tensor, output: Tensor) -> Tensor:
        """The layer's output for x, with the adapter's output added."""
        return output + self.delta(x)

    def is_skipped(self) -> bool:
        """Whether layer dropout skips this step, at random."""
        return bool(self.training and self.dropouts.layer and float(torch.rand(1)) < self.dropouts.layer)

    def file_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters by their keys in a file."""
        return {NAMES.get(name, name): value for name, value in self.named_parameters()}

    @torch.no_grad()
    def clip_norm(self, max_norm: float) -> None:
        """Max-norm regularization (scale_weight_norms): scales the weight delta to a norm of at most `max_norm`."""
        norm = float(self.weight_delta().norm())
        if norm > max_norm:
            parameters = list(self.parameters())
            for parameter in parameters:
                parameter *= (max_norm / norm) ** (1 / len(parameters))

    def weight_delta(self) -> Tensor:
        """The change of the layer's weight."""
        raise NotImplementedError

    def _normal(self, *shape: int, std: float) -> nn.Parameter:
        return nn.Parameter(torch.empty(*shape).normal_(0, std, generator=self.generator))

    def _kaiming(self, *shape: int) -> nn.Parameter:
        """Kaiming uniform, as torch's own layers are initialized."""
        empty = torch.empty(*shape)
        bound = 1 / math.sqrt(empty[0].numel())
        return nn.Parameter(empty.uniform_(-bound, bound, generator=self.generator))

    def _linear(self, x: Tensor, weight: Tensor) -> Tensor:
        weight = weight.to(x.dtype)
        return F.linear(x, weight) if self._conv is None else F.conv2d(x, weight, None, *self._conv)


class Lora(LoraLayer):
    """scale * up(down(x)); down has the layer's kernel size, up is 1x1."""

    def create_parameters(self) -> None:
        self.down = self._kaiming(self.rank, *self.shape[1:])
        self.up = nn.Parameter(torch.zeros(self.shape[0], self.rank, *[1] * (len(self.shape) - 2)))

    def add_to(self, layer: nn.Module, x: Tensor, output: Tensor) -> Tensor:
        has_dropout = self.training and (self.dropouts.number or self.dropouts.rank)
        if has_dropout or not is_supported(layer, x):
            return super().add_to(layer, x, output)
        return add_lora(output, x, self.down, self.up, self.scale)

    def delta(self, x: Tensor) -> Tensor:
        y, scale = self._linear(x, self.down), self.scale
        if self.training and self.dropouts.number:
            y = F.dropout(y, self.dropouts.number)
        if self.training and self.dropouts.rank:
            mask = torch.rand(len(y), self.rank, device=y.device) > self.dropouts.rank
            y = y * (
                mask.view(len(y), self.rank, 1, 1) if y.dim() == 4 else mask.view(len(y), *[1] * (y.dim() - 2), -1)
            )
            scale /= 1 - self.dropouts.rank
        up = self.up.to(x.dtype)
        return scale * (F.linear(y, up) if self._conv is None else F.conv2d(y, up))

    def weight_delta(self) -> Tensor:
        return self.scale * (self.up.flatten(1) @ self.down.flatten(1)).reshape(self.shape)


class _WeightDelta(LoraLayer):
    """Base class of adapters that compute the weight delta; rank dropout drops rows of it, as in LyCORIS."""

    def delta(self, x: Tensor) -> Tensor:
        weight = self.weight_delta()
        if self.training and self.dropouts.rank:
            mask = torch.rand(len(weight), device=weight.device) > self.dropouts.rank
            weight = weight * mask.view(-1, *[1] * (weight.dim() - 1))
        return self._linear(x, weight)


class Loha(_WeightDelta):
    """scale * (w1_a w1_b) ∘ (w2_a w2_b), the Hadamard product: rank r in each factor gives rank up to r²."""

    def create_parameters(self) -> None:
        out, rest = self.shape[0], math.prod(self.shape[1:])
        self.hada_w1_a = self._normal(out, self.rank, std=0.1)
        self.hada_w1_b = self._normal(self.rank, rest, std=1)
        self.hada_w2_a = nn.Parameter(torch.zeros(out, self.rank))
        self.hada_w2_b = self._normal(self.rank, rest, std=1)

    def weight_delta(self) -> Tensor:
        product = (self.hada_w1_a @ self.hada_w1_b) * (self.hada_w2_a @ self.hada_w2_b)
        return self.scale * product.reshape(self.shape)


class Lokr(_WeightDelta):
    """scale * w1 ⊗ (w2_a w2_b), the Kronecker product; w2 is a full matrix if the rank would not make it smaller."""

    factor = -1

    def create_parameters(self) -> None:
        (out_l, out_k), (in_m, in_n) = (factors(side, self.factor) for side in self.shape[:2])
        rest = self.shape[2:]
        self.lokr_w1 = self._kaiming(out_l, in_m)
        self.inner = (out_k, in_n, *rest)
        if self.rank < max(out_k, in_n) / 2:
            self.lokr_w2_a = nn.Parameter(torch.zeros(out_k, self.rank))
            self.lokr_w2_b = self._kaiming(self.rank, in_n * math.prod(rest))
        else:
            self.lokr_w2 = nn.Parameter(torch.zeros(self.inner))
            self.alpha, self.scale = float(self.rank), 1.0

    def weight_delta(self) -> Tensor:
        inner = self.lokr_w2 if hasattr(self, "lokr_w2") else (self.lokr_w2_a @ self.lokr_w2_b).reshape(self.inner)
        outer = self.lokr_w1.reshape(*self.lokr_w1.shape, *[1] * (len(self.shape) - 2))
        return self.scale * torch.kron(outer, inner)


NAMES = {"down": "lora_down.weight", "up": "lora_up.weight"}
KINDS: dict[str, type[LoraLayer]] = {"lora": Lora, "locon": Lora, "loha": Loha, "lokr": Lokr}


def factors(side: int, factor: int = -1) -> tuple[int, int]:
    """Two factors of `side`, the smaller first: it is `factor`, or at most that (-1: at most the square root).

    >>> factors(360), factors(360, 4), factors(127, 4)
    ((18, 20), (4, 90), (1, 127))
    """
    if factor > 0 and side % factor == 0:
        return min(factor, side // factor), max(factor, side // factor)
    max_factor = side if factor < 0 else factor
    small = max(n for n in range(1, math.isqrt(side) + 1) if side % n == 0 and n <= max_factor)
    return small, side // small
