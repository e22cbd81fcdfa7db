"""Learning to enlarge pictures as good as one's own: Real-ESRGAN's training (Wang et al. 2021, arXiv 2107.10833).

Stage one is RealESRNet's, L1 alone; stage two is RealESRGAN's, with features and a discriminator.
"""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from calotype import __version__
from calotype.checkpoints import realesrgan as official
from calotype.checkpoints.models import Models
from calotype.checkpoints.open_network import load
from calotype.checkpoints.state_dict import read_state
from calotype.checkpoints.store import digest
from calotype.errors import CalotypeError, Message, plural
from calotype.models.network import is_mixed
from calotype.models.unet_discriminator import MULTIPLE, UNetDiscriminator, build
from calotype.ops.degrade import SecondOrder, second_order
from calotype.tasks import Note, Progress, note
from calotype.tasks.enhancing import LossOptions, TrainUpscaler
from calotype.training.data.dataset import split_validation
from calotype.training.data.patches import HighRes, cut_patch, open_images, sharpened
from calotype.training.enhance.gan_step import AdversarialTrainer, Batch, LossWeights
from calotype.training.enhance.loop import about, learn
from calotype.training.enhance.run import EnhanceRun, Test, check_free
from calotype.training.optim.perceptual import NAMES, load_features
from calotype.training.run.result import TrainResult

MOST_TESTS = 16  # pictures held back that are measured


def train_upscaler(task: TrainUpscaler, models: Models) -> Iterator[Progress | Note | TrainResult]:
    """Yields progress, and TrainResult last. Closing it keeps the last state; the same command goes on from there.

    Raises:
        CalotypeError: no pictures, a model or a state that does not fit, no room on disk, a loss that is no number.
    """
    check_free(task)
    torch.manual_seed(task.seed)  # of new weights; all later chance comes from the seed and the step
    network, name, sha256 = _begun(task, models)
    scale = official.scale_of(network)
    if task.gt_size % (MULTIPLE * scale):
        raise CalotypeError(
            "{option:gt_size} is a multiple of {multiple} for this network, not {gt_size}",
            multiple=MULTIPLE * scale,
            gt_size=task.gt_size,
        )
    features, usual = load_features(task.perceptual, task.vgg) if task.gan_steps else (None, "")
    expert = judge(task) if task.gan_steps else None
    sharp: list[HighRes] = []
    for event in open_images(task.photos, models.settings.max_pixels, task.output_dir):
        if isinstance(event, HighRes):
            sharp.append(event)
        else:
            yield event
    learnt, held = split_validation(tuple(sharp), task.validation_split if len(sharp) > 1 else 0.0, task.seed)
    mixed = is_mixed(task.mixed_precision, models.device)
    course = EnhanceRun(
        task,
        AdversarialTrainer(
            *(network, expert, features, LossWeights(task.l1_weight, task.perceptual_weight, task.gan_weight)),
            *((task.learning_rate, task.discriminator_lr), models.device, mixed),
            usual=usual,
        ),
        partial(_lesson, task, learnt, scale, models.device),
        [_test(one, task, scale, n) for n, one in enumerate(held[:MOST_TESTS])],
        partial(_written, task, name),
        photos=len(learnt),
        told=_told(task, learnt, held, network, name, usual),
        about=about(models.device, mixed, network=f"{name}, sha256 {sha256[:16]}…" if sha256 else name),
        decides=[[one.sha256 for one in learnt], sha256, usual, mixed, *map(digest_of, (task.vgg, task.discriminator))],
    )
    yield from map(note, course.told)
    if not task.dry_run:
        yield from learn(course)


def _begun(task: TrainUpscaler, models: Models) -> tuple[nn.Module, str, str]:
    """The network, its name, and the sha256 of the file that it is from."""
    if task.model != "none":
        loaded = load(models.store.find(task.model, kind="upscale"))
        return official.trainable(loaded), loaded.name, loaded.sha256
    depth = task.num_block or {"rrdbnet": 23, "srvgg": 16}[task.network]
    made = official.new_network(task.network, task.scale, task.num_feat, depth)
    return made, f"new {task.network}, {task.num_feat} channels, {depth} deep", ""


