"""What a LoRA's file tells of its training, by kohya's names; A1111 and others show it."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from calotype import __version__
from calotype.checkpoints.store import digest
from calotype.models.diffusion import Diffusion
from calotype.tasks.training import TrainLora
from calotype.training.data.buckets import Size
from calotype.training.data.dataset import Example
from calotype.training.optim.optimizers import arguments

BASES = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
ARCHITECTURES = {"sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2-512", "sdxl": "stable-diffusion-xl-v1-base"}
OF_STABILITY = "https://github.com/Stability-AI/generative-models"
SPEC = ("author", "description", "license", "tags", "usage_hint", "trigger_phrase")  # as the options metadata_...
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


@dataclass(frozen=True)
class Run:
    """What else there is to tell of a run."""

    session: int  # the same for all files of a run
    begun: float  # seconds since 1970; a run that goes on began when its first part did
    now: float
    held: int  # photos
    sizes: Sequence[tuple[Size, Size]]  # of each photo, and of its bucket
    optimizer: type
    weights: Mapping[str, str]  # see `weights_told`


def metadata(
    task: TrainLora, model: Diffusion, photos: Sequence[Example], size: Size, count: Count, run: Run
) -> dict[str, Any]:
    """Names and values; but for the times and the date, the same for the same run. `size` is width and height."""
    told = _of_model(task, model) | dict(run.weights) | _of_photos(task, photos, size) | _of_steps(task, count)
    told |= _of_run(task, photos, run) | UNDONE
    told |= {f"ss_{name}": getattr(task, name) or None for name in OR_NOTHING}
    told |= {f"ss_{name}": getattr(task, name) for name in AS_TOLD}
    told = {name: told[name] for name in LEAST} if task.no_metadata else told
    return told | _spec(task, model, size, run.now)


# What sd-scripts tells of itself and of what Calotype has not.
UNDONE = {
    **{"ss_sd_scripts_commit_hash": "(unknown)", "ss_fp8_base": False, "ss_fp8_base_unet": False},
    **dict.fromkeys(("ss_face_crop_aug_range", "ss_max_validation_steps", "ss_validate_every_n_steps")),
    "ss_resize_interpolation": None,
}
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


def weights_told(model: Path, vae: Path | None = None) -> dict[str, str]:
    """Hashes as A1111 counts them: an old one, of a part of the file, and sha256. Folders have no old one.

    Args:
        model: its file, or its folder's index.
        vae: the one that takes the place of the model's own.
    """
    told = {} if _is_folder(model) else {"ss_sd_model_hash": _old_hash(model)}
    if vae is not None:
        told |= {"ss_vae_name": (vae.parent if _is_folder(vae) else vae).name, "ss_new_vae_hash": digest(vae)}
        told |= {} if _is_folder(vae) else {"ss_vae_hash": _old_hash(vae)}
    return told


def _is_folder(weights: Path) -> bool:
    return weights.suffix == ".json"


def _old_hash(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(0x100000)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]


def network_args(task: TrainLora) -> dict[str, Any]:
    """What of the network sd-scripts has no option of its own for."""
    dim, alpha = task.convolutions
    told = {"conv_dim": dim, "conv_alpha": alpha} if dim else {}
    if task.algo != "lora" or task.network_module != "networks.lora":
        told["algo"] = task.algo
    if task.algo == "lokr":
        told["factor"] = task.factor
    return told | {name: getattr(task, name) for name in ("rank_dropout", "module_dropout") if getattr(task, name)}


def _of_photos(task: TrainLora, photos: Sequence[Example], size: tuple[int, int]) -> dict[str, Any]:
    return {
        "ss_num_train_images": sum(p.repeats for p in photos if not p.is_regularization),
        "ss_num_reg_images": sum(p.repeats for p in photos if p.is_regularization),
        "ss_resolution": str(size),
        "ss_cache_latents": not (task.color_aug or task.random_crop),
        "ss_tag_frequency": tags(photos),
    }


def _of_run(task: TrainLora, photos: Sequence[Example], run: Run) -> dict[str, Any]:
    args = ",".join(f"{name}={value}" for name, value in arguments(task.optimizer_args).items())
    return {
        "ss_session_id": run.session,
        "ss_training_started_at": f"{run.begun:.6f}",  # always as long: nothing in the file moves by it
        "ss_training_finished_at": f"{run.now:.6f}",
        "ss_num_validation_images": run.held,
        "ss_debiased_estimation": task.debiased_estimation_loss,
        "ss_optimizer": f"{run.optimizer.__module__}.{run.optimizer.__name__}" + (f"({args})" if args else ""),
        "ss_dataset_dirs": _folders([photo for photo in photos if not photo.is_regularization]),
        "ss_reg_dataset_dirs": _folders([photo for photo in photos if photo.is_regularization]),
        "ss_bucket_info": _buckets(photos, run.sizes) if task.enable_bucket else None,
    }


def _folders(photos: Sequence[Example]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for photo in photos:
        name = photo.path.parent.name
        number = (
            re.match(r"(\d+)(_|$)", name) if photo.is_regularization else None
        )  # those are repeated to fit the others
        repeats = photo.repeats if not photo.is_regularization else int(number[1]) if number else 1
        room = found.setdefault(name, {"n_repeats": repeats, "img_count": 0})
        room["img_count"] += 1
    return found


def _buckets(photos: Sequence[Example], sizes: Sequence[tuple[Size, Size]]) -> dict[str, Any]:
    counts: dict[Size, int] = {}
    errors = []
    for photo, ((width, height), bucket) in zip(photos, sizes, strict=True):
        counts[bucket] = counts.get(bucket, 0) + photo.repeats
        errors.append(abs(width / height - bucket[0] / bucket[1]))
    told = {str(n): {"resolution": bucket, "count": counts[bucket]} for n, bucket in enumerate(sorted(counts))}
    return {"buckets": told, "mean_img_ar_error": sum(errors) / max(1, len(errors))}


def _spec(task: TrainLora, model: Diffusion, size: Size, now: float) -> dict[str, str]:
    """The entries of Stability AI's ModelSpec, as sd-scripts writes them."""
    is_v = task.v_parameterization or model.training.get("prediction_type", "epsilon") != "epsilon"
    family = "stable-diffusion-v2-768-v" if model.family == "sd2" and is_v else ARCHITECTURES.get(model.family)
    told = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{family or model.family}/lora",
        "implementation": OF_STABILITY if model.family == "sdxl" else "diffusers",
        "implementation_version": f"calotype/{__version__}",
        "title": task.metadata_title or task.output_name,
        "resolution": f"{size[0]}x{size[1]}",
        "date": datetime.fromtimestamp(int(now)).isoformat(),
        "prediction_type": "v" if is_v else "epsilon",
    }
    if (task.min_timestep, task.max_timestep) != (0, 1000):
        told["timestep_range"] = f"{task.min_timestep},{task.max_timestep}"
    if task.clip_skip:
        told["encoder_layer"] = str(task.clip_skip)
    told |= {name: value for name in SPEC if (value := getattr(task, f"metadata_{name}"))}
    return {f"modelspec.{name}": value for name, value in told.items()}


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
    }


def tags(photos: Sequence[Example]) -> dict[str, dict[str, int]]:
    """How often each tag stands in the captions of each folder."""
    found: dict[str, dict[str, int]] = {}
    for photo in photos:
        room = found.setdefault(photo.path.parent.name, {})
        for tag in photo.caption.split(","):
            if tag.strip():
                room[tag.strip()] = room.get(tag.strip(), 0) + 1
    return found
