"""Tools for language models: what they take, and the jobs that they become. `calotype.api.mcp` speaks the protocol."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool

from calotype.api.routes.models import models
from calotype.api.schemas import JOB_ID, UPLOAD_ID, task_schema
from calotype.api.service import Caller, Service
from calotype.api.shown import error_view, event_data
from calotype.api.waiting import changes, check_success, decoded, picture_results, preview_of, stored, submit
from calotype.checkpoints.entries import KINDS
from calotype.errors import CalotypeError
from calotype.jobs.files import open_stored
from calotype.jobs.jobs import Job, StoredResult
from calotype.options import as_name, nearest, shown
from calotype.outputs.publish import thumbnail

WAIT = 50.0  # seconds; many programs give up after 60
MAX_WAIT = 600.0
PREVIEWS = 4  # of one call
PREVIEW_SIDE = 512
PICTURE = {
    "type": "string",
    "description": "a picture: the id of a result of an earlier call, the id of an upload, or the file in base64",
}
WAIT_SCHEMA = {
    "type": "number",
    "minimum": 0,
    "maximum": MAX_WAIT,
    "default": WAIT,
    "description": "seconds to wait for the job; afterwards job_status tells how far it is",
}
PROMPT = ("prompt", "negative", "model", "lora", "size", "seed", "count", "steps", "guidance", "sampler", "schedule")
FOLLOW = "It returns small previews, and the id of each full file; a job that takes longer is followed by job_status."

Report = Callable[[float, float, str], Awaitable[None]]


@dataclass(frozen=True)
class ToolResult:
    """What a call returns.

    Attributes:
        data: for programs.
        files: results, whose content is read by their ids.
        previews: JPEG files.
    """

    data: dict[str, Any]
    files: tuple[StoredResult, ...] = ()
    previews: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Tool:
    """A tool.

    Attributes:
        schema: JSON Schema of its arguments.
        run: takes the service, the caller, the arguments, and a function that is told the progress.
        is_reading: it changes nothing.
    """

    title: str
    description: str
    schema: dict[str, Any]
    run: Callable[[Service, Caller, Mapping[str, Any], Report], Awaitable[ToolResult]]
    is_reading: bool = False


async def call(service: Service, caller: Caller, name: str, arguments: Mapping[str, Any], report: Report) -> ToolResult:
    """Calls a tool for an account.

    Raises:
        CalotypeError: an unknown tool or argument, an invalid value, another account's object, or a failed job.
    """
    if name not in TOOLS:
        raise CalotypeError("there is no tool {name}{hint}", name=as_name(name), hint=nearest(name, TOOLS))
    schema = TOOLS[name].schema
    for argument in arguments:
        if argument not in schema["properties"]:
            hint = nearest(argument, schema["properties"])
            raise CalotypeError("there is no option {name}{hint}", name=as_name(argument), hint=hint)
    given = {argument: value for argument, value in arguments.items() if value is not None}
    for argument in schema["required"]:
        if argument not in given:
            raise CalotypeError("{option} must be given", option=argument)
    return await TOOLS[name].run(service, caller, given, report)


# Jobs


def _object(properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _job_tool(
    title: str,
    description: str,
    kind: str,
    pictures: Mapping[str, str],
    options: tuple[str, ...],
    required: tuple[str, ...],
) -> Tool:
    """A tool that becomes a job.

    Args:
        pictures: arguments that are pictures, and the options of the task that take them.
        options: of the task, which are arguments by the same names.
        required: arguments.
    """
    properties = task_schema(kind)["properties"]
    arguments = dict.fromkeys(pictures, PICTURE) | {name: properties[name] for name in options}

    async def run(service: Service, caller: Caller, given: Mapping[str, Any], report: Report) -> ToolResult:
        service.check_open()
        seconds = _seconds(given)
        job = await run_in_threadpool(_submit, kind, pictures, service, caller, given)
        job = await _wait(service, job, seconds, report)
        check_success(job)
        return await run_in_threadpool(_job_result, service, job)

    return Tool(title, f"{description} {FOLLOW}", _object(arguments | {"wait": WAIT_SCHEMA}, required), run)


def _submit(kind: str, pictures: Mapping[str, str], service: Service, caller: Caller, given: Mapping[str, Any]) -> Job:
    service.check_storage(caller)
    task = {name: value for name, value in given.items() if name not in pictures and name != "wait"}
    files = {
        option: _upload(service, caller, given[name], name, option)
        for name, option in pictures.items()
        if name in given
    }
    return submit(service, caller, kind, task, files)


def _upload(service: Service, caller: Caller, text: Any, argument: str, option: str) -> str:
    """An upload with the picture of an argument, for an option of the task."""
    if isinstance(text, str) and re.fullmatch(UPLOAD_ID, text):
        return f"{service.store.find_upload(caller.owner, text).id}/{option}"
    if isinstance(text, str) and re.fullmatch(JOB_ID, text):
        _, result = service.store.result(text, caller.owner)
        with open_stored(service.store.files.result(result.id)) as file:
            return stored(service, caller, file, option)
    return stored(service, caller, decoded(service, text, argument), option)


def _seconds(given: Mapping[str, Any], default: float = WAIT) -> float:
    value = given.get("wait", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_WAIT:
        limit = MAX_WAIT
        raise CalotypeError(
            "{option} is from 0 up to {limit:g}, not {value}", option="wait", limit=limit, value=shown(value)
        )
    return float(value)


async def _wait(service: Service, job: Job, seconds: float, report: Report) -> Job:
    """The job when it has ended, or as it is after some seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for latest in changes(service, job):
                job = latest
                if job.progress and not job.is_finished:
                    facts = job.progress
                    await report(facts.get("done") or 0, facts.get("total") or 0, str(facts.get("what") or ""))
    return job


