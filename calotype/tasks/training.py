"""Learning from photos. Names and defaults are those of kohya's sd-scripts and lora-scripts, which people know."""

from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option

SCHEDULERS = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"),
    *("inverse_sqrt", "cosine_with_min_lr", "warmup_stable_decay"),
)


@dataclass(frozen=True, kw_only=True)
class Photos:
    """What is learnt from."""

    photos: Path = option(help="folder with photos, or with N_name folders of them", is_path=True)
    regular: Path | None = option(None, "folder of regularisation pictures (reg_data_dir)", is_path=True)
    prior_loss_weight: float = option(1.0, "how much regularisation pictures count", least=0, most=100)
    caption_extension: str = option(".txt", "ending of caption files")
    shuffle_caption: bool = option(False, "shuffle the tags of a caption at each step")
    keep_tokens: int = option(0, "tags at the beginning that are not shuffled or dropped", least=0, most=1000)
    caption_dropout_rate: float = option(0.0, "how often a picture goes without caption", least=0, most=1)
    caption_tag_dropout_rate: float = option(0.0, "how often a tag is left out", least=0, most=1)
    resolution: str = option("", "WxH or one number; the model's own where not given")
    enable_bucket: bool = option(True, "train on each photo's own shape, not on squares alone")
    min_bucket_reso: int = option(256, "shortest side of a bucket", least=16, most=4096)
    max_bucket_reso: int = option(1024, "longest side of a bucket", least=16, most=8192)
    bucket_reso_steps: int = option(64, "sides of buckets are multiples of this", least=8, most=512)
    bucket_no_upscale: bool = option(False, "never enlarge a photo")
    flip_aug: bool = option(False, "show every photo mirrored, half of the time")
    random_crop: bool = option(False, "crop anywhere, not in the middle")


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is trained."""

    network_dim: int = option(16, "rank of the LoRA", least=1, most=1024)
    network_alpha: float = option(0.0, "its alpha; 0 takes the rank", least=0, most=1024)
    conv_dim: int = option(0, "rank for 3x3 convolutions too (LoCon); 0: none", least=0, most=1024)
    conv_alpha: float = option(0.0, "alpha of these; 0 takes their rank", least=0, most=1024)
    network_dropout: float = option(0.0, "dropout within the LoRA", least=0, most=0.99)
    network_weights: Path | None = option(None, "LoRA file to go on from", is_path=True)
    network_train_unet_only: bool = option(False, "leave the text encoder as it is")
    network_train_text_encoder_only: bool = option(False, "train the text encoder alone")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long, and at what rate."""

    max_train_epochs: int = option(10, "how often all photos are shown", least=1, most=100_000)
    max_train_steps: int = option(0, "end after so many steps instead", least=0, most=10_000_000)
    train_batch_size: int = option(1, "pictures in a step", least=1, most=1024)
    gradient_accumulation_steps: int = option(1, "steps added up before the weights change", least=1, most=1024)
    learning_rate: float = option(1e-4, "of all parts that have no rate of their own", least=0, most=10)
    unet_lr: float | None = option(None, "of the U-Net's LoRA", least=0, most=10)
    text_encoder_lr: float | None = option(None, "of the text encoder's LoRA; 0 leaves it as it is", least=0, most=10)
    lr_scheduler: str = option("cosine_with_restarts", "how the rate falls", choices=SCHEDULERS)
    lr_warmup_steps: str = option("0", "steps in which it rises; a share such as 0.05, or 5%")
    lr_scheduler_num_cycles: int = option(1, "restarts of the cosine", least=1, most=1000)
    lr_scheduler_power: float = option(1.0, "of the polynomial", least=0, most=100)
    optimizer_type: str = option("AdamW", "AdamW, AdamW8bit, Lion, Prodigy, DAdaptation, AdaFactor, or module.Class")
    optimizer_args: str = option("", "its arguments, such as weight_decay=0.1 betas=(0.9,0.99)")
    max_grad_norm: float = option(1.0, "longest gradient; 0: any", least=0, most=1e6)
    min_snr_gamma: float = option(0.0, "weigh steps by signal (5 is usual); 0: not", least=0, most=1000)
    noise_offset: float = option(0.0, "brighter and darker noise (0.05 is usual)", least=0, most=1)
    seed: int = option(1337, "the same seed learns the same", least=0, most=2**63 - 1)
    mixed_precision: str = option("auto", "number format of the network", choices=("auto", "no", "bf16", "fp16"))
    gradient_checkpointing: bool = option(False, "less memory, more time")
    max_token_length: int = option(225, "longest caption in tokens: 75, 150 or 225", least=75, most=225)
    clip_skip: int = option(0, "layer of the text encoder from the end; 0: the model's own", least=0, most=12)


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What is written, and when."""

    output_dir: Path = option(Path("out"), "folder for the LoRA, its states and logs", is_path=True)
    output_name: str = option("lora", "name of the LoRA")
    save_every_n_epochs: int = option(0, "keep a file every so many epochs; 0: the last alone", least=0, most=100_000)
    save_last_n_epochs: int = option(0, "of these keep the last so many; 0: all", least=0, most=100_000)
    save_precision: str = option("fp16", "number format of the file", choices=("float", "fp16", "bf16"))
    save_state_every: int = option(50, "steps after which all that is needed to go on is saved", least=1, most=10**6)


@dataclass(frozen=True, kw_only=True)
class TrainLora(Photos, Network, Schedule, Saved):
    """Learn a face, a thing or a style from photos, as a LoRA."""

    model: str = option("emoji", "name in the catalog, a checkpoint file, or a diffusers folder")
    dry_run: bool = option(False, "tell what would be done, and do nothing")

    def __post_init__(self) -> None:
        if self.max_token_length not in (75, 150, 225):
            raise CalotypeError(f"--max-token-length is 75, 150 or 225, not {self.max_token_length}")
        if self.network_train_unet_only and self.network_train_text_encoder_only:
            raise CalotypeError(
                "--network-train-unet-only and --network-train-text-encoder-only leave nothing to train"
            )
        if self.bucket_reso_steps % 8:
            raise CalotypeError(f"--bucket-reso-steps is a multiple of 8, not {self.bucket_reso_steps}")
        warmup(self.lr_warmup_steps, 100)

    @property
    def alpha(self) -> float:
        return self.network_alpha or float(self.network_dim)

    @property
    def rates(self) -> tuple[float, float]:
        """Of the U-Net's and of the text encoder's LoRA; 0 where a part is not trained."""
        unet = self.learning_rate if self.unet_lr is None else self.unet_lr
        text = self.learning_rate if self.text_encoder_lr is None else self.text_encoder_lr
        return (
            0.0 if self.network_train_text_encoder_only else unet,
            0.0 if self.network_train_unet_only else text,
        )


def warmup(text: str, steps: int) -> int:
    """Steps of "100", "0.05" or "5%" of all steps. Raises CalotypeError for anything else."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        if not 0 <= share < 1e7:
            raise ValueError
    except ValueError:
        raise CalotypeError(f"--lr-warmup-steps is such as 100, 0.05 or 5%, not {text!r}") from None
    return round(share * steps) if share < 1 or text.endswith("%") else int(share)
