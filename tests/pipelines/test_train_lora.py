"""Learning a LoRA on a small model: a few steps on a few drawn pictures."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from calotype.checkpoints.lora import read_adapter
from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.files import run_lock
from calotype.pipelines import train_lora
from calotype.pipelines.train_lora import TrainResult
from calotype.record import Result
from calotype.tasks import Imagine, Note, Progress, TrainLora
from calotype.training.lora import run as train_lora_plan
from calotype.training.lora.text_states import encode_captions
from calotype.training.optim import optimizers


@pytest.fixture(scope="module")
def engine(small_settings):
    return Engine(dataclasses.replace(small_settings, precision="float32"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder as lora-scripts wants it, with odd names."""
    folder = tmp_path_factory.mktemp("照片")
    room = folder / "2_zkz 猫"
    room.mkdir()
    rng = np.random.default_rng(0)
    for n in range(3):
        picture = np.zeros((80 + 16 * n, 96, 3), np.uint8) + rng.integers(0, 255, 3, np.uint8)
        picture[20:50, 20:60] = rng.integers(0, 255, 3)
        Image.fromarray(picture).save(room / f"第 {n}.png")
    (room / "第 1.txt").write_text("zkz, square, red", "utf-8")
    return folder


def learn(engine, photos, out, stop=None, left=None, **options):
    """All that is told; `left` gets a copy of the folder as it is before the run is closed at step `stop`."""
    options = {"resolution": "64", "mixed_precision": "no", "network_dim": 2, "learning_rate": 1e-3, **options}
    options = {
        "model": "small",
        "max_train_steps": 6,
        "save_precision": "float",
        "min_bucket_reso": 32,
        "bucket_reso_steps": 32,
        **options,
    }
    task = TrainLora(photos=photos, output_dir=out, **{"output_name": "mine", **options})
    told, run = [], engine.run(task)
    for step in run:
        told.append(step)
        if stop and isinstance(step, Progress) and step.what.startswith("steps") and step.done == stop:
            if left:
                shutil.copytree(out, left)
            run.close()
            break
    return told


def said(told):
    return "\n".join(step.text for step in told if isinstance(step, Note))


