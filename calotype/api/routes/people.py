"""Accounts from the inside: one's own limits, signing up, presets, public links."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from calotype.api.access import CallerOf, ServiceOf, accounts_of, result_in
from calotype.api.body import read_json
from calotype.api.links import public_copy
from calotype.api.orders import check_task, read_kind
from calotype.api.responses import CONFLICT, FILE, NOT_FOUND, file_response
from calotype.api.schemas import JOB_ID, body_of, file_options, preset_body
from calotype.api.service import Caller, Service, address_of
from calotype.api.views import AccountView, LinkView, NewAccountView, PresetView
from calotype.jobs.links import PublicLink
from calotype.options import is_required, option
from calotype.tasks import TASKS
from calotype.tasks.guard import read_request

router = APIRouter(tags=["account"])
public = APIRouter(tags=["public"])
PresetName = Annotated[str, Path(pattern=r"^[^/\\\x00-\x1f\x7f]{1,100}$", examples=["soft portraits"])]
LinkId = Annotated[str, Path(pattern=JOB_ID, description="id of a link")]
Secret = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{43}$", description="the secret part of a link")]


@router.get("/me")
def me(caller: CallerOf, service: ServiceOf) -> AccountView:
    """The account that the request came from, its limits, and what is used of them."""
    budget, counts = caller.budget, service.store.counts(caller.owner)
    return AccountView(
        name=caller.account.name if caller.account else caller.owner,
        is_admin=caller.is_admin,
        has_accounts=service.accounts is not None,
        seconds_used=round(service.spent(caller), 1),
        seconds_limit=budget.seconds,
        queued_jobs=counts.get("queued", 0) + counts.get("paused", 0),
        queued_limit=budget.queued,
        running_jobs=counts.get("running", 0),
        running_limit=budget.running,
    )


@dataclass(frozen=True, kw_only=True)
class SignUp:
    """A newcomer with an invitation."""

    invitation: str = option(help="the invitation from the owner of the service", max_length=200)
    name: str = option(help="name of the new account", max_length=64)


@public.post("/signup", status_code=201, responses=NOT_FOUND | CONFLICT, openapi_extra=body_of(SignUp))
async def sign_up(request: Request, service: ServiceOf) -> NewAccountView:
    """Open an account with an invitation. The token is in this answer only."""
    service.check_open()
    accounts = accounts_of(service)
    service.sign_ups.take(address_of(request))
    asked = read_request(SignUp, await read_json(request))
    account, token = await run_in_threadpool(accounts.sign_up, asked.invitation, asked.name)
    return NewAccountView(name=account.name, token=token)


@router.get("/presets")
def presets(caller: CallerOf, service: ServiceOf) -> list[PresetView]:
    """One's own presets."""
    return [PresetView(**vars(preset)) for preset in service.presets.find(caller.owner)]


@router.get("/presets/{preset}", responses=NOT_FOUND)
def get_preset(preset: PresetName, caller: CallerOf, service: ServiceOf) -> PresetView:
    """One preset."""
    return PresetView(**vars(service.presets.get(caller.owner, preset)))


@router.put("/presets/{preset}", openapi_extra=preset_body())
async def put_preset(request: Request, preset: PresetName, caller: CallerOf, service: ServiceOf) -> PresetView:
    """Save options under a name; replaces the preset of this name."""
    data = await read_json(request)
    return await run_in_threadpool(_save_preset, service, caller, preset, data)


def _save_preset(service: Service, caller: Caller, name: str, data: Mapping[str, Any]) -> PresetView:
    kind, task = read_kind(data, ("kind", "task"))
    files = {spec.name: "upload" for spec in file_options(TASKS[kind]) if is_required(spec)}
    check_task(kind, task, files, service.names_for(caller), caller.limits)
    return PresetView(**vars(service.presets.put(caller.owner, name, kind, task)))


@router.delete("/presets/{preset}", status_code=204, responses=NOT_FOUND)
def delete_preset(preset: PresetName, caller: CallerOf, service: ServiceOf) -> None:
    """Delete a preset."""
    service.presets.delete(caller.owner, preset)


@dataclass(frozen=True, kw_only=True)
class NewLink:
    """The result to make public."""

    job: str = option(help="id of the job", max_length=32)
    result: str = option(help="id of its result", max_length=32)


@router.get("/links")
def links(caller: CallerOf, service: ServiceOf) -> list[LinkView]:
    """One's own public links."""
    return [_link_view(link) for link in service.links.find(caller.owner)]


@router.post("/links", status_code=201, responses=NOT_FOUND, openapi_extra=body_of(NewLink))
async def create_link(request: Request, caller: CallerOf, service: ServiceOf) -> LinkView:
    """Make a picture public under an address that nobody can guess. Location and file names are removed from it."""
    service.check_open()
    asked = read_request(NewLink, await read_json(request))
    return await run_in_threadpool(_create_link, service, caller, asked)


def _create_link(service: Service, caller: Caller, asked: NewLink) -> LinkView:
    job = service.store.get(asked.job, caller.owner)
    result = result_in(job, asked.result, "result")
    link_id, suffix, media_type = public_copy(service, result)
    link, secret = service.links.create(caller.owner, link_id, job.id, result.id, suffix, media_type)
    return _link_view(link, f"/s/{secret}")


@router.get("/links/{link_id}", response_class=FileResponse, responses=FILE | NOT_FOUND)
def linked_file(link_id: LinkId, caller: CallerOf, service: ServiceOf) -> FileResponse:
    """What is public under a link."""
    link = service.links.get(caller.owner, link_id)
    return file_response(service.store.files.link(link.id), f"picture{link.suffix}", link.media_type, is_final=True)


@router.delete("/links/{link_id}", status_code=204, responses=NOT_FOUND)
def delete_link(link_id: LinkId, caller: CallerOf, service: ServiceOf) -> None:
    """Revoke a link; its address leads nowhere from now on."""
    service.links.delete(caller.owner, link_id)
    service.store.files.link(link_id).unlink(missing_ok=True)


@public.get("/s/{secret}", response_class=FileResponse, responses=FILE | NOT_FOUND)
def public_file(secret: Secret, service: ServiceOf) -> FileResponse:
    """A public picture."""
    link = service.links.open(secret)
    return file_response(service.store.files.link(link.id), f"picture{link.suffix}", link.media_type)


def _link_view(link: PublicLink, url: str = "") -> LinkView:
    return LinkView(id=link.id, url=url, job=link.job, result=link.result, created=link.created)