def _job_result(service: Service, job: Job) -> ToolResult:
    files, previews = service.store.files, []
    for result in picture_results(job)[:PREVIEWS]:
        with contextlib.suppress(CalotypeError):  # the file itself is there all the same
            path = files.result(result.id)
            previews.append(thumbnail(path, PREVIEW_SIDE, service.settings.max_pixels))
    if job.preview and not job.is_finished and (preview := preview_of(service, job)):
        previews.append(preview)
    return ToolResult(_job_data(job), tuple(job.results), tuple(previews))


def _job_data(job: Job) -> dict[str, Any]:
    results = [
        {
            **{name: result.facts[name] for name in ("seed", "width", "height", "beside") if name in result.facts},
            **{"id": result.id, "name": result.name, "media_type": result.media_type, "size": result.size},
        }
        for result in job.results
    ]
    data = {"job": job.id, "state": job.state, "results": results}
    if job.progress and not job.is_finished:
        data["progress"] = event_data(job.progress)
    return data | ({"error": error_view(job.error).detail} if job.error else {})


# What there is


async def _job_status(service: Service, caller: Caller, given: Mapping[str, Any], report: Report) -> ToolResult:
    seconds = _seconds(given, 0.0)
    job_id = given["job"] if isinstance(given["job"], str) else ""
    job = await run_in_threadpool(service.store.get, job_id[:100], caller.owner)
    return await run_in_threadpool(_job_result, service, await _wait(service, job, seconds, report))


async def _list_models(service: Service, caller: Caller, given: Mapping[str, Any], _: Report) -> ToolResult:
    kind = given.get("kind")
    if kind is not None and not (isinstance(kind, str) and kind in KINDS):
        hint = nearest(kind, KINDS)
        raise CalotypeError("there is no kind {kind}{hint}", kind=as_name(kind), hint=hint, option="kind")
    found = await run_in_threadpool(models, caller, service, kind)
    rows = [{"name": model.name, "kind": model.kind, "about": model.about} for model in found if model.is_available]
    return ToolResult({"models": rows})


TOOLS = {
    "text_to_image": _job_tool(
        "Generate pictures", "Generates pictures from a prompt.", "imagine", {}, PROMPT, ("prompt",)
    ),
    "image_to_image": _job_tool(
        "Redraw a picture",
        "Redraws a picture after a prompt, or only the part that is white in a mask.",
        "imagine",
        {"image": "init", "mask": "mask"},
        (*PROMPT, "strength", "resize", "invert_mask", "fill", "only_masked", "outpaint"),
        ("image", "prompt"),
    ),
    "restore_photo": _job_tool(
        "Restore a photo",
        "Restores the faces of an old or damaged photo, and enlarges it.",
        "restore",
        {"image": "source"},
        ("scale", "strength", "upscaler", "faces", "face_model", "fidelity"),
        ("image",),
    ),
    "upscale": _job_tool(
        "Enlarge a picture",
        "Enlarges a picture with a super-resolution network.",
        "upscale",
        {"image": "source"},
        ("scale", "model"),
        ("image",),
    ),
    "list_models": Tool(
        "List models",
        "Lists the models that other tools take by their names.",
        _object({"kind": {"type": "string", "enum": list(KINDS), "description": "only models of this kind"}}),
        _list_models,
        is_reading=True,
    ),
    "job_status": Tool(
        "Status of a job",
        "Tells how far a job is, with its previews and results.",
        _object(
            {
                "job": {"type": "string", "description": "id of the job"},
                "wait": WAIT_SCHEMA | {"default": 0, "description": "seconds to wait for the end of the job"},
            },
            ("job",),
        ),
        _job_status,
        is_reading=True,
    ),
}
