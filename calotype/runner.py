"""Runs a request through the engine to files and events. Interfaces build the request and show the events; a worker
stores them.

Closing the generator cancels within one tile or step; KeyboardInterrupt, raised or thrown into it, stops the run, and
the last event is still yielded, with `Finished.interrupted`.
"""

import contextlib
import io
import os
import time
import traceback
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype import out_of_process
from calotype.checkpoints.entries import AUTO_SCALE
from calotype.checks import check
from calotype.engine import Engine
from calotype.errors import PLAIN, CalotypeError, DoesNotFit, Message, PictureError, Wording, named
from calotype.files import readable
from calotype.html import encode_jpeg
from calotype.outputs.drawings import DrawingPaths, save_drawing
from calotype.outputs.inputs import Item, in_another_format, pictures_in, plan
from calotype.outputs.masks import with_masks
from calotype.outputs.model_hashes import CurrentHashes
from calotype.outputs.names import comparison_of, format_of, key, mask_of, pictures_beside, uncertainty_of
from calotype.outputs.reproduce import Reproduction, compared
from calotype.outputs.save import SavedFile, check_disk_space, check_overwrites, save_result
from calotype.outputs.sidecar import Existing, existing_result, sha256_of, sidecar_of, write_sidecar
from calotype.overlap import WAIT, Overlap
from calotype.tasks import FindFaces, Imagine, Restore, Saving, Split, Upscale, kind_of
from calotype.tasks.events import (
    Drawing,
    Event,
    Failed,
    Finished,
    ItemStarted,
    Learning,
    Note,
    Preview,
    Progress,
    Sampled,
    Saved,
    Skipped,
    Started,
)
from calotype.tasks.limits import Limits
from calotype.tasks.output import Album, DrawingOutput
from calotype.tasks.pictures import PHOTO_COUNT

FIRST_PHOTO = "-01"  # in the name of the first photo of a scan

if TYPE_CHECKING:
    from calotype.outputs.report import Report
    from calotype.picture.decoder import ReadAhead
    from calotype.record import Film, Record, Result

