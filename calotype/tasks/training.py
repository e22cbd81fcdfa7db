"""Learning from photos. Names and defaults are those of kohya's sd-scripts and lora-scripts, which people know."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError
from calotype.options import checked, nearest, option
from calotype.samplers import sampler_named
from calotype.tasks.optimizers import KNOWN, known

SCHEDULERS = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"),
    *("inverse_sqrt", "cosine_with_min_lr", "warmup_stable_decay", "piecewise_constant", "adafactor"),
)
MODULES = ("networks.lora", "lycoris.kohya", "lycoris.locon")
ALGORITHMS = ("lora", "locon", "loha", "lokr")
ENDINGS = ("safetensors", "pt", "ckpt", "pth")  # of files that training ends in
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.I)  # what no file of Windows is called
LOSSES = ("l2", "l1", "huber", "smooth_l1")
SAMPLERS_OF_KOHYA = {
    **{"pndm": "PLMS", "euler_a": "Euler a", "k_dpm_2_a": "DPM2 a", "dpm_2": "DPM2", "dpm_2_a": "DPM2 a"},
    **{"dpmsolver": "DPM++ 2M", "dpmsolver++": "DPM++ 2M", "dpmsingle": "DPM++ SDE"},  # what comes nearest
}


@dataclass(frozen=True, kw_only=True)
class Photos:
    """What is learnt from."""

    TITLE = "Photos and captions"

    photos: Path = option(help="folder with photos, or with N_name folders of them", is_path=True)
    regular: Path | None = option(
        None,
        "folder of regularisation pictures",
        is_path=True,
        aliases=("reg-data-dir",),
        title="Regularization pictures",
    )
    prior_loss_weight: float = option(1.0, "how much regularisation pictures count", min=0, max=100)
    prior_target: str = option(
        "pictures",
        "what is held in place with them: what they show, or what the model itself makes of them",
        choices=("pictures", "model"),
    )
    caption_extension: str = option(".txt", "ending of caption files")
    shuffle_caption: bool = option(False, "shuffle the tags of a caption at each step")
    keep_tokens: int = option(0, "tags at the beginning that are not shuffled or dropped", min=0, max=1000)
    keep_tokens_separator: str = option("", "what parts the tags to keep from the others, such as |||")
    caption_separator: str = option(",", "what parts tags")
    secondary_separator: str = option("", "what parts tags that stay together; a comma takes its place at the end")
    caption_prefix: str = option("", "words before every caption")
    caption_suffix: str = option("", "words behind every caption")
    enable_wildcard: bool = option(False, "captions of several lines, of which one is taken, and {{this|or that}}")
    caption_dropout_rate: float = option(0.0, "how often a picture goes without caption", min=0, max=1)
    caption_dropout_every_n_epochs: int = option(0, "no captions in every n-th epoch; 0: never", min=0, max=100_000)
    caption_tag_dropout_rate: float = option(0.0, "how often a tag is left out", min=0, max=1)
    resolution: str = option("", "WxH or one number; the model's own where not given")
    enable_bucket: bool = option(True, "train on each photo's own shape, not on squares alone")
    min_bucket_reso: int = option(256, "shortest side of a bucket", min=16, max=4096)
    max_bucket_reso: int = option(1024, "longest side of a bucket", min=16, max=8192)
    bucket_reso_steps: int = option(64, "sides of buckets are multiples of this", min=8, max=512)
    bucket_no_upscale: bool = option(False, "never enlarge a photo")
    flip_aug: bool = option(False, "show every photo mirrored, half of the time")
    color_aug: bool = option(False, "change hue or gamma a little, in a third of the steps")
    random_crop: bool = option(False, "crop anywhere, not in the middle")
    cache_latents_to_disk: bool = option(False, "keep photos as latents in Calotype's own folder, for the next run")


@dataclass(frozen=True, kw_only=True)
class LoraNetworkOptions:
    """What is trained."""

    TITLE = "The LoRA"

    network_dim: int = option(16, "rank of the LoRA", min=1, max=1024)
    network_alpha: float = option(0.0, "its alpha; 0 takes the rank", min=0, max=1024)
    conv_dim: int = option(0, "rank for 3x3 convolutions too (LoCon); 0: none", min=0, max=1024)
    conv_alpha: float = option(0.0, "alpha of these; 0 takes their rank", min=0, max=1024)
    network_module: str = option("networks.lora", "the trainer whose layers it has", choices=MODULES)
    algo: str = option("lora", "what a layer is made of; locon is lora, also for convolutions", choices=ALGORITHMS)
    factor: int = option(-1, "of LoKr: the smaller side of what it multiplies; -1: near the root", min=-1, max=4096)
    network_args: str = option(
        "", "such as conv_dim=4 conv_alpha=1 algo=loha dropout=0.1, as sd-scripts has them", title="Network arguments"
    )
    network_dropout: float = option(0.0, "how often a number within a layer is left out", min=0, max=0.99)
    rank_dropout: float = option(0.0, "how often a rank of a layer is left out", min=0, max=0.99)
    module_dropout: float = option(0.0, "how often a layer is left out", min=0, max=0.99)
    scale_weight_norms: float = option(0.0, "longest change of a layer (1 is usual); 0: any", min=0, max=1e6)
    network_weights: Path | None = option(None, "LoRA file to go on from", is_path=True)
    dim_from_weights: bool = option(False, "layers, ranks and alphas as in network_weights")
    network_train_unet_only: bool = option(False, "leave the text encoder as it is")
    network_train_text_encoder_only: bool = option(False, "train the text encoder alone")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long, and at what rate."""

    TITLE = "How long, and at what rate"

    max_train_epochs: int = option(10, "how often all photos are shown", min=1, max=100_000)
    max_train_steps: int = option(
        0, "end after so many steps instead, where no epochs are given", min=0, max=10_000_000
    )
    train_batch_size: int = option(1, "pictures in a step", min=1, max=1024)
    gradient_accumulation_steps: int = option(1, "steps added up before the weights change", min=1, max=1024)
    learning_rate: float = option(1e-4, "of all parts that have no rate of their own", min=0, max=10)
    unet_lr: float | None = option(None, "of the U-Net's LoRA", min=0, max=10)
    text_encoder_lr: float | None = option(None, "of the text encoder's LoRA; 0 leaves it as it is", min=0, max=10)
    lr_scheduler: str = option("cosine_with_restarts", "how the rate falls", choices=SCHEDULERS)
    lr_warmup_steps: str = option("0", "steps in which it rises; a share such as 0.05, or 5%")
    lr_scheduler_num_cycles: int = option(1, "restarts of the cosine", min=1, max=1000)
    lr_scheduler_power: float = option(1.0, "of the polynomial", min=0, max=100)
    lr_scheduler_min_lr_ratio: float | None = option(
        None, "where cosine_with_min_lr and warmup_stable_decay end, as a share of the rate", min=0, max=1
    )
    lr_scheduler_timescale: int = option(0, "of inverse_sqrt; 0: as long as the warm-up", min=0, max=10_000_000)
    lr_decay_steps: str = option("0", "steps in which warmup_stable_decay falls; a share such as 0.2, or 20%")
    lr_scheduler_args: str = option("", "of piecewise_constant, such as step_rules=1:100,0.1:200,0.01")
    optimizer_type: str = option(
        "AdamW",
        "AdamW, AdamW8bit, Lion, Prodigy, DAdaptation, AdaFactor, or module.Class",
        names="optimizer",
        words=tuple(KNOWN),
        parsed=lambda text: () if known(text) else (text,),
    )
    optimizer_args: str = option("", "its arguments, such as weight_decay=0.1 betas=(0.9,0.99)")
    max_grad_norm: float = option(1.0, "longest gradient; 0: any", min=0, max=1e6)
    min_snr_gamma: float = option(0.0, "weigh steps by signal (5 is usual); 0: not", min=0, max=1000)
    scale_v_pred_loss_like_noise_pred: bool = option(False, "weigh steps of a v model as those of an epsilon one")
    v_pred_like_loss: float = option(0.0, "add the loss so often as a v model would weigh it", min=0, max=100)
    debiased_estimation_loss: bool = option(False, "weigh steps by the root of the signal (Yu et al. 2023)")
    loss_type: str = option("l2", "how a difference counts", choices=LOSSES)
    huber_schedule: str = option("snr", "how huber_c changes", choices=("constant", "exponential", "snr"))
    huber_c: float = option(0.1, "where huber and smooth_l1 turn from squares to lengths", min=1e-6, max=1e3)
    huber_scale: float = option(1.0, "of huber_c, constant and exponential", min=1e-6, max=1e6)
    min_timestep: int = option(0, "least noisy time that is trained", min=0, max=999)
    max_timestep: int = option(1000, "noisiest time that is trained, not counted itself", min=1, max=1000)
    noise_offset: float = option(0.0, "brighter and darker noise (0.05 is usual)", min=0, max=1)
    noise_offset_random_strength: bool = option(False, "anything up to noise_offset, at each step")
    adaptive_noise_scale: float = option(0.0, "add the latents' mean so often to noise_offset", min=-10, max=10)
    multires_noise_iterations: int = option(0, "coarser noises that are added (6 to 10 are usual)", min=0, max=20)
    multires_noise_discount: float = option(0.3, "how much each of them counts, of the one before", min=0, max=1)
    ip_noise_gamma: float = option(0.0, "more noise in the picture than is asked for (0.1 is usual)", min=0, max=1)
    ip_noise_gamma_random_strength: bool = option(False, "anything up to ip_noise_gamma, at each step")
    zero_terminal_snr: bool = option(False, "the noisiest step is noise alone")
    seed: int = option(1337, "the same seed learns the same", min=0, max=2**63 - 1)
    mixed_precision: str = option("auto", "number format of the network", choices=("auto", "no", "bf16", "fp16"))
    full_fp16: bool = option(False, "the LoRA's own numbers in fp16 too; with {option:mixed_precision} fp16")
    full_bf16: bool = option(False, "the LoRA's own numbers in bf16 too; with {option:mixed_precision} bf16")
    gradient_checkpointing: bool = option(False, "less memory, more time")
    stop_text_encoder_training: int = option(
        0, "step from which the text encoder stays as it is; -1: from the first; 0: never", min=-1, max=10_000_000
    )
    max_token_length: int = option(225, "longest caption in tokens: 75, 150 or 225", min=75, max=225)
    clip_skip: int = option(0, "layer of the text encoder from the end; 0: the model's own", min=0, max=12)


