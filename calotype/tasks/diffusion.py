"""Training a small latent diffusion model from scratch."""

from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option, same_as
from calotype.tasks.training import LogOptions, LoraOutput, TrainLora, check_extension, check_name, check_prefix

SMALL_RESOLUTION = 128  # pixels; below it the default networks are smaller


@dataclass(frozen=True, kw_only=True)
class CaptionedOptions:
    """The captioned pictures."""

    TITLE = "Dataset and captions"

    photos: Path = option(help="folder of captioned pictures, or a WebDataset .tar of them", is_path=True)
    caption_extension: str = option(
        ".txt", "extension of caption files; each line is one caption, the first one the usual"
    )
    caption_dropout_rate: float = option(0.1, "probability of dropping a caption", min=0, max=1)
    resolution: int = option(256, "side of the square pictures in pixels", min=16, max=1024)
    validation_split: float = option(0.02, "fraction of the pictures held out for validation", min=0, max=0.9)
    held_out: Path | None = option(
        None, "file with the names of validation pictures, one per line, instead", is_path=True
    )


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The networks."""

    TITLE = "Networks"

    vae_channels: str = option(
        "", "channels of the KL-VAE per level, such as 32,64,128,128; by resolution where not given"
    )
    unet_channels: str = option(
        "", "channels of the U-Net per level, such as 128,192,256; by resolution where not given"
    )
    latent_channels: int = option(4, "channels of the latents", min=1, max=32)
    text_width: int = option(256, "hidden size of the text encoder", min=32, max=2048)
    text_layers: int = option(4, "layers of the text encoder", min=1, max=48)
    vocab_size: int = option(
        4096, "vocabulary size of the tokenizer, which is trained on the captions", min=600, max=49408
    )


@dataclass(frozen=True, kw_only=True)
class DiffusionTrainingOptions:
    """Duration, learning rates and losses."""

    TITLE = "Training"

    minutes: float = option(
        15.0,
        "time limit of the whole run; steps are timed, and as many run as fit",
        min=0.02,
        max=100_000,
        title="Time limit in minutes",
    )
    vae_share: float = option(0.29, "fraction of the time for the VAE", min=0.01, max=0.95)
    vae_train_steps: int = option(0, "steps of the VAE, instead of a time", min=0, max=10_000_000)
    max_train_steps: int = option(0, "steps of U-Net and text encoder, instead of a time", min=0, max=10_000_000)
    vae_batch_size: int = option(0, "batch size of the VAE, in crops; 0: 96 on a GPU, 12 without", min=0, max=4096)
    train_batch_size: int = option(0, "batch size; 0: 512 on a GPU, 32 without", min=0, max=8192)
    vae_learning_rate: float = option(1e-3, "learning rate of the VAE", min=0, max=1)
    learning_rate: float = option(7e-4, "learning rate of U-Net and text encoder", min=0, max=1)
    adversarial_share: float = option(
        0.3, "fraction of the VAE's steps, the last ones, with an adversarial loss", min=0, max=1
    )
    adversarial_weight: float = option(0.25, "weight of the adversarial loss", min=0, max=10)
    min_snr_gamma: float = option(5.0, "gamma of min-SNR loss weighting; 0 disables it", min=0, max=1000)
    ema_decay: float = option(0.9995, "decay of the EMA of the weights", min=0, max=0.999999)
    seed: int = option(1337, "random seed; the same seed gives the same result", min=0, max=2**63 - 1)
    mixed_precision: str = option("auto", "data type of mixed precision training", choices=("auto", "no", "bf16"))


@dataclass(frozen=True, kw_only=True)
class DiffusionOutput:
    """Which files are written, and when."""

    TITLE = "Output"

    output_dir: Path = option(Path("out"), "output folder for the model, training states and logs", is_path=True)
    output_name: str = option("diffusion", "name of the model's folder there")
    save_precision: str = option("fp16", "data type of the saved weights", choices=("float", "fp16", "bf16"))
    save_state_every: int = same_as(LoraOutput, "save_state_every")
    sample_count: int = option(6, "number of sample sheets over the run", min=0, max=1000)
    sample_prompts: str = option(
        "",
        "file with one prompt per line, or prompts with ; between; captions of validation pictures where not given",
        is_path=True,
    )


@dataclass(frozen=True, kw_only=True)
class TrainDiffusion(CaptionedOptions, NetworkOptions, DiffusionTrainingOptions, DiffusionOutput, LogOptions):
    """Train a latent diffusion model on captioned pictures from scratch: tokenizer, KL-VAE, text encoder and U-Net."""

    TITLE = "Run"

    dry_run: bool = same_as(TrainLora, "dry_run")

    def __post_init__(self) -> None:
        for name, widths in (("vae_channels", self.vae_widths), ("unet_channels", self.unet_widths)):
            if any(width < 32 or width % 32 or width > 4096 for width in widths) or len(widths) > 6:
                raise CalotypeError(
                    "{option} takes up to six multiples of 32, separated by commas, not {widths}",
                    option=name,
                    widths=widths,
                )
        if len(self.unet_widths) < 2:
            raise CalotypeError("{option:unet_channels} takes at least two levels, such as 64,128")
        if self.text_width % 32:
            raise CalotypeError("{option:text_width} is a multiple of 32, not {text_width}", text_width=self.text_width)
        if self.resolution % self.multiple:
            raise CalotypeError(
                "{option:resolution} is a multiple of {multiple} with these networks, not {resolution}; fewer "
                "{option:vae_channels} or {option:unet_channels} take smaller ones",
                multiple=self.multiple,
                resolution=self.resolution,
            )
        check_name(self.output_name)
        check_prefix(self.log_prefix)
        check_extension(self.caption_extension)

    @property
    def vae_widths(self) -> tuple[int, ...]:
        return _widths("vae_channels", self.vae_channels or ("32,64,64" if self.is_small else "32,64,128,128"))

    @property
    def unet_widths(self) -> tuple[int, ...]:
        return _widths("unet_channels", self.unet_channels or ("64,128,128" if self.is_small else "128,192,256"))

    @property
    def is_small(self) -> bool:
        return self.resolution < SMALL_RESOLUTION

    @property
    def factor(self) -> int:
        """Downsampling factor of the VAE."""
        return 2 ** (len(self.vae_widths) - 1)

    @property
    def multiple(self) -> int:
        return self.factor * 2 ** (len(self.unet_widths) - 1)


def _widths(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise CalotypeError(
            "{option} takes numbers separated by commas, such as 32,64,64, not {text!r}", option=option, text=text
        ) from None