def weights(out):
    return load_file(out / "mine.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_it_learns_and_the_file_works_here(engine, photos, tmp_path):
    told = learn(engine, photos, tmp_path, max_train_steps=12, learning_rate=5e-3)
    [learned] = [step for step in told if isinstance(step, TrainResult)]
    assert (
        learned.path == tmp_path / "mine.safetensors"
        and len(learned.losses) == 12
        and np.isfinite(learned.losses).all()
    )
    pictures = []
    for prompt in ("zkz", f"zkz <lora:{learned.path}:1>"):
        task = Imagine(prompt=prompt, seed=1, steps=2, size="64", model="small")
        pictures += [step.picture.pixels for step in engine.run(task) if isinstance(step, Result)]
    assert not np.array_equal(*pictures)
    assert not list(tmp_path.glob("*.state.safetensors"))


TIMES = {"ss_training_started_at", "ss_training_finished_at", "modelspec.date"}  # all else is the same


@pytest.mark.slow
def test_prompts_call_it_by_its_name_at_once(engine, photos, tmp_path):
    """Another one of the same name elsewhere gets a number; one that is made anew keeps its name."""
    options = {"max_train_steps": 2, "learning_rate": 5e-3, "output_name": "阿嬷"}
    names = [said(learn(engine, photos, tmp_path / part, **options)) for part in "ab"]
    assert "in prompts it is <lora:阿嬷:1>" in names[0] and "<lora:阿嬷-2:1>" in names[1]
    (tmp_path / "a" / "阿嬷.safetensors").unlink()
    assert "<lora:阿嬷:1>" in said(learn(engine, photos, tmp_path / "a", **options))
    task = Imagine(prompt="zkz <lora:阿嬷:0.8>", seed=1, steps=1, size="64", model="small")
    [result] = [step for step in engine.run(task) if isinstance(step, Result)]
    assert "阿嬷" in [model.name for model in result.record.models]


def test_the_same_run_gives_the_same_file(engine, photos, tmp_path):
    for name in "ab":
        learn(engine, photos, tmp_path / name)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    metadata = []
    for name in "ab":
        with safe_open(tmp_path / name / "mine.safetensors", "pt") as file:
            metadata.append(file.metadata())
    assert metadata[0].keys() == metadata[1].keys()
    assert {name for name, value in metadata[0].items() if metadata[1][name] != value} <= TIMES


@pytest.mark.many(plain=1)
@pytest.mark.parametrize(
    "options", [{}, {"train_batch_size": 2, "flip_aug": True, "shuffle_caption": True, "network_dropout": 0.2}]
)
def test_a_run_that_is_stopped_twice_ends_as_one_that_is_not(engine, photos, tmp_path, options):
    learn(engine, photos, tmp_path / "whole", **options)
    for stop in (2, 5, None):
        told = learn(engine, photos, tmp_path / "parts", stop, save_state_every=2, **options)
    assert "going on after step 5" in said(told)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.slow
def test_a_run_that_is_killed_twice_ends_as_one_that_is_not(engine, photos, tmp_path):
    """Its folder as it is at that moment is all that such a run leaves."""
    learn(engine, photos, tmp_path / "whole")
    for stop, left in ((3, "once"), (5, "twice")):
        learn(engine, photos, tmp_path / "parts", stop, left=tmp_path / left, save_state_every=2)
        shutil.rmtree(tmp_path / "parts")
        (tmp_path / left).rename(tmp_path / "parts")
        (tmp_path / "parts/mine.running").write_text("999999999 1.0", "utf-8")
    assert "going on after step 4 of 6" in said(learn(engine, photos, tmp_path / "parts", save_state_every=2))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_state_of_other_settings_is_not_gone_on_with(engine, photos, tmp_path):
    learn(engine, photos, tmp_path, 2, save_state_every=1)
    with pytest.raises(CalotypeError, match="other pictures or settings"):
        learn(engine, photos, tmp_path, network_alpha=2.0)


@pytest.mark.slow
def test_another_rate_or_length_goes_on_at_the_same_step(engine, photos, tmp_path):
    learn(engine, photos, tmp_path, 2)
    told = learn(engine, photos, tmp_path, learning_rate=2e-4, max_train_steps=4, lr_scheduler="constant")
    assert "going on after step 2 of 4, with another rate or length than before" in said(told)
    assert len(told[-1].losses) == 4 and told[-2].text.startswith("report")
    diary = (tmp_path / "mine.log.jsonl").read_text("utf-8").splitlines()
    assert [told["lr/unet"] for told in map(json.loads, diary) if "lr/unet" in told][-1] == 2e-4
    learn(engine, photos, tmp_path / "b", 5)
    with pytest.raises(CalotypeError, match="has 5 steps behind it, and 3 are asked for"):
        learn(engine, photos, tmp_path / "b", max_train_steps=3)


@pytest.mark.slow
def test_stopped_anywhere_it_goes_on_from_there(engine, photos, tmp_path):
    """What the last step had left to write is written then."""
    learn(engine, photos, tmp_path / "whole", save_every_n_steps=1)
    told = learn(engine, photos, tmp_path / "parts", 3, save_every_n_steps=1)
    told += learn(engine, photos, tmp_path / "parts", save_every_n_steps=1)
    assert "going on after step 3 of 6" in said(told)
    whole, parts = (
        sorted(path.name for path in (tmp_path / name).glob("*.safetensors")) for name in ("whole", "parts")
    )
    assert whole == parts and "mine-step00000003.safetensors" in parts
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.slow
def test_an_interrupt_in_the_middle_of_a_step_keeps_those_before(engine, photos, tmp_path, monkeypatch):
    learn(engine, photos, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupted(patch, engine, photos, tmp_path / "parts", at=4)
    assert "going on after step 3 of 6" in said(learn(engine, photos, tmp_path / "parts"))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def interrupted(patch, engine, photos, out, at):
    """Ctrl-C while gradients are computed."""
    own = train_lora.LoraRun._loss

    def loss(self, *args):
        if hasattr(self, "state") and self.state.step == at - 1:
            raise KeyboardInterrupt
        return own(self, *args)

    patch.setattr(train_lora.LoraRun, "_loss", loss)
    with pytest.raises(KeyboardInterrupt):
        learn(engine, photos, out)


def spoilt(patch, since, until=10**9):
    """Gradients that are no numbers while the loss is one."""
    own = train_lora.LoraRun._added_up

    def added_up(self, loss):
        for group in self.optimizer.param_groups:
            if since <= self.state.step + 1 < until:
                group["params"][0].grad[:] = float("nan")
        return own(self, loss)

    patch.setattr(train_lora.LoraRun, "_added_up", added_up)


@pytest.mark.slow
def test_gradients_that_are_no_numbers_end_it_and_the_last_good_state_goes_on(engine, photos, tmp_path, monkeypatch):
    with (
        monkeypatch.context() as patch,
        pytest.raises(CalotypeError, match=r"NaN since step 4.*goes on from it"),
    ):
        spoilt(patch, since=4)
        learn(engine, photos, tmp_path, save_state_every=2, save_every_n_steps=1, max_train_steps=9)
    for path in tmp_path.glob("*.safetensors"):
        assert all(torch.isfinite(value).all() for value in load_file(path).values()), path
    told = learn(engine, photos, tmp_path, save_state_every=2, save_every_n_steps=1, learning_rate=1e-4)
    assert "going on after step 2 of 6" in said(told) and np.isfinite(told[-1].losses).all()


def test_one_step_whose_gradients_are_no_numbers_is_left_out(engine, photos, tmp_path, monkeypatch):
    spoilt(monkeypatch, since=6)
    learn(engine, photos, tmp_path)
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values())


def test_only_one_run_at_a_time_writes_a_name(engine, photos, tmp_path):
    with run_lock(tmp_path, "mine"), pytest.raises(CalotypeError, match="another run is at work on"):
        learn(engine, photos, tmp_path, max_train_steps=1)
    (tmp_path / "mine.running").write_text("999999999 1.0", "utf-8")  # of a run that was killed
    learn(engine, photos, tmp_path, max_train_steps=1)
    assert weights(tmp_path) and not (tmp_path / "mine.running").exists()


@pytest.mark.many(plain=1)
@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"optimizer_args": "nonsense=1"}, "does not take"),
        ({"optimizer_type": "Adm"}, "no optimizer is named Adm"),
        ({"resume": Path("nowhere")}, "there is no state at nowhere"),
    ],
)
def test_a_dry_run_finds_what_a_run_would_fail_on(engine, photos, tmp_path, options, word):
    with pytest.raises(CalotypeError, match=word):
        learn(engine, photos, tmp_path, dry_run=True, **options)


