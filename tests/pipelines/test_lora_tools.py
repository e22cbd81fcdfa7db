"""The tools for LoRA files through their own door, on the model that ships."""

import copy
import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from calotype.checkpoints.lora import attach, read_adapter
from calotype.checkpoints.lora import kohya_file as files
from calotype.checkpoints.open_diffusion import open_diffusion
from calotype.checkpoints.store import ModelStore
from calotype.cli import main
from calotype.engine import Engine
from calotype.pipelines.lora_tools import layer_pairs
from calotype.record import Result
from calotype.tasks import ExtractLora, Imagine
from tests.checkpoints.test_lora import kohya


@pytest.fixture(scope="module")
def engine(settings):
    return Engine(dataclasses.replace(settings, precision="float32"))


@pytest.fixture(scope="module")
def emoji(settings):
    return open_diffusion(ModelStore(settings).find("emoji", "diffusion"))


@pytest.fixture(scope="module")
def loras(emoji, tmp_path_factory):
    """Two files with random weights, strong enough to be seen."""
    folder = tmp_path_factory.mktemp("loras")
    for name, rank, seed in (("one", 4, 0), ("two", 6, 1)):
        state = kohya(emoji.unet, [emoji.text[0].encoder], rank, has_convolutions=name == "two", seed=seed)
        told = {"ss_network_dim": rank, "ss_tag_frequency": {f"3_{name}": {"zkz": 3, "red hat": 1}}, "ss_seed": 7}
        state = {key: value.half() * (1 if key.endswith("alpha") else 0.7) for key, value in state.items()}
        files.write(folder / f"{name}.safetensors", state, told)
        if name == "one":
            few = {key: value for key, value in state.items() if "mid_block" in key or "_layers_0_" in key}
            files.write(folder / "few.safetensors", few, told)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch, settings):
    monkeypatch.setenv("CALOTYPE_HOME", str(settings.home))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drawn(engine, prompt, model="emoji"):
    how = {"seed": 3, "steps": 3, "size": "64", "sampler": "Euler", "guidance": 4.0, "rescale": 0.0}
    task = Imagine(prompt=prompt, model=str(model), **how)
    [result] = [step for step in engine.run(task) if isinstance(step, Result)]
    return result.picture.pixels.astype(int)


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def changes(path, emoji):
    """What a file adds to every weight of the U-Net."""
    before = {name: value.clone().float() for name, value in emoji.unet.state_dict().items()}
    unet = emoji.unet.float()
    with attach([(read_adapter(path), 1.0, 1.0)], unet, [emoji.text[0].encoder]):
        return {name: value - before[name] for name, value in unet.state_dict().items()}


@pytest.mark.slow
def test_a_model_with_it_in_draws_as_one_that_wears_it(engine, loras, place):
    shipped = [path for path in ModelStore(engine.settings).find("emoji").path.parent.rglob("*") if path.is_file()]
    before = [hashlib.sha256(path.read_bytes()).digest() for path in shipped]
    one = loras / "one.safetensors"
    assert main(["lora", "merge", f"{one}:0.8", "--into", "emoji", "-o", "baked", "--save-precision", "float"]) == 0
    plain, worn, baked = (
        drawn(engine, "cat face, noto"),
        drawn(engine, f"cat face, noto <lora:{one}:0.8>"),
        drawn(engine, "cat face, noto", place / "baked"),
    )
    assert np.abs(worn - baked).max() <= 1 < np.abs(worn - plain).max()
    assert [hashlib.sha256(path.read_bytes()).digest() for path in shipped] == before
    assert not list(place.glob(".calotype-*"))

    assert main(["lora", "merge", f"{one}:0.8", "--into", "emoji", "-o", "half"]) == 0
    kinds = {value.dtype for value in load_file(place / "half/unet/diffusion_pytorch_model.safetensors").values()}
    assert kinds == {torch.float16}
    assert np.abs(worn - drawn(engine, "cat face, noto", place / "half")).mean() < 1


@pytest.mark.slow
def test_two_in_one_draw_as_both(engine, loras, place):
    one, two = loras / "one.safetensors", loras / "two.safetensors"
    assert main(["lora", "merge", f"{one}:0.8", f"{two}:-0.5", "-o", "x.safetensors", "--save-precision", "float"]) == 0
    both = drawn(engine, f"cat face, noto <lora:{one}:0.8> <lora:{two}:-0.5>")
    assert np.abs(both - drawn(engine, f"cat face, noto <lora:{place / 'x.safetensors'}:1>")).max() <= 1
    told = metadata(place / "x.safetensors")
    assert json.loads(told["ss_tag_frequency"]).keys() == {"3_one", "3_two"}
    assert told["ss_training_comment"] == "merged: one:0.8, two:-0.5" and told["ss_network_dim"] == "Dynamic"


