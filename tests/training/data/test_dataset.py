"""Pictures in folders, and how often each of them is shown."""

from pathlib import Path

import pytest
from PIL import Image

from calotype.errors import CalotypeError, Message
from calotype.training.data.dataset import Example, balanced, check_memory, find_folders, find_photos, pictures_below


@pytest.mark.parametrize(
    ("count", "repeats", "shown"),
    [
        (10, [3] * 5, [3, 3, 3, 3]),  # the last one is not cut, and the fifth is not needed
        (20, [3] * 5, [4, 4, 4, 4, 4]),
        (23, [3] * 5, [5, 5, 5, 4, 4]),
        (15, [3] * 5, [3, 3, 3, 3, 3]),
        (9, [1, 5], [3, 6]),  # once more each, whatever its own repeats
        (7, [], []),
    ],
)
def test_regularisation_pictures_are_counted_as_kohyas(count, repeats, shown):
    photos = tuple(Example(Path(f"{n}.png"), "") for n in range(count))
    regular = tuple(Example(Path(f"reg {n}.png"), "", one, True) for n, one in enumerate(repeats))
    found = balanced(photos, regular)
    assert [photo.repeats for photo in found] == shown
    assert [photo.path for photo in found] == [photo.path for photo in regular[: len(shown)]]
    assert all(photo.is_regularization for photo in found)


def test_a_number_alone_names_a_folder_of_so_many_repeats(tmp_path):
    for name in ("10", "3_zkz", "2019", "0", "0_none"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.png").touch()
    assert [(room.folder.name, room.name, room.repeats) for room in find_folders(tmp_path)] == [
        ("10", "", 10),
        ("3_zkz", "zkz", 3),
    ]
    found = find_photos(tmp_path).photos
    assert [(photo.path.name, photo.caption, photo.repeats) for photo in found] == [
        ("10.png", "", 10),
        ("3_zkz.png", "zkz", 3),
    ]


def test_a_photo_whose_caption_cannot_be_read_is_left_out(tmp_path):
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    found = find_photos(tmp_path, ".txt")
    assert [photo.path.name for photo in found.photos] == ["b.png"]
    assert any(str(note).startswith("left out: ") and "a.txt" in str(note) for note in found.notes)
    (tmp_path / "b.png").unlink()
    with pytest.raises(CalotypeError, match=r"a\.txt"):
        find_photos(tmp_path, ".txt")


def placed(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder, out=None):
    paths, note = pictures_below(folder, out)
    return [path.relative_to(folder).as_posix() for path in paths], str(note or "")


def test_results_in_the_folder_are_not_learnt_from(tmp_path, monkeypatch):
    placed(tmp_path, "1.png", "b/2.JPG", "note.txt", "out/00001-4-a-cat.png", "outer/3.png")
    mine = ["1.png", "b/2.JPG", "outer/3.png"]
    assert found(tmp_path) == ([*mine[:2], "out/00001-4-a-cat.png", mine[2]], "")
    assert found(tmp_path, tmp_path / "out") == (
        mine,
        f"pictures left out because they are results: 1 in {tmp_path / 'out'}",
    )
    monkeypatch.chdir(tmp_path)
    assert pictures_below(Path(), Path("out"))[0] == [Path(name) for name in mine]
    assert found(tmp_path, tmp_path / "b" / ".." / "out")[0] == mine
    for away in (tmp_path, tmp_path.parent, tmp_path.parent / "out", tmp_path / "none"):
        assert len(found(tmp_path, away)[0]) == 4


@pytest.mark.parametrize("where", ["", "an earlier run/"])
def test_what_training_draws_is_known_wherever_a_run_lies(tmp_path, where):
    drawn = ["gan-snapshots/00000012.png", "gan-snapshots/verdicts-00000012.png", "sample/up_000020_01.png"]
    drawn += ["sample/lora_e000001_00_1337.png", "sample/lora_000012_00_7.png", "sample/model_vae_000100.png"]
    drawn += ["sample/model_held_out.png", "sample/lora_1000000_100_7.png", "gan-snapshots/100000000.png"]
    mine = [f"{where}{name}" for name in ("1.png", "gan-snapshots/mine.png", "sample/holiday.png")]
    placed(tmp_path, *mine, *(f"{where}{name}" for name in drawn))
    assert len(found(tmp_path)[0]) == 12  # nothing was trained there
    placed(tmp_path, f"{where}gan.log.jsonl")
    assert found(tmp_path, tmp_path) == (
        mine,
        "pictures left out because they are results: 9 drawn during training",
    )
    placed(tmp_path, "out/2.png", "out/gan.log.jsonl", "out/gan-snapshots/00000001.png")
    assert found(tmp_path, tmp_path / "out")[1].endswith(f"results: 2 in {tmp_path / 'out'}, 9 drawn during training")


def test_pictures_may_take_most_of_the_memory_and_no_more():
    check_memory(7, 64, 10 * 3 * 64**2, Message("7 pictures"), "resolution")
    with pytest.raises(
        CalotypeError, match=r"^8 pictures take 0\.0 GiB at 64 pixels, .*; give a smaller resolution or"
    ):
        check_memory(8, 64, 10 * 3 * 64**2, Message("8 pictures"), "resolution")


def test_faces_that_were_compared_are_known_by_their_figures(tmp_path):
    placed(tmp_path, "1.png", "our-figures.jpg", "out/restorer-figures.jpg", "out/restorer-figures.json")
    assert found(tmp_path) == (
        ["1.png", "our-figures.jpg"],
        "pictures left out because they are results: 1 drawn during training",
    )


def with_pictures(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name / "a.png")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["zkz_10"], "1 in zkz_10; give {folder}/zkz_10, or"),
        (["zkz girl"], "1 in zkz girl; give {folder}/zkz girl, or"),
        (["0_zkz"], "1 in 0_zkz; give {folder}/0_zkz, or"),
        (["img/5_zkz"], "1 in img/5_zkz; give {folder}/img, or"),
        (["a", "b"], "1 in a, 1 in b; give {folder}/a, or"),
    ],
)
def test_a_folder_without_pictures_says_where_they_are(tmp_path, names, said):
    with_pictures(tmp_path, *names)
    with pytest.raises(CalotypeError) as fault:
        find_photos(tmp_path)
    assert said.format(folder=tmp_path) in str(fault.value) and "N is the number of repeats" in str(fault.value)


def test_a_folder_without_a_number_beside_one_with_it_is_named(tmp_path):
    with_pictures(tmp_path, "3_zkz", "hat", "4_coat/old")
    dataset = find_photos(tmp_path)
    assert [photo.path.parent.name for photo in dataset.photos] == ["3_zkz"]
    assert "left out: 1 in hat, as the name has no number of repeats; name it such as 3_hat" in map(str, dataset.notes)
