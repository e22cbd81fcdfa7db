"""Training LoRAs. Names and defaults are those of kohya's sd-scripts and lora-scripts."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError
from calotype.files import RESERVED_NAME
from calotype.options import checked, nearest, option
from calotype.samplers import sampler_named
from calotype.tasks.drawing import PREDICTIONS
from calotype.tasks.optimizers import KNOWN, find_optimizer

SCHEDULERS = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"),
    *("inverse_sqrt", "cosine_with_min_lr", "warmup_stable_decay", "piecewise_constant", "adafactor"),
)
MODULES = ("networks.lora", "lycoris.kohya", "lycoris.locon")
ALGORITHMS = ("lora", "locon", "loha", "lokr")
WEIGHT_SUFFIXES = ("safetensors", "pt", "ckpt", "pth")  # of the files that training writes
LOSSES = ("l2", "l1", "huber", "smooth_l1")
SAMPLERS_OF_KOHYA = {
    **{"pndm": "PLMS", "euler_a": "Euler a", "k_dpm_2_a": "DPM2 a", "dpm_2": "DPM2", "dpm_2_a": "DPM2 a"},
    **{"dpmsolver": "DPM++ 2M", "dpmsolver++": "DPM++ 2M", "dpmsingle": "DPM++ SDE"},  # the closest one
}


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """The training photos and their captions."""

    TITLE = "Dataset and captions"

    photos: Path | None = option(None, "folder with photos, or with N_name folders of them", is_path=True)
    regular: Path | None = option(
        None,
        "folder with regularization images",
        is_path=True,
        aliases=("reg-data-dir",),
        title="Regularization images",
    )
    prior_loss_weight: float = option(1.0, "loss weight of regularization images", min=0, max=100)
    prior_target: str = option(
        "pictures",
        "training target of regularization images: the images, or what the untrained model predicts",
        choices=("pictures", "model"),
    )
    dataset_config: Path | None = option(
        None,
        "sd-scripts' dataset config, TOML or JSON, instead of PHOTOS: several folders, each with its own options",
        is_path=True,
        lists_paths=True,
        title="Dataset config",
    )
    in_json: Path | None = option(
        None,
        "sd-scripts' metadata file, JSON or JSONL, with captions and tags of pictures in PHOTOS, instead of .txt files",
        is_path=True,
        lists_paths=True,
        title="Metadata file",
    )
    dataset_repeats: int = option(
        1,
        "repeats of pictures in {option:in_json}, and in {option:dataset_config} without num_repeats; 0 leaves them "
        "out of that",
        min=0,
        max=100_000,
    )
    masked_loss: bool = option(
        False, "mask the loss: only what is white in the masks of {option:conditioning_data_dir} is trained"
    )
    conditioning_data_dir: Path | None = option(
        None, "folder with a mask for each photo, of the same name and size", is_path=True, title="Folder of masks"
    )
    alpha_mask: bool = option(False, "mask the loss by the alpha channel: transparent parts are not trained")
    caption_extension: str = option(".txt", "extension of caption files")
    shuffle_caption: bool = option(False, "shuffle the tags of a caption at each step")
    keep_tokens: int = option(0, "tags at the beginning that are not shuffled or dropped", min=0, max=1000)
    keep_tokens_separator: str = option("", "separator after the tags to keep, such as |||")
    caption_separator: str = option(",", "separator of tags")
    secondary_separator: str = option(
        "", "separator of tags that stay together; replaced by {option:caption_separator} at the end"
    )
    caption_prefix: str = option("", "text before every caption")
    caption_suffix: str = option("", "text after every caption")
    enable_wildcard: bool = option(False, "captions with several lines, of which one is chosen, and {{this|or that}}")
    caption_dropout_rate: float = option(0.0, "probability of dropping a caption", min=0, max=1)
    caption_dropout_every_n_epochs: int = option(0, "drop all captions every N epochs; 0: never", min=0, max=100_000)
    caption_tag_dropout_rate: float = option(0.0, "probability of dropping a tag", min=0, max=1)
    resolution: str = option("", "training resolution, WxH or one number; the model's default where not given")
    enable_bucket: bool = option(True, "aspect ratio bucketing, instead of square crops alone")
    min_bucket_reso: int = option(256, "minimum side of a bucket", min=16, max=4096)
    max_bucket_reso: int = option(1024, "maximum side of a bucket", min=16, max=8192)
    bucket_reso_steps: int = option(64, "sides of buckets are multiples of this", min=8, max=512)
    bucket_no_upscale: bool = option(False, "never upscale a photo")
    flip_aug: bool = option(False, "horizontal flip, with probability 0.5")
    color_aug: bool = option(False, "small change of hue or gamma, in a third of the steps")
    random_crop: bool = option(False, "random crop instead of a centre crop")
    cache_latents_to_disk: bool = option(False, "keep cached latents in Calotype's own folder, for the next run")


@dataclass(frozen=True, kw_only=True)
class LoraNetworkOptions:
    """The network that is trained."""

    TITLE = "LoRA network"

    network_dim: int = option(16, "rank of the LoRA matrices", min=1, max=1024)
    network_alpha: float = option(0.0, "alpha of the LoRA; 0 uses the rank", min=0, max=1024)
    conv_dim: int = option(0, "rank of 3x3 convolutions (LoCon); 0: none", min=0, max=1024)
    conv_alpha: float = option(0.0, "alpha of 3x3 convolutions; 0 uses their rank", min=0, max=1024)
    network_module: str = option("networks.lora", "network module, as sd-scripts names it", choices=MODULES)
    algo: str = option("lora", "decomposition of a layer; locon is lora, also for convolutions", choices=ALGORITHMS)
    factor: int = option(-1, "LoKr: size of the smaller factor; -1: near the square root", min=-1, max=4096)
    network_args: str = option(
        "", "such as conv_dim=4 conv_alpha=1 algo=loha dropout=0.1, as in sd-scripts", title="Network arguments"
    )
    network_dropout: float = option(0.0, "dropout probability of neurons within a LoRA layer", min=0, max=0.99)
    rank_dropout: float = option(0.0, "dropout probability of each rank", min=0, max=0.99)
    module_dropout: float = option(0.0, "dropout probability of a whole LoRA layer", min=0, max=0.99)
    scale_weight_norms: float = option(
        0.0, "maximum norm of a layer's LoRA weights (1 is usual); 0 disables the limit", min=0, max=1e6
    )
    network_weights: Path | None = option(None, "LoRA file to initialize from", is_path=True)
    dim_from_weights: bool = option(False, "take layers, ranks and alphas from network_weights")
    network_train_unet_only: bool = option(False, "freeze the text encoder")
    network_train_text_encoder_only: bool = option(False, "freeze the U-Net")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Duration, learning rates, optimizer and loss."""

    TITLE = "Training"

    max_train_epochs: int = option(10, "number of epochs", min=1, max=100_000)
    max_train_steps: int = option(0, "number of steps instead, where no epochs are given", min=0, max=10_000_000)
    train_batch_size: int = option(1, "batch size", min=1, max=1024)
    gradient_accumulation_steps: int = option(
        1, "steps whose gradients are accumulated before the weights are updated", min=1, max=1024
    )
    learning_rate: float = option(1e-4, "learning rate, where none below is given", min=0, max=10)
    unet_lr: float | None = option(None, "learning rate of the U-Net's LoRA", min=0, max=10)
    text_encoder_lr: float | None = option(
        None, "learning rate of the text encoder's LoRA; 0 freezes it", min=0, max=10
    )
    lr_scheduler: str = option("cosine_with_restarts", "learning rate schedule", choices=SCHEDULERS)
    lr_warmup_steps: str = option("0", "warmup steps; or a fraction such as 0.05, or 5%")
    lr_scheduler_num_cycles: int = option(1, "number of cycles of the cosine with restarts", min=1, max=1000)
    lr_scheduler_power: float = option(1.0, "power of the polynomial schedule", min=0, max=100)
    lr_scheduler_min_lr_ratio: float | None = option(
        None, "final learning rate of cosine_with_min_lr and warmup_stable_decay, as a fraction", min=0, max=1
    )
    lr_scheduler_timescale: int = option(0, "timescale of inverse_sqrt; 0: the warmup steps", min=0, max=10_000_000)
    lr_decay_steps: str = option("0", "decay steps of warmup_stable_decay; or a fraction such as 0.2, or 20%")
    lr_scheduler_args: str = option("", "arguments of piecewise_constant, such as step_rules=1:100,0.1:200,0.01")
    optimizer_type: str = option(
        "AdamW",
        "AdamW, AdamW8bit, Lion, Prodigy, DAdaptation, AdaFactor, or module.Class",
        names="optimizer",
        words=tuple(KNOWN),
        parsed=lambda text: () if find_optimizer(text) else (text,),
    )
    optimizer_args: str = option("", "arguments of the optimizer, such as weight_decay=0.1 betas=(0.9,0.99)")
    max_grad_norm: float = option(1.0, "gradient norm is clipped to this value; 0 disables clipping", min=0, max=1e6)
    min_snr_gamma: float = option(0.0, "gamma of min-SNR loss weighting (5 is usual); 0 disables it", min=0, max=1000)
    scale_v_pred_loss_like_noise_pred: bool = option(
        False, "weight the v-prediction loss like an epsilon-prediction loss"
    )
    v_pred_like_loss: float = option(0.0, "weight of an added loss that is weighted like v-prediction", min=0, max=100)
    debiased_estimation_loss: bool = option(
        False, "weight the loss by 1/sqrt(SNR) (debiased estimation, Yu et al. 2023)"
    )
    loss_type: str = option("l2", "loss function", choices=LOSSES)
    huber_schedule: str = option(
        "snr", "how huber_c depends on the timestep", choices=("constant", "exponential", "snr")
    )
    huber_c: float = option(0.1, "where huber and smooth_l1 change from quadratic to linear", min=1e-6, max=1e3)
    huber_scale: float = option(1.0, "scale of huber_c, constant and exponential", min=1e-6, max=1e6)
    min_timestep: int = option(0, "minimum timestep that is trained", min=0, max=999)
    max_timestep: int = option(1000, "maximum timestep that is trained, exclusive", min=1, max=1000)
    noise_offset: float = option(0.0, "noise offset (0.05 is usual)", min=0, max=1)
    noise_offset_random_strength: bool = option(False, "random strength up to noise_offset, at each step")
    adaptive_noise_scale: float = option(0.0, "added to noise_offset, times the mean of the latents", min=-10, max=10)
    multires_noise_iterations: int = option(
        0, "iterations of multi-resolution noise (6 to 10 are usual)", min=0, max=20
    )
    multires_noise_discount: float = option(0.3, "weight of each iteration, relative to the one before", min=0, max=1)
    ip_noise_gamma: float = option(0.0, "input perturbation noise (0.1 is usual)", min=0, max=1)
    ip_noise_gamma_random_strength: bool = option(False, "random strength up to ip_noise_gamma, at each step")
    zero_terminal_snr: bool = option(False, "rescale the noise schedule to zero terminal SNR")
    seed: int = option(1337, "random seed; the same seed gives the same result", min=0, max=2**63 - 1)
    mixed_precision: str = option(
        "auto", "data type of mixed precision training", choices=("auto", "no", "bf16", "fp16")
    )
    full_fp16: bool = option(False, "LoRA weights in fp16 too; with {option:mixed_precision} fp16")
    full_bf16: bool = option(False, "LoRA weights in bf16 too; with {option:mixed_precision} bf16")
    gradient_checkpointing: bool = option(False, "recompute activations in the backward pass: less memory, more time")
    stop_text_encoder_training: int = option(
        0, "step at which the text encoder is frozen; -1: from the first; 0: never", min=-1, max=10_000_000
    )
    max_token_length: int = option(225, "maximum caption length in tokens: 75, 150 or 225", min=75, max=225)
    clip_skip: int = option(
        0, "use the n-th layer from the end of the text encoder; 0: the model's default", min=0, max=12
    )


