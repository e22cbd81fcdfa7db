"""Output of a run: a progress bar on a terminal, plain lines in a pipe, or JSON lines."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from calotype.cli.wording import WORDING
from calotype.errors import Message
from calotype.files import readable, terminable, uninterrupted
from calotype.measures import figure
from calotype.tasks.events import (
    Compared,
    Event,
    Failed,
    Finished,
    ItemStarted,
    Learning,
    Note,
    Progress,
    Saved,
    Skipped,
    Started,
    as_line,
    worded,
)

ALL_DONE, PARTLY_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
MARKS = {True: "!", False: ""}  # of a measure beyond its threshold
JSON_INTERVAL = 0.2  # seconds between two progress events in JSON
FAILURES_REPEATED = 20  # pictures; with more, failures are listed again at the end


def printable(value: Any) -> Any:
    """Text without control characters; messages may quote names from files."""
    return readable(value) if isinstance(value, str) else value


def print_line(text: str, stream: Any = None) -> None:
    """Prints one line to stdout or another stream. After the pipe is closed (`| head -1`), output is discarded."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_error(sentence: str) -> None:
    """Prints an error message to stderr."""
    print_line(f"calotype: {printable(sentence)}", sys.stderr)


def print_json(data: Any) -> None:
    print_line(json.dumps(data, ensure_ascii=True, default=str))


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Prints a plain table to stdout, its title and headings in the user's language; cells are text, never markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        *map(WORDING.translate, columns),
        title=WORDING.translate(title) or None,
        box=None,
        show_header=any(columns),
        pad_edge=False,
        header_style="bold",
        title_justify="left",
    )
    for row in rows:
        grid.add_row(*(Text(str(printable(str(cell)))) for cell in row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(grid)


def print_examination(event: Saved) -> None:
    """The measures of a photo and what restoring it would do."""
    facts = worded(event.facts, WORDING)
    rows = [
        [
            MARKS[found["is_beyond"]],
            found["title"],
            figure(found["value"]),
            figure(found["threshold"]),
            found["decision"],
        ]
        for found in facts["measures"]
    ]
    title = f"{printable(event.source)}  {facts['width']} x {facts['height']}"
    table(title, ["", "measure", "figure", "threshold", "decision"], rows)
    for sentence in facts["plan"]:
        print_line(f"- {printable(sentence)}")
    print_line("")


class Reporter:
    """Prints failures to stderr, and nothing else."""

    def emit(self, event: Event) -> None:
        if isinstance(event, Failed):
            self.line(f"calotype: {failure_text(event)}", sys.stderr)
        elif isinstance(event, Finished) and event.interrupted:
            self.line(f"calotype: {interrupted_text(event)}", sys.stderr)

    def line(self, text: str, stream: Any = None) -> None:
        print_line("\n".join(map(printable, text.split("\n"))), stream)

    def close(self) -> None:
        pass


class PlainReporter(Reporter):
    """One line per picture on stdout, messages on stderr."""

    def emit(self, event: Event) -> None:
        if isinstance(event, Saved) and event.target:
            self.line(f"{printable(event.source)} -> {printable(event.target)}")
        elif isinstance(event, Saved):
            print_examination(event)
        elif isinstance(event, Skipped):
            self.line(f"{printable(event.target)}: {WORDING.fill(event.why)}", sys.stderr)
        elif isinstance(event, Compared):
            self.line(WORDING.fill(event.text))
        elif isinstance(event, Note):
            text = WORDING.fill(event.message)
            self.line(f"{printable(event.source)}: {text}" if event.source else text, sys.stderr)
        elif isinstance(event, Finished):
            self._finish(event)
        else:
            super().emit(event)

    def _finish(self, event: Finished) -> None:
        if event.pictures > 1 or event.interrupted:
            self.line(summary_text(event), sys.stderr)
        if event.pictures > FAILURES_REPEATED:
            for failed in event.failures:
                self.line(f"calotype: {failure_text(failed)}", sys.stderr)
        if event.report:
            self.line(WORDING.fill(Message("report: {path}", path=event.report)), sys.stderr)


class BarReporter(PlainReporter):
    """Plain lines, with a progress bar of pictures, tiles and remaining time."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(stderr=True, highlight=False)
        text = TextColumn("{task.description}", markup=False)
        rest = TextColumn("{task.fields[rest]}", markup=False)
        self._bars = Progress(text, BarColumn(30), MofNCompleteColumn(), rest, console=self._console, transient=True)
        self._pictures = self._tiles = None

    def line(self, text: str, stream: Any = None) -> None:
        if stream in (None, sys.stdout) and not sys.stdout.isatty():
            super().line(text)
        else:
            shown = "\n".join(map(printable, text.split("\n")))
            self._console.print(shown, markup=False, soft_wrap=True)

    def emit(self, event: Event) -> None:
        if isinstance(event, Started) and event.pictures:
            self._bars.start()
            self._pictures = self._bars.add_task(
                WORDING.translate("pictures"), total=event.pictures, rest="", visible=event.pictures > 1
            )
            self._tiles = self._bars.add_task("", total=None, rest="", visible=False)
        elif isinstance(event, ItemStarted):
            name = printable(event.source)[-40:]
            self._bars.update(self._tiles, description=name, total=None, completed=0, rest="", visible=True)
        elif isinstance(event, Progress):
            self._bars.update(self._tiles, completed=event.done, total=event.total, rest=progress_text(event))
        elif isinstance(event, Saved | Skipped | Failed) and self._pictures is not None:
            self._bars.update(self._pictures, advance=1)
        elif isinstance(event, Finished):
            self.close()
        super().emit(event)

    def close(self) -> None:
        self._bars.stop()


class JsonReporter(Reporter):
    """One JSON object per line on stdout, nothing else (docs/events.md)."""

    def __init__(self, clock: Any) -> None:
        self._clock, self._last = clock, 0.0

    def emit(self, event: Event) -> None:
        if isinstance(event, Progress) and event.done < event.total:
            if self._clock() - self._last < JSON_INTERVAL:
                return
            self._last = self._clock()
        print_json(as_line(event, WORDING))


def reporter_for(values: Mapping[str, Any]) -> Reporter:
    """The reporter for the options (flags.OUTPUT_FLAGS) and the kind of stderr."""
    if values["json"]:
        return JsonReporter(time.monotonic)
    if values["quiet"]:
        return Reporter()
    return BarReporter() if sys.stderr.isatty() else PlainReporter()


def show(events: Iterator[Event], reporter: Reporter) -> int:
    """Shows the events of a run until it ends; SIGTERM stops it as Ctrl-C does. Returns the exit status.

    Raises:
        CalotypeError: bad usage.
    """
    status, queue = ALL_DONE, events
    try:
        with terminable():
            while True:
                try:
                    event = next(queue, None)
                    if event is None:
                        return status
                    if isinstance(event, Failed):
                        status = max(status, PARTLY_FAILED)
                    elif isinstance(event, Finished) and event.interrupted:
                        status = INTERRUPTED
                    with uninterrupted():  # rich prints again what an interrupt keeps it from forgetting
                        reporter.emit(event)
                except KeyboardInterrupt:  # between two events, or from a run without a final event
                    status, queue = INTERRUPTED, _remaining_events(events)
    finally:
        reporter.close()
        events.close()


def _remaining_events(events: Iterator[Event]) -> Iterator[Event]:
    """The remaining events of an interrupted run."""
    try:
        yield events.throw(KeyboardInterrupt)
        yield from events
    except (KeyboardInterrupt, StopIteration):
        return


def failure_text(event: Failed) -> str:
    """The cause, with the source if the cause does not name it."""
    cause = WORDING.fill(event.sentence)
    return cause if event.names_source else f"{printable(event.source)}: {cause}"


def progress_text(event: Progress) -> str:
    """The text after the bar: the unit, in training the loss, learning rate and memory, and the remaining time."""
    parts: list[str | Message] = [WORDING.translate(event.what)]
    if isinstance(event, Learning):
        parts += [Message("loss {loss:.4f}", loss=event.loss)] if event.loss is not None else []
        parts += [Message("lr {rate:.1e}", rate=event.rate)] if event.rate is not None else []
        parts += [f"{event.memory / 2**30:.1f} GiB"] if event.memory is not None else []
    if event.remaining is not None:
        parts.append(Message("{time} left", time=duration_text(event.remaining)))
    return WORDING.translate(", ").join(map(WORDING.fill, parts))


def duration_text(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def summary_text(event: Finished) -> str:
    if event.interrupted:
        return interrupted_text(event)
    parts = [Message("{count} done", count=event.done)]
    parts += [Message("{count} done already", count=event.skipped)] if event.skipped else []
    parts += [Message("{count} failed", count=len(event.failures))] if event.failures else []
    counts = WORDING.translate(", ").join(map(WORDING.fill, parts))
    return WORDING.fill(Message("{counts} in {time}", counts=counts, time=duration_text(event.seconds)))


def interrupted_text(event: Finished) -> str:
    template = (
        "stopped: {ready} of {count} pictures are generated"
        if event.is_drawn
        else "stopped: {ready} of {count} pictures are done; run the same command again for the rest"
    )
    return WORDING.fill(Message(template, ready=event.done + event.skipped, count=event.pictures))
