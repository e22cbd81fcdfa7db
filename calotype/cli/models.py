"""`calotype models`: what is at hand, what could be fetched, and fetching it."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.cli.flags import argument, flag, flags, given, shape
from calotype.cli.show import complain, print_json, table
from calotype.cli.wording import WORDING
from calotype.files import readable
from calotype.settings import Settings
from calotype.tasks import Note

if TYPE_CHECKING:
    from calotype.checkpoints.store import ModelStore

HELP = "List, fetch, add and check the models."


def list_(**values: Any) -> int:
    """List the models: what is at hand, and what could be fetched."""
    from calotype.checkpoints.describe import describe

    rows = [_worded(describe(entry)) for entry in _shelf(values).entries()]
    if values["json"]:
        for row in rows:
            print_json(row)
        return 0
    cells = [[r["name"], r["for"], r["licence"], _size(r), r["state"], r["about"]] for r in rows]
    table("", ["name", "for", "licence", "size", "state", ""], cells)
    missing = [row["name"] for row in rows if not row["path"]]
    if missing:
        print(f"\nFetch one: calotype models pull {missing[-1] if 'gfpgan-1.4' not in missing else 'gfpgan-1.4'}")
    return 0


def info(**values: Any) -> int:
    """Tell all about one model."""
    from calotype.checkpoints.describe import describe, find_listed

    facts = _worded(describe(find_listed(_shelf(values), values["name"])))
    if values["json"]:
        print_json(facts)
    else:
        table("", ["", ""], [[name, value] for name, value in facts.items() if value not in (None, "", 0)])
    return 0


def _worded(facts: dict[str, Any]) -> dict[str, Any]:
    return {**facts, "about": WORDING.fill(facts["about"])}


def pull(**values: Any) -> int:
    """Fetch a model from its official address, checked before it is kept. Goes on where it was interrupted."""
    from calotype.checkpoints.describe import find_listed, unknown_model
    from calotype.checkpoints.download import pull as fetch
    from calotype.checkpoints.store import CATALOG, known_name

    settings = Settings.gather(given(Settings, values))
    name = known_name(values["name"])
    if name not in CATALOG:
        raise unknown_model(readable(name), CATALOG)
    entry = CATALOG[name]
    for step in _shown(fetch(entry, settings), values["json"]):
        if values["json"]:
            kind = "said" if isinstance(step, Note) else "progress"
            facts = {"text": WORDING.fill(step.message)} if kind == "said" else dataclasses.asdict(step)
            print_json({"event": kind, "model": name, **facts})
        elif isinstance(step, Note):
            complain(WORDING.fill(step.message))
    path = find_listed(_shelf(values), name).path
    if values["json"]:
        print_json({"event": "done", "model": name, "path": str(path)})
    else:
        print(f"{name} -> {readable(path)}")
    return 0


def add(**values: Any) -> int:
    """Put a model file of your own on the list, by a name; it is used where it lies."""
    from calotype.checkpoints.add import add as put

    found = put(_shelf(values), values["file"], values["name"])
    print(f"{readable(found.name)} -> {readable(found.path)}")
    return 0


def import_from(**values: Any) -> int:
    """Put all models of an A1111, Forge or ComfyUI folder on the list; they stay and are used where they lie."""
    from calotype.checkpoints.add import import_from as imported
    from calotype.checkpoints.store import KINDS

    count = {"added": 0, "known": 0, "failed": 0}
    for one in imported(_shelf(values), values["folder"]):
        count[one.state] += 1
        if values["json"]:
            fault = WORDING.fill(one.fault) if one.fault else ""
            print_json({"path": str(one.path), "name": one.name, "kind": one.kind, "state": one.state, "fault": fault})
        elif one.fault:
            complain(f"left out: {WORDING.fill(one.fault)}")
        elif one.state == "added":
            print(f"{readable(one.name)}  {KINDS[one.kind]}  {readable(one.path)}", flush=True)
    if not values["json"]:
        known = f", {count['known']} known already" if count["known"] else ""
        print(f"{count['added']} added{known}, {count['failed']} left out")
    return 1 if count["failed"] else 0


def remove(**values: Any) -> int:
    """Take a model off the list; a fetched file is deleted, an added one stays where it lies."""
    print(f"removed: {readable(_shelf(values).remove(values['name']))}")
    return 0


def verify(**values: Any) -> int:
    """Read the models at hand again and compare them with their checksums."""
    is_good = True
    for verdict in _shelf(values).verify(values["name"]):
        is_good, word = is_good and verdict.is_good, WORDING.fill(verdict.message)
        if values["json"]:
            keys = {"name": verdict.name, "path": str(verdict.path), "sha256": verdict.sha256}
            print_json({**keys, "good": verdict.is_good, "word": word})
        else:
            print(f"{'ok' if verdict.is_good else '!!'}  {readable(verdict.name)}: {readable(word)}", flush=True)
    return 0 if is_good else 1


def _shelf(values: dict[str, Any]) -> "ModelStore":
    from calotype.checkpoints.store import ModelStore

    return ModelStore(Settings.gather(given(Settings, values)))


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


def _shown(steps: Any, as_json: bool) -> Iterator[Any]:
    """Passes progress on, at most some times a second, and draws it on a terminal."""
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
ANY = argument("name", str | None, "one model; all where not given", "NAME", None)
AS_JSON = flag("json", "as JSON")
CALLED = flag("name", "what to call it", kind=str | None)
shape(list_, AS_JSON, *flags(Settings))
shape(info, NAME, AS_JSON, *flags(Settings))
shape(pull, NAME, AS_JSON, *flags(Settings))
shape(add, argument("file", Path, "the file", "FILE"), CALLED, *flags(Settings))
ROOT = argument("folder", Path, "its folder, such as stable-diffusion-webui", "FOLDER")
shape(import_from, ROOT, AS_JSON, *flags(Settings))
shape(remove, NAME, *flags(Settings))
shape(verify, ANY, AS_JSON, *flags(Settings))
COMMANDS = (list_, info, pull, add, import_from, remove, verify)
