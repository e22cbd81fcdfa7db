"""Finds faces with YuNet, and five landmarks in each."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from calotype.errors import CalotypeError

SIDES = (1280, 480)  # the long sides to look at: large faces are only seen in the small picture
LEAST = 0.5  # confidence below which nothing is returned
SURE = 0.7  # confidence from which a face is taken to be one
SAME = 0.4  # overlap (intersection over union) from which two boxes are one face
CUT = 2.0  # how much wider than the face the piece is that landmarks are looked for in
FINE = (64, 72, 80, 88)  # widths in pixels at which YuNet's landmarks are most exact; measured, each errs its own way
UPRIGHT = 0.925  # upright faces mostly reach this, faces that lie or stand on their head never did
BETTER = 1.04  # how much surer the faces of a turned picture must be to believe that it lay
MOST = 5000  # candidates per look
MIRRORED = [1, 0, 2, 4, 3]  # order of the landmarks in a mirrored picture


@dataclass(frozen=True, eq=False)
class DetectedFace:
    """One face, in pixels of the picture; pixel centres lie at whole numbers."""

    box: tuple[float, float, float, float]  # x, y, width, height; may reach beyond the picture's edge
    landmarks: np.ndarray  # (5, 2) float64 x, y: eye, eye, nose, mouth corner, mouth corner; left first as seen upright
    confidence: float  # 0 to 1


class Detector:
    """`find` may be called from several threads."""

    def __init__(self, onnx_path: Path):
        """Raises CalotypeError where the file cannot be read as YuNet's."""
        try:
            data = np.fromfile(onnx_path, dtype=np.uint8)
            with _quiet():
                self._yunet = cv2.FaceDetectorYN.create(
                    "onnx", data, np.empty(0, np.uint8), (320, 320), LEAST, 0.3, MOST
                )
        except (OSError, cv2.error):
            raise CalotypeError(
                "{path} cannot be read as the YuNet face detector; install it again", path=onnx_path
            ) from None
        self._one_at_a_time = threading.Lock()

    def find(self, pixels: np.ndarray) -> list[DetectedFace]:
        """All faces with a confidence of 0.5 or more, the surest first.

        Where the faces may be lying, the picture is also looked at from its sides and upside down: YuNet finds such
        faces too, but puts their landmarks in wrong places.

        Args:
            pixels: (H, W, 3) uint8, RGB.
        """
        picture = np.ascontiguousarray(pixels[..., ::-1])  # YuNet was trained on BGR
        turns, faces = self._upright(picture)
        turned = np.ascontiguousarray(np.rot90(picture, turns))
        fine = (self._finer(turned, face) for face in faces)
        return [_turned_back(face, turns, picture.shape[:2]) for face in fine]

    def _upright(self, picture: np.ndarray) -> tuple[int, list[DetectedFace]]:
        """How many quarters to turn the picture against the clock for its faces to stand, and the faces then."""
        faces = self._at_two_sizes(picture)
        if faces and faces[0].confidence >= UPRIGHT:
            return 0, faces
        looks = [(n, self._at_two_sizes(np.ascontiguousarray(np.rot90(picture, n)))) for n in (1, 2, 3)]
        turns, best = max(looks, key=lambda look: _sure(look[1]))
        surer = _sure(best) > BETTER * _sure(faces)
        stands = not _sure(faces) or (best[:1] and best[0].confidence >= UPRIGHT - 0.025)
        return (turns, best) if surer and stands else (0, faces)

    def _at_two_sizes(self, picture: np.ndarray) -> list[DetectedFace]:
        long = max(picture.shape[:2])
        scales = {min(1.0, side / long) for side in SIDES}
        if long < SIDES[1]:
            scales.add(2.0)  # faces of some 10 pixels are only seen enlarged
        return _without_doubles(face for scale in sorted(scales) for face in self._look(picture, scale))

    def _look(self, picture: np.ndarray, scale: float) -> list[DetectedFace]:
        """The faces in a (H, W, 3) BGR picture, looked for at one size."""
        height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
        small = picture
        if (height, width) != picture.shape[:2]:
            way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            small = cv2.resize(picture, (width, height), interpolation=way)
        with self._one_at_a_time, _quiet():
            self._yunet.setInputSize((width, height))
            rows = self._yunet.detect(small)[1]
        ratio = np.array([picture.shape[1] / width, picture.shape[0] / height])
        return [_read(row, ratio) for row in ([] if rows is None else rows.astype(np.float64))]

    def _finer(self, picture: np.ndarray, face: DetectedFace) -> DetectedFace:
        """The face with landmarks as seen in pieces of several fitting sizes and their mirror images, averaged."""
        piece, corner = _cut(picture, face)
        box = (face.box[0] - corner[0], face.box[1] - corner[1], *face.box[2:])
        seen = []
        for width in FINE:
            scale = width / face.box[2]
            here = self._look(piece, scale)
            there = [_mirrored(f, piece.shape[1]) for f in self._look(piece[:, ::-1].copy(), scale)]
            both = (_nearest(faces, box) for faces in (here, there))
            seen += [found.landmarks for found in both if found is not None]
        return replace(face, landmarks=np.mean(seen, 0) + corner) if seen else face


