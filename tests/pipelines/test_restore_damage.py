"""Damage is repaired where a mask or the network says so, and nowhere else; masks go out and come in again."""

import json
from random import Random

import numpy as np
import pytest
from PIL import Image
from skimage import data

from calotype.cli import main
from calotype.errors import CalotypeError
from calotype.ops.degrade.marks import damaged
from calotype.tasks import Restore

PLAIN = ("--upscaler", "none", "--face-model", "none", "--scale", "1")


def save(pixels, path):
    Image.fromarray(pixels).save(path)
    return path


def read(path):
    return np.asarray(Image.open(path))


@pytest.fixture(scope="module")
def clean():
    return np.ascontiguousarray(data.astronaut()[:224, 100:356])


@pytest.fixture
def scan(clean, tmp_path):
    """A photo with a white scratch, and the mask of it."""
    photo, mask = clean.copy(), np.zeros(clean.shape[:2], np.uint8)
    for y in range(20, 200):
        mask[y, 40 + y // 4 : 44 + y // 4] = 255
    photo[mask > 0] = 255
    return save(photo, tmp_path / "photo.png"), save(mask, tmp_path / "mask.png")


def restore(*words):
    return main(["restore", *map(str, words), *PLAIN])


def test_a_mask_is_filled_and_nothing_else_changes(clean, scan, tmp_path, capsys):
    photo, mask = scan
    assert restore(photo, "--mask", mask, "-o", tmp_path / "out.png") == 0
    result, hole = read(tmp_path / "out.png"), read(mask) > 0
    assert np.array_equal(result[~hole], clean[~hole])
    before, after = (np.abs(x[hole].astype(float) - clean[hole]).mean() for x in (read(photo), result))
    assert after < 0.15 * before
    assert "the mask covers 1.26 % of the photo, which is filled" in capsys.readouterr().err


def test_it_is_recorded_and_made_again_from_the_mask_beside_it(scan, tmp_path, capsys):
    photo, mask = scan
    assert restore(photo, "--mask", mask, "-o", tmp_path / "out.png") == 0
    record = json.loads((tmp_path / "out.png.json").read_text("utf-8"))
    assert record["options"]["mask"] == "mask.png" and len(record["computed"]["mask"]) == 64
    assert list(record["computed"]["repaired"]) == ["scratches"]
    assert main(["again", str(tmp_path / "out.png.json")]) == 0
    assert "the same to the last byte" in capsys.readouterr().out
    mask.rename(tmp_path / "elsewhere.png")
    assert main(["again", str(tmp_path / "out.png.json"), "--overwrite"]) == 2
    assert "the mask mask.png is missing or has changed" in capsys.readouterr().err


def test_another_mask_makes_another_result(scan, tmp_path, capsys):
    photo, mask = scan
    words = (photo, "--mask", mask, "-o", tmp_path / "out.png")
    assert restore(*words) == 0 and restore(*words) == 0
    painted = read(mask).copy()
    painted[:20, :20] = 255
    save(painted, mask)
    assert restore(*words) == 1
    assert "was made with another mask" in capsys.readouterr().err
    assert restore(*words, "--overwrite") == 0


def test_the_mask_is_written_beside_the_result_and_taken_again(scan, tmp_path):
    photo, mask = scan
    assert restore(photo, "--mask", mask, "--save-mask", "-o", tmp_path / "out.png") == 0
    written = tmp_path / "out-mask.png"
    assert np.array_equal(read(written), read(mask))
    assert restore(photo, "--mask", written, "-o", tmp_path / "second.png") == 0
    assert np.array_equal(read(tmp_path / "second.png"), read(tmp_path / "out.png"))


def test_where_nothing_is_repaired_the_mask_is_black_to_paint_on(clean, tmp_path):
    photo = save(clean, tmp_path / "photo.png")
    assert restore(photo, "--repair", "none", "--save-mask", "-o", tmp_path / "out.png") == 0
    mask = read(tmp_path / "out-mask.png")
    assert mask.shape == clean.shape[:2] and not mask.any()


def test_a_mask_overwrites_no_file_of_somebody_else(clean, tmp_path, capsys):
    photo = save(clean, tmp_path / "photo.png")
    (tmp_path / "out-mask.png").write_bytes(b"mine")
    words = (photo, "--repair", "none", "--save-mask", "-o", tmp_path / "out.png")
    assert restore(*words) == 1
    assert "out-mask.png exists and was not written by Calotype" in capsys.readouterr().err
    assert (tmp_path / "out-mask.png").read_bytes() == b"mine" and not (tmp_path / "out.png").exists()


def test_a_mask_painted_on_a_layer_is_what_is_opaque(clean, scan, tmp_path):
    photo, mask = scan
    layer = np.zeros((*clean.shape[:2], 4), np.uint8)
    layer[read(mask) > 0] = (200, 0, 0, 255)
    save(layer, tmp_path / "layer.png")
    results = []
    for name in ("mask.png", "layer.png"):
        assert restore(photo, "--mask", tmp_path / name, "-o", tmp_path / f"of-{name}") == 0
        results.append(read(tmp_path / f"of-{name}"))
    assert np.array_equal(*results)


@pytest.mark.parametrize(
    ("shape", "value", "sentence"),
    [
        (
            (200, 200),
            0,
            "the mask mask.png is 200x200 pixels and the picture is 256x224; give a mask of the picture's size",
        ),
        ((224, 256), 255, "the mask mask.png is all white, so nothing would be left of the photo"),
    ],
)
def test_a_mask_that_makes_no_sense_is_one_sentence(scan, tmp_path, capsys, shape, value, sentence):
    photo, mask = scan
    save(np.full(shape, value, np.uint8), mask)
    assert restore(photo, "--mask", mask, "-o", tmp_path / "out.png") == 1
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error and not (tmp_path / "out.png").exists()


def test_a_black_mask_as_is_written_for_a_photo_without_damage_repairs_nothing(clean, tmp_path, capsys):
    photo = save(clean, tmp_path / "photo.png")
    words = (photo, "--mask", tmp_path / "out-mask.png", "-o", tmp_path / "again.png")
    assert restore(photo, "--repair", "none", "--save-mask", "-o", tmp_path / "out.png") == 0
    assert restore(*words) == 0
    assert np.array_equal(read(tmp_path / "again.png"), clean)
    assert "the mask is all black, so no damage is filled" in capsys.readouterr().err
    record = json.loads((tmp_path / "again.png.json").read_text("utf-8"))
    assert len(record["computed"]["mask"]) == 64 and "repaired" not in record["computed"]
    assert restore(*words) == 0
    assert "done already" in capsys.readouterr().err


@pytest.fixture
def album(clean, scan, tmp_path):
    """Two photos of one name with another suffix, and one in a folder within; each with a scratch of its own."""
    (tmp_path / "album" / "1960").mkdir(parents=True)
    for name, left in (("a.png", 20), ("a.bmp", 90), ("1960/b.png", 160)):
        photo = clean.copy()
        photo[:, left : left + 4] = 255
        save(photo, tmp_path / "album" / name)
    return tmp_path / "album"


def test_masks_of_an_album_are_saved_corrected_and_given_back_by_the_names_of_photos(album, clean, tmp_path, capsys):
    saved, out = tmp_path / "saved", tmp_path / "out"
    assert restore(album, "--recursive", "--repair", "none", "--save-mask", "-o", saved) == 0
    masks = sorted(path.relative_to(saved).as_posix() for path in saved.rglob("*-mask.png"))
    assert len(masks) == 3 and "1960/b-mask.png" in masks
    for name in masks:
        mask = read(saved / name).copy()
        photo = read(next(saved.glob(name.replace("-mask.png", ".[pb][nm][gp]"))))
        mask[(photo == 255).all(2) & (clean != 255).any(2)] = 255
        save(mask, saved / name)
    assert restore(album, "--recursive", "--mask", saved, "-o", out) == 0
    notes = capsys.readouterr().err
    assert notes.count("the mask covers 1.5") == 3 and "has no mask" not in notes
    for result in (out / "a.bmp", out / "a.png", out / "1960/b.png"):
        assert (np.abs(read(result).astype(int) - clean).max(2) > 60).mean() < 0.005
    assert restore(album, "--recursive", "--mask", saved, "-o", out) == 0
    assert "0 done, 3 done already" in capsys.readouterr().err


def test_a_photo_without_a_mask_is_said_and_masks_beside_photos_are_no_photos(album, clean, tmp_path, capsys):
    mask = np.zeros(clean.shape[:2], np.uint8)
    mask[:, 20:24] = 255
    save(mask, album / "a-png-mask.png")
    assert restore(album, "--mask", album, "-o", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.[pb][nm][gp]")) == ["a.bmp", "a.png"]
    error = capsys.readouterr().err
    assert "1 photo has no mask in" in error and "so scratches are searched in it: a.bmp" in error
    assert restore(album, "--mask", album, "--plan") == 0
    first, _, second = capsys.readouterr().out.partition("a.png")
    assert "the mask covers" not in first and "the mask covers 1.56 % of the photo" in second


def test_a_mask_of_the_photos_own_name_is_taken_and_a_result_is_not(album, clean, tmp_path, capsys):
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros(clean.shape[:2], np.uint8)
    mask[:, 160:164] = 255
    save(mask, masks / "B.png")
    photo = album / "1960" / "b.png"
    assert restore(photo, "--mask", masks, "-o", tmp_path / "b.png") == 0
    assert "the mask covers" in capsys.readouterr().err
    assert restore(photo, "--mask", tmp_path, "-o", tmp_path / "c.png") == 2
    error = capsys.readouterr().err
    assert "holds no mask of these photos; name each as its photo, such as b-mask.png" in error


def test_the_plan_is_that_of_the_mask(scan, capsys):
    photo, mask = scan
    assert restore(photo, "--mask", mask, "--plan") == 0
    assert "the mask covers 1.26 % of the photo, which is filled" in capsys.readouterr().out


def test_a_mask_is_asked_for_where_damage_is_repaired(scan, tmp_path, capsys):
    assert main(["upscale", str(scan[0]), "--save-mask", "-o", str(tmp_path / "out.png")]) == 2
    assert "has no option --save-mask" in capsys.readouterr().err
    words = ("restore", scan[0], "--aligned", "--save-mask", "-o", tmp_path / "out.png")
    assert main([*map(str, words)]) == 2
    assert "--aligned repairs nothing, so --save-mask has no effect" in capsys.readouterr().err


def test_a_mask_needs_the_repair_that_it_is_for():
    with pytest.raises(CalotypeError, match="mask is for the repair scratches"):
        Restore(source="a.png", mask="m.png", repair="texture")
    with pytest.raises(CalotypeError, match="mask is for the repair scratches"):
        Restore(source="a.png", mask="m.png", repair="none")
    with pytest.raises(CalotypeError, match="aligned repairs nothing, so mask has no effect"):
        Restore(source="a.png", mask="m.png", aligned=True)
    assert Restore(source="a.png", mask="m.png", repair="texture,scratches").mask == "m.png"


def test_scratches_are_found_and_filled_and_nothing_else_changes(tmp_path, capsys):
    clean = np.ascontiguousarray(data.astronaut()[:440, 40:480])
    worn = damaged(clean.astype(np.float32) / 255, Random(5), 0.9, 1.2)
    worn = (255 * worn).round().astype(np.uint8)
    photo, is_damaged = save(worn, tmp_path / "photo.png"), np.abs(worn.astype(int) - clean).max(2) > 25
    assert restore(photo, "--repair", "scratches", "--save-mask", "-o", tmp_path / "out.png") == 0
    result, found = read(tmp_path / "out.png"), read(tmp_path / "out-mask.png") > 0
    assert np.array_equal(result[~found], worn[~found])
    assert (found & is_damaged).sum() > 0.3 * is_damaged.sum()
    before, after = (np.abs(x[is_damaged].astype(float) - clean[is_damaged]).mean() for x in (worn, result))
    assert after < 0.8 * before
    record = json.loads((tmp_path / "out.png.json").read_text("utf-8"))
    assert [model["name"] for model in record["models"]] == ["marks"]
    assert restore(photo, "--repair", "scratches", "-o", tmp_path / "out.png") == 0
    notes = capsys.readouterr().err
    assert "done already" in notes  # by the network that the record leaves out, as it is the usual one
    (tmp_path / "out-mask.png").unlink()
    assert restore(photo, "--repair", "scratches", "--save-mask", "-o", tmp_path / "out.png") == 0
    assert np.array_equal(read(tmp_path / "out-mask.png") > 0, found)
    assert "scratches and hairs found and filled" in notes and "specks of dust found and filled" in notes
