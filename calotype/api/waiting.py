"""Requests that wait for their job, as the APIs of other programs have them: from its pictures to its results."""

import base64
import binascii
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, BinaryIO

import anyio.from_thread
from starlette.concurrency import run_in_threadpool

from calotype.api.addresses import fetch, is_address
from calotype.api.errors import Refusal
from calotype.api.orders import Order, check_task, models_of, work_in
from calotype.api.service import Caller, Service
from calotype.api.shown import error_view
from calotype.api.wording import WORDING
from calotype.checkpoints.store import known_name
from calotype.errors import CalotypeError, Wording
from calotype.jobs.files import open_stored
from calotype.jobs.jobs import FileRefs, Job, StoredResult

MAX_RESPONSE = 256 << 20  # bytes of files that an answer holds
MODEL_OPTIONS = ("upscaler", "hires_upscaler", "model")  # other programs have names of their own for some models


def decoded(service: Service, text: Any, option: str) -> io.BytesIO:
    """A picture in base64, with or without the start of a data URL, or by its address where that is allowed. Runs in a
    thread of the server's pool. Raises CalotypeError for anything else."""
    if not isinstance(text, str) or not text:
        raise CalotypeError("{option} is a picture in base64", option=option)
    if is_address(text):
        if not service.service.image_urls:
            raise CalotypeError(
                "{option} is an address, which the service does not open; send the picture", option=option
            )
        return io.BytesIO(anyio.from_thread.run(_fetched, service, text, option))
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return io.BytesIO(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise CalotypeError("{option} is not valid base64", option=option) from None


async def _fetched(service: Service, address: str, option: str) -> bytes:
    with service.fetches.opened(""):
        return await fetch(address, option, service.max_upload)


def stored(service: Service, caller: Caller, file: BinaryIO, option: str) -> str:
    """A picture of a request as an upload, with the option's name as its file name: the record of a result names it."""
    return f"{service.store.upload(caller.owner, file, service.max_upload).id}/{option}"


def submit(
    service: Service,
    caller: Caller,
    kind: str,
    task: Mapping[str, Any],
    files: Mapping[str, FileRefs],
    output: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> Job:
    """Queues a job. Raises CalotypeError for an invalid task, and what `Service.submit` raises."""
    task = {name: known_name(value) if name in MODEL_OPTIONS else value for name, value in task.items()}
    checked = check_task(kind, task, files, service.names_for(caller), caller.limits)
    models, work = models_of(checked), work_in(checked, files)
    return service.submit(caller, Order(kind, task, files, output or {}, models=models, work=work), key)


async def changes(service: Service, job: Job) -> AsyncIterator[Job]:
    """The job as it is, after each change, and every few seconds without one, until it has ended.

    Raises:
        Refusal: the service stops; the job stays in the queue.
    """
    yield job
    while not job.is_finished:
        await service.hub.wait(job.id, job.last_event)
        if service.stopping.is_set():
            raise Refusal(503, "the service is stopping; the job {id} is kept", id=job.id)
        job = await run_in_threadpool(service.store.get, job.id)
        yield job


async def wait(service: Service, job: Job) -> Job:
    """The job when it has ended. Raises Refusal if the service stops."""
    async for latest in changes(service, job):
        job = latest
    return job


def check_success(job: Job, wording: Wording = WORDING) -> None:
    """Raises Refusal if the job failed."""
    if job.error:
        error = error_view(job.error, wording)
        raise Refusal(422, "{reason}", reason=error.detail, option=error.option)


def picture_results(job: Job) -> list[StoredResult]:
    """The pictures of a job, without those that explain one of them."""
    return [result for result in job.results if result.is_picture]


def as_base64(service: Service, results: Sequence[StoredResult], limit: int = MAX_RESPONSE) -> list[str]:
    """The files of results. Raises NotFound if one was deleted meanwhile, Refusal (413) if they exceed the limit."""
    size = sum(result.size for result in results)
    if size > limit:
        raise Refusal(
            413,
            "the files of the result have {size:,} bytes, more than the {limit:,} of an answer; fetch each by its id",
            size=size,
            limit=limit,
        )
    return [_encoded(service, result) for result in results]


def _encoded(service: Service, result: StoredResult) -> str:
    with open_stored(service.store.files.result(result.id)) as file:
        return base64.b64encode(file.read()).decode()


def preview_of(service: Service, job: Job) -> bytes | None:
    """The latest preview, a JPEG."""
    try:
        return service.store.files.preview(job.id).read_bytes()
    except FileNotFoundError:  # there is none, or the job ends at this moment
        return None


def preview_as_base64(service: Service, job: Job) -> str | None:
    preview = preview_of(service, job)
    return None if preview is None else base64.b64encode(preview).decode()
