"""What hangs on one layer while it is trained: LoRA (Hu et al. 2021), LoHa and LoKr (Yeh et al. 2023, LyCORIS).

Each is zero at first. Numbers are kept in float32 and computed in the input's format. All chance in training comes from
torch's own generator, which the run sets before each step.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.training.lora.fused_cpu import added, is_quick


@dataclass(frozen=True)
class Dropouts:
    """How often something is left out while training: of a layer's numbers, of its ranks, a layer as a whole."""

    number: float = 0.0
    rank: float = 0.0
    layer: float = 0.0


class LoraLayer(nn.Module):
    """What is added to a frozen layer's answer. Its parameters bear the names that files have for them."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, alpha: float, dropouts: Dropouts, seed: int):
        super().__init__()
        self.rank, self.alpha, self.scale, self.dropouts = rank, alpha, alpha / rank, dropouts
        self.shape = tuple(layer.weight.shape)
        self._conv = None if len(self.shape) == 2 else (layer.stride, layer.padding, layer.dilation)
        self.generator = torch.Generator().manual_seed(seed)
        self.build()
        del self.generator

    def build(self) -> None:
        """Makes the parameters."""
        raise NotImplementedError

    def added(self, x: Tensor) -> Tensor:
        """The detour's own answer, scaled."""
        raise NotImplementedError

    def beside(self, layer: nn.Module, x: Tensor, made: Tensor) -> Tensor:
        """What the layer made of x, with the detour's answer."""
        return made + self.added(x)

    def is_skipped(self) -> bool:
        """Throws the dice whether this step goes without it."""
        return bool(self.training and self.dropouts.layer and float(torch.rand(1)) < self.dropouts.layer)

    def named(self) -> dict[str, nn.Parameter]:
        """Parameters by their names in a file."""
        return {NAMES.get(name, name): value for name, value in self.named_parameters()}

    @torch.no_grad()
    def shorten(self, longest: float) -> None:
        """Max-norm regularisation (scale_weight_norms): brings the change to `longest` where it is longer."""
        length = float(self.change().norm())
        if length > longest:
            parts = list(self.parameters())
            for part in parts:
                part *= (longest / length) ** (1 / len(parts))

    def change(self) -> Tensor:
        """What is added to the layer's weight."""
        raise NotImplementedError

    def _normal(self, *shape: int, deviation: float) -> nn.Parameter:
        return nn.Parameter(torch.empty(*shape).normal_(0, deviation, generator=self.generator))

    def _kaiming(self, *shape: int) -> nn.Parameter:
        """Uniform, as torch's own layers begin."""
        empty = torch.empty(*shape)
        bound = 1 / math.sqrt(empty[0].numel())
        return nn.Parameter(empty.uniform_(-bound, bound, generator=self.generator))

    def _through(self, x: Tensor, weight: Tensor) -> Tensor:
        weight = weight.to(x.dtype)
        return F.linear(x, weight) if self._conv is None else F.conv2d(x, weight, None, *self._conv)


class Lora(LoraLayer):
    """scale * up(down(x)); down has the layer's kernel, up is 1x1."""

    def build(self) -> None:
        self.down = self._kaiming(self.rank, *self.shape[1:])
        self.up = nn.Parameter(torch.zeros(self.shape[0], self.rank, *[1] * (len(self.shape) - 2)))

    def beside(self, layer: nn.Module, x: Tensor, made: Tensor) -> Tensor:
        is_dropping = self.training and (self.dropouts.number or self.dropouts.rank)
        if is_dropping or not is_quick(layer, x):
            return super().beside(layer, x, made)
        return added(made, x, self.down, self.up, self.scale)

    def added(self, x: Tensor) -> Tensor:
        y, scale = self._through(x, self.down), self.scale
        if self.training and self.dropouts.number:
            y = F.dropout(y, self.dropouts.number)
        if self.training and self.dropouts.rank:
            kept = torch.rand(len(y), self.rank, device=y.device) > self.dropouts.rank
            y = y * (
                kept.view(len(y), self.rank, 1, 1) if y.dim() == 4 else kept.view(len(y), *[1] * (y.dim() - 2), -1)
            )
            scale /= 1 - self.dropouts.rank
        up = self.up.to(x.dtype)
        return scale * (F.linear(y, up) if self._conv is None else F.conv2d(y, up))

    def change(self) -> Tensor:
        return self.scale * (self.up.flatten(1) @ self.down.flatten(1)).reshape(self.shape)


class _Whole(LoraLayer):
    """A detour whose change of the weight is computed first; `rank` leaves out rows of it, as LyCORIS does."""

    def added(self, x: Tensor) -> Tensor:
        weight = self.change()
        if self.training and self.dropouts.rank:
            kept = torch.rand(len(weight), device=weight.device) > self.dropouts.rank
            weight = weight * kept.view(-1, *[1] * (weight.dim() - 1))
        return self._through(x, weight)


class Loha(_Whole):
    """scale * (w1_a w1_b) ∘ (w2_a w2_b), the product number by number: rank r in each gives up to r² together."""

    def build(self) -> None:
        out, rest = self.shape[0], math.prod(self.shape[1:])
        self.hada_w1_a = self._normal(out, self.rank, deviation=0.1)
        self.hada_w1_b = self._normal(self.rank, rest, deviation=1)
        self.hada_w2_a = nn.Parameter(torch.zeros(out, self.rank))
        self.hada_w2_b = self._normal(self.rank, rest, deviation=1)

    def change(self) -> Tensor:
        product = (self.hada_w1_a @ self.hada_w1_b) * (self.hada_w2_a @ self.hada_w2_b)
        return self.scale * product.reshape(self.shape)


class Lokr(_Whole):
    """scale * w1 ⊗ (w2_a w2_b), the Kronecker product; w2 is whole where the rank would not make it smaller."""

    factor = -1

    def build(self) -> None:
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

    def change(self) -> Tensor:
        inner = self.lokr_w2 if hasattr(self, "lokr_w2") else (self.lokr_w2_a @ self.lokr_w2_b).reshape(self.inner)
        outer = self.lokr_w1.reshape(*self.lokr_w1.shape, *[1] * (len(self.shape) - 2))
        return self.scale * torch.kron(outer, inner)


NAMES = {"down": "lora_down.weight", "up": "lora_up.weight"}
KINDS: dict[str, type[LoraLayer]] = {"lora": Lora, "locon": Lora, "loha": Loha, "lokr": Lokr}


def factors(side: int, factor: int = -1) -> tuple[int, int]:
    """Two numbers whose product is `side`, the smaller first: it is `factor`, or at most that (-1: at most the root).

    >>> factors(360), factors(360, 4), factors(127, 4)
    ((18, 20), (4, 90), (1, 127))
    """
    if factor > 0 and side % factor == 0:
        return min(factor, side // factor), max(factor, side // factor)
    most = side if factor < 0 else factor
    small = max(n for n in range(1, math.isqrt(side) + 1) if side % n == 0 and n <= most)
    return small, side // small
