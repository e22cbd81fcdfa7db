"""One attempt at a job: its files, its task, the events of its run, and its results."""

import contextlib
import dataclasses
import mimetypes
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from calotype.engine import Engine
from calotype.errors import CalotypeError, Message
from calotype.files import make_folder
from calotype.jobs.files import FileStore
from calotype.jobs.jobs import EXPLAINING, Job, NewResult
from calotype.options import read
from calotype.runner import Request, run
from calotype.suffixes import MEDIA_TYPES, SUFFIXES
from calotype.tasks import TASKS, is_training, read_task
from calotype.tasks.captions import INSTALLED
from calotype.tasks.events import Event, Failed, Note, Saved, Skipped, as_data
from calotype.tasks.limits import Limits
from calotype.tasks.output import JOB_OUTPUT_OPTIONS, Album, DrawingOutput
from calotype.worker.worker_options import WorkerOptions

BESIDE = ("film", "report", *EXPLAINING)  # facts of a result that name other files
LORA_NAME = "lora.safetensors"
NAME_LENGTH = 100
UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\/]')


class Attempt:
    """Runs a job in its folder.

    Attributes:
        results: the files written so far.
        failures: of single pictures.
    """

    def __init__(self, job: Job, files: FileStore, engine: Engine, limits: Limits | None, options: WorkerOptions):
        self.job, self.engine, self._files = job, engine, files
        self._limits, self._options = limits, options
        self.folder = files.work(job.id)
        self.inputs, self.out = self.folder / "in", self.folder / "out"
        TASKS[job.kind]  # raises KeyError for a kind of a newer version
        self.is_training = is_training(job.kind)
        self.results: list[NewResult] = []
        self.failures: list[Failed] = []
        self._notes: dict[str, list[Message]] = {}  # about each source that has no result yet

    def events(self) -> Iterator[Event]:
        """Runs the job. Closing the generator stops it within one step; a training run then saves its state.

        Raises:
            CalotypeError: as `runner.run`.
        """
        task = self._task()
        output = Album(out=self.out, sidecar=False) if hasattr(task, "source") else self._drawing_output()
        request = Request((task,), limits=self._limits)
        with contextlib.closing(
            run(request, self.engine, output, preview_every=self._options.preview_every or None)
        ) as events:
            for event in events:
                if isinstance(event, Note) and event.source and not event.topic:  # others are about the run
                    self._notes.setdefault(event.source, []).append(event.message)
                elif isinstance(event, Saved | Skipped):
                    notes = self._notes.pop(event.source, [])
                    self._add_result(Path(event.target), getattr(event, "facts", {}), notes)
                elif isinstance(event, Failed):
                    self.failures.append(event)
                yield event

    @property
    def states(self) -> dict[str, int]:
        """The state files of a training run, with the time of their last change."""
        found = self.out.glob("**/*.state.safetensors") if self.is_training else ()
        return {str(path): path.stat().st_mtime_ns for path in found}

    def as_data(self, event: Event) -> dict[str, Any]:
        """The event without the paths of this computer."""
        return self._without_paths(as_data(event))

    def as_error(self, fault: CalotypeError) -> CalotypeError:
        """The error without the paths of this computer."""
        return CalotypeError.from_data(self._without_paths(fault.as_data()))

    def _task(self) -> Any:
        make_folder(self.folder, "home")
        shutil.rmtree(self.inputs, ignore_errors=True)
        if not self.states:  # also what a training has left that was killed after its end, before it was told
            shutil.rmtree(self.out, ignore_errors=True)
        make_folder(self.out, "home")
        cls, files = TASKS[self.job.kind], {}
        for option, refs in self.job.files.items():
            files[option] = self._place(option, refs)
        names = {spec.name for spec in dataclasses.fields(cls)}
        if self.is_training:
            files["output_dir"] = self.out
        elif "out" in names:
            files["out"] = self.out if "photos" in names else self.out / getattr(cls, "FILE_NAME", LORA_NAME)
        if self.job.task.get("tagger") == INSTALLED:
            if self._options.tagger is None:
                raise CalotypeError("no tagger is installed with the worker of this job", option="tagger")
            files["tagger"] = self._options.tagger
        return read_task(self.job.kind, self.job.task, files=files)

    def _drawing_output(self) -> DrawingOutput:
        given = {name: value for name, value in self.job.output.items() if name in JOB_OUTPUT_OPTIONS}
        return read(DrawingOutput, {**given, "out": self.out})

    def _place(self, option: str, refs: str | list[str]) -> Path:
        """Links uploads into the folder of the job, with their names; a list becomes a folder."""
        folder = self.inputs / UNSAFE.sub("_", option)
        make_folder(folder, "home")
        names: set[str] = set()
        for number, ref in enumerate([refs] if isinstance(refs, str) else refs, 1):
            upload, _, name = ref.partition("/")
            name = safe_name(name)
            name = name if name.casefold() not in names else f"{number}-{name}"
            names.add(name.casefold())
            _link(self._files.upload(upload), folder / name)
        return folder / name if isinstance(refs, str) else folder

    def _add_result(self, target: Path, facts: Any, notes: Sequence[Message]) -> None:
        if target.is_dir():
            target = _zipped(target)
        if target.is_file():
            own = {name: value for name, value in facts.items() if name not in BESIDE}
            if notes:
                own["notes"] = [note.as_data() for note in notes]
            self.results.append(NewResult(target, target.name, media_type(target), self._without_paths(own)))
        for name in BESIDE:
            for path in map(Path, _texts(facts.get(name))):
                if path.is_file():
                    self.results.append(NewResult(path, path.name, media_type(path), {"beside": name}))

    def _without_paths(self, data: Any) -> Any:
        if isinstance(data, str):
            data = re.sub(re.escape(f"{self.inputs}{os.sep}") + r"[^/\\]*[/\\]", "", data)
            for folder in (f"{self.out}{os.sep}", f"{self.folder}{os.sep}", str(self.folder)):
                data = data.replace(folder, "")
            return data
        if isinstance(data, dict):
            return {key: self._without_paths(value) for key, value in data.items()}
        return [self._without_paths(value) for value in data] if isinstance(data, list | tuple) else data


def _texts(value: Any) -> Sequence[str]:
    """The texts of a fact, which is one, several or none."""
    return [value] if isinstance(value, str) else value or ()


def safe_name(name: str) -> str:
    """A file name that can do no harm: no folder, no hidden file, not too long. The suffix is kept."""
    name = UNSAFE.sub("_", name.replace("\\", "/").rpartition("/")[2]).strip(" .")
    path = Path(name.encode("utf-8", "replace").decode() or "upload")
    return path.stem[: NAME_LENGTH - len(path.suffix[:20])].encode()[:200].decode(errors="ignore") + path.suffix[:20]


def media_type(path: Path) -> str:
    known = MEDIA_TYPES.get(SUFFIXES.get(path.suffix.lower(), "")) or mimetypes.guess_type(path.name)[0]
    return known or "application/octet-stream"


def _link(source: Path, target: Path) -> None:
    try:
        os.symlink(source.absolute(), target)
    except OSError:  # Windows without the right to create links
        shutil.copyfile(source, target)


def _zipped(folder: Path) -> Path:
    path = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # weights do not get smaller
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path
