"""Learning to restore faces: GFPGAN's degradation (Wang et al. 2021, arXiv 2101.04061, §4.1) and ways of counting.

Its discriminators of eyes and mouth are here one discriminator that is shown pieces there, and elsewhere; its StyleGAN2
prior is a dictionary of facial parts that is learnt with the rest (calotype/models/face_restorer.py).
"""

import json
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as packed
from torch import Tensor, nn

from calotype import __version__
from calotype.checkpoints.models import Models
from calotype.checkpoints.open_network import load, signed, unsigned
from calotype.errors import CalotypeError, Message, plural
from calotype.files import check_folder, write_atomic
from calotype.models.face_restorer import Restorer, grown
from calotype.models.network import is_mixed
from calotype.models.unet_discriminator import MULTIPLE
from calotype.ops.color import to_pixels, to_tensor
from calotype.ops.degrade import FaceRecipe, age_texture, degrade_faces, faded
from calotype.ops.degrade.noise import grey
from calotype.pipelines.train_upscaler import digest_of, judge
from calotype.tasks import Note, Progress, note
from calotype.tasks.enhancing import TrainRestorer
from calotype.training.data.dataset import check_memory
from calotype.training.data.faces import Face, faces_in, loss_weight_map, mirrored, patch_corners, split, tensor_of
from calotype.training.enhance.evaluate import compared
from calotype.training.enhance.gan_step import AdversarialTrainer, Batch, LossWeights
from calotype.training.enhance.loop import about, learn
from calotype.training.enhance.run import EnhanceRun, Test, check_free
from calotype.training.optim.perceptual import NAMES, load_features
from calotype.training.run.result import TrainResult

MOST_TESTS = 16  # faces held back that are measured on the way


def train_restorer(task: TrainRestorer, models: Models) -> Iterator[Progress | Note | TrainResult]:
    """Yields progress, and TrainResult last. Closing it keeps the last state; the same command goes on from there.

    Raises:
        CalotypeError: no faces, a model or a state that does not fit, no room on disk, a loss that is no number.
    """
    if task.evaluate:
        check_folder(task.output_dir)
    else:
        check_free(task)
    torch.manual_seed(task.seed)  # of new weights; all later chance comes from the seed and the step
    network, name, sha256 = _begun(task, models)
    if network.side % MULTIPLE:
        raise CalotypeError(
            "{option:side} is a multiple of {multiple}, not {side}", multiple=MULTIPLE, side=network.side
        )
    features, usual = load_features(task.perceptual, task.vgg)
    is_apart = task.evaluate and task.held_back  # then the others are not looked at
    faces = [] if is_apart else (yield from _faces(task, task.photos, network.side, models))
    if task.held_back:
        learnt, held = faces, (yield from _faces(task, task.held_back, network.side, models))
        known = {face.sha256 for face in learnt} & {face.sha256 for face in held}
        if known and not task.evaluate:
            yield note(
                "{count} of the faces in {held_back} are learnt from too, so figures flatter",
                count=len(known),
                held_back=task.held_back,
            )
    else:
        learnt, held = split(faces, task.validation_split, task.seed)
    if task.evaluate:
        yield from compared(task, models, _spread([_test(f, n) for n, f in enumerate(held)], task.evaluate_count))
        return
    mixed = is_mixed(task.mixed_precision, models.device)
    terms = LossWeights(task.l1_weight, task.perceptual_weight, task.gan_weight, task.identity_weight)
    course = EnhanceRun(
        task,
        AdversarialTrainer(
            *(network, judge(task) if task.gan_steps else None, features, terms),
            *((task.learning_rate, task.discriminator_lr), models.device, mixed),
            call=lambda module, x: unsigned(module(signed(x))),
            usual=usual,
        ),
        partial(_lesson, task, learnt, models.device),
        _spread([_test(face, n) for n, face in enumerate(held)], MOST_TESTS),
        partial(_written, task, name),
        photos=len(learnt),
        told=_told(task, learnt, held, network, name, usual),
        about=about(models.device, mixed, network=f"{name}, sha256 {sha256[:16]}…" if sha256 else name),
        decides=[
            [one.sha256 for one in learnt],
            *(sha256, usual, mixed),
            *map(digest_of, (task.vgg, task.discriminator)),
        ],
        features_first=True,
    )
    yield from map(note, course.told)
    if not task.dry_run:
        yield from learn(course)


