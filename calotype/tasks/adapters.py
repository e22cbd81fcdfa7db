"""Tools for LoRA files, as sd-scripts has them: merging, resizing, extracting, converting."""

import math
from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option

PRECISIONS = ("source", "float", "fp16", "bf16")
KEY_NAMES = ("kohya", "diffusers", "peft")
DYNAMIC_RANGES = {
    "sv_ratio": (1.0, 1e9),
    "sv_fro": (0.0, 1.0),
    "sv_cumulative": (0.0, 1.0),
}  # of `dynamic`, exclusive and inclusive


@dataclass(frozen=True, kw_only=True)
class LoraFileOutput:
    """Where the result is written."""

    TITLE = "Output"

    out: Path | None = option(
        None, "output file (for peft, and for a model in a folder: a folder)", is_path=True, title="Result"
    )
    save_precision: str = option("source", "data type of the saved weights", choices=PRECISIONS)
    overwrite: bool = option(False, "overwrite an existing file")

    def __post_init__(self) -> None:
        if self.out is None:
            raise CalotypeError("the output file is missing; give {option:out} and the name of a file")


@dataclass(frozen=True, kw_only=True)
class MergeLora(LoraFileOutput):
    """Merge LoRAs into one, or fuse them into a checkpoint."""

    TITLE = "Merging"

    loras: tuple[str, ...] = option(
        help="files or names, each with its weight such as my.safetensors:0.8",
        title="LoRAs",
        names="lora",
        parsed=lambda text: (weighed(text)[0],),
    )
    rank: int | None = option(None, "maximum rank, by SVD; the ranks add up where not given", min=1, max=4096)
    conv_rank: int | None = option(None, "maximum rank of convolutions, where it differs", min=1, max=4096)
    into: str = option(
        "",
        "checkpoint to fuse them into: a name, a file or a diffusers folder",
        title="Into a checkpoint",
        names="diffusion",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.loras, list | tuple) or not all(name for name, _ in self.weighed) or not self.loras:
            raise CalotypeError("there are no LoRAs to merge; give LoRA files, each with its weight such as my:0.8")
        if self.into and (self.rank or self.conv_rank):
            raise CalotypeError(
                "fusing into a checkpoint does not change the rank; give {option:rank} or {option:into}, not both"
            )
        if self.conv_rank and not self.rank:
            raise CalotypeError("{option:conv_rank} needs {option:rank}; give both")

    @property
    def weighed(self) -> list[tuple[str, float]]:
        """Names and weights. Raises CalotypeError for a weight that is not a number."""
        return [weighed(str(text)) for text in self.loras]


@dataclass(frozen=True, kw_only=True)
class ResizeLora(LoraFileOutput):
    """Reduce the rank of a LoRA, so that its file is smaller."""

    TITLE = "Resizing"

    lora: str = option(help="file or name", names="lora")
    rank: int | None = option(None, "new rank; with {option:dynamic} the maximum", min=1, max=4096)
    conv_rank: int | None = option(
        None, "rank of convolutions larger than 1x1; the same where not given", min=1, max=4096
    )
    dynamic: str = option(
        "",
        "choose the rank of each layer: sv_ratio=X, sv_fro=X or sv_cumulative=X, as sd-scripts does",
        title="Dynamic rank",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dynamic and self.rank is None:
            raise CalotypeError("the new rank is missing; give {option:rank} N, or {option:dynamic} such as sv_fro=0.9")
        if self.conv_rank and self.rank is None:
            raise CalotypeError("{option:conv_rank} needs {option:rank}; give both")
        _ = self.rule

    @property
    def rule(self) -> tuple[str, float] | None:
        """Method and target of `dynamic`."""
        if not self.dynamic:
            return None
        method, _, text = self.dynamic.partition("=")
        number = _number(text)
        below, above = DYNAMIC_RANGES.get(method, (math.inf, 0))
        if number is None or not below < number <= above:
            raise CalotypeError(
                "{option:dynamic} is sv_ratio=X with X above 1, or sv_fro=X or sv_cumulative=X with X above 0 "
                "and up to 1, not {dynamic!r}",
                dynamic=self.dynamic,
            )
        return method, number


@dataclass(frozen=True, kw_only=True)
class ExtractLora(LoraFileOutput):
    """Extract a LoRA from the difference of two checkpoints."""

    TITLE = "Extraction"

    tuned: str = option(
        help="fine-tuned checkpoint: a name, a file or a diffusers folder",
        title="Fine-tuned checkpoint",
        names="diffusion",
    )
    base: str = option(help="base checkpoint it was fine-tuned from", title="Base checkpoint", names="diffusion")
    rank: int = option(16, "rank of the LoRA", min=1, max=4096)
    conv_rank: int = option(0, "rank of 3x3 convolutions (LoCon); 0: none", min=0, max=4096)
    clamp_quantile: float = option(0.99, "clamp weight differences to this quantile; 1: no clamping", min=0.5, max=1)
    min_diff: float = option(
        0.01, "text encoders that differ by less count as equal", min=0, max=1000, title="Minimum difference"
    )


@dataclass(frozen=True, kw_only=True)
class ConvertLora(LoraFileOutput):
    """Write a LoRA with the key names of another program."""

    TITLE = "Conversion"

    lora: str = option(help="file, folder or name", names="lora")
    to: str = option(
        "kohya",
        "naming of the keys: kohya (also A1111 and ComfyUI), diffusers or peft",
        choices=KEY_NAMES,
        title="Naming of the keys",
    )


def weighed(text: str) -> tuple[str, float]:
    """ "my.safetensors:0.8" -> the name and 0.8; without a weight it is 1. A colon may be part of the name.

    Raises:
        CalotypeError: the weight is not finite.
    """
    name, colon, weight = text.rpartition(":")
    number = _number(weight)
    if not colon or number is None or not name:
        return text, 1.0
    if not math.isfinite(number):
        raise CalotypeError("{text}: the weight of a LoRA is a number such as 0.8", text=text)
    return name, number


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
