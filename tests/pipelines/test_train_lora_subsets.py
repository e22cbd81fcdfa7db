"""LoRA runs with a dataset config, and with masks: a few steps on a small model."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.pipelines import train_lora
from calotype.tasks import Note, Progress, TrainLora
from calotype.training.data import batches as plan

OPTIONS = {"model": "small", "mixed_precision": "no", "network_dim": 2, "learning_rate": 1e-3, "max_train_steps": 4}
OPTIONS |= {"save_precision": "float", "min_bucket_reso": 32, "bucket_reso_steps": 32, "resolution": "64"}


@pytest.fixture(scope="module")
def engine(small_settings):
    return Engine(dataclasses.replace(small_settings, precision="float32"))


@pytest.fixture
def photos(tmp_path):
    """Three photos whose right half is transparent, masks of them that are white on the left, and two more photos."""
    rng = np.random.default_rng(0)
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:, :32] = 255
    for folder in ("cut", "masks", "more"):
        (tmp_path / folder).mkdir()
    for n in range(3):
        picture = rng.integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "cut" / f"{n}.png")
        Image.fromarray(alpha).save(tmp_path / "masks" / f"{n}.png")
    for n in range(2):
        Image.fromarray(rng.integers(0, 255, (32, 96, 3), np.uint8)).save(tmp_path / "more" / f"{n}.png")
    return tmp_path


def learn(engine, out, stop=None, **options):
    """All events of a run, which is closed after step `stop`."""
    events, run = [], engine.run(TrainLora(output_dir=out, output_name="mine", **{**OPTIONS, **options}))
    for event in run:
        events.append(event)
        if stop and isinstance(event, Progress) and event.what.startswith("steps") and event.done == stop:
            run.close()
            break
    return events


def notes_of(events):
    return "\n".join(event.text for event in events if isinstance(event, Note))


def weights(out):
    return load_file(out / "mine.safetensors")


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first.keys() | second.keys())


def test_what_is_masked_out_is_not_trained(engine, photos):
    for n in range(3):
        Image.new("L", (64, 64), 0).save(photos / "masks" / f"{n}.png")
    masks = {"masked_loss": True, "conditioning_data_dir": photos / "masks"}
    events = learn(engine, photos / "black", photos=photos / "cut", **masks)
    assert "the loss of 3 photos is masked" in notes_of(events) and "partly transparent" not in notes_of(events)
    assert all((value == 0).all() for key, value in weights(photos / "black").items() if "lora_up" in key)

    for n in range(3):
        Image.new("L", (64, 64), 255).save(photos / "masks" / f"{n}.png")
    learn(engine, photos / "white", photos=photos / "cut", **masks)
    learn(engine, photos / "plain", photos=photos / "cut")
    assert same(weights(photos / "white"), weights(photos / "plain"))


@pytest.mark.slow
def test_alpha_and_pictures_that_show_it_mask_the_same(engine, photos):
    learn(engine, photos / "alpha", photos=photos / "cut", alpha_mask=True)
    masks = {"masked_loss": True, "conditioning_data_dir": photos / "masks"}
    learn(engine, photos / "masks-out", photos=photos / "cut", **masks)
    learn(engine, photos / "plain", photos=photos / "cut")
    first, second = weights(photos / "alpha"), weights(photos / "masks-out")
    assert same(first, second) and not same(first, weights(photos / "plain"))


@pytest.mark.slow
def test_a_masked_run_goes_on_exactly_and_other_masks_make_another_run(engine, photos):
    options = {"photos": photos / "cut", "masked_loss": True, "conditioning_data_dir": photos / "masks"}
    options |= {"flip_aug": True, "validation_split": 0.3}
    learn(engine, photos / "whole", **options)
    learn(engine, photos / "parts", stop=2, **options)
    shutil.copytree(photos / "parts", photos / "other")
    assert "going on after step 2 of 4" in notes_of(learn(engine, photos / "parts", **options))
    assert same(weights(photos / "whole"), weights(photos / "parts"))
    Image.new("L", (64, 64), 200).save(photos / "masks" / "1.png")
    Image.new("L", (64, 64), 200).save(photos / "masks" / "2.png")
    with pytest.raises(CalotypeError, match="state of a run with other pictures or settings"):
        learn(engine, photos / "other", **options)


def test_a_mask_of_another_size_leaves_its_photo_out(engine, photos):
    Image.new("L", (32, 32), 255).save(photos / "masks" / "1.png")
    options = {"photos": photos / "cut", "masked_loss": True, "conditioning_data_dir": photos / "masks"}
    text = notes_of(learn(engine, photos / "out", **{**options, "max_train_steps": 1}))
    assert "1.png is 32x32, but its photo 64x64; give it the same size" in text and "2 photos to train on" in text


CONFIG = """
[general]
enable_bucket = true
bucket_reso_steps = 32
min_bucket_reso = 32
[[datasets]]
resolution = 64
batch_size = 2
  [[datasets.subsets]]
  image_dir = '{place}/cut'
  class_tokens = 'zkz'
  num_repeats = 2
  alpha_mask = true
  flip_aug = true
