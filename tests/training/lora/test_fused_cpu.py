"""The quick detour gives what PyTorch's own operations and their gradients give."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from calotype.training.lora.fused_cpu import add_lora, is_supported

LAYERS = {
    "linear": (nn.Linear(6, 5), (2, 7, 6)),
    "1x1": (nn.Conv2d(6, 5, 1), (2, 6, 3, 4)),
    "3x3": (nn.Conv2d(6, 5, 3, padding=1), (2, 6, 3, 4)),
    "5x5": (nn.Conv2d(6, 5, 5, padding=2), (1, 6, 4, 2)),
}


@pytest.mark.parametrize("lies", (torch.contiguous_format, torch.channels_last))
@pytest.mark.parametrize("scale", (1.0, 0.3))
@pytest.mark.parametrize("name", LAYERS)
def test_the_same_numbers_and_gradients(name, scale, lies):
    layer, shape = LAYERS[name]
    layer = layer.double()
    generator = torch.Generator().manual_seed(0)

    def numbers(*size):
        return torch.randn(size, generator=generator, dtype=torch.float64)

    x = numbers(*shape)
    x = (x.contiguous(memory_format=lies) if x.dim() == 4 else x).requires_grad_()
    down = numbers(2, *layer.weight.shape[1:]).requires_grad_()
    up = numbers(5, 2, *[1] * (x.dim() - 2) if x.dim() == 4 else ()).requires_grad_()
    assert is_supported(layer, x)
    if x.dim() == 4:
        plain = layer(x) + scale * F.conv2d(F.conv2d(x, down, None, 1, layer.padding), up)
    else:
        plain = layer(x) + scale * F.linear(F.linear(x, down), up)
    quick = add_lora(layer(x), x, down, up, scale)
    torch.testing.assert_close(quick, plain)
    back = numbers(*plain.shape)
    expected = torch.autograd.grad(plain, (x, down, up), back)
    for one, other in zip(torch.autograd.grad(quick, (x, down, up), back), expected, strict=True):
        torch.testing.assert_close(one, other, check_dtype=False, rtol=1e-5, atol=1e-5)  # kept as float32


def test_layers_that_change_the_size_go_the_plain_way():
    x = torch.zeros(1, 6, 4, 4)
    for layer in (
        nn.Conv2d(6, 5, 3, padding=1, stride=2),
        nn.Conv2d(6, 5, 3),
        nn.Conv2d(6, 6, 3, padding=1, groups=2),
        nn.Conv2d(6, 5, (3, 1), padding=(1, 0)),
        nn.Conv2d(6, 5, 2, padding=1),
    ):
        assert not is_supported(layer, x)
