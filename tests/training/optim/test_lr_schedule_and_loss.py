"""Rates, targets and weights, against the formulas that they are named after."""

import math
import random
from pathlib import Path

import pytest
import torch

from calotype.tasks.training import SCHEDULERS, TrainLora, parse_step_rules, parse_steps
from calotype.training.optim.diffusion_loss import (
    Loss,
    NoiseOptions,
    add_noise,
    offset_noise,
    pyramid_noise,
    snr_weight,
    training_target,
)
from calotype.training.optim.lr_schedule import lr_factor


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "piecewise_constant"])
def test_rates_rise_in_the_warm_up_and_stay_within_one(name):
    found = [lr_factor(name, step, 100, warmup=10, cycles=2) for step in range(101)]
    assert found[:3] == [0.0, 0.1, 0.2] and max(found) <= 1.0 and min(found) >= 0.0
    assert found[10] == pytest.approx(1.0)


def test_rates_are_diffusers_own():
    from diffusers.optimization import get_scheduler

    for name in ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        warm = 0 if name == "constant" else 7
        theirs = get_scheduler(name, optimizer, num_warmup_steps=warm, num_training_steps=50, num_cycles=1)
        for step in range(50):
            assert lr_factor(name, step, 50, warm) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6), name
            optimizer.step()
            theirs.step()


@pytest.mark.parametrize(("text", "steps"), [("0", 0), ("25", 25), ("0.1", 20), ("5%", 10)])
def test_warm_up_may_be_a_share(text, steps):
    assert parse_steps(text, 200) == steps


@pytest.mark.parametrize(("text", "steps"), [("0.05", 51), ("5%", 51), ("51.9", 51)])
def test_a_share_of_a_step_is_cut_off_as_in_sd_scripts(text, steps):
    assert parse_steps(text, 1030) == steps


def test_the_polynomial_ends_at_the_rate_of_diffusers_own_whatever_it_began_at():
    from diffusers.optimization import get_polynomial_decay_schedule_with_warmup

    for rate in (1e-6, 1e-4, 1.0):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
        theirs = get_polynomial_decay_schedule_with_warmup(optimizer, 7, 50, power=2.0)
        for step in range(52):
            mine = rate * lr_factor("polynomial", step, 50, 7, power=2.0, lr=rate)
            assert mine == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), (rate, step)
            optimizer.step()
            theirs.step()
    assert lr_factor("polynomial", 50, 50, lr=1e-8) == 1.0 and lr_factor("polynomial", 50, 50, lr=0.0) == 0.0


def test_without_steps_to_fall_in_the_rate_stays():
    assert [lr_factor("warmup_stable_decay", step, 50, 10) for step in (10, 30, 49)] == [1.0, 1.0, 1.0]
    assert TrainLora(photos=Path("x")).lr_decay_steps == "0"


def test_targets_are_diffusers_own():
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    clean, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    times = torch.tensor([0, 500, 999])
    signal = scheduler.alphas_cumprod[times] ** 0.5
    assert torch.allclose(add_noise(clean, noise, signal), scheduler.add_noise(clean, noise, times), atol=1e-5)
    assert torch.allclose(
        training_target(clean, noise, signal, "v_prediction"), scheduler.get_velocity(clean, noise, times), atol=1e-5
    )
    assert training_target(clean, noise, signal, "epsilon") is noise


def test_min_snr_is_its_papers():
    signal = torch.tensor([0.999, 0.7, 0.1, 0.0])
    snr = [s**2 / (1 - s**2) for s in signal.tolist()]
    assert snr_weight(signal, 5, "epsilon")[:3].tolist() == pytest.approx([min(s, 5) / s for s in snr[:3]], rel=1e-3)
    assert snr_weight(signal, 5, "v_prediction").tolist() == pytest.approx([min(s, 5) / (s + 1) for s in snr], rel=1e-3)
    assert math.isfinite(float(snr_weight(signal, 5, "epsilon").sum()))


def test_offset_noise_moves_the_mean():
    plain = torch.randn(64, 4, 16, 16)
    moved = offset_noise(plain, 0.5, torch.Generator().manual_seed(0))
    assert offset_noise(plain, 0.0, torch.Generator()) is plain
    assert float((moved - plain).mean((2, 3)).std()) == pytest.approx(0.5, rel=0.2)


def test_rates_by_steps_hold_between_them():
    rules = parse_step_rules("step_rules=1:3,0.1:5,0.01")
    assert [lr_factor("piecewise_constant", step, 9, rules=rules) for step in range(7)] == [
        1,
        1,
        1,
        0.1,
        0.1,
        0.01,
        0.01,
    ]


