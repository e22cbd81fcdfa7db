"""The catalog and the shelf."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest
import torch
from spandrel.architectures.Compact import Compact

from calotype.checkpoints.add import add
from calotype.checkpoints.bundled import shipped
from calotype.checkpoints.hashes import INDEX, weights_in
from calotype.checkpoints.store import BEST_FACES, CATALOG, KINDS, ModelStore, digest, known_name, verified_hash
from calotype.errors import CalotypeError, Remedy
from calotype.models.face_restorer import Restorer
from calotype.settings import Settings

SHIPPED = {
    "realesrgan-x4plus",
    "realesrgan-x4plus-anime",
    "realesr-animevideov3",
    "realesr-animevideov3-x2",
    "realesr-animevideov3-x3",
    "photo-x2",
    "photo-x4",
    "faces-v2",
    "faces-v3",
    "emoji",
    "marks",
    "yunet",
    "facemesh",
    "facemesh-iris",
}


@pytest.fixture
def shelf(tmp_path) -> ModelStore:
    return ModelStore(Settings(home=tmp_path / "home"))


@pytest.fixture
def mine(tmp_path):
    """A person's own upscaler and face restorer."""
    torch.manual_seed(0)
    upscaler, faces = tmp_path / "My Upscaler.pth", tmp_path / "faces.pth"
    torch.save(Compact(num_feat=8, num_conv=1, upscale=2).state_dict(), upscaler)
    torch.save(Restorer((8, 16), (1, 1)).state_dict(), faces)
    return upscaler, faces


def place(shelf: ModelStore, name: str) -> None:
    """As if it had been fetched."""
    shelf.folder.mkdir(parents=True, exist_ok=True)
    (shelf.folder / CATALOG[name].file).write_bytes(b"weights")


def test_every_entry_is_whole():
    for name, entry in CATALOG.items():
        assert (
            name == entry.name
            and entry.kind in KINDS
            and entry.licence
            and str(entry.about)
            and "\n" not in str(entry.about)
        )
        assert entry.ships or re.fullmatch(
            r"https://(github\.com|huggingface\.co)/\S+/" + re.escape(entry.file), entry.url
        )
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256) or name == "gfpgan-1.2"
        assert entry.commercial == ("non-commercial" not in entry.licence)
        assert not entry.twin or entry.twin in CATALOG
    assert {name for name, entry in CATALOG.items() if entry.ships} == SHIPPED
    non_commercial = {name for name, entry in CATALOG.items() if not entry.commercial}
    assert non_commercial == {"gfpgan-1.2", "gfpgan-1.3", "gfpgan-1.4", "codeformer"}


def test_what_ships_is_at_hand_as_it_should_be(shelf):
    at_hand = {one.name for one in shelf.entries() if one.path}
    assert at_hand == SHIPPED
    verdicts = list(shelf.verify())
    assert {v.name for v in verdicts} == SHIPPED and all(v.is_good for v in verdicts)
    for name in SHIPPED:
        path = shelf.find(name).path
        parts = weights_in(path.parent).values() if path.name == INDEX else [path]
        parts = [*parts, path.with_suffix(".bin")] if path.suffix == ".param" else parts
        size = sum(part.stat().st_size for part in parts)
        assert CATALOG[name].size == size


def test_the_cards_tell_the_files_sha256():
    files = {
        "yunet": "face_detection_yunet_2023mar.onnx",
        "faces-v2": "model.safetensors",
        "faces-v3": "model.safetensors",
        "marks": "model.safetensors",
    }
    for folder, file in [*files.items(), ("facemesh", "facemesh.safetensors"), ("facemesh", "iris.safetensors")]:
        assert digest(shipped(folder, file)) in shipped(folder, "CARD.md").read_text("utf-8")


