"""Training upscalers and face restorers. Options that Real-ESRGAN's training has are named as there."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, Message, named
from calotype.options import option, same_as
from calotype.tasks.prompts import listed_names
from calotype.tasks.training import LogOptions, LoraOutput, TrainLora, check_name, check_prefix

MAX_FEATURES = 512  # base channels of a discriminator
L1_STEPS_PER_GAN_STEP = 2.5  # of a new upscaler, as published


@dataclass(frozen=True, kw_only=True)
class EnhanceTrainingOptions:
    """Duration and learning rates."""

    TITLE = "Training"

    l1_steps: int = option(0, "steps of stage one, without discriminator", min=0, max=10_000_000)
    gan_steps: int = option(2000, "steps of stage two, with discriminator", min=0, max=10_000_000)
    gan_warmup_steps: int = option(
        100, "of these, discriminator warmup: it is trained, and the GAN loss is off", min=0, max=1_000_000
    )
    minutes: float = option(
        0.0, "time limit: as many steps as fit, in the ratio of those above; 0: the steps above", min=0, max=100_000
    )
    batch_size: int = option(4, "batch size", min=1, max=1024)
    learning_rate: float = option(1e-4, "learning rate of the network", min=0, max=1)
    discriminator_lr: float = option(1e-4, "learning rate of the discriminator", min=0, max=1)
    lr_scheduler: str = option(
        "constant", "learning rate schedule of both", choices=("constant", "cosine", "cosine_with_min_lr")
    )
    ema_decay: float = option(0.999, "decay of the EMA of the weights, which is what is saved", min=0, max=0.999999)
    max_grad_norm: float = option(10.0, "gradient norm is clipped to this value; 0 disables clipping", min=0, max=1e6)
    seed: int = option(0, "random seed; the same seed gives the same result", min=0, max=2**63 - 1)
    mixed_precision: str = option("auto", "data type of mixed precision training", choices=("auto", "no", "bf16"))

    @property
    def l1_stage_steps(self) -> int:
        """Steps of stage one, without discriminator."""
        return self.l1_steps


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Weights of the losses, and the discriminator."""

    TITLE = "Losses"

    l1_weight: float = option(1.0, "weight of the L1 loss", min=0, max=1e4)
    perceptual_weight: float = option(
        1.0, "weight of the perceptual loss, relative to what is usual for its features", min=0, max=1e4
    )
    gan_weight: float = option(0.1, "weight of the GAN loss", min=0, max=1e4)
    perceptual: str = option(
        "auto",
        "features of the perceptual loss: EfficientNet-Lite0 (extra train), or VGG19 with {option:vgg}",
        choices=("auto", "lite", "vgg", "none"),
    )
    vgg: Path | None = option(None, "checkpoint of torchvision's VGG19 (vgg19-dcbb9e9d.pth)", is_path=True)
    discriminator: Path | None = option(
        None, "discriminator checkpoint to start from: one trained here, or RealESRGAN_x4plus_netD.pth", is_path=True
    )
    discriminator_feat: int = option(
        64, "base channels of a new discriminator", min=8, max=MAX_FEATURES, title="Channels of the discriminator"
    )
    save_discriminator: bool = option(
        False, "save it too, as NAME-discriminator.safetensors for {option:discriminator}"
    )

    def check_losses(self) -> None:
        """Raises CalotypeError for options that others make useless."""
        if self.vgg and self.perceptual in ("lite", "none"):
            raise CalotypeError(
                "{option:vgg} has no effect with {option:perceptual} {perceptual}; leave one of them out",
                perceptual=self.perceptual,
            )
        if self.perceptual == "none":
            _check_unused(
                self, ("perceptual_weight",), Message("{option:perceptual} none disables the perceptual loss")
            )
        if self.discriminator:
            why = Message("{file} sets the channels", file=self.discriminator.name)
            _check_unused(self, ("discriminator_feat",), why)
        if not self.gan_steps:
            _check_unused(self, ("save_discriminator",), Message("{option:gan_steps} 0 trains no discriminator"))


