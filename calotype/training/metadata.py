"""What a LoRA's file tells of its training, by kohya's names; A1111 and others show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from calotype import __version__
from calotype.models.diffusion import Diffusion
from calotype.tasks.training import TrainLora
from calotype.training.photos import Photo

BASES = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
LEAST = ("ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args")


@dataclass(frozen=True)
class Count:
    """How much has been done, and is to be done."""

    batches: int  # of an epoch
    epochs: int
    epoch: int
    steps: int
    total: int
    together: int  # pictures of a batch, over all processes


def metadata(
    task: TrainLora, model: Diffusion, photos: Sequence[Photo], size: tuple[int, int], count: Count
) -> dict[str, Any]:
    """Names and values; what changes from run to run, such as the time, is left out. `size` is width and height."""
    told = _of_model(task, model) | _of_photos(task, photos, size) | _of_steps(task, count)
    told |= {f"ss_{name}": getattr(task, name) or None for name in OR_NOTHING}
    told |= {f"ss_{name}": getattr(task, name) for name in AS_TOLD}
    return {name: told[name] for name in LEAST} if task.no_metadata else told


AS_TOLD = (
    *("learning_rate", "unet_lr", "text_encoder_lr", "gradient_checkpointing", "gradient_accumulation_steps"),
    *("lr_warmup_steps", "lr_scheduler", "max_token_length", "seed", "max_grad_norm", "caption_dropout_rate"),
    *("caption_dropout_every_n_epochs", "caption_tag_dropout_rate", "prior_loss_weight", "shuffle_caption"),
    *("keep_tokens", "flip_aug", "color_aug", "random_crop", "enable_bucket", "bucket_no_upscale", "min_bucket_reso"),
    *("max_bucket_reso", "output_name", "full_fp16", "lowram", "loss_type", "huber_schedule", "huber_c", "huber_scale"),
    *("noise_offset_random_strength", "validation_seed", "validation_split", "validate_every_n_epochs"),
    "ip_noise_gamma_random_strength",
)
OR_NOTHING = (
    *("network_dropout", "clip_skip", "noise_offset", "min_snr_gamma", "ip_noise_gamma", "multires_noise_iterations"),
    *("adaptive_noise_scale", "scale_weight_norms"),
)


def _of_model(task: TrainLora, model: Diffusion) -> dict[str, Any]:
    return {
        "ss_v2": model.family == "sd2",
        "ss_base_model_version": BASES.get(model.family, model.family),
        "ss_network_module": task.network_module,
        "ss_network_dim": task.network_dim,
        "ss_network_alpha": task.alpha,
        "ss_network_args": network_args(task),
        "ss_mixed_precision": {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(model.dtype, "no"),
        "ss_zero_terminal_snr": task.zero_terminal_snr or bool(model.training.get("rescale_betas_zero_snr")),
        "ss_sd_model_name": model.name,
        "ss_new_sd_model_hash": model.sha256,
    }


def network_args(task: TrainLora) -> dict[str, Any]:
    """What of the network sd-scripts has no option of its own for."""
    dim, alpha = task.convolutions
    told = {"conv_dim": dim, "conv_alpha": alpha} if dim else {}
    if task.algo != "lora" or task.network_module != "networks.lora":
        told["algo"] = task.algo
    if task.algo == "lokr":
        told["factor"] = task.factor
    return told | {name: getattr(task, name) for name in ("rank_dropout", "module_dropout") if getattr(task, name)}


def _of_photos(task: TrainLora, photos: Sequence[Photo], size: tuple[int, int]) -> dict[str, Any]:
    return {
        "ss_num_train_images": sum(p.repeats for p in photos if not p.is_regular),
        "ss_num_reg_images": sum(p.repeats for p in photos if p.is_regular),
        "ss_resolution": str(size),
        "ss_cache_latents": not (task.color_aug or task.random_crop),
        "ss_tag_frequency": tags(photos),
    }


def _of_steps(task: TrainLora, count: Count) -> dict[str, Any]:
    return {
        "ss_num_batches_per_epoch": count.batches,
        "ss_num_epochs": count.epochs,
        "ss_epoch": count.epoch,
        "ss_steps": count.steps,
        "ss_max_train_steps": count.total,
        "ss_batch_size_per_device": task.train_batch_size,
        "ss_total_batch_size": count.together * task.gradient_accumulation_steps,
        "ss_multires_noise_discount": task.multires_noise_discount,
        "ss_training_comment": task.training_comment or f"Calotype {__version__}",
        "ss_optimizer": f"{task.optimizer_type}({task.optimizer_args})",
    }


def tags(photos: Sequence[Photo]) -> dict[str, dict[str, int]]:
    """How often each tag stands in the captions of each folder."""
    found: dict[str, dict[str, int]] = {}
    for photo in photos:
        room = found.setdefault(photo.path.parent.name, {})
        for tag in photo.caption.split(","):
            if tag.strip():
                room[tag.strip()] = room.get(tag.strip(), 0) + 1
    return found
