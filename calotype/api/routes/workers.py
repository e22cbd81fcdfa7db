"""What a worker on another computer needs of the queue: the store's methods for workers, over HTTP.

A worker names the claim of its job by its token in the header Calotype-Claim. Whoever knows the token of the workers
can run the jobs of all accounts.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import FileResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from calotype import __version__
from calotype.api.access import UNAUTHORIZED, ServiceOf, token_of
from calotype.api.body import BodyStream, read_body
from calotype.api.errors import Refusal
from calotype.api.limiter import too_many
from calotype.api.responses import file_response
from calotype.api.schemas import JOB_ID, UPLOAD_ID
from calotype.api.service import address_of, service_of
from calotype.errors import CalotypeError, Message
from calotype.jobs.jobs import DONE, FAILED, LEASE, Claim, LeaseLost, NewResult, NotFound, upload_ids
from calotype.options import as_data

MAX_PREVIEW = 4 << 20

T = TypeVar("T")
Name = Annotated[str, Field(min_length=1, max_length=128)]
Cost = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=UPLOAD_ID)]


def check_worker(request: Request) -> None:
    """Raises Refusal: no token, or a wrong one (401), or too many wrong ones (429)."""
    service, address = service_of(request), address_of(request)
    if wait := service.failures.wait_for(address):
        raise too_many(wait)
    token, expected = token_of(request), service.service.worker_token
    digests = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (token, expected)]
    if not (hmac.compare_digest(*digests) and expected):
        if token:
            service.failures.take(address)
        raise Refusal(
            401,
            "the token of workers is not that of this service, or the service was started without one",
            headers=UNAUTHORIZED,
        )


class WorkerRoute(APIRoute):
    """Checks the token before it reads the body."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            check_worker(request)
            return await handle(request)

        return checked


router = APIRouter(prefix="/worker", route_class=WorkerRoute)


def claim_of(
    job_id: Annotated[str, Path(pattern=JOB_ID)],
    service: ServiceOf,
    calotype_claim: Annotated[str, Header(max_length=64)] = "",
) -> Claim:
    """The claim of a worker on a job. The store checks it, unless only files are sent or read."""
    return Claim(service.store.get(job_id), "", calotype_claim, LEASE)


ClaimOf = Annotated[Claim, Depends(claim_of)]


def current_claim_of(claim: ClaimOf, service: ServiceOf) -> Claim:
    """Raises LeaseLost."""
    if service.store.requested(claim) == "lost":
        raise LeaseLost(claim.job.id)
    return claim


CurrentClaimOf = Annotated[Claim, Depends(current_claim_of)]


class ClaimRequest(BaseModel):
    worker: Name
    lease: float = Field(LEASE, ge=1, le=3600)
    loaded: list[str] = Field([], max_length=1000)
    kinds: list[str] = Field([], max_length=1000)


class LeaseRequest(BaseModel):
    lease: float = Field(LEASE, ge=1, le=3600)


class WorkerReport(BaseModel):
    worker: Name
    device: str = Field(max_length=64)
    models: list[str] = Field([], max_length=1000)
    note: dict[str, Any] | None = None


class EndedWorker(BaseModel):
    worker: Name


class SentResult(BaseModel):
    sha256: Sha256
    name: str = Field(min_length=1, max_length=255)
    media_type: str = Field(max_length=128)
    facts: dict[str, Any] = {}


class EndRequest(BaseModel):
    state: Literal["done", "failed", "cancelled"]
    cost: Cost
    error: dict[str, Any] | None = None
    results: list[SentResult] = Field([], max_length=100_000)


class ParkRequest(BaseModel):
    cost: Cost


@router.get("/version")
def version() -> dict[str, str]:
    """That the address and the token are right."""
    return {"version": __version__}


@router.post("/claim")
def claim(body: ClaimRequest, service: ServiceOf) -> Any:
    """The next job; 204 if there is none."""
    service.check_open()
    claimed = service.store.claim(body.worker, lease=body.lease, loaded=body.loaded, kinds=body.kinds)
    if claimed is None:
        return Response(status_code=204)
    return {"job": as_data(claimed.job), "token": claimed.token, "unload": claimed.unload}


