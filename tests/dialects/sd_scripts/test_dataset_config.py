"""The dataset config of sd-scripts: what each subset is trained with, and sentences about what cannot be followed."""

import json
import textwrap
from pathlib import Path

import pytest

from calotype.dialects.sd_scripts.config import read_config
from calotype.dialects.sd_scripts.dataset_config import read_dataset_config, with_defaults
from calotype.errors import CalotypeError
from calotype.options import read
from calotype.tasks import TrainLora

DOCUMENTED = """
    [general]
    shuffle_caption = true
    caption_extension = '.txt'
    keep_tokens = 1
    keep_tokens_separator = '|||'

    [[datasets]]
    resolution = 512
    batch_size = 4
    keep_tokens = 2
    enable_bucket = true
    min_bucket_reso = 128

      [[datasets.subsets]]
      image_dir = 'hoge'
      class_tokens = 'hoge girl'
      num_repeats = 10

      [[datasets.subsets]]
      image_dir = 'fuga'
      keep_tokens = 3
      shuffle_caption = false
      alpha_mask = true
      caption_prefix = "best, "

      [[datasets.subsets]]
      is_reg = true
      image_dir = 'reg'
      keep_tokens = 1

    [[datasets]]
    resolution = [768, 640]
    batch_size = 2
      [[datasets.subsets]]
      image_dir = 'piyo'
      metadata_file = 'piyo/md.json'
      cache_info = true
"""


def written(folder, text, name="d.toml"):
    path = folder / name
    path.write_text(textwrap.dedent(text), "utf-8")
    return path


def test_a_subset_overrides_its_dataset_and_that_the_general_options(tmp_path):
    config = read_dataset_config(written(tmp_path, DOCUMENTED))
    first, second, regularization, listed = config.subsets
    assert [subset.dataset for subset in config.subsets] == [0, 0, 0, 1] and not config.notes
    assert [subset.options["keep_tokens"] for subset in config.subsets] == [2, 3, 1, 1]
    assert [subset.options["shuffle_caption"] for subset in config.subsets] == [True, False, True, True]
    assert first.options["train_batch_size"] == 4 and listed.options["train_batch_size"] == 2
    assert first.options["resolution"] == "512" and listed.options["resolution"] == "768x640"
    assert first.options["dataset_repeats"] == 10 and "dataset_repeats" not in second.options
    assert first.options["min_bucket_reso"] == 128 and "min_bucket_reso" not in listed.options
    assert second.options["alpha_mask"] and second.options["caption_prefix"] == "best, " and first.class_tokens
    assert (first.image_dir, first.is_reg, regularization.is_reg) == ("hoge", False, True)
    assert (listed.metadata_file, second.class_tokens) == ("piyo/md.json", "")
    assert all(subset.options["keep_tokens_separator"] == "|||" for subset in config.subsets)


def test_json_says_the_same(tmp_path):
    import tomllib

    path = written(tmp_path, DOCUMENTED)
    (tmp_path / "d.json").write_text(json.dumps(tomllib.loads(path.read_text())), "utf-8")
    first, second = read_dataset_config(path).subsets, read_dataset_config(tmp_path / "d.json").subsets
    assert [(s.options, s.own, s.image_dir) for s in first] == [(s.options, s.own, s.image_dir) for s in second]


