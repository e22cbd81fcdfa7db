"""Training metadata of a LoRA file, with kohya's keys; A1111 and others show it."""

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
from calotype.training.data.captions import split_tags
from calotype.training.data.dataset import Example
from calotype.training.optim.optimizers import arguments

BASES = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
ARCHITECTURES = {"sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2-512", "sdxl": "stable-diffusion-xl-v1-base"}
OF_STABILITY = "https://github.com/Stability-AI/generative-models"
SPEC = ("author", "description", "license", "tags", "usage_hint", "trigger_phrase")  # from the options metadata_...
MINIMAL_KEYS = (
    "ss_v2",
    "ss_base_model_version",
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_network_args",
)


@dataclass(frozen=True)
class Count:
    """Batches, epochs and steps of a run."""

    batches: int  # of an epoch
    epochs: int
    epoch: int
    steps: int
    total: int
    batch_size: int  # over all processes


@dataclass(frozen=True)
class Run:
    """Other facts about a run."""

    session: int  # the same for all files of a run
    started: float  # Unix time; that of the first part of a resumed run
    now: float
    validation: int  # number of validation photos
    sizes: Sequence[tuple[Size, Size]]  # (size, bucket) of each photo
    optimizer: type
    weights: Mapping[str, str]  # see `weight_hashes`
    subsets: Sequence[TrainLora] = ()  # options of each subset of a dataset config
    datasets: Sequence[int] = ()  # dataset of each subset
    resolutions: Sequence[Size] = ()  # of each dataset


def metadata(
    task: TrainLora, model: Diffusion, photos: Sequence[Example], size: Size, count: Count, run: Run
) -> dict[str, Any]:
    """Keys and values, the same for the same run except for the times. `size` is (width, height)."""
    values = _of_model(task, model) | dict(run.weights) | _of_photos(task, photos, size) | _of_steps(task, count)
    values |= _of_run(task, photos, run) | CONSTANTS
    values |= {f"ss_{name}": getattr(task, name) or None for name in OPTIONS_OR_NONE}
    values |= {f"ss_{name}": getattr(task, name) for name in OPTIONS}
    if task.dataset_config is not None:
        values = {name: value for name, value in values.items() if name not in SINGLE} | _of_datasets(photos, run)
    values = {name: values[name] for name in MINIMAL_KEYS} if task.no_metadata else values
    return values | _spec(task, model, size, run.now)


# Keys of sd-scripts for options that Calotype does not have.
CONSTANTS = {
    **{"ss_sd_scripts_commit_hash": "(unknown)", "ss_fp8_base": False, "ss_fp8_base_unet": False},
    **dict.fromkeys(("ss_face_crop_aug_range", "ss_max_validation_steps", "ss_validate_every_n_steps")),
    "ss_resize_interpolation": None,
}
OPTIONS = (
    *("learning_rate", "unet_lr", "text_encoder_lr", "gradient_checkpointing", "gradient_accumulation_steps"),
    *("lr_warmup_steps", "lr_scheduler", "max_token_length", "seed", "max_grad_norm", "caption_dropout_rate"),
    *("caption_dropout_every_n_epochs", "caption_tag_dropout_rate", "prior_loss_weight", "shuffle_caption"),
    *("keep_tokens", "flip_aug", "color_aug", "random_crop", "enable_bucket", "bucket_no_upscale", "min_bucket_reso"),
    *("max_bucket_reso", "output_name", "full_fp16", "lowram", "loss_type", "huber_schedule", "huber_c", "huber_scale"),
    *("noise_offset_random_strength", "validation_seed", "validation_split", "validate_every_n_epochs"),
    "ip_noise_gamma_random_strength",
)
OPTIONS_OR_NONE = (
    *("network_dropout", "clip_skip", "noise_offset", "min_snr_gamma", "ip_noise_gamma", "multires_noise_iterations"),
    *("adaptive_noise_scale", "scale_weight_norms"),
)


