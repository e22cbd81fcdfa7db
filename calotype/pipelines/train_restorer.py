"""Training of face restorers: GFPGAN's degradation (Wang et al. 2021, arXiv 2101.04061, §4.1) and loss weights.

Instead of discriminators for eyes and mouth, one discriminator is given patches there and elsewhere; instead of the
StyleGAN2 prior there is a codebook that is trained with the rest (calotype/models/face_restorer.py).
"""

import copy
import json
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as serialize
from torch import Tensor, nn

from calotype import __version__
from calotype.checkpoints.built import signed, unsigned
from calotype.checkpoints.models import Models
from calotype.checkpoints.open_network import load
from calotype.errors import CalotypeError, Message, plural
from calotype.files import check_folder, make_folder, write_atomic
from calotype.models.face_restorer import Restorer, grown
from calotype.models.network import is_mixed
from calotype.models.unet_discriminator import MULTIPLE
from calotype.ops.color import to_pixels, to_tensor
from calotype.ops.degrade import FaceRecipe, age_texture, degrade_faces, faded
from calotype.ops.degrade.noise import grey
from calotype.pipelines.train_upscaler import digest_of, discriminator_of
from calotype.tasks import Note, Progress, note
from calotype.tasks.enhancing import TrainRestorer
from calotype.training.data.dataset import check_memory
from calotype.training.data.faces import Face, faces_in, loss_weight_map, mirrored, patch_corners, split, tensor_of
from calotype.training.enhance.evaluate import evaluate
from calotype.training.enhance.face_losses import DescriptorLoss, EyeLoss, LandmarkLoss
from calotype.training.enhance.gan_step import AdversarialTrainer, Batch, LossWeights
from calotype.training.enhance.loop import about, train
from calotype.training.enhance.run import EnhanceRun, Test, check_free
from calotype.training.optim.perceptual import NAMES, load_features
from calotype.training.run.result import TrainResult

MAX_TESTS = 16  # validation faces that are measured during training


def train_restorer(task: TrainRestorer, models: Models) -> Iterator[Progress | Note | TrainResult]:
    """Yields progress, and TrainResult last. Closing it saves the last step; the same command resumes from there.

    Raises:
        CalotypeError: no faces, a model or a state that does not fit, no room on disk, a loss that is NaN.
    """
    if task.evaluate:
        check_folder(task.output_dir)
    else:
        check_free(task)
    torch.manual_seed(task.seed)  # of new weights; later randomness comes from the seed and the step
    network, name, sha256 = _network(task, models)
    if network.side % MULTIPLE:
        raise CalotypeError(
            "{option:side} is a multiple of {multiple}, not {side}", multiple=MULTIPLE, side=network.side
        )
    features, usual = load_features(task.perceptual, task.vgg)
    extra_losses = {} if task.evaluate else _face_losses(task, models)
    is_validation_only = task.evaluate and task.held_back
    faces = [] if is_validation_only else (yield from _faces(task, task.photos, network.side, models))
    if task.held_back:
        training, validation = faces, (yield from _faces(task, task.held_back, network.side, models))
        known = {face.sha256 for face in training} & {face.sha256 for face in validation}
        if known and not task.evaluate:
            yield note(
                "{count} of the faces in {held_back} are training faces too, so the figures are too good",
                count=len(known),
                held_back=task.held_back,
            )
    else:
        training, validation = split(faces, task.validation_split, task.seed)
    if task.evaluate:
        yield from evaluate(
            task, models, _subset([make_test(f, n) for n, f in enumerate(validation)], task.evaluate_count)
        )
        return
    mixed = is_mixed(task.mixed_precision, models.device)
    weights = LossWeights(task.l1_weight, task.perceptual_weight, task.gan_weight, task.identity_weight)
    run = EnhanceRun(
        task,
        AdversarialTrainer(
            *(network, discriminator_of(task) if task.gan_steps else None, features, weights),
            *((task.learning_rate, task.discriminator_lr), models.device, mixed),
            call=lambda module, x: unsigned(module(signed(x))),
            usual=usual,
            extra_losses=extra_losses,
        ),
        partial(make_batch, task, training, models.device),
        _subset([make_test(face, n) for n, face in enumerate(validation)], MAX_TESTS),
        partial(_save_network, task, name),
        pictures=len(training),
        plan=_plan(task, training, validation, network, name, usual),
        about=about(models.device, mixed, network=f"{name}, sha256 {sha256[:16]}…" if sha256 else name),
        data=[
            [face.sha256 for face in training],
            *(sha256, usual, mixed),
            *map(digest_of, (task.vgg, task.discriminator)),
        ],
        has_perceptual_first=True,
    )
    yield from map(note, run.plan)
    if not task.dry_run:
        yield from train(run)


