"""Models that are fetched in the background of the service."""

import logging
import threading
from dataclasses import dataclass, replace

from calotype.checkpoints.download import pull
from calotype.checkpoints.entries import Entry
from calotype.errors import CalotypeError, Message
from calotype.settings import Settings
from calotype.tasks.events import Progress

log = logging.getLogger("calotype.api")
AT_ONCE = 2


@dataclass(frozen=True)
class Download:
    """How far a model is fetched: `state` is waiting, running, done or failed."""

    name: str
    state: str = "waiting"
    done: int = 0  # bytes
    total: int = 0
    error: Message | None = None


class Downloads:
    """The downloads since the service was started, by the names of their models."""

    def __init__(self) -> None:
        self._all: dict[str, Download] = {}
        self._lock, self._free = threading.Lock(), threading.Semaphore(AT_ONCE)

    def list(self) -> list[Download]:
        with self._lock:
            return list(self._all.values())

    def start(self, entry: Entry, settings: Settings) -> Download:
        """Fetches a model, unless that is being done."""
        with self._lock:
            known = self._all.get(entry.name)
            if known and known.state in ("waiting", "running"):
                return known
            self._all[entry.name] = started = Download(entry.name)
        threading.Thread(target=self._fetch, args=(entry, settings), daemon=True).start()
        return started

    def _fetch(self, entry: Entry, settings: Settings) -> None:
        try:
            with self._free:
                self._change(entry, state="running")
                for step in pull(entry, settings):
                    if isinstance(step, Progress):
                        self._change(entry, done=step.done, total=step.total)
            self._change(entry, state="done")
        except CalotypeError as fault:
            self._change(entry, state="failed", error=fault.message)
        except Exception:
            log.exception("%s cannot be fetched", entry.name)
            self._change(entry, state="failed", error=Message("an internal error; see the log of the service"))

    def _change(self, entry: Entry, **changes: object) -> None:
        with self._lock:
            self._all[entry.name] = replace(self._all[entry.name], **changes)
