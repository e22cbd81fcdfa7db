"""Face restoration: detects, selects, restores and pastes the faces of a photo."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from calotype import record
from calotype.checkpoints.models import Models
from calotype.errors import CalotypeError, Message, PictureError, Remedy, plural
from calotype.inference.face_parts import guarded
from calotype.inference.identity import identity_measure
from calotype.inference.uncertainty import as_heat, deviations
from calotype.inference.upscale import resized_alpha
from calotype.models.face_detector import DetectedFace
from calotype.models.network import Network, is_out_of_memory
from calotype.ops import faces as ops
from calotype.ops.color import luma, squeeze_grey, to_pixels, to_tensor, to_uint8_rgb
from calotype.ops.resize import resized_region
from calotype.picture import Picture
from calotype.record import FaceRecord, Result
from calotype.tasks import Note, Progress, Restore, Strengths, chosen_faces, note

UPSCALER_WEIGHT = 0.5  # weight of the upscaler in a pasted face; chosen by eye
MAX_DETAIL = 2.0  # faces this many times larger than the network's crop have more detail than it can generate
FACES_AT_ONCE = 8  # at most in one batch
DEFAULT_FACE_MODEL = "gfpgan-1.4"  # suggested where no face network is available


def face_network(task: Restore, models: Models, deep: bool) -> Generator[Note, None, Network | None]:
    """The face network, or None with a note that says why."""
    if task.face_model == "none" or task.faces == "none":
        return None
    best = task.auto_face_model or models.store.best_faces()
    name = best if task.face_model == "auto" else task.face_model
    if name is None:
        sentence = "no face network such as {model} is available, so faces are only enlarged"
        yield note(CalotypeError(sentence, model=DEFAULT_FACE_MODEL, remedy=Remedy("pull_model", DEFAULT_FACE_MODEL)))
        return None
    return models.faces(name, deep)


def network_input(opened: Picture) -> Picture:
    """A photo as the networks see it: hidden colours under transparency made visible, grey as one channel."""
    return opened.then(squeeze_grey(opened.with_visible_colours().pixels), opened.alpha)


def find_faces(picture: Picture, models: Models) -> list[DetectedFace]:
    """All faces of a picture in reading order: top to bottom in rows, then left to right."""
    detected = models.found_faces(picture)
    if not detected:
        return []
    row_height = float(np.median([face.box[3] for face in detected]))
    return sorted(detected, key=lambda f: (round((f.box[1] + f.box[3] / 2) / row_height), f.box[0]))


def face_record(number: int, face: DetectedFace, task: Restore, network: Network | None) -> FaceRecord:
    """Whether a face will be restored, or why not. A face selected by its number is always restored."""
    strengths = Strengths.read(task.strength)
    is_named = number in chosen_faces(task.faces) if task.faces not in ("all", "none", "center") else False
    return FaceRecord(
        number=number,
        box=tuple(round(float(v), 1) for v in face.box),
        landmarks=tuple((round(float(x), 2), round(float(y), 2)) for x, y in face.landmarks),
        confidence=round(float(face.confidence), 3),
        treated=not (reason := _reason_untreated(face, task, network, strengths.leaves(number), is_named)),
        why=reason,
        strength=strengths.of(number),
    )


def _reason_untreated(face: DetectedFace, task: Restore, network: Network | None, is_left: bool, is_named: bool) -> str:
    if network is None:
        return record.NO_NETWORK
    if is_left:
        return record.NO_STRENGTH
    if is_named:
        return ""
    if face.confidence < task.min_confidence:
        return str(Message(record.NOT_SURE, confidence=f"{face.confidence:.2f}"))
    if face.box[2] < task.min_face:
        return str(Message(record.TOO_SMALL, width=f"{face.box[2]:.0f}"))
    if 1 / ops.scale_of(_matrix(face.landmarks, network.side)) > MAX_DETAIL:
        return str(Message(record.DETAILED, side=network.side))
    return ""


def select_faces(faces: list[FaceRecord], task: Restore, picture: Picture) -> list[FaceRecord]:
    """Marks the faces that the task's `faces` does not select as untreated."""
    selection = chosen_faces(task.faces)
    if selection == "all":
        return faces
    if selection == "center":
        numbers = {_central_face(faces, picture)}
    else:
        numbers = set() if selection == "none" else selection
        if missing := sorted(numbers - {face.number for face in faces}):
            raise PictureError(
                "{source} has {faces}, no face {missing}; run once without {option:faces} and with {option:report} to "
                "see their numbers",
                source=task.source,
                faces=plural(len(faces), "1 face", "{count} faces"),
                missing=missing[0],
            )
    return [f if f.number in numbers else replace(f, treated=False, why=f.why or record.NOT_CHOSEN) for f in faces]


