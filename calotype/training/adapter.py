"""LoRA layers beside frozen ones (Hu et al. 2021), and LoCon's for convolutions, as sd-scripts trains them.

They hang on the layers as hooks: no module is replaced, every name stays, and taking them off leaves nothing behind.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.errors import CalotypeError
from calotype.training.kohya import key_of

BLOCKS = ("resnets", "downsamplers", "upsamplers")  # where convolutions are trained too, if they are


@dataclass(frozen=True)
class Ranks:
    """Rank and alpha of the layers, and of 3x3 convolutions (0: not trained)."""

    dim: int
    alpha: float
    conv_dim: int = 0
    conv_alpha: float = 0.0
    dropout: float = 0.0


class Lora(nn.Module):
    """The detour of one layer: scale * up(down(x)); zero at first. Kept in float32, computed in the input's format."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, alpha: float, dropout: float, seed: int):
        super().__init__()
        self.scale, self.alpha, self.dropout = alpha / rank, alpha, dropout
        shape = tuple(layer.weight.shape)
        self.down = nn.Parameter(torch.empty(rank, *shape[1:]))
        self.up = nn.Parameter(torch.zeros(shape[0], rank, *[1] * (len(shape) - 2)))
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(self.down[0].numel())  # Kaiming's with a = sqrt(5)
        with torch.no_grad():
            self.down.uniform_(-bound, bound, generator=generator)
        self._conv = None if len(shape) == 2 else (layer.stride, layer.padding, layer.dilation)

    def forward(self, x: Tensor) -> Tensor:
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        y = F.linear(x, down) if self._conv is None else F.conv2d(x, down, None, *self._conv)
        if self.dropout and self.training:
            y = F.dropout(y, self.dropout)
        return self.scale * (F.linear(y, up) if self._conv is None else F.conv2d(y, up))


class Adapters:
    """All LoRA layers of a model, by kohya's names."""

    def __init__(self) -> None:
        self.layers: dict[str, Lora] = {}
        self._hooks: list = []

    def hang(
        self, part: str, network: nn.Module, chosen: Iterator[tuple[str, nn.Module, int, float]], ranks: Ranks
    ) -> None:
        """Adds a LoRA to each chosen layer: name, layer, rank, alpha."""
        for name, layer, rank, alpha in chosen:
            key = key_of(part, name)
            lora = Lora(layer, min(rank, *layer.weight.shape[:2]), alpha, ranks.dropout, seed=len(self.layers))
            self.layers[key] = lora
            self._hooks.append(layer.register_forward_hook(_detour(lora)))

    def parameters(self, is_unet: bool) -> list[nn.Parameter]:
        return [p for key, lora in self.layers.items() if ("_unet_" in key) == is_unet for p in lora.parameters()]

    def take_off(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def state(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """As kohya's files have it."""
        found = {}
        for key, lora in self.layers.items():
            found[f"{key}.lora_down.weight"] = lora.down.detach().to("cpu", dtype).contiguous()
            found[f"{key}.lora_up.weight"] = lora.up.detach().to("cpu", dtype).contiguous()
            found[f"{key}.alpha"] = torch.tensor(lora.alpha, dtype=dtype)
        return found

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], where: str) -> None:
        """Weights of a file with the same layers and ranks. Raises CalotypeError where they do not fit."""
        for key, lora in self.layers.items():
            for name, parameter in (("down", lora.down), ("up", lora.up)):
                value = state.get(f"{key}.lora_{name}.weight")
                if value is None or value.shape != parameter.shape:
                    raise CalotypeError(f"{where} does not fit what is trained: {key} is missing or has another rank")
                parameter.copy_(value)


def _detour(lora: Lora):
    return lambda layer, given, made: made + lora(given[0])


def unet_layers(unet: nn.Module, ranks: Ranks) -> Iterator[tuple[str, nn.Module, int, float]]:
    """Linear layers and 1x1 convolutions of the transformers; with `conv_dim` all layers of the ResNet blocks too."""
    for name, layer in unet.named_modules():
        if not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        if ".attentions." in name:
            yield name, layer, ranks.dim, ranks.alpha
        elif ranks.conv_dim and any(f".{block}." in name for block in BLOCKS):
            is_large = isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
            yield (name, layer, ranks.conv_dim, ranks.conv_alpha) if is_large else (name, layer, ranks.dim, ranks.alpha)


def text_layers(encoder: nn.Module, ranks: Ranks) -> Iterator[tuple[str, nn.Module, int, float]]:
    """Attention and feed-forward of every layer."""
    for name, layer in encoder.named_modules():
        if isinstance(layer, nn.Linear) and ".layers." in name:
            yield name, layer, ranks.dim, ranks.alpha


def text_parts(encoders: Sequence[nn.Module]) -> list[str]:
    return ["te"] if len(encoders) == 1 else [f"te{n}" for n in range(1, len(encoders) + 1)]
