"""Aligned faces to learn from: taken as they are or found in photos, with their landmarks; split by sheet."""

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

SURE = 0.8  # of a face in a photo
SMALLEST = 0.25  # of the side; smaller faces have nothing to teach
SHARPENED = 0.75  # sigma of the mask that sharpens what is enlarged, in pixels of what was given
EYES, MOUTH = 0.055, 0.075  # how far they reach (sigma), of the side
_SHEET = re.compile(r"_r\d+c\d+$")  # row and column on the sheet that a face was cut from


@dataclass(frozen=True, eq=False)
class Face:
    """One aligned face."""

    name: str
    sheet: str  # faces of one sheet are alike, and stay together
    sha256: str  # of the picture
    pixels: np.ndarray  # (side, side, 3) uint8
    landmarks: np.ndarray  # (5, 2) in it


def faces_in(
    folder: Path,
    side: int,
    is_aligned: bool,
    detector: Detector,
    enlarged: Callable[[np.ndarray], np.ndarray] | None,
    max_pixels: int,
    sharpen: float = 0.0,
    out: Path | None = None,
) -> Iterator[Progress | Note | Face]:
    """Every face in a folder and those in it. What cannot be read, and what has no face, is left out and said;
    transparency becomes white.

    Args:
        is_aligned: a picture is one face, aligned as FFHQ's.
        enlarged: makes a larger one of a (H, W, 3) uint8 face that is smaller than the side.
        sharpen: how much those are sharpened that are enlarged without it.
        out: folder for results, which are not learnt from.

    Raises:
        CalotypeError: no such folder, or no face in it.
    """
    if not folder.is_dir():
        raise CalotypeError("there is no folder {folder}; give the folder with faces", folder=folder)
    paths, left_out = pictures_below(folder, out)
    yield from [note(left_out)] if left_out else []
    count, found = 0, _as_it_is if is_aligned else _found
    for n, path in enumerate(paths, 1):
        try:
            picture = Picture.open(path, max_pixels)
            for crop, landmarks, number in found(to_uint8_rgb(picture.on_white().pixels), side, detector, path.name):
                crop, landmarks = _brought(crop, landmarks, side, enlarged, sharpen)
                sheet = _SHEET.sub("", path.stem) if is_aligned else path.stem
                yield Face(path.stem + number, sheet, picture.sha256 + number, crop, landmarks)
                count += 1
        except CalotypeError as fault:
            yield note("left out: {fault}", fault=fault)
        yield Progress(n, len(paths), "faces")
    if not count:
        raise CalotypeError("{folder} has no faces that can be learnt from; put sharp ones there", folder=folder)


def _as_it_is(
    pixels: np.ndarray, side: int, detector: Detector, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    height, width = pixels.shape[:2]
    if height != width or height < SMALLEST * side:
        raise CalotypeError(
            "{name} is {width}x{height}, no aligned face of {side} pixels; give {option:no_aligned} to find "
            "faces in photos",
            name=name,
            width=width,
            height=height,
            side=side,
        )
    seen = detector.find(pixels)
    yield pixels, (seen[0].landmarks if seen else template(height)), ""


def _found(
    pixels: np.ndarray, side: int, detector: Detector, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    seen = [face for face in detector.find(pixels) if face.confidence >= SURE]
    count = 0
    for face in seen:
        matrix = similarity(face.landmarks, template(side))
        if np.hypot(matrix[0, 0], matrix[1, 0]) <= 1 / SMALLEST:
            count += 1
            grow = max(1.0, float(np.hypot(matrix[0, 0], matrix[1, 0])))  # cut as large as it is there
            own = round(side / grow)
            matrix = similarity(face.landmarks, template(own))
            landmarks = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
            yield align(pixels, matrix, own), landmarks, f"-{count}"
    if not count:
        raise CalotypeError("{name} shows no face that is large enough", name=name)


def _brought(
    crop: np.ndarray,
    landmarks: np.ndarray,
    side: int,
    enlarged: Callable[[np.ndarray], np.ndarray] | None,
    sharpen: float,
) -> tuple[np.ndarray, np.ndarray]:
    """A square crop and its landmarks, at the side."""
    given = crop.shape[0]
    if given < side and enlarged is not None:
        crop = enlarged(crop)
    if crop.shape[0] != side:
        way = cv2.INTER_AREA if crop.shape[0] > side else cv2.INTER_LANCZOS4
        crop = cv2.resize(crop, (side, side), interpolation=way)
    if given < side and enlarged is None and sharpen:
        soft = cv2.GaussianBlur(crop.astype(np.float32), (0, 0), SHARPENED * side / given)
        crop = np.clip(crop + sharpen * (crop - soft), 0, 255).round().astype(np.uint8)
    return crop, (landmarks + 0.5) * (side / given) - 0.5


def split(faces: Sequence[Face], share: float, seed: int) -> tuple[list[Face], list[Face]]:
    """To learn from and to measure with; whole sheets, at least one of each where there are two."""
    sheets = sorted({face.sheet for face in faces})
    if not share or len(sheets) < 2:
        return list(faces), []
    count = min(max(1, round(share * len(sheets))), len(sheets) - 1)
    chosen = set(random.Random(seed).sample(sheets, count))
    return [f for f in faces if f.sheet not in chosen], [f for f in faces if f.sheet in chosen]


def tensor_of(face: Face) -> Tensor:
    """(3, side, side) in [0, 1]."""
    return to_tensor(face.pixels)


def mirrored(landmarks: np.ndarray, side: int) -> np.ndarray:
    """(5, 2) as they lie in the mirrored face; the picture's left eye stays the first."""
    return np.asarray(landmarks)[[1, 0, 2, 4, 3]] * (-1, 1) + (side - 1, 0)


def places(landmarks: np.ndarray, side: int, piece: int, dice: random.Random) -> list[tuple[int, int]]:
    """Rows and columns at which pieces of an aligned face begin: at both eyes, at the mouth, and anywhere."""
    left, right, _, *corners = np.asarray(landmarks, float)
    middles = [(y, x) for x, y in (left, right, np.mean(corners, 0))]
    middles.append((dice.uniform(0, side), dice.uniform(0, side)))
    return [tuple(min(max(round(at - piece / 2), 0), side - piece) for at in middle) for middle in middles]


def emphasis(landmarks: np.ndarray, side: int, more: float) -> Tensor:
    """How much each pixel of an aligned face counts: (1, side, side), 1 + more at eyes and mouth; the mean is 1."""
    left, right, _, *corners = (torch.from_numpy(np.asarray(point, np.float32)) for point in landmarks)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    most = torch.zeros(side, side)
    for (px, py), reach in ((left, EYES), (right, EYES), ((corners[0] + corners[1]) / 2, MOUTH)):
        away = ((x - px) ** 2 + (y - py) ** 2) / (reach * side) ** 2
        most = torch.maximum(most, torch.exp(-away / 2))
    weight = 1 + more * most
    return (weight / weight.mean())[None]
