"""A network for inference: on its device, in the fastest dtype that is accurate."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calotype.errors import CalotypeError, Message, listed
from calotype.models.int8 import int8_chain, is_int8_quick
from calotype.models.row_stream import Chain, RowStream, chain_of

PROBE = 32  # pixels; side of the picture with which memory use is measured
SPARE = 2.5  # peak memory of a network over its largest layer's input and output, measured


@dataclass(frozen=True, eq=False)
class NetworkCheckpoint:
    """A checkpoint in memory: float32, on the CPU, in eval mode, without gradients.

    `call(module, x, fidelity)` takes (N, 3, h, w) in [0, 1] RGB with sides that are multiples of `multiple` (or exactly
    `side` for faces) and returns (N, 3, h*scale, w*scale), nominally in [0, 1], not clamped; it converts to and
    from the network's own range. One for repair returns (N, 1, h, w), the probability of damage; one for inpainting
    takes (N, 4, h, w), the mask last.
    """

    name: str
    sha256: str
    kind: str  # "upscale", "faces", "repair" or "inpaint"
    module: nn.Module
    call: Callable[[nn.Module, Tensor, float], Tensor]
    scale: int = 1
    multiple: int = 1
    min_side: int = 1  # pixels of a side
    side: int | None = None  # faces: the side of the aligned square
    has_fidelity: bool = False
    sees_mirrored: bool = False  # faces: better as the mean with what it draws of the mirror image
    half: bool = True  # float16 is accurate
    bfloat16: bool = True
    by_rows: bool = True  # a compact network may be computed by rows: `call` is the module, and nothing else
    takes_float32: bool = False  # whatever it computes in; what it makes of the picture first needs that
    activation_ranges: tuple[Tensor, ...] = ()  # of a network that may be computed by rows in 8-bit integers


class Network:
    """`network(x)`: (N, 3, h, w) float32 in [0, 1] -> (N, 3, h*scale, w*scale) float32, not clamped; both on the CPU.

    A result with NaN or infinity in half precision is computed again in float32. In bfloat16 the first and the last
    convolution stay in float32: little extra work, and the result is 3 to 13 dB nearer to float32. With `is_int8` the
    rows of `stream` are computed in 8-bit integers; `dtype` is then that of everything else.
    """

    def __init__(self, loaded: NetworkCheckpoint, device: torch.device, dtype: torch.dtype, is_int8: bool = False):
        self.name, self.sha256 = loaded.name, loaded.sha256
        self.scale, self.multiple, self.min_side, self.side = (
            loaded.scale,
            loaded.multiple,
            loaded.min_side,
            loaded.side,
        )
        self.device, self.dtype = device, dtype
        self.sees_mirrored = loaded.sees_mirrored
        self._loaded = loaded
        self._format, self._input = torch.channels_last, torch.float32 if loaded.takes_float32 else dtype
        self._module = self._moved(dtype)
        if loaded.kind == "upscale":
            self.bytes_per_pixel = self._probe()
        self._chain = chain_of(self._module) if device.type == "cpu" and loaded.by_rows else None
        self.is_int8 = is_int8 and self._chain is not None
        if self.is_int8:
            self._chain = int8_chain(self._chain, loaded.activation_ranges)

    @property
    def chain(self) -> Chain | None:
        """The layers, where the network can be computed by rows on the processor (`stream`)."""
        return self._chain

    def stream(self, chain: Chain) -> RowStream:
        """Computes one picture by rows; without the check for NaN and infinity of `__call__`."""
        return RowStream(chain, self._input)

    def __call__(self, x: Tensor, fidelity: float = 0.5) -> Tensor:
        y = self._run(self._module, x.to(self._input), fidelity)
        if self.dtype != torch.float32 and not torch.isfinite(y).all():
            y = self._run(self._moved(torch.float32), x, fidelity)
        if not torch.isfinite(y).all():
            raise CalotypeError(
                "the output of the network {name} is NaN or infinite; its file is damaged or "
                "not made for such pictures, take another model",
                name=self.name,
            )
        return y

    @torch.inference_mode()
    def _run(self, module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
        x = x.to(self.device).contiguous(memory_format=self._format)
        return self._loaded.call(module, x, fidelity).to("cpu", torch.float32)

    def _moved(self, dtype: torch.dtype) -> nn.Module:
        if self.device.type == "cpu" and dtype == torch.float32:
            return self._loaded.module.to(memory_format=self._format)
        return copy.deepcopy(self._loaded.module).to(self.device, dtype, memory_format=self._format)

    def _probe(self) -> int:
        """Runs a small picture to find the outermost convolutions and whether channels_last works; bytes per pixel."""
        side = -(-PROBE // self.multiple) * self.multiple
        x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        try:
            layers = self._trace(x)
        except RuntimeError:  # the network calls view() on channels_last data
            self._format = torch.contiguous_format
            self._module = self._moved(self.dtype)
            layers = self._trace(x)
        if self.dtype == torch.bfloat16:
            self._keep_ends_float32([layer for layer, _ in layers if isinstance(layer, nn.Conv2d)], x)
        return int(SPARE * max(size for _, size in layers) * self.dtype.itemsize / side**2)

    def _trace(self, x: Tensor) -> list[tuple[nn.Module, int]]:
        """The layers in order of execution, each with the number of elements of its inputs and outputs."""
        layers = []

        def note(layer: nn.Module, inputs: tuple, output: object) -> None:
            layers.append((layer, sum(t.numel() for t in (*inputs, output) if isinstance(t, Tensor))))

        hooks = [m.register_forward_hook(note) for m in self._module.modules() if not list(m.children())]
        try:
            self._run(self._module, x.to(self._input), 0.5)
        finally:
            for hook in hooks:
                hook.remove()
        return layers

    def _keep_ends_float32(self, convolutions: list[nn.Conv2d], x: Tensor) -> None:
        """Puts the outermost convolutions, and so the picture, back into float32, where the network allows it."""
        if len(convolutions) < 2:
            return
        first, last = convolutions[0], convolutions[-1]
        names = {layer: name for name, layer in self._module.named_modules()}
        for layer in (first, last):
            exact = self._loaded.module.get_submodule(names[layer])
            layer.float().load_state_dict(exact.state_dict())
        first.register_forward_hook(lambda layer, inputs, output: output.to(self.dtype))
        last.register_forward_pre_hook(lambda layer, inputs: (inputs[0].float(),))
        self._input = torch.float32
        try:
            self._run(self._module, x, 0.5)
        except RuntimeError:  # the input is also used by another layer
            self._input, self._module = self.dtype, self._moved(self.dtype)


def pick_device(name: str) -> torch.device:
    """auto -> CUDA (in distributed training, the device of LOCAL_RANK), then MPS, then the CPU.

    Raises:
        CalotypeError: the device is not available.
    """
    available = ["cpu"] + ["mps"] * torch.backends.mps.is_available()
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    if name == "auto" and "cuda" in available:
        local = f"cuda:{os.environ.get('LOCAL_RANK', '')}"
        return torch.device(local if local in available else "cuda")
    if name == "auto":
        return torch.device(available[-1])
    if name not in available:
        raise CalotypeError(
            "this machine has no device {wanted}; leave {option:device} out, or take {names}",
            wanted=name,
            names=listed(available, " or "),
        )
    return torch.device(name)


def pick_dtype(
    device: torch.device, precision: str, loaded: NetworkCheckpoint | None = None
) -> tuple[torch.dtype, Message]:
    """The dtype for a network on a device, and the reason, as a clause."""
    if precision not in ("auto", "int8"):
        return getattr(torch, precision), Message("asked for")
    if device.type == "cuda":
        if loaded is None or loaded.half:
            return torch.float16, Message("the fastest on CUDA; NaN and infinity are computed again in float32")
        return torch.float32, Message("this network needs it")
    if is_bfloat16_quick(device):
        if loaded is None or loaded.bfloat16:
            return torch.bfloat16, Message("this processor multiplies bfloat16 in hardware")
        return torch.float32, Message("this network needs it")
    return torch.float32, Message("no faster format on this device")


def computes_int8(device: torch.device, precision: str) -> bool:
    """Whether networks with known ranges are computed in 8-bit integers: in auto, where bfloat16 is not quick."""
    if precision == "auto":
        return is_int8_quick(device) and not is_bfloat16_quick(device)
    return precision == "int8" and is_int8_quick(device)


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware (AVX-512 BF16, AMX, Arm BF16)."""
    try:
        capabilities = torch.cpu.get_capabilities()
    except AttributeError:  # before torch 2.11
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))


def is_bfloat16_quick(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware: CUDA from Ampere on, excluding emulation."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and has_bfloat16()


def is_mixed(precision: str, device: torch.device) -> bool:
    """Whether training computes in bfloat16, except for weights: "auto" where it is fast, "bf16" always, "no" never."""
    return is_bfloat16_quick(device) if precision == "auto" else precision == "bf16"


def is_out_of_memory(fault: BaseException) -> bool:
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(fault, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(fault, RuntimeError) and any(word in str(fault).lower() for word in words)
    )