@dataclass(frozen=True, kw_only=True)
class EnhanceOutput(LogOptions):
    """Which files are written, and when."""

    TITLE = "Output"

    output_dir: Path = option(
        Path("out"),
        "output folder for the network, training states and logs; or a file, such as my.safetensors",
        is_path=True,
    )
    output_name: str = option("network", "name of the file")
    save_state_every: int = same_as(LoraOutput, "save_state_every")
    save_state: bool = option(False, "keep the last training state, to continue with more steps")
    validation_split: float = option(0.1, "fraction of the pictures held out for validation", min=0, max=0.9)
    validate_every: int = option(200, "validate and write sample pictures every N steps", min=1, max=10**6)
    sample_count: int = option(4, "number of sample pictures", min=0, max=64)

    def __post_init__(self) -> None:
        check_name(self.output_name)
        check_prefix(self.log_prefix)


@dataclass(frozen=True, kw_only=True)
class TrainUpscaler(EnhanceTrainingOptions, LossOptions, EnhanceOutput):
    """Fine-tune or train a Real-ESRGAN on one's own pictures, or distill another network."""

    TITLE = "Model and dataset"
    ADDED_LATER = ("teacher", "teacher_patches", "clean")  # states of earlier versions do not know them

    photos: Path = option(help="folder with sharp pictures", is_path=True)
    model: str = option(
        "realesrgan-x4plus",
        "network to fine-tune: catalog name, file, or none to train from scratch",
        names="upscale",
        words=("none",),
    )
    network: str = option("rrdbnet", "where {option:model} is none: architecture", choices=("rrdbnet", "srvgg"))
    scale: int = option(
        4,
        "where {option:model} is none: upscaling factor (1, 2 or 4); a given SRVGGNetCompact of a higher factor is "
        "fitted to it",
        min=1,
        max=4,
    )
    num_feat: int = option(64, "where {option:model} is none: channels", min=4, max=512, title="Channels")
    num_block: int = option(
        0, "where {option:model} is none: blocks or layers; 0: 23 or 16", min=0, max=128, title="Blocks"
    )
    teacher: str = option(
        "",
        "network whose output is the ground truth (knowledge distillation), such as realesrgan-x4plus",
        names="upscale",
    )
    teacher_patches: int = option(
        3000, "number of patches with the output of {option:teacher}, which are kept on disk", min=1, max=10_000_000
    )
    clean: float = option(
        0.0, "probability of a patch that is downscaled and not degraded", min=0, max=1, title="Clean patches"
    )
    gt_size: int = option(256, "side of the ground truth patches", min=32, max=1024, title="Patch size")
    l1_gt_usm: bool = option(
        True, "sharpen the ground truth of the L1 and perceptual losses", title="Sharpened ground truth for L1"
    )
    l1_steps: int | None = option(
        None,
        "steps of stage one, without discriminator; default 2.5 for each of stage two for a new network, 0 for others",
        min=0,
        max=10_000_000,
    )
    rotate: bool = option(False, "random rotation of patches by 90 degrees, besides flips")
    save_format: str = option("both", "file format", choices=("both", "safetensors", "pth"))
    output_name: str = option("upscaler", "name of the file")
    dry_run: bool = same_as(TrainLora, "dry_run")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_losses()
        if self.model != "none":
            _check_unused(self, ("network", "num_feat", "num_block"), _from_checkpoint(self.model))
        if self.scale == 3:
            raise CalotypeError("{option:scale} is 1, 2 or 4")
        if self.teacher:
            why = Message("{option:teacher} gives the ground truth")
            _check_unused(self, ("l1_gt_usm", "rotate"), why)
        else:
            _check_unused(self, ("teacher_patches",), Message("there is no {option:teacher}"))
        if self.gt_size % 32:
            raise CalotypeError("{option:gt_size} is a multiple of 32, not {gt_size}", gt_size=self.gt_size)
        if not self.l1_stage_steps + self.gan_steps:
            raise CalotypeError("{option:l1_steps} and {option:gan_steps} are both 0, so nothing would be trained")

    @property
    def l1_stage_steps(self) -> int:
        """Steps of stage one; a new network is trained without discriminator first."""
        if self.l1_steps is None:
            return round(L1_STEPS_PER_GAN_STEP * self.gan_steps) if self.model == "none" else 0
        return self.l1_steps


