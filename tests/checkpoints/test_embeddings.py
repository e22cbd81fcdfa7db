"""Learned words."""

import pytest
import torch
from safetensors.torch import save_file

from calotype.checkpoints.embeddings import read_embedding
from calotype.errors import CalotypeError


def test_every_way_of_writing_one(tmp_path):
    rows, other = torch.randn(3, 768), torch.randn(3, 1280)
    torch.save({"string_to_param": {"*": rows}, "name": "x", "step": 5}, tmp_path / "a.pt")
    torch.save({"<mine>": rows[0]}, tmp_path / "b.bin")
    save_file({"emb_params": rows}, tmp_path / "c.safetensors")
    save_file({"clip_l": rows, "clip_g": other}, tmp_path / "d.safetensors")
    assert torch.equal(read_embedding(tmp_path / "a.pt").vectors[0], rows)
    assert torch.equal(read_embedding(tmp_path / "b.bin").vectors[0], rows[:1])
    assert torch.equal(read_embedding(tmp_path / "c.safetensors").vectors[0], rows)
    both = read_embedding(tmp_path / "d.safetensors", "mine")
    assert [part.shape[1] for part in both.vectors] == [768, 1280] and both.name == "mine"
    assert len(both.sha256) == 64 and both.short_hash == both.sha256[:12]


@pytest.mark.parametrize("rows", [torch.randn(2, 3, 4), torch.full((1, 8), float("nan")), torch.randn(90, 8)])
def test_something_else_is_refused(tmp_path, rows):
    save_file({"emb_params": rows}, tmp_path / "x.safetensors")
    with pytest.raises(CalotypeError):
        read_embedding(tmp_path / "x.safetensors")
