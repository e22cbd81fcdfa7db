"""A network as it was built from the weights of a file, and the range of values that most face networks take."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Built:
    """The fields of a NetworkCheckpoint that its file gives by itself."""

    kind: str
    module: nn.Module
    call: Callable[[nn.Module, Tensor, float], Tensor]
    scale: int = 1
    multiple: int = 1
    min_side: int = 1
    side: int | None = None
    has_fidelity: bool = False
    sees_mirrored: bool = False
    half: bool = True
    bfloat16: bool = True
    by_rows: bool = True
    takes_float32: bool = False


def signed(x: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]."""
    return x * 2 - 1


def unsigned(y: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (y + 1) / 2