def _network(task: TrainRestorer, models: Models) -> tuple[Restorer, str, str]:
    """The network to train, its name, and the sha256 of its file."""
    if task.model == "none":
        network = Restorer(task.widths, task.depths, 4, task.codes, task.side)
        return network, f"new restorer, {task.channels} channels, {task.blocks} blocks, {task.codes} codes", ""
    loaded = load(models.store.find(task.model, kind="faces"))
    if isinstance(loaded.module, Restorer):
        if task.grow:
            return grown(loaded.module, task.codes), f"{loaded.name}, grown", loaded.sha256
        return loaded.module, loaded.name, loaded.sha256
    if task.evaluate:  # any face network can be evaluated
        side = Restorer((8, 8), (1, 1), 4, 0, loaded.side or 512)
        return side, loaded.name, loaded.sha256
    raise CalotypeError(
        "{model} is not of Calotype's own restorer architecture, which alone can be trained; give such a one, or none",
        model=loaded.name,
    )


def _face_losses(task: TrainRestorer, models: Models) -> dict[str, tuple[float, nn.Module]]:
    """Those that have a weight, on networks of their own. Raises CalotypeError if one's network isn't installed."""
    losses: dict[str, tuple[float, nn.Module]] = {}
    if task.landmark_weight:
        mesh = copy.deepcopy(models.face_mesh().mesh_network)
        losses["Landmarks/distance"] = (task.landmark_weight, LandmarkLoss(mesh))
    if task.eye_weight:
        eyes = EyeLoss(*map(copy.deepcopy, (models.face_mesh().mesh_network, models.face_mesh().iris_network)))
        losses["Eyes/distance"] = (task.eye_weight, eyes)
    if task.descriptor_weight:
        descriptor = copy.deepcopy(models.face_identity().network)
        losses["Descriptors/distance"] = (task.descriptor_weight, DescriptorLoss(descriptor))
    return losses


def _faces(
    task: TrainRestorer, folder: Path, side: int, models: Models
) -> Generator[Progress | Note, None, list[Face]]:
    """All of them stay in memory. Raises CalotypeError if they do not fit."""
    enlarge, faces = _enlarger(models, task.enlarge) if task.enlarge else None, []
    free = models.free_memory(torch.device("cpu"))
    limits = (models.settings.max_pixels, task.sharpen, task.output_dir)
    for event in faces_in(folder, side, task.aligned, models.detector(), enlarge, *limits):
        if isinstance(event, Face):
            faces.append(event)
        else:
            if isinstance(event, Progress):  # aligned pictures have one face each; of others the number is unknown
                count = max(event.total if task.aligned else 0, len(faces))
                check_memory(count, side, free, _counted(count), "side")
            yield event
    return faces


def _enlarger(models: Models, name: str) -> Callable[[np.ndarray], np.ndarray]:
    network = models.upscaler(name)
    return lambda crop: to_pixels(network(to_tensor(crop)[None])[0], like=crop)