PREVIEW_QUALITY = 80  # of the JPEG
PREVIEW_SIDE = 1024  # of a restored picture
AHEAD_PIXELS = 50_000_000  # larger pictures are not decoded before it is their turn
LARGEST_SCALE = 16  # of a network; used only to find out whether the scale matters


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        tasks: of one kind. Restoring and upscaling take one; its source is replaced by each of the inputs.
        inputs: files, folders and patterns of pictures to restore, upscale or examine; empty: the task's own source.
        is_list: a failed picture does not stop the remaining ones.
        last_only: save only the last picture: the grid, when one is reproduced.
        source_name: what the record calls the source, when a result is reproduced from a renamed one; empty: its name.
    """

    tasks: tuple[Any, ...]
    inputs: tuple[str | Path, ...] = ()
    is_list: bool = False
    last_only: bool = False
    source_name: str = ""
    limits: Limits | None = None  # of an untrusted request; initial pictures count too

    @property
    def task(self) -> Any:
        return self.tasks[0]


def run(
    request: Request,
    engine: Engine,
    output: Album | DrawingOutput | None = None,
    *,
    preview_every: float | None = None,
    wording: Wording = PLAIN,
) -> Iterator[Event]:
    """Runs a request and saves its results.

    Errors in the request, its models and folders are raised before anything is computed, and before torch is imported;
    a picture that cannot be read becomes a `Failed`.

    Args:
        output: where pictures are written; other tasks define it themselves.
        preview_every: seconds between two previews of a picture that is being generated; None: no previews, also none
            of the samples of a training run.
        wording: of the interface, for the report, which is written during the run.
    Raises:
        CalotypeError: bad usage, or a model that cannot be opened: nothing was done.
        PictureError: the only picture of the run failed before any work. Anything but a CalotypeError is a bug; in a
            run over several pictures that picture fails, and the traceback is in the next note.
    """
    if _opens_pictures(request.task):
        out_of_process.start()  # it imports the decoders while this process imports torch
    if isinstance(request.task, Saving):
        yield from (_SplitRun if isinstance(request.task, Split) else _AlbumRun)(
            request, engine, output or Album(), wording, has_previews=preview_every is not None
        ).events()
    elif isinstance(request.task, Imagine):
        yield from _DrawingRun(request, engine, output or DrawingOutput(), preview_every).events()
    elif isinstance(request.task, FindFaces) and request.inputs:
        yield from _Examination(request, engine, output or Album()).events()
    elif kind_of(request.task) == "caption":
        yield from _run_captions(request, engine)
    else:
        yield from _run_single(request, engine, has_previews=preview_every is not None)


def again(reproduction: Reproduction, engine: Engine, *, wording: Wording = PLAIN) -> Iterator[Event]:
    """Reproduces a result, and compares its bytes, unless it has other options."""
    target = source = ""
    yield from (Note(message, str(reproduction.path)) for message in reproduction.notes)
    is_compared = reproduction.stored is not None and not reproduction.is_changed
    name = reproduction.stored.record.source_name if is_compared else ""
    request = Request((reproduction.task,), last_only=True, source_name=name)
    for event in run(request, engine, reproduction.output, wording=wording):
        if isinstance(event, Saved | Skipped):
            target, source = event.target, event.source
        yield event
    if target and is_compared:
        yield compared(reproduction.stored, Path(target), "" if reproduction.is_drawn else source)


def _opens_pictures(task: Any) -> bool:
    return any(getattr(task, name, None) is not None for name in ("source", "photos", "init"))


class _PictureRun:
    """Base of runs over pictures: counts, failures, the last event."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.started = time.monotonic()
        self.done = self.skipped = 0
        self.failures: list[Failed] = []

    def failed(self, source: str, cause: CalotypeError | Message) -> Iterator[Event]:
        self.failures.append(Failed(source, cause))
        yield self.failures[-1]

    def broken(self, source: str, bug: Exception) -> Iterator[Event]:
        """A bug: this picture fails, the traceback is reported, and the run continues."""
        text = Message("an error in Calotype itself: {kind}: {bug}", kind=type(bug).__name__, bug=str(bug))
        yield from self.failed(source, text)
        yield Note(Message("{source}:\n{traceback}", source=source, traceback=traceback.format_exc()))

    def finished(
        self, pictures: int, interrupted: bool, report: Path | None = None, is_drawn: bool = False
    ) -> Finished:
        seconds = round(time.monotonic() - self.started, 2)
        report_path = str(report) if report else None
        return Finished(
            pictures, self.done, self.skipped, tuple(self.failures), seconds, interrupted, report_path, is_drawn
        )