SUBSET = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'x'\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SUBSET + "keep_token = 1", "subset 1 has unknown options: keep_token, did you mean keep_tokens?"),
        ("[general]\nshufle_caption = true\n" + SUBSET, "[general] has unknown options: shufle_caption"),
        ("[[dataset]]\n" + SUBSET, "unknown options: dataset, did you mean datasets?"),
        (SUBSET + "resolution = 512", "subset 1: resolution belongs into [general] or [[datasets]]"),
        (SUBSET + "batch_size = 2", "subset 1: batch_size belongs into [general] or [[datasets]]"),
        ("[general]\nimage_dir = 'x'\n" + SUBSET, "image_dir belongs into [[datasets.subsets]]"),
        (SUBSET + "learning_rate = 1", "learning_rate is no option of a dataset config; give it on the command line"),
        (
            SUBSET + "num_repeats = 'many'",
            "subset 1, num_repeats: dataset_repeats takes a whole number",
        ),
        (SUBSET + "keep_tokens = true", "subset 1: keep_tokens takes a whole number, not True"),
        (SUBSET + "caption_dropout_rate = 2", "caption_dropout_rate takes values from 0 up to 1"),
        (SUBSET + "is_reg = 'yes'", "is_reg is true or false, not 'yes'"),
        (SUBSET + "class_tokens = 3", "class_tokens is a text in quotation marks, not 3"),
        (SUBSET + "face_crop_aug_range = [2.0, 4.0]", "sets face_crop_aug_range, which Calotype does not support"),
        (SUBSET + "token_warmup_step = 100", "sets token_warmup_step, which Calotype does not support; remove it"),
        ("[[datasets]]\nresolution = 512", "dataset 1 has no [[datasets.subsets]]"),
        ("[general]\nkeep_tokens = 1", "has no [[datasets]]"),
        ("[[datasets]]\n[[datasets.subsets]]\nnum_repeats = 1", "subset 1 has no image_dir"),
        ("[datasets]\nresolution = 512", "datasets is a list, written as [[datasets]]"),
        ("general = 3\n" + SUBSET, "general is a table of options, not 3"),
        ("[[datasets]\n", "is not valid TOML"),
        ("x = " + "[" * 5000, "is not valid TOML"),
    ],
)
def test_what_cannot_be_followed_is_one_sentence(tmp_path, text, words):
    with pytest.raises(CalotypeError) as caught:
        read_dataset_config(written(tmp_path, text))
    assert words in str(caught.value) and "\n" not in str(caught.value) and "d.toml" in str(caught.value)


def test_options_without_effect_are_accepted(tmp_path):
    text = "token_warmup_min = 1\ntoken_warmup_step = 0.0\ncustom_attributes = {}\ncache_info = true\n"
    [subset] = read_dataset_config(written(tmp_path, SUBSET + text)).subsets
    assert subset.options == {}
    config = read_dataset_config(written(tmp_path, SUBSET + "resize_interpolation = 'area'"))
    assert [str(note) for note in config.notes] == [
        "photos are downscaled by area and upscaled by Lanczos interpolation"
    ]


def test_paths_are_of_the_working_folder_and_else_beside_the_file(tmp_path, monkeypatch):
    for place in ("here/photos", "configs/photos", "configs/only", "configs/deep/er"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    config = read_dataset_config(written(tmp_path / "configs", SUBSET))
    assert config.located("photos") == (Path("photos"), False)
    assert config.located("only") == (tmp_path / "configs" / "only", True)
    assert config.located("here/photos") == (tmp_path / "here" / "photos", True)  # as in the file's parent folder
    assert config.located("deep\\er") == (tmp_path / "configs" / "deep" / "er", True)
    assert config.located("nowhere") == (Path("nowhere"), False)
    assert config.located(str(tmp_path / "here")) == (tmp_path / "here", False)


@pytest.mark.parametrize("name", ["a.toml", "a.sh", "a.ps1", "a.json"])
def test_settings_of_each_kind_name_a_dataset_config(tmp_path, name):
    path = written(tmp_path, DOCUMENTED)
    texts = {
        "a.toml": "pretrained_model_name_or_path = 'm.safetensors'\ndataset_config = 'd.toml'\nmasked_loss = true\n",
        "a.sh": "accelerate launch train_network.py --dataset_config='d.toml' --masked_loss --vae_batch_size 1\n",
        "a.ps1": "$ext = @('--dataset_config=d.toml', '--masked_loss')\naccelerate launch train_network.py $ext\n",
        "a.json": '{"LoRA_type": "Standard", "dataset_config": "d.toml", "masked_loss": true, "train_data_dir": ""}',
    }
    config = read_config(written(tmp_path, texts[name], name))
    task = read(TrainLora, config.options)
    assert not any("enable_bucket" in str(note) for note in config.notes)  # which the dataset config says
    assert task.dataset_config == path and task.masked_loss and task.photos is None


def test_a_dataset_config_itself_may_be_given_as_settings(tmp_path):
    path = written(tmp_path, DOCUMENTED)
    assert read_config(path).options == {"dataset_config": path}


def test_options_that_it_lacks_have_the_defaults_of_sd_scripts(tmp_path):
    path = written(tmp_path, DOCUMENTED)  # its second dataset has no enable_bucket
    options, notes = with_defaults({"dataset_config": path, "train_batch_size": "8", "network_dim": 4})
    assert options["enable_bucket"] is False and "caption_extension" not in options
    assert [str(note) for note in notes] == [
        "options missing in d.toml have sd-scripts' defaults: no enable_bucket",
        "d.toml overrides train_batch_size of the command line or settings, as in sd-scripts",
    ]
    options, notes = with_defaults({"dataset_config": path, "enable_bucket": True})
    assert options["enable_bucket"] is True and not notes