def _begun(task: TrainRestorer, models: Models) -> tuple[Restorer, str, str]:
    """The network, its name, and the sha256 of the file that it is from."""
    if task.model == "none":
        network = Restorer(task.widths, task.depths, 4, task.codes, task.side)
        return network, f"new restorer, {task.channels} channels, {task.blocks} blocks, {task.codes} codes", ""
    loaded = load(models.store.find(task.model, kind="faces"))
    if isinstance(loaded.module, Restorer):
        if task.grow:
            return grown(loaded.module, task.codes), f"{loaded.name}, grown", loaded.sha256
        return loaded.module, loaded.name, loaded.sha256
    if task.evaluate:  # any face network can be measured
        side = Restorer((8, 8), (1, 1), 4, 0, loaded.side or 512)
        return side, loaded.name, loaded.sha256
    raise CalotypeError("{model} is no restorer of Calotype's own kind; train on one, or on none", model=loaded.name)


def _faces(
    task: TrainRestorer, folder: Path, side: int, models: Models
) -> Generator[Progress | Note, None, list[Face]]:
    """All of them stay in memory. Raises CalotypeError where they do not fit."""
    enlarged, found = _enlarger(models, task.enlarge) if task.enlarge else None, []
    free = models.free_memory(torch.device("cpu"))
    limits = (models.settings.max_pixels, task.sharpen, task.output_dir)
    for event in faces_in(folder, side, task.aligned, models.detector(), enlarged, *limits):
        if isinstance(event, Face):
            found.append(event)
        else:
            if isinstance(event, Progress):  # aligned pictures have a face each; of others it is not known before
                count = max(event.total if task.aligned else 0, len(found))
                check_memory(count, side, free, _counted(count), "side")
            yield event
    return found


def _enlarger(models: Models, name: str) -> Callable[[np.ndarray], np.ndarray]:
    network = models.upscaler(name)
    return lambda crop: to_pixels(network(to_tensor(crop)[None])[0], like=crop)


