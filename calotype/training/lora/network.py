"""The trainable adapters of a model, attached to the layers that sd-scripts chooses, with its names.

They are attached as forward hooks: no module is replaced or renamed.
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

BLOCKS = ("resnets", "downsamplers", "upsamplers")  # blocks whose convolutions are trained if conv_dim is set


@dataclass(frozen=True)
class Ranks:
    """Kind, rank and alpha of adapters, and rank and alpha of those of 3x3 convolutions (rank 0: not trained)."""

    dim: int
    alpha: float
    conv_dim: int = 0
    conv_alpha: float = 0.0
    dropouts: Dropouts = field(default_factory=Dropouts)
    kind: str = "lora"  # a key of layers.KINDS
    factor: int = -1  # of LoKr


class Adapters:
    """All adapters of a model, by kohya's names."""

    def __init__(self, is_xl: bool = False, seed: int = 0) -> None:
        """Args:
        is_xl: use the original's names of the U-Net's layers, as sd-scripts does for SDXL.
        seed: of the initial weights.
        """
        self.layers: dict[str, LoraLayer] = {}
        self._is_xl, self._seed, self._is_disabled = is_xl, seed, False

    def attach(
        self,
        part: str,
        layers: Iterator[tuple[str, nn.Module, int, float]],
        ranks: Ranks,
        known: Mapping[str, tuple[int, float]] | None = None,
    ) -> None:
        """Attaches an adapter to each (name, layer, rank, alpha); with `known`, only to its keys, with its ranks."""
        kind = KINDS[ranks.kind]
        if kind is Lokr:
            kind = type("Lokr", (Lokr,), {"factor": ranks.factor})
        for name, layer, rank, alpha in layers:
            key = (
                kohya_prefix("unet", name.replace(".", "_"), True)
                if self._is_xl and part == "unet"
                else key_of(part, name)
            )
            if known is not None:
                if key not in known:
                    continue
                rank, alpha = known[key]
            layer_rank = min(rank, *layer.weight.shape[:2])
            lora = kind(layer, layer_rank, alpha, ranks.dropouts, (self._seed * 15_485_863 + len(self.layers)) % 2**63)
            self.layers[key] = lora
            layer.register_forward_hook(self._hook(lora))

    def _hook(self, lora: LoraLayer) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def add_to_output(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            is_left_out = self._is_disabled or lora.is_skipped()
            return output if is_left_out else lora.add_to(layer, inputs[0], output)

        return add_to_output

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Disables all adapters within the context, without using random numbers."""
        self._is_disabled = True
        try:
            yield
        finally:
            self._is_disabled = False

    def parameters(self, is_unet: bool) -> list[nn.Parameter]:
        return [p for layer in self._part(is_unet) for p in layer.parameters()]

    def train(self, is_unet: bool, is_on: bool = True) -> None:
        """Trains the adapters of the U-Net or of the text encoders, or freezes them: no dropout, no gradients."""
        for layer in self._part(is_unet):
            layer.train(is_on).requires_grad_(is_on)

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        for layer in self.layers.values():
            layer.to(device, dtype)

    def clip_norms(self, max_norm: float) -> None:
        """Max-norm regularization of all adapters in training mode."""
        for layer in self.layers.values():
            if layer.training:  # frozen adapters stay the same bit for bit
                layer.clip_norm(max_norm)

    def _part(self, is_unet: bool) -> Iterable[LoraLayer]:
        return (layer for key, layer in self.layers.items() if ("_unet_" in key) == is_unet)

    def state(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The state dict in the format of kohya's and LyCORIS' files."""
        state = {}
        for key, layer in self.layers.items():
            for name, value in layer.file_parameters().items():
                state[f"{key}.{name}"] = value.detach().to("cpu", dtype).contiguous()
            state[f"{key}.alpha"] = torch.tensor(layer.alpha, dtype=dtype)
        return state

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], source: str) -> None:
        """Loads a file's weights. Raises CalotypeError if its layers or ranks are different."""
        for key, layer in self.layers.items():
            for name, parameter in layer.file_parameters().items():
                value = state.get(f"{key}.{name}")
                if value is None or value.shape != parameter.shape:
                    raise CalotypeError(
                        "{where} does not fit what is trained: {key} is missing or has another rank",
                        where=source,
                        key=key,
                    )
                parameter.copy_(value)


def ranks_in(state: Mapping[str, Tensor]) -> dict[str, tuple[int, float]]:
    """Rank and alpha of each layer of a LoRA file, by kohya's names; alpha defaults to the rank."""
    suffix = ".lora_down.weight"
    keys = [key.removesuffix(suffix) for key in state if key.endswith(suffix)]
    ranks = {key: len(state[key + suffix]) for key in keys}
    return {key: (rank, float(state.get(f"{key}.alpha", rank)) or float(rank)) for key, rank in ranks.items()}


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
