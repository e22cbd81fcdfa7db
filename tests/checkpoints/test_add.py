"""A person's own files: what each is for, and whole folders of other programs."""

import pytest
import torch
from safetensors.torch import save_file

from calotype.checkpoints.add import add, import_from, kind_of_file
from calotype.checkpoints.bundled import in_wheel, shipped
from calotype.checkpoints.store import ModelStore
from calotype.errors import CalotypeError
from calotype.settings import Settings
from tests.checkpoints.originals import checkpoint, narrow


@pytest.fixture
def shelf(tmp_path):
    return ModelStore(Settings.gather({"home": tmp_path / "home"}, environ={}))


def save(path, state):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def small_checkpoint():
    """Keys and the two telling shapes of SD 1.x, the rest of it left out: enough to know it by."""
    unet = "model.diffusion_model."
    return {
        f"{unet}input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3),
        f"{unet}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(320, 768),
    }


LORA = {"lora_unet_a.lora_down.weight": torch.ones(2, 2), "lora_unet_a.lora_up.weight": torch.ones(2, 2)}


def test_each_kind_is_told(tmp_path):
    vae = {key: value for key, value in checkpoint(narrow("sd1")).items() if key.startswith("first_stage_model.")}
    assert kind_of_file(save(tmp_path / "a.safetensors", small_checkpoint())) == "diffusion"
    assert kind_of_file(save(tmp_path / "b.safetensors", LORA)) == "lora"
    assert kind_of_file(save(tmp_path / "c.safetensors", vae)) == "vae"
    assert kind_of_file(save(tmp_path / "d.safetensors", {"emb_params": torch.randn(2, 768)})) == "embedding"
    torch.save({"string_to_param": {"*": torch.randn(2, 768)}}, tmp_path / "e.pt")
    assert kind_of_file(tmp_path / "e.pt") == "embedding"
    assert kind_of_file(shipped("emoji", "model_index.json")) == "diffusion"
    assert kind_of_file(in_wheel("REALESRGAN_ANIMAVIDEOV3_UP2X.param")) == "upscale"
    with pytest.raises(CalotypeError, match="is not a network for enlarging pictures or for faces that Calotype knows"):
        kind_of_file(save(tmp_path / "f.safetensors", {"x": torch.ones(3, 3, 3)}))


def test_a_diffusers_folder_is_one_model(shelf, tmp_path):
    (tmp_path / "my model").symlink_to(shipped("emoji"))
    found = add(shelf, tmp_path / "my model")
    assert (found.name, found.kind) == ("my model", "diffusion")
    assert shelf.find("my model", "diffusion").path.name == "model_index.json"
    assert all(verdict.is_good for verdict in shelf.verify("my model"))


def test_a_webui_is_taken_over_without_copies(shelf, tmp_path):
    root = tmp_path / "webui 旧"
    save(root / "models/Stable-diffusion/anime/chilloutmix_NiPrunedFp32Fix.safetensors", small_checkpoint())
    save(root / "models/Lora/girl (v2).safetensors", LORA)
    save(root / "models/Lora/sub/girl (v2).safetensors", LORA)
    save(root / "embeddings/bad-hands.safetensors", {"emb_params": torch.randn(2, 768)})
    (root / "models/Lora/broken.safetensors").write_bytes(b"no")
    (root / "models/Lora/readme.txt").write_text("x")
    found = list(import_from(shelf, root))
    assert {(one.name, one.kind) for one in found if one.state == "added"} == {
        ("chilloutmix_NiPrunedFp32Fix", "diffusion"),
        ("girl (v2)", "lora"),
        ("girl (v2)-2", "lora"),
        ("bad-hands", "embedding"),
    }
    [fault] = [one for one in found if one.state == "failed"]
    assert "broken.safetensors" in str(fault.fault)
    assert shelf.find("girl (v2)", "lora").path.parent.name == "Lora"
    assert not (shelf.folder / "girl (v2).safetensors").exists()
    assert {one.state for one in import_from(shelf, root)} == {"known", "failed"}


def test_a_folder_of_something_else_is_told(shelf, tmp_path):
    with pytest.raises(CalotypeError, match="has none of the folders"):
        list(import_from(shelf, tmp_path))
    with pytest.raises(CalotypeError, match="there is no folder"):
        list(import_from(shelf, tmp_path / "none"))


def test_an_unknown_lora_gets_the_nearest_name(shelf, tmp_path):
    add(shelf, save(tmp_path / "grandma.safetensors", LORA))
    with pytest.raises(CalotypeError, match="no LoRA is named gandma, did you mean grandma"):
        shelf.find("gandma", kind="lora")
    with pytest.raises(CalotypeError, match="for LoRA"):
        shelf.find("grandma", kind="diffusion")


def test_a_file_is_also_found_by_its_own_name(shelf, tmp_path):
    """Prompts call a LoRA as its file is called, also where another model took that name first."""
    root = tmp_path / "webui/models"
    vae = {key: value for key, value in checkpoint(narrow("sd1")).items() if key.startswith("first_stage_model.")}
    save(root / "VAE/mine.safetensors", vae)
    save(root / "Lora/mine.safetensors", LORA)
    save(root / "Lora/anna [v2].safetensors", LORA)
    assert {one.state for one in import_from(shelf, tmp_path / "webui")} == {"added"}
    assert shelf.find("mine", "lora").path == root / "Lora/mine.safetensors"
    assert shelf.find("mine", "vae").path == root / "VAE/mine.safetensors"
    assert shelf.find("anna [v2]", "lora").path == root / "Lora/anna [v2].safetensors"