def _spread(tests: Sequence[Test], most: int) -> list[Test]:
    """So many at most, evenly from all sheets."""
    count = min(most, len(tests))
    return [tests[n * len(tests) // count] for n in range(count)]


def recipe(side: int) -> FaceRecipe:
    """GFPGAN's ranges, which are meant for 512 pixels, for this side. Colours stay: grey photos are to stay grey."""
    usual, share = FaceRecipe(shifted=0.0, coloured=0.0, grey=0.0), side / 512
    least, most = usual.kernels.sigma
    kernels = replace(usual.kernels, sigma=(least, max(least, most * share)))
    return replace(usual, kernels=kernels, smaller=(usual.smaller[0], max(1.0, usual.smaller[1] * share)))


def _lesson(task: TrainRestorer, faces: Sequence[Face], device: torch.device, step: int) -> Batch:
    """The batch of a step: faces chosen at random, mirrored, grey, faded or as they are; worn and degraded."""
    dice = random.Random(f"{task.seed} {step}")
    shown, given, weights, kept, places_of = [], [], [], [], []
    for _ in range(task.batch_size):
        face = faces[dice.randrange(len(faces))]
        side, landmarks = face.pixels.shape[0], face.landmarks
        x = tensor_of(face)
        if dice.random() < 0.5:
            x, landmarks = x.flip(2), mirrored(landmarks, side)
        x = _in_tones_of_old(task, x, dice)
        kept.append(dice.random() < task.clean)
        shown.append(x)
        given.append(_worn(x, dice) if dice.random() < task.worn else x)
        weights.append(loss_weight_map(landmarks, side, task.parts_weight))
        places_of.append(patch_corners(landmarks, side, task.pieces, dice) if 0 < task.pieces < side else [])
    true = torch.stack(shown).to(device)
    generator = torch.Generator().manual_seed((task.seed * 1_000_003 + step) % 2**63)
    low = degrade_faces(torch.stack(given).to(device), generator, recipe(true.shape[-1]))
    low = torch.where(torch.tensor(kept, device=device)[:, None, None, None], true, low)
    pieces = partial(_cut, places_of, task.pieces) if any(places_of) else None
    return Batch(low, true, true, torch.stack(weights).to(device), pieces)


def _in_tones_of_old(task: TrainRestorer, x: Tensor, dice: random.Random) -> Tensor:
    """Grey, or brown and faded, as often as is wished: what is given so is to stay so."""
    if dice.random() < task.grey:
        x = grey(x[None]).expand(1, 3, -1, -1)[0]
    if dice.random() < task.toned:
        x = faded(x[None], torch.Generator().manual_seed(dice.getrandbits(40)), amount=dice.random())[0].clamp(0, 1)
    return x


def _worn(x: Tensor, dice: random.Random) -> Tensor:
    """Damaged as a print on which the face is as large as the picture, or but a fifth of it."""
    return age_texture(x, dice.getrandbits(40), dice.uniform(0.1, 1), round(x.shape[-1] * dice.uniform(0.2, 1)))


def _cut(places_of: Sequence[Sequence[tuple[int, int]]], piece: int, x: Tensor) -> Tensor:
    """The pieces of (N, 3, H, W) one after the other."""
    cuts = [x[n, :, y : y + piece, at : at + piece] for n, one in enumerate(places_of) for y, at in one]
    return torch.stack(cuts)


def _test(face: Face, number: int) -> Test:
    """A face held back, degraded the same way whenever it is asked for."""
    true = tensor_of(face)
    low = degrade_faces(true[None], torch.Generator().manual_seed(number), recipe(true.shape[-1]))[0]
    return Test(face.name, low, true)


def _written(task: TrainRestorer, name: str, stem: str, network: nn.Module, steps: int) -> Path:
    """One safetensors file in float16, which `restore` takes as its `face_model`."""
    state = {key: value.detach().to("cpu", torch.float16).contiguous() for key, value in network.state_dict().items()}
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise CalotypeError("the weights are no numbers in float16 any more; give a lower {option:learning_rate}")
    told = {"trained on": name, "steps": steps, "side": network.side, "by": f"Calotype {__version__}"}
    task.output_dir.mkdir(parents=True, exist_ok=True)
    path = task.output_dir / f"{stem}.safetensors"
    write_atomic(path, packed(state, {"calotype": json.dumps(told)}))
    return path


def _told(
    task: TrainRestorer, faces: Sequence[Face], held: Sequence[Face], network: Restorer, name: str, usual: str
) -> list[Message]:
    """The plan in sentences."""
    first = plural(task.l1_steps, "1 step with L1", "{count} steps with L1")
    if usual:
        first = Message("{steps}, features of {features}", steps=first, features=NAMES[usual])
    return [
        Message(
            "{faces} to learn from, {held} held back to measure with (sheets or photos: {sheets})",
            faces=_counted(len(faces)),
            held=len(held),
            sheets=len({face.sheet for face in held}),
        ),
        Message(
            "{network}: {side} pixels, {millions:.1f} million numbers learn",
            network=name,
            side=network.side,
            millions=sum(p.numel() for p in network.parameters()) / 1e6,
        ),
        Message(
            "{first}, then {gan_steps} with a discriminator too; {faces} in a step",
            first=first,
            gan_steps=task.gan_steps,
            faces=_counted(task.batch_size),
        ),
    ]


def _counted(faces: int) -> Message:
    return plural(faces, "1 face", "{count} faces")
