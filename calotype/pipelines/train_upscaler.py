"""Training of upscalers: Real-ESRGAN's (Wang et al. 2021, arXiv 2107.10833).

Stage one is RealESRNet's, with the L1 loss only; stage two is RealESRGAN's, with perceptual and GAN losses.
"""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from calotype import __version__
from calotype.checkpoints import realesrgan as official
from calotype.checkpoints.models import Models
from calotype.checkpoints.open_network import load
from calotype.checkpoints.state_dict import read_state
from calotype.checkpoints.store import digest
from calotype.errors import CalotypeError, Message, plural
from calotype.files import make_folder
from calotype.models.network import is_mixed
from calotype.models.unet_discriminator import MULTIPLE, UNetDiscriminator, build
from calotype.ops.degrade import SecondOrder, second_order
from calotype.tasks import Note, Progress, note
from calotype.tasks.enhancing import LossOptions, TrainUpscaler
from calotype.training.data.dataset import split_validation
from calotype.training.data.patches import HighRes, cut_patch, open_images, sharpened
from calotype.training.enhance.distill import TeacherPairs
from calotype.training.enhance.gan_step import AdversarialTrainer, Batch, LossWeights
from calotype.training.enhance.loop import about, train
from calotype.training.enhance.run import EnhanceRun, Test, check_free
from calotype.training.optim.perceptual import NAMES, load_features
from calotype.training.run.result import TrainResult

MAX_TESTS = 16  # validation pictures that are measured


def train_upscaler(task: TrainUpscaler, models: Models) -> Iterator[Progress | Note | TrainResult]:
    """Yields progress, and TrainResult last. Closing it saves the last step; the same command resumes from there.

    Raises:
        CalotypeError: no pictures, a model or a state that does not fit, no room on disk, a loss that is NaN.
    """
    check_free(task)
    torch.manual_seed(task.seed)  # of new weights; later randomness comes from the seed and the step
    network, name, sha256 = _network(task, models)
    scale = official.scale_of(network)
    if task.gt_size % (MULTIPLE * scale):
        raise CalotypeError(
            "{option:gt_size} is a multiple of {multiple} for this network, not {gt_size}",
            multiple=MULTIPLE * scale,
            gt_size=task.gt_size,
        )
    features, usual = load_features(task.perceptual, task.vgg) if task.gan_steps else (None, "")
    discriminator = discriminator_of(task) if task.gan_steps else None
    photos: list[HighRes] = []
    for event in open_images(task.photos, models.settings.max_pixels, task.output_dir):
        if isinstance(event, HighRes):
            photos.append(event)
        else:
            yield event
    training, validation = split_validation(tuple(photos), task.validation_split if len(photos) > 1 else 0.0, task.seed)
    pairs = _teacher_pairs(task, models, training, scale) if task.teacher else None
    plan = _plan(task, training, validation, network, name, usual, pairs)
    yield from map(note, plan)
    if task.dry_run:
        return
    if pairs:
        yield from pairs.prepare()
        batch = partial(pairs.batch, size=task.batch_size, device=models.device)
    else:
        batch = partial(make_batch, task, training, scale, models.device)
    mixed = is_mixed(task.mixed_precision, models.device)
    weights = LossWeights(task.l1_weight, task.perceptual_weight, task.gan_weight)
    rates = (task.learning_rate, task.discriminator_lr)
    run = EnhanceRun(
        task,
        AdversarialTrainer(network, discriminator, features, weights, rates, models.device, mixed, usual=usual),
        batch,
        [make_test(photo, task, scale, n, pairs) for n, photo in enumerate(validation[:MAX_TESTS])],
        partial(_save_network, task, name),
        pictures=len(training),
        plan=plan,
        about=about(models.device, mixed, network=f"{name}, sha256 {sha256[:16]}…" if sha256 else name),
        data=[
            [photo.sha256 for photo in training],
            *(sha256, usual, mixed, *map(digest_of, (task.vgg, task.discriminator))),
            *([pairs.teacher.sha256] if pairs else []),
        ],
    )
    yield from train(run)


def _network(task: TrainUpscaler, models: Models) -> tuple[nn.Module, str, str]:
    """The network to train, its name, and the sha256 of its file."""
    if task.model != "none":
        loaded = load(models.store.find(task.model, kind="upscale"))
        network = official.trainable(loaded)
        if task.scale < official.scale_of(network):
            network = official.fitted(network, task.scale)
        return network, loaded.name, loaded.sha256
    depth = task.num_block or {"rrdbnet": 23, "srvgg": 16}[task.network]
    network = official.new_network(task.network, task.scale, task.num_feat, depth)
    return network, f"new {task.network}, {task.num_feat} channels, {depth} deep", ""


def discriminator_of(task: LossOptions) -> UNetDiscriminator:
    """A new discriminator, or that of a file. Raises CalotypeError if the file is not a discriminator."""
    if task.discriminator is None:
        return UNetDiscriminator(task.discriminator_feat)
    try:
        return build(read_state(task.discriminator, ("params", "params_ema")))
    except (KeyError, RuntimeError, ValueError):
        raise CalotypeError(
            "{path} is not Real-ESRGAN's discriminator; give RealESRGAN_x4plus_netD.pth or one that "
            "{option:save_discriminator} saved, or leave {option:discriminator} out",
            path=task.discriminator,
        ) from None