@pytest.mark.slow
def test_what_is_extracted_is_what_was_put_in(emoji, loras, place, capsys):
    few = loras / "few.safetensors"
    assert main(["lora", "merge", str(few), "--into", "emoji", "-o", "tuned", "--save-precision", "float"]) == 0
    how = ["--rank", "4", "--clamp-quantile", "1", "--save-precision", "float", "--json"]
    assert main(["lora", "extract", "tuned", "emoji", "-o", "x.safetensors", *how]) == 0
    told = capsys.readouterr().out
    done = json.loads(told.splitlines()[-1])
    assert "layers are equal in both, and are omitted" in told
    assert done["kept"] > 0.9999 and done["rank"] == 4
    assert load_file(place / "x.safetensors").keys() == load_file(few).keys()
    wanted, found = changes(few, emoji), changes(place / "x.safetensors", emoji)
    for name, value in wanted.items():
        assert (found[name] - value).abs().max() <= 1e-3 * max(float(value.abs().max()), 1e-3), name
    assert main(["lora", "extract", "emoji", "emoji", "-o", "z.safetensors"]) == 2
    assert "do not differ" in capsys.readouterr().err


def test_text_encoders_that_hardly_differ_are_left_out(emoji, loras):
    one = read_adapter(loras / "one.safetensors")
    tuned = copy.deepcopy(emoji)
    with attach([(one, 0.0, 1.0)], tuned.unet, [tuned.text[0].encoder]):
        tuned.text[0].encoder.text_model.encoder.layers[0].mlp.fc1.weight[0, 0] += 0.03
        for least, parts in ((0.01, {"unet", "text_encoder"}), (0.05, {"unet"})):
            task = ExtractLora(tuned="a", base="b", out=loras / "x.safetensors", min_diff=least)
            assert {part for (part, _), *_ in layer_pairs(task, tuned, emoji)} == parts


