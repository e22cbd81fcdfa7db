"""TrainResult words, as every program writes them."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from calotype.checkpoints.textual_inversion import read_embedding
from calotype.errors import CalotypeError


def saved(path: Path, data) -> Path:
    (save_file if path.suffix == ".safetensors" else torch.save)(data, path)
    return path


ROWS, WIDE = torch.randn(3, 768), torch.randn(3, 1280)
A1111 = {"string_to_token": {"*": torch.tensor(265)}, "name": "mine", "step": 500, "sd_checkpoint": None}


@pytest.mark.parametrize(
    ("file", "data", "wanted"),
    [
        ("a.pt", {**A1111, "string_to_param": {"*": ROWS}}, [ROWS]),
        ("parameter.pt", {**A1111, "string_to_param": {"*": torch.nn.Parameter(ROWS)}}, [ROWS]),
        ("one.bin", {"<mine>": ROWS[0]}, [ROWS[:1]]),
        ("half.bin", {"<mine>": ROWS.half()}, [ROWS.half().float()]),
        ("params.safetensors", {"emb_params": ROWS}, [ROWS]),
        ("sdxl.safetensors", {"clip_g": WIDE, "clip_l": ROWS}, [ROWS, WIDE]),
        ("first.pt", {"clip_l": ROWS}, [ROWS]),
        ("pivotal.safetensors", {"text_encoders_0": ROWS, "text_encoders_1": WIDE}, [ROWS, WIDE]),
    ],
)
def test_every_way_of_writing_one(tmp_path, file, data, wanted):
    path = saved(tmp_path / file, data)
    found = read_embedding(path)
    assert found.name == path.stem and read_embedding(path, "other").name == "other"
    assert len(found.vectors) == len(wanted)
    assert all(torch.equal(*pair) and not pair[0].requires_grad for pair in zip(found.vectors, wanted, strict=True))
    assert len(found.sha256) == 64 and found.short_hash == found.sha256[:12]


@pytest.mark.parametrize(
    ("file", "data", "why"),
    [
        ("deep.safetensors", {"emb_params": torch.randn(2, 3, 4)}, "not a list of vectors"),
        ("nan.safetensors", {"emb_params": torch.full((1, 8), float("nan"))}, "not finite"),
        ("nan.pt", {"string_to_param": {"*": torch.full((1, 8), float("inf"))}}, "not finite"),
        ("long.bin", {"<x>": torch.randn(76, 8)}, "76 vectors"),
        ("none.bin", {"<x>": torch.zeros(0, 8)}, "0 vectors"),
        ("narrow.bin", {"<x>": torch.zeros(3, 0)}, "0 vectors"),
        ("number.bin", {"<x>": torch.tensor(1.0)}, "not a list of vectors"),
        ("whole.bin", {"<x>": torch.ones(2, 8, dtype=torch.int64)}, "not a list of vectors"),
        ("two.bin", {"<x>": ROWS, "<y>": ROWS}, "2 tensors"),
        ("empty.pt", {"string_to_param": {}}, "0 tensors"),
        ("words.pt", {"string_to_param": {"*": "x"}}, "not a list of vectors"),
        ("list.pt", [ROWS], "no tensors by name"),
        ("uneven.safetensors", {"clip_l": ROWS, "clip_g": WIDE[:2]}, "3 and 2 vectors"),
    ],
)
def test_something_else_is_refused(tmp_path, file, data, why):
    with pytest.raises(CalotypeError, match=why) as fault:
        read_embedding(saved(tmp_path / file, data))
    assert file in str(fault.value) and "\n" not in str(fault.value)


class Runs:
    def __reduce__(self):
        return os.mkdir, (str(Path("ran").absolute()),)


def test_code_in_one_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CalotypeError, match="mkdir"):
        read_embedding(saved(tmp_path / "x.pt", {"string_to_param": {"*": ROWS}, "name": Runs()}))
    assert not Path("ran").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("file", ["x.pt", "x.safetensors"])
def test_a_cut_file_gets_a_sentence(tmp_path, file, share):
    path = saved(tmp_path / file, {"emb_params": ROWS})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CalotypeError, match=r"damaged|cut off|not written by torch"):
        read_embedding(path)