class _AlbumRun(_PictureRun):
    """Restores or upscales pictures one by one; a failed one does not stop the run.

    While the networks work on a picture, the one before is written and the next one decoded.
    """

    def __init__(self, request: Request, engine: Engine, album: Album, wording: Wording, *, has_previews: bool = False):
        super().__init__(engine)
        self._has_previews = has_previews
        self.task, self.album, self.wording = request.task, album, wording
        self._source_name = request.source_name
        check(self.task, engine.settings, request.limits)
        self._beside = pictures_beside(self.task, album)
        inputs, max_pixels = request.inputs or (self.task.source,), engine.settings.max_pixels
        self.plan = with_masks(plan(inputs, self._named(album), self.task.format, max_pixels, self._beside), self.task)
        self.hashes = CurrentHashes(engine.settings)
        self.report: Report | None = None
        self.topics: set[str] = set()
        self._overlap = Overlap("calotype-save")
        self._targets = {item.target for item in self.plan.items}
        self._next: Item | None = None
        self._ahead: ReadAhead | None = None

    def _named(self, album: Album) -> Album:
        """The album with the names that results are planned by."""
        return album

    def events(self) -> Iterator[Event]:
        items, interrupted = self.plan.items, False
        yield Started(len(items), str(self.album.out))
        yield from map(Note, self.plan.notes)
        with contextlib.closing(self._overlap), self._open_report():
            try:
                for item, self._next in zip(items, (*items[1:], None), strict=True):
                    yield from self._overlap.passed_on(self._process(item))
                yield from self._overlap.finish()
            except KeyboardInterrupt:
                interrupted = True
                yield from self._overlap.stop()
            finally:
                self._forget_ahead()
        is_written = self.report is not None and self.report.is_written
        yield self.finished(len(items), interrupted, self.album.report if is_written else None)

    @contextlib.contextmanager
    def _open_report(self) -> Iterator[None]:
        if self.album.report is None:
            yield
            return
        from calotype.outputs.report import Report

        with Report(self.album.report, self.wording) as self.report:
            yield

    def _process(self, item: Item) -> Iterator[Event]:
        """The events of a picture, and `WAIT`, until it is being written."""
        yield ItemStarted(str(item.source), str(item.target))
        yield from self._guarded(item, self._restore(item))

    def _guarded(self, item: Item, events: Iterator[Event]) -> Iterator[Event]:
        """The events of a picture; errors become events."""
        source = str(item.source)
        try:
            yield from events
        except PictureError as fault:
            yield WAIT
            yield from self._record_failure(self.failed(source, fault))
        except CalotypeError as fault:
            yield WAIT
            if not (self.done or self.skipped or self.failures):  # such as for a missing model: all would fail
                raise
            yield from self._record_failure(self.failed(source, fault))
        except MemoryError:
            yield WAIT
            text = Message("there is not enough memory for it; close other programs or make it smaller")
            yield from self._record_failure(self.failed(source, text))
        except Exception as bug:  # noqa: BLE001  the run continues
            yield WAIT
            yield from self._record_failure(self.broken(source, bug))

    def _record_failure(self, events: Iterator[Event]) -> Iterator[Event]:
        yield from events
        if self.report:
            self.report.add_failure(self.failures[-1])

    def _restore(self, item: Item) -> Iterator[Event]:
        if item.fault:
            raise PictureError(item.fault)
        if self._ahead:
            self._ahead.wait()  # so that one process is enough for decoding
        task = _with_time_limit(item.task_of(self.task, self._page(item)), len(self.plan.items))
        item = yield from self._checked(item, task)
        if item is None:
            return
        if not self.engine.is_loaded:
            from calotype.picture import Picture

            # a damaged one fails before torch is loaded
            Picture.open(task.source, self.engine.settings.max_pixels, task.page, task.damaged_file)
        started = time.monotonic()
        with contextlib.closing(self.engine.run(task)) as steps:
            for step in steps:
                if isinstance(step, Note) and step.topic:
                    if step.topic in self.topics:
                        continue
                    self.topics.add(step.topic)
                if isinstance(step, Progress):  # this picture is decoded
                    self._read_ahead()
                if isinstance(step, Drawing):
                    yield from [Preview(str(item.source), _jpeg(step.look()))] if self._has_previews else ()
                elif isinstance(step, Progress | Note):
                    yield replace(step, source=str(item.source))
                else:
                    yield from self._write(item, task, step.with_source_name(self._source_name), started)
                    started = time.monotonic()

    def _checked(self, item: Item, task: Any) -> Generator[Event, None, Item | None]:
        """The picture with the place of its result, before any work; None where that is done already.

        Raises:
            CalotypeError: something else is at that place, or the disk is full.
        """
        existing = existing_result(item.target, task, self.hashes.models)
        if not existing.stored and (size := self._size_beyond_format(item, task)):
            item = yield from self._in_large_format(item, size)
            existing = existing_result(item.target, task, self.hashes.models)
        if existing.stored and not self._lacks_picture(item, existing.stored.record):
            yield self._skip(item, existing.stored.record)
            return None
        self._check_place(item, existing)
        check_disk_space(item.target.parent)
        return item

    def _check_place(self, item: Item, existing: Existing) -> None:
        """Raises CalotypeError if writing a result overwrites something else."""
        if existing.fault and not self.album.overwrite:
            raise PictureError(existing.fault)
        check_overwrites(item, self.album, self._beside)

    def _write(self, item: Item, task: Any, result: "Result", started: float) -> Iterator[Event]:
        """Begins to write a result, when the one before is written."""
        yield WAIT
        self._overlap.begin(
            partial(save_result, result, item, task, self.album),
            lambda file: self._guarded(item, self._saved(item, task, result, started, file)),
        )

    def _lacks_picture(self, item: Item, record: "Record") -> bool:
        """Whether a result that is done already is made again for a picture beside it: of what was invented, or of what
        was repaired."""
        needed = {mask_of} | {uncertainty_of for face in record.faces if face.treated}
        return any(path_of in needed and not path_of(item.target).exists() for path_of in self._beside)

    def _page(self, item: Item) -> int:
        return item.page or self.task.page

    def _read_ahead(self) -> None:
        """Begins to decode the next picture, unless it may be skipped, or is written by this run."""
        item, self._next = self._next, None
        if item is None or item.fault or os.path.lexists(item.target) or item.source in self._targets:
            return
        from calotype.picture import Picture

        self._forget_ahead()
        max_pixels, page = self.engine.settings.max_pixels, self._page(item)
        self._ahead = Picture.open_ahead(item.source, max_pixels, page, self.task.damaged_file, limit=AHEAD_PIXELS)

    def _forget_ahead(self) -> None:
        if self._ahead:
            self._ahead.forget()
            self._ahead = None

    def _size_beyond_format(self, item: Item, task: Any) -> tuple[int, int] | None:
        """Height and width of the result if its format cannot store them."""
        from calotype.picture import scaled_size, size_of
        from calotype.picture.save import check_size

        if isinstance(task, Restore) and task.aligned:
            return None
        scale = getattr(task, "scale", 1)
        format, max_pixels = format_of(item.target), self.engine.settings.max_pixels
        source = size_of(task.source, max_pixels, task.page, damaged_file=True)
        try:
            check_size(scaled_size(source, scale or LARGEST_SCALE), format, item.target.name)
            return None
        except DoesNotFit:
            size = scaled_size(source, scale or self._own_scale(task))
        try:
            check_size(size, format, item.target.name)
            return None
        except DoesNotFit:
            if not self._may_change_format:
                raise
            return size

    def _own_scale(self, task: Upscale) -> int:
        return AUTO_SCALE if task.is_automatic else self.engine.models.upscaler(task.model, task.denoise).scale

    @property
    def _may_change_format(self) -> bool:
        names_file = format_of(self.album.out) is not None and not self.album.out.is_dir()
        return self.task.format == "auto" and not names_file

    def _in_large_format(self, item: Item, size: tuple[int, int]) -> Iterator[Event]:
        """The item with a format that can store the result; a note says so."""
        from calotype.picture.save import large_format

        format = large_format(size)
        text = "a result of {width}x{height} pixels is too large for {old}: it is saved as {new}"
        old, new = (name.upper() for name in (format_of(item.target), format))
        yield Note(Message(text, width=size[1], height=size[0], old=old, new=new), str(item.source))
        return in_another_format(item, self.plan.items, self.album, format, self._beside)

    def _skip(self, item: Item, record: "Record") -> Skipped:
        """Done already; writes the sidecar and comparison that an interrupted run may have missed."""
        if self.album.sidecar and not sidecar_of(item.target).is_file():
            write_sidecar(record, item.source, item.target, sha256_of(item.target))
        if self.album.compare:
            self._compare_files(item, record)
        self.skipped += 1
        if self.report:
            self.report.add_files(item.source, item.target, record, self.engine.settings.max_pixels)
        return Skipped(str(item.source), str(item.target), Message("done already"))

    def _compare_files(self, item: Item, record: "Record") -> None:
        """Writes the comparison of an existing result, if it is missing; the photo is read as it was for the result."""
        path = comparison_of(item.target)
        if path.exists():
            return
        from calotype.outputs.compare import save_comparison
        from calotype.picture import Picture

        max_pixels = self.engine.settings.max_pixels
        before, after = (
            Picture.open(item.source, max_pixels, self._page(item), record.options.get("damaged_file")),
            Picture.open(item.target, max_pixels),
        )
        save_comparison(before, after, path)

    def _saved(
        self, item: Item, task: Any, result: "Result", started: float, file: "Future[SavedFile]"
    ) -> Iterator[Event]:
        """The events of a result that is written, with its sidecar and comparison."""
        source = str(item.source)
        with _as_picture_error():
            try:
                saved = file.result()
            except DoesNotFit:  # what only the encoder knows
                if not self._may_change_format:
                    raise
                item = yield from self._in_large_format(item, result.picture.pixels.shape[:2])
                self._check_place(item, existing_result(item.target, task, self.hashes.models))
                saved = save_result(result, item, task, self.album)
        seconds = time.monotonic() - started
        from calotype.picture.notes import as_message

        as_messages = {str(note): note for note in result.before.notes}  # the record has them as text
        for sentence in (*result.record.notes, *saved.notes):
            yield Note(as_message(as_messages.get(sentence, sentence)), source)
        if self.report:
            self.report.add(item.source, item.target, result, seconds)
        self.done += 1
        if self._has_previews:
            from calotype.outputs.compare import shown

            yield Preview(source, encode_jpeg(shown(result.picture, PREVIEW_SIDE)), step=getattr(task, "photo", None))
        facts = {"sha256": saved.sha256, **_size(result.picture.pixels), "seconds": round(seconds, 2)}
        facts |= {"photo": task.photo} if isinstance(task, Split) else {}
        facts |= {} if result.uncertainty is None else {"uncertainty": str(uncertainty_of(item.target))}
        facts |= {} if result.mask is None else {"mask": str(mask_of(item.target))}
        measures = [measure.as_data() for measure in result.record.measures]
        facts |= {"faces": len(result.record.faces), **({"measures": measures} if measures else {})}
        yield Saved(source, str(item.target), facts)