@dataclass(frozen=True, kw_only=True)
class LoraOutput:
    """Which files are written, and when."""

    TITLE = "Output"

    output_dir: Path = option(
        Path("out"),
        "output folder for the LoRA, training states and logs; or a file, such as my.safetensors",
        is_path=True,
    )
    output_name: str = option("lora", "name of the LoRA file")
    save_every_n_epochs: int = option(0, "save a file every N epochs; 0: only the last", min=0, max=100_000)
    save_last_n_epochs: int = option(0, "keep only the last N of these; 0: all", min=0, max=100_000)
    save_every_n_steps: int = option(0, "save a file every N steps; 0: none", min=0, max=10_000_000)
    save_last_n_steps: int = option(0, "keep only those of the last N steps; 0: all", min=0, max=10**7)
    save_n_epoch_ratio: int = option(
        0, "save at least N files, by epochs; 0: as the other options say", min=0, max=100_000
    )
    save_model_as: str = option("safetensors", "file format", choices=("safetensors", "pt", "ckpt"))
    save_precision: str = option("fp16", "data type of the saved weights", choices=("float", "fp16", "bf16"))
    save_state_every: int = option(0, "save the training state every N steps; 0: every two minutes", min=0, max=10**6)
    resume: Path | None = option(None, "training state to resume from, or its folder", is_path=True)
    no_metadata: bool = option(False, "do not write settings and captions into the file")
    training_comment: str = option("", "comment in the file's metadata", max_length=20_000)
    metadata_title: str = option("", "title in the metadata; output_name where not given")
    metadata_author: str = option("", "author in the metadata")
    metadata_description: str = option("", "description in the metadata", max_length=20_000)
    metadata_license: str = option("", "licence in the metadata")
    metadata_tags: str = option("", "tags in the metadata, separated by commas")
    metadata_usage_hint: str = option("", "usage hint in the metadata", max_length=20_000)
    metadata_trigger_phrase: str = option("", "trigger phrase in the metadata")


