"""Training a network that finds scratches."""

from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option, same_as
from calotype.tasks.enhancing import EnhanceOutput
from calotype.tasks.training import LogOptions, LoraOutput, TrainLora, check_name, check_prefix

MULTIPLE = 16  # of a patch's side


@dataclass(frozen=True, kw_only=True)
class RepairerTrainingOptions:
    """The dataset, the network, and how long it is trained."""

    TITLE = "Training"

    photos: Path = option(help="folder with sharp, undamaged photos, subfolders included", is_path=True)
    model: str = option(
        "none",
        "network to train further: catalog name, file, or none to train from scratch",
        names="repair",
        words=("none",),
    )
    channels: str = option("32,48,64,96", "where {option:model} is none: channels at each resolution")
    max_train_steps: int = option(8000, "training steps", min=1, max=10_000_000)
    minutes: float = option(0.0, "time limit; the learning rate falls to its end within it; 0: none", min=0, max=1e5)
    train_batch_size: int = option(8, "batch size", min=1, max=1024)
    patch_size: int = option(192, "side of a patch in pixels, a multiple of 16", min=64, max=1024)
    learning_rate: float = option(3e-3, "learning rate; falls as a cosine to a hundredth", min=0, max=1)
    ema_decay: float = option(0.998, "decay of the EMA of the weights, which is what is saved", min=0, max=0.999999)
    seed: int = option(0, "random seed; the same seed gives the same result", min=0, max=2**63 - 1)
    mixed_precision: str = option("auto", "data type of mixed precision training", choices=("auto", "no", "bf16"))

    @property
    def widths(self) -> tuple[int, ...]:
        """Raises CalotypeError for anything but two to four numbers."""
        try:
            widths = tuple(int(number) for number in self.channels.split(","))
        except ValueError:
            widths = ()
        if not 2 <= len(widths) <= 4 or not all(4 <= width <= 1024 for width in widths):
            raise CalotypeError(
                "{option:channels} is such as 32,48,64,96, two to four whole numbers from 4 to 1024, not {text!r}",
                text=self.channels,
            )
        return widths


@dataclass(frozen=True, kw_only=True)
class TrainRepairer(RepairerTrainingOptions, LogOptions):
    """Train a network that finds scratches, hairs and dust, on photos that are damaged for it."""

    TITLE = "Output"

    output_dir: Path = same_as(EnhanceOutput, "output_dir")
    output_name: str = option("repairer", "name of the file")
    save_state_every: int = same_as(LoraOutput, "save_state_every")
    save_state: bool = option(False, "keep the last training state, to continue with more {option:max_train_steps}")
    validation_split: float = option(0.1, "fraction of the photos held out for validation", min=0, max=0.9)
    validate_every: int = option(500, "validate and write a sample picture every N steps", min=1, max=10**6)
    dry_run: bool = same_as(TrainLora, "dry_run")

    def __post_init__(self) -> None:
        self.widths  # noqa: B018  raises what it would
        if self.patch_size % MULTIPLE:
            raise CalotypeError(
                "{option:patch_size} is a multiple of {multiple}, not {side}", multiple=MULTIPLE, side=self.patch_size
            )
        check_name(self.output_name)
        check_prefix(self.log_prefix)
