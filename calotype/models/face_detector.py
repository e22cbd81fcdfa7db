"""Face detection with YuNet: boxes and five landmarks."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from calotype.errors import CalotypeError

SIDES = (1280, 480)  # long sides at which to detect: large faces are only found in the small picture
MIN_CONFIDENCE = 0.5  # faces below this confidence are not returned
CONFIDENT = 0.7  # confidence from which a detection counts as a face
SAME_IOU = 0.4  # IoU from which two boxes are the same face
CROP_SCALE = 2.0  # width of the crop for refining landmarks, as a multiple of the face's
LANDMARK_WIDTHS = (64, 72, 80, 88)  # face widths in pixels with the most exact landmarks, measured; their errors differ
UPRIGHT_CONFIDENCE = 0.925  # upright faces mostly reach this, rotated ones and what is no face never did
SURE = 0.82  # mean confidence over crops from which a face shows which side is up; 0.75 at most where there was none
CLEARLY = 0.02  # by how much it must exceed that of the same face in each other orientation; 0.028 at least, measured
VOTERS = 8  # faces of each orientation that are looked at for that, the most confident ones
MAX_CANDIDATES = 5000  # per detection
MIRRORED = [1, 0, 2, 4, 3]  # order of the landmarks in a mirrored picture


@dataclass(frozen=True, eq=False)
class DetectedFace:
    """One face, in pixels of the picture; pixel centres lie at whole numbers."""

    box: tuple[float, float, float, float]  # x, y, width, height; may reach beyond the picture's edge
    landmarks: (
        np.ndarray
    )  # (5, 2) float64 x, y: eye, eye, nose, mouth corner, mouth corner; left first in the upright face
    confidence: float  # 0 to 1


# A face in several crops: its landmarks in pixels of the picture, its box in pixels of the crop.
_Matches = list[DetectedFace | None]


class Detector:
    """`find` may be called from several threads."""

    def __init__(self, onnx_path: Path):
        """Raises CalotypeError if the file cannot be read as YuNet."""
        try:
            data = np.fromfile(onnx_path, dtype=np.uint8)
            with _opencv_errors_only():
                self._yunet = cv2.FaceDetectorYN.create(
                    "onnx", data, np.empty(0, np.uint8), (320, 320), MIN_CONFIDENCE, 0.3, MAX_CANDIDATES
                )
        except (OSError, cv2.error):
            raise CalotypeError(
                "{path} cannot be read as the YuNet face detector; install it again", path=onnx_path
            ) from None
        self._lock = threading.Lock()

    def find(self, pixels: np.ndarray) -> list[DetectedFace]:
        """All faces with a confidence of 0.5 or more, in descending order.

        Where faces may be rotated, detection is repeated on the picture rotated by 90, 180 and 270 degrees: YuNet finds
        such faces too, but with wrong landmarks.

        Args:
            pixels: (H, W, 3) uint8, RGB.
        """
        picture = np.ascontiguousarray(pixels[..., ::-1])  # YuNet was trained on BGR
        turns, faces, known = self._find_upright(picture)
        turned = np.ascontiguousarray(np.rot90(picture, turns))
        matches = chain(known, (self._matches(turned, face) for face in faces[len(known) :]))
        fine = map(_refined, faces, matches)
        return [_turned_back(face, turns, picture.shape[:2]) for face in fine]

    def upright_turns(self, pixels: np.ndarray) -> int:
        """Counterclockwise quarter turns after which the faces of a picture are upright; 0 where that isn't sure.

        Args:
            pixels: (H, W, 3) uint8, RGB.
        """
        return self._find_upright(np.ascontiguousarray(pixels[..., ::-1]))[0]

    def _find_upright(self, picture: np.ndarray) -> tuple[int, list[DetectedFace], list[_Matches]]:
        """Counterclockwise quarter turns that make the picture's faces upright, and the faces after them.

        Last, what is known already of where the first ones of them are in crops.
        """
        found, views = [], []
        for turns in range(4):
            turned = np.ascontiguousarray(np.rot90(picture, turns))
            faces = self._detect_at_sizes(turned)
            if not turns and faces and faces[0].confidence >= UPRIGHT_CONFIDENCE:
                return 0, faces, []
            matches = [self._matches(turned, face) for face in faces[:VOTERS]]
            found.append((faces, matches))
            for face, own in zip(faces, matches, strict=False):
                views.append(_View(turns, _turned_back(face, turns, picture.shape[:2]).box, _sureness(own)))
        votes = _votes(views)
        turns = votes.index(max(votes)) if votes.count(max(votes)) == 1 else 0
        return turns, *found[turns]

    def _detect_at_sizes(self, picture: np.ndarray) -> list[DetectedFace]:
        long = max(picture.shape[:2])
        scales = {min(1.0, side / long) for side in SIDES}
        if long < SIDES[1]:
            scales.add(2.0)  # faces of some 10 pixels are only found enlarged
        return _deduplicated(face for scale in sorted(scales) for face in self._detect(picture, scale))

    def _detect(self, picture: np.ndarray, scale: float) -> list[DetectedFace]:
        """Detects the faces in a (H, W, 3) BGR picture at one scale."""
        height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
        small = picture
        if (height, width) != picture.shape[:2]:
            interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            small = cv2.resize(picture, (width, height), interpolation=interpolation)
        with self._lock, _opencv_errors_only():
            self._yunet.setInputSize((width, height))
            rows = self._yunet.detect(small)[1]
        ratio = np.array([picture.shape[1] / width, picture.shape[0] / height])
        return [_parse_row(row, ratio) for row in ([] if rows is None else rows.astype(np.float64))]

    def _matches(self, picture: np.ndarray, face: DetectedFace) -> _Matches:
        """The face in a crop at each of `LANDMARK_WIDTHS`, also mirrored; None where it is not found."""
        crop, corner = _crop_around(picture, face)
        box = (face.box[0] - corner[0], face.box[1] - corner[1], *face.box[2:])
        matches = []
        for width in LANDMARK_WIDTHS:
            scale = width / face.box[2]
            matches.append(_nearest(self._detect(crop, scale), box))
            mirrored = self._detect(crop[:, ::-1].copy(), scale)
            matches.append(_nearest([_mirrored(found, crop.shape[1]) for found in mirrored], box))
        return [match and replace(match, landmarks=match.landmarks + corner) for match in matches]


def _sureness(matches: _Matches) -> float:
    """Mean confidence over the crops, 0 where the face isn't found in one.

    What only looks like a face, or lies turned, is found in some of them; an upright face is found in all.
    """
    return float(np.mean([match.confidence if match else 0.0 for match in matches]))


def _refined(face: DetectedFace, matches: _Matches) -> DetectedFace:
    """The face with the mean of the landmarks that it has in the crops."""
    landmarks = [match.landmarks for match in matches if match]
    return replace(face, landmarks=np.mean(landmarks, 0)) if landmarks else face


@dataclass(frozen=True)
class _View:
    """A face as it is found in one orientation of a picture.

    turns: counterclockwise quarters by which the picture was turned.
    box: in pixels of the picture as it was.
    """

    turns: int
    box: tuple[float, ...]
    sureness: float


def _votes(views: list[_View]) -> list[int]:
    """How many faces are upright after 0, 1, 2 and 3 turns; each counts once, and only where it is sure of that."""
    votes = [0] * 4
    for view in views:
        overlapping = [match for match in views if match is not view and iou(match.box, view.box) >= SAME_IOU]
        if view.sureness >= SURE and all(match.sureness < view.sureness - CLEARLY for match in overlapping):
            votes[view.turns] += 1
    return votes


def _crop_around(picture: np.ndarray, face: DetectedFace) -> tuple[np.ndarray, np.ndarray]:
    """A square crop around a face, padded by replicating the edge, and the (2,) position of its corner."""
    x, y, w, h = face.box
    side = max(16, round(CROP_SCALE * max(w, h)))
    corner = np.round([x + w / 2 - side / 2, y + h / 2 - side / 2])
    move = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]])
    return cv2.warpAffine(picture, move, (side, side), borderMode=cv2.BORDER_REPLICATE), corner


def _parse_row(row: np.ndarray, ratio: np.ndarray) -> DetectedFace:
    """A row of YuNet's output in the pixels of the unscaled picture; pixel centres keep their positions."""
    x, y, w, h = row[:4] * np.tile(ratio, 2)
    landmarks = (row[4:14].reshape(5, 2) + 0.5) * ratio - 0.5
    return DetectedFace((float(x), float(y), float(w), float(h)), landmarks, float(min(row[14], 1.0)))