@dataclass(frozen=True, kw_only=True)
class IgnoredOptions:
    """Options of sd-scripts that Calotype accepts and ignores, so that commands need no change."""

    TITLE = "Accepted from sd-scripts, and ignored"

    xformers: bool = option(False, "ignored: attention is always fused", title="Attention of xFormers")
    sdpa: bool = option(False, "ignored: attention is always fused", title="Attention of PyTorch (SDPA)")
    mem_eff_attn: bool = option(False, "ignored: attention is always fused")
    cache_latents: bool = option(False, "ignored: latents are always cached where photos do not change")
    save_state: bool = option(False, "ignored: training states are always saved")
    lowram: bool = option(False, "ignored", title="Low RAM")
    persistent_data_loader_workers: bool = option(False, "ignored: there are no data loader workers")
    max_data_loader_n_workers: int = option(0, "ignored: there are no data loader workers", min=0, max=1024)


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """TensorBoard logs, which any training run can write."""

    TITLE = "Samples, validation, logs"

    logging_dir: Path | None = option(None, "folder for TensorBoard logs", is_path=True)
    log_prefix: str = option("", "prefix of the run's folder name there")
    log_with: str = option(
        "auto",
        "auto: TensorBoard where {option:logging_dir} is given",
        choices=("auto", "tensorboard", "none"),
    )


