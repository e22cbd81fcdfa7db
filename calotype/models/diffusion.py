"""A latent diffusion model on a device: encodes prompts, predicts noise, encodes and decodes latents."""

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
    """Text to tokens, without start and end tokens."""

    bos: int
    eos: int
    pad: int
    comma: int | None

    def encode(self, text: str) -> list[int]: ...


class AppliedAdapters(Protocol):
    """Adapters attached to the weights of a model."""

    @property
    def unfit(self) -> Sequence[str]:
        """Modules of the adapters that do not exist in the model."""

    def remove(self) -> None:
        """Detaches them; the weights are restored bit for bit."""


@dataclass(frozen=True, eq=False)
class TextConditioner:
    """One text encoder, and which of its layers the U-Net was trained on."""

    encoder: TextEncoder
    tokenizer: Tokenizer
    layer: int = 1  # counted from the end
    is_normalised: bool = True  # the final layer norm is applied after that layer
    is_fixed: bool = False  # clip skip has no effect

    def padded(self, tokens: list[int]) -> list[int]:
        """77 tokens: start, up to 75, end, and padding."""
        tokens, tokenizer = tokens[:LENGTH], self.tokenizer
        return [tokenizer.bos, *tokens, tokenizer.eos] + [tokenizer.pad] * (LENGTH - len(tokens))

    def select_layer(self, states: TextStates, skip: int = 0) -> Tensor:
        """(N, L, D): the layer that the U-Net was trained on, or the `skip`-th from the end (clip skip)."""
        layer = states.layers[-(self.layer if skip == 0 or self.is_fixed else min(skip, len(states.layers)))]
        return self.encoder.normalised(layer) if self.is_normalised else layer


@dataclass(frozen=True, eq=False)
class DiffusionCheckpoint:
    """A checkpoint in memory, on the CPU, in eval mode, without gradients, in the number format of its file."""

    name: str
    sha256: str
    family: str  # a key of sampling.PRESETS
    unet: nn.Module
    vae: nn.Module
    text: tuple[TextConditioner, ...]
    training: Mapping[str, Any]  # betas, prediction_type ..., by the names of a diffusers scheduler's config
    native: int  # pixels; the resolution that it was trained at
    zero_uncond: bool = False  # an empty negative prompt is zeros, not the encoded empty text (SDXL)


@dataclass(frozen=True, eq=False)
class Condition:
    """A text encoded for the U-Net."""

    states: Tensor  # (1, 77 * chunks, D) float32
    pooled: Tensor | None = None  # (1, P): SDXL