def _deduplicated(faces: Iterable[DetectedFace]) -> list[DetectedFace]:
    unique: list[DetectedFace] = []
    for face in sorted(faces, key=lambda f: (-f.confidence, f.box)):
        if face.box[2] > 0 and face.box[3] > 0 and all(iou(face.box, known.box) < SAME_IOU for known in unique):
            unique.append(face)
    return unique


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    intersection = max(0.0, right - left) * max(0.0, bottom - top)
    return intersection / (a[2] * a[3] + b[2] * b[3] - intersection)


def _nearest(faces: list[DetectedFace], box: tuple[float, ...]) -> DetectedFace | None:
    """The face with the highest IoU with this box; None below `SAME_IOU`."""
    best = max(faces, key=lambda face: iou(face.box, box), default=None)
    return best if best and iou(best.box, box) >= SAME_IOU else None


def _mirrored(face: DetectedFace, width: int) -> DetectedFace:
    """A face of a mirrored picture in the coordinates of the original; left and right are swapped back."""
    x, y, w, h = face.box
    landmarks = face.landmarks[MIRRORED] * [-1, 1] + [width - 1, 0]
    return replace(face, box=(width - x - w, y, w, h), landmarks=landmarks)


def _turned_back(face: DetectedFace, turns: int, shape: tuple[int, int]) -> DetectedFace:
    """A face of a picture rotated by `turns` counterclockwise quarters, in the original picture of `shape`."""
    x, y, w, h = face.box
    points = face.landmarks
    for n in range(turns, 0, -1):
        width = shape[1] if n % 2 else shape[0]  # of the picture before this turn
        x, y, w, h = width - y - h, x, h, w
        points = np.stack([width - 1 - points[:, 1], points[:, 0]], 1)
    return replace(face, box=(x, y, w, h), landmarks=points)


@contextmanager
def _opencv_errors_only() -> Iterator[None]:
    """Silences OpenCV's warning about its graph engine's targets; errors are still printed."""
    log = cv2.utils.logging
    level = log.setLogLevel(log.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        log.setLogLevel(level)
