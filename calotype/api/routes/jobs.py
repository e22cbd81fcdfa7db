"""Jobs: submit, list, watch, steer, fetch results."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from calotype.api.access import WAITING, CallerOf, JobOf, ResultOf, ServiceOf, right_of
from calotype.api.archive import zip_of
from calotype.api.body import read_fields, read_json
from calotype.api.errors import Refusal
from calotype.api.events import marks_of, read_last_id, stream, stream_all
from calotype.api.orders import read_key, read_order
from calotype.api.responses import CONFLICT, EVENTS, FILE, NOT_FOUND, ZIP, file_response
from calotype.api.schemas import JOB_EXAMPLES, JOB_ID
from calotype.api.service import Caller, Service
from calotype.api.shown import job_view, learning_view
from calotype.api.views import JobPage, JobView, LearningView, PlaceView, State
from calotype.jobs.jobs import Job, NotFound

router = APIRouter(tags=["jobs"])
BODY = {"requestBody": {"required": True, "content": {"application/json": {"examples": JOB_EXAMPLES}}}}
MAX_ARCHIVED = 5000  # jobs of one ZIP
MAX_FORM = 200_000  # bytes of a form that names them
ARCHIVED = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "properties": {"job": {"type": "array", "items": {"type": "string", "pattern": JOB_ID}}},
                    "required": ["job"],
                }
            }
        },
    }
}
MOVE = {
    "type": "object",
    "properties": {"before": {"type": ["string", "null"], "pattern": JOB_ID}},
    "additionalProperties": False,
}


@router.post("/jobs", status_code=201, responses=NOT_FOUND | CONFLICT, openapi_extra=BODY)
async def submit(
    request: Request,
    response: Response,
    caller: CallerOf,
    service: ServiceOf,
    idempotency_key: Annotated[str | None, Header(description="the same key twice is one job")] = None,
) -> JobView:
    """Queue a job: a kind of task, its options, and the uploads that it works on."""
    service.check_open()
    data = await read_json(request)
    job = await run_in_threadpool(submit_order, service, caller, data, read_key(idempotency_key))
    response.headers["Location"] = f"/jobs/{job.id}"
    return job_view(job)


def submit_order(service: Service, caller: Caller, data: dict, key: str | None = None) -> Job:
    """Raises CalotypeError for an invalid task, and what `Service.submit` raises."""
    return service.submit(caller, read_order(data, service.names_for(caller), caller.limits), key)


@router.get("/jobs", responses=NOT_FOUND)
def find(
    caller: CallerOf,
    service: ServiceOf,
    state: Annotated[list[State] | None, Query(description="only jobs in these states")] = None,
    kind: Annotated[list[str] | None, Query(description="only jobs of these kinds")] = None,
    text: Annotated[str, Query(max_length=200, description="words in the options, models or names of files")] = "",
    since: Annotated[float | None, Query(description="only jobs queued then or later, in seconds since 1970")] = None,
    until: Annotated[float | None, Query(description="only jobs queued before")] = None,
    favourite: Annotated[bool | None, Query(description="only favourites, or only others")] = None,
    after: Annotated[str | None, Query(pattern=JOB_ID, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> JobPage:
    """One's own jobs, the newest first."""
    filters = {"kinds": kind or (), "text": text, "since": since, "until": until, "is_favourite": favourite}
    jobs = service.store.find(caller.owner, state or (), after, limit + 1, **filters)
    return JobPage(
        jobs=[job_view(job) for job in jobs[:limit]],
        next=jobs[limit - 1].id if len(jobs) > limit else None,
    )


@router.get("/queue")
def queue(caller: CallerOf, service: ServiceOf) -> list[JobView]:
    """One's own waiting jobs, the next one first."""
    return [job_view(job) for job in service.store.queue(caller.owner)]


@router.get("/queue/places")
def places(caller: CallerOf, service: ServiceOf) -> list[PlaceView]:
    """How many jobs are before each of one's own waiting jobs, and how long they are likely to take."""
    return [PlaceView(**vars(place)) for place in service.store.places(caller.owner)]


