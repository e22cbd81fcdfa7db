"""One step of a network and of the expert that judges it."""

import math

import pytest
import torch
from torch import nn

from calotype.training.enhance.gan_step import AdversarialTrainer, Batch, LossWeights, Phase


@pytest.mark.parametrize("who", ["network", "discriminator"])
@pytest.mark.parametrize("most", [0.0, 10.0])
def test_a_gradient_that_is_no_number_changes_no_weight(who, most):
    torch.manual_seed(0)
    device = torch.device("cpu")
    network, expert = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 1)
    rivals = AdversarialTrainer(network, expert, None, LossWeights(1.0, 0.0, 0.1), (1e-3, 1e-3), device, False)
    part = getattr(rivals, who)
    part.weight.register_hook(lambda gradient: gradient * math.inf)
    before = part.weight.detach().clone()
    x = torch.rand(2, 3, 8, 8)
    told = rivals.step(0, Batch(x, x, x), Phase(perceptual=False, discriminator_update=True), 1.0, 0.9, most)
    assert math.isnan(told["loss"]) and torch.equal(part.weight, before)
    assert all(torch.isfinite(value).all() for value in rivals.state().values())


def test_the_expert_is_heard_only_of_the_pieces_it_is_shown():
    torch.manual_seed(0)
    network, expert, shown = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 1), []
    expert.register_forward_pre_hook(lambda _, given: shown.append(given[0].shape))
    rivals = AdversarialTrainer(
        network, expert, None, LossWeights(0.0, 0.0, 1.0), (0.1, 0.1), torch.device("cpu"), False
    )
    x = torch.rand(2, 3, 8, 8).requires_grad_()
    batch = Batch(x, x.detach(), x.detach(), torch.ones(2, 1, 8, 8), lambda p: p[:, :, 2:6, 2:6])
    rivals.step(0, batch, Phase(False, discriminator_update=True, gan=True), 1.0, 0.9, 0.0)
    assert shown == [(2, 3, 4, 4)] * 3  # the network's turn, and its own on real ones and on those that were made
    inside, whole = x.grad[:, :, 2:6, 2:6].abs().sum(), x.grad.abs().sum()
    assert 0 < inside == whole
