"""Gathers the report while a batch runs; thumbnails wait in a nameless file on disk, not in memory."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from PIL import Image

from calotype import html
from calotype.errors import PLAIN, CalotypeError, Message, Wording, duration, plural, reason_of, recognized
from calotype.files import atomic_file, make_folder, readable
from calotype.measures import Measure, figure
from calotype.outputs.compare import Window, fitted_to, shown, shown_pixels
from calotype.outputs.numbered import draw_boxes
from calotype.picture import Picture
from calotype.picture.notes import as_message
from calotype.record import REASONS, FaceRecord, Record, Result, fact_text, fact_title, has_fact
from calotype.tasks.events import Failed

LARGE, SMALL, FACE = 1400, 640, 256  # longer sides in the page: a picture, the overview of faces, a face
MARGIN = 0.45  # of a face's box, shown around it


class Report:
    """`with Report(path) as report: report.add(...)`: the page appears whole at the end, also after an interruption."""

    def __init__(self, path: Path, wording: Wording = PLAIN):
        self.path, self.wording, self.is_written = path, wording, False
        self._cards: IO[str] | None = None
        self._pictures = self._failures = self._face_count = 0

    def __enter__(self) -> "Report":
        """Raises CalotypeError where a file that isn't a report of ours is in the way, or nothing can be written."""
        _check_path(self.path)
        self._cards = tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._pictures or self._failures:
                self._write()
        finally:
            self._cards.close()

    def add(self, source: Path, target: Path, result: Result, seconds: float | None = None) -> None:
        """A finished picture. `seconds`: None for one that was done in an earlier run."""
        self._add(source, target, result.before, result.picture, result.record, seconds, result.uncertainty)

    def add_files(self, source: Path, target: Path, record: Record, max_pixels: int) -> None:
        """A picture that was done in an earlier run, read from its files."""
        page, damaged_file = record.options.get("page", 0), record.options.get("damaged_file")
        before = Picture.open(source, max_pixels, page, damaged_file)
        self._add(source, target, before, Picture.open(target, 2**62), record, None, None)

    def add_failure(self, failed: Failed) -> None:
        self._failures += 1
        heading = "" if failed.names_file else readable(Path(failed.source).name)
        cause = readable(self.wording.fill(failed.cause))
        self._cards.write(html.render("album_failure.html", self.wording, name=heading, cause=cause))

    def _add(
        self,
        source: Path,
        target: Path,
        before: Picture,
        after: Picture,
        record: Record,
        seconds: float | None,
        uncertainty: np.ndarray | None,
    ) -> None:
        self._pictures += 1
        self._face_count += len(record.faces)
        large = shown(after, LARGE)
        plain = fitted_to(shown(before, LARGE), large.size)
        card = html.render(
            "album_picture.html",
            self.wording,
            name=readable(source.name),
            lead=self.wording.fill(_lead(target, before, after, seconds)),
            before=html.encode_jpeg(plain),
            after=html.encode_jpeg(large),
            size=large.size,
            uncertainty=None if uncertainty is None else html.encode_jpeg(shown_pixels(uncertainty, LARGE)),
            notes=[readable(self.wording.fill(as_message(note))) for note in record.notes],
            measures=[self._measure(measure) for measure in record.measures],
            rows=self._rows(record),
            **self._faces(before, after, record.faces),
        )
        self._cards.write(card)

    def _write(self) -> None:
        with atomic_file(self.path, option="report") as file:
            title, lead = self.wording.translate("Before and after"), self._counted()
            for text in html.render_chunks(
                "album.html", self.wording, title=title, lead=lead, cards=self._read_cards()
            ):
                file.write(text.encode("utf-8", "backslashreplace"))
        self.is_written = True

    def _read_cards(self) -> Iterator[str]:
        self._cards.seek(0)
        while chunk := self._cards.read(1 << 20):
            yield html.as_markup(chunk)

    def _counted(self) -> str:
        parts = [
            plural(self._pictures, "1 picture", "{count} pictures"),
            plural(self._face_count, "1 face", "{count} faces"),
        ]
        parts += [Message("{count} not done", count=self._failures)] if self._failures else []
        date = time.strftime(self.wording.translate("%d %B %Y"))
        return f"{self.wording.translate(', ').join(map(self.wording.fill, parts))} · {date}"

    def _faces(self, before: Picture, after: Picture, faces: tuple[FaceRecord, ...]) -> dict[str, Any]:
        """What the card says of faces: an overview with numbered boxes, and each of them before and after."""
        if not faces:
            return {"faces": []}
        found = plural(len(faces), "1 face", "{count} faces")
        title = Message("{faces} found, {restored} restored", faces=found, restored=sum(face.treated for face in faces))
        return {
            "faces": [self._face(before, after, face) for face in faces],
            "faces_title": self.wording.fill(title),
            "overview": html.encode_jpeg(_overview(before, faces)),
        }

    def _face(self, before: Picture, after: Picture, face: FaceRecord) -> dict[str, Any]:
        height, width = before.pixels.shape[:2]
        window = _around(face)
        scale = after.pixels.shape[0] / height, after.pixels.shape[1] / width
        crops = [
            shown(picture, FACE, window.clipped(*picture.pixels.shape[:2], by))
            for picture, by in ((before, (1.0, 1.0)), (after, scale))
        ]
        large = _enlarged(crops[1])
        small = crops[0].resize(large.size, Image.Resampling.BICUBIC)
        return {
            "number": face.number,
            "before": html.encode_jpeg(small),
            "after": html.encode_jpeg(large),
            "lines": [readable(self.wording.fill(line)) for line in _face_lines(face)],
        }

    def _measure(self, measure: Measure) -> dict[str, Any]:
        return {
            "is_beyond": measure.is_beyond,
            "name": self.wording.translate(readable(measure.name)),
            "value": figure(measure.value),
            "threshold": figure(measure.threshold),
            "decision": readable(self.wording.fill(measure.message)),
        }

    def _rows(self, record: Record) -> list[tuple[str, str]]:
        fill = self.wording.fill
        models = [
            (fill(Message("model {name}", name=model.name)), f"sha256 {model.sha256[:16]}…") for model in record.models
        ]
        facts = [
            (self.wording.translate(fact_title(record.task, name)), fact_text(value, self.wording))
            for name, value in (record.options | record.computed).items()
            if has_fact(record.task, name, value)
        ]
        task, source = (
            (self.wording.translate("task"), record.task),
            (self.wording.translate("source sha256"), record.source_sha256),
        )
        return [(readable(name), readable(value)) for name, value in [task, *models, *facts, source]]