class _Examination(_PictureRun):
    """Examines pictures one by one, and tells what restoring would do; writes nothing."""

    def __init__(self, request: Request, engine: Engine, album: Album):
        super().__init__(engine)
        self.task = replace(request.task, out=None)
        check(self.task, engine.settings, request.limits)
        self.plan = with_masks(pictures_in(request.inputs, album, engine.settings.max_pixels), self.task)

    def events(self) -> Iterator[Event]:
        interrupted = False
        yield Started(len(self.plan.items), "")
        yield from map(Note, self.plan.notes)
        try:
            for item in self.plan.items:
                yield ItemStarted(str(item.source), "")
                yield from self._guarded(item)
        except KeyboardInterrupt:
            interrupted = True
        yield self.finished(len(self.plan.items), interrupted)

    def _guarded(self, item: Item) -> Iterator[Event]:
        source = str(item.source)
        try:
            yield from self._examine(item)
        except CalotypeError as fault:
            if not (self.done or self.failures or isinstance(fault, PictureError)):
                raise
            yield from self.failed(source, fault)
        except Exception as bug:  # noqa: BLE001  the run continues
            yield from self.broken(source, bug)

    def _examine(self, item: Item) -> Iterator[Event]:
        if item.fault:
            raise PictureError(item.fault)
        task = _with_time_limit(item.task_of(self.task, item.page), len(self.plan.items))
        with contextlib.closing(self.engine.run(task)) as steps:
            for step in steps:
                if isinstance(step, Progress):
                    yield replace(step, source=str(item.source))
                elif not isinstance(step, Note):  # the facts have what the notes say
                    self.done += 1
                    yield Saved(str(item.source), "", step.facts)