def test_rates_that_end_above_zero_are_transformers_own():
    optimization = pytest.importorskip("transformers.optimization")
    for name, own in (
        ("cosine_with_min_lr", {"num_training_steps": 50, "min_lr_rate": 0.2}),
        ("warmup_stable_decay", {"num_stable_steps": 30, "num_decay_steps": 13, "min_lr_ratio": 0.2}),
        ("inverse_sqrt", {"timescale": 20}),
    ):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        make = optimization.TYPE_TO_SCHEDULER_FUNCTION[optimization.SchedulerType(name)]
        theirs = make(optimizer, num_warmup_steps=7, **own)
        for step in range(50):
            mine = lr_factor(name, step, 50, 7, min_factor=0.2, decay=13, timescale=20)
            assert mine == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6), (name, step)
            optimizer.step()
            theirs.step()


def test_noise_of_many_coarsenesses_has_deviation_one_and_coarse_parts():
    plain = torch.randn(8, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    made = pyramid_noise(plain, 6, 0.5, torch.Generator().manual_seed(1), random.Random(2))
    assert float(made.std()) == pytest.approx(1, abs=1e-3)
    coarse = [torch.nn.functional.avg_pool2d(one, 8).std() for one in (plain, made)]
    assert coarse[1] > 1.4 * coarse[0]


def test_offset_follows_the_latents_mean():
    clean = torch.cat([torch.zeros(200, 4, 4, 4), torch.full((200, 4, 4, 4), 3.0)])
    made = offset_noise(torch.zeros_like(clean), 0.1, torch.Generator().manual_seed(0), clean, 0.5)
    deviations = [float(half.mean((2, 3)).std()) for half in made.chunk(2)]
    assert deviations == pytest.approx([0.1, 1.6], rel=0.15)


def test_more_noise_in_the_picture_leaves_what_is_to_be_found():
    clean = torch.zeros(2, 4, 8, 8)
    wanted, given = NoiseOptions(ip_noise_gamma=0.5).sample(clean, torch.Generator().manual_seed(0), random.Random(0))
    same, also = NoiseOptions().sample(clean, torch.Generator().manual_seed(0), random.Random(0))
    assert torch.equal(wanted, same) and same is also and float((given - wanted).std()) == pytest.approx(0.5, rel=0.2)


def test_soft_losses_are_squares_when_small_and_lengths_when_large():
    signal, share = torch.tensor([0.7]), torch.tensor([0.5])
    for size, power in ((1e-3, 2), (1e3, 1)):
        one, two = (torch.full((1, 4, 2, 2), size * n) for n in (1, 2))
        for kind in ("huber", "smooth_l1"):
            loss = Loss(loss_type=kind, huber_schedule="constant", huber_c=1.0)
            ratio = loss.per_sample(two, two * 0, signal, share) / loss.per_sample(one, one * 0, signal, share)
            assert float(ratio) == pytest.approx(2**power, rel=1e-2)
    assert float(Loss(loss_type="l1").per_sample(one, one * 0, signal, share)) == pytest.approx(1e3)
    sigma = (1 - 0.49) ** 0.5 / 0.7
    assert float(Loss(huber_c=0.1)._huber_threshold(signal, share)) == pytest.approx(
        0.9 / (1 + sigma) ** 2 + 0.1, rel=1e-4
    )
    assert float(Loss(huber_schedule="exponential")._huber_threshold(signal, share)) == pytest.approx(
        0.1**0.5, rel=1e-4
    )


def test_weights_are_sd_scripts():
    signal = torch.tensor([0.9, 0.2])
    snr = [s**2 / (1 - s**2) for s in signal.tolist()]
    cases = [
        ({"debiased_estimation_loss": True}, "epsilon", [1 / s**0.5 for s in snr]),
        ({"debiased_estimation_loss": True}, "v_prediction", [1 / (s + 1) for s in snr]),
        ({"scale_v_pred_loss_like_noise_pred": True}, "v_prediction", [s / (s + 1) for s in snr]),
        ({"v_pred_like_loss": 0.5}, "epsilon", [1 + 0.5 * (s + 1) / s for s in snr]),
        ({}, "epsilon", [1, 1]),
    ]
    for told, prediction, wanted in cases:
        assert Loss(**told).weight(signal, prediction).tolist() == pytest.approx(wanted, rel=1e-4)
