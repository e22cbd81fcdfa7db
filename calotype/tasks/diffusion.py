"""Training a latent diffusion model from nothing: Stable Diffusion in miniature."""

from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option
from calotype.tasks.training import Logged, check_extension, check_name, check_prefix

SMALL = 128  # pixels; networks for smaller pictures are smaller by themselves


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """What is learnt from."""

    TITLE = "Pictures and captions"

    photos: Path = option(help="folder of captioned pictures, or a .tar of them as WebDataset packs it", is_path=True)
    caption_extension: str = option(
        ".txt", "ending of caption files; each line is one caption, the first one the usual"
    )
    caption_dropout_rate: float = option(0.1, "how often a picture goes without caption", min=0, max=1)
    resolution: int = option(256, "side of the squares in pixels", min=16, max=1024)
    validation_split: float = option(0.02, "share of the pictures held back, to measure with", min=0, max=0.9)
    held_out: Path | None = option(None, "file with names of pictures to hold back, one a line, instead", is_path=True)


@dataclass(frozen=True, kw_only=True)
class Miniature:
    """The networks."""

    TITLE = "The networks"

    vae_channels: str = option("", "channels of the KL-VAE by level, such as 32,64,128,128; fitting where not given")
    unet_channels: str = option("", "channels of the U-Net by level, such as 128,192,256; fitting where not given")
    latent_channels: int = option(4, "channels of the latents", min=1, max=32)
    text_width: int = option(256, "width of the text encoder", min=32, max=2048)
    text_layers: int = option(4, "its layers", min=1, max=48)
    vocab_size: int = option(4096, "tokens that are learnt from the captions", min=600, max=49408)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long, and at what rate."""

    TITLE = "How long, and at what rate"

    minutes: float = option(
        15.0,
        "time for all of it; the steps are timed, and as many taken as fit",
        min=0.02,
        max=100_000,
        title="Minutes of training",
    )
    vae_share: float = option(0.29, "the VAE's share of the time", min=0.01, max=0.95)
    vae_train_steps: int = option(0, "train the VAE for so many steps instead", min=0, max=10_000_000)
    max_train_steps: int = option(0, "train U-Net and text encoder for so many instead", min=0, max=10_000_000)
    vae_batch_size: int = option(0, "crops in a step of the VAE; 0: 96 on a GPU, 12 without", min=0, max=4096)
    train_batch_size: int = option(0, "pictures in a step; 0: 512 on a GPU, 32 without", min=0, max=8192)
    vae_learning_rate: float = option(1e-3, "of the VAE", min=0, max=1)
    learning_rate: float = option(7e-4, "of U-Net and text encoder", min=0, max=1)
    adversarial_share: float = option(0.3, "last part of the VAE's steps with an adversarial loss", min=0, max=1)
    adversarial_weight: float = option(0.25, "how much that counts beside the rest", min=0, max=10)
    min_snr_gamma: float = option(5.0, "weigh steps by signal; 0: not", min=0, max=1000)
    ema_decay: float = option(0.9995, "how slowly the weights' moving average goes", min=0, max=0.999999)
    seed: int = option(1337, "the same seed learns the same", min=0, max=2**63 - 1)
    mixed_precision: str = option("auto", "number format of the networks", choices=("auto", "no", "bf16"))


@dataclass(frozen=True, kw_only=True)
class DiffusionOutput:
    """What is written, and when."""

    TITLE = "What is written, and where"

    output_dir: Path = option(Path("out"), "folder for the model, its states and logs", is_path=True)
    output_name: str = option("diffusion", "name of the model's folder there")
    save_precision: str = option("fp16", "number format of the files", choices=("float", "fp16", "bf16"))
    save_state_every: int = option(
        0, "steps after which all that is needed to go on is saved; 0: every two minutes", min=0, max=10**6
    )
    sample_count: int = option(6, "sets of samples over the run", min=0, max=1000)
    sample_prompts: str = option(
        "", "file with a prompt a line, or prompts with ; between; captions held back where not given", is_path=True
    )


@dataclass(frozen=True, kw_only=True)
class TrainDiffusion(Captioned, Miniature, Budget, DiffusionOutput, Logged):
    """Learn to draw from captioned pictures alone: tokenizer, KL-VAE, text encoder and U-Net."""

    TITLE = "What is learnt"

    dry_run: bool = option(False, "tell what would be done, and do nothing")

    def __post_init__(self) -> None:
        for name, widths in (("vae_channels", self.vae_widths), ("unet_channels", self.unet_widths)):
            if any(width < 32 or width % 32 or width > 4096 for width in widths) or len(widths) > 6:
                raise CalotypeError(
                    "{option} takes up to six multiples of 32 with commas between, not {widths}",
                    option=name,
                    widths=widths,
                )
        if len(self.unet_widths) < 2:
            raise CalotypeError("{option:unet_channels} takes two levels at least, such as 64,128")
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
        return self.resolution < SMALL

    @property
    def factor(self) -> int:
        """Pixels of a latent's side."""
        return 2 ** (len(self.vae_widths) - 1)

    @property
    def multiple(self) -> int:
        return self.factor * 2 ** (len(self.unet_widths) - 1)


def _widths(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise CalotypeError(
            "{option} takes numbers with commas between, such as 32,64,64, not {text!r}", option=option, text=text
        ) from None