class _SplitRun(_AlbumRun):
    """Cuts photos out of scans: several results of each, with the number of the photo in their names."""

    def __init__(self, request: Request, engine: Engine, album: Album, wording: Wording, *, has_previews: bool = False):
        self._names_file = format_of(album.out) is not None and not album.out.is_dir()
        if self._names_file and not request.task.photo and not request.task.dry_run:
            raise CalotypeError(
                "{option:out} {out} names one file, and a scan may hold several photos; give a folder, or "
                "{option:photo} for one of them",
                out=readable(album.out),
            )
        super().__init__(request, engine, album, wording, has_previews=has_previews)
        self._sources = {key(item.source) for item in self.plan.items}

    def _named(self, album: Album) -> Album:
        return album if self._names_file else replace(album, suffix=album.suffix + FIRST_PHOTO)

    def _restore(self, item: Item) -> Iterator[Event]:
        yield from super()._restore(item)
        self.done += self.task.dry_run

    def _checked(self, item: Item, task: Split) -> Generator[Event, None, Item | None]:
        """As for one result; the places of photos are known when they are found."""
        if task.dry_run:
            return item
        check_disk_space(item.target.parent)
        done = self._all_done(item, task)
        yield from (self._skip(part, record) for part, record in done)
        return None if done else item

    def _write(self, item: Item, task: Split, result: "Result", started: float) -> Iterator[Event]:
        number = result.record.options["photo"]
        part, task = self._photo(item, number), replace(task, photo=number)
        existing = existing_result(part.target, task, self.hashes.models)
        if existing.stored:
            yield WAIT
            yield self._skip(part, existing.stored.record)
            return
        self._check_place(part, existing)
        yield from super()._write(part, task, result, started)

    def _photo(self, item: Item, number: int) -> Item:
        """The item of one photo. Raises PictureError if its result would overwrite a scan of this run."""
        if self._names_file:
            return item
        mark, target = f"-{number:02d}", item.target
        target = target.with_name(target.stem.removesuffix(FIRST_PHOTO) + mark + target.suffix)
        part = replace(item, target=target, mark=item.mark + mark)
        if key(part.target) in self._sources:
            raise PictureError(
                "the result of {source} would overwrite {target}; give another folder with {option:out}, or "
                "{option:suffix}",
                source=readable(item.source),
                target=readable(part.target.name),
            )
        return part

    def _all_done(self, item: Item, task: Split) -> list[tuple[Item, "Record"]]:
        """The photos of a scan with their records, if all of them are done already; nothing otherwise."""
        done: list[tuple[Item, Record]] = []
        number, last = task.photo or 1, task.photo or 1
        while number <= last:
            part = self._photo(item, number)
            stored = existing_result(part.target, replace(task, photo=number), self.hashes.models).stored
            if stored is None:
                return []
            done.append((part, stored.record))
            count = stored.record.computed.get(PHOTO_COUNT)
            if not task.photo:
                last = count if isinstance(count, int) else number
            number += 1
        return done