def test_what_an_optimizer_prints_is_not_among_the_lines(capsys, monkeypatch):
    class Talking(torch.optim.SGD):
        def __init__(self, *args, **settings):
            print("at work")
            super().__init__(*args, **settings)

    monkeypatch.setattr(torch.optim, "Talking", Talking, raising=False)
    optimizers.create_optimizer("Talking", [{"params": [torch.zeros(1, requires_grad=True)], "lr": 0.1}])
    told = capsys.readouterr()
    assert not told.out and "at work" in told.err


def test_captions_that_change_fill_no_memory(engine, photos, tmp_path, monkeypatch):
    seen = []
    own = train_lora_plan.Planned._state_of

    def state_of(self, caption):
        found = own(self, caption)
        seen.append(len(self.texts))
        return found

    monkeypatch.setattr(train_lora_plan, "MAX_TEXT_STATES", 3 * 77 * 64 * 4)
    monkeypatch.setattr(train_lora_plan.Planned, "_state_of", state_of)
    options = {"shuffle_caption": True, "caption_tag_dropout_rate": 0.5, "caption_suffix": ", a, b, c, d"}
    learn(engine, photos, tmp_path, network_train_unet_only=True, max_token_length=75, **options)
    assert max(seen) == 3


def test_names_and_metadata_are_kohyas(engine, photos, tmp_path):
    learn(engine, photos, tmp_path, conv_dim=2, max_train_steps=1)
    state = weights(tmp_path)
    key = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    assert state[f"{key}.lora_down.weight"].shape == (2, 64) and state[f"{key}.lora_up.weight"].shape == (64, 2)
    assert float(state[f"{key}.alpha"]) == 2.0
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight" in state
    assert state["lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight"].shape == (2, 32, 3, 3)
    assert state["lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight"].shape == (32, 2, 1, 1)
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        told = file.metadata()
    assert (
        told["ss_network_dim"] == "2" and told["ss_network_module"] == "networks.lora" and told["ss_unet_lr"] == "None"
    )
    assert told["ss_num_train_images"] == "6" and '"square": 1' in told["ss_tag_frequency"]
    adapter = read_adapter(tmp_path / "mine.safetensors")
    assert told["sshs_model_hash"].startswith(adapter.short_hash)


