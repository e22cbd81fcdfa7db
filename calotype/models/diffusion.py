"""A latent diffusion model ready to work: words to states, noise towards pictures, pictures to latents and back."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from calotype.models.clip_text import TextEncoder, TextStates
from calotype.ops.prompt.chunks import LENGTH


class Tokenizer(Protocol):
    """Words to tokens, without begin and end."""

    bos: int
    eos: int
    pad: int
    comma: int | None

    def encode(self, text: str) -> list[int]: ...


class Applied(Protocol):
    """Adapters on the weights of a model."""

    @property
    def unfit(self) -> Sequence[str]:
        """What of them has no place in the model."""

    def remove(self) -> None:
        """Takes them off; the very bits come back."""


@dataclass(frozen=True, eq=False)
class TextPart:
    """One text encoder, and what of it the U-Net was trained on."""

    encoder: TextEncoder
    tokenizer: Tokenizer
    layer: int = 1  # from the end
    is_normalised: bool = True  # the last norm comes after that layer
    is_fixed: bool = False  # clip skip does not change the layer

    def framed(self, tokens: list[int]) -> list[int]:
        """77 tokens: begin, up to 75, end, and what pads."""
        tokens, own = tokens[:LENGTH], self.tokenizer
        return [own.bos, *tokens, own.eos] + [own.pad] * (LENGTH - len(tokens))

    def chosen(self, told: TextStates, skip: int = 0) -> Tensor:
        """(N, L, D): the layer that the U-Net was trained on, or the `skip`-th from the end where that is open."""
        layer = told.layers[-(self.layer if skip == 0 or self.is_fixed else min(skip, len(told.layers)))]
        return self.encoder.normalised(layer) if self.is_normalised else layer


@dataclass(frozen=True, eq=False)
class Opened:
    """A checkpoint in memory, on the CPU, in eval mode, without gradients, in the number format of its file."""

    name: str
    sha256: str
    family: str  # a key of sampling.PRESETS
    unet: nn.Module
    vae: nn.Module
    text: tuple[TextPart, ...]
    training: Mapping[str, Any]  # betas, prediction_type ..., by the names of a diffusers scheduler's config
    native: int  # pixels; the side of the squares that it was trained on
    is_unsaid_zero: bool = False  # nothing unwanted is told to the U-Net as zeros, not as the empty text (SDXL)


@dataclass(frozen=True, eq=False)
class Condition:
    """What one text means to the U-Net."""

    states: Tensor  # (1, 77 * chunks, D) float32
    pooled: Tensor | None = None  # (1, P): SDXL


class Diffusion:
    """The parts on one device. All tensors in and out are float32 on the CPU; latents are (N, C, h, w).

    It holds weights and what is worn on them, never the work: two drawings may take turns.
    """

    def __init__(self, opened: Opened, device: torch.device, dtype: torch.dtype):
        self.name, self.sha256, self.family = opened.name, opened.sha256, opened.family
        self.training, self.native = opened.training, opened.native
        self.is_unsaid_zero = opened.is_unsaid_zero
        self.device, self.dtype = device, dtype
        self.unet = _placed(opened.unet, device, dtype)
        self.vae = _ends_exact(_placed(opened.vae, device, dtype), dtype)
        self.text = tuple(replace(p, encoder=_placed(p.encoder, device, torch.float32)) for p in opened.text)
        self._compiled: Any = None
        self._worn: tuple | None = ()  # None: an interrupt came between
        self._applied: Applied | None = None

    @property
    def channels(self) -> int:
        """Of the latents."""
        return self.vae.config.latent_channels

    @property
    def factor(self) -> int:
        """Pixels of a latent's side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def multiple(self) -> int:
        """Sides in pixels that the U-Net takes are multiples of this."""
        return self.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def is_for_holes(self) -> bool:
        """An inpainting model: it takes the mask and what is around the hole besides the latents."""
        return self.unet.config.in_channels == 2 * self.channels + 1

    def wear(self, adapters: tuple, put_on: Callable[[], Applied]) -> Sequence[str]:
        """Puts adapters on the weights, and takes off those of before; where equal ones are on, nothing changes.

        Args:
            adapters: what tells them from others, such as the adapters themselves with their strengths; empty: none.
            put_on: puts them on; is not called where there are none.

        Returns:
            What of them has no place in this model.
        """
        if adapters != self._worn:
            self.take_off()
            if adapters:
                self._worn = None
                self._applied = put_on()
                self._worn = adapters
        return () if self._applied is None else self._applied.unfit

    def take_off(self) -> None:
        """Leaves no adapters on the weights."""
        self._worn = None
        if self._applied is not None:
            self._applied.remove()
        self._worn, self._applied = (), None

    def read(
        self,
        rows: Sequence[tuple[list[int], Mapping[int, Sequence[Tensor]]]],
        weigh: Callable[[Tensor], Tensor],
        skip: int = 0,
    ) -> Condition:
        """Chunks of tokens, each up to 75 and with learned vectors by place (one tensor for each encoder), into states.

        Args:
            weigh: puts weights on (chunks, 77, D) states.
            skip: the layer from the end; 0: the model's own. SD 2.x and SDXL take a fixed layer, whatever it says.
        """
        states, pooled = [], None
        for n, part in enumerate(self.text):
            ids = torch.tensor([part.framed(tokens) for tokens, _ in rows], device=self.device)
            embedded = part.encoder.embed(ids)
            for row, (_, learned) in enumerate(rows):
                for place, vectors in learned.items():
                    vector = vectors[n].to(embedded)
                    embedded[row, place + 1 : place + 1 + len(vector)] = vector
            ends = torch.tensor([min(len(tokens), LENGTH) + 1 for tokens, _ in rows], device=self.device)
            told = part.encoder(embedded, ends)
            states.append(weigh(part.chosen(told, skip)).float().cpu())
            pooled = told.pooled[:1].float().cpu() if told.pooled is not None else pooled
        joined = torch.cat(states, -1)
        return Condition(joined.reshape(1, -1, joined.shape[-1]), pooled)

    def predict(
        self,
        x: Tensor,
        t: Tensor,
        states: Tensor,
        added: Mapping[str, Tensor],
        is_tiling: bool,
        is_compiled: bool = False,
    ) -> Tensor:
        """The network's answer, as it was trained (epsilon or v), for (N, C, h, w) at time `t`.

        A step that half precision broke (NaN or infinity) is repeated in float32.
        """
        network = self._quick() if is_compiled and not is_tiling and len(x) > 1 else self.unet
        y = self._run(network, self.dtype, x, t, states, added, is_tiling)
        if self.dtype != torch.float32 and not torch.isfinite(y).all():
            exact = copy.deepcopy(self.unet).float()
            y = self._run(exact, torch.float32, x, t, states, added, is_tiling)
        return y

    def _run(
        self, unet: nn.Module, dtype: torch.dtype, x: Tensor, t: Tensor, states: Tensor, added, is_tiling
    ) -> Tensor:
        x = x.to(self.device, dtype).contiguous(memory_format=torch.channels_last)
        states = states.to(self.device, dtype)
        more = {name: value.to(self.device, dtype) for name, value in added.items()}
        if unet is self._compiled:  # one graph for every batch and every length of prompt
            for tensor, axes in ((x, (0,)), (states, (0, 1)), *((value, (0,)) for value in more.values())):
                torch._dynamo.mark_dynamic(tensor, axes)
        with _edges_meet(unet, is_tiling):
            y = unet(x, t.to(self.device), states, added_cond_kwargs=more or None).sample
        return y.to("cpu", torch.float32)

    def _quick(self) -> Any:
        """The U-Net compiled, on CUDA with its graphs; a new size is compiled anew, a new batch or prompt is not."""
        if self._compiled is None:
            mode = "reduce-overhead" if self.device.type == "cuda" else "default"
            self._compiled = torch.compile(self.unet, mode=mode)
        return self._compiled

    def latents(self, pixels: Tensor, is_tiling: bool = False) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> latents, the mean of what the VAE gives."""
        return self.spread(pixels, is_tiling)[0]

    def spread(self, pixels: Tensor, is_tiling: bool = False) -> tuple[Tensor, Tensor]:
        """As `latents`, with their deviation."""
        x = pixels.to(self.device, self.vae.dtype) * 2 - 1
        with _edges_meet(self.vae, is_tiling):
            told = self.vae.encode(x).latent_dist
        scale = self.vae.config.scaling_factor
        return ((told.mode().float() - self._shift) * scale).cpu(), (told.std.float() * scale).cpu()

    def pixels(self, latents: Tensor, is_tiling: bool = False) -> Tensor:
        """Latents -> (N, 3, H, W) in [0, 1], one by one: the VAE takes more memory than all else."""
        z = latents / self.vae.config.scaling_factor + self._shift
        with _edges_meet(self.vae, is_tiling):
            return torch.cat([self._decoded(one[None]) for one in z])

    def _decoded(self, z: Tensor) -> Tensor:
        x = self.vae.decode(z.to(self.device, self.vae.dtype)).sample.float()
        if not torch.isfinite(x).all():
            x = copy.deepcopy(self.vae).float().decode(z.to(self.device)).sample
        return (x.cpu() / 2 + 0.5).clamp(0, 1)

    def size_words(self, height: int, width: int, count: int, has_unwanted: bool) -> Tensor:
        """SDXL's numbers (Podell et al. 2023, section 2.2): the training picture's size, its crop, the size wanted.

        (count, 6); the refiner takes an aesthetic score for the target's size: (count, 5), 2.5 for the unwanted, which
        is the first row.
        """
        if self.unet.config.projection_class_embeddings_input_dim == 2560:
            scores = [2.5 if has_unwanted and row == 0 else 6.0 for row in range(count)]
            return torch.tensor([[height, width, 0, 0, score] for score in scores])
        return torch.tensor([[height, width, 0, 0, height, width]] * count, dtype=torch.float32)

    @property
    def _shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0


def _placed(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(device, dtype)
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module.eval().requires_grad_(False)


def _ends_exact(vae: nn.Module, dtype: torch.dtype) -> nn.Module:
    """In bfloat16 the last convolution, and so the picture itself, stays in float32: eight bits of it would show."""
    if dtype == torch.bfloat16:
        last = vae.decoder.conv_out.float()
        last.register_forward_pre_hook(lambda layer, given: (given[0].float(),))
    return vae


@contextlib.contextmanager
def _edges_meet(network: nn.Module, is_tiling: bool) -> Iterator[None]:
    """Convolutions that look around the edge, for textures; put back when the network has run."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)] if is_tiling else []
    for layer in layers:
        layer.padding_mode = "circular"
    try:
        yield
    finally:
        for layer in layers:
            layer.padding_mode = "zeros"