@pytest.mark.parametrize(
    "known, name",
    [
        ("RealESRGAN_x4plus", "realesrgan-x4plus"),
        ("RealESRGAN_x4plus.pth", "realesrgan-x4plus"),
        ("RealESRGAN_x4plus_anime_6B", "realesrgan-x4plus-anime"),
        ("realesr-animevideov3", "realesr-animevideov3"),
        ("RealESRNet_x4plus", "realesrnet-x4plus"),
        ("RealESRGAN_x2plus.pth", "realesrgan-x2plus"),
        ("GFPGANv1.4", "gfpgan-1.4"),
        ("GFPGANv1.4.pth", "gfpgan-1.4"),
        ("gfpgan", "gfpgan-1.4"),
        ("GFPGANCleanv1-NoCE-C2.pth", "gfpgan-1.2"),
        ("CodeFormer", "codeformer"),
        ("RestoreFormer", "restoreformer"),
        ("my-own", "my-own"),
    ],
)
def test_the_names_that_people_know(known, name):
    assert known_name(known) == name


def test_what_is_not_at_hand_is_said_with_its_command(shelf):
    with pytest.raises(CalotypeError, match=r"gfpgan-1\.4 is not at hand; fetch it") as caught:
        shelf.find("GFPGANv1.4.pth")
    assert caught.value.remedy == Remedy("pull_model", "gfpgan-1.4")
    with pytest.raises(CalotypeError, match=r"no model is named realesrgan-x4plu, did you mean realesrgan-x4plus\?"):
        shelf.find("realesrgan-x4plu")
    with pytest.raises(CalotypeError, match=r"there is no file weights/none\.pth"):
        shelf.find("weights/none.pth")
    with pytest.raises(CalotypeError, match="is a folder"):
        shelf.find(str(shelf.folder.parent.parent))


def test_a_model_for_something_else_is_refused(shelf):
    with pytest.raises(CalotypeError, match="faces-v2 is for restoring faces, not for enlarging"):
        shelf.find("faces-v2", kind="upscale")


def test_the_best_face_network_at_hand(shelf):
    assert shelf.best_faces() == "faces-v3"
    for name in reversed([name for name in BEST_FACES if name not in SHIPPED]):
        place(shelf, name)
        assert shelf.best_faces() == name


def test_own_files_are_used_where_they_lie(shelf, mine):
    upscaler, faces = mine
    found = add(shelf, upscaler, "sharp")
    assert (found.name, found.path, found.kind) == ("sharp", upscaler, "upscale")
    assert add(shelf, faces).kind == "faces"
    again = ModelStore(Settings(home=shelf.folder.parent))  # another run
    assert again.find("sharp", kind="upscale").path == upscaler
    assert {one.name for one in again.entries() if one.entry is None} == {"sharp", "faces"}
    assert all(verdict.is_good for verdict in again.verify("sharp"))
    assert again.remove("sharp") == upscaler and upscaler.exists()
    with pytest.raises(CalotypeError, match="no model is named sharp"):
        again.find("sharp")


def test_a_changed_or_lost_own_file_is_noticed(shelf, mine):
    upscaler, _ = mine
    add(shelf, upscaler, "sharp")
    with upscaler.open("ab") as file:
        file.write(b"x")
    (verdict,) = shelf.verify("sharp")
    assert not verdict.is_good and "should be" in str(verdict.message)
    upscaler.unlink()
    with pytest.raises(CalotypeError, match="which is gone"):
        shelf.find("sharp")
    assert next(one.path for one in shelf.entries() if one.name == "sharp") is None


def test_a_catalog_name_for_a_file_fetched_elsewhere(shelf, mine):
    upscaler, faces = mine
    add(shelf, faces, "GFPGANv1.4")
    assert shelf.find("gfpgan-1.4", kind="faces").path == faces
    assert shelf.best_faces() == "gfpgan-1.4"
    with pytest.raises(CalotypeError, match="is for enlarging, and codeformer is for restoring faces"):
        add(shelf, upscaler, "codeformer")
    assert shelf.remove("gfpgan-1.4") == faces and faces.exists()
    assert shelf.best_faces() == "faces-v3"