@dataclass(frozen=True, kw_only=True)
class SampleOptions(LogOptions):
    """Sample pictures and validation during a run."""

    TITLE = "Samples, validation, logs"

    sample_every_n_epochs: int = option(
        0,
        "generate sample pictures every N epochs; 0: none, or every epoch with {option:sample_prompts}",
        min=0,
        max=100_000,
    )
    sample_every_n_steps: int = option(
        0, "generate sample pictures every N steps; 0: not by steps", min=0, max=10_000_000
    )
    sample_prompts: str = option(
        "",
        "file with one prompt per line (optionally with sd-scripts' n, w, h, d, l, s and ss, two dashes before each), "
        "or prompts with ; between; captions of the photos where not given",
        is_path=True,
    )
    sample_sampler: str = option(
        "auto", "sampler of sample pictures, by A1111's or sd-scripts' name; auto: the model's default"
    )
    sample_at_first: bool = option(True, "also generate sample pictures before the first step")
    validation_split: float = option(0.0, "fraction of the photos held out for validation", min=0, max=0.9)
    validation_seed: int | None = option(
        None, "random seed of the validation split; {option:seed} where not given", min=0, max=2**63 - 1
    )
    validate_every_n_epochs: int = option(1, "compute the validation loss every N epochs", min=1, max=100_000)

    @property
    def samples_after(self) -> tuple[int, int]:
        """Intervals of sample pictures in epochs and steps; 0: not by these. (0, 0): no samples."""
        epochs, steps = self.sample_every_n_epochs, self.sample_every_n_steps
        return (1, 0) if self.sample_prompts and not (epochs or steps) else (epochs, steps)


