"""A run over an album: one picture after the other, and none stops the others."""

import contextlib
import dataclasses
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.album import Album, Item, Plan, readable
from calotype.album.names import beside
from calotype.album.sidecar import sha256_of, sidecar_of, standing, write_sidecar
from calotype.album.today import Today
from calotype.cli.show import Quiet
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError
from calotype.settings import Settings
from calotype.tasks import Note, Progress

if TYPE_CHECKING:
    from calotype.engine import Engine
    from calotype.record import Record, Result
    from calotype.report import Sheet

ALL_DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
LEAST_FREE = 16 * 2**20  # bytes; with less, minutes of work would end in nothing


class Batch:
    """Runs the items of a plan. `make_task(source)` says what is asked for each."""

    def __init__(
        self,
        plan: Plan,
        album: Album,
        settings: Settings,
        make_task: Callable[[Path], Any],
        show: Quiet,
        faces: str | None = None,
    ):
        self._faces = faces  # what `--face-model auto` stands for, where a record says it
        self._plan, self._album, self._settings, self._show = plan, album, settings, show
        self._make_task, self._today = make_task, Today(settings)
        self._engine: Engine | None = None
        self._sheet: Sheet | None = None
        self._failures: list[dict[str, str]] = []
        self._tracebacks: list[str] = []
        self._counts = {"done": 0, "skipped": 0}

    def run(self) -> int:
        """The exit status: 0 all done, 1 some failed, 130 interrupted."""
        begun, interrupted = time.monotonic(), False
        self._show.tell("begin", pictures=len(self._plan.items), out=str(self._album.out))
        for note in self._plan.notes:
            self._show.tell("said", source=None, text=note)
        try:
            with terminable(), self._open_sheet():
                for item in self._plan.items:
                    self._one(item)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self._show.close()
        self._summary(time.monotonic() - begun, interrupted)
        return INTERRUPTED if interrupted else SOME_FAILED if self._failures else ALL_DONE

    @contextlib.contextmanager
    def _open_sheet(self) -> Iterator[None]:
        if self._album.report is None:
            yield
            return
        from calotype.report import Sheet

        with Sheet(self._album.report) as self._sheet:
            yield

    def _one(self, item: Item) -> None:
        names = {"source": str(item.source), "target": str(item.target)}
        self._show.tell("picture", **names)
        try:
            if item.fault:
                raise CalotypeError(item.fault)
            self._work(item, names)
        except CalotypeError as fault:
            self._failed(names["source"], WORDING.fill(fault))
        except Exception as bug:  # noqa: BLE001  the batch goes on; the traceback is printed at its end
            self._tracebacks.append(f"{readable(item.source)}:\n{traceback.format_exc()}")
            self._failed(names["source"], f"an error in Calotype itself: {type(bug).__name__}: {bug}")

    def _failed(self, source: str, cause: str) -> None:
        self._failures.append({"source": source, "cause": cause})
        self._show.tell("failed", source=source, cause=cause)
        if self._sheet:
            self._sheet.add_failure(Path(source), cause)

    def _work(self, item: Item, names: dict[str, str]) -> None:
        task = self._make_task(item.source)
        found = standing(item.target, task, self._today.models)
        if found.story:
            self._skip(item, found.story.record, names)
            return
        if found.fault and not self._album.overwrite:
            raise CalotypeError(found.fault)
        from calotype.album.keep import check_places

        check_places(item, self._album)
        _check_room(item.target.parent)
        begun = time.monotonic()
        result = self._compute(task, names)
        self._keep(item, task, result, begun, names)

    def _skip(self, item: Item, record: "Record", names: dict[str, str]) -> None:
        """Done already; what an interrupted run left out beside it is made up for."""
        if self._album.sidecar and not sidecar_of(item.target).is_file():
            write_sidecar(record, item.source, item.target, sha256_of(item.target))
        if self._album.compare:
            self._compare_files(item)
        self._counts["skipped"] += 1
        if self._sheet:
            self._sheet.add_files(item.source, item.target, record, self._settings.max_pixels)
        self._show.tell("skipped", **names, why="done already")

    def _compare_files(self, item: Item) -> None:
        """The comparison of a result that is done already, if it is missing."""
        place = beside(item.target, "-compare", ".jpg")
        if place.exists():
            return
        from calotype.album.compare import save_comparison
        from calotype.picture import Picture

        before, after = (Picture.open(path, self._settings.max_pixels) for path in (item.source, item.target))
        save_comparison(before, after, place)

    def _compute(self, task: Any, names: dict[str, str]) -> "Result":
        result = None
        with contextlib.closing(self._engine_now().run(task)) as steps:
            for step in steps:
                if isinstance(step, Progress):
                    self._show.tell("progress", source=names["source"], **dataclasses.asdict(step))
                elif isinstance(step, Note):
                    self._show.tell("said", source=names["source"], text=WORDING.fill(step.message))
                else:
                    result = step
        return result

    def _keep(self, item: Item, task: Any, result: "Result", begun: float, names: dict[str, str]) -> None:
        """Writes the picture, then what stands beside it."""
        from calotype.album.keep import keep

        kept = keep(result, item, task, self._album)
        seconds = time.monotonic() - begun
        for sentence in (*result.record.said, *kept.said):
            self._show.tell("said", source=names["source"], text=sentence)
        if self._sheet:
            self._sheet.add(item.source, item.target, result, seconds)
        self._counts["done"] += 1
        height, width = result.picture.pixels.shape[:2]
        facts = {"sha256": kept.sha256, "width": width, "height": height, "seconds": round(seconds, 2)}
        self._show.tell("done", **names, **facts, faces=len(result.record.faces))

    def _engine_now(self) -> "Engine":
        if self._engine is None:
            from calotype.engine import Engine

            self._engine = Engine(self._settings)
            self._engine.models.preferred_faces = self._faces
        return self._engine

    def _summary(self, seconds: float, interrupted: bool) -> None:
        report = self._album.report if self._sheet and self._sheet.is_written else None
        counts = {"pictures": len(self._plan.items), **self._counts, "failed": len(self._failures)}
        more = {"failures": self._failures, "seconds": round(seconds, 2), "interrupted": interrupted}
        self._show.tell("summary", **counts, **more, report=str(report) if report else None)
        for text in self._tracebacks:
            print(text, file=sys.stderr)


def _check_room(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        raise CalotypeError(
            "the disk of {folder} has {free:.0f} MiB left; make room or give another {option:out}",
            folder=readable(folder),
            free=free / 2**20,
        )


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM stops a run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
