"""Loss scaling follows what the numbers can hold, and is nothing where they hold enough."""

import pytest
import torch
from torch import nn

from calotype.training.optim import grad_scale as scale
from calotype.training.optim.grad_scale import GradScaler


def with_grad(*values, dtype=torch.float32):
    parameter = nn.Parameter(torch.zeros(len(values), dtype=dtype))
    parameter.grad = torch.tensor(values, dtype=dtype)
    return parameter


def test_gradients_come_back_to_their_size():
    found, one = GradScaler.for_dtype(torch.float16), with_grad(65536.0, -131072.0)
    assert found.unscale([one, nn.Parameter(torch.zeros(1))]) and one.grad.tolist() == [1.0, -2.0]


def test_it_is_idle_for_other_formats():
    found, one = GradScaler.for_dtype(torch.bfloat16), with_grad(3.0, -5.0)
    assert found.unscale([one]) and one.grad.tolist() == [3.0, -5.0] and found == GradScaler(1.0, 0)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_what_is_no_number_is_noticed_in_all_formats(bad):
    found = GradScaler.for_dtype(torch.bfloat16)
    assert not found.unscale([with_grad(1.0), with_grad(3.0, bad)]) and found == GradScaler(1.0, 0)
    assert not found.can_decrease and GradScaler.for_dtype(torch.float16).can_decrease


def test_it_halves_where_too_much_and_doubles_after_long():
    found = GradScaler.for_dtype(torch.float16)
    assert not found.unscale([with_grad(float("inf"))]) and found.factor == scale.INITIAL_FACTOR / 2
    for _ in range(scale.GROWTH_INTERVAL):
        assert found.unscale([with_grad(1.0)])
    assert found == GradScaler(scale.INITIAL_FACTOR, 0)
