"""Old prints: seeded, worse with the amount, in range, and looking old in ways that can be measured."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.ops.degrade import AgeRecipe, age, age_texture, faded

CLEAN = dict.fromkeys(("grain", "texture", "stains", "vignette", "scratches", "specks"), 0.0)


def error(a, b):
    return (a - b).square().mean().sqrt().item()


def test_the_same_seed_ages_the_same_way(photo):
    before = torch.get_rng_state()
    assert torch.equal(age(photo, 5), age(photo, 5))
    assert not torch.equal(age(photo, 5), age(photo, 6))
    assert torch.equal(before, torch.get_rng_state())


def test_nothing_is_nothing_and_more_is_worse(photo):
    kept = photo.clone()
    harm = [error(age(photo, 1, amount), photo) for amount in (0, 0.25, 0.5, 1.0)]
    assert harm[0] == 0 and harm == sorted(harm) and harm[-1] > 0.05
    assert torch.equal(photo, kept)


def test_it_fades_yellows_and_loses_colour():
    white, black = (age(torch.full((3, 64, 64), v), 0).mean((1, 2)) for v in (1.0, 0.0))
    assert white[2] < white[1] < white[0] < 0.96 and black.min() > 0.03
    red = torch.tensor([0.9, 0.1, 0.1])[:, None, None].expand(3, 64, 64)
    faded = age(red, 0, recipe=AgeRecipe(**CLEAN)).mean((1, 2))
    assert faded.max() - faded.min() < 0.5


def test_each_kind_of_wear_does_something_and_alone_nothing_else(photo):
    untouched = AgeRecipe(**CLEAN, blur=0, fading=0, toning=0, smaller=1, quality=100)
    assert error(age(photo, 3, recipe=untouched), photo) < 0.02  # JPEG at its best
    for name in AgeRecipe.__dataclass_fields__:
        recipe = AgeRecipe(**{**vars(untouched), name: getattr(AgeRecipe(), name)})
        assert name == "grain_size" or not torch.equal(age(photo, 3, recipe=recipe), age(photo, 3, recipe=untouched)), (
            name
        )


def test_grain_has_the_strength_it_says():
    flat = torch.full((3, 256, 256), 0.5)
    wear = AgeRecipe(**{**CLEAN, "grain": 0.04}, blur=0, fading=0, toning=0, smaller=1, quality=100)
    assert 0.03 < (age(flat, 0, recipe=wear).mean(0) - 0.5).std() < 0.05


def test_damage_keeps_its_size_in_the_picture():
    wear = AgeRecipe(**{**CLEAN, "scratches": 6.0, "specks": 30.0}, blur=0, fading=0, toning=0, smaller=1, quality=100)
    shares = []
    for side in (256, 512, 1024):
        damaged = (age(torch.full((3, side, side), 0.5), 4, recipe=wear) - 0.5).abs().amax(0) > 0.08
        shares.append(damaged.float().mean().item())
    assert 0.0002 < shares[1] < 0.03 and max(shares) < 2 * min(shares)


@given(height=st.integers(1, 80), width=st.integers(1, 80), seed=st.integers(0, 2**62), amount=st.floats(0.01, 2))
@settings(max_examples=40, deadline=None)
def test_any_picture_keeps_its_shape_and_range(height, width, seed, amount):
    x = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    y = age(x, seed, amount)
    assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all() and y.min() >= 0 and y.max() <= 1


def test_what_is_worn_keeps_its_tones(photo):
    damaged, old = age_texture(photo, 3, 1.0, min(photo.shape[-2:])), age(photo, 3)
    assert error(damaged, photo) > 0.02
    tones = [(x.mean((1, 2)) - photo.mean((1, 2))).abs().max().item() for x in (damaged, old)]
    assert tones[0] < 0.02 < tones[1]
    assert error(age_texture(photo, 3, 0.0, 512), photo) < 1e-6


def test_a_small_print_is_damaged_more_coarsely():
    """Neighbouring pixels of the damage differ less."""
    flat = torch.full((3, 256, 256), 0.5)
    fine, coarse = (age_texture(flat, 5, 1.0, size) - flat for size in (256, 64))
    rough = [((x[:, 1:] - x[:, :-1]).square().mean() / x.square().mean()).item() for x in (fine, coarse)]
    assert rough[1] < rough[0] / 3


@given(height=st.integers(1, 60), width=st.integers(1, 60), size=st.integers(1, 600), amount=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_anything_can_be_worn(height, width, size, amount):
    x = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    y = age_texture(x, 1, amount, size)
    assert y.shape == x.shape and y.isfinite().all() and y.min() >= 0 and y.max() <= 1


def test_fading_alone_blurs_nothing(photo):
    """A straight line for each channel explains it, but for slow stains."""
    x = photo.mean(0, keepdim=True).expand(3, -1, -1)
    y = faded(x[None], torch.Generator().manual_seed(0), amount=1.0)[0]
    for one, other in zip(x, y, strict=True):
        assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.97
    assert y.mean((1, 2))[0] > y.mean((1, 2))[2] + 0.03