class _DrawingRun(_PictureRun):
    """Generates pictures; in a list a failed line does not stop the run."""

    def __init__(self, request: Request, engine: Engine, output: DrawingOutput, preview_every: float | None):
        super().__init__(engine)
        self.request, self.output = request, output
        if not request.is_list:
            check(request.task, engine.settings, request.limits)
        self._check_output()
        self.count = sum(task.count for task in request.tasks)
        has_sheet = any(task.x or task.y or task.matrix for task in request.tasks)
        is_many = self.count > 1 or (has_sheet and not request.last_only)
        self.paths = DrawingPaths(output, self.count, is_many=is_many)
        self.preview_every, self.previewed = preview_every, time.monotonic()

    def _check_output(self) -> None:
        """Raises CalotypeError for options of single pictures if only a film is written."""
        defaults = DrawingOutput()
        unused = [n for n in ("format", "quality", "sidecar") if getattr(self.output, n) != getattr(defaults, n)]
        if not unused or not all(task.interpolate for task in self.request.tasks):
            return
        several = "{option:interpolate} writes a GIF and an MP4, so {names} have no effect; leave them out"
        single = "{option:interpolate} writes a GIF and an MP4, so {names} has no effect; leave it out"
        raise CalotypeError(several if len(unused) > 1 else single, names=named(unused))

    def events(self) -> Iterator[Event]:
        interrupted = False
        yield Started(self.count, str(self.output.out))
        try:
            for task in self.request.tasks:
                name = " ".join(task.prompt.split()) or "(no words)"
                yield ItemStarted(name, str(self.output.out))
                yield from self._process(task, name)
        except KeyboardInterrupt:
            interrupted = True
        yield self.finished(self.count, interrupted, is_drawn=True)

    def _process(self, task: Imagine, name: str) -> Iterator[Event]:
        try:
            if self.request.is_list:
                check(task, self.engine.settings, self.request.limits)
            _check_pictures(task, self.engine.settings.max_pixels)
            yield from self._draw(task, name)
        except CalotypeError as fault:
            if not (self.request.is_list or self.done or isinstance(fault, PictureError)):
                raise
            yield from self.failed(name, fault)
        except Exception as bug:
            if not self.request.is_list:
                raise
            yield from self.broken(name, bug)

    def _draw(self, task: Imagine, name: str) -> Iterator[Event]:
        from calotype.record import Film

        started, waiting = time.monotonic(), None
        with contextlib.closing(self.engine.run(task)) as steps:
            for step in steps:
                if isinstance(step, Progress):
                    yield from self._progress(step, name)
                elif isinstance(step, Note):
                    yield replace(step, source=name)
                elif isinstance(step, Film):
                    yield from self._save_film(step, name, started)
                elif self.request.last_only:
                    waiting = step
                else:
                    yield from self._save(step, task, name, started)
                    started = time.monotonic()
        if waiting is not None:
            yield from self._save(waiting.with_source_name(self.request.source_name), task, name, started)

    def _progress(self, step: Progress, name: str) -> Iterator[Event]:
        if isinstance(step, Drawing) and step.look and self._is_preview_due():
            yield Preview(name, _jpeg(step.look()))
        yield Progress(step.done, step.total, step.what, step.remaining, source=name)

    def _is_preview_due(self) -> bool:
        is_due = self.preview_every is not None and time.monotonic() - self.previewed >= self.preview_every
        self.previewed = time.monotonic() if is_due else self.previewed
        return is_due

    def _save(self, result: "Result", task: Imagine, name: str, started: float) -> Iterator[Event]:
        from calotype.picture.notes import as_message

        with _as_picture_error():
            target, sha256, notes = save_drawing(result, self.paths, self.output, task.init)
        for sentence in (*result.record.notes, *notes):
            yield Note(as_message(sentence), name)
        self.done += 1
        seed = None if result.is_sheet else result.record.options["seed"]
        facts = {"seed": seed, "sheet": result.is_sheet, "sha256": sha256, **_size(result.picture.pixels)}
        yield Saved(name, str(target), facts | {"seconds": round(time.monotonic() - started, 2)})

    def _save_film(self, film: "Film", name: str, started: float) -> Iterator[Event]:
        with _as_picture_error():
            target, notes = self.paths.save_film(film)
        for sentence in notes:
            yield Note(Message.of(sentence), name)
        self.done += 1
        facts = {"seed": film.seed, "sheet": False, **_size(film.frames[0])}
        yield Saved(name, str(target), facts | {"seconds": round(time.monotonic() - started, 2)})


