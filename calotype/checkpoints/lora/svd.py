"""Matrices as products of narrow ones, by singular values (Eckart and Young 1936). All in float32, and finer inside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ZERO = 1e-6  # a matrix whose largest singular value is no larger is taken for zero, as sd-scripts has it


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A matrix (m, n) as left @ diag(values) @ right, or the part of it that is not zero."""

    u: Tensor  # (m, k)
    values: Tensor  # (k,), falling
    vh: Tensor  # (k, n)

    def energy_kept(self, rank: int) -> float:
        """The share of the energy, which is the sum of the squares, that the first `rank` values hold."""
        squares = self.values.double().square()
        return float(squares[:rank].sum() / squares.sum()) if squares.sum() > 0 else 1.0

    @property
    def energy(self) -> float:
        return float(self.values.double().square().sum())

    def product(self, rank: int) -> tuple[Tensor, Tensor]:
        """Down (rank, n) and up (m, rank), the values shared out evenly: neither leaves the range of float16."""
        root = self.values[:rank].sqrt()
        return root[:, None] * self.vh[:rank], self.u[:, :rank] * root


def spectrum_of_product(down: Tensor, up: Tensor) -> Spectrum:
    """Of up @ down, (m, r) @ (r, n), without ever making it: the values of the small core between two QRs."""
    q_up, r_up = torch.linalg.qr(up.double())
    q_down, r_down = torch.linalg.qr(down.double().T)
    u, values, vh = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    return Spectrum((q_up @ u).float(), values.float(), (vh @ q_down.T).float())


def spectrum(matrix: Tensor) -> Spectrum:
    """Of a whole matrix (m, n): the eigenvectors of its smaller square, in float64.

    Squaring costs half of the digits: what is below 1e-7 of the largest value is lost, as in float32 at the best. On
    1280 by 11520 it takes a quarter of the time of an SVD.
    """
    if matrix.shape[0] > matrix.shape[1]:
        transposed = spectrum(matrix.T)
        return Spectrum(transposed.vh.T, transposed.values, transposed.u.T)
    exact = matrix.double()
    squares, u = torch.linalg.eigh(exact @ exact.T)
    values, u = squares.clamp(min=0).sqrt().flip(0), u.flip(1)
    rows = u.T @ exact
    vh = torch.where(values[:, None] > 1e-7 * values[0], rows / values[:, None], 0.0)
    return Spectrum(u.float(), values.float(), vh.float())


def clamped(factors: Spectrum, rank: int, quantile: float) -> tuple[Tensor, Tensor]:
    """Down and up with the values on the up, and outliers cut to a quantile of all numbers, as sd-scripts extracts.

    A pair of singular vectors may come with either sign. So that this decides nothing, numbers count with both.
    """
    down, up = factors.vh[:rank], factors.u[:, :rank] * factors.values[:rank]
    sizes = np.abs(np.concatenate([up.numpy().ravel(), down.numpy().ravel()]))
    limit = float(np.quantile(sizes, 2 * quantile - 1))
    return down.clamp(-limit, limit), up.clamp(-limit, limit)


def loss(matrix: Tensor, down: Tensor, up: Tensor) -> float:
    """The energy of what `up @ down` leaves of a matrix."""
    return float((matrix - up.float() @ down.float()).double().square().sum())


# How a rank is found by the singular values; sd-scripts' resize_lora, which keeps one more than the rule says.


def _by_ratio(values: Tensor, target: float) -> int:
    """Values above the largest / target."""
    return int((values > values[0] / target).sum())


def _by_frobenius(values: Tensor, target: float) -> int:
    """So many that the Frobenius norm of the product is this share of the whole."""
    squares = values.square()
    return int(torch.searchsorted(squares.cumsum(0) / squares.sum(), target**2)) + 1


def _by_sum(values: Tensor, target: float) -> int:
    """So many that the sum of the values is this share of the whole."""
    return int(torch.searchsorted(values.cumsum(0) / values.sum(), target)) + 1


METHODS: Mapping[str, Callable[[Tensor, float], int]] = {
    "sv_ratio": _by_ratio,
    "sv_fro": _by_frobenius,
    "sv_cumulative": _by_sum,
}


def rank_by(method: str, target: float, values: Tensor, sides: Sequence[int]) -> int:
    """The rank that a rule of METHODS gives a matrix of these sides; 1 for a matrix of zeros."""
    if values[0] <= ZERO:
        return 1
    rank = METHODS[method](values, target)
    return max(1, min(rank, min(sides) - 1)) + 1
