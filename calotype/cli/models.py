"""`calotype models`: installed and downloadable models."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.cli.flags import argument, flag, flags, given_options, set_signature
from calotype.cli.show import print_error, print_json, table
from calotype.cli.wording import WORDING
from calotype.errors import Message
from calotype.files import readable
from calotype.settings import Settings
from calotype.tasks import Note

if TYPE_CHECKING:
    from calotype.checkpoints.store import ModelStore

WORDS = ("ships", "fetched", "to fetch", "added", "added, but gone", "your own")  # states
WORDS += (
    "name",
    "for",
    "path",
    "state",
    "licence",
    "commercial",
    "size",
    "about",
    "scale",
    "url",
    "True",
    "False",
)  # facts
HELP = "List, download, add and verify models."


def list_(**values: Any) -> int:
    """List the installed and the downloadable models."""
    from calotype.checkpoints.describe import describe

    rows = [_worded(describe(entry)) for entry in _store(values).entries()]
    if values["json"]:
        for row in rows:
            print_json(row)
        return 0
    words = ("for", "licence", "state", "about")
    rows = [row | {name: WORDING.translate(row[name]) for name in words} for row in rows]
    cells = [[r["name"], r["for"], r["licence"], _size(r), r["state"], r["about"]] for r in rows]
    table("", ["name", "for", "licence", "size", "state", ""], cells)
    missing = [row["name"] for row in rows if not row["path"]]
    if missing:
        name = "gfpgan-1.4" if "gfpgan-1.4" in missing else missing[-1]
        print("\n" + WORDING.fill(Message("Download one: calotype models pull {name}", name=name)))
    return 0


def info(**values: Any) -> int:
    """Show the details of one model."""
    from calotype.checkpoints.describe import describe, find_listed

    facts = _worded(describe(find_listed(_store(values), values["name"])))
    if values["json"]:
        print_json(facts)
    else:
        facts = {
            name: WORDING.translate(str(value)) if isinstance(value, (str, bool)) else value
            for name, value in facts.items()
        }
        rows = [[WORDING.translate(name), value] for name, value in facts.items() if value not in (None, "", 0)]
        table("", ["", ""], rows)
    return 0


def _worded(facts: dict[str, Any]) -> dict[str, Any]:
    return {**facts, "about": WORDING.translate(WORDING.fill(facts["about"]))}


def pull(**values: Any) -> int:
    """Download a model from its official URL and verify its hash. Resumes an interrupted download."""
    from calotype.checkpoints.describe import find_listed, unknown_model
    from calotype.checkpoints.download import pull as fetch
    from calotype.checkpoints.store import CATALOG, known_name

    settings = Settings.gather(given_options(Settings, values))
    name = known_name(values["name"])
    if name not in CATALOG:
        raise unknown_model(readable(name), CATALOG)
    entry = CATALOG[name]
    for step in _with_progress(fetch(entry, settings), values["json"]):
        if values["json"]:
            kind = "said" if isinstance(step, Note) else "progress"
            facts = {"text": WORDING.fill(step.message)} if kind == "said" else dataclasses.asdict(step)
            print_json({"event": kind, "model": name, **facts})
        elif isinstance(step, Note):
            print_error(WORDING.fill(step.message))
    path = find_listed(_store(values), name).path
    if values["json"]:
        print_json({"event": "done", "model": name, "path": str(path)})
    else:
        print(f"{name} -> {readable(path)}")
    return 0


def add(**values: Any) -> int:
    """Add a model file of your own under a name; it is used in place."""
    from calotype.checkpoints.add import add as add_file

    entry = add_file(_store(values), values["file"], values["name"])
    print(f"{readable(entry.name)} -> {readable(entry.path)}")
    return 0


def import_from(**values: Any) -> int:
    """Add all models of an A1111, Forge or ComfyUI folder; they are used in place."""
    from calotype.checkpoints.add import import_from as imported
    from calotype.checkpoints.store import KINDS

    count = {"added": 0, "known": 0, "failed": 0}
    for result in imported(_store(values), values["folder"]):
        count[result.state] += 1
        if values["json"]:
            fault = WORDING.fill(result.fault) if result.fault else ""
            print_json(
                {
                    "path": str(result.path),
                    "name": result.name,
                    "kind": result.kind,
                    "state": result.state,
                    "fault": fault,
                }
            )
        elif result.fault:
            print_error(WORDING.fill(Message("skipped: {reason}", reason=result.fault)))
        elif result.state == "added":
            print(f"{readable(result.name)}  {WORDING.fill(KINDS[result.kind])}  {readable(result.path)}", flush=True)
    if not values["json"]:
        counts = (
            "{added} added, {known} known already, {failed} skipped"
            if count["known"]
            else "{added} added, {failed} skipped"
        )
        print(WORDING.fill(Message(counts, **count)))
    return 1 if count["failed"] else 0


def remove(**values: Any) -> int:
    """Remove a model from the list; a downloaded file is deleted, an added one is kept."""
    print(WORDING.fill(Message("removed: {name}", name=readable(_store(values).remove(values["name"])))))
    return 0


def verify(**values: Any) -> int:
    """Verify the hashes of the installed models."""
    is_good = True
    for verdict in _store(values).verify(values["name"]):
        is_good, word = is_good and verdict.is_good, WORDING.fill(verdict.message)
        if values["json"]:
            keys = {"name": verdict.name, "path": str(verdict.path), "sha256": verdict.sha256}
            print_json({**keys, "good": verdict.is_good, "word": word})
        else:
            print(f"{'ok' if verdict.is_good else '!!'}  {readable(verdict.name)}: {readable(word)}", flush=True)
    return 0 if is_good else 1


def _store(values: dict[str, Any]) -> "ModelStore":
    from calotype.checkpoints.store import ModelStore

    return ModelStore(Settings.gather(given_options(Settings, values)))


def _size(row: dict[str, Any]) -> str:
    size = row["size"] or (Path(row["path"]).stat().st_size if row["path"] else 0)
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e6:.1f} MB" if size else ""


@contextlib.contextmanager
def _bar(is_shown: bool) -> Iterator[Any]:
    if not is_shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield bar


def _with_progress(steps: Any, as_json: bool) -> Iterator[Any]:
    """Passes progress on, at most five times a second, and shows a bar on a terminal."""
    last = 0.0
    with _bar(sys.stderr.isatty() and not as_json) as bar, contextlib.closing(steps):
        drawn = bar.add_task("", total=None) if bar else None
        for step in steps:
            if isinstance(step, Note):
                yield step
                continue
            if bar:
                bar.update(drawn, completed=step.done, total=step.total)
            if step.done == step.total or time.monotonic() - last > 0.2:
                last = time.monotonic()
                yield step


NAME = argument("name", str, "name in the list", "NAME")
ANY = argument("name", str | None, "one model; all if not given", "NAME", None)
AS_JSON = flag("json", "as JSON")
MODEL_NAME = flag("name", "name in the list", kind=str | None)
set_signature(list_, AS_JSON, *flags(Settings))
set_signature(info, NAME, AS_JSON, *flags(Settings))
set_signature(pull, NAME, AS_JSON, *flags(Settings))
set_signature(add, argument("file", Path, "the file", "FILE"), MODEL_NAME, *flags(Settings))
FOLDER = argument("folder", Path, "its folder, such as stable-diffusion-webui", "FOLDER")
set_signature(import_from, FOLDER, AS_JSON, *flags(Settings))
set_signature(remove, NAME, *flags(Settings))
set_signature(verify, ANY, AS_JSON, *flags(Settings))
COMMANDS = (list_, info, pull, add, import_from, remove, verify)