@router.get(
    "/events",
    response_class=StreamingResponse,
    dependencies=WAITING,
    responses={200: {"description": "server-sent events", "content": EVENTS}},
)
async def all_events(
    request: Request,
    caller: CallerOf,
    service: ServiceOf,
    current: Annotated[bool, Query(description="whether it begins with the jobs that have not ended")] = True,
) -> Response:
    """One's own jobs as they change, as server-sent events: `job` with a job, `learning` with what a training run has
    told since the event before, and `gone` with the id of a deleted job.

    The stream goes on until it is closed, or until the token or session is valid no more.
    """
    # before the answer begins, so that whoever reads the lists when it does loses no change
    known = {} if current else await run_in_threadpool(marks_of, service.store, caller.owner)
    body = stream_all(service.hub, service.store, caller.owner, known, right_of(request, caller, service))
    return StreamingResponse(body, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.get("/archive", response_class=StreamingResponse, responses=ZIP | NOT_FOUND)
def archive(
    caller: CallerOf,
    service: ServiceOf,
    job: Annotated[list[str], Query(min_length=1, max_length=200, description="ids of jobs")],
) -> Response:
    """The results of several jobs as one ZIP, made while it is sent."""
    return _zip([service.store.get(job_id, caller.owner) for job_id in dict.fromkeys(job)], service)


@router.post("/archive", response_class=StreamingResponse, responses=ZIP | NOT_FOUND, openapi_extra=ARCHIVED)
async def archive_of_form(request: Request, caller: CallerOf, service: ServiceOf) -> Response:
    """As `GET /archive`, of up to 5,000 jobs, named by a form. Those that do not exist any more are left out."""
    ids = list(dict.fromkeys(await read_fields(request, "job", MAX_FORM)))
    if len(ids) > MAX_ARCHIVED:
        raise Refusal(413, "a ZIP takes the results of up to {limit:,} jobs", limit=MAX_ARCHIVED)
    return await run_in_threadpool(_archive, ids, caller, service)


def _archive(ids: list[str], caller: Caller, service: Service) -> Response:
    found = {job.id: job for job in service.store.find(caller.owner, limit=len(ids), ids=ids)}
    if not found:
        raise NotFound("there are no such jobs")
    return _zip([found[job_id] for job_id in ids if job_id in found], service)


def _zip(jobs: list[Job], service: Service) -> Response:
    headers = {"Content-Disposition": 'attachment; filename="calotype.zip"'}
    return StreamingResponse(zip_of(jobs, service.store.files), media_type="application/zip", headers=headers)


@router.get("/jobs/{job_id}", responses=NOT_FOUND)
def get(job: JobOf, service: ServiceOf) -> JobView:
    """One job."""
    return job_view(job)


@router.delete("/jobs/{job_id}", status_code=204, responses=NOT_FOUND | CONFLICT)
def delete(job: JobOf, service: ServiceOf) -> None:
    """Delete a job that has ended, with its results."""
    service.store.delete(job.id, job.owner)


@router.post("/jobs/{job_id}/cancel", responses=NOT_FOUND | CONFLICT)
def cancel(job: JobOf, service: ServiceOf) -> JobView:
    """Cancel a job: at once if it waits, within one step or tile if it runs."""
    return job_view(service.store.cancel(job.id, job.owner))


@router.post("/jobs/{job_id}/pause", responses=NOT_FOUND | CONFLICT)
def pause(job: JobOf, service: ServiceOf) -> JobView:
    """Keep a job from running until it is resumed."""
    return job_view(service.store.pause(job.id, job.owner))


@router.post("/jobs/{job_id}/resume", responses=NOT_FOUND | CONFLICT)
def resume(job: JobOf, service: ServiceOf) -> JobView:
    """Queue a paused job again."""
    service.check_open()
    return job_view(service.store.resume(job.id, job.owner))


@router.post("/jobs/{job_id}/retry", responses=NOT_FOUND | CONFLICT)
def retry(job: JobOf, caller: CallerOf, service: ServiceOf) -> JobView:
    """Queue a failed or cancelled job again."""
    service.check_open()
    return job_view(service.store.retry(job.id, job.owner, caller.budget))


@router.post(
    "/jobs/{job_id}/move",
    responses=NOT_FOUND | CONFLICT,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": MOVE}}}},
)
async def move(request: Request, job: JobOf, service: ServiceOf) -> list[JobView]:
    """Move a waiting job before another one of one's own, or with null to the end. The answer is the queue."""
    data = await read_json(request)
    before = data.get("before")
    if set(data) - {"before"} or not (before is None or isinstance(before, str)):
        raise Refusal(422, "the body is an object with {option:before}, the id of a job or null")
    queue = await run_in_threadpool(service.store.move, job.id, job.owner, before)
    return [job_view(job) for job in queue]


@router.put("/jobs/{job_id}/favourite", responses=NOT_FOUND)
def add_favourite(job: JobOf, service: ServiceOf) -> JobView:
    """Keep the results of a job, whatever the limits of the disk."""
    return job_view(service.store.favourite(job.id, job.owner, True))


@router.delete("/jobs/{job_id}/favourite", responses=NOT_FOUND)
def remove_favourite(job: JobOf, service: ServiceOf) -> JobView:
    """Treat the results of a job as those of all others again."""
    return job_view(service.store.favourite(job.id, job.owner, False))


@router.get(
    "/jobs/{job_id}/events",
    response_class=StreamingResponse,
    dependencies=WAITING,
    responses={
        200: {"description": "server-sent events", "content": EVENTS},
        204: {"description": "the job has ended, and all its events were delivered"},
        **NOT_FOUND,
    },
)
async def events(
    request: Request,
    job: JobOf,
    caller: CallerOf,
    service: ServiceOf,
    last_event_id: Annotated[str | None, Header(description="the stream goes on after this event")] = None,
) -> Response:
    """The events of a job as they happen, as server-sent events; the stream ends with the job."""
    after = read_last_id(last_event_id)
    if after is None and job.is_finished:
        return Response(status_code=204)
    body = stream(service.hub, service.store, job, after or 0, right_of(request, caller, service))
    return StreamingResponse(body, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.get("/jobs/{job_id}/learning", responses=NOT_FOUND)
def learning(job: JobOf, service: ServiceOf) -> LearningView:
    """What a training run has told so far: its notes, its loss by step, and its samples."""
    return learning_view(service.store, job)


@router.get("/jobs/{job_id}/samples/{step}", response_class=FileResponse, responses=FILE | NOT_FOUND)
def sample(step: Annotated[int, Path(ge=0, le=10**9)], job: JobOf, service: ServiceOf) -> FileResponse:
    """What a training run drew after a step; of a scan that was cut apart, the photo of this number."""
    return file_response(service.store.files.sample(job.id, step), f"step-{step}.jpg", "image/jpeg", is_final=True)


@router.get("/jobs/{job_id}/preview", response_class=FileResponse, responses=FILE | NOT_FOUND)
def preview(job: JobOf, service: ServiceOf) -> FileResponse:
    """The latest preview of a job."""
    if job.preview is None:
        raise NotFound("this job has no preview")
    return file_response(service.store.files.preview(job.id), "preview.jpg", "image/jpeg")


@router.get("/jobs/{job_id}/results/{result_id}", response_class=FileResponse, responses=FILE | NOT_FOUND)
def result(result: ResultOf, service: ServiceOf) -> FileResponse:
    """A file that a job wrote."""
    return file_response(service.store.files.result(result.id), result.name, result.media_type, is_final=True)


@router.delete("/jobs/{job_id}/results/{result_id}", status_code=204, responses=NOT_FOUND)
def delete_result(result: ResultOf, job: JobOf, service: ServiceOf) -> None:
    """Delete a file that a job wrote; with the last one its job is deleted too."""
    service.store.delete_result(job.id, result.id, job.owner)