def test_what_cannot_be_added_or_removed(shelf, mine, tmp_path):
    with pytest.raises(CalotypeError, match="cannot be a model's name"):
        add(shelf, mine[0], "../up")
    with pytest.raises(CalotypeError, match="already at hand"):
        add(shelf, mine[0], "yunet")
    with pytest.raises(CalotypeError, match="there is no file"):
        add(shelf, tmp_path / "none.pth", "none")
    with pytest.raises(CalotypeError, match="comes with the program"):
        shelf.remove("yunet")
    with pytest.raises(CalotypeError, match="not at hand"):
        shelf.remove("gfpgan-1.4")
    assert not (shelf.folder / "shelf.json").exists()


def test_a_fetched_file_is_deleted(shelf):
    place(shelf, "gfpgan-1.4")
    path = shelf.remove("gfpgan-1.4")
    assert not path.exists()


def test_a_fetched_file_that_changed_is_noticed(shelf):
    place(shelf, "gfpgan-1.4")
    (verdict,) = shelf.verify("gfpgan-1.4")
    assert not verdict.is_good and CATALOG["gfpgan-1.4"].sha256 in str(verdict.message)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"added": {"x": {}}}', '{"added": []}', '{"added": {"x": 3}}'])
def test_a_damaged_list_is_said(shelf, text):
    shelf.folder.mkdir(parents=True)
    (shelf.folder / "shelf.json").write_text(text)
    with pytest.raises(CalotypeError, match=r"shelf\.json is damaged"):
        shelf.find("my-own")


PATHS = (
    "weights/none.pth",
    "/etc/passwd",
    "~",
    "..",
    ".",
    "C:\\x.pth",
    "\\\\host\\x",
    "file:///etc/passwd",
    "a\0b",
    "x" * 10**6,
)


def test_a_name_from_a_stranger_is_never_a_file(shelf, mine, tmp_path, monkeypatch):
    added = add(shelf, mine[0], "sharp")
    (tmp_path / "yunet").write_bytes(b"x")
    (tmp_path / "bare").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert shelf.find("bare").path.name == "bare" and shelf.find("yunet").kind == ""
    for strict in (ModelStore(Settings(home=tmp_path / "home"), trusted=False), shelf):
        how = {} if strict is not shelf else {"trusted": False}
        assert strict.find("yunet", **how).kind == "detect" and strict.find("sharp", **how).path == added.path
        for name in (str(mine[0]), "bare", "My Upscaler.pth", "", *PATHS):
            with pytest.raises(CalotypeError, match="no model is named") as caught:
                strict.find(name, **how)
            assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)
    with pytest.raises(CalotypeError, match="no LoRA is named"):
        shelf.find(str(mine[0]), "lora", trusted=False)


def test_a_folder_named_like_a_model_does_not_hide_it(shelf, tmp_path, monkeypatch):
    (tmp_path / "yunet").mkdir()
    monkeypatch.chdir(tmp_path)
    assert shelf.find("yunet").kind == "detect"


def test_the_catalog_needs_no_torch():
    code = "import sys, calotype.checkpoints.store, calotype.checkpoints.download; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_large_file_is_read_once(settings, tmp_path, monkeypatch):
    from calotype.checkpoints import hashes

    monkeypatch.setattr(hashes, "LARGE", 4)
    shelf, path = ModelStore(dataclasses.replace(settings, home=tmp_path / "home")), tmp_path / "big.safetensors"
    path.write_bytes(b"12345678")
    reads, real = [], hashes.hashlib.file_digest
    monkeypatch.setattr(hashes.hashlib, "file_digest", lambda *a: (reads.append(1), real(*a))[1])
    first = verified_hash(shelf.find(str(path)))
    assert verified_hash(shelf.find(str(path))) == first == digest(path) and len(reads) == 2
    path.write_bytes(b"87654321")
    os.utime(path, (1, 1))
    assert verified_hash(shelf.find(str(path))) != first
    (tmp_path / "home/models/hashes.json").write_text("[broken")
    assert verified_hash(shelf.find(str(path))) == digest(path)
