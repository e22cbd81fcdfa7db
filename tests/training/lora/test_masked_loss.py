"""Masked training: masks stay with their photos, and weigh the loss as in sd-scripts."""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from calotype.tasks import TrainLora
from calotype.training.data.buckets import Fit
from calotype.training.data.dataset import Example
from calotype.training.lora.latents import batch_latents, load_example
from calotype.training.optim.diffusion_loss import Loss

FIT = Fit((64, 48), (96, 48), (48, 24))  # enlarged twice, then cropped to two thirds
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 2, (6, 12), np.uint8).repeat(4, 0).repeat(4, 1) * 255  # (24, 48), black and white squares


def encoded(views):
    """Latents that show the picture, so that a mask can be compared with them: its red channel by area."""
    red = F.avg_pool2d(views[:, :1], 8)
    return red, torch.zeros_like(red)


MODEL = SimpleNamespace(
    encode=encoded, factor=8, sha256="x", name="x", vae=SimpleNamespace(dtype=torch.float32), multiple=8
)


@pytest.fixture(params=["mask", "alpha"])
def masked(request, tmp_path):
    """A photo whose mask looks as it does: by a picture or by its alpha channel."""
    picture = np.stack([GREY, 255 - GREY, 0 * GREY], 2)
    if request.param == "alpha":
        Image.fromarray(np.dstack([picture, GREY])).save(tmp_path / "a.png")
        return Example(tmp_path / "a.png", ""), {"alpha_mask": True}
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture).save(tmp_path / "mask.png")  # of which only the red channel counts
    return Example(tmp_path / "a.png", "", mask=tmp_path / "mask.png"), {}


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [({}, 1, 1), ({"flip_aug": True}, 2, 2), ({"random_crop": True, "flip_aug": True}, 10, 24)],
)
def test_a_mask_is_scaled_cropped_and_flipped_as_its_photo(masked, tmp_path, options, least, most):
    photo, more = masked
    task = TrainLora(photos=Path("x"), **options, **more)
    example = load_example(photo, FIT, "one", task, MODEL, 10**6, tmp_path)
    views = set()
    for seed in range(12):
        latents, masks = batch_latents([example, example], [task, task], MODEL, random.Random(seed))
        assert masks.shape == (2, 1, 6, 8) and masks.std() > 0.2
        assert (latents - masks).abs().max() < 0.01  # a step of 8 bits, as pixels are kept so
        views |= {tuple(mask.flatten().tolist()) for mask in masks}
    assert least <= len(views) <= most


def test_masks_do_not_change_cached_latents(masked, tmp_path):
    photo, more = masked
    unmasked = Example(photo.path, "")
    options = {"photos": Path("x"), "cache_latents_to_disk": True}
    first = load_example(unmasked, FIT, "one", TrainLora(**options), MODEL, 10**6, tmp_path)
    second = load_example(photo, FIT, "one", TrainLora(**options, **more), MODEL, 10**6, tmp_path)
    assert first.mask is None and second.mask is not None and torch.equal(first.latents[0], second.latents[0])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    third = load_example(photo, FIT, "one", TrainLora(**options, **more), MODEL, 10**6, tmp_path)  # from the cache
    assert torch.equal(second.mask, third.mask)


def test_photos_without_mask_are_trained_whole_beside_masked_ones(masked, tmp_path):
    photo, more = masked
    task, plain = TrainLora(photos=Path("x"), **more), TrainLora(photos=Path("x"), random_crop=True)
    first = load_example(photo, FIT, "one", task, MODEL, 10**6, tmp_path)
    second = load_example(Example(photo.path, ""), FIT, "two", plain, MODEL, 10**6, tmp_path)  # augmented
    latents, masks = batch_latents([first, second], [task, plain], MODEL, random.Random(0))
    assert torch.equal(masks[0], first.mask) and torch.equal(masks[1], torch.ones(1, 6, 8))
    assert torch.equal(latents[0], first.latents[0]) and 0 < latents[1].mean() < 1
    assert batch_latents([second], [plain], MODEL, random.Random(0))[1] is None


def masked_loss_of_sd_scripts(loss, conditioning_images):
    """What sd-scripts computes from masks in [-1, 1] and the loss of each value, (N, C, h, w)."""
    red = conditioning_images[:, 0].unsqueeze(1) / 2 + 0.5
    return (loss * F.interpolate(red, size=loss.shape[2:], mode="area")).mean((1, 2, 3))


@pytest.mark.parametrize("loss_type", ["l2", "l1", "huber", "smooth_l1"])
def test_the_masked_loss_is_that_of_sd_scripts(tmp_path, loss_type):
    grey = RNG.integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(grey).save(tmp_path / "mask.png"), Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    photo = Example(tmp_path / "a.png", "", mask=tmp_path / "mask.png")
    task, fit = TrainLora(photos=Path("x")), Fit((64, 48), (64, 48), (64, 48))
    mask = load_example(photo, fit, "one", task, MODEL, 10**6, tmp_path).mask[None]
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(1, 4, 6, 8, generator=generator) for _ in range(2))
    signal, progress, loss = torch.tensor([0.6]), torch.tensor([0.5]), Loss(loss_type=loss_type)
    each = torch.stack(  # the loss of each value, one at a time
        [
            loss.per_sample(p.view(1, 1, 1, 1), t.view(1, 1, 1, 1), signal, progress)[0]
            for p, t in zip(prediction.flatten(), target.flatten(), strict=True)
        ]
    ).view(1, 4, 6, 8)
    conditioning = torch.from_numpy(grey).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    expected = masked_loss_of_sd_scripts(each, conditioning)
    assert torch.allclose(loss.per_sample(prediction, target, signal, progress, mask), expected, rtol=1e-5)
    assert not torch.allclose(loss.per_sample(prediction, target, signal, progress), expected, rtol=0.1)


def test_a_masked_half_has_no_gradient():
    prediction = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mask = torch.ones(2, 1, 6, 8)
    mask[0, :, :, :4], mask[1] = 0, 0.5
    signal = torch.tensor([0.6, 0.6])
    Loss().per_sample(prediction, torch.zeros(2, 4, 6, 8), signal, signal, mask).sum().backward()
    assert (prediction.grad[0, :, :, :4] == 0).all() and (prediction.grad[0, :, :, 4:] != 0).all()
    whole = 2 * prediction.detach() / (4 * 6 * 8)  # the mean is over all values, also those that are masked out
    assert torch.allclose(prediction.grad[0, :, :, 4:], whole[0, :, :, 4:])
    assert torch.allclose(prediction.grad[1], whole[1] / 2)