def _central_face(faces: list[FaceRecord], picture: Picture) -> int:
    """The number of the face closest to the center of the picture."""
    height, width = picture.pixels.shape[:2]

    def distance(face: FaceRecord) -> float:
        x, y, w, h = face.box
        return (x + w / 2 - width / 2) ** 2 + (y + h / 2 - height / 2) ** 2

    return min(faces, key=distance).number if faces else 0


@dataclass(frozen=True, eq=False)
class RestoredFace:
    """A restored face crop and its position."""

    crop: Tensor  # (3, side, side) float32 in [0, 1]
    matrix: np.ndarray  # (2, 3) crop -> source
    record: FaceRecord
    deviation: np.ndarray | None = None  # (side, side) float32, of jittered runs
    blend: ops.FaceBlend | None = None  # instead of its strength where the face's mesh is known


def restore_faces(
    picture: Picture, faces: list[FaceRecord], network: Network | None, task: Restore, models: Models
) -> Generator[Progress | Note, None, dict[int, RestoredFace]]:
    """Runs the selected faces through the network, `FACES_AT_ONCE` at a time; returns the crops by number.

    Faces that are already sharp are skipped, unless they were selected by number.
    """
    to_restore = [face for face in faces if face.treated]
    skips_sharp = task.faces in ("all", "center")
    restored = {}
    for n in range(0, len(to_restore), FACES_AT_ONCE):
        yield Progress(n, len(to_restore), "faces")
        batch = to_restore[n : n + FACES_AT_ONCE]
        matrices = [_matrix(np.array(face.landmarks), network.side) for face in batch]
        crops = [ops.align(picture.pixels, matrix, network.side) for matrix in matrices]
        all_drawn = restore_crops(crops, network, task.fidelity, sees_mirrored(network, task))
        for face, matrix, crop, drawn in zip(batch, matrices, crops, all_drawn, strict=True):
            photo = to_tensor(crop)
            if skips_sharp and ops.is_sharp(*(t.permute(1, 2, 0).numpy() for t in (photo, drawn))):
                continue
            kept, blend = yield from guarded(photo, drawn, face, task, models)
            deviation = None
            if task.has_uncertainty:
                deviation = deviations(crop, lambda crops: restore_crops(crops, network, task.fidelity))
            restored[face.number] = RestoredFace(drawn, cv2.invertAffineTransform(matrix), kept, deviation, blend)
    return restored


def _matrix(landmarks: np.ndarray, side: int) -> np.ndarray:
    return ops.similarity(np.asarray(landmarks, dtype=np.float64), ops.template(side))


def sees_mirrored(network: Network, task: Restore) -> bool:
    return network.sees_mirrored and task.face_version >= 2


def restore_crops(
    crops: list[np.ndarray], network: Network, fidelity: float, is_mirrored_too: bool = False
) -> list[Tensor]:
    """Runs aligned (side, side, C) crops through the network and matches their colours: (3, side, side) each.

    Args:
        is_mirrored_too: each is the mean of what the network draws of a crop and of its mirror image.
    """
    x = torch.stack([to_tensor(crop) for crop in crops])
    try:
        y = network(x, fidelity)
        if is_mirrored_too:
            y = (y + network(x.flip(3), fidelity).flip(3)) / 2
    except (MemoryError, RuntimeError) as fault:
        if len(crops) == 1 or not is_out_of_memory(fault):
            raise
        return [restore_crop(crop, network, fidelity, is_mirrored_too) for crop in crops]
    return [_matched(*each, crop.shape[2] == 1) for *each, crop in zip(y.clamp(0, 1), x, crops, strict=True)]


def restore_crop(crop: np.ndarray, network: Network, fidelity: float, is_mirrored_too: bool = False) -> Tensor:
    """As `restore_crops`, of one crop."""
    return restore_crops([crop], network, fidelity, is_mirrored_too)[0]


def _matched(drawn: Tensor, crop: Tensor, is_grey: bool) -> Tensor:
    """A network's output with the colours of its input, both (3, side, side)."""
    if is_grey:
        drawn = luma(drawn).expand(3, -1, -1)
    pair = (t.permute(1, 2, 0).contiguous().numpy() for t in (drawn, crop))
    return torch.from_numpy(ops.matched(*pair)).permute(2, 0, 1).clamp(0, 1)