def _run_captions(request: Request, engine: Engine) -> Iterator[Event]:
    """Writes captions, or crops around faces, of a folder."""
    task = request.task
    check(task, engine.settings, request.limits)
    run, total, interrupted = _PictureRun(engine), 0, False
    source, out = str(task.photos), str(task.out or task.photos)
    try:
        with contextlib.closing(engine.run(task)) as steps:
            for step in steps:
                if isinstance(step, Progress):
                    if not step.done:
                        total = step.total
                        yield from (Started(total, out), ItemStarted(source, out))
                    step = replace(step, source=source)
                run.done += isinstance(step, Saved)
                run.skipped += isinstance(step, Skipped)
                run.failures += [step] if isinstance(step, Failed) else []
                yield step
    except KeyboardInterrupt:
        if not total:
            raise
        interrupted = True
    except CalotypeError as fault:
        if not total:
            raise
        yield from run.failed(source, fault)
    yield run.finished(total, interrupted)


def _run_single(request: Request, engine: Engine, has_previews: bool) -> Iterator[Event]:
    """Runs training, or a tool for LoRA files: one result, which the task saves itself."""
    task = request.task
    check(task, engine.settings, request.limits)
    started, is_training = time.monotonic(), hasattr(task, "output_dir")
    source, out = _source_of(task), str(task.output_dir if is_training else task.out)
    yield from (Started(1, out), ItemStarted(source, out))
    is_learning, interrupted = False, False
    try:
        with contextlib.closing(engine.run(task)) as steps:
            for step in steps:
                is_learning = is_learning or isinstance(step, Learning)
                if isinstance(step, Sampled):
                    if has_previews:
                        yield Preview(source, _jpeg(step.look()), step=step.done)
                elif isinstance(step, Progress):
                    yield replace(step, source=source)
                elif isinstance(step, Note):
                    yield step
                else:
                    seconds = {"seconds": round(time.monotonic() - started, 2)}
                    report = {"report": str(step.report)} if is_training else {}
                    yield Saved(source, str(step.path), {**step.facts, **seconds, **report})
    except KeyboardInterrupt:
        interrupted = True
    except CalotypeError as fault:
        if not is_learning:
            raise
        yield Failed(source, fault)
    if interrupted:
        path = Message("{out}", out=readable(out))
        stopped = (
            "stopped; run the same command again to resume ({path})"
            if is_training
            else "stopped; {path} is not written"
        )
        yield Note(Message(stopped, path=path))
        raise KeyboardInterrupt