# Entries that a run with a dataset config does not have: its datasets and subsets differ in them.
SINGLE = frozenset(
    f"ss_{name}"
    for name in (
        *("resolution", "batch_size_per_device", "total_batch_size", "color_aug", "flip_aug", "random_crop"),
        *("shuffle_caption", "enable_bucket", "bucket_no_upscale", "min_bucket_reso", "max_bucket_reso"),
        *("keep_tokens", "bucket_info", "reg_dataset_dirs"),
    )
)
OF_SUBSETS = (
    *("color_aug", "flip_aug", "random_crop", "shuffle_caption", "keep_tokens", "keep_tokens_separator"),
    *("secondary_separator", "enable_wildcard", "caption_prefix", "caption_suffix", "alpha_mask"),
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


def weight_hashes(model: Path, vae: Path | None = None) -> dict[str, str]:
    """Hashes as in A1111: the old hash, of a part of the file, and sha256. Folders have no old hash.

    Args:
        model: its file, or its folder's index.
        vae: the VAE that replaces the model's own.
    """
    hashes = {} if _is_folder(model) else {"ss_sd_model_hash": _old_hash(model)}
    if vae is not None:
        hashes |= {"ss_vae_name": (vae.parent if _is_folder(vae) else vae).name, "ss_new_vae_hash": digest(vae)}
        hashes |= {} if _is_folder(vae) else {"ss_vae_hash": _old_hash(vae)}
    return hashes


def _is_folder(weights: Path) -> bool:
    return weights.suffix == ".json"


def _old_hash(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(0x100000)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]


def network_args(task: TrainLora) -> dict[str, Any]:
    """Options of the network that sd-scripts takes as --network_args."""
    dim, alpha = task.convolutions
    args = {"conv_dim": dim, "conv_alpha": alpha} if dim else {}
    if task.algo != "lora" or task.network_module != "networks.lora":
        args["algo"] = task.algo
    if task.algo == "lokr":
        args["factor"] = task.factor
    return args | {name: getattr(task, name) for name in ("rank_dropout", "module_dropout") if getattr(task, name)}


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
        "ss_training_started_at": f"{run.started:.6f}",  # of constant length, so that offsets in the file stay the same
        "ss_training_finished_at": f"{run.now:.6f}",
        "ss_num_validation_images": run.validation,
        "ss_debiased_estimation": task.debiased_estimation_loss,
        "ss_optimizer": f"{run.optimizer.__module__}.{run.optimizer.__name__}" + (f"({args})" if args else ""),
        "ss_dataset_dirs": _folders([photo for photo in photos if not photo.is_regularization]),
        "ss_reg_dataset_dirs": _folders([photo for photo in photos if photo.is_regularization]),
        "ss_bucket_info": _buckets(photos, run.sizes) if task.enable_bucket else None,
    }


def _folders(photos: Sequence[Example]) -> dict[str, dict[str, int]]:
    folders: dict[str, dict[str, int]] = {}
    for photo in photos:
        name = photo.path.parent.name
        number = (
            re.match(r"(\d+)(_|$)", name) if photo.is_regularization else None
        )  # their repeats are balanced to the training images
        repeats = photo.repeats if not photo.is_regularization else int(number[1]) if number else 1
        folder = folders.setdefault(name, {"n_repeats": repeats, "img_count": 0})
        folder["img_count"] += 1
    return folders


