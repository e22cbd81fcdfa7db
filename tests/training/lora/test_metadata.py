"""What a LoRA's file tells of its training is what sd-scripts' files tell."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from calotype.checkpoints.lora.kohya_file import write
from calotype.tasks import TrainLora
from calotype.training.data.dataset import Example
from calotype.training.lora.metadata import Count, Run, metadata, weight_hashes

_split = str.split
KOHYAS = _split(
    """
    session_id training_started_at training_finished_at output_name learning_rate text_encoder_lr unet_lr
    num_train_images num_validation_images num_reg_images num_batches_per_epoch num_epochs epoch steps
    max_train_steps gradient_checkpointing gradient_accumulation_steps batch_size_per_device total_batch_size
    resolution lr_warmup_steps lr_scheduler network_module network_dim network_alpha network_dropout network_args
    mixed_precision full_fp16 v2 base_model_version clip_skip max_token_length cache_latents seed lowram
    noise_offset noise_offset_random_strength multires_noise_iterations multires_noise_discount adaptive_noise_scale
    zero_terminal_snr training_comment sd_scripts_commit_hash optimizer max_grad_norm caption_dropout_rate
    caption_dropout_every_n_epochs caption_tag_dropout_rate face_crop_aug_range prior_loss_weight min_snr_gamma
    scale_weight_norms ip_noise_gamma ip_noise_gamma_random_strength debiased_estimation loss_type huber_schedule
    huber_scale huber_c fp8_base fp8_base_unet validation_seed validation_split max_validation_steps
    validate_every_n_epochs validate_every_n_steps resize_interpolation color_aug flip_aug random_crop
    shuffle_caption enable_bucket bucket_no_upscale min_bucket_reso max_bucket_reso keep_tokens dataset_dirs
    reg_dataset_dirs tag_frequency bucket_info sd_model_name sd_model_hash new_sd_model_hash vae_name vae_hash
    new_vae_hash
    """
)
PHOTOS = [
    Example(Path("p/3_anna/a.png"), "anna, red", 3),
    Example(Path("p/3_anna/b.png"), "anna, blue", 3),
    Example(Path("r/2_person/c.png"), "person", 6, is_regularization=True),
]
SIZES = [((512, 768), (512, 768)), ((600, 600), (512, 512)), ((512, 520), (512, 512))]
COUNT = Count(batches=6, epochs=2, epoch=1, steps=6, total=12, batch_size=2)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "base.safetensors"
    path.write_bytes(bytes(range(256)) * 0x1200)
    return path


def told(weights, now=1_700_000_100.25, family="sd1", training=None, **options):
    task = TrainLora(photos=Path("p"), output_name="mine", **options)
    model = SimpleNamespace(family=family, dtype=torch.float32, training=training or {}, name="base", sha256="ab" * 32)
    run = Run(7, 1_700_000_000.5, now, 1, SIZES, torch.optim.AdamW, weight_hashes(weights, weights))
    return metadata(task, model, PHOTOS, (512, 512), COUNT, run)


def test_every_entry_of_sd_scripts_is_there(weights):
    found = told(weights)
    assert {name.removeprefix("ss_") for name in found if name.startswith("ss_")} == set(KOHYAS)
    assert found["ss_session_id"] == 7 and found["ss_num_validation_images"] == 1
    assert found["ss_training_started_at"] == "1700000000.500000" and found["ss_debiased_estimation"] is False


def test_hashes_folders_and_buckets_are_told_as_by_sd_scripts(weights):
    found = told(weights)
    data = weights.read_bytes()
    assert found["ss_sd_model_hash"] == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    assert found["ss_vae_name"] == "base.safetensors" and found["ss_vae_hash"] == found["ss_sd_model_hash"]
    assert found["ss_new_vae_hash"] == hashlib.sha256(data).hexdigest()
    assert found["ss_dataset_dirs"] == {"3_anna": {"n_repeats": 3, "img_count": 2}}
    assert found["ss_reg_dataset_dirs"] == {"2_person": {"n_repeats": 2, "img_count": 1}}
    buckets = json.loads(json.dumps(found["ss_bucket_info"]))
    assert buckets["buckets"] == {
        "0": {"resolution": [512, 512], "count": 9},
        "1": {"resolution": [512, 768], "count": 3},
    }
    assert buckets["mean_img_ar_error"] == pytest.approx((1 - 512 / 520) / 3)
    assert told(weights, enable_bucket=False)["ss_bucket_info"] is None


def test_the_optimizer_is_told_by_its_class(weights):
    assert told(weights)["ss_optimizer"] == "torch.optim.adamw.AdamW"
    args = "weight_decay=0.1 betas=(0.9,0.99)"
    assert told(weights, optimizer_args=args)["ss_optimizer"] == (
        "torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))"
    )


def test_the_model_spec_says_what_it_was_told(weights):
    given = {"author": "me", "description": "d", "license": "l", "tags": "a,b", "usage_hint": "u"}
    options = {f"metadata_{name}": value for name, value in given.items()}
    found = told(weights, metadata_title="Anna", clip_skip=2, max_timestep=800, **options)
    spec = {name.removeprefix("modelspec."): v for name, v in found.items() if name.startswith("modelspec.")}
    assert given.items() <= spec.items() and spec["title"] == "Anna" and spec["sai_model_spec"] == "1.0.1"
    assert spec["architecture"] == "stable-diffusion-v1/lora" and spec["implementation"] == "diffusers"
    assert (spec["encoder_layer"], spec["timestep_range"], spec["resolution"]) == ("2", "0,800", "512x512")
    assert spec["date"].startswith("2023-11-1") and spec["prediction_type"] == "epsilon"
    v2 = told(weights, family="sd2", training={"prediction_type": "v_prediction"}, no_metadata=True)
    assert v2["modelspec.architecture"] == "stable-diffusion-v2-768-v/lora" and v2["modelspec.title"] == "mine"
    assert v2["modelspec.prediction_type"] == "v" and "ss_session_id" not in v2
    assert told(weights, family="sdxl")["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"


def test_times_do_not_reach_the_hashes_of_a_file(weights, tmp_path):
    hashes = []
    for n, now in enumerate((1_700_000_100.25, 1_800_000_000.0)):
        write(tmp_path / f"{n}.safetensors", {"a": torch.arange(600_000.0)}, told(weights, now))
        with safe_open(tmp_path / f"{n}.safetensors", "pt") as file:
            hashes.append({name: v for name, v in file.metadata().items() if name.startswith("sshs_")})
    assert hashes[0] == hashes[1] and len(hashes[0]) == 2