def judge(task: LossOptions) -> UNetDiscriminator:
    """The discriminator: a new one, or that of a file. Raises CalotypeError where the file is of something else."""
    if task.discriminator is None:
        return UNetDiscriminator(task.discriminator_feat)
    try:
        return build(read_state(task.discriminator, ("params", "params_ema")))
    except (KeyError, RuntimeError, ValueError):
        raise CalotypeError(
            "{path} is not Real-ESRGAN's discriminator; give RealESRGAN_x4plus_netD.pth or one that "
            "{option:save_discriminator} kept, or leave {option:discriminator} out",
            path=task.discriminator,
        ) from None


def _lesson(task: TrainUpscaler, photos: Sequence[HighRes], scale: int, device: torch.device, step: int) -> Batch:
    """The batch of a step: pieces of photos chosen at random, degraded twice over."""
    dice = random.Random(f"{task.seed} {step}")
    chosen = [photos[dice.randrange(len(photos))] for _ in range(task.batch_size)]
    true = torch.stack([cut_patch(one.pixels, task.gt_size, dice, task.rotate) for one in chosen]).to(device)
    target = sharpened(true) if task.l1_gt_usm else true
    generator = torch.Generator().manual_seed((task.seed * 1_000_003 + step) % 2**63)
    return Batch(second_order(target, generator, SecondOrder(scale)), true, target)


def _test(photo: HighRes, task: TrainUpscaler, scale: int, number: int) -> Test:
    """The middle of a photo, as sharp as it is taught and degraded the same way whenever it is asked for."""
    true = cut_patch(photo.pixels, task.gt_size)[None]
    target = sharpened(true) if task.l1_gt_usm else true
    low = second_order(target, torch.Generator().manual_seed(number), SecondOrder(scale))
    return Test(photo.path.name, low[0], target[0])


def _written(task: TrainUpscaler, name: str, stem: str, network: nn.Module, steps: int) -> Path:
    """One file or two; the first of them."""
    kinds = ("safetensors", "pth") if task.save_format == "both" else (task.save_format,)
    task.output_dir.mkdir(parents=True, exist_ok=True)
    paths = [task.output_dir / f"{stem}.{kind}" for kind in kinds]
    told = {"trained on": name, "steps": steps, "scale": official.scale_of(network), "by": f"Calotype {__version__}"}
    for path in paths:
        official.write(path, network, told)
    return paths[0]


def _told(
    task: TrainUpscaler, photos: Sequence[HighRes], held: Sequence[HighRes], network: nn.Module, name: str, usual: str
) -> list[Message]:
    """The plan in sentences."""
    small = sum(min(one.pixels.shape[:2]) < task.gt_size for one in photos)
    found = [
        Message(
            "{pictures} to learn from, {held} held back to measure with",
            pictures=_counted(len(photos)),
            held=len(held),
        ),
        Message(
            "{network}: enlarges {scale} times, {millions:.1f} million numbers learn",
            network=name,
            scale=official.scale_of(network),
            millions=sum(p.numel() for p in network.parameters()) / 1e6,
        ),
        Message(
            "{stages}; {pieces} of {side} pixels in a step",
            stages=_stages(task, usual),
            pieces=plural(task.batch_size, "1 piece", "{count} pieces"),
            side=task.gt_size,
        ),
    ]
    if small:
        found.append(
            Message(
                "{pictures} smaller than a piece, to go on mirrored; {option:gt_size} makes pieces smaller",
                pictures=_counted(small),
            )
        )
    return found


def _counted(pictures: int) -> Message:
    return plural(pictures, "1 picture", "{count} pictures")


def _stages(task: TrainUpscaler, usual: str) -> Message:
    first, then = (plural(steps, "1 step", "{count} steps") for steps in (task.l1_stage_steps, task.gan_steps))
    first = Message("{steps} with L1 alone", steps=first)
    if task.l1_steps is None:
        first = Message("{first}, as the network is new ({option:l1_steps} tells how many)", first=first)
    second = Message("{steps} with L1 and a discriminator", steps=then)
    if usual:
        second = Message(
            "{steps} with L1, features of {features} and a discriminator", steps=then, features=NAMES[usual]
        )
    if task.l1_stage_steps and task.gan_steps:
        return Message("{first}, then {second}", first=first, second=second)
    return first if task.l1_stage_steps else second


def digest_of(path: Path | None) -> str:
    return digest(path) if path else ""