def test_a_lower_rank_and_what_was_kept(loras, place, capsys):
    two = loras / "two.safetensors"
    assert main(["lora", "resize", str(two), "-o", "x.safetensors", "--rank", "3", "--conv-rank", "2"]) == 0
    assert "of the energy kept in 142 layers of rank 2 to 3" in capsys.readouterr().err
    state, told = load_file(place / "x.safetensors"), metadata(place / "x.safetensors")
    assert {value.shape[0] for key, value in state.items() if "lora_down" in key} == {2, 3}
    assert {value.dtype for key, value in state.items() if "lora_" in key and "weight" in key} == {torch.float16}
    assert told["ss_training_comment"] == "rank changed from 6 to 3 (conv: 2)" and told["ss_seed"] == "7"
    assert told["sshs_model_hash"] != metadata(two)["sshs_model_hash"]
    assert main(["lora", "info", "x.safetensors", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sshs_model_hash"] == told["sshs_model_hash"] and "note" not in facts
    assert facts["sshs_legacy_hash"] == told["sshs_legacy_hash"]
    assert facts["parts"]["unet"]["ranks"] == [2, 3] and facts["tags"] == {"3_two": {"zkz": 3, "red hat": 1}}
    sha256 = hashlib.sha256((place / "x.safetensors").read_bytes()).hexdigest()
    assert (facts["sha256"], facts["autov2"]) == (sha256, sha256[:10])
    assert main(["lora", "info", str(two)]) == 0
    assert "zkz (3), red hat (1)" in capsys.readouterr().out


def test_other_names_and_back(loras, place):
    two = loras / "two.safetensors"
    for source, to, out in ((two, "diffusers", "d.safetensors"), ("d.safetensors", "peft", "p")):
        assert main(["lora", "convert", str(source), "--to", to, "-o", out]) == 0
    assert main(["lora", "convert", "p", "-o", "back.safetensors"]) == 0
    before, after = load_file(two), load_file(place / "back.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert metadata(place / "back.safetensors") == metadata(two)
    assert "unet.mid_block.attentions.0.proj_in.lora_A.weight" in load_file(place / "d.safetensors")


def test_converting_keeps_learned_words_and_refuses_unknown_tensors(loras, place, capsys):
    state = {**load_file(loras / "few.safetensors"), "bundle_emb.zkz.emb_params": torch.ones(2, 256)}
    save_file(state, place / "words.safetensors")
    assert main(["lora", "convert", "words.safetensors", "-o", "kohya.safetensors"]) == 0
    assert torch.equal(load_file(place / "kohya.safetensors")["bundle_emb.zkz.emb_params"], torch.ones(2, 256))
    assert main(["lora", "convert", "words.safetensors", "--to", "diffusers", "-o", "d.safetensors"]) == 0
    assert "have no place for the learned words zkz, which are left out" in capsys.readouterr().err
    save_file({**state, "strange.tensor": torch.ones(3)}, place / "strange.safetensors")
    assert main(["lora", "convert", "strange.safetensors", "-o", "x.safetensors"]) == 2
    assert "belong to no kind of LoRA that Calotype knows, such as strange.tensor" in capsys.readouterr().err
    assert not (place / "x.safetensors").exists()


@pytest.mark.parametrize("left_out", ["lora_up.weight", "lora_down.weight"])
@pytest.mark.parametrize(
    "words",
    [
        ["convert", "-o", "x.safetensors"],
        ["convert", "-o", "x", "--to", "peft"],
        ["convert", "-o", "x.safetensors", "--to", "diffusers"],
        ["info"],
        ["resize", "-o", "x.safetensors", "--rank", "1"],
        ["merge", "-o", "x.safetensors"],
        ["merge", "-o", "x.safetensors", "--into", "emoji"],
    ],
    ids=" ".join,
)
def test_a_layer_with_half_of_its_tensors_is_refused_by_every_tool(loras, place, capsys, words, left_out):
    state = load_file(loras / "few.safetensors")
    layer = next(key.partition(".")[0] for key in state if key.endswith(left_out))
    del state[f"{layer}.{left_out}"]
    save_file(state, place / "half.safetensors")
    assert main(["lora", words[0], "half.safetensors", *words[1:]]) == 2
    [sentence] = capsys.readouterr().err.splitlines()
    name = layer.removeprefix("lora_unet_").removeprefix("lora_te_")
    role = left_out.split("_")[1].split(".")[0]
    start = f"the LoRA half is damaged: the tensors of {name} do not fit ({role} is missing)"
    assert start in sentence and not (place / "x.safetensors").exists() and not (place / "x").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (["merge", "ONE"], "give -o"),
        (["merge", "ONE", "-o", "ONE", "--overwrite"], "inputs are never overwritten"),
        (["merge", "ONE:0", "-o", "x.safetensors"], "every weight is 0"),
        (["merge", "ONE", "-o", "there.safetensors"], "already exists"),
        (["merge", "ONE", "-o", "x.ckpt"], "is not a name for the result"),
        (["merge", "ONE", "-o", "no/x.safetensors"], "there is no folder"),
        (["merge", "ONE", "--into", "emoji", "-o", "."], "cannot be the output folder"),
        (["merge", "ONE", "--into", "emoji", "-o", "x", "--rank", "3"], "not both"),
        (["merge", "OTHER", "--into", "emoji", "-o", "x"], "has names of layers that Calotype does not know"),
        (["resize", "OTHER", "-o", "x.safetensors", "--rank", "1"], "damaged"),
        (["resize", "ONE", "-o", "x.safetensors"], "give --rank N, or --dynamic"),
        (["convert", "OTHER", "-o", "x.safetensors", "--to", "diffusers"], "which neither SD 1.x"),
        (["convert", "OTHER", "-o", "x.safetensors", "--to", "kohya"], "which neither SD 1.x"),
        (["convert", ".", "-o", "x.safetensors"], "holds no LoRA"),
        (["info", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(loras, place, capsys, words, said):
    (place / "there.safetensors").write_bytes(b"mine")
    other = {
        "lora_unet_double_0.lora_down.weight": torch.ones(3, 4),
        "lora_unet_double_0.lora_up.weight": torch.ones(5, 2),
    }
    if words[0] == "convert":
        other["lora_unet_double_0.lora_up.weight"] = torch.ones(5, 3)
    save_file(other, place / "other.safetensors")
    names = {"ONE": str(loras / "one.safetensors"), "OTHER": "other.safetensors"}
    words = [names.get(word, word.replace("ONE", names["ONE"])) for word in words]
    before = {path: path.read_bytes() for path in (*loras.iterdir(), *place.iterdir())}
    assert main(["lora", *words]) == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert said in sentence
    assert {path: path.read_bytes() for path in (*loras.iterdir(), *place.iterdir())} == before
