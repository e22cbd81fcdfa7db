"""Loads tensors into a module on the meta device."""

from pathlib import Path

from torch import Tensor, nn

from calotype.checkpoints.state_dict import check_finite
from calotype.errors import CalotypeError


def load_into(module: nn.Module, state: dict[str, Tensor], where: Path) -> nn.Module:
    """Assigns a state dict to a module on the meta device, without a copy.

    Raises:
        CalotypeError: keys or shapes differ, or a number is not finite. Tensors that no network uses are not checked.
    """
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in state.items()}
    mismatched = [key for key in expected if expected[key] != given.get(key)] + [
        key for key in given if key not in expected
    ]
    if mismatched:
        raise CalotypeError(
            "{where} does not hold the weights it should: {count} do not fit, first {first}",
            where=where,
            count=len(mismatched),
            first=mismatched[0],
        )
    check_finite(state, where)
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)