@dataclass(frozen=True, kw_only=True)
class LoraOutput:
    """What is written, and when."""

    TITLE = "What is written, and where"

    output_dir: Path = option(
        Path("out"), "folder for the LoRA, its states and logs; or its file, such as my.safetensors", is_path=True
    )
    output_name: str = option("lora", "name of the LoRA")
    save_every_n_epochs: int = option(0, "keep a file every so many epochs; 0: the last alone", min=0, max=100_000)
    save_last_n_epochs: int = option(0, "of these keep the last so many; 0: all", min=0, max=100_000)
    save_every_n_steps: int = option(0, "keep a file every so many steps; 0: none", min=0, max=10_000_000)
    save_last_n_steps: int = option(0, "of these keep those of the last so many steps; 0: all", min=0, max=10**7)
    save_n_epoch_ratio: int = option(0, "keep so many files, by epochs; 0: as the others say", min=0, max=100_000)
    save_model_as: str = option("safetensors", "kind of file", choices=("safetensors", "pt", "ckpt"))
    save_precision: str = option("fp16", "number format of the file", choices=("float", "fp16", "bf16"))
    save_state_every: int = option(
        0, "steps after which all that is needed to go on is saved; 0: every two minutes", min=0, max=10**6
    )
    resume: Path | None = option(None, "state to go on from, or the folder it lies in", is_path=True)
    no_metadata: bool = option(False, "write no settings and captions into the file")
    training_comment: str = option("", "a sentence for the file's metadata", max_length=20_000)
    metadata_title: str = option("", "what the file calls itself; output_name where not given")
    metadata_author: str = option("", "who made it")
    metadata_description: str = option("", "what it is", max_length=20_000)
    metadata_license: str = option("", "its licence")
    metadata_tags: str = option("", "words to find it by, with commas between")
    metadata_usage_hint: str = option("", "how to use it", max_length=20_000)
    metadata_trigger_phrase: str = option("", "words that call what was learnt")


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What sd-scripts asks for and Calotype does anyway, or never: taken, so that a command need not be changed."""

    TITLE = "Taken from sd-scripts' commands, and needless"

    xformers: bool = option(False, "accepted: attention is always the fused one", title="Attention of xFormers")
    sdpa: bool = option(False, "accepted: attention is always the fused one", title="Attention of PyTorch (SDPA)")
    mem_eff_attn: bool = option(False, "accepted: attention is always the fused one")
    cache_latents: bool = option(False, "accepted: photos are kept as latents wherever they stay the same")
    save_state: bool = option(False, "accepted: states are always saved")
    lowram: bool = option(False, "accepted", title="Low RAM")
    persistent_data_loader_workers: bool = option(False, "accepted: there are none to keep")
    max_data_loader_n_workers: int = option(0, "accepted: there are none", min=0, max=1024)


@dataclass(frozen=True, kw_only=True)
class Logged:
    """TensorBoard's files, which any training run can write."""

    TITLE = "Samples, validation, logs"

    logging_dir: Path | None = option(None, "folder for TensorBoard's files", is_path=True)
    log_prefix: str = option("", "beginning of the name of a run's folder there")
    log_with: str = option(
        "auto",
        "auto: TensorBoard's files where there is a {option:logging_dir}",
        choices=("auto", "tensorboard", "none"),
    )


