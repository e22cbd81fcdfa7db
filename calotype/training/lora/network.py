"""The layers of a model that are trained beside the frozen ones, chosen and named as sd-scripts does.

They hang on the layers as hooks: no module is replaced, and every name stays.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from calotype.checkpoints.lora.keys import kohya_prefix
from calotype.checkpoints.lora.kohya_file import key_of
from calotype.errors import CalotypeError
from calotype.training.lora.layers import KINDS, Dropouts, Lokr, LoraLayer

BLOCKS = ("resnets", "downsamplers", "upsamplers")  # where convolutions are trained too, if they are


@dataclass(frozen=True)
class Ranks:
    """What a layer gets: kind, rank and alpha, and those of 3x3 convolutions (rank 0: not trained)."""

    dim: int
    alpha: float
    conv_dim: int = 0
    conv_alpha: float = 0.0
    dropouts: Dropouts = field(default_factory=Dropouts)
    kind: str = "lora"  # a key of detours.KINDS
    factor: int = -1  # of LoKr


class Adapters:
    """All trained layers of a model, by kohya's names."""

    def __init__(self, is_xl: bool = False, seed: int = 0) -> None:
        """With `is_xl` the U-Net's layers are called as the original's: sd-scripts trains SDXL on that.

        Args:
            seed: of what layers begin with.
        """
        self.layers: dict[str, LoraLayer] = {}
        self._is_xl, self._seed, self._is_silent = is_xl, seed, False

    def hang(
        self,
        part: str,
        chosen: Iterator[tuple[str, nn.Module, int, float]],
        ranks: Ranks,
        known: Mapping[str, tuple[int, float]] | None = None,
    ) -> None:
        """Adds a detour to each chosen layer: name, layer, rank, alpha; or to those of `known`, as it has them."""
        kind = KINDS[ranks.kind]
        if kind is Lokr:
            kind = type("Lokr", (Lokr,), {"factor": ranks.factor})
        for name, layer, rank, alpha in chosen:
            key = (
                kohya_prefix("unet", name.replace(".", "_"), True)
                if self._is_xl and part == "unet"
                else key_of(part, name)
            )
            if known is not None:
                if key not in known:
                    continue
                rank, alpha = known[key]
            least = min(rank, *layer.weight.shape[:2])
            made = kind(layer, least, alpha, ranks.dropouts, (self._seed * 15_485_863 + len(self.layers)) % 2**63)
            self.layers[key] = made
            layer.register_forward_hook(self._detour(made))

    def _detour(self, detour: LoraLayer) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def beside(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
            is_left_out = self._is_silent or detour.is_skipped()
            return made if is_left_out else detour.beside(layer, given[0], made)

        return beside

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Within, the model answers as if nothing hung on it; no dice are thrown."""
        self._is_silent = True
        try:
            yield
        finally:
            self._is_silent = False

    def parameters(self, is_unet: bool) -> list[nn.Parameter]:
        return [p for layer in self._part(is_unet) for p in layer.parameters()]

    def train(self, is_unet: bool, is_on: bool = True) -> None:
        """Whether a part's layers learn, or only answer: without dropout, and without gradients."""
        for layer in self._part(is_unet):
            layer.train(is_on).requires_grad_(is_on)

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        for layer in self.layers.values():
            layer.to(device, dtype)

    def shorten(self, longest: float) -> None:
        """Brings the change of every layer that learns to `longest` at most."""
        for layer in self.layers.values():
            if layer.training:  # the others must stay as they are, to the bit
                layer.shorten(longest)

    def _part(self, is_unet: bool) -> Iterable[LoraLayer]:
        return (layer for key, layer in self.layers.items() if ("_unet_" in key) == is_unet)

    def state(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """As kohya's and LyCORIS' files have it."""
        found = {}
        for key, layer in self.layers.items():
            for name, value in layer.named().items():
                found[f"{key}.{name}"] = value.detach().to("cpu", dtype).contiguous()
            found[f"{key}.alpha"] = torch.tensor(layer.alpha, dtype=dtype)
        return found

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], where: str) -> None:
        """Weights of a file with the same layers and ranks. Raises CalotypeError where they do not fit."""
        for key, layer in self.layers.items():
            for name, parameter in layer.named().items():
                value = state.get(f"{key}.{name}")
                if value is None or value.shape != parameter.shape:
                    raise CalotypeError(
                        "{where} does not fit what is trained: {key} is missing or has another rank",
                        where=where,
                        key=key,
                    )
                parameter.copy_(value)


def ranks_in(state: Mapping[str, Tensor]) -> dict[str, tuple[int, float]]:
    """Rank and alpha of each layer of a LoRA's file, by kohya's names; without an alpha it is the rank."""
    end = ".lora_down.weight"
    keys = [key.removesuffix(end) for key in state if key.endswith(end)]
    found = {key: len(state[key + end]) for key in keys}
    return {key: (rank, float(state.get(f"{key}.alpha", rank)) or float(rank)) for key, rank in found.items()}


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