def _source_of(task: Any) -> str:
    if hasattr(task, "source"):
        return str(task.source)
    if hasattr(task, "photos"):
        return str(getattr(task, "dataset_config", None) or task.photos or "demo")
    names = [getattr(task, name) for name in ("loras", "lora", "tuned", "base") if hasattr(task, name)]
    return " + ".join(str(entry) for name in names for entry in (name if isinstance(name, list | tuple) else [name]))


@contextlib.contextmanager
def _as_picture_error() -> Iterator[None]:
    """Errors in writing become errors of this picture."""
    try:
        yield
    except PictureError:
        raise
    except CalotypeError as fault:
        raise PictureError(fault.message, option=fault.option, remedy=fault.remedy) from fault


def _check_pictures(task: Imagine, max_pixels: int) -> None:
    """Raises PictureError for an unreadable initial picture or mask, before torch is loaded."""
    from calotype.picture import Picture

    for path in (task.init, *(sorted(task.blend.iterdir()) if task.blend and task.blend.is_dir() else ())):
        if path is not None:
            Picture.open(path, max_pixels)
    if task.mask is not None:
        Picture.open_option("mask", task.mask, max_pixels)


def _with_time_limit(task: Any, pictures: int) -> Any:
    """The task of one of so many pictures: with its share of the time in which `speed` auto takes the best network."""
    return replace(task, auto_seconds=task.auto_seconds / pictures) if hasattr(task, "auto_seconds") else task


def _size(pixels: Any) -> dict[str, int]:
    height, width = pixels.shape[:2]
    return {"width": width, "height": height}


def _jpeg(pixels: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=PREVIEW_QUALITY)
    return file.getvalue()