def _check_path(path: Path) -> None:
    """Before any work is done, not after it."""
    make_folder(path.parent, "report")
    try:
        with path.open("rb") as file:
            if html.GENERATOR.encode() in file.read(2048):
                return
    except FileNotFoundError:
        return
    except OSError as fault:
        raise CalotypeError(
            "can't write the report {path} ({reason}); give another {option:report}",
            path=readable(path),
            reason=reason_of(fault),
        ) from None
    raise CalotypeError(
        "{path} exists and is no report of Calotype's; give another {option:report}", path=readable(path)
    )


def _lead(target: Path, before: Picture, after: Picture, seconds: float | None) -> Message:
    first, last = (f"{p.pixels.shape[1]} × {p.pixels.shape[0]}" for p in (before, after))
    took = (
        Message("done in an earlier run") if seconds is None else Message("took {duration}", duration=duration(seconds))
    )
    return Message(
        "{first} to {last} pixels · {took} · {name}", first=first, last=last, took=took, name=readable(target.name)
    )


def _enlarged(image: Image.Image) -> Image.Image:
    factor = FACE / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC)


def _around(face: FaceRecord) -> Window:
    """A square around the face, with some of the hair and the neck."""
    x, y, width, height = face.box
    side = max(width, height) * (1 + MARGIN)
    return Window(x + width / 2 - side / 2, y + height / 2 - side / 2, side, side)


def _face_lines(face: FaceRecord) -> list[Message]:
    x, y, width, height = face.box
    reason = recognized(face.why, REASONS) if face.why else Message("as asked")
    alike = [] if face.identity is None else [Message("likeness to the photo {identity:.0%}", identity=face.identity)]
    alike += [Message("blended back to {kept:.0%} of the restoration", kept=face.kept)] if face.kept < 1 else []
    if face.softened < 1:
        alike.append(Message("left softer, at {part:.0%}: the photo shows too little of it", part=face.softened))
    return [
        Message("{width:.0f} × {height:.0f} pixels at {x:z.0f}, {y:z.0f}", width=width, height=height, x=x, y=y),
        Message("the detector is {confidence:.0%} sure", confidence=face.confidence),
        Message("restored, strength {strength:g}", strength=face.strength)
        if face.treated
        else Message("left alone: {reason}", reason=reason),
        *alike,
    ]


def _overview(before: Picture, faces: tuple[FaceRecord, ...]) -> Image.Image:
    """The picture before, each face in a numbered box."""
    image = shown(before, SMALL)
    factor = SMALL / max(image.size)
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    factor = image.width / before.pixels.shape[1]
    draw_boxes(image, ((face.number, tuple(v * factor for v in face.box)) for face in faces), SMALL // 24)
    return image
