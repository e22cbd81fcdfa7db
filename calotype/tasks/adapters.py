"""Tools for LoRA files, as sd-scripts has them: merging, resizing, extracting, converting."""

import math
from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.options import option

PRECISIONS = ("source", "float", "fp16", "bf16")
FORMS = ("kohya", "diffusers", "peft")
LIMITS = {"sv_ratio": (1.0, 1e9), "sv_fro": (0.0, 1.0), "sv_cumulative": (0.0, 1.0)}  # of `dynamic`, below and above


@dataclass(frozen=True, kw_only=True)
class LoraFileOutput:
    """Where the result goes."""

    TITLE = "What is written, and where"

    out: Path | None = option(
        None, "file to write (for peft, and for a model in a folder: a folder)", is_path=True, title="Result"
    )
    save_precision: str = option("source", "number format of the file", choices=PRECISIONS)
    overwrite: bool = option(False, "write over a file that is there")

    def __post_init__(self) -> None:
        if self.out is None:
            raise CalotypeError("where the result goes is not said; give {option:out} and the name of a file")


@dataclass(frozen=True, kw_only=True)
class MergeLora(LoraFileOutput):
    """Make one LoRA of several, or put them into a checkpoint for good."""

    TITLE = "What is done"

    loras: tuple[str, ...] = option(
        help="files or names, each with its weight such as my.safetensors:0.8",
        title="LoRAs",
        names="lora",
        parsed=lambda text: (weighed(text)[0],),
    )
    rank: int | None = option(None, "at most this rank, by singular values; else ranks add up", min=1, max=4096)
    conv_rank: int | None = option(None, "of convolutions, where it is another one", min=1, max=4096)
    into: str = option(
        "",
        "checkpoint to put them into: a name, a file or a diffusers folder",
        title="Into a checkpoint",
        names="diffusion",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.loras, list | tuple) or not all(name for name, _ in self.weighed) or not self.loras:
            raise CalotypeError("nothing is named to merge; give LoRA files, each with its weight such as my:0.8")
        if self.into and (self.rank or self.conv_rank):
            raise CalotypeError("a checkpoint takes a LoRA as it is; give {option:rank} or {option:into}, not both")
        if self.conv_rank and not self.rank:
            raise CalotypeError("{option:conv_rank} goes with {option:rank}; give both")

    @property
    def weighed(self) -> list[tuple[str, float]]:
        """Names and weights. Raises CalotypeError for a weight that is no number."""
        return [weighed(str(text)) for text in self.loras]


@dataclass(frozen=True, kw_only=True)
class ResizeLora(LoraFileOutput):
    """Give a LoRA a lower rank, so that its file is smaller."""

    TITLE = "What is done"

    lora: str = option(help="file or name", names="lora")
    rank: int | None = option(None, "the new rank; with {option:dynamic} the highest", min=1, max=4096)
    conv_rank: int | None = option(None, "of convolutions larger than 1x1; the same where not given", min=1, max=4096)
    dynamic: str = option(
        "", "find each layer's rank: sv_ratio=X, sv_fro=X or sv_cumulative=X, as sd-scripts does", title="Dynamic rank"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dynamic and self.rank is None:
            raise CalotypeError(
                "the new rank is not said; give {option:rank} N, or {option:dynamic} such as sv_fro=0.9"
            )
        if self.conv_rank and self.rank is None:
            raise CalotypeError("{option:conv_rank} goes with {option:rank}; give both")
        _ = self.rule

    @property
    def rule(self) -> tuple[str, float] | None:
        """Method and target of `dynamic`."""
        if not self.dynamic:
            return None
        method, _, text = self.dynamic.partition("=")
        number = _number(text)
        below, above = LIMITS.get(method, (math.inf, 0))
        if number is None or not below < number <= above:
            raise CalotypeError(
                "{option:dynamic} is sv_ratio=X with X above 1, or sv_fro=X or sv_cumulative=X with X above 0 "
                "and up to 1, not {dynamic!r}",
                dynamic=self.dynamic,
            )
        return method, number


@dataclass(frozen=True, kw_only=True)
class ExtractLora(LoraFileOutput):
    """Make a LoRA of what one checkpoint has learnt beyond another."""

    TITLE = "What is done"

    tuned: str = option(
        help="the checkpoint that has learnt: a name, a file or a diffusers folder",
        title="Trained checkpoint",
        names="diffusion",
    )
    base: str = option(help="the checkpoint that it began with", title="Base checkpoint", names="diffusion")
    rank: int = option(16, "rank of the LoRA", min=1, max=4096)
    conv_rank: int = option(0, "of 3x3 convolutions too (LoCon); 0: none", min=0, max=4096)
    clamp_quantile: float = option(0.99, "outliers are cut to this quantile of all numbers; 1: none", min=0.5, max=1)
    min_diff: float = option(
        0.01, "text encoders that differ less are taken for the same", min=0, max=1000, title="Smallest difference"
    )


@dataclass(frozen=True, kw_only=True)
class ConvertLora(LoraFileOutput):
    """Write a LoRA as another program wants it."""

    TITLE = "What is done"

    lora: str = option(help="file, folder or name", names="lora")
    to: str = option(
        "kohya", "whose names: kohya (also A1111 and ComfyUI), diffusers or peft", choices=FORMS, title="Names as in"
    )


def weighed(text: str) -> tuple[str, float]:
    """ "my.safetensors:0.8" -> the name and 0.8; without a weight it is 1. A colon may be part of the name.

    Raises:
        CalotypeError: the weight is no finite number.
    """
    name, colon, told = text.rpartition(":")
    number = _number(told)
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
