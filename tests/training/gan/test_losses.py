"""Losses, penalties, augmentations and figures, against what is known of them."""

import math

import pytest
import torch
from torch.testing import assert_close

from calotype.errors import CalotypeError
from calotype.inference.gan import slerp
from calotype.training.data.squares import of_demo
from calotype.training.gan.losses import (
    AUGMENTATIONS,
    augment,
    discriminator_loss,
    ema_decay,
    generator_loss,
    gradient_penalty,
    parse_augmentations,
)
from calotype.training.gan.metrics import GanMetrics, RandomFeatures, frechet_distance, precision_recall
from calotype.training.optim.ema import update_ema


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def test_losses_look_at_differences_alone():
    real, forged = torch.randn(2, 64, generator=chance())
    assert_close(discriminator_loss(real + 7, forged + 7), discriminator_loss(real, forged))
    assert_close(discriminator_loss(real, forged), generator_loss(forged, real))
    assert math.isclose(discriminator_loss(real, real).item(), math.log(2), rel_tol=1e-6)


def test_the_penalty_of_a_straight_expert_is_its_slope():
    slope = torch.randn(3, 8, 8, generator=chance())
    found = gradient_penalty(lambda x: (x * slope).sum((1, 2, 3)), torch.randn(5, 3, 8, 8, generator=chance(1)))
    assert_close(found, slope.square().sum())


def test_the_running_mean_moves_as_told():
    mean, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    wanted = 0.9 * mean.weight + 0.1 * other.weight
    update_ema(mean, other, 0.9)
    assert_close(mean.weight, wanted)
    assert ema_decay(1000, 1000, 10**9) == 0.5 and ema_decay(1000, 10, 100) < 0.5


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_repeat_by_seed_and_let_gradients_through(name):
    x = torch.rand(6, 3, 16, 16, generator=chance()).requires_grad_()
    one, same, other = (augment(x, [name], chance(seed)) for seed in (1, 1, 2))
    assert one.shape == x.shape and torch.equal(one, same) and not torch.equal(one, other)
    one.sum().backward()
    assert x.grad.abs().sum() > 0


def test_translation_moves_whole_pictures():
    x = torch.arange(1.0, 257).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    moved = augment(x, ["translation"], chance(3))
    assert set(moved.unique().tolist()) <= {0.0, *x.unique().tolist()}


def test_augmentations_are_told_by_name():
    assert parse_augmentations("color, cutout") == ["color", "cutout"] and parse_augmentations("none") == []
    with pytest.raises(CalotypeError, match="did you mean translation"):
        parse_augmentations("translaton")


# ---------------------------------------------------------------------- figures


@pytest.fixture(scope="module")
def smileys():
    gallery = of_demo(32)
    return gallery.batch(torch.arange(len(gallery)))


@pytest.mark.slow
def test_the_distance_is_none_to_oneself_and_rises_as_pictures_get_worse(smileys):
    measure = GanMetrics(lambda: [smileys])
    assert abs(measure([smileys]).frechet) < 1e-3
    for spoiled in (
        lambda x, share: x + share * torch.randn(x.shape, generator=chance()),
        lambda x, share: (1 - share) * x + share * x.mean((2, 3), keepdim=True),
        lambda x, share: torch.where(torch.rand(x.shape[-2:], generator=chance()) < share, -1.0, x),
    ):
        distances = [measure([spoiled(smileys, share)]).frechet for share in (0.1, 0.3, 0.6)]
        assert 0 < distances[0] < distances[1] < distances[2]


@pytest.mark.slow
def test_few_kinds_cost_recall_and_diversity_and_noise_costs_precision(smileys):
    measure = GanMetrics(lambda: [smileys])
    whole, few = measure([smileys]), measure([smileys[:8].repeat(50, 1, 1, 1)])
    noise = measure([torch.randn(200, 3, 32, 32, generator=chance())])
    assert whole.precision == whole.recall == 1 and math.isclose(whole.diversity, 1)
    assert few.precision == 1 and few.recall < 0.3 and few.diversity < 0.9
    assert noise.precision < 0.05


def test_pictures_may_come_in_parts(smileys):
    noise = torch.randn(200, 3, 32, 32, generator=chance())
    assert GanMetrics(lambda: smileys.split(64))(noise.split(64)) == GanMetrics(lambda: [smileys])([noise])


def test_the_distance_of_gaussians_is_the_known_one():
    one = torch.randn(20_000, 4, generator=chance())
    assert abs(frechet_distance(one, 2 * one + 3) - (4 * 9 + 4 * 1)) < 1
    assert precision_recall(one[:50], one[:50] + 100) == (0, 0)


def test_the_look_is_the_same_everywhere():
    assert torch.equal(RandomFeatures()([torch.ones(2, 3, 64, 64)]), RandomFeatures()([torch.ones(2, 3, 64, 64)]))


def test_a_walk_goes_along_the_circle():
    one, other = torch.randn(2, 64, generator=chance())
    assert_close(slerp(one, other, 0.0), one)
    assert_close(slerp(one, other, 1.0), other)
    assert abs(slerp(one, other, 0.5).norm() - (one.norm() + other.norm()) / 2) < 1e-3
    assert_close(slerp(one, one, 0.5), one)