def make_batch(task: TrainUpscaler, photos: Sequence[HighRes], scale: int, device: torch.device, step: int) -> Batch:
    """The batch of a step: patches of random photos, with second-order degradation."""
    rng = random.Random(f"{task.seed} {step}")
    chosen = [photos[rng.randrange(len(photos))] for _ in range(task.batch_size)]
    true = torch.stack([cut_patch(photo.pixels, task.gt_size, rng, task.rotate) for photo in chosen]).to(device)
    target = sharpened(true) if task.l1_gt_usm else true
    generator = torch.Generator().manual_seed((task.seed * 1_000_003 + step) % 2**63)
    low = second_order(target, generator, SecondOrder(scale))
    if task.clean:
        is_clean = torch.tensor([rng.random() < task.clean for _ in chosen], device=device)
        clean = F.interpolate(true, scale_factor=1 / scale, mode="area")
        low = torch.where(is_clean[:, None, None, None], clean, low)
    return Batch(low, true, target)


def _teacher_pairs(task: TrainUpscaler, models: Models, photos: Sequence[HighRes], scale: int) -> TeacherPairs:
    """Raises CalotypeError if the teacher is not at hand, not an upscaler, or of a scale that does not fit."""
    teacher = models.upscaler(task.teacher)
    if teacher.scale % scale:
        raise CalotypeError(
            "{teacher} has scale {teacher_scale}, which is not a multiple of the student's, {scale}; give another "
            "{option:teacher}, or another {option:scale}",
            teacher=teacher.name,
            teacher_scale=teacher.scale,
            scale=scale,
        )
    options = {"count": task.teacher_patches, "scale": scale, "side": task.gt_size, "clean": task.clean}
    return TeacherPairs(teacher, photos, seed=task.seed, folder=models.settings.home / "teacher", **options)


def make_test(photo: HighRes, task: TrainUpscaler, scale: int, number: int, pairs: TeacherPairs | None = None) -> Test:
    """The middle of a photo, always with the same degradation; with a teacher the target is its output."""
    true = cut_patch(photo.pixels, task.gt_size)[None]
    target = sharpened(true) if task.l1_gt_usm else true
    low = second_order(target, torch.Generator().manual_seed(number), SecondOrder(scale))
    return Test(photo.path.name, low[0], pairs.targets(low)[0] if pairs else target[0])


def _save_network(task: TrainUpscaler, name: str, stem: str, network: nn.Module, steps: int) -> Path:
    """Writes one file or two; returns the first."""
    kinds = ("safetensors", "pth") if task.save_format == "both" else (task.save_format,)
    make_folder(task.output_dir)
    paths = [task.output_dir / f"{stem}.{kind}" for kind in kinds]
    facts = {"trained on": name, "steps": steps, "scale": official.scale_of(network), "by": f"Calotype {__version__}"}
    for path in paths:
        official.write(path, network, facts)
    return paths[0]


def _plan(
    task: TrainUpscaler,
    photos: Sequence[HighRes],
    validation: Sequence[HighRes],
    network: nn.Module,
    name: str,
    usual: str,
    pairs: TeacherPairs | None,
) -> list[Message]:
    small = sum(min(photo.pixels.shape[:2]) < task.gt_size for photo in photos)
    plan = [
        Message(
            "{pictures} to train on, {validation} for validation",
            pictures=_counted(len(photos)),
            validation=len(validation),
        ),
        Message(
            "{network}: scale {scale}, {millions:.1f} million trainable parameters",
            network=name,
            scale=official.scale_of(network),
            millions=sum(p.numel() for p in network.parameters()) / 1e6,
        ),
        Message(
            "{stages}; batches of {patches} of {side} pixels",
            stages=_stages(task, usual),
            patches=plural(task.batch_size, "1 patch", "{count} patches"),
            side=task.gt_size,
        ),
    ]
    if pairs:
        plan.append(
            Message(
                "the ground truth is the output of {teacher} for {count} patches, kept in {folder}",
                teacher=pairs.teacher.name,
                count=pairs.count,
                folder=pairs.folder,
            )
        )
    if small:
        plan.append(
            Message(
                "{pictures} smaller than a patch, to be padded by reflection; {option:gt_size} makes patches smaller",
                pictures=_counted(small),
            )
        )
    return plan


def _counted(pictures: int) -> Message:
    return plural(pictures, "1 picture", "{count} pictures")


def _stages(task: TrainUpscaler, usual: str) -> Message:
    first, then = (plural(steps, "1 step", "{count} steps") for steps in (task.l1_stage_steps, task.gan_steps))
    first = Message("{steps} with the L1 loss only", steps=first)
    if task.l1_steps is None:
        first = Message("{first}, as the network is new ({option:l1_steps} sets how many)", first=first)
    second = Message("{steps} with L1 and GAN losses", steps=then)
    if usual:
        second = Message("{steps} with L1, perceptual ({features}) and GAN losses", steps=then, features=NAMES[usual])
    if task.l1_stage_steps and task.gan_steps:
        return Message("{first}, then {second}", first=first, second=second)
    return first if task.l1_stage_steps else second


def digest_of(path: Path | None) -> str:
    return digest(path) if path else ""