@dataclass(frozen=True, kw_only=True)
class TrainLora(IgnoredOptions, DatasetOptions, LoraNetworkOptions, TrainingOptions, SampleOptions, LoraOutput):
    """Train a LoRA of a person, an object or a style on photos.

    `read` also sets the options that `network_args` contains.
    """

    TITLE = "Model"
    ADDED_LATER = (  # states of earlier versions do not know them
        *("prediction", "dataset_config", "in_json", "dataset_repeats"),
        *("masked_loss", "conditioning_data_dir", "alpha_mask"),
    )

    model: str = option(
        "emoji",
        "name in the catalog, a checkpoint file, or a diffusers folder",
        aliases=("pretrained-model-name-or-path",),
        names="diffusion",
    )
    vae: str = option("", "replacement VAE: name or file", names="vae")
    v2: bool = option(False, "the model is SD 2.x (also detected without this)", title="SD 2.x")
    v_parameterization: bool = option(
        False, "the model uses v-prediction (detected where its file says so)", title="Predicts v"
    )
    prediction: str = option(
        "auto",
        "what the model predicts, if its file does not say so; auto: by its keys, metadata or .yaml, else epsilon",
        choices=PREDICTIONS,
        title="Prediction type",
    )
    dry_run: bool = option(False, "print the plan of the run, and train nothing")

    def __post_init__(self) -> None:
        if self.photos is None and self.dataset_config is None and self.in_json is None:
            raise CalotypeError(
                "give the folder with your photos: {task:train_lora} PHOTOS, or sd-scripts' {option:dataset_config}"
            )
        if self.max_token_length not in (75, 150, 225):
            raise CalotypeError(
                "{option:max_token_length} is 75, 150 or 225, not {max_token_length}",
                max_token_length=self.max_token_length,
            )
        if self.v_parameterization and self.prediction in ("epsilon", "flow"):
            raise CalotypeError(
                "{option:v_parameterization} and {option:prediction} {prediction} contradict each other; leave one out",
                prediction=self.prediction,
            )
        if self.network_train_unet_only and self.network_train_text_encoder_only:
            raise CalotypeError(
                "{option:network_train_unet_only} and {option:network_train_text_encoder_only} leave nothing to train"
            )
        if self.bucket_reso_steps % 8:
            raise CalotypeError(
                "{option:bucket_reso_steps} is a multiple of 8, not {bucket_reso_steps}",
                bucket_reso_steps=self.bucket_reso_steps,
            )
        parse_steps(self.lr_warmup_steps, 100)
        parse_steps(self.lr_decay_steps, 100, "lr_decay_steps")
        if self.sample_sampler != "auto":
            to_a1111_sampler(self.sample_sampler)
        check_name(self.output_name)
        check_prefix(self.log_prefix)
        check_extension(self.caption_extension)
        if self.lr_scheduler == "piecewise_constant":
            parse_step_rules(self.lr_scheduler_args)
        if self.lr_scheduler == "adafactor" and self.optimizer_type.lower() != "adafactor":
            raise CalotypeError("{option:lr_scheduler} adafactor needs {option:optimizer_type} AdaFactor")
        for name, format in (("full_fp16", "fp16"), ("full_bf16", "bf16")):
            if getattr(self, name) and self.mixed_precision != format:
                raise CalotypeError("{option} needs {option:mixed_precision} {format}", option=name, format=format)
        if self.dim_from_weights and (self.network_weights is None or self.algo not in ("lora", "locon")):
            raise CalotypeError("{option:dim_from_weights} needs the LoRA that {option:network_weights} names")
        if self.adaptive_noise_scale and not self.noise_offset:
            raise CalotypeError("{option:adaptive_noise_scale} needs {option:noise_offset}")
        if self.min_timestep >= self.max_timestep:
            raise CalotypeError("{option:min_timestep} must be below {option:max_timestep}")
        for name, value in network_arguments(self.network_args, self.network_module).items():
            if getattr(self, name) != value:
                raise CalotypeError("{option:network_args} sets {option} to {value}", option=name, value=value)

    @classmethod
    def settled(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Validated values, overridden by those in network_args. Raises CalotypeError for unknown ones in it."""
        defaults = {spec.name: spec.default for spec in fields(cls)} | values
        return {**values, **network_arguments(defaults["network_args"], defaults["network_module"])}

    @property
    def alpha(self) -> float:
        return self.network_alpha or float(self.network_dim)

    @property
    def convolutions(self) -> tuple[int, float]:
        """Rank and alpha of 3x3 convolutions; LyCORIS trains them like linear layers unless they are given."""
        if self.network_module != MODULES[0] and not self.conv_dim:
            return self.network_dim, self.conv_alpha or self.alpha
        return self.conv_dim, self.conv_alpha or float(self.conv_dim)

    @property
    def rates(self) -> tuple[float, float]:
        """Learning rates of the U-Net's and of the text encoder's LoRA; 0 if it is not trained."""
        unet = self.learning_rate if self.unet_lr is None else self.unet_lr
        text = self.learning_rate if self.text_encoder_lr is None else self.text_encoder_lr
        return (
            0.0 if self.network_train_text_encoder_only else unet,
            0.0 if self.network_train_unet_only else text,
        )


def to_a1111_sampler(name: str) -> str:
    """A1111's name of a sampler, from that name or sd-scripts'. Raises CalotypeError for an unknown one."""
    name = SAMPLERS_OF_KOHYA.get(name.lower(), name)
    sampler_named(name)
    return name


def split_arguments(text: str) -> list[str]:
    """The items of "a=1 b=(0.9, 0.99)", separated by spaces outside of brackets and quotation marks.

    >>> split_arguments("weight_decay=0.1 betas=(0.9, 0.99)")
    ['weight_decay=0.1', 'betas=(0.9, 0.99)']
    """
    items, depth, quote, is_open = [], 0, "", False
    for char in text:
        if char.isspace() and not quote and depth <= 0:
            is_open = False
            continue
        if quote or char in "\"'":
            quote = "" if char == quote else quote or char
        else:
            depth += (char in "([{") - (char in ")]}")
        if is_open:
            items[-1] += char
        else:
            items, is_open = [*items, char], True
    return items


NETWORK_ARGS = {name: name for name in ("conv_dim", "conv_alpha", "algo", "factor", "rank_dropout", "module_dropout")}
NETWORK_ARGS |= {"dropout": "network_dropout"}


def network_arguments(text: str, module: str = MODULES[0]) -> dict[str, Any]:
    """The options in network_args such as "conv_dim=4 algo=loha". Raises CalotypeError for unknown ones."""
    options: dict[str, Any] = {}
    for word in split_arguments(text):
        key, equals, value = word.partition("=")
        if not equals:
            raise CalotypeError("{option:network_args} is such as conv_dim=4 conv_alpha=1, not {word!r}", word=word)
        if key in NETWORK_ARGS:
            name = NETWORK_ARGS[key]
            options[name] = checked(TrainLora, name, value if value not in ("", "None") else 0)
        elif value.lower() not in ("", "false", "none", "0") and word != "preset=full":
            raise CalotypeError(
                "{option:network_args} has no argument {word}{hint}", word=word, hint=nearest(key, NETWORK_ARGS)
            )
    if options.get("conv_dim") and module == MODULES[0]:
        options.setdefault("conv_alpha", 1.0)  # sd-scripts' default, where LyCORIS takes network_alpha
    elif options.get("conv_dim"):
        options.setdefault("conv_alpha", 0.0)
    return options


def parse_step_rules(text: str) -> list[tuple[float, float]]:
    """(step, factor) of "step_rules=1:100,0.1:200,0.01": each factor, and the step it ends at."""
    try:
        name, rules = text.strip().split("=", 1)
        rule_parts = [rule.split(":") for rule in rules.strip("\"'").split(",")]
        factors = [(float(rule[1]) if len(rule) == 2 else math.inf, float(rule[0])) for rule in rule_parts]
        if name != "step_rules" or factors[-1][0] != math.inf or factors != sorted(factors):
            raise ValueError
        return factors
    except (ValueError, IndexError):
        raise CalotypeError(
            "{option:lr_scheduler_args} is such as step_rules=1:100,0.1:200,0.01, not {text!r}", text=text
        ) from None


def check_prefix(prefix: str) -> None:
    if "/" in prefix or "\\" in prefix:
        raise CalotypeError("{option:log_prefix} is a prefix of a name, not a path: {prefix!r}", prefix=prefix)


def check_extension(extension: str) -> None:
    """Raises CalotypeError if it cannot be a file extension."""
    ending = extension.removeprefix(".")
    if not ending.strip(". ") or any(letter in '/\\:*?"<>|' or ord(letter) < 32 for letter in ending):
        raise CalotypeError("{option:caption_extension} is such as .txt, not {extension!r}", extension=extension)


def check_name(name: str, ending: int = 40) -> None:
    """Raises CalotypeError if the name cannot be the start of file names in the output folder.

    Args:
        ending: bytes reserved for what is appended.
    """
    is_device = os.name == "nt" and RESERVED_NAME.fullmatch(name)
    is_none = not name.strip() or set(name) <= {"."} or is_device
    if is_none or any(letter in '/\\:*?"<>|' or ord(letter) < 32 for letter in name):
        raise CalotypeError("{option:output_name} is a file name without folder, not {name!r}", name=name)
    stem, _, kind = name.rpartition(".")
    if stem and kind.lower() in WEIGHT_SUFFIXES:
        raise CalotypeError(
            "{option:output_name} is a file name without extension, which is added; give {stem}", stem=stem
        )
    if len(name.encode("utf-8", "replace")) > 255 - ending:
        raise CalotypeError("{option:output_name} is too long for a file name: {name}...", name=name[:40])


def parse_steps(text: str, steps: int, option: str = "lr_warmup_steps") -> int:
    """The number of steps in "100", or "0.05" or "5%" of all steps. Raises CalotypeError for anything else."""
    try:
        fraction = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        if not 0 <= fraction < 1e7:
            raise ValueError
    except ValueError:
        raise CalotypeError("{option} is such as 100, 0.05 or 5%, not {text!r}", option=option, text=text) from None
    return int(fraction * steps) if fraction < 1 or text.endswith("%") else int(fraction)
