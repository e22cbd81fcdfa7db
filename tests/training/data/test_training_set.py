"""Which pictures a LoRA run trains on, with which captions, repeats and masks."""

import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.errors import CalotypeError
from calotype.tasks import TrainLora
from calotype.training.data.masks import read_mask
from calotype.training.data.training_set import find_training_set


def draw(path, size=(16, 16), color="red", mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with three folders of pictures."""
    for folder, count in (("5_zkz", 3), ("other", 2), ("reg", 4)):
        for n in range(count):
            draw(tmp_path / folder / f"{n}.png")
    (tmp_path / "5_zkz" / "0.txt").write_text("zkz, smile\nsecond line", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(place, text, **options):
    path = place / "d.toml"
    path.write_text(textwrap.dedent(text), "utf-8")
    return find_training_set(TrainLora(dataset_config=path, **options))


def named(photos):
    return [(photo.path.parent.name, photo.path.stem) for photo in photos]


TWO = """
    [general]
    shuffle_caption = true
    [[datasets]]
    resolution = 64
    batch_size = 2
      [[datasets.subsets]]
      image_dir = '5_zkz'
      class_tokens = 'zkz girl'
      num_repeats = 3
      flip_aug = true
      [[datasets.subsets]]
      image_dir = 'reg'
      class_tokens = 'girl'
      is_reg = true
      num_repeats = 2
    [[datasets]]
    resolution = 96
      [[datasets.subsets]]
      image_dir = '5_zkz'
      shuffle_caption = false
      [[datasets.subsets]]
      image_dir = 'other'
      class_tokens = 'cat'
"""


def test_subsets_have_their_own_pictures_captions_repeats_and_options(place):
    found = configured(place, TWO, dataset_repeats=7, keep_tokens=2, flip_aug=False)
    of = {n: [photo for photo in found.photos if photo.subset == n] for n in range(4)}
    assert [photo.caption for photo in of[0]] == ["zkz, smile", "zkz girl", "zkz girl"]
    assert [photo.has_caption_file for photo in of[0]] == [True, False, False]
    assert [photo.caption for photo in of[2]] == ["zkz, smile", "", ""]  # the folder's name has no meaning
    assert [photo.repeats for photo in (*of[0], *of[2], *of[3])] == [3, 3, 3, 7, 7, 7, 7, 7]
    # of the first dataset alone: 3 x 3 repeats take all four images and one more repeat
    assert [(p.repeats, p.is_regularization) for p in of[1]] == [(3, True), (2, True), (2, True), (2, True)]
    assert found.datasets == (0, 0, 1, 1) and found.validation == ()
    assert [task.shuffle_caption for task in found.subsets] == [True, True, False, True]
    assert [task.flip_aug for task in found.subsets] == [True, False, False, False]
    assert [task.resolution for task in found.subsets] == ["64", "64", "96", "96"]
    assert [task.train_batch_size for task in found.subsets] == [2, 2, 1, 1]
    assert {task.keep_tokens for task in found.subsets} == {2} and not found.notes


def test_subsets_that_sd_scripts_leaves_out_are_named(place):
    text = "[[datasets]]\n" + "[[datasets.subsets]]\nimage_dir='other'\n" * 2
    text += "[[datasets.subsets]]\nimage_dir='nowhere'\nnum_repeats=0\n"
    text += "[[datasets]]\n[[datasets.subsets]]\nimage_dir='other'\n"
    text += "[[datasets]]\n[[datasets.subsets]]\nimage_dir='reg'\nis_reg=true\n"
    found = configured(place, text)
    assert named(found.photos) == [("other", "0"), ("other", "1")] * 2  # in another dataset it is not left out
    notes = [str(note).replace(str(place), "") for note in found.notes]
    assert notes == [
        "/d.toml, dataset 1, subset 2 is left out: its folder is in this dataset already",
        "/d.toml, dataset 1, subset 3 is left out: its num_repeats is 0",
        "d.toml, dataset 3 has regularization images alone, which are not used: they belong to the photos of their "
        "dataset",
    ]
    found = configured(place, text, photos=Path("5_zkz"), regular=Path("reg"))
    assert "5_zkz, reg are not used: the folders of d.toml are, as in sd-scripts" in map(str, found.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_dir='nowhere'", "subset 1: there is no folder nowhere, neither in the working folder nor beside"),
        ("image_dir='.'", "has no pictures directly in it, but 3 in 5_zkz, 2 in other, 4 in reg; give that folder"),
        ("image_dir='empty'", "empty has no pictures in it; put photos there"),
        ("image_dir='reg'\nis_reg=true", "has no photos to train on, only regularization images"),
        ("image_dir='other'\ncaption_extension='a/b'", "subset 1: caption_extension is such as .txt"),
        ("image_dir='other'\nconditioning_data_dir='reg'", "masks, which only masked_loss uses; give it too"),
        ("metadata_file='none.json'", "none.json cannot be read"),
    ],
)
def test_folders_that_cannot_be_used_are_one_sentence(place, text, words):
    (place / "empty").mkdir()
    with pytest.raises(CalotypeError) as caught:
        configured(place, "[[datasets]]\n[[datasets.subsets]]\n" + text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_beside_the_file_is_used_with_a_note(place, monkeypatch):
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    found = configured(place, "[[datasets]]\n[[datasets.subsets]]\nimage_dir='other'\n")
    assert named(found.photos) == [("other", "0"), ("other", "1")]
    [note] = found.notes
    assert str(note) == (
        f"other of d.toml is not in the working folder, where sd-scripts looks for it; {place / 'other'} is used"
    )


def test_validation_photos_are_chosen_in_each_dataset(place):
    text = "[general]\nvalidation_seed=3\n[[datasets]]\nvalidation_split=0.4\n[[datasets.subsets]]\nimage_dir='5_zkz'\n"
    text += "[[datasets]]\n[[datasets.subsets]]\nimage_dir='other'\n"
    found = configured(place, text)
    assert len(found.validation) == 1 and len(found.photos) == 4 and found.validation[0].subset == 0


ENTRIES = {
    "0.png": {"caption": "a cat\na pet", "tags": "red, square", "image_size": [16, 16]},
    "1": {"tags": "blue"},
    "gone.png": {"caption": "nothing"},
}


@pytest.mark.parametrize("name", ["md.json", "md.jsonl"])
def test_a_metadata_file_names_pictures_and_captions(place, name):
    lines = [json.dumps({"image_path": key, **entry}) for key, entry in ENTRIES.items()]
    (place / name).write_text(json.dumps(ENTRIES) if name == "md.json" else "\n".join(lines), "utf-8")
    text = f"[[datasets]]\n[[datasets.subsets]]\nimage_dir='other'\nmetadata_file='{name}'\nnum_repeats=2\n"
    found = configured(place, text)
    assert [(p.path.name, p.caption, p.repeats) for p in found.photos] == [
        ("0.png", "a cat,red, square", 2),
        ("1.png", "blue", 2),
    ]
    assert [str(note) for note in found.notes] == [f"left out: 1 picture of {name} does not exist (gone.png)"]
    found = configured(place, text + "enable_wildcard=true")
    assert found.photos[0].caption == "a cat,red, square\na pet,red, square"
    found = find_training_set(TrainLora(photos=place / "other", in_json=place / name, dataset_repeats=4))
    assert [(photo.path.name, photo.repeats) for photo in found.photos] == [("0.png", 4), ("1.png", 4)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "is no metadata file of sd-scripts"),
        ('{"a.png": "a cat"}', "is no metadata file of sd-scripts"),
        ("{}", "is no metadata file of sd-scripts"),
        ("{", "is not valid JSON"),
        ('{"0.png": {"caption": 3}}', "caption and tags of 0.png are texts, not 3"),
        ('{"x.png": {"caption": "x"}}', "none of the 1 pictures of"),
    ],
)
def test_metadata_files_that_cannot_be_used_are_one_sentence(place, text, words):
    (place / "md.json").write_text(text, "utf-8")
    with pytest.raises(CalotypeError) as caught:
        find_training_set(TrainLora(photos=place / "other", in_json=place / "md.json"))
    assert words in str(caught.value) and "\n" not in str(caught.value)


# ------------------------------------------------------------------ masks


def test_masks_are_found_by_name_and_regularization_images_have_none(place):
    for name in ("0.png", "1.webp", "2.bmp", "9.png"):
        draw(place / "masks" / name, color="white")
    text = TWO.split("[[datasets]]\n    resolution = 96")[0]
    found = configured(
        place, text.replace("class_tokens = 'zkz girl'", "conditioning_data_dir = 'masks'"), masked_loss=1
    )
    assert [photo.mask and photo.mask.name for photo in found.photos] == ["0.png", "1.webp", "2.bmp"] + 4 * [None]
    assert [str(note) for note in found.notes] == ["1 mask in masks has no photo (9.png)"]


def test_masks_of_folders_with_repeats_may_be_in_folders_of_the_same_name(place):
    draw(place / "set" / "2_a" / "x.png"), draw(place / "set" / "3_b" / "x.png"), draw(place / "set" / "3_b" / "y.png")
    draw(place / "masks" / "2_a" / "x.png"), draw(place / "masks" / "3_b" / "x.png"), draw(place / "masks" / "y.png")
    options = {"masked_loss": True, "conditioning_data_dir": place / "masks", "regular": place / "reg"}
    found = find_training_set(TrainLora(photos=place / "set", **options))
    masks = [photo.mask and photo.mask.relative_to(place / "masks").as_posix() for photo in found.photos]
    assert masks[:3] == ["2_a/x.png", "3_b/x.png", "y.png"] and not any(masks[3:]) and len(masks) > 3


def test_alpha_masks_regularization_images_only_where_their_subset_says_so(place):
    found = configured(place, TWO, alpha_mask=True)
    assert [task.alpha_mask for task in found.subsets] == [True, False, True, True]
    found = configured(place, TWO.replace("is_reg = true", "is_reg = true\n      alpha_mask = true"))
    assert [task.alpha_mask for task in found.subsets] == [False, True, False, False]


def test_photos_without_mask_and_masks_without_use_are_one_sentence(place):
    draw(place / "masks" / "0.png")
    task = {"photos": place / "5_zkz", "conditioning_data_dir": place / "masks"}
    for options, words in (
        ({**task, "masked_loss": True}, "2 photos have no mask in"),
        (task, "is for masks, which only masked_loss uses"),
        ({"photos": place / "other", "masked_loss": True}, "masked_loss needs masks: give their folder"),
        ({**task, "masked_loss": True, "conditioning_data_dir": place / "no"}, "no for masks; check the name"),
    ):
        with pytest.raises(CalotypeError) as caught:
            find_training_set(TrainLora(**options))
        assert words in str(caught.value)


def test_a_mask_is_the_red_channel_and_has_the_size_of_its_photo(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, :3, 0], pixels[:, 3:, 1] = 200, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask, _ = read_mask(tmp_path / "a.png", (6, 4), 10**6)
    assert mask.shape == (4, 6, 1) and (mask[:, :3] == 200).all() and (mask[:, 3:] == 0).all()
    with pytest.raises(CalotypeError, match=r"a.png is 6x4, but its photo 12x8; give it the same size"):
        read_mask(tmp_path / "a.png", (12, 8), 10**6)