@dataclass(frozen=True, kw_only=True)
class TrainRestorer(EnhanceTrainingOptions, LossOptions, EnhanceOutput):
    """Train a face restoration network, or evaluate one."""

    TITLE = "Model, dataset and evaluation"
    ADDED_LATER = ("landmark_weight", "eye_weight", "descriptor_weight")  # states of earlier versions do not know them

    photos: Path = option(help="folder with sharp faces", is_path=True)
    model: str = option(
        "none",
        "restorer of Calotype's own architecture to fine-tune: name or file; none trains from scratch",
        names="faces",
        words=("none",),
    )
    aligned: bool = option(True, "the pictures are faces aligned as in FFHQ; otherwise faces are detected and aligned")
    side: int = option(512, "where {option:model} is none: side of the faces in pixels", min=32, max=1024)
    channels: str = option(
        "64,128,192,256", "where {option:model} is none: channels per resolution, from a quarter of the side down"
    )
    blocks: str = option("2,2,4,6", "where {option:model} is none: blocks per resolution")
    codes: int = option(
        256,
        "where {option:model} is none: codebook size of the prior; 0: no prior",
        min=0,
        max=65536,
        title="Codebook size of the prior",
    )
    grow: bool = option(False, "train {option:model} for faces of twice its side, with a prior if it has none")
    held_back: Path | None = option(
        None, "folder of validation faces, instead of a fraction of the others", is_path=True
    )
    sharpen: float = option(0.0, "sharpening of faces that are enlarged without a network", min=0, max=2)
    enlarge: str = option(
        "",
        "network that enlarges smaller faces, such as realesrgan-x4plus; Lanczos where not given",
        title="Upscaler for small faces",
        names="upscale",
    )
    parts_weight: float = option(2.0, "additional loss weight of eyes and mouth", min=0, max=100)
    pieces: int = option(
        128,
        "patch size of the discriminator, at the eyes, the mouth and random positions; 0: the whole face",
        min=0,
        max=1024,
        title="Patch size of the discriminator",
    )
    identity_weight: float = option(0.5, "weight of the identity loss (deep features)", min=0, max=1e4)
    landmark_weight: float = option(0.0, "weight of the landmark loss (points of the face mesh)", min=0, max=1e4)
    eye_weight: float = option(
        0.0, "weight of the eye loss (lids and irises, and how unequally both eyes are open)", min=0, max=1e4
    )
    descriptor_weight: float = option(
        0.0, "weight of the identity loss of dlib's face descriptors (extra likeness)", min=0, max=1e4
    )
    clean: float = option(
        0.05, "probability of an undegraded face, which has to stay as it is", min=0, max=1, title="Clean faces"
    )
    grey: float = option(0.15, "probability of a grey face", min=0, max=1, title="Grey faces")
    toned: float = option(
        0.1,
        "probability of a face that is brown and faded as an old print, and has to stay so",
        min=0,
        max=1,
        title="Toned faces",
    )
    worn: float = option(
        0.3, "probability of an old print's grain, dust and scratches", min=0, max=1, title="Worn faces"
    )
    evaluate: bool = option(
        False,
        "evaluate {option:model} and others on the validation faces, without training; with the {option:seed} "
        "of its training",
    )
    beside: str = option(
        "",
        "other face networks to evaluate, such as faces-v3,gfpgan-1.4",
        title="Compare with",
        names="faces",
        parsed=listed_names,
    )
    evaluate_count: int = option(48, "maximum number of faces to evaluate", min=1, max=100_000)
    l1_steps: int = option(12_000, "steps of stage one, without discriminator", min=0, max=10_000_000)
    gan_steps: int = option(10_000, "steps of stage two, with discriminator", min=0, max=10_000_000)
    gan_weight: float = option(0.02, "weight of the GAN loss", min=0, max=1e4)
    batch_size: int = option(8, "batch size", min=1, max=1024)
    learning_rate: float = option(5e-4, "learning rate of the network", min=0, max=1)
    lr_scheduler: str = option(
        "cosine_with_min_lr", "learning rate schedule of both", choices=("constant", "cosine", "cosine_with_min_lr")
    )
    discriminator_feat: int = option(32, "base channels of a new discriminator", min=8, max=MAX_FEATURES)
    output_name: str = option("restorer", "name of the file")
    dry_run: bool = same_as(TrainLora, "dry_run")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_losses()
        if self.model != "none":
            shape = ("side", "channels", "blocks") if self.grow else ("side", "channels", "blocks", "codes")
            _check_unused(self, shape, _from_checkpoint(self.model))
        if self.identity_weight and (self.vgg or self.perceptual in ("vgg", "none")):
            why = Message("the identity loss needs EfficientNet-Lite0's features")
            _check_unused(self, ("identity_weight",), why)
        if self.enlarge:
            _check_unused(
                self, ("sharpen",), Message("{model} enlarges the faces, which makes them sharp", model=self.enlarge)
            )
        if self.held_back:
            why = Message("the faces in {folder} are the validation faces", folder=self.held_back)
            _check_unused(self, ("validation_split",), why)
        if len(self.widths) != len(self.depths):
            raise CalotypeError(
                "{option:channels} and {option:blocks} have one number per resolution each, so their lengths must match"
            )
        if any(width % 8 for width in self.widths):
            raise CalotypeError("{option:channels} are multiples of 8, not {channels}", channels=self.channels)
        if self.side % (4 * 2 ** (len(self.widths) - 1)):
            raise CalotypeError(
                "{option:side} is a multiple of {number} for {count} resolutions, not {side}",
                number=4 * 2 ** (len(self.widths) - 1),
                count=len(self.widths),
                side=self.side,
            )
        if self.beside and not self.evaluate:
            raise CalotypeError("{option:beside} needs {option:evaluate}; give both or none")
        if self.pieces % 8:
            raise CalotypeError("{option:pieces} is a multiple of 8, not {pieces}", pieces=self.pieces)
        if self.evaluate and self.model == "none":
            raise CalotypeError("{option:evaluate} needs a network; give it with {option:model}")
        if self.model == "none" and not self.codes and self.side != 512:
            raise CalotypeError("a network without a prior ({option:codes} 0) needs {option:side} 512")
        if self.grow and (self.evaluate or self.model == "none"):
            raise CalotypeError(
                "{option:grow} needs a network to enlarge; give it with {option:model}, and leave {option:evaluate} out"
            )
        if not self.l1_steps + self.gan_steps:
            raise CalotypeError("{option:l1_steps} and {option:gan_steps} are both 0, so nothing would be trained")

    @property
    def compared_models(self) -> tuple[str, ...]:
        """Names or files of the networks to compare with."""
        return tuple(dict.fromkeys(listed_names(self.beside)))

    @property
    def widths(self) -> tuple[int, ...]:
        return _numbers("channels", self.channels)

    @property
    def depths(self) -> tuple[int, ...]:
        return _numbers("blocks", self.blocks)


def _check_unused(task: Any, names: Sequence[str], why: Message) -> None:
    """Raises CalotypeError for options that are given and have no effect, instead of ignoring them."""
    defaults = {spec.name: spec.default for spec in fields(task)}
    changed = [name for name in names if getattr(task, name) != defaults[name]]
    if len(changed) == 1:
        raise CalotypeError("{reason}, so {option} has no effect; leave it out", reason=why, option=changed[0])
    if changed:
        raise CalotypeError("{reason}, so {names} have no effect; leave them out", reason=why, names=named(changed))


def _from_checkpoint(model: str) -> Message:
    return Message("{model} sets the architecture ({option:model} none trains from scratch)", model=model)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """The numbers in "64,128": two to six, from 1 to 4096. Raises CalotypeError for anything else."""
    try:
        numbers = tuple(int(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if not 2 <= len(numbers) <= 6 or not all(1 <= number <= 4096 for number in numbers):
        raise CalotypeError(
            "{option} is such as 64,128,192,256, two to six whole numbers, not {text!r}", option=option, text=text
        )
    return numbers