def paste_face(pixels: np.ndarray, source: np.ndarray, face: RestoredFace, upscaler: Network | None) -> None:
    """Pastes a restored face onto the enlarged pixels, in place."""
    height, width = pixels.shape[:2]
    matrix = ops.scaled(face.matrix, height / source.shape[0], width / source.shape[1])
    crop = _enlarged_face(face, ops.scale_of(matrix), upscaler)
    matrix = ops.for_side(matrix, face.crop.shape[1], crop.shape[1])
    (left, top), (right, bottom) = ops.bounds(matrix, crop.shape[1], (height, width))
    rows, columns = slice(top, bottom), slice(left, right)
    if top >= bottom or left >= right:
        return
    background = to_tensor(pixels[rows, columns]).permute(1, 2, 0).numpy()
    lanczos = resized_region(source, (height, width), rows, columns).permute(1, 2, 0).numpy()
    patch = ops.Patch(crop.permute(1, 2, 0).contiguous().numpy(), matrix, face.record.strength, face.blend)
    pasted = torch.from_numpy(ops.paste(background, lanczos, patch, (left, top))).permute(2, 0, 1)
    pixels[rows, columns] = to_pixels(pasted, pixels)


def uncertainty(picture: Picture, source: np.ndarray, faces: Iterable[RestoredFace]) -> np.ndarray:
    """The result in dim grey, with the deviations of its restored faces in colours: (H, W, 3) uint8."""
    height, width = picture.pixels.shape[:2]
    deviation = np.zeros((height, width), np.float32)
    for face in faces:
        matrix = ops.scaled(face.matrix, height / source.shape[0], width / source.shape[1])
        side = face.deviation.shape[0]
        (mask, strength) = (
            (face.blend.detail, face.blend.strength) if face.blend else (ops.feather(side), face.record.strength)
        )
        warped = cv2.warpAffine(face.deviation * mask * strength, matrix, (width, height), flags=cv2.INTER_LINEAR)
        deviation = np.maximum(deviation, warped)
    return as_heat(to_uint8_rgb(picture.pixels), deviation)


def _enlarged_face(face: RestoredFace, grow: float, upscaler: Network | None) -> Tensor:
    """A restored crop at its output size (`grow` times larger).

    It is the mean of the upscaler's output, from the size that the face has in the photo, and of bicubic interpolation.
    The latter alone looks soft beside its surroundings; the upscaler alone makes eyes and teeth hard and distorted.
    """
    side = face.crop.shape[1]
    output_side = max(1, round(side * grow))
    crop = face.crop
    if upscaler is not None and upscaler.scale > 1:
        source_side = round(side * ops.scale_of(face.matrix))
        input_side = min(side, max(source_side, -(-output_side // upscaler.scale)))
        input_side = -(-input_side // upscaler.multiple) * upscaler.multiple
        sharp = upscaler(_resized(crop, input_side)[None])[0].clamp(0, 1)
        return UPSCALER_WEIGHT * _resized(sharp, output_side) + (1 - UPSCALER_WEIGHT) * _resized(crop, output_side)
    return _resized(crop, output_side)


def _resized(crop: Tensor, side: int) -> Tensor:
    if crop.shape[1] == side:
        return crop
    return functional.interpolate(crop[None], (side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)


def restore_aligned(
    task: Restore, picture: Picture, network: Network | None, models: Models
) -> Generator[Note, None, Result]:
    """Restores a source that is one aligned face crop: resized to the network's side, without pasting or `scale`."""
    if network is None:
        raise PictureError(
            "{source}: {option:aligned} needs a face network such as {model}",
            source=task.source,
            model=DEFAULT_FACE_MODEL,
            remedy=Remedy("pull_model", DEFAULT_FACE_MODEL),
        )
    height, width = picture.pixels.shape[:2]
    if height != width:
        raise PictureError(
            "{source} is {width} x {height}: an aligned face is square; leave {option:aligned} out",
            source=task.source,
            width=width,
            height=height,
        )
    strengths = Strengths.read(task.strength)
    if strengths.leaves(1):
        return Result.of(task, picture, picture, [], models.computed(network))
    picture = picture.with_visible_colours()
    size, window = (network.side, network.side), slice(0, network.side)
    x = resized_region(picture.pixels, size, window, window).clamp(0, 1)
    drawn = restore_crop(to_pixels(x, picture.pixels), network, task.fidelity, sees_mirrored(network, task))
    points = tuple(map(tuple, ops.template(network.side).tolist()))
    whole = FaceRecord(1, (0, 0, *size), points, 1.0, treated=True, strength=strengths.of(1))
    whole, blend = yield from guarded(x, drawn, whole, task, models)
    drawn = x + (whole.strength if blend is None else torch.from_numpy(blend.strength)) * (drawn - x)
    alpha = None if picture.alpha is None else resized_alpha(picture.alpha, size)
    result = picture.then(to_pixels(drawn, picture.pixels), alpha)
    return Result.of(task, picture, result, [network], models.computed(network) | mesh_facts(task))


def mesh_facts(task: Restore) -> dict[str, str]:
    """What the record says of how faces were treated; nothing where it is as in earlier versions."""
    if not task.uses_face_mesh:
        return {}
    return {record.FACE_MESH: str(task.face_version), record.IDENTITY: identity_measure(task)}
