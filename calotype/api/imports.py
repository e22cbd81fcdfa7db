"""Models of other programs' folders, put on the list in the background of the service.

A client names a folder by its id, never by a path: the folders are those that the service was started with.
"""

import hashlib
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from calotype.errors import CalotypeError, Message
from calotype.jobs.jobs import NotFound
from calotype.settings import Settings

log = logging.getLogger("calotype.api")
MAX_FAULTS = 20  # that are kept; all are counted
# A process of its own looks into the files: that may take torch, much memory, and whatever a damaged file does.
START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from calotype.api import imports; "
START += "imports.serve(*sys.argv[2:])"


@dataclass(frozen=True)
class Import:
    """How far a folder is: `state` is empty, running, done or failed; how many models were added, and so on."""

    id: str
    name: str  # of the folder
    state: str = ""
    added: int = 0
    known: int = 0  # on the list already
    failed: int = 0
    faults: tuple[CalotypeError | Message, ...] = ()


class Imports:
    """The folders, by their ids."""

    def __init__(self, folders: Iterable[str]):
        self._folders = {_id(folder): Path(folder).expanduser() for folder in folders}
        self._all = {id: Import(id, folder.name or str(folder)) for id, folder in self._folders.items()}
        self._lock = threading.Lock()

    def list(self) -> list[Import]:
        with self._lock:
            return list(self._all.values())

    def start(self, folder_id: str, settings: Settings) -> Import:
        """Imports a folder, unless that is being done. Raises NotFound."""
        with self._lock:
            if folder_id not in self._all:
                raise NotFound("there is no folder {id}", id=folder_id)
            known = self._all[folder_id]
            if known.state == "running":
                return known
            self._all[folder_id] = started = Import(known.id, known.name, "running")
        threading.Thread(target=self._run, args=(folder_id, settings), daemon=True).start()
        return started

    def _run(self, folder_id: str, settings: Settings) -> None:
        command = [sys.executable, "-c", START, json.dumps(sys.path), str(self._folders[folder_id]), str(settings.home)]
        try:
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
                for line in process.stdout:
                    self._count(folder_id, json.loads(line))
            if process.returncode:
                raise RuntimeError(f"the process ended with status {process.returncode}")
        except Exception:
            log.exception("a folder of models cannot be imported")
            self._change(folder_id, "failed", fault=Message("an internal error; see the log of the service"))
        else:
            is_refused = self._all[folder_id].state == "failed"
            self._change(folder_id, "failed" if is_refused else "done")

    def _count(self, folder_id: str, outcome: dict) -> None:
        """Takes the outcome for one file; `folder` stands for the whole folder, which cannot be used."""
        fault = CalotypeError.from_data(outcome["fault"]) if outcome["fault"] else None
        if outcome["state"] == "folder":
            self._change(folder_id, "failed", fault=fault)
        else:
            self._change(folder_id, "running", outcome["state"], fault)

    def _change(
        self, folder_id: str, state: str, counted: str = "", fault: CalotypeError | Message | None = None
    ) -> None:
        with self._lock:
            known = self._all[folder_id]
            counts = {counted: getattr(known, counted) + 1} if counted else {}
            faults = (*known.faults, *([fault] if fault else []))[:MAX_FAULTS]
            self._all[folder_id] = replace(known, state=state, faults=faults, **counts)


def serve(folder: str, home: str) -> None:
    """In the process: a line of JSON for each file."""
    from calotype.checkpoints.add import import_from
    from calotype.checkpoints.store import ModelStore

    def write(state: str, fault: CalotypeError | None) -> None:
        print(json.dumps({"state": state, "fault": fault and fault.as_data()}), flush=True)

    try:
        for found in import_from(ModelStore(Settings(home=Path(home))), Path(folder)):
            write(found.state, found.fault)
    except CalotypeError as fault:
        write("folder", fault)


def _id(folder: str) -> str:
    return hashlib.sha256(folder.encode()).hexdigest()[:16]