def _of_datasets(photos: Sequence[Example], run: Run) -> dict[str, Any]:
    """The entries that sd-scripts writes for a dataset config; a folder of several datasets is counted once in tags."""
    datasets, folders = [], {}
    for n, (width, height) in enumerate(run.resolutions):
        own = [(p, sizes) for p, sizes in zip(photos, run.sizes, strict=True) if run.datasets[p.subset] == n]
        subsets = [index for index, dataset in enumerate(run.datasets) if dataset == n]
        options = run.subsets[subsets[0]]
        datasets.append(
            {
                "batch_size_per_device": options.train_batch_size,
                "num_train_images": sum(p.repeats for p, _ in own if not p.is_regularization),
                "num_reg_images": sum(p.repeats for p, _ in own if p.is_regularization),
                "resolution": (width, height),
                **{name: getattr(options, name) for name in ("enable_bucket", "min_bucket_reso", "max_bucket_reso")},
                "tag_frequency": tags([p for p, _ in own]),
                "bucket_info": _buckets([p for p, _ in own], [sizes for _, sizes in own]),
                "subsets": [_of_subset(photos, run.subsets[index], index) for index in subsets],
            }
        )
        for subset in datasets[-1]["subsets"]:
            if subset["img_count"] and not subset["is_reg"]:
                name = subset["image_dir"]
                same = sum(folder == name or folder.startswith(f"{name} (") for folder in folders)
                folders[f"{name} ({same + 1})" if same else name] = {
                    "n_repeats": subset["num_repeats"],
                    "img_count": subset["img_count"],
                }
    unique = {photo.path: photo for photo in reversed(photos)}.values()
    return {
        "ss_datasets": datasets,
        "ss_dataset_dirs": folders,
        "ss_tag_frequency": tags([*unique][::-1]),
    }


def _of_subset(photos: Sequence[Example], options: TrainLora, index: int) -> dict[str, Any]:
    own = [photo for photo in photos if photo.subset == index]
    return {
        "img_count": len(own),
        "num_repeats": options.dataset_repeats,
        "image_dir": own[0].path.parent.name if own else None,
        "is_reg": bool(own) and own[0].is_regularization,
        "is_masked": any(photo.mask for photo in own),
        **{name: getattr(options, name) for name in OF_SUBSETS},
    }


def _buckets(photos: Sequence[Example], sizes: Sequence[tuple[Size, Size]]) -> dict[str, Any]:
    counts: dict[Size, int] = {}
    errors = []
    for photo, ((width, height), bucket) in zip(photos, sizes, strict=True):
        counts[bucket] = counts.get(bucket, 0) + photo.repeats
        errors.append(abs(width / height - bucket[0] / bucket[1]))
    buckets = {str(n): {"resolution": bucket, "count": counts[bucket]} for n, bucket in enumerate(sorted(counts))}
    return {"buckets": buckets, "mean_img_ar_error": sum(errors) / max(1, len(errors))}


def _spec(task: TrainLora, model: Diffusion, size: Size, now: float) -> dict[str, str]:
    """The entries of Stability AI's ModelSpec, as sd-scripts writes them."""
    is_v = task.v_parameterization or model.training.get("prediction_type", "epsilon") != "epsilon"
    family = "stable-diffusion-v2-768-v" if model.family == "sd2" and is_v else ARCHITECTURES.get(model.family)
    spec = {
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
        spec["timestep_range"] = f"{task.min_timestep},{task.max_timestep}"
    if task.clip_skip:
        spec["encoder_layer"] = str(task.clip_skip)
    spec |= {name: value for name in SPEC if (value := getattr(task, f"metadata_{name}"))}
    return {f"modelspec.{name}": value for name, value in spec.items()}


def _of_steps(task: TrainLora, count: Count) -> dict[str, Any]:
    return {
        "ss_num_batches_per_epoch": count.batches,
        "ss_num_epochs": count.epochs,
        "ss_epoch": count.epoch,
        "ss_steps": count.steps,
        "ss_max_train_steps": count.total,
        "ss_batch_size_per_device": task.train_batch_size,
        "ss_total_batch_size": count.batch_size * task.gradient_accumulation_steps,
        "ss_multires_noise_discount": task.multires_noise_discount,
        "ss_training_comment": task.training_comment or f"Calotype {__version__}",
    }


def tags(photos: Sequence[Example]) -> dict[str, dict[str, int]]:
    """Number of occurrences of each tag in the captions of each folder."""
    counts: dict[str, dict[str, int]] = {}
    for photo in photos:
        folder = counts.setdefault(photo.path.parent.name, {})
        for tag in split_tags(photo.caption):
            if tag:
                folder[tag] = folder.get(tag, 0) + 1
    return counts