class Diffusion:
    """The networks on one device. All tensors in and out are float32 on the CPU; latents are (N, C, h, w).

    It holds weights and the adapters on them, no state of a generation: two of them may take turns.
    """

    def __init__(self, opened: DiffusionCheckpoint, device: torch.device, dtype: torch.dtype):
        self.name, self.sha256, self.family = opened.name, opened.sha256, opened.family
        self.training, self.native = opened.training, opened.native
        self.zero_uncond = opened.zero_uncond
        self.device, self.dtype = device, dtype
        self.unet = _moved(opened.unet, device, dtype)
        self.vae = _keep_last_layer_float32(_moved(opened.vae, device, dtype), dtype)
        self.text = tuple(replace(p, encoder=_moved(p.encoder, device, torch.float32)) for p in opened.text)
        self._compiled: Any = None
        self._active: tuple | None = ()  # None: interrupted while changing adapters
        self._attached: AppliedAdapters | None = None

    @property
    def channels(self) -> int:
        """Of the latents."""
        return self.vae.config.latent_channels

    @property
    def factor(self) -> int:
        """Pixels per latent along each side (diffusers' vae_scale_factor)."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def multiple(self) -> int:
        """Height and width in pixels must be multiples of this."""
        return self.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def is_inpainting(self) -> bool:
        """Whether the U-Net takes the mask and the masked image besides the latents."""
        return self.unet.config.in_channels == 2 * self.channels + 1

    def apply_adapters(self, adapters: tuple, attach: Callable[[], AppliedAdapters]) -> Sequence[str]:
        """Attaches adapters to the weights and detaches the previous ones; does nothing if equal ones are active.

        Args:
            adapters: identifies them, such as the adapters themselves with their strengths; empty: none.
            attach: attaches them; is not called where there are none.

        Returns:
            Modules of the adapters that do not exist in this model.
        """
        if adapters != self._active:
            self.detach_adapters()
            if adapters:
                self._active = None
                self._attached = attach()
                self._active = adapters
        return () if self._attached is None else self._attached.unfit

    def detach_adapters(self) -> None:
        """Restores the weights without adapters."""
        self._active = None
        if self._attached is not None:
            self._attached.remove()
        self._active, self._attached = (), None

    def encode_prompt(
        self,
        rows: Sequence[tuple[list[int], Mapping[int, Sequence[Tensor]]]],
        weigh: Callable[[Tensor], Tensor],
        skip: int = 0,
    ) -> Condition:
        """Encodes chunks of up to 75 tokens, each with embeddings by position (one tensor for each encoder).

        Args:
            weigh: applies prompt weights to (chunks, 77, D) states.
            skip: the layer, counted from the end; 0: the model's own. SD 2.x and SDXL always use a fixed layer.
        """
        states, pooled = [], None
        for n, conditioner in enumerate(self.text):
            ids = torch.tensor([conditioner.padded(tokens) for tokens, _ in rows], device=self.device)
            embedded = conditioner.encoder.embed(ids)
            for row, (_, learned) in enumerate(rows):
                for position, vectors in learned.items():
                    vector = vectors[n].to(embedded)
                    embedded[row, position + 1 : position + 1 + len(vector)] = vector
            ends = torch.tensor([min(len(tokens), LENGTH) + 1 for tokens, _ in rows], device=self.device)
            encoded = conditioner.encoder(embedded, ends)
            states.append(weigh(conditioner.select_layer(encoded, skip)).float().cpu())
            pooled = encoded.pooled[:1].float().cpu() if encoded.pooled is not None else pooled
        joined = torch.cat(states, -1)
        return Condition(joined.reshape(1, -1, joined.shape[-1]), pooled)

    def predict(
        self,
        x: Tensor,
        t: Tensor,
        states: Tensor,
        added_cond: Mapping[str, Tensor],
        is_tiling: bool,
        is_compiled: bool = False,
    ) -> Tensor:
        """The network's prediction (epsilon or v, as it was trained) for (N, C, h, w) at timestep `t`.

        A step with NaN or infinity in half precision is repeated in float32.
        """
        network = self._compiled_unet() if is_compiled and not is_tiling and len(x) > 1 else self.unet
        y = self._run(network, self.dtype, x, t, states, added_cond, is_tiling)
        if self.dtype != torch.float32 and not torch.isfinite(y).all():
            exact = copy.deepcopy(self.unet).float()
            y = self._run(exact, torch.float32, x, t, states, added_cond, is_tiling)
        return y

    def _run(
        self, unet: nn.Module, dtype: torch.dtype, x: Tensor, t: Tensor, states: Tensor, added_cond, is_tiling
    ) -> Tensor:
        x = x.to(self.device, dtype).contiguous(memory_format=torch.channels_last)
        states = states.to(self.device, dtype)
        cond_kwargs = {name: value.to(self.device, dtype) for name, value in added_cond.items()}
        if unet is self._compiled:  # one graph for all batch sizes and prompt lengths
            for tensor, axes in ((x, (0,)), (states, (0, 1)), *((value, (0,)) for value in cond_kwargs.values())):
                torch._dynamo.mark_dynamic(tensor, axes)
        with _circular_padding(unet, is_tiling):
            y = unet(x, t.to(self.device), states, added_cond_kwargs=cond_kwargs or None).sample
        return y.to("cpu", torch.float32)

    def _compiled_unet(self) -> Any:
        """The compiled U-Net, on CUDA with graphs; recompiled for a new size, not for a new batch size or prompt."""
        if self._compiled is None:
            mode = "reduce-overhead" if self.device.type == "cuda" else "default"
            self._compiled = torch.compile(self.unet, mode=mode)
        return self._compiled

    def encode_mean(self, pixels: Tensor, is_tiling: bool = False) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> latents, the mean of the VAE's distribution."""
        return self.encode(pixels, is_tiling)[0]

    def encode(self, pixels: Tensor, is_tiling: bool = False) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [0, 1] -> mean and standard deviation of the latents."""
        x = pixels.to(self.device, self.vae.dtype) * 2 - 1
        with _circular_padding(self.vae, is_tiling):
            distribution = self.vae.encode(x).latent_dist
        scale = self.vae.config.scaling_factor
        return ((distribution.mode().float() - self._shift) * scale).cpu(), (distribution.std.float() * scale).cpu()

    def decode(self, latents: Tensor, is_tiling: bool = False) -> Tensor:
        """Latents -> (N, 3, H, W) in [0, 1], one by one: decoding takes the most memory."""
        z = latents / self.vae.config.scaling_factor + self._shift
        with _circular_padding(self.vae, is_tiling):
            return torch.cat([self._decode_latent(latent[None]) for latent in z])

    def _decode_latent(self, z: Tensor) -> Tensor:
        x = self.vae.decode(z.to(self.device, self.vae.dtype)).sample.float()
        if not torch.isfinite(x).all():
            x = copy.deepcopy(self.vae).float().decode(z.to(self.device)).sample
        return (x.cpu() / 2 + 0.5).clamp(0, 1)

    def time_ids(self, height: int, width: int, count: int, has_negative: bool) -> Tensor:
        """SDXL's size conditioning (Podell et al. 2023, section 2.2): original size, crop, target size: (count, 6).

        The refiner takes an aesthetic score instead of the target size: (count, 5), 2.5 for the negative prompt, which
        is the first row.
        """
        if self.unet.config.projection_class_embeddings_input_dim == 2560:
            scores = [2.5 if has_negative and row == 0 else 6.0 for row in range(count)]
            return torch.tensor([[height, width, 0, 0, score] for score in scores])
        return torch.tensor([[height, width, 0, 0, height, width]] * count, dtype=torch.float32)

    @property
    def _shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0


def _moved(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(device, dtype)
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module.eval().requires_grad_(False)


def _keep_last_layer_float32(vae: nn.Module, dtype: torch.dtype) -> nn.Module:
    """In bfloat16 the last convolution, and so the picture, stays in float32: 8 bits of precision would be visible."""
    if dtype == torch.bfloat16:
        last = vae.decoder.conv_out.float()
        last.register_forward_pre_hook(lambda layer, given: (given[0].float(),))
    return vae


@contextlib.contextmanager
def _circular_padding(network: nn.Module, is_tiling: bool) -> Iterator[None]:
    """Within the block, convolutions pad circularly, for seamless textures."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)] if is_tiling else []
    for layer in layers:
        layer.padding_mode = "circular"
    try:
        yield
    finally:
        for layer in layers:
            layer.padding_mode = "zeros"
