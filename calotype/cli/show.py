"""How a run is told: a bar for a person, a line for a pipe, a JSON object for a machine."""

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from calotype.album import readable

EVERY = 0.2  # seconds between two progress events of the JSON kind


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


class Quiet:
    """Says nothing of what goes well; what fails goes to stderr."""

    def tell(self, event: str, **data: Any) -> None:
        if event == "failed":
            self.line(f"calotype: {failure(data)}", sys.stderr)
        elif event == "summary" and data["interrupted"]:
            self.line(f"calotype: {stopped(data)}", sys.stderr)

    def line(self, text: str, stream: Any = None) -> None:
        say(clean(text), stream)

    def close(self) -> None:
        pass


class Plain(Quiet):
    """One line for each picture on stdout, sentences on stderr; what failed is listed at the end."""

    def tell(self, event: str, **data: Any) -> None:
        if event == "done":
            self.line(f"{data['source']} -> {data['target']}")
        elif event == "skipped":
            self.line(f"{data['target']}: {data['why']}", sys.stderr)
        elif event == "compared":
            self.line(data["text"])
        elif event == "said":
            self.line(f"{data['source']}: {data['text']}" if data.get("source") else data["text"], sys.stderr)
        elif event == "summary":
            self.summary(data)

    def summary(self, data: dict[str, Any]) -> None:
        if data["pictures"] > 1 or data["interrupted"]:
            self.line(counted(data), sys.stderr)
        for failed in data["failures"]:
            self.line(f"calotype: {failure(failed)}", sys.stderr)
        if data["report"]:
            self.line(f"report: {data['report']}", sys.stderr)


class Bar(Plain):
    """Plain, with a bar on the terminal that tells pictures, tiles and remaining time."""

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
            say(clean(text))
        else:
            self._console.print(clean(text), markup=False, soft_wrap=True)

    def tell(self, event: str, **data: Any) -> None:
        if event == "begin" and data["pictures"]:
            self._bars.start()
            self._pictures = self._bars.add_task(
                "pictures", total=data["pictures"], rest="", visible=data["pictures"] > 1
            )
            self._tiles = self._bars.add_task("", total=None, rest="", visible=False)
        elif event == "picture":
            name = clean(data["source"])[-40:]
            self._bars.update(self._tiles, description=name, total=None, completed=0, rest="", visible=True)
        elif event == "progress":
            self._bars.update(self._tiles, completed=data["done"], total=data["total"], rest=in_hand(data))
        elif event in ("done", "skipped", "failed"):
            self._bars.update(self._pictures, advance=1)
        elif event == "summary":
            self.close()
        super().tell(event, **data)

    def close(self) -> None:
        self._bars.stop()


class Lines(Quiet):
    """One JSON object a line on stdout, nothing else."""

    def __init__(self, clock: Any) -> None:
        self._clock, self._last = clock, 0.0

    def tell(self, event: str, **data: Any) -> None:
        if event == "progress" and data["done"] < data["total"]:
            if self._clock() - self._last < EVERY:
                return
            self._last = self._clock()
        print_json({"event": event, **data})


def listener(values: Mapping[str, Any]) -> Quiet:
    """The way of telling that fits the options (flags.TELL) and where the words go."""
    if values["json"]:
        return Lines(time.monotonic)
    if values["quiet"]:
        return Quiet()
    return Bar() if sys.stderr.isatty() else Plain()


def failure(data: dict[str, Any]) -> str:
    """The cause names the file in most cases."""
    return data["cause"] if data["source"] in data["cause"] else f"{data['source']}: {data['cause']}"


def in_hand(data: dict[str, Any]) -> str:
    """What stands behind the bar: what is counted, of a training run its loss, rate and memory, and the time left."""
    parts = [data["what"]]
    parts += [f"loss {data['loss']:.4f}"] if data.get("loss") is not None else []
    parts += [f"rate {data['rate']:.1e}"] if data.get("rate") is not None else []
    parts += [f"{data['memory'] / 2**30:.1f} GiB"] if data.get("memory") is not None else []
    parts += [f"{in_words(data['remaining'])} left"] if data["remaining"] is not None else []
    return ", ".join(parts)


def in_words(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def counted(data: dict[str, Any]) -> str:
    parts = [f"{data['done']} done"]
    parts += [f"{data['skipped']} done already"] if data["skipped"] else []
    parts += [f"{data['failed']} failed"] if data["failed"] else []
    return stopped(data) if data["interrupted"] else ", ".join(parts) + f" in {in_words(data['seconds'])}"


def stopped(data: dict[str, Any]) -> str:
    ready = data["done"] + data["skipped"]
    if data.get("is_drawn"):
        return f"stopped: {ready} of {data['pictures']} pictures are drawn and kept"
    return f"stopped: {ready} of {data['pictures']} pictures are done; the same command goes on with the others"
