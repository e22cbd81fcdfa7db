"""Jobs, events and accounts as answers show them: without paths of this machine."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from calotype.api.page_wording import PAGE
from calotype.api.views import ErrorView, JobView, LearningView, NoteView, ResultView, SampleView
from calotype.api.wording import WORDING, ResponseWording
from calotype.errors import CalotypeError, Wording
from calotype.jobs.jobs import Job
from calotype.jobs.store import JobStore
from calotype.tasks import is_training
from calotype.tasks.events import as_line, from_data, worded

MAX_POINTS = 400  # of a curve
MAX_READ = 20_000  # events of a job
LOOKED_BACK = 500  # events, among which there is the last step: while samples are drawn, there are others
PATHS = ("source", "target", "out", "report", "film", "uncertainty", "mask")  # of events: files of the worker
_PATH = re.compile(r"""(?<![^\s'"(=])(?:[A-Za-z]:)?(?:[/\\][^/\\\s'";:,()]+)+[/\\]([^/\\\s'";:,()]+)""")


def job_view(job: Job) -> JobView:
    results = [
        ResultView(
            id=result.id,
            name=result.name,
            media_type=result.media_type,
            size=result.size,
            sha256=result.sha256,
            facts=_facts(result.facts),
            url=f"/jobs/{job.id}/results/{result.id}",
        )
        for result in job.results
    ]
    wording = PAGE if is_training(job.kind) else ResponseWording(job.kind)
    return JobView(
        **{name: getattr(job, name) for name in ("id", "kind", "state", "priority", "created", "started", "finished")},
        **{name: getattr(job, name) for name in ("cost", "parent", "attempts", "is_favourite")},
        task=dict(job.task),
        files=dict(job.files),
        output=dict(job.output),
        progress=job.progress and event_data(job.progress),
        preview=f"/jobs/{job.id}/preview" if job.preview else None,
        results=results,
        error=error_view(job.error, wording) if job.error else None,
    )


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    try:
        shown = worded(facts, PAGE)
    except (KeyError, TypeError, ValueError):  # of another version
        return {name: value for name, value in facts.items() if name != "notes"}
    return shown | {"notes": [without_paths(note) for note in shown["notes"]]} if "notes" in shown else shown


def learning_view(store: JobStore, job: Job, after: int = 0) -> LearningView:
    """What a training run has told after event number `after`; a long curve has fewer points."""
    step, notes, losses = None, {}, {}
    events = store.events(job.id, after, MAX_READ)
    if after and any(event.data.get("event") == "said" for event in events):
        step = _step_at(store, job, after)
    for event in events:
        kind = event.data.get("event")
        if kind == "learning":
            step = event.data["done"]
            if event.data.get("loss") is not None:
                losses[step] = event.data["loss"]
        elif "step" in event.data:  # samples; only some of the steps have an event of their own
            step = event.data["step"]
        elif kind == "said":
            notes.setdefault(event_data(event.data, PAGE)["text"], step)
    if after:  # those that are new
        steps = [event.data["step"] for event in events if event.data.get("step") is not None]
        kept = store.files.samples(job.id) if steps else ()
        samples = [step for step in steps if step in kept]
    else:
        samples = store.files.samples(job.id)
    return LearningView(
        job=job.id,
        last=events[-1].number if events else after,
        notes=[NoteView(step=step, text=text) for text, step in notes.items()],
        losses=_thinned(sorted(losses.items()), MAX_POINTS),
        samples=[SampleView(step=step, url=f"/jobs/{job.id}/samples/{step}") for step in samples],
    )


def _step_at(store: JobStore, job: Job, number: int) -> int | None:
    """The last step before an event."""
    before = store.events(job.id, max(0, number - LOOKED_BACK), min(number, LOOKED_BACK))
    steps = (
        event.data["done"] if event.data.get("event") == "learning" else event.data.get("step") for event in before
    )
    return max((step for step in steps if step is not None), default=None)


def _thinned(points: Sequence[Any], limit: int) -> list[Any]:
    """About `limit` of the points at even distances, the last one included."""
    every = -(-len(points) // limit) or 1
    return [point for n, point in enumerate(points) if (len(points) - 1 - n) % every == 0]


def error_view(data: Mapping[str, Any], wording: Wording = WORDING) -> ErrorView:
    fault = CalotypeError.from_data(data)
    return ErrorView(error="failed", detail=without_paths(wording.fill(fault)), option=fault.option)


def event_data(data: Mapping[str, Any], wording: Wording = WORDING) -> dict[str, Any]:
    """An event as `--json` of the command line has it, without files."""
    data, aside = {key: value for key, value in data.items() if key != "aside"}, data.get("aside")
    try:
        line = as_line(from_data(data), wording)
    except (KeyError, TypeError, ValueError):  # of another version
        line = dict(data)
    if aside:
        line["aside"] = {**aside, "what": wording.translate(str(aside["what"]))}
    return {
        key: without_paths(value) if isinstance(value, str) and key != "image" else value
        for key, value in line.items()
        if key not in PATHS
    }


def without_paths(text: str) -> str:
    """The text with the names of files instead of their paths."""
    return _PATH.sub(r"\1", text)
