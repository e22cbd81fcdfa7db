"""How a run is shown: a bar for a person, a line for a pipe, a JSON object for a machine."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from calotype.cli.wording import WORDING
from calotype.files import readable, terminable
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
)

ALL_DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
EVERY = 0.2  # seconds between two progress events of the JSON kind
MANY = 20  # pictures; of more, what failed is listed once more at the end


def clean(value: Any) -> Any:
    """Text that harms no terminal; sentences may quote names that come from outside."""
    return readable(value) if isinstance(value, str) else value


def say(text: str, stream: Any = None) -> None:
    """One line to stdout, or another stream. Where nobody reads any more (`| head -1`), work goes on in silence."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(sentence: str) -> None:
    """To stderr, as every sentence about what went wrong."""
    say(f"calotype: {clean(sentence)}", sys.stderr)


def print_json(data: Any) -> None:
    say(json.dumps(data, ensure_ascii=True, default=str))


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A plain table on stdout; cells are text, never markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(
        *columns,
        title=title or None,
        box=None,
        show_header=any(columns),
        pad_edge=False,
        header_style="bold",
        title_justify="left",
    )
    for row in rows:
        made.add_row(*(Text(str(clean(str(cell)))) for cell in row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(made)


class Reporter:
    """Says nothing of what goes well; what fails goes to stderr at once."""

    def emit(self, event: Event) -> None:
        if isinstance(event, Failed):
            self.line(f"calotype: {failure(event)}", sys.stderr)
        elif isinstance(event, Finished) and event.interrupted:
            self.line(f"calotype: {stopped(event)}", sys.stderr)

    def line(self, text: str, stream: Any = None) -> None:
        say("\n".join(map(clean, text.split("\n"))), stream)

    def close(self) -> None:
        pass


class PlainReporter(Reporter):
    """One line for each picture on stdout, sentences on stderr."""

    def emit(self, event: Event) -> None:
        if isinstance(event, Saved):
            self.line(f"{event.source} -> {event.target}")
        elif isinstance(event, Skipped):
            self.line(f"{event.target}: {WORDING.fill(event.why)}", sys.stderr)
        elif isinstance(event, Compared):
            self.line(WORDING.fill(event.text))
        elif isinstance(event, Note):
            text = WORDING.fill(event.message)
            self.line(f"{event.source}: {text}" if event.source else text, sys.stderr)
        elif isinstance(event, Finished):
            self._finish(event)
        else:
            super().emit(event)

    def _finish(self, event: Finished) -> None:
        if event.pictures > 1 or event.interrupted:
            self.line(counted(event), sys.stderr)
        if event.pictures > MANY:
            for failed in event.failures:
                self.line(f"calotype: {failure(failed)}", sys.stderr)
        if event.report:
            self.line(f"report: {event.report}", sys.stderr)


class BarReporter(PlainReporter):
    """Plain, with a bar on the terminal that shows pictures, tiles and remaining time."""

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
            shown = "\n".join(map(clean, text.split("\n")))
            self._console.print(shown, markup=False, soft_wrap=True)

    def emit(self, event: Event) -> None:
        if isinstance(event, Started) and event.pictures:
            self._bars.start()
            self._pictures = self._bars.add_task("pictures", total=event.pictures, rest="", visible=event.pictures > 1)
            self._tiles = self._bars.add_task("", total=None, rest="", visible=False)
        elif isinstance(event, ItemStarted):
            name = clean(event.source)[-40:]
            self._bars.update(self._tiles, description=name, total=None, completed=0, rest="", visible=True)
        elif isinstance(event, Progress):
            self._bars.update(self._tiles, completed=event.done, total=event.total, rest=in_hand(event))
        elif isinstance(event, Saved | Skipped | Failed) and self._pictures is not None:
            self._bars.update(self._pictures, advance=1)
        elif isinstance(event, Finished):
            self.close()
        super().emit(event)

    def close(self) -> None:
        self._bars.stop()


class JsonReporter(Reporter):
    """One JSON object a line on stdout, nothing else (docs/events.md)."""

    def __init__(self, clock: Any) -> None:
        self._clock, self._last = clock, 0.0

    def emit(self, event: Event) -> None:
        if isinstance(event, Progress) and event.done < event.total:
            if self._clock() - self._last < EVERY:
                return
            self._last = self._clock()
        print_json(as_line(event, WORDING))


def reporter_for(values: Mapping[str, Any]) -> Reporter:
    """The one that fits the options (flags.TELL) and where the words go."""
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
                        status = max(status, SOME_FAILED)
                    elif isinstance(event, Finished) and event.interrupted:
                        status = INTERRUPTED
                    reporter.emit(event)
                except KeyboardInterrupt:  # between two events, or out of a run that has no last one
                    status, queue = INTERRUPTED, _rest(events)
    finally:
        reporter.close()
        events.close()


def _rest(events: Iterator[Event]) -> Iterator[Event]:
    """What an interrupted run still has to say."""
    try:
        yield events.throw(KeyboardInterrupt)
        yield from events
    except (KeyboardInterrupt, StopIteration):
        return


def failure(event: Failed) -> str:
    """The cause names the file in most cases."""
    cause = WORDING.fill(event.cause)
    return cause if event.source in cause else f"{event.source}: {cause}"


def in_hand(event: Progress) -> str:
    """What stands behind the bar: what is counted, of a training run its loss, rate and memory, and the time left."""
    parts = [event.what]
    if isinstance(event, Learning):
        parts += [f"loss {event.loss:.4f}"] if event.loss is not None else []
        parts += [f"rate {event.rate:.1e}"] if event.rate is not None else []
        parts += [f"{event.memory / 2**30:.1f} GiB"] if event.memory is not None else []
    parts += [f"{in_words(event.remaining)} left"] if event.remaining is not None else []
    return ", ".join(parts)


def in_words(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def counted(event: Finished) -> str:
    parts = [f"{event.done} done"]
    parts += [f"{event.skipped} done already"] if event.skipped else []
    parts += [f"{len(event.failures)} failed"] if event.failures else []
    return stopped(event) if event.interrupted else ", ".join(parts) + f" in {in_words(event.seconds)}"


def stopped(event: Finished) -> str:
    ready = event.done + event.skipped
    if event.is_drawn:
        return f"stopped: {ready} of {event.pictures} pictures are drawn and kept"
    return f"stopped: {ready} of {event.pictures} pictures are done; the same command goes on with the others"
