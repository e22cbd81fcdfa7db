"""A network ready to work: on its device, in the quickest number format that is right."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Loaded:
    """A checkpoint in memory: float32, on the CPU, in eval mode, without gradients.

    `call(module, x, fidelity)` takes (N, 3, h, w) in [0, 1] RGB with sides that are multiples of `multiple` (or exactly
    `side` for faces) and returns (N, 3, h*scale, w*scale), nominally in [0, 1], not clamped. Whatever the network's own
    range is, `call` converts.
    """

    name: str
    sha256: str
    kind: str  # "upscale" or "faces"
    module: nn.Module
    call: Callable[[nn.Module, Tensor, float], Tensor]
    scale: int = 1
    multiple: int = 1
    side: int | None = None  # faces: the side of the aligned square
    has_fidelity: bool = False
    half: bool = True  # float16 gives right pictures
    bfloat16: bool = True
