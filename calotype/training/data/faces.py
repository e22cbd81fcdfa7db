"""Aligned faces to train on, with landmarks: already aligned or found in photos; split by sheet."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from calotype.errors import CalotypeError
from calotype.models.face_detector import Detector
from calotype.ops.color import to_tensor, to_uint8_rgb
from calotype.ops.faces import align, similarity, template
from calotype.picture import Picture
from calotype.tasks import Note, Progress, note
from calotype.training.data.dataset import pictures_below

MIN_CONFIDENCE = 0.8  # of a detected face in a photo
MIN_SCALE = 0.25  # relative to the side; smaller faces are left out
SHARPEN_SIGMA = 0.75  # of the unsharp mask on enlarged faces, in pixels of the original
EYE_SIGMA, MOUTH_SIGMA = 0.055, 0.075  # Gaussians of the loss weight map, relative to the side
_SHEET_POSITION = re.compile(r"_r\d+c\d+$")  # row and column of a face on the sheet it was cut from


@dataclass(frozen=True, eq=False)
class Face:
    """One aligned face."""

    name: str
    sheet: str  # faces of one sheet are similar and stay in one split
    sha256: str  # of the picture
    pixels: np.ndarray  # (side, side, 3) uint8
    landmarks: np.ndarray  # (5, 2) in it


def faces_in(
    folder: Path,
    side: int,
    is_aligned: bool,
    detector: Detector,
    upscale: Callable[[np.ndarray], np.ndarray] | None,
    max_pixels: int,
    sharpen: float = 0.0,
    out: Path | None = None,
) -> Iterator[Progress | Note | Face]:
    """Every face in a folder and its subfolders; pictures that cannot be read or have no face are left out with a note.

    Transparent pixels become white.

    Args:
        is_aligned: each picture is one face, aligned as in FFHQ.
        upscale: enlarges a (H, W, 3) uint8 face that is smaller than the side.
        sharpen: amount of unsharp masking for faces that are enlarged without `upscale`.
        out: the output folder, whose pictures are left out.

    Raises:
        CalotypeError: no such folder, or no face in it.
    """
    if not folder.is_dir():
        raise CalotypeError("there is no folder {folder}; give the folder with faces", folder=folder)
    paths, results_note = pictures_below(folder, out)
    yield from [note(results_note)] if results_note else []
    count, find_faces = 0, _aligned_face if is_aligned else _faces_in_photo
    for n, path in enumerate(paths, 1):
        try:
            picture = Picture.open(path, max_pixels)
            for crop, landmarks, number in find_faces(
                to_uint8_rgb(picture.on_white().pixels), side, detector, path.name
            ):
                crop, landmarks = _resized_face(crop, landmarks, side, upscale, sharpen)
                sheet = _SHEET_POSITION.sub("", path.stem) if is_aligned else path.stem
                yield Face(path.stem + number, sheet, picture.sha256 + number, crop, landmarks)
                count += 1
        except CalotypeError as error:
            yield note("left out: {fault}", fault=error)
        yield Progress(n, len(paths), "faces")
    if not count:
        raise CalotypeError("{folder} has no faces to train on; put sharp ones there", folder=folder)


def _aligned_face(
    pixels: np.ndarray, side: int, detector: Detector, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    height, width = pixels.shape[:2]
    if height != width or height < MIN_SCALE * side:
        raise CalotypeError(
            "{name} is {width}x{height}, not an aligned face of {side} pixels; give {option:no_aligned} to find "
            "faces in photos",
            name=name,
            width=width,
            height=height,
            side=side,
        )
    faces = detector.find(pixels)
    yield pixels, (faces[0].landmarks if faces else template(height)), ""


def _faces_in_photo(
    pixels: np.ndarray, side: int, detector: Detector, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    faces = [face for face in detector.find(pixels) if face.confidence >= MIN_CONFIDENCE]
    count = 0
    for face in faces:
        matrix = similarity(face.landmarks, template(side))
        if np.hypot(matrix[0, 0], matrix[1, 0]) <= 1 / MIN_SCALE:
            count += 1
            grow = max(1.0, float(np.hypot(matrix[0, 0], matrix[1, 0])))  # crop at its size in the photo
            crop_side = round(side / grow)
            matrix = similarity(face.landmarks, template(crop_side))
            landmarks = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
            yield align(pixels, matrix, crop_side), landmarks, f"-{count}"
    if not count:
        raise CalotypeError("{name} has no face that is large enough", name=name)


def _resized_face(
    crop: np.ndarray,
    landmarks: np.ndarray,
    side: int,
    upscale: Callable[[np.ndarray], np.ndarray] | None,
    sharpen: float,
) -> tuple[np.ndarray, np.ndarray]:
    """A square crop and its landmarks, resized to (side, side)."""
    crop_side = crop.shape[0]
    if crop_side < side and upscale is not None:
        crop = upscale(crop)
    if crop.shape[0] != side:
        interpolation = cv2.INTER_AREA if crop.shape[0] > side else cv2.INTER_LANCZOS4
        crop = cv2.resize(crop, (side, side), interpolation=interpolation)
    if crop_side < side and upscale is None and sharpen:
        blurred = cv2.GaussianBlur(crop.astype(np.float32), (0, 0), SHARPEN_SIGMA * side / crop_side)
        crop = np.clip(crop + sharpen * (crop - blurred), 0, 255).round().astype(np.uint8)
    return crop, (landmarks + 0.5) * (side / crop_side) - 0.5


def split(faces: Sequence[Face], fraction: float, seed: int) -> tuple[list[Face], list[Face]]:
    """Splits into (train, validation) by sheet, at least one of each if there are two."""
    sheets = sorted({face.sheet for face in faces})
    if not fraction or len(sheets) < 2:
        return list(faces), []
    count = min(max(1, round(fraction * len(sheets))), len(sheets) - 1)
    chosen = set(random.Random(seed).sample(sheets, count))
    return [f for f in faces if f.sheet not in chosen], [f for f in faces if f.sheet in chosen]


def tensor_of(face: Face) -> Tensor:
    """(3, side, side) in [0, 1]."""
    return to_tensor(face.pixels)


def mirrored(landmarks: np.ndarray, side: int) -> np.ndarray:
    """(5, 2) in the horizontally flipped face; the eye on the left of the picture stays first."""
    return np.asarray(landmarks)[[1, 0, 2, 4, 3]] * (-1, 1) + (side - 1, 0)


def patch_corners(landmarks: np.ndarray, side: int, size: int, rng: random.Random) -> list[tuple[int, int]]:
    """(row, column) of the top left corners of four patches of an aligned face: both eyes, the mouth, a random one."""
    left, right, _, *mouth = np.asarray(landmarks, float)
    centers = [(y, x) for x, y in (left, right, np.mean(mouth, 0))]
    centers.append((rng.uniform(0, side), rng.uniform(0, side)))
    return [
        tuple(min(max(round(coordinate - size / 2), 0), side - size) for coordinate in center) for center in centers
    ]


def loss_weight_map(landmarks: np.ndarray, side: int, extra: float) -> Tensor:
    """Loss weight of each pixel of an aligned face: (1, side, side), up to 1 + extra at eyes and mouth; normalized to
    mean 1."""
    left, right, _, *mouth = (torch.from_numpy(np.asarray(point, np.float32)) for point in landmarks)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    strongest = torch.zeros(side, side)
    for (px, py), sigma in ((left, EYE_SIGMA), (right, EYE_SIGMA), ((mouth[0] + mouth[1]) / 2, MOUTH_SIGMA)):
        distance = ((x - px) ** 2 + (y - py) ** 2) / (sigma * side) ** 2
        strongest = torch.maximum(strongest, torch.exp(-distance / 2))
    weight = 1 + extra * strongest
    return (weight / weight.mean())[None]