[[datasets]]
resolution = [96, 32]
  [[datasets.subsets]]
  image_dir = '{place}/more'
  class_tokens = 'more'
  caption_prefix = 'best'
  random_crop = true
"""


@pytest.mark.slow
def test_datasets_train_together_each_with_its_own_size_and_batches(engine, photos, monkeypatch):
    (photos / "d.toml").write_text(CONFIG.format(place=photos), "utf-8")
    seen, batches, captions = [], plan.batches, []
    process = train_lora.process_caption
    monkeypatch.setattr(train_lora, "process_caption", lambda *args: captions.append(process(*args)) or captions[-1])
    monkeypatch.setattr(plan, "batches", lambda *args: seen.append((args, batches(*args))) or seen[-1][1])
    options = {"dataset_config": photos / "d.toml", "max_train_steps": 5}
    events = learn(engine, photos / "whole", **options)
    text = notes_of(events)
    assert "dataset 1: 3 pictures at 64x64, batch size 2" in text and "the loss of 3 photos is masked" in text
    assert "dataset 2: 2 pictures at 96x32, batch size 1" in text and "5 steps of batch size 1 or 2 in 1 epochs" in text
    assert {"zkz", "best more"} <= {*captions}
    (items, *_), chosen = seen[0]
    dataset = {item.index: item.dataset for item in items}
    assert sorted(map(len, chosen)) == [1, 1, 2, 2, 2]
    assert all(len({dataset[n] for n in batch}) == 1 for batch in chosen)
    assert {item.bucket for item in items if item.dataset == 1} == {(96, 32)}

    with safe_open(photos / "whole" / "mine.safetensors", "pt") as file:
        metadata = file.metadata()
    datasets = json.loads(metadata["ss_datasets"])
    assert [(d["resolution"], d["batch_size_per_device"], d["num_train_images"]) for d in datasets] == [
        ([64, 64], 2, 6),
        ([96, 32], 1, 2),
    ]
    assert (
        datasets[0]["subsets"][0] | {"num_repeats": 2, "img_count": 3, "alpha_mask": True} == datasets[0]["subsets"][0]
    )
    assert json.loads(metadata["ss_dataset_dirs"]) == {
        "cut": {"n_repeats": 2, "img_count": 3},
        "more": {"n_repeats": 1, "img_count": 2},
    }
    assert "ss_resolution" not in metadata and "ss_keep_tokens" not in metadata

    learn(engine, photos / "parts", stop=3, **options)
    shutil.copytree(photos / "parts", photos / "other")
    learn(engine, photos / "parts", **options)
    assert same(weights(photos / "whole"), weights(photos / "parts"))
    (photos / "d.toml").write_text(CONFIG.format(place=photos).replace("flip_aug = true", "keep_tokens = 1"), "utf-8")
    with pytest.raises(CalotypeError, match="state of a run with other pictures or settings"):
        learn(engine, photos / "other", **options)


@pytest.mark.slow
def test_one_subset_trains_as_the_same_folder_and_options(engine, photos):
    (photos / "set").mkdir()
    shutil.copytree(photos / "cut", photos / "set" / "2_zkz")
    learn(engine, photos / "plain", photos=photos / "set", train_batch_size=2, alpha_mask=True, flip_aug=True)
    text = CONFIG.format(place=photos).split("[[datasets]]\nresolution = [96")[0]
    (photos / "d.toml").write_text(text, "utf-8")
    learn(engine, photos / "config", dataset_config=photos / "d.toml")
    assert same(weights(photos / "plain"), weights(photos / "config"))


def test_a_dataset_of_regularization_images_alone_is_not_counted(engine, photos):
    text = CONFIG.format(place=photos).replace("class_tokens = 'more'", "is_reg = true")
    (photos / "d.toml").write_text(text, "utf-8")
    notes = notes_of(learn(engine, photos / "out", 1, dataset_config=photos / "d.toml", masked_loss=True))
    assert "dataset 1: 3 pictures at 64x64" in notes and "has regularization images alone" in notes
    assert "dataset 2: no photos to train on, so it is not used" in notes and "0 pictures" not in notes
    assert "4 steps of batch size 2 in" in notes


def test_without_photos_there_is_one_sentence():
    with pytest.raises(CalotypeError, match="give the folder with your photos"):
        TrainLora()
