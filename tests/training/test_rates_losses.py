"""Rates, targets and weights, against the formulas that they are named after."""

import math

import pytest
import torch

from calotype.tasks.training import SCHEDULERS, warmup
from calotype.training.losses import noised, offset_noise, snr_weight, target
from calotype.training.rates import factor


@pytest.mark.parametrize("name", SCHEDULERS)
def test_rates_rise_in_the_warm_up_and_stay_within_one(name):
    found = [factor(name, step, 100, warm=10, cycles=2) for step in range(101)]
    assert found[:3] == [0.0, 0.1, 0.2] and max(found) <= 1.0 and min(found) >= 0.0
    assert found[10] == pytest.approx(1.0)


def test_rates_are_diffusers_own():
    from diffusers.optimization import get_scheduler

    for name in ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        warm = 0 if name == "constant" else 7
        theirs = get_scheduler(name, optimizer, num_warmup_steps=warm, num_training_steps=50, num_cycles=1)
        for step in range(50):
            assert factor(name, step, 50, warm) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6), name
            optimizer.step()
            theirs.step()


@pytest.mark.parametrize(("text", "steps"), [("0", 0), ("25", 25), ("0.1", 20), ("5%", 10)])
def test_warm_up_may_be_a_share(text, steps):
    assert warmup(text, 200) == steps


def test_targets_are_diffusers_own():
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    clean, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    times = torch.tensor([0, 500, 999])
    signal = scheduler.alphas_cumprod[times] ** 0.5
    assert torch.allclose(noised(clean, noise, signal), scheduler.add_noise(clean, noise, times), atol=1e-5)
    assert torch.allclose(
        target(clean, noise, signal, "v_prediction"), scheduler.get_velocity(clean, noise, times), atol=1e-5
    )
    assert target(clean, noise, signal, "epsilon") is noise


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