@dataclass(frozen=True, kw_only=True)
class Watched(Logged):
    """What is seen of a run while it goes on, and after."""

    TITLE = "Samples, validation, logs"

    sample_every_n_epochs: int = option(
        0,
        "draw sample pictures every so many epochs; 0: none, or at each where there are {option:sample_prompts}",
        min=0,
        max=100_000,
    )
    sample_every_n_steps: int = option(0, "draw them every so many steps; 0: not by steps", min=0, max=10_000_000)
    sample_prompts: str = option(
        "",
        "file with a prompt a line (sd-scripts' n, w, h, d, l, s and ss may follow it, two dashes before each), or "
        "prompts with ; between; captions of the photos where not given",
        is_path=True,
    )
    sample_sampler: str = option("auto", "sampler of these, by A1111's or sd-scripts' name; auto: the model's own")
    sample_at_first: bool = option(True, "draw them before the first step too")
    validation_split: float = option(0.0, "share of the photos held back, to measure what is learnt", min=0, max=0.9)
    validation_seed: int | None = option(None, "chooses them; {option:seed} where not given", min=0, max=2**63 - 1)
    validate_every_n_epochs: int = option(1, "measure every so many epochs", min=1, max=100_000)

    @property
    def samples_after(self) -> tuple[int, int]:
        """Epochs and steps after which samples are drawn; 0: not by these. (0, 0): never."""
        epochs, steps = self.sample_every_n_epochs, self.sample_every_n_steps
        return (1, 0) if self.sample_prompts and not (epochs or steps) else (epochs, steps)


