"""Who makes a request: dependencies of the routes."""

import base64
import binascii
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import Depends, Path, Request
from starlette.concurrency import run_in_threadpool

from calotype.api.errors import Refusal
from calotype.api.limiter import too_many
from calotype.api.schemas import JOB_ID
from calotype.api.security import SAFE_METHODS
from calotype.api.service import Caller, Service, address_of, service_of
from calotype.jobs.account import LOCAL, Account
from calotype.jobs.jobs import Job, NotFound, StoredResult
from calotype.jobs.users import Accounts
from calotype.options import as_name

UNAUTHORIZED = {"WWW-Authenticate": 'Bearer realm="calotype"'}

COOKIE = "calotype_session"  # of the page: a session of an account

ServiceOf = Annotated[Service, Depends(service_of)]


def token_of(request: Request) -> str:
    """The token in the header Authorization: a bearer token, or the password of Basic; empty if there is none."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(text, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return ""
    return ""


async def caller_of(request: Request, service: ServiceOf) -> Caller:
    """Raises Refusal: no valid token (401), or too many requests (429)."""
    if service.may_be_open and await run_in_threadpool(service.is_open):
        return Caller(LOCAL)
    address = address_of(request)
    if wait := service.failures.wait_for(address):
        raise too_many(wait)
    if not token_of(request):
        check_own_page(request)
    account = await run_in_threadpool(account_of, request, service)
    if account is None:
        if token_of(request):
            service.failures.take(address)
        raise Refusal(401, "this service needs a valid token; ask its owner for one", headers=UNAUTHORIZED)
    service.requests.take(account.id)
    request.state.user_id = account.id
    return Caller(account.id, account)


def account_of(request: Request, service: Service) -> Account | None:
    """The account of a request's token, or of its cookie; None if neither is valid, or is valid no more."""
    token, session = token_of(request), request.cookies.get(COOKIE, "")
    if token:
        return service.accounts.verify(token)
    return service.accounts.of_session(session) if session else None


def right_of(request: Request, caller: Caller, service: Service) -> Callable[[], bool]:
    """Whether the caller of a request that was accepted may still read what it asked for. Reads the store."""
    if caller.account is None:
        return service.is_open
    return lambda: account_of(request, service) is not None


def check_own_page(request: Request) -> None:
    """Raises Refusal for a request by cookie that changes something and doesn't say which page it is from.

    Where it does, `security.check_origin` has compared it.
    """
    if not request.cookies.get(COOKIE):
        return
    if request.method not in SAFE_METHODS and request.headers.get("origin") is None:
        raise Refusal(403, "a request by cookie needs the header Origin; send a token instead", headers=UNAUTHORIZED)


CallerOf = Annotated[Caller, Depends(caller_of)]


def accounts_of(service: Service) -> Accounts:
    """Raises NotFound where there is always a single user."""
    if service.accounts is None:
        raise NotFound("this service has no accounts")
    return service.accounts


def admin_of(caller: CallerOf) -> Caller:
    if not caller.is_admin:
        raise Refusal(403, "only the owner of the service may do this")
    return caller


async def connection_of(caller: CallerOf, service: ServiceOf) -> AsyncIterator[None]:
    """Counts the connection of a request that waits for a job, until its answer was sent. Raises Refusal (429)."""
    with service.waiting.opened(caller.owner):
        yield


async def upload_of(caller: CallerOf, service: ServiceOf) -> AsyncIterator[None]:
    """Counts an upload until its answer was sent. Raises Refusal (429)."""
    with service.uploads.opened(caller.owner):
        yield


UPLOADING = (Depends(upload_of),)  # dependencies of the route that receives uploads
WAITING = (Depends(connection_of),)  # dependencies of the routes that wait for jobs


def job_of(
    job_id: Annotated[str, Path(pattern=JOB_ID, description="id of a job")], caller: CallerOf, service: ServiceOf
) -> Job:
    """The caller's job. Raises NotFound for anybody else's, as for one that does not exist."""
    return service.store.get(job_id, caller.owner)


JobOf = Annotated[Job, Depends(job_of)]


def result_in(job: Job, result_id: str, option: str = "") -> StoredResult:
    """The result of a job. Raises NotFound; `option`: of the request that names it."""
    for result in job.results:
        if result.id == result_id:
            return result
    raise NotFound("there is no result {id} of this job", id=as_name(result_id), option=option)


def result_of(
    result_id: Annotated[str, Path(pattern=JOB_ID, description="id of a result")], job: JobOf
) -> StoredResult:
    return result_in(job, result_id)


ResultOf = Annotated[StoredResult, Depends(result_of)]
