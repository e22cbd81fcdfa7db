"""What hangs on a layer: nothing at first, then exactly what the file says; chance comes from the seed alone."""

import pytest
import torch
from torch import nn

from calotype.checkpoints.lora.deltas import delta
from calotype.training.lora.layers import KINDS, Dropouts, Lora, factors
from calotype.training.lora.network import Adapters, Ranks

LAYERS = {
    "linear": (lambda: nn.Linear(24, 36), (2, 5, 24)),
    "conv": (lambda: nn.Conv2d(12, 20, 3, padding=1, stride=2), (2, 12, 8, 8)),
    "small conv": (lambda: nn.Conv2d(12, 20, 1), (2, 12, 8, 8)),
}


def learned(kind, layer, rank=2, alpha=1.0, dropouts=None):
    """A detour that is no longer zero."""
    made = KINDS[kind](layer, rank, alpha, dropouts or Dropouts(), seed=1)
    with torch.no_grad():
        for part in made.parameters():
            part += torch.randn(part.shape, generator=torch.Generator().manual_seed(2)) * 0.1
    return made


@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_zero_at_first_and_then_what_its_file_says(kind, shape):
    layer, x = LAYERS[shape][0](), torch.randn(LAYERS[shape][1])
    assert not KINDS[kind](layer, 2, 1.0, Dropouts(), seed=1).delta(x).any()
    made = learned(kind, layer)
    changed = torch.nn.utils.skip_init(type(layer), *_arguments(layer))
    changed.load_state_dict({"weight": layer.weight + made.weight_delta(), "bias": layer.bias})
    assert torch.allclose(layer(x) + made.delta(x), changed(x), atol=1e-5)
    roles = {
        name.removeprefix("lora_").removesuffix(".weight"): value for name, value in made.file_parameters().items()
    }
    roles = {name: value.detach() for name, value in roles.items()}
    read = delta({**roles, "alpha": torch.tensor(made.alpha)}, layer.weight.detach())
    assert torch.allclose(read, made.weight_delta(), atol=1e-6) and read.norm() > 0


def _arguments(layer):
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding


@pytest.mark.parametrize(("side", "factor", "parts"), [(128, -1, (8, 16)), (250, 4, (2, 125)), (127, 8, (1, 127))])
def test_lokr_divides_sides_as_lycoris_does(side, factor, parts):
    assert factors(side, factor) == parts


@pytest.mark.parametrize("kind", KINDS)
def test_chance_comes_from_the_seed_and_only_while_learning(kind):
    layer, x = nn.Linear(24, 36), torch.randn(4, 5, 24)
    made = learned(kind, layer, dropouts=Dropouts(number=0.3, rank=0.3, layer=0.3))
    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        answers.append((made.is_skipped(), made.delta(x)))
    assert answers[0][0] == answers[1][0] and torch.equal(answers[0][1], answers[1][1])
    assert not torch.equal(answers[0][1], answers[2][1])
    made.eval()
    assert not made.is_skipped() and torch.equal(made.delta(x), made.delta(x))


def test_rank_dropout_leaves_out_whole_ranks_and_keeps_the_mean():
    made = Lora(nn.Linear(8, 8), 8, 8.0, Dropouts(rank=0.5), seed=0)
    with torch.no_grad():
        made.up.copy_(torch.eye(8))
    x = torch.randn(4000, 3, 8)
    torch.manual_seed(0)
    with torch.no_grad():
        shares = made.delta(x) / made.eval().delta(x)  # every rank is one output here
    assert set(shares.round(decimals=4).flatten().tolist()) == {0.0, 2.0}
    assert torch.equal(shares[:, 0], shares[:, 2])  # the same for all places of a picture
    assert shares.mean() == pytest.approx(1, abs=0.03)


def test_module_dropout_leaves_the_layer_as_it_was():
    layer, x = nn.Linear(8, 8), torch.randn(2, 8)
    plain, adapters = layer(x), Adapters()
    adapters.attach("unet", iter([("a", layer, 2, 2.0)]), Ranks(2, 2.0, dropouts=Dropouts(layer=0.5)))
    with torch.no_grad():
        adapters.layers["lora_unet_a"].up.fill_(1)
    torch.manual_seed(0)
    same = [torch.equal(layer(x), plain) for _ in range(400)]
    assert 150 < sum(same) < 250
    adapters.train(is_unet=True, is_on=False)
    assert not torch.equal(layer(x), plain) and not adapters.layers["lora_unet_a"].up.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_long_changes_are_shortened_and_short_ones_left(kind):
    made = learned(kind, nn.Linear(24, 36))
    before = made.weight_delta().detach().clone()
    length = float(before.norm())
    made.clip_norm(length * 1.01)
    assert torch.equal(made.weight_delta(), before)
    made.clip_norm(length / 3)
    assert float(made.weight_delta().detach().norm()) == pytest.approx(length / 3, rel=1e-4)
    assert torch.allclose(made.weight_delta() * 3, before, atol=1e-5)  # shorter, not turned
