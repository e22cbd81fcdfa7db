"""OpenAI's images API, for programs that were written for it. Its requests become jobs, and wait for them."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from calotype.api.access import WAITING, CallerOf, ServiceOf
from calotype.api.body import open_form, read_json
from calotype.api.errors import openai_error, status_of
from calotype.api.orders import read_key
from calotype.api.responses import ANYWHERE, EVENTS, refusals
from calotype.api.schemas import body_of
from calotype.api.service import Caller, Service
from calotype.api.views import (
    OpenAIErrorView,
    OpenAIModelsView,
    OpenAIModelView,
    PicturesView,
    PictureView,
    UsageView,
)
from calotype.api.waiting import (
    as_base64,
    changes,
    check_success,
    picture_results,
    preview_as_base64,
    stored,
    submit,
    wait,
)
from calotype.api.wording import OPENAI
from calotype.dialects.openai_api import (
    ANSWERED_QUALITIES,
    EditImage,
    GenerateImage,
    ImageParameters,
    VaryImage,
    form_values,
    read_parameters,
)
from calotype.errors import CalotypeError
from calotype.jobs.jobs import Conflict, Job, NotFound
from calotype.options import as_name

FILES = {"image": "init", "image[]": "init", "mask": "mask"}  # of a form: options of the task
STREAM = {200: {"description": "pictures, or events", "content": EVENTS}}

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=refusals(*ANYWHERE, 404, 409, view=OpenAIErrorView))
Key = Annotated[str | None, Header(description="the same key twice is one job")]


@dataclass(frozen=True)
class Asked:
    """A request whose job is in the queue."""

    parameters: ImageParameters
    job: Job
    base_url: str
    event: str  # start of the types of its events

    def value(self, name: str, default: Any) -> Any:
        return getattr(self.parameters, name, default)

    @property
    def facts(self) -> dict[str, Any]:
        """What answers and events have in common."""
        quality = self.value("quality", "auto")
        return {
            "background": "opaque",
            "output_format": self.value("output_format", "png"),
            "quality": ANSWERED_QUALITIES.get(quality, quality),
        }


@router.post(
    "/images/generations",
    response_model=PicturesView,
    response_model_exclude_none=True,
    dependencies=WAITING,
    responses=STREAM,
    openapi_extra=body_of(GenerateImage),
)
async def generate(request: Request, caller: CallerOf, service: ServiceOf, idempotency_key: Key = None) -> Any:
    """Generate pictures from a prompt, and wait for them."""
    service.check_open()
    data, key = await read_json(request), read_key(idempotency_key)
    return await _respond(service, await _submit(request, service, caller, GenerateImage, data, {}, key))


def _form_body(cls: type, *, has_mask: bool) -> dict[str, Any]:
    content = body_of(cls)["requestBody"]["content"]["application/json"]["schema"]
    file = {"type": "string", "format": "binary"}
    files = {"image": file, "mask": file} if has_mask else {"image": file}
    required = [*content["required"], "image"]
    schema = {**content, "properties": {**content["properties"], **files}, "required": required}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@router.post(
    "/images/edits",
    response_model=PicturesView,
    response_model_exclude_none=True,
    dependencies=WAITING,
    responses=STREAM,
    openapi_extra=_form_body(EditImage, has_mask=True),
)
async def edit(request: Request, caller: CallerOf, service: ServiceOf, idempotency_key: Key = None) -> Any:
    """Generate pictures from a picture and a prompt, and wait for them. With a mask, a picture of the same size, only
    its transparent parts are redrawn."""
    return await _draw_from_form(request, caller, service, EditImage, idempotency_key)


@router.post(
    "/images/variations",
    response_model=PicturesView,
    response_model_exclude_none=True,
    dependencies=WAITING,
    openapi_extra=_form_body(VaryImage, has_mask=False),
)
async def vary(request: Request, caller: CallerOf, service: ServiceOf, idempotency_key: Key = None) -> Any:
    """Generate variations of a picture, and wait for them."""
    return await _draw_from_form(request, caller, service, VaryImage, idempotency_key)


async def _draw_from_form(request: Request, caller: Caller, service: Service, cls: type, key: str | None) -> Any:
    service.check_open()
    async with open_form(request) as form:
        data = form_values(cls, form.texts)
        files = _pictures_of(form.files, has_mask=cls is EditImage)
        asked = await _submit(request, service, caller, cls, data, files, read_key(key))
    return await _respond(service, asked)


def _pictures_of(parts: list[tuple[str, SpooledTemporaryFile]], *, has_mask: bool) -> dict[str, SpooledTemporaryFile]:
    """The pictures in a form by the options of the task. Raises CalotypeError for another part, or a second picture."""
    files: dict[str, SpooledTemporaryFile] = {}
    for name, file in parts:
        option = FILES.get(name)
        if option is None or (option == "mask" and not has_mask):
            raise CalotypeError("{name} is not supported", name=as_name(name), option=name[:100])
        if option in files:
            raise CalotypeError("{option} is one picture; several are not supported", option=option)
        files[option] = file
    if "init" not in files:
        raise CalotypeError("{option} must be given", option="init")
    return files


async def _submit(
    request: Request,
    service: Service,
    caller: Caller,
    cls: type,
    data: Mapping[str, Any],
    files: Mapping[str, SpooledTemporaryFile],
    key: str | None,
) -> Asked:
    def run() -> tuple[ImageParameters, Job]:
        parameters, given = read_parameters(cls, data)
        if files:
            service.check_storage(caller)
        task, uploads = parameters.task(given, files), {n: stored(service, caller, files[n], n) for n in files}
        return parameters, submit(service, caller, "imagine", task, uploads, parameters.output, key)

    parameters, job = await run_in_threadpool(run)
    return Asked(parameters, job, str(request.base_url), "image_edit" if cls is EditImage else "image_generation")


async def _respond(service: Service, asked: Asked) -> Response | PicturesView:
    if asked.value("stream", False):
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(_stream(service, asked), media_type="text/event-stream", headers=headers)
    return await run_in_threadpool(_finished, service, asked, await wait(service, asked.job))


def _finished(service: Service, asked: Asked, job: Job) -> PicturesView:
    """The answer with the pictures. Raises Refusal if there are none."""
    check_success(job, OPENAI)
    results = picture_results(job)
    if not results:
        raise Conflict("the job {id} was cancelled", id=job.id)
    if asked.parameters.response_format == "url":
        data = [PictureView(url=f"{asked.base_url}jobs/{job.id}/results/{result.id}") for result in results]
    else:
        data = [PictureView(b64_json=content) for content in as_base64(service, results)]
    size = "{width}x{height}".format(**{"width": 0, "height": 0, **results[0].facts})
    identifier = asked.value("safety_identifier", "") or asked.parameters.user or None
    return PicturesView(
        created=int(job.finished or job.created),
        data=data,
        size=size,
        usage=UsageView(device_seconds=round(job.cost, 3)),
        safety_identifier=identifier,
        **asked.facts,
    )


async def _stream(service: Service, asked: Asked) -> AsyncIterator[bytes]:
    try:
        async for event in _events(service, asked):
            yield event
    except CalotypeError as fault:
        yield f"event: error\ndata: {json.dumps(openai_error(fault, status_of(fault)))}\n\n".encode()


async def _events(service: Service, asked: Asked) -> AsyncIterator[bytes]:
    """Previews as they come, at most as many as asked for and spread over the steps, then the pictures."""
    limit, sent, preview, job = asked.value("partial_images", 0), 0, None, asked.job
    async for latest in changes(service, asked.job):
        job = latest
        is_due = sent < limit and job.preview not in (None, preview) and _done(job) >= (sent + 1) / (limit + 1)
        picture = await run_in_threadpool(preview_as_base64, service, job) if is_due and not job.is_finished else None
        if picture:
            preview, facts = job.preview, {"partial_image_index": sent, "b64_json": picture}
            sent += 1
            yield _packed(asked, "partial_image", job, facts)
        else:
            yield b": waiting\n\n"
    found = await run_in_threadpool(_finished, service, asked, job)
    facts = found.model_dump(include={"size", "usage", "safety_identifier"}, exclude_none=True)
    for picture in found.data:
        yield _packed(asked, "completed", job, facts | {"b64_json": picture.b64_json})


def _done(job: Job) -> float:
    progress = job.progress or {}
    return (progress.get("done") or 0) / max(progress.get("total") or 0, 1)


def _packed(asked: Asked, name: str, job: Job, data: Mapping[str, Any]) -> bytes:
    kind = f"{asked.event}.{name}"
    more = {"type": kind, "created_at": int(job.finished or job.created), "size": asked.parameters.size, **asked.facts}
    if name == "partial_image":
        more["output_format"] = "jpeg"  # of previews
    return f"event: {kind}\ndata: {json.dumps({**more, **data})}\n\n".encode()


@router.get("/models")
def models(caller: CallerOf, service: ServiceOf) -> OpenAIModelsView:
    """The models that generate pictures."""
    return OpenAIModelsView(data=[OpenAIModelView(id=name) for name in sorted(service.names_for(caller)("diffusion"))])


@router.get("/models/{model}")
def model(
    model: Annotated[str, Path(max_length=500, examples=["emoji"])], caller: CallerOf, service: ServiceOf
) -> OpenAIModelView:
    """One model."""
    if model not in service.names_for(caller)("diffusion"):
        raise NotFound("there is no model {name}", name=as_name(model), option="model")
    return OpenAIModelView(id=model)