def _subset(tests: Sequence[Test], max_count: int) -> list[Test]:
    """At most `max_count` of them, evenly from all sheets."""
    count = min(max_count, len(tests))
    return [tests[n * len(tests) // count] for n in range(count)]


def recipe(side: int) -> FaceRecipe:
    """GFPGAN's ranges, which are for 512 pixels, scaled to this side; colours stay, so that grey photos stay grey."""
    usual, scale = FaceRecipe(shifted=0.0, coloured=0.0, grey=0.0), side / 512
    low, high = usual.kernels.sigma
    kernels = replace(usual.kernels, sigma=(low, max(low, high * scale)))
    return replace(usual, kernels=kernels, smaller=(usual.smaller[0], max(1.0, usual.smaller[1] * scale)))


def make_batch(task: TrainRestorer, faces: Sequence[Face], device: torch.device, step: int) -> Batch:
    """The batch of a step: random faces, mirrored, grey, faded or unchanged; aged and degraded."""
    rng = random.Random(f"{task.seed} {step}")
    originals, inputs, weights, is_clean, corners = [], [], [], [], []
    for _ in range(task.batch_size):
        face = faces[rng.randrange(len(faces))]
        side, landmarks = face.pixels.shape[0], face.landmarks
        x = tensor_of(face)
        if rng.random() < 0.5:
            x, landmarks = x.flip(2), mirrored(landmarks, side)
        x = _with_old_tones(task, x, rng)
        is_clean.append(rng.random() < task.clean)
        originals.append(x)
        inputs.append(_aged(x, rng) if rng.random() < task.worn else x)
        weights.append(loss_weight_map(landmarks, side, task.parts_weight))
        corners.append(patch_corners(landmarks, side, task.pieces, rng) if 0 < task.pieces < side else [])
    true = torch.stack(originals).to(device)
    generator = torch.Generator().manual_seed((task.seed * 1_000_003 + step) % 2**63)
    low = degrade_faces(torch.stack(inputs).to(device), generator, recipe(true.shape[-1]))
    low = torch.where(torch.tensor(is_clean, device=device)[:, None, None, None], true, low)
    crop = partial(_patches, corners, task.pieces) if any(corners) else None
    return Batch(low, true, true, torch.stack(weights).to(device), crop)


def _with_old_tones(task: TrainRestorer, x: Tensor, rng: random.Random) -> Tensor:
    """Grey, or brown and faded, with the task's probabilities: such faces have to stay so."""
    if rng.random() < task.grey:
        x = grey(x[None]).expand(1, 3, -1, -1)[0]
    if rng.random() < task.toned:
        x = faded(x[None], torch.Generator().manual_seed(rng.getrandbits(40)), amount=rng.random())[0].clamp(0, 1)
    return x


def _aged(x: Tensor, rng: random.Random) -> Tensor:
    """Damage of a print on which the face is as large as the picture, or down to a fifth of it."""
    return age_texture(x, rng.getrandbits(40), rng.uniform(0.1, 1), round(x.shape[-1] * rng.uniform(0.2, 1)))


def _patches(corners: Sequence[Sequence[tuple[int, int]]], side: int, x: Tensor) -> Tensor:
    """The patches of (N, 3, H, W): (M, 3, side, side)."""
    return torch.stack([x[n, :, y : y + side, left : left + side] for n, own in enumerate(corners) for y, left in own])


def make_test(face: Face, number: int) -> Test:
    """A validation face, always with the same degradation."""
    true = tensor_of(face)
    low = degrade_faces(true[None], torch.Generator().manual_seed(number), recipe(true.shape[-1]))[0]
    return Test(face.name, low, true)


def _save_network(task: TrainRestorer, name: str, stem: str, network: nn.Module, steps: int) -> Path:
    """Writes a safetensors file in float16, which `restore` takes as its `face_model`."""
    state = {key: value.detach().to("cpu", torch.float16).contiguous() for key, value in network.state_dict().items()}
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise CalotypeError("the weights overflow in float16; give a lower {option:learning_rate}")
    facts = {"trained on": name, "steps": steps, "side": network.side, "by": f"Calotype {__version__}"}
    make_folder(task.output_dir)
    path = task.output_dir / f"{stem}.safetensors"
    write_atomic(path, serialize(state, {"calotype": json.dumps(facts)}))
    return path


def _plan(
    task: TrainRestorer, faces: Sequence[Face], validation: Sequence[Face], network: Restorer, name: str, usual: str
) -> list[Message]:
    first = plural(task.l1_steps, "1 step with L1 loss", "{count} steps with L1 loss")
    if usual:
        first = Message("{steps} and perceptual loss ({features})", steps=first, features=NAMES[usual])
    return [
        Message(
            "{faces} to train on, {validation} for validation (sheets or photos: {sheets})",
            faces=_counted(len(faces)),
            validation=len(validation),
            sheets=len({face.sheet for face in validation}),
        ),
        Message(
            "{network}: {side} pixels, {millions:.1f} million trainable parameters",
            network=name,
            side=network.side,
            millions=sum(p.numel() for p in network.parameters()) / 1e6,
        ),
        Message(
            "{first}, then {gan_steps} with GAN loss too; batches of {faces}",
            first=first,
            gan_steps=task.gan_steps,
            faces=_counted(task.batch_size),
        ),
    ]


def _counted(faces: int) -> Message:
    return plural(faces, "1 face", "{count} faces")
