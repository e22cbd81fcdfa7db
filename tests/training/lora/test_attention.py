"""Attention over few tokens gives what the fused one gives, and leaves many tokens to it."""

import pytest
import torch

from calotype.training.lora import attention


@pytest.fixture(scope="module")
def layer():
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    return Attention(query_dim=16, cross_attention_dim=12, heads=2, dim_head=8)


@pytest.mark.parametrize("shape", ((2, 9, 16), (2, 16, 3, 4)))
def test_the_same_numbers(layer, shape):
    x, words = torch.randn(shape), torch.randn(2, 7, 12)
    expected = layer(x, words)
    layer.set_processor(attention.CpuAttnProcessor())
    torch.testing.assert_close(layer(x, words), expected)


@pytest.mark.parametrize("tokens, words, is_plain", ((512, 77, True), (513, 77, False), (4, 1024, False)))
def test_which_way_is_taken(layer, tokens, words, is_plain, monkeypatch):
    from diffusers.models import attention_processor

    taken = []
    for name, kind in (("AttnProcessor", "plain"), ("AttnProcessor2_0", "fused")):
        monkeypatch.setattr(attention_processor, name, lambda kind=kind: lambda *_: taken.append(kind))
    attention.CpuAttnProcessor()(layer, torch.zeros(1, tokens, 16), torch.zeros(1, words, 12))
    assert taken == ["plain" if is_plain else "fused"]
