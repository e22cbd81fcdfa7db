"""Tags for a photo from a WD14 tagger: an ONNX file with sigmoid outputs, and the list of what they mean."""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from calotype.errors import CalotypeError, Remedy

MODEL, TAGS = "model.onnx", "selected_tags.csv"
GENERAL, CHARACTER = 0, 4  # categories in the list; the rest are ratings
KEPT = 3  # names up to so many letters are faces such as ^_^, whose underscores stay; as in sd-scripts


@dataclass(frozen=True)
class Tag:
    name: str
    category: int


class Tagger:
    """`tags(pixels)`; what SmilingWolf's WD14 taggers want: BGR from 0 to 255, (1, side, side, 3)."""

    def __init__(self, path: Path, tags: Path | None = None, threads: int = 0):
        """Raises CalotypeError where onnxruntime is missing, or the files are no WD14 tagger."""
        model = path / MODEL if path.is_dir() else path
        self.list = read_tags(tags or model.with_name(TAGS))
        try:
            import onnxruntime
        except ImportError:
            raise CalotypeError("{option:tagger} needs onnxruntime", remedy=Remedy("install", "tagger")) from None
        if not model.is_file():
            raise CalotypeError("there is no tagger {model}; give its model.onnx, or the folder with it", model=model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])
        except Exception as fault:  # noqa: BLE001  onnxruntime's have no class in common
            raise CalotypeError(
                "{model} cannot be read as an ONNX model ({reason}); fetch it again", model=model, reason=_first(fault)
            ) from None
        [given, *others], [made, *_] = self._session.get_inputs(), self._session.get_outputs()
        shape = list(given.shape)
        if others or len(shape) != 4 or shape[3] != 3 or not isinstance(shape[1], int) or shape[1] != shape[2]:
            raise CalotypeError(
                "{model} is no WD14 tagger: it takes {shape}, not squares of (height, width, 3)",
                model=model,
                shape=shape,
            )
        if isinstance(made.shape[-1], int) and made.shape[-1] != len(self.list):
            raise CalotypeError(
                "{model} knows {known} tags, the list has {count}; give the list that belongs to it with "
                "{option:tagger_tags}",
                model=model,
                known=made.shape[-1],
                count=len(self.list),
            )
        self.side, self._input, self._output = shape[1], given.name, made.name

    def tags(
        self,
        pixels: np.ndarray,
        threshold: float = 0.35,
        character: float = 0.85,
        without: frozenset[str] = frozenset(),
    ) -> list[str]:
        """Names with spaces for underscores: figures first, then what is surest.

        Args:
            pixels: (H, W, 3) uint8, RGB.
            threshold: how sure, from 0 to 1; `character` for figures known by name.
            without: names that are left out.
        """
        answer = self._session.run([self._output], {self._input: _squared(pixels, self.side)})[0][0]
        wanted = {GENERAL: threshold, CHARACTER: character}
        sure = [
            (tag, float(score))
            for tag, score in zip(self.list, answer, strict=True)
            if tag.category in wanted and score >= wanted[tag.category]
        ]
        sure.sort(key=lambda one: (one[0].category != CHARACTER, -one[1]))
        return [tag.name for tag, _ in sure if tag.name.casefold() not in without]


def read_tags(path: Path) -> list[Tag]:
    """tag_id, name, category, count; in the order of the outputs. Raises CalotypeError."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return [Tag(spaced(row["name"]), int(row["category"])) for row in csv.DictReader(file)]
    except OSError as fault:
        raise CalotypeError(
            "the tagger's list {path} cannot be read: {reason}; give {option:tagger_tags}",
            path=path,
            reason=fault.strerror,
        ) from None
    except (KeyError, ValueError, TypeError, csv.Error):
        raise CalotypeError("{path} is no list of tags: it wants the columns name and category", path=path) from None


def spaced(name: str) -> str:
    """A tag as captions have it."""
    return name.replace("_", " ") if len(name) > KEPT else name


def _squared(pixels: np.ndarray, side: int) -> np.ndarray:
    """(1, side, side, 3) float32 BGR, white around what is not square."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    scaled = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    canvas = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = scaled
    return np.ascontiguousarray(canvas[None, ..., ::-1], np.float32)


def _first(fault: Exception) -> str:
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0][:100]
