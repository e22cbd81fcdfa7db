"""Nothing in a file of weights is ever run, in whichever of torch's forms it comes."""

import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from calotype.checkpoints.open_network import read_state
from calotype.checkpoints.pickles import check_torch
from calotype.errors import CalotypeError


class Trap:
    """When it is unpickled in the ordinary way, it makes a file."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


def weights() -> dict:
    return OrderedDict(weight=torch.arange(6.0).reshape(2, 3), bias=torch.ones(2, dtype=torch.float16))


def save_zip(data, path):
    torch.save(data, path)


def save_old(data, path):
    torch.save(data, path, _use_new_zipfile_serialization=False)


def save_plain(data, path):
    path.write_bytes(pickle.dumps(data, protocol=2))


def save_plain_newest(data, path):
    path.write_bytes(pickle.dumps(data))


@pytest.mark.parametrize("save", [save_zip, save_old, save_plain, save_plain_newest])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin"])
def test_a_file_with_code_is_refused_and_its_code_not_run(tmp_path, save, suffix):
    proof, path = tmp_path / "proof", tmp_path / f"trap{suffix}"
    save({"params": {"weight": torch.ones(2), "trap": Trap(proof)}}, path)
    with pytest.raises(CalotypeError) as refused:
        read_state(path)
    assert not proof.exists()
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    assert "has code in it" in str(refused.value)
    if save in (save_zip, save_old):  # Path.touch is pickled through getattr
        assert "getattr" in str(refused.value)


def test_the_trap_is_sprung_by_an_ordinary_reader(tmp_path):
    """Else the test above would prove nothing."""
    pickle.loads(pickle.dumps(Trap(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()


@pytest.mark.parametrize("program", [b"cos\nsystem\n(S'true'\ntR.", b"(S'true'\nios\nsystem\n."])
def test_old_ways_of_naming_are_refused_too(tmp_path, program):
    path = tmp_path / "trap.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("trap/data.pkl", program)
        archive.writestr("trap/version", "3\n")
    with pytest.raises(CalotypeError, match=r"has code in it \(os\.system\)"):
        read_state(path)


def test_a_name_that_only_looks_like_torch_is_refused(tmp_path):
    path = tmp_path / "trap.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("trap/data.pkl", b"\x80\x02ctorch.hub\nload\n(tR.")
    with pytest.raises(CalotypeError, match=r"torch\.hub\.load"):
        read_state(path)


@pytest.mark.parametrize("save", [save_zip, save_old])
def test_weights_come_back(tmp_path, save):
    path = tmp_path / "x.pth"
    save(weights(), path)
    state = read_state(path)
    assert {key: value.tolist() for key, value in state.items()} == {
        "weight": [[0, 1, 2], [3, 4, 5]],
        "bias": [1, 1],
    }


@pytest.mark.parametrize("save", [save_zip, save_old])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95, 0.999])
def test_a_cut_file_is_refused_in_a_sentence(tmp_path, save, kept):
    path = tmp_path / "cut.pth"
    save({f"layer{n}.weight": torch.rand(64) for n in range(20)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CalotypeError) as refused:
        read_state(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\x80\x02}.")
        archive.writestr("bomb/data/0", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(CalotypeError, match="compressed"):
        read_state(path)


def test_a_declared_size_beyond_the_file_is_refused(tmp_path):
    path = tmp_path / "lie.pth"
    torch.save(weights(), path)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")  # the last entry of the zip's list
    data[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(data)
    with pytest.raises(CalotypeError, match=r"lie\.pth"):
        read_state(path)


@pytest.mark.parametrize("name", ["/etc/x", "a/../../x", "a\\b"])
def test_impossible_names_inside_are_refused(tmp_path, name):
    path = tmp_path / "names.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("names/data.pkl", b"\x80\x02}.")
        archive.writestr(name, b"x")
    with pytest.raises(CalotypeError, match="impossible name"):
        read_state(path)


def test_an_ordinary_zip_is_named_so(tmp_path):
    path = tmp_path / "photos.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"x")
    with pytest.raises(CalotypeError, match=r"is an archive \(zip\)"):
        read_state(path)


def test_a_torchscript_program_is_refused(tmp_path):
    path = tmp_path / "program.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("program/data.pkl", b"\x80\x02}.")
        archive.writestr("program/code/__torch__.py", b"print()")
    with pytest.raises(CalotypeError, match="TorchScript"):
        read_state(path)


def test_a_tensor_larger_than_its_file_is_refused(tmp_path):
    """Repeated by a stride of zero, four bytes declare terabytes."""
    path = tmp_path / "large.pth"
    torch.save({"weight": torch.ones(1).expand(1 << 20, 1 << 20)}, path)
    with pytest.raises(CalotypeError, match="declares"):
        read_state(path)


def test_a_string_of_declared_terabytes_is_not_made_room_for(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(b"\x80\x04\x8d" + (1 << 45).to_bytes(8, "little") + b"abc.")
    with pytest.raises(CalotypeError, match="damaged or was not written by torch"):
        read_state(path)


@pytest.mark.parametrize("save", [save_zip, save_old])
def test_any_damage_ends_in_a_sentence_or_in_finite_weights(tmp_path, save):
    path, rng = tmp_path / "x.pth", random.Random(0)
    save({"layer.weight": torch.rand(8, 3), "layer.bias": torch.rand(8)}, path)
    whole = path.read_bytes()
    for _ in range(80):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 3, 10])):
            at = rng.randrange(len(data))
            data[at : at + rng.choice([0, 1, 4])] = rng.randbytes(rng.choice([0, 1, 4]))
        path.write_bytes(data)
        try:
            state = read_state(path)
        except CalotypeError as fault:
            assert str(path) in str(fault) and "\n" not in str(fault)
        else:
            assert all(torch.isfinite(tensor.float()).all() for tensor in state.values())


@pytest.mark.parametrize("version, good", [("2.9.1", False), ("2.10.0", True), ("2.14.1+cpu", True), ("3.0", True)])
def test_only_a_safe_torch_reads_pickles(version, good):
    if good:
        check_torch(version)
    else:
        with pytest.raises(CalotypeError, match=r"torch 2\.9\.1 does not read foreign files safely"):
            check_torch(version)


def test_an_official_checkpoint_names_a_class_of_lightnings(tmp_path, monkeypatch):
    """Stable Diffusion's own .ckpt files: a class as a key, numbers of numpy's. The class is not looked for."""
    import sys
    import types

    import numpy as np

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        callbacks = {module.ModelCheckpoint: {"best_model_score": np.float64(0.5), "current_score": torch.tensor(1.0)}}
        data = {"state_dict": {"a.weight": torch.ones(2)}, "callbacks": callbacks, "global_step": 470000}
        torch.save(data, tmp_path / "model.ckpt")
    assert torch.equal(read_state(tmp_path / "model.ckpt")["a.weight"], torch.ones(2))
