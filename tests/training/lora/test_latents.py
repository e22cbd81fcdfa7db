"""Photos as latents: kept on disk by content, outside the photos' folder; and photos that each step sees otherwise."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from calotype.tasks import TrainLora
from calotype.training.data.buckets import Fit
from calotype.training.data.dataset import Example
from calotype.training.lora.latents import batch_latents, color_jitter, load_example

FIT = Fit((64, 32), (80, 32), (80, 32))


@pytest.fixture(scope="module")
def model(engine):
    return engine.models.diffusion("emoji")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 80, 3), np.uint8)).save(path)
    return Example(path, "a")


def made(photo, model, home, sha256="one", **options):
    task = TrainLora(photos=Path("x"), **options)
    with torch.inference_mode():
        return load_example(photo, FIT, sha256, task, model, 10**8, home), task


def test_latents_are_kept_by_content_outside_the_photos(photo, model, tmp_path):
    options = {"cache_latents_to_disk": True, "flip_aug": True}
    first, _ = made(photo, model, tmp_path / "home", **options)
    [kept] = (tmp_path / "home" / "latents").rglob("*.safetensors")
    assert [path.name for path in photo.path.parent.iterdir()] == ["a.png"] and len(first.latents) == 2
    photo.path.write_bytes(b"nobody looks here again")
    second, _ = made(photo, model, tmp_path / "home", **options)
    assert all(torch.equal(one, two) for one, two in zip(first.latents, second.latents, strict=True))

    Image.new("RGB", (80, 32), "red").save(photo.path)  # the same name and size, other content
    third, _ = made(photo, model, tmp_path / "home", "two", **options)
    assert not torch.equal(first.latents[0], third.latents[0])
    [other] = {*(tmp_path / "home" / "latents").rglob("*.safetensors")} - {kept}
    other.write_bytes(other.read_bytes()[:100])  # damaged: made anew
    fourth, _ = made(photo, model, tmp_path / "home", "two", **options)
    assert torch.equal(fourth.latents[0], third.latents[0]) and len(list((tmp_path / "home").rglob("*.part"))) == 0


@pytest.mark.slow
def test_latents_are_a_sample_by_the_photos_content_and_the_runs_seed(photo, model, tmp_path):
    with torch.inference_mode():
        pixels = torch.from_numpy(np.asarray(Image.open(photo.path)).copy()).permute(2, 0, 1)[None, :, :, 8:72] / 255
        mean, deviation = model.encode(pixels)
    assert torch.equal(mean, model.encode_mean(pixels)) and deviation.min() > 0

    def latents(sha256="one", **options):
        return made(photo, model, tmp_path / "home", sha256, flip_aug=True, **options)[0].latents

    (first, mirrored), (again, _), (other, _), (content, _) = latents(), latents(), latents(seed=1), latents("two")
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first, content)
    assert not torch.equal(first, mirrored)
    drawn = [latents(seed=seed)[0] for seed in range(40)]
    off = torch.stack([(one - mean[0]) / deviation[0] for one in drawn])
    assert abs(float(off.mean())) < 0.05 and float(off.std()) == pytest.approx(1, abs=0.05)
    for _ in range(2):  # made and kept; then read
        kept = latents(cache_latents_to_disk=True)
        assert torch.equal(kept[0], first) and torch.equal(kept[1], mirrored)
    assert torch.equal(latents(seed=1, cache_latents_to_disk=True)[0], other)
    assert len(list((tmp_path / "home").rglob("*.safetensors"))) == 1


def test_what_changes_is_seen_anew_by_each_step_and_the_same_by_the_same(photo, model, tmp_path):
    one, task = made(
        photo, model, tmp_path, random_crop=True, color_aug=True, flip_aug=True, cache_latents_to_disk=True
    )
    assert not one.latents and not list(tmp_path.rglob("latents"))
    seen = [batch_latents([one, one], [task, task], model, random.Random(seed))[0] for seed in (1, 1, 2)]
    assert seen[0].shape == (2, 4, 32 // model.factor, 64 // model.factor)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])

    whole, plain = made(photo, model, tmp_path, color_aug=True)  # which changes nothing in most steps
    seen = [batch_latents([whole], [plain], model, random.Random(seed))[0] for seed in range(8)]
    with torch.inference_mode():
        mean, deviation = model.encode(whole.pixels[None, :, :, 8:72] / 255)
    assert sum(0.7 < float(((one - mean) / deviation).std()) < 1.3 for one in seen) >= 3


def test_colors_change_a_third_of_the_time_and_only_a_little():
    pixels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = [color_jitter(pixels, random.Random(seed)) for seed in range(400)]
    other = [one for one in found if not torch.equal(one, pixels)]
    assert 100 < len(other) < 165
    assert all(one.min() >= 0 and one.max() <= 1 and (one - pixels).abs().mean() < 0.06 for one in other)
    grey = torch.full((3, 8, 8), 0.5)  # has no hue: only its brightness can change
    assert all(len(color_jitter(grey, random.Random(n)).unique()) == 1 for n in range(50))
    bright = [float(color_jitter(grey, random.Random(n)).mean()) for n in range(400)]
    assert min(bright) >= 0.5**1.05 - 1e-6 and max(bright) <= 0.5**0.95 + 1e-6