@pytest.mark.slow
def test_diffusers_reads_the_file_and_answers_alike(engine, photos, tmp_path):
    pytest.importorskip("peft")
    from diffusers import UNet2DConditionModel
    from diffusers.loaders import StableDiffusionLoraLoaderMixin

    from calotype.checkpoints.lora import attach

    learn(engine, photos, tmp_path, learning_rate=1e-2, conv_dim=2)
    model = engine.models.diffusion("small")
    model.apply_adapters((), lambda: lambda: None)
    theirs = UNet2DConditionModel.from_config(model.unet.config)
    theirs.load_state_dict(model.unet.state_dict())
    converted, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(
        tmp_path / "mine.safetensors", unet_config=model.unet.config
    )
    StableDiffusionLoraLoaderMixin.load_lora_into_unet(converted, alphas, theirs.eval())
    x, t, words = torch.randn(1, 4, 8, 8), torch.tensor(400), torch.randn(1, 77, 64)
    with torch.inference_mode():
        plain = model.unet(x, t, words).sample
        wanted = theirs(x, t, words).sample
        with attach([(read_adapter(tmp_path / "mine.safetensors"), 1.0, 1.0)], model.unet, []) as on:
            found = model.unet(x, t, words).sample
    assert (found - wanted).abs().max() < 1e-4 and (found - plain).abs().max() > 1e-3
    assert all(name.startswith("text_encoder") for name in on.unfit)


def test_the_first_step_begins_at_the_base_model(engine, photos, tmp_path):
    """Up is zero: the first loss is the base model's own, whatever the rank."""
    losses = [
        learn(engine, photos, tmp_path / str(rank), max_train_steps=1, network_dim=rank)[-1].losses[0]
        for rank in (1, 4)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("length", "tokens"), [(75, 77), (150, 152), (225, 227)])
def test_long_captions_are_as_long_as_kohyas(engine, length, tokens):
    with torch.inference_mode():
        states, _ = encode_captions(engine.models.diffusion("small"), ["a", "b, " * 200], length, 0)
    assert states.shape == (2, tokens, 64)


def test_regularisation_pictures_count_as_told(engine, photos, tmp_path):
    told = learn(
        engine, photos, tmp_path, regular=photos, prior_loss_weight=0.0, max_train_steps=1, train_batch_size=64
    )
    assert any(isinstance(step, Note) and "3 for regularization" in step.text for step in told)


@pytest.mark.slow
@pytest.mark.parametrize("is_unet_alone", [True, False])
def test_regularisation_pictures_can_hold_what_the_model_itself_makes(engine, photos, tmp_path, is_unet_alone):
    """An untrained LoRA changes nothing, so they cost nothing then, however much they count; later they do."""
    options = {"regular": photos, "max_train_steps": 4, "train_batch_size": 64, "learning_rate": 1e-2}
    options["network_train_unet_only"] = is_unet_alone

    def losses(name, **more):
        return learn(engine, photos, tmp_path / name, **options, **more)[-1].losses

    without = losses("without", prior_loss_weight=0.0)
    held = losses("held", prior_target="model", prior_loss_weight=50.0)
    shown = losses("shown", prior_loss_weight=50.0)
    assert held[0] == pytest.approx(without[0], rel=1e-5) and shown[0] > 10 * held[0]
    assert held[1] > without[1]


