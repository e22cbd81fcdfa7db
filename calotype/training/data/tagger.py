"""Tags of a photo from a WD14 tagger: an ONNX model with sigmoid outputs, and the list of its tags."""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from calotype.errors import CalotypeError, Remedy, reason_of

MODEL, TAGS = "model.onnx", "selected_tags.csv"
GENERAL, CHARACTER = 0, 4  # categories in selected_tags.csv; the others are ratings
MAX_EMOTICON = 3  # characters; names up to this length, as ^_^, keep underscores, as in sd-scripts


@dataclass(frozen=True)
class Tag:
    name: str
    category: int


class Tagger:
    """`tags(pixels)`; SmilingWolf's WD14 taggers take BGR from 0 to 255, (1, side, side, 3)."""

    def __init__(self, path: Path, tags: Path | None = None, threads: int = 0):
        """Raises CalotypeError if onnxruntime is missing, or the files are not a WD14 tagger."""
        model = path / MODEL if path.is_dir() else path
        self.list = read_tags(tags or model.with_name(TAGS))
        try:
            import onnxruntime
        except ImportError:
            raise CalotypeError("{option:tagger} needs onnxruntime", remedy=Remedy("install", "tagger")) from None
        if not model.is_file():
            raise CalotypeError(
                "the tagger {model} does not exist; give its model.onnx, or the folder with it", model=model
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  onnxruntime's exceptions have no common base class
            raise CalotypeError(
                "{model} cannot be read as an ONNX model ({reason}); download it again",
                model=model,
                reason=_first_line(error),
            ) from None
        [input_, *more_inputs], [output, *_] = self._session.get_inputs(), self._session.get_outputs()
        shape = list(input_.shape)
        if more_inputs or len(shape) != 4 or shape[3] != 3 or not isinstance(shape[1], int) or shape[1] != shape[2]:
            raise CalotypeError(
                "{model} is not a WD14 tagger: its input is {shape}, not (batch, side, side, 3)",
                model=model,
                shape=shape,
            )
        if isinstance(output.shape[-1], int) and output.shape[-1] != len(self.list):
            raise CalotypeError(
                "{model} has {known} outputs, the list has {count} tags; give the list that belongs to it with "
                "{option:tagger_tags}",
                model=model,
                known=output.shape[-1],
                count=len(self.list),
            )
        self.side, self._input, self._output = shape[1], input_.name, output.name

    def tags(
        self,
        pixels: np.ndarray,
        threshold: float = 0.35,
        character: float = 0.85,
        without: frozenset[str] = frozenset(),
    ) -> list[str]:
        """Names with spaces for underscores: characters first, then by descending confidence.

        Args:
            pixels: (H, W, 3) uint8, RGB.
            threshold: minimum confidence in [0, 1]; `character` is that of tags of named characters.
            without: names that are left out.
        """
        scores = self._session.run([self._output], {self._input: _squared(pixels, self.side)})[0][0]
        thresholds = {GENERAL: threshold, CHARACTER: character}
        found = [
            (tag, float(score))
            for tag, score in zip(self.list, scores, strict=True)
            if tag.category in thresholds and score >= thresholds[tag.category]
        ]
        found.sort(key=lambda item: (item[0].category != CHARACTER, -item[1]))
        return [tag.name for tag, _ in found if tag.name.casefold() not in without]


def read_tags(path: Path) -> list[Tag]:
    """tag_id, name, category, count; in the order of the outputs. Raises CalotypeError."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return [Tag(spaced(row["name"]), int(row["category"])) for row in csv.DictReader(file)]
    except OSError as error:
        raise CalotypeError(
            "the tagger's list {path} cannot be read: {reason}; give {option:tagger_tags}",
            path=path,
            reason=reason_of(error),
        ) from None
    except (KeyError, ValueError, TypeError, csv.Error):
        raise CalotypeError("{path} is not a list of tags: it needs the columns name and category", path=path) from None


def spaced(name: str) -> str:
    """A tag as it is written in captions."""
    return name.replace("_", " ") if len(name) > MAX_EMOTICON else name


def _squared(pixels: np.ndarray, side: int) -> np.ndarray:
    """(1, side, side, 3) float32 BGR, padded to a square with white."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    scaled = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    canvas = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = scaled
    return np.ascontiguousarray(canvas[None, ..., ::-1], np.float32)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
