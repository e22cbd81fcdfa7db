"""Folders of diffusers: weights split into several files, and pipelines of other families."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from calotype.checkpoints.bundled import shipped
from calotype.checkpoints.fuse import save_fused
from calotype.checkpoints.hashes import digest
from calotype.checkpoints.models import Models
from calotype.checkpoints.open_diffusion import open_diffusion
from calotype.checkpoints.store import Checkpoint
from calotype.errors import CalotypeError

INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def split(tmp_path):
    """The model that ships, its U-Net in two files."""
    folder = tmp_path / "model"
    shutil.copytree(shipped("emoji"), folder)
    unet = folder / "unet"
    [whole] = unet.glob("*.safetensors")
    state = load_file(whole)
    whole.unlink()
    keys = sorted(state)
    names = {key: f"diffusion_pytorch_model-0000{1 + n % 2}-of-00002.safetensors" for n, key in enumerate(keys)}
    for name in set(names.values()):
        save_file({key: state[key] for key in keys if names[key] == name}, unet / name)
    (unet / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}))
    return folder


def test_weights_in_several_files_are_read(split):
    index = split / "model_index.json"
    wanted = open_diffusion(Checkpoint("x", shipped("emoji", "model_index.json"))).unet.state_dict()
    opened = open_diffusion(Checkpoint("x", index))
    found = opened.unet.state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert opened.sha256 == digest(index)
    [first, _] = sorted((split / "unet").glob("*.safetensors"))
    save_file({key: value + 1 for key, value in load_file(first).items()}, first)
    assert digest(index) != opened.sha256


@pytest.mark.slow
def test_a_changed_part_is_read_again(split, settings):
    models = Models(settings)
    before = models.diffusion(str(split))
    assert models.diffusion(str(split)) is before
    [first, _] = sorted((split / "unet").glob("*.safetensors"))
    save_file({key: value * 0 for key, value in load_file(first).items()}, first)
    assert models.diffusion(str(split)) is not before


def test_merging_into_such_a_folder_writes_one_file(split, tmp_path):
    save_fused(Checkpoint("x", split / "model_index.json"), [], tmp_path / "merged")
    assert [path.name for path in sorted((tmp_path / "merged" / "unet").iterdir())] == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    assert open_diffusion(Checkpoint("x", tmp_path / "merged" / "model_index.json")).unet is not None


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"weight_map": {"a": "diffusion_pytorch_model-00003-of-00003.safetensors"}}, "lacks 1 of the 1 files"),
        ({"weight_map": {"a": "../../secret.safetensors"}}, "is damaged"),
        ({"weight_map": {"a": 1}}, "is damaged"),
        ({"weight_map": {}}, "is damaged"),
        ({}, "is damaged"),
        ([], "is damaged"),
    ],
)
def test_a_wrong_index_gets_a_sentence(split, index, words):
    (split / "unet" / INDEX).write_text(json.dumps(index))
    with pytest.raises(CalotypeError, match=words):
        open_diffusion(Checkpoint("x", split / "model_index.json"))


@pytest.mark.parametrize("pipeline", ["FluxPipeline", "StableDiffusion3Pipeline", "KandinskyV22Pipeline"])
def test_a_pipeline_of_another_family_is_named(split, pipeline):
    part = "unet" if pipeline.startswith("Kandinsky") else "transformer"
    (split / "model_index.json").write_text(json.dumps({"_class_name": pipeline, part: ["diffusers", "Model"]}))
    with pytest.raises(CalotypeError, match=f"is a model for diffusers' {pipeline}"):
        open_diffusion(Checkpoint("x", split / "model_index.json"))


def test_a_folder_of_a_flow_model_says_so(split, settings):
    config = split / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "FlowMatchEulerDiscreteScheduler"}))
    with pytest.raises(CalotypeError, match="predicts flow, which Calotype cannot sample"):
        Models(settings).diffusion(str(split))
    assert Models(settings).diffusion(str(split), prediction="v").training["prediction_type"] == "v_prediction"
