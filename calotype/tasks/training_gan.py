"""Training a GAN. Names of options are those of LoRA training and of StyleGAN."""

from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option, same_as
from calotype.tasks.training import LogOptions, LoraOutput, TrainLora, check_name, check_prefix

SIDES = (32, 64, 128, 256, 512)
STEPS, DEMO_STEPS = 30_000, 5000


@dataclass(frozen=True, kw_only=True)
class GanNetworkOptions:
    """The dataset, and the size of the networks."""

    TITLE = "Dataset and networks"

    photos: Path | None = option(None, "folder with pictures, subfolders included", is_path=True)
    demo: bool = option(
        False,
        "train on the smileys that ship; takes under ten minutes on two CPU cores",
        title="Train on the smileys",
    )
    resolution: int = option(64, "side of generated pictures in pixels: 32, 64, 128, 256 or 512", min=32, max=512)
    capacity: float = option(0.0, "channel multiplier of both networks; 0: 1, or 0.5 in the demo", min=0, max=8)
    flip_aug: bool = option(True, "horizontal flip, with probability 0.5")
    augment: str = option(
        "auto", "DiffAugment for small datasets: color,translation,cutout, or none; auto: by the number of pictures"
    )


@dataclass(frozen=True, kw_only=True)
class GanTrainingOptions:
    """Duration, learning rate and penalties."""

    TITLE = "Training"

    max_train_steps: int = option(0, "training steps; 0: 30,000, or 5,000 in the demo", min=0, max=100_000_000)
    train_batch_size: int = option(16, "batch size", min=2, max=4096)
    learning_rate: float = option(1e-3, "learning rate of both networks; decays to a tenth", min=0, max=1)
    gamma: float = option(
        0.0, "weight of the R1 and R2 penalties; 0: by resolution", min=0, max=100_000, title="Weight of R1 and R2"
    )
    penalty_share: float = option(0.25, "fraction of each batch that the penalties are computed on", min=0.01, max=1)
    ema_kimg: float = option(
        10.0,
        "half-life of the generator's EMA, in thousands of pictures",
        min=0.1,
        max=1e4,
        title="EMA half-life in thousands of pictures",
    )
    seed: int = option(1337, "random seed; the same seed gives the same result", min=0, max=2**63 - 1)
    mixed_precision: str = option("auto", "data type of mixed precision training", choices=("auto", "no", "bf16"))


@dataclass(frozen=True, kw_only=True)
class GanOutput:
    """Which files are written, and when."""

    TITLE = "Output"

    output_dir: Path = option(
        Path("out"),
        "output folder for the generator, snapshots, training states and logs; or a file, such as my.safetensors",
        is_path=True,
    )
    output_name: str = option("gan", "name of the generator file")
    snapshots: int = option(32, "snapshots of the same latents over the run, for the film", min=2, max=1000)
    save_state_every: int = same_as(LoraOutput, "save_state_every")
    save_state: bool = option(False, "keep the last training state, to continue with more {option:max_train_steps}")


@dataclass(frozen=True, kw_only=True)
class TrainGan(GanNetworkOptions, GanTrainingOptions, GanOutput, LogOptions):
    """Train a GAN on the pictures in a folder: a generator and a discriminator."""

    TITLE = "Run"

    dry_run: bool = same_as(TrainLora, "dry_run")

    def __post_init__(self) -> None:
        if self.resolution not in SIDES:
            raise CalotypeError(
                "{option:resolution} is one of {names}, not {resolution}",
                names=", ".join(map(str, SIDES)),
                resolution=self.resolution,
            )
        if self.demo and self.photos is not None:
            raise CalotypeError(
                "{option:demo} trains on the pictures that ship; leave out {photos}, or {option:demo}",
                photos=self.photos,
            )
        if not self.demo and self.photos is None:
            raise CalotypeError("give a folder with pictures to train on, or {option:demo}")
        check_name(self.output_name)
        check_prefix(self.log_prefix)

    @property
    def channels(self) -> float:
        """Channel multiplier of both networks."""
        return self.capacity or (0.5 if self.demo else 1.0)

    @property
    def steps(self) -> int:
        return self.max_train_steps or (DEMO_STEPS if self.demo else STEPS)