@router.post("/report")
def report(body: WorkerReport, service: ServiceOf) -> dict[str, bool]:
    note = _read(Message.from_data, body.note) if body.note else None
    return {"unload": service.store.report(body.worker, body.device, body.models, note)}


@router.post("/ended")
def ended(body: EndedWorker, service: ServiceOf) -> list[dict[str, Any]]:
    """Takes back the jobs of a worker whose process has ended."""
    return [as_data(job) for job in service.store.worker_ended(body.worker)]


@router.get("/jobs/{job_id}/request")
def requested(claim: ClaimOf, service: ServiceOf) -> dict[str, str]:
    return {"requested": service.store.requested(claim)}


@router.post("/jobs/{job_id}/heartbeat")
def heartbeat(body: LeaseRequest, claim: ClaimOf, service: ServiceOf) -> dict[str, str]:
    extended = Claim(claim.job, claim.worker, claim.token, body.lease)
    return {"requested": service.store.heartbeat(extended)}


@router.post("/jobs/{job_id}/events")
def add_event(body: dict[str, Any], claim: ClaimOf, service: ServiceOf) -> dict[str, int]:
    return {"number": service.store.add_event(claim, body)}


@router.post("/jobs/{job_id}/preview")
async def add_preview(
    request: Request,
    claim: ClaimOf,
    service: ServiceOf,
    content_type: Annotated[str, Header(max_length=128)],
    step: Annotated[int | None, Query(ge=0, le=10**9)] = None,
) -> dict[str, int]:
    image = await read_body(request, MAX_PREVIEW)
    return {"number": await run_in_threadpool(service.store.add_preview, claim, image, content_type, step)}


@router.post("/jobs/{job_id}/state", status_code=204)
def saved_state(claim: ClaimOf, service: ServiceOf) -> None:
    service.store.saved_state(claim)


@router.get("/jobs/{job_id}/uploads/{upload_id}", response_class=FileResponse)
def upload(
    upload_id: Annotated[str, Path(pattern=UPLOAD_ID)], claim: CurrentClaimOf, service: ServiceOf
) -> FileResponse:
    """An upload that the job works on."""
    if upload_id not in {needed for _, needed in upload_ids(claim.job.files)}:
        raise NotFound("the job has no such upload")
    return file_response(service.store.files.upload(upload_id), upload_id, "application/octet-stream", is_final=True)


@router.put("/jobs/{job_id}/files/{sha256}", status_code=204)
async def receive(
    request: Request,
    sha256: Annotated[str, Path(pattern=UPLOAD_ID)],
    offset: Annotated[int, Query(ge=0, le=2**50)],
    size: Annotated[int, Query(ge=0, le=2**50)],
    claim: CurrentClaimOf,
    service: ServiceOf,
) -> None:
    """A part of a result; it becomes one at the end of the job."""
    files = service.store.files
    part = claim.job.id, sha256, offset, size, BodyStream(request)
    await to_thread.run_sync(files.receive_part, *part, limiter=service.bodies)


@router.post("/jobs/{job_id}/end")
def end(body: EndRequest, claim: CurrentClaimOf, service: ServiceOf) -> dict[str, str]:
    """Ends the job with the results that were sent before."""
    results = []
    for result in body.results:
        path = service.store.files.received(claim.job.id, result.sha256)
        if not path.is_file():
            raise CalotypeError("the file of the result {name} was not sent", name=result.name)
        results.append(NewResult(path, result.name, result.media_type, result.facts))
    if body.state == FAILED:
        job = service.store.fail(claim, _read(CalotypeError.from_data, body.error or {}), body.cost, results)
        for result in results:
            result.path.unlink(missing_ok=True)
    elif body.state == DONE:
        job = service.store.finish(claim, results, body.cost)
    else:
        job = service.store.stop(claim, body.cost, results)
    return {"state": job.state}


@router.post("/jobs/{job_id}/park")
def park(body: ParkRequest, claim: ClaimOf, service: ServiceOf) -> dict[str, str]:
    return {"state": service.store.park(claim, body.cost).state}


def _read(read: Callable[[dict[str, Any]], T], data: dict[str, Any]) -> T:
    """A message or an error of a worker. Raises CalotypeError."""
    try:
        return read(data)
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise CalotypeError("the worker has sent a message that is not valid; it may be of another version") from fault
