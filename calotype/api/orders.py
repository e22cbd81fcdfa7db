"""A request for a job: reads and checks it, by the same rules for every kind of task."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from calotype.api.errors import Refusal
from calotype.api.schemas import FILE_REF, JOB_ID, NOT_UPLOADED
from calotype.errors import CalotypeError
from calotype.files import RESERVED_NAME
from calotype.jobs.jobs import FileRefs, upload_ids
from calotype.options import about, as_name, nearest, option_fields, read, shown
from calotype.tasks import TASKS, Imagine, read_task
from calotype.tasks.captions import INSTALLED, Caption
from calotype.tasks.guard import STORED, Names
from calotype.tasks.limits import LIMITS, Limits, work_of
from calotype.tasks.output import JOB_OUTPUT_OPTIONS, DrawingOutput
from calotype.tasks.sheets import cells

KEYS = ("kind", "task", "files", "output", "priority", "parent")
MAX_FILES = 1000  # of one job
MAX_PRIORITY = 10
PLAN_PRIORITY = 1  # of one that only tells its plan, which takes seconds: it waits for none of its owner's trainings
UPLOAD = Path("upload")  # stands for an uploaded file
TAGGER = Path("tagger")  # stands for that of the worker
RESULT = Path("result")  # stands for the output file, which the worker chooses


@dataclass(frozen=True)
class Order:
    """A checked request.

    Attributes:
        files: uploads by option, as the job store takes them.
        output: format and quality of generated pictures.
        work: as `limits.work_of` has it.
    """

    kind: str
    task: Mapping[str, Any]
    files: Mapping[str, FileRefs]
    output: Mapping[str, Any]
    priority: int = 0
    parent: str | None = None
    models: frozenset[str] = frozenset()
    work: float = 1.0


def read_order(data: Mapping[str, Any], names: Names, limits: Limits | None = None) -> Order:
    """Raises CalotypeError for anything that the task does not accept, and for an invalid file, priority or parent."""
    kind, task = read_kind(data, KEYS)
    files = read_files(data.get("files", {}))
    checked = check_task(kind, task, files, names, limits)
    usual = PLAN_PRIORITY if task.get("dry_run") is True else 0
    priority, parent = _priority(data.get("priority", usual)), _parent(data.get("parent"))
    output = _output(kind, data.get("output", {}))
    return Order(kind, task, files, output, priority, parent, models_of(checked), work_in(checked, files))


def read_kind(data: Mapping[str, Any], keys: Collection[str]) -> tuple[str, dict[str, Any]]:
    """The kind of task and its options in a body. Raises CalotypeError if the body has other keys than `keys`."""
    for name in data:
        if name not in keys:
            raise CalotypeError("there is no option {name}{hint}", name=as_name(name), hint=nearest(name, keys))
    if "kind" not in data:
        raise CalotypeError("{option} must be given", option="kind")
    kind, task = data["kind"], data.get("task", {})
    if not isinstance(kind, str) or kind not in TASKS:
        hint = nearest(kind, TASKS)
        raise CalotypeError("there is no task {kind}{hint}", kind=as_name(kind), hint=hint, option="kind")
    if not isinstance(task, Mapping):
        raise CalotypeError("{option} takes options by their names, not {value}", option="task", value=shown(task))
    return kind, dict(task)


def models_of(task: Any) -> frozenset[str]:
    """Names of the models that a task loads: a worker that has them may run it first."""
    return frozenset(
        getattr(task, spec.name)
        for spec in option_fields(task)
        if about(spec).names in STORED and not about(spec).parsed
    ) - {"", "none", "auto"}


def work_in(task: Any, files: Mapping[str, FileRefs]) -> float:
    """The work of a checked task with its uploads."""
    cell_tasks = [cell.task for cell in cells(task, LIMITS.cells)] if isinstance(task, Imagine) else [task]
    return work_of(task, cell_tasks, sum(1 for _ in upload_ids(files)) or 1)


def check_task(
    kind: str, task: Mapping[str, Any], files: Mapping[str, FileRefs], names: Names, limits: Limits | None = None
) -> Any:
    """The task, as the worker will read it. Raises CalotypeError."""
    uploads: dict[str, Path] = {}
    if task.get("tagger") == INSTALLED and TASKS[kind] is Caption:
        task, uploads["tagger"] = {name: task[name] for name in task if name != "tagger"}, TAGGER
    for option in files:
        if option.partition(".")[0] in NOT_UPLOADED:
            raise CalotypeError("{option} does not take a file from a request", option=option)
        uploads[option] = UPLOAD
    if "out" in {spec.name for spec in fields(TASKS[kind])}:
        if "out" in task:
            raise CalotypeError("the service chooses where results are written; leave out {option:out}")
        uploads["out"] = RESULT
    return read_task(kind, task, trusted=False, names=names, files=uploads, limits=limits)


def read_files(data: Any) -> dict[str, FileRefs]:
    """The uploads in a body: a text is a file, a list a folder."""
    if not isinstance(data, Mapping):
        raise CalotypeError("{option} takes ids of uploads by options, not {value}", option="files", value=shown(data))
    files: dict[str, FileRefs] = {}
    for option, value in data.items():
        if not re.fullmatch(r"[a-z0-9_.]{1,100}", option):
            raise CalotypeError("there is no option {name}", name=as_name(option))
        if value == []:
            raise CalotypeError("{option} has no files; upload some", option=option)
        files[option] = [_ref(entry, option) for entry in value] if isinstance(value, list) else _ref(value, option)
    if sum(1 for _ in upload_ids(files)) > MAX_FILES:
        raise CalotypeError("a job takes up to {limit:,} files", limit=MAX_FILES, option="files")
    return files


def _ref(value: Any, option: str) -> str:
    """The id of an upload, or with a name: ID/photo.jpg."""
    if not isinstance(value, str) or not re.fullmatch(FILE_REF, value):
        raise CalotypeError(
            "{option} takes the id of an upload, or ID/name.jpg, not {value}", option=option, value=shown(value)
        )
    name = value.partition("/")[2]
    if name and (name != name.strip(" .") or RESERVED_NAME.fullmatch(name) or not name.isprintable()):
        raise CalotypeError("{name} cannot be the name of a file; give another", name=shown(name), option=option)
    return value


def _output(kind: str, data: Any) -> dict[str, Any]:
    """Options of the file of a generated picture."""
    if not isinstance(data, Mapping):
        raise CalotypeError("{option} takes options by their names, not {value}", option="output", value=shown(data))
    if data and TASKS[kind] is not Imagine:
        raise CalotypeError("the kind {kind} has no {option}; its task has such options", option="output", kind=kind)
    for name in data:
        if name not in JOB_OUTPUT_OPTIONS:
            hint = nearest(name, JOB_OUTPUT_OPTIONS)
            raise CalotypeError("there is no option {name}{hint}", name=as_name(name), hint=hint)
    read(DrawingOutput, data)
    return dict(data)


def _priority(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_PRIORITY:
        raise CalotypeError(
            "{option} is a whole number from {least} up to {limit}, not {value}",
            option="priority",
            least=-MAX_PRIORITY,
            limit=MAX_PRIORITY,
            value=shown(value),
        )
    return value


def _parent(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and re.fullmatch(JOB_ID, value)):
        raise CalotypeError("{option} is the id of a job, not {value}", option="parent", value=shown(value))
    return value


def read_key(text: str | None) -> str | None:
    """The header Idempotency-Key."""
    if text is None:
        return None
    if not re.fullmatch(r"[\x21-\x7e]{1,200}", text):
        raise Refusal(422, "the idempotency key is up to 200 ASCII characters without spaces")
    return text
