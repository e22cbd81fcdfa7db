"""The published recipes: draws come as often and as far as published, results hang on seed and picture alone."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.ops.degrade import FaceRecipe, SecondOrder, degrade_faces, second_order
from calotype.ops.degrade.face import CHANGES, adjusted, draw_face
from calotype.ops.degrade.noise import Noise, noisy
from calotype.ops.degrade.second_order import draw

DRAWS = 3000


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("degrade", [second_order, degrade_faces])
def test_the_same_seed_gives_the_same_and_the_batch_does_not_matter(photo, degrade):
    batch = torch.stack([photo, photo.flip(2), photo.flip(1), photo])
    whole = degrade(batch, seeded(3))
    assert torch.equal(whole, degrade(batch, seeded(3)))
    assert torch.equal(whole[:1], degrade(batch[:1], seeded(3)))
    assert torch.equal(whole[:2], degrade(torch.stack([batch[0], batch[1], batch[0]]), seeded(3))[:2])
    assert not torch.equal(whole, degrade(batch, seeded(4)))
    assert not torch.equal(whole[0], whole[3])  # the same picture, another draw


@pytest.mark.parametrize("degrade", [second_order, degrade_faces])
def test_the_global_random_state_is_left_alone(photo, degrade):
    before = torch.get_rng_state()
    degrade(photo[None], seeded(0))
    assert torch.equal(before, torch.get_rng_state())


@given(
    n=st.integers(1, 2),
    height=st.integers(4, 70),
    width=st.integers(4, 70),
    scale=st.integers(1, 4),
    seed=st.integers(0, 2**62),
)
@settings(max_examples=60, deadline=None)
def test_any_size_comes_out_smaller_by_the_scale(n, height, width, scale, seed):
    x = torch.rand(n, 3, height, width, generator=seeded(1))
    y = second_order(x, seeded(seed), SecondOrder(scale=scale))
    assert y.shape == (n, 3, height // scale, width // scale)
    assert y.isfinite().all() and y.min() >= 0 and y.max() <= 1
    torch.testing.assert_close((y * 255).round(), y * 255, atol=1e-4, rtol=0)


@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 2**62))
@settings(max_examples=40, deadline=None)
def test_faces_keep_their_size(height, width, seed):
    y = degrade_faces(torch.rand(1, 3, height, width, generator=seeded(1)), seeded(seed))
    assert y.shape == (1, 3, height, width) and y.isfinite().all() and y.min() >= 0 and y.max() <= 1


def test_choices_come_as_often_as_published():
    draws = [draw(seed, SecondOrder()) for seed in range(DRAWS)]
    seen = Counter()
    for drawn in draws:
        for name, part in (("first", drawn.first), ("second", drawn.second)):
            way = "larger" if part.factor > 1 else "smaller" if part.factor < 1 else "same"
            seen.update({(name, way), (name, part.noise.kind), (name, part.mode)})
            seen[name, "grey"] += part.noise.is_grey
            seen[name, "blur"] += part.kernel is not None
        seen["end", "sinc"] += drawn.sinc is not None
        seen["end", "jpeg last"] += drawn.is_jpeg_last
    published = {
        ("first", "larger"): 0.2, ("first", "smaller"): 0.7, ("first", "same"): 0.1,
        ("second", "larger"): 0.3, ("second", "smaller"): 0.4, ("second", "same"): 0.3,
        ("first", "gaussian"): 0.5, ("second", "gaussian"): 0.5,
        ("first", "grey"): 0.4, ("second", "grey"): 0.4,
        ("first", "area"): 1 / 3, ("second", "bicubic"): 1 / 3,
        ("second", "blur"): 0.8, ("end", "sinc"): 0.8, ("end", "jpeg last"): 0.5,
    }  # fmt: skip
    for what, odds in published.items():
        assert abs(seen[what] - DRAWS * odds) < 4.5 * math.sqrt(DRAWS * odds * (1 - odds)), (what, seen[what])
    assert seen["first", "blur"] == DRAWS


def test_ranges_are_the_published_ones_and_used_to_their_ends():
    draws = [draw(seed, SecondOrder()) for seed in range(DRAWS)]
    published = {
        "first": {"factor": (0.15, 1.5), "gaussian": (1, 30), "poisson": (0.05, 3), "sigma": (0.2, 3)},
        "second": {"factor": (0.3, 1.2), "gaussian": (1, 25), "poisson": (0.05, 2.5), "sigma": (0.2, 1.5)},
    }
    for stage, ranges in published.items():
        parts = [getattr(drawn, stage) for drawn in draws]
        kernels = [part.kernel for part in parts if part.kernel and part.kernel.shape != "sinc"]
        values = {name: [p.noise.strength for p in parts if p.noise.kind == name] for name in ("gaussian", "poisson")}
        values |= {name: [getattr(part, name) for part in parts] for name in ("factor", "quality")}
        values["sigma"] = [kernel.sigmas[0] for kernel in kernels]
        for name, (low, high) in (ranges | {"quality": (30, 95)}).items():
            room = 0.02 * (high - low)
            assert low <= min(values[name]) < low + room and high - room < max(values[name]) <= high, (stage, name)
    assert all(math.pi / 3 <= drawn.sinc.cutoff <= math.pi for drawn in draws if drawn.sinc)


def test_faces_are_drawn_as_published():
    draws = [draw_face(seed, FaceRecipe()) for seed in range(DRAWS)]
    for values, low, high in (
        ([d.kernel.sigmas[0] for d in draws], 0.1, 10),
        ([d.smaller for d in draws], 0.8, 8),
        ([d.sigma for d in draws], 0, 20),
        ([d.quality for d in draws], 60, 100),
    ):
        room = 0.02 * (high - low)
        assert low <= min(values) < low + room and high - room < max(values) <= high
    assert {d.kernel.size for d in draws} == {41}
    for count, odds in (
        (sum(d.kernel.shape == "iso" for d in draws), 0.5),
        (sum(d.shift != (0, 0, 0) for d in draws), 0.3),
        (sum(d.changes != () for d in draws), 0.3),
        (sum(d.is_grey for d in draws), 0.01),
    ):
        assert abs(count - DRAWS * odds) < 4.5 * math.sqrt(DRAWS * odds * (1 - odds)), (count, odds)
    assert {d.changes[0][0] for d in draws if d.changes} == set(CHANGES)  # any may come first


def test_grey_faces_stay_grey_without_colour_changes(photo):
    grey = photo.mean(0, keepdim=True).expand(3, -1, -1)[None]
    y = degrade_faces(grey, seeded(0), FaceRecipe(sigma=(0, 0), shifted=0, coloured=0))
    assert (y.amax(1) - y.amin(1)).max() < 1e-6


@pytest.mark.parametrize("is_grey", [True, False])
def test_gaussian_noise_has_its_sigma(is_grey):
    added = noisy(torch.full((1, 3, 200, 200), 0.5), Noise("gaussian", 20.0, is_grey), seeded(0)) - 0.5
    assert added.std().item() * 255 == pytest.approx(20, rel=0.02)
    assert (added.amax(1) - added.amin(1)).max().item() == pytest.approx(0, abs=1e-6) or not is_grey


def test_poisson_noise_grows_with_brightness_as_the_root():
    values = torch.arange(256) / 255  # 256 different values: white counts 256 photons
    x = values.repeat(1, 3, 400, 1)
    variance = (noisy(x, Noise("poisson", 1.0, is_grey=False), seeded(0)) - x)[..., 10:200].var((0, 1, 2))
    torch.testing.assert_close(variance / (values[10:200] / 256), torch.ones(190), atol=0.2, rtol=0)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_by_nothing_changes_nothing(photo, name):
    torch.testing.assert_close(adjusted(photo[None], name, 0.0 if name == "hue" else 1.0)[0], photo, atol=1e-5, rtol=0)


@pytest.mark.parametrize("turns", [-0.1, 0.1, 1 / 3, 0.5])
def test_hue_turns_as_torchvision_turns_it(photo, turns):
    from torchvision.transforms.functional import adjust_hue

    turned = turns if turns <= 0.5 else turns - 1
    torch.testing.assert_close(adjusted(photo[None], "hue", turns)[0], adjust_hue(photo, turned), atol=2e-5, rtol=0)


@pytest.mark.parametrize("amount", [0.5, 1.4])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_other_changes_are_torchvisions_too(photo, name, amount):
    from torchvision.transforms import functional

    expected = getattr(functional, f"adjust_{name}")(photo, amount)
    torch.testing.assert_close(adjusted(photo[None], name, amount)[0], expected, atol=2e-3, rtol=0)
