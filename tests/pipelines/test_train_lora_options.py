"""sd-scripts' options do what they say, on a small model, in a few steps each."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from calotype.checkpoints.lora import attach, read_adapter
from calotype.errors import CalotypeError
from calotype.pipelines.train_lora import LoraRun
from calotype.tasks import Note
from calotype.training.data.buckets import bucket_sizes, fit
from calotype.training.data.dataset import Example
from calotype.training.lora.latents import CachedLatents
from calotype.training.optim.grad_scale import GradScaler
from tests.pipelines.test_train_lora import engine, learn, photos, same, weights  # noqa: F401

ALL_CHANCE = {
    "train_batch_size": 2,
    "color_aug": True,
    "random_crop": True,
    "flip_aug": True,
    "network_dropout": 0.1,
    "rank_dropout": 0.2,
    "module_dropout": 0.2,
    "noise_offset": 0.1,
    "noise_offset_random_strength": True,
    "multires_noise_iterations": 3,
    "ip_noise_gamma": 0.1,
    "ip_noise_gamma_random_strength": True,
    "caption_tag_dropout_rate": 0.3,
    "caption_dropout_every_n_epochs": 2,
    "scale_weight_norms": 0.01,
    "stop_text_encoder_training": 2,
    "gradient_checkpointing": True,
}


def said(told):
    return [step.text for step in told if isinstance(step, Note)]


@pytest.mark.parametrize(
    "options",
    [
        ALL_CHANCE,
        {"optimizer_type": "Prodigy", "learning_rate": 1.0, "algo": "loha", "rank_dropout": 0.3},
        {"optimizer_type": "AdamWScheduleFree", "algo": "lokr", "cache_latents_to_disk": True},
    ],
)
def test_a_run_that_is_stopped_twice_ends_as_one_that_is_not(engine, photos, tmp_path, options):  # noqa: F811
    pytest.importorskip("prodigyopt" if "Prodigy" in options.values() else "schedulefree")
    learn(engine, photos, tmp_path / "whole", max_train_steps=5, **options)
    for stop in (2, 5, None):
        learn(engine, photos, tmp_path / "parts", stop, max_train_steps=5, save_state_every=1, **options)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_the_text_encoder_stays_from_the_step_that_is_told(engine, photos, tmp_path):  # noqa: F811
    learn(engine, photos, tmp_path, max_train_steps=4, save_every_n_steps=2, stop_text_encoder_training=2)
    middle, end = load_file(tmp_path / "mine-step00000002.safetensors"), weights(tmp_path)
    for key in middle:
        if key.endswith("lora_up.weight"):
            assert torch.equal(middle[key], end[key]) == key.startswith("lora_te_"), key
    assert any(value.any() for key, value in end.items() if key.startswith("lora_te_") and "lora_up" in key)
    learn(engine, photos, tmp_path / "never", max_train_steps=2, stop_text_encoder_training=-1)
    still = weights(tmp_path / "never")
    assert not any(value.any() for key, value in still.items() if key.startswith("lora_te_") and "lora_up" in key)


@pytest.mark.slow
def test_files_of_torch_are_readable_without_running_anything(engine, photos, tmp_path):  # noqa: F811
    options = {"max_train_steps": 4, "save_every_n_steps": 1, "save_last_n_steps": 1}
    learn(engine, photos, tmp_path, save_model_as="pt", **options)
    learn(engine, photos, tmp_path / "plain", **options)
    state = torch.load(tmp_path / "mine.pt", weights_only=True)
    assert same(state, weights(tmp_path / "plain")) and read_adapter(tmp_path / "mine.pt").modules
    names = sorted(path.name for path in tmp_path.glob("mine*.pt"))
    assert names == ["mine-step00000002.pt", "mine-step00000003.pt", "mine.pt"]


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["loha", "lokr"])
def test_other_kinds_of_layers_answer_here_as_in_training(engine, photos, tmp_path, algo):  # noqa: F811
    learn(engine, photos, tmp_path, algo=algo, network_module="lycoris.kohya", learning_rate=1e-2, max_train_steps=2)
    adapter = read_adapter(tmp_path / "mine.safetensors")
    model = engine.models.diffusion("small")
    model.apply_adapters((), lambda: lambda: None)
    x, t, words = torch.randn(1, 4, 8, 8), torch.tensor(400), torch.randn(1, 77, 64)
    with torch.inference_mode():
        plain = model.unet(x, t, words).sample
        with attach([(adapter, 1.0, 1.0)], model.unet, [part.encoder for part in model.text]) as on:
            changed = model.unet(x, t, words).sample
    assert not on.unfit and (changed - plain).abs().max() > 1e-3
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        told = file.metadata()
        assert any("resnets_0_conv1" in key for key in file.keys())  # noqa: SIM118
    assert f'"algo": "{algo}"' in told["ss_network_args"] and told["ss_network_module"] == "lycoris.kohya"


@pytest.mark.slow
def test_a_state_that_is_pointed_at_is_gone_on_with(engine, photos, tmp_path):  # noqa: F811
    learn(engine, photos, tmp_path / "one", save_state=True, max_train_steps=3)
    assert (tmp_path / "one" / "mine.state.safetensors").is_file()
    told = learn(engine, photos, tmp_path / "two", resume=tmp_path / "one", learning_rate=1e-4, max_train_steps=2)
    assert any("trained for 3 steps, are trained further" in text for text in said(told))
    state = weights(tmp_path / "one")
    near = [(weights(tmp_path / "two")[key] - state[key]).abs().max() for key in state if "lora_up" in key]
    assert 0 < max(near) < 1e-3
    with pytest.raises(CalotypeError, match="there is no state at"):
        learn(engine, photos, tmp_path / "three", resume=tmp_path / "none")
    with pytest.raises(CalotypeError, match="another optimizer"):
        learn(engine, photos, tmp_path / "four", resume=tmp_path / "one", optimizer_type="AdaFactor")


@pytest.mark.slow
def test_ranks_may_come_from_the_file_that_is_gone_on_from(engine, photos, tmp_path):  # noqa: F811
    first = tmp_path / "one" / "mine.safetensors"
    options = {"max_train_steps": 1, "network_train_unet_only": True}
    learn(engine, photos, tmp_path / "one", network_dim=3, network_alpha=1.5, conv_dim=1, **options)
    with pytest.raises(CalotypeError, match="has another rank"):
        learn(engine, photos, tmp_path / "two", network_weights=first, **options)
    learn(engine, photos, tmp_path / "two", network_weights=first, dim_from_weights=True, **options)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert {key: value.shape for key, value in one.items()} == {key: value.shape for key, value in two.items()}
    assert not same(one, two) and all(torch.equal(one[key], two[key]) for key in one if key.endswith("alpha"))


@pytest.mark.slow
def test_what_was_told_and_what_is_are_compared(engine, photos, tmp_path):  # noqa: F811
    told = learn(engine, photos, tmp_path, dry_run=True, v2=True, optimizer_type="AdamW8bit", mixed_precision="fp16")
    text = " ".join(said(told))
    assert "small is not an SD 2.x model" in text and "AdamW is used instead" in text and "fp16 needs a GPU" in text
    with pytest.raises(CalotypeError, match="is for epsilon models"):
        learn(engine, photos, tmp_path, v_pred_like_loss=1.0)


def test_a_file_may_keep_its_settings_to_itself(engine, photos, tmp_path):  # noqa: F811
    learn(engine, photos, tmp_path, max_train_steps=1, no_metadata=True)
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        told = file.metadata()
    assert "ss_tag_frequency" not in told and told["ss_network_dim"] == "2" and "sshs_model_hash" in told


@pytest.mark.slow
def test_a_loss_made_larger_by_a_power_of_two_changes_nothing(engine, photos, tmp_path, monkeypatch):  # noqa: F811
    """What fp16 needs, tried where it must not show: float32 is exact in powers of two."""
    learn(engine, photos, tmp_path / "plain", max_train_steps=3)
    monkeypatch.setattr(GradScaler, "for_dtype", lambda dtype: GradScaler(1024.0))
    learn(engine, photos, tmp_path / "scaled", 2, max_train_steps=3, save_state_every=1)
    monkeypatch.setattr(GradScaler, "for_dtype", lambda dtype: GradScaler(8.0))  # the state knows better
    learn(engine, photos, tmp_path / "scaled", max_train_steps=3)
    assert same(weights(tmp_path / "plain"), weights(tmp_path / "scaled"))


def test_the_loras_own_numbers_may_be_half_as_long(engine, photos, tmp_path):  # noqa: F811
    options = {"mixed_precision": "bf16", "full_bf16": True, "max_train_steps": 3}
    learn(engine, photos, tmp_path, **options)
    state = weights(tmp_path)
    assert all(torch.equal(value, value.bfloat16().float()) for value in state.values())
    assert any(value.any() for key, value in state.items() if "lora_up" in key)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"full_fp16": True}, "full_fp16 needs mixed_precision fp16"),
        ({"dim_from_weights": True}, "needs the LoRA"),
        ({"adaptive_noise_scale": 0.1}, "needs noise_offset"),
        ({"network_args": "conv=1"}, "has no argument conv=1"),
        ({"network_args": "conv_dim"}, "is such as conv_dim=4"),
        ({"network_args": "conv_dim=wide"}, "conv_dim takes"),
        ({"lr_scheduler": "piecewise_constant"}, "lr_scheduler_args is such as"),
        ({"lr_scheduler": "adafactor"}, "needs optimizer_type AdaFactor"),
        ({"min_timestep": 500, "max_timestep": 400}, "below"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(engine, photos, tmp_path, options, words):  # noqa: F811
    with pytest.raises(CalotypeError, match=words):
        learn(engine, photos, tmp_path, **options)


def test_a_run_that_goes_on_keeps_its_session_and_its_beginning(engine, photos, tmp_path):  # noqa: F811
    begun = time.time()
    learn(engine, photos, tmp_path, 2, max_train_steps=3, save_every_n_steps=1)
    with safe_open(tmp_path / "mine-step00000001.safetensors", "pt") as file:
        session = file.metadata()["ss_session_id"]
    between = time.time()
    learn(engine, photos, tmp_path, max_train_steps=3, metadata_author="me")
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        told = file.metadata()
    assert begun <= float(told["ss_training_started_at"]) < between
    assert between < float(told["ss_training_finished_at"]) <= time.time()
    assert told["modelspec.author"] == "me" and told["ss_session_id"] == session
    learn(engine, photos, tmp_path / "other", max_train_steps=1, seed=7)
    with safe_open(tmp_path / "other" / "mine.safetensors", "pt") as file:
        assert file.metadata()["ss_session_id"] != session


def test_sdxl_is_told_of_each_photo_what_sd_scripts_tells():
    told = SimpleNamespace(model=SimpleNamespace(family="sdxl", device="cpu", dtype=torch.float32))
    lessons = [
        CachedLatents(Example(Path(), ""), fit(size, bucket_sizes((512, 512))), 1.0)
        for size in ((1920, 1080), (600, 800))
    ]
    added = LoraRun.added_conditions(told, lessons, torch.zeros(2, 4))
    assert added["time_ids"].tolist() == [[1080, 1920, 12, 0, 384, 640], [800, 600, 0, 8, 576, 448]]