@dataclass(frozen=True, kw_only=True)
class TrainLora(Accepted, Photos, LoraNetworkOptions, Schedule, Watched, LoraOutput):
    """Learn a face, a thing or a style from photos, as a LoRA.

    What `network_args` holds stands in the options of their own names too, where `read` has spread it.
    """

    TITLE = "What is learnt"

    model: str = option(
        "emoji",
        "name in the catalog, a checkpoint file, or a diffusers folder",
        aliases=("pretrained-model-name-or-path",),
        names="diffusion",
    )
    vae: str = option("", "another VAE: name or file", names="vae")
    v2: bool = option(False, "the model is of SD 2.x (found out anyway)", title="SD 2.x")
    v_parameterization: bool = option(
        False, "the model answers with v (found out, where its file says so)", title="Predicts v"
    )
    dry_run: bool = option(False, "tell what would be done, and do nothing")

    def __post_init__(self) -> None:
        if self.max_token_length not in (75, 150, 225):
            raise CalotypeError(
                "{option:max_token_length} is 75, 150 or 225, not {max_token_length}",
                max_token_length=self.max_token_length,
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
        warmup(self.lr_warmup_steps, 100)
        warmup(self.lr_decay_steps, 100, "lr_decay_steps")
        if self.sample_sampler != "auto":
            sampler_known(self.sample_sampler)
        check_name(self.output_name)
        check_prefix(self.log_prefix)
        check_extension(self.caption_extension)
        if self.lr_scheduler == "piecewise_constant":
            step_rules(self.lr_scheduler_args)
        if self.lr_scheduler == "adafactor" and self.optimizer_type.lower() != "adafactor":
            raise CalotypeError("{option:lr_scheduler} adafactor goes with {option:optimizer_type} AdaFactor alone")
        for name, format in (("full_fp16", "fp16"), ("full_bf16", "bf16")):
            if getattr(self, name) and self.mixed_precision != format:
                raise CalotypeError("{option} needs {option:mixed_precision} {format}", option=name, format=format)
        if self.dim_from_weights and (self.network_weights is None or self.algo not in ("lora", "locon")):
            raise CalotypeError("{option:dim_from_weights} needs the LoRA that {option:network_weights} names")
        if self.adaptive_noise_scale and not self.noise_offset:
            raise CalotypeError("{option:adaptive_noise_scale} needs {option:noise_offset}")
        if self.min_timestep >= self.max_timestep:
            raise CalotypeError("{option:min_timestep} is below {option:max_timestep}")
        for name, value in network_arguments(self.network_args, self.network_module).items():
            if getattr(self, name) != value:
                raise CalotypeError("{option:network_args} says {option} {value}", option=name, value=value)

    @classmethod
    def settled(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Checked values, with what network_args says over them. Raises CalotypeError where it says nothing known."""
        defaults = {spec.name: spec.default for spec in fields(cls)} | values
        return {**values, **network_arguments(defaults["network_args"], defaults["network_module"])}

    @property
    def alpha(self) -> float:
        return self.network_alpha or float(self.network_dim)

    @property
    def convolutions(self) -> tuple[int, float]:
        """Rank and alpha of 3x3 convolutions; LyCORIS trains them as all else where it is not told."""
        if self.network_module != MODULES[0] and not self.conv_dim:
            return self.network_dim, self.conv_alpha or self.alpha
        return self.conv_dim, self.conv_alpha or float(self.conv_dim)

    @property
    def rates(self) -> tuple[float, float]:
        """Of the U-Net's and of the text encoder's LoRA; 0 where a part is not trained."""
        unet = self.learning_rate if self.unet_lr is None else self.unet_lr
        text = self.learning_rate if self.text_encoder_lr is None else self.text_encoder_lr
        return (
            0.0 if self.network_train_text_encoder_only else unet,
            0.0 if self.network_train_unet_only else text,
        )


def sampler_known(name: str) -> str:
    """A sampler by A1111's name, from that or from sd-scripts' name for it. Raises CalotypeError for an unknown one."""
    name = SAMPLERS_OF_KOHYA.get(name.lower(), name)
    sampler_named(name)
    return name


NETWORK_ARGS = {name: name for name in ("conv_dim", "conv_alpha", "algo", "factor", "rank_dropout", "module_dropout")}
NETWORK_ARGS |= {"dropout": "network_dropout"}


def network_arguments(text: str, module: str = MODULES[0]) -> dict[str, Any]:
    """Options that network_args such as "conv_dim=4 algo=loha" stand for. Raises CalotypeError for unknown ones."""
    found: dict[str, Any] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals:
            raise CalotypeError("{option:network_args} is such as conv_dim=4 conv_alpha=1, not {word!r}", word=word)
        if key in NETWORK_ARGS:
            name = NETWORK_ARGS[key]
            found[name] = checked(TrainLora, name, value if value not in ("", "None") else 0)
        elif value.lower() not in ("", "false", "none", "0") and word != "preset=full":
            raise CalotypeError(
                "{option:network_args} knows no {word}{hint}", word=word, hint=nearest(key, NETWORK_ARGS)
            )
    if found.get("conv_dim") and module == MODULES[0]:
        found.setdefault("conv_alpha", 1.0)  # sd-scripts' default, where LyCORIS takes network_alpha
    elif found.get("conv_dim"):
        found.setdefault("conv_alpha", 0.0)
    return found


def step_rules(text: str) -> list[tuple[float, float]]:
    """(step, factor) of "step_rules=1:100,0.1:200,0.01": each factor, and the step before which it holds."""
    try:
        name, rules = text.strip().split("=", 1)
        parts = [part.split(":") for part in rules.strip("\"'").split(",")]
        found = [(float(part[1]) if len(part) == 2 else math.inf, float(part[0])) for part in parts]
        if name != "step_rules" or found[-1][0] != math.inf or found != sorted(found):
            raise ValueError
        return found
    except (ValueError, IndexError):
        raise CalotypeError(
            "{option:lr_scheduler_args} is such as step_rules=1:100,0.1:200,0.01, not {text!r}", text=text
        ) from None


def check_prefix(prefix: str) -> None:
    if "/" in prefix or "\\" in prefix:
        raise CalotypeError("{option:log_prefix} is the beginning of a name, not a path: {prefix!r}", prefix=prefix)


def check_extension(extension: str) -> None:
    """Raises CalotypeError for what cannot be the ending of a file's name."""
    ending = extension.removeprefix(".")
    if not ending.strip(". ") or any(letter in '/\\:*?"<>|' or ord(letter) < 32 for letter in ending):
        raise CalotypeError("{option:caption_extension} is such as .txt, not {extension!r}", extension=extension)


def check_name(name: str, ending: int = 40) -> None:
    """Names of what is written begin with it, in a folder of its own. Raises CalotypeError where it leads elsewhere.

    Args:
        ending: bytes that are kept free for what follows it.
    """
    is_device = os.name == "nt" and _DEVICE.match(name)
    is_none = not name.strip() or set(name) <= {"."} or is_device
    if is_none or any(letter in '/\\:*?"<>|' or ord(letter) < 32 for letter in name):
        raise CalotypeError("{option:output_name} is a name without its folder, not {name!r}", name=name)
    stem, _, kind = name.rpartition(".")
    if stem and kind.lower() in ENDINGS:
        raise CalotypeError(
            "{option:output_name} is a name without its ending, which comes by itself; give {stem}", stem=stem
        )
    if len(name.encode("utf-8", "replace")) > 255 - ending:
        raise CalotypeError("{option:output_name} is too long for the name of a file: {name}...", name=name[:40])


def warmup(text: str, steps: int, option: str = "lr_warmup_steps") -> int:
    """Steps of "100", "0.05" or "5%" of all steps. Raises CalotypeError for anything else."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        if not 0 <= share < 1e7:
            raise ValueError
    except ValueError:
        raise CalotypeError("{option} is such as 100, 0.05 or 5%, not {text!r}", option=option, text=text) from None
    return int(share * steps) if share < 1 or text.endswith("%") else int(share)