def _cut(picture: np.ndarray, face: DetectedFace) -> tuple[np.ndarray, np.ndarray]:
    """A square piece around a face, and the (2,) place of its corner. Beyond the picture's edge, the edge goes on."""
    x, y, w, h = face.box
    side = max(16, round(CUT * max(w, h)))
    corner = np.round([x + w / 2 - side / 2, y + h / 2 - side / 2])
    move = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]])
    return cv2.warpAffine(picture, move, (side, side), borderMode=cv2.BORDER_REPLICATE), corner


def _read(row: np.ndarray, ratio: np.ndarray) -> DetectedFace:
    """A row of YuNet's in a picture that was shrunk: pixel centres keep their place."""
    x, y, w, h = row[:4] * np.tile(ratio, 2)
    landmarks = (row[4:14].reshape(5, 2) + 0.5) * ratio - 0.5
    return DetectedFace((float(x), float(y), float(w), float(h)), landmarks, float(min(row[14], 1.0)))


def _sure(faces: list[DetectedFace]) -> float:
    """How much speaks for these faces: the confidences of those that are sure."""
    return sum(face.confidence for face in faces if face.confidence >= SURE)


def _without_doubles(faces: Iterable[DetectedFace]) -> list[DetectedFace]:
    kept: list[DetectedFace] = []
    for face in sorted(faces, key=lambda f: (-f.confidence, f.box)):
        if face.box[2] > 0 and face.box[3] > 0 and all(overlap(face.box, other.box) < SAME for other in kept):
            kept.append(face)
    return kept


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[0] + one[2], other[0] + other[2]), min(one[1] + one[3], other[1] + other[3])
    shared = max(0.0, right - left) * max(0.0, bottom - top)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def _nearest(seen: list[DetectedFace], box: tuple[float, ...]) -> DetectedFace | None:
    """The face whose box is this one; None if none is."""
    best = max(seen, key=lambda found: overlap(found.box, box), default=None)
    return best if best and overlap(best.box, box) >= SAME else None


def _mirrored(face: DetectedFace, width: int) -> DetectedFace:
    """A face of a mirrored picture where it is in the picture; its left is its right again."""
    x, y, w, h = face.box
    landmarks = face.landmarks[MIRRORED] * [-1, 1] + [width - 1, 0]
    return replace(face, box=(width - x - w, y, w, h), landmarks=landmarks)


def _turned_back(face: DetectedFace, turns: int, shape: tuple[int, int]) -> DetectedFace:
    """A face of a picture turned `turns` quarters against the clock, in the picture of `shape` before."""
    x, y, w, h = face.box
    points = face.landmarks
    for n in range(turns, 0, -1):
        width = shape[1] if n % 2 else shape[0]  # of the picture before this turn
        x, y, w, h = width - y - h, x, h, w
        points = np.stack([width - 1 - points[:, 1], points[:, 0]], 1)
    return replace(face, box=(x, y, w, h), landmarks=points)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences OpenCV's warning that its graph engine takes no target; errors are still printed."""
    log = cv2.utils.logging
    level = log.setLogLevel(log.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        log.setLogLevel(level)