@pytest.mark.slow
def test_steps_that_add_up_batches_end_with_their_epoch(engine, photos, tmp_path):
    """One batch an epoch: four are asked for, and there is one; the plan, the files and the losses say so."""
    options = {"train_batch_size": 64, "max_train_steps": 0, "max_train_epochs": 2, "save_every_n_epochs": 1}
    one = learn(engine, photos, tmp_path / "one", **options)
    four = learn(engine, photos, tmp_path / "four", gradient_accumulation_steps=4, **options)
    assert any(isinstance(step, Note) and "2 steps of batch size 6 in 2 epochs" in step.text for step in four)
    assert four[-1].losses == pytest.approx(one[-1].losses, rel=1e-3) and len(four[-1].losses) == 2
    assert (tmp_path / "four" / "mine-000001.safetensors").is_file()
    with safe_open(tmp_path / "four" / "mine.safetensors", "pt") as file:
        told = file.metadata()
    assert (told["ss_epoch"], told["ss_steps"], told["ss_num_batches_per_epoch"]) == ("2", "2", "1")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"learning_rate": 0.0}, "nothing would be trained"),
        ({"optimizer_type": "Adamw9"}, "did you mean AdamW"),
        ({"optimizer_type": "Prodigy", "optimizer_args": "d0"}, "not installed|optimizer_args looks like"),
        ({"optimizer_args": "nonsense=1"}, "does not take"),
        ({"model": "yunet"}, "not for making pictures"),
    ],
)
def test_what_cannot_be_is_said(engine, photos, tmp_path, options, word):
    with pytest.raises(CalotypeError, match=word):
        learn(engine, photos, tmp_path, **options)


def test_a_folder_without_photos_is_said(engine, tmp_path):
    with pytest.raises(CalotypeError, match="has no pictures in it"):
        learn(engine, tmp_path, tmp_path)
    with pytest.raises(CalotypeError, match="there is no folder"):
        learn(engine, tmp_path / "none", tmp_path)


@pytest.mark.slow
def test_a_dry_run_does_nothing(engine, photos, tmp_path):
    told = learn(engine, photos, tmp_path / "out", dry_run=True)
    assert all(isinstance(step, Note | Progress) for step in told) and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_with_twice_the_batch(photos, tmp_path):
    options = "--device cpu --resolution 64 --mixed-precision no --network-dim 2 --learning-rate 1e-3 --flip-aug"
    options += " --min-bucket-reso 32 --bucket-reso-steps 32 --save-precision float --output-name mine"
    args = [str(photos), *options.split(), "--max-train-steps", "4", "--json"]
    environ = os.environ | {"CALOTYPE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    module = ["-m", "calotype", "train", "lora", *args]
    one = [sys.executable, *module, "--train-batch-size", "2", "--output-dir", str(tmp_path / "one")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = [*launcher, *module, "--train-batch-size", "1", "--output-dir", str(tmp_path / "two")]
    curves = []
    for command in (one, two):
        run = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=200)
        assert [json.loads(line)["event"] for line in run.stdout.splitlines()].count("done") == 1  # one of them speaks
        diary = (Path(command[-1]) / "mine.log.jsonl").read_text("utf-8").splitlines()  # it has every step
        curves.append([told["loss/current"] for told in map(json.loads, diary) if "loss/current" in told])
    assert len(curves[0]) == 4 and curves[0] == pytest.approx(curves[1], rel=1e-3)
    ours, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert ours.keys() == theirs.keys()
    apart = sum(float((ours[key] - theirs[key]).square().sum()) for key in ours) ** 0.5
    assert apart < 0.01 * sum(float(value.square().sum()) for value in ours.values()) ** 0.5
