"""Learning to forge pictures. Names are those of LoRA training here, and of StyleGAN's options."""

from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option
from calotype.tasks.training import Logged, check_name, check_prefix

SIDES = (32, 64, 128, 256, 512)
STEPS, DEMO_STEPS = 30_000, 5000


@dataclass(frozen=True, kw_only=True)
class Forgery:
    """What is learnt from, and by what networks."""

    TITLE = "Pictures and networks"

    photos: Path | None = option(None, "folder with pictures; its sub-folders count too", is_path=True)
    demo: bool = option(
        False,
        "learn from the smileys that ship; takes under ten minutes on two processor cores",
        title="Learn from the smileys",
    )
    resolution: int = option(64, "side of the forgeries in pixels: 32, 64, 128, 256 or 512", min=32, max=512)
    capacity: float = option(0.0, "more or fewer channels in both networks; 0: 1, or 0.5 in the demo", min=0, max=8)
    flip_aug: bool = option(True, "show pictures mirrored, half of the time")
    augment: str = option(
        "auto", "DiffAugment for small sets: color,translation,cutout, or none; auto: by the number of pictures"
    )


@dataclass(frozen=True, kw_only=True)
class War:
    """How long the two learn, and how."""

    TITLE = "How long, and how"

    max_train_steps: int = option(0, "steps; 0: 30,000, or 5,000 in the demo", min=0, max=100_000_000)
    train_batch_size: int = option(16, "pictures in a step", min=2, max=4096)
    learning_rate: float = option(1e-3, "of both networks; falls to a tenth", min=0, max=1)
    gamma: float = option(
        0.0, "weight of the R1 and R2 penalties; 0: by resolution", min=0, max=100_000, title="Weight of R1 and R2"
    )
    penalty_share: float = option(0.25, "share of each batch whose penalties are computed", min=0.01, max=1)
    ema_kimg: float = option(
        10.0,
        "half-life of the forger's running mean, in thousands of pictures",
        min=0.1,
        max=1e4,
        title="EMA half-life in thousands of pictures",
    )
    seed: int = option(1337, "the same seed learns the same", min=0, max=2**63 - 1)
    mixed_precision: str = option("auto", "number format of the networks", choices=("auto", "no", "bf16"))


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is written, and when."""

    TITLE = "What is written, and where"

    output_dir: Path = option(
        Path("out"),
        "folder for the forger, snapshots, states, logs; or its file, such as my.safetensors",
        is_path=True,
    )
    output_name: str = option("gan", "name of the forger")
    snapshots: int = option(32, "how often the same forgeries are drawn, for the film", min=2, max=1000)
    save_state_every: int = option(
        0, "steps after which all that is needed to go on is saved; 0: every two minutes", min=0, max=10**6
    )
    save_state: bool = option(False, "keep at the end what is needed to learn on with more {option:max_train_steps}")


@dataclass(frozen=True, kw_only=True)
class TrainGan(Forgery, War, Kept, Logged):
    """Learn to forge pictures like those in a folder: a forger and an expert at war."""

    TITLE = "What is learnt"

    dry_run: bool = option(False, "tell what would be done, and do nothing")

    def __post_init__(self) -> None:
        if self.resolution not in SIDES:
            raise CalotypeError(
                "{option:resolution} is one of {names}, not {resolution}",
                names=", ".join(map(str, SIDES)),
                resolution=self.resolution,
            )
        if self.demo and self.photos is not None:
            raise CalotypeError(
                "{option:demo} learns from what ships; leave out {photos}, or {option:demo}", photos=self.photos
            )
        if not self.demo and self.photos is None:
            raise CalotypeError("give a folder with pictures to learn from, or {option:demo} to see it done")
        check_name(self.output_name)
        check_prefix(self.log_prefix)

    @property
    def channels(self) -> float:
        """What the usual channels are multiplied by."""
        return self.capacity or (0.5 if self.demo else 1.0)

    @property
    def steps(self) -> int:
        return self.max_train_steps or (DEMO_STEPS if self.demo else STEPS)
