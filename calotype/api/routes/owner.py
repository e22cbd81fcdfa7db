"""What the owner of the service does: models that are fetched and imported; accounts and invitations."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from starlette.concurrency import run_in_threadpool

from calotype.api.access import CallerOf, ServiceOf, accounts_of, admin_of
from calotype.api.body import read_json
from calotype.api.downloads import Download
from calotype.api.imports import Import
from calotype.api.responses import CONFLICT, NOT_FOUND
from calotype.api.routes.models import ModelName
from calotype.api.schemas import body_of
from calotype.api.shown import without_paths
from calotype.api.views import AllowanceView, DownloadView, ImportView, InvitationView, NewAccountView
from calotype.api.wording import WORDING
from calotype.checkpoints.entries import CATALOG
from calotype.errors import CalotypeError
from calotype.jobs.account import TRIAL_SECONDS, Account, Allowance
from calotype.jobs.jobs import Conflict, NotFound
from calotype.jobs.users import Accounts
from calotype.options import as_data, as_name, nearest, option, read
from calotype.tasks.guard import read_request

router = APIRouter(tags=["owner"], dependencies=[Depends(admin_of)])
AccountName = Annotated[str, Path(pattern=r"^\w[\w.@-]{0,63}$", examples=["ann"])]
FolderId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="id of a folder", examples=["0f3c9a52d6b84e1c"])]


# Models


@router.get("/downloads")
def downloads(service: ServiceOf) -> list[DownloadView]:
    """The models that are being fetched, and those that were since the service was started."""
    return [_download_view(download) for download in service.downloads.list()]


def _download_view(download: Download) -> DownloadView:
    error = without_paths(WORDING.fill(download.error)) if download.error else ""
    return DownloadView(**vars(download) | {"error": error})


@router.post("/models/{name}/fetch", status_code=202, responses=NOT_FOUND)
def fetch_model(name: ModelName, service: ServiceOf) -> DownloadView:
    """Fetch a model of the catalog; `GET /downloads` tells how far it is."""
    service.check_open()
    if name not in CATALOG:
        raise NotFound("no model is named {name}{hint}", name=as_name(name), hint=nearest(name, CATALOG))
    return _download_view(service.downloads.start(CATALOG[name], service.settings))


@router.get("/imports")
def imports(service: ServiceOf) -> list[ImportView]:
    """The folders of other programs that were named when the service was started, and what was added from them."""
    return [_import_view(found) for found in service.imports.list()]


@router.post("/imports/{folder_id}", status_code=202, responses=NOT_FOUND)
def import_models(folder_id: FolderId, service: ServiceOf) -> ImportView:
    """Put all models of a folder on the list; they are used where they lie. `GET /imports` tells how far it is."""
    service.check_open()
    return _import_view(service.imports.start(folder_id, service.settings))


def _import_view(found: Import) -> ImportView:
    faults = [without_paths(WORDING.fill(fault)) for fault in found.faults]
    return ImportView(**vars(found) | {"faults": faults})


# Accounts


def _allowance_view(account: Account, people: Mapping[str, Collection[str]]) -> AllowanceView:
    facts = {"name": account.name, "is_admin": account.is_admin, "is_disabled": account.is_disabled}
    facts["people"] = list(people.get(account.name, ()))
    return AllowanceView(**facts, is_trial=account.invitation is not None, **as_data(account.allowance))


@router.get("/accounts", responses=NOT_FOUND)
def accounts(service: ServiceOf) -> list[AllowanceView]:
    """All accounts, with what they may use."""
    found = accounts_of(service)
    people = found.people()
    return [_allowance_view(account, people) for account in found.list()]


@dataclass(frozen=True, kw_only=True)
class NewAccount(Allowance):
    """A new account."""

    name: str = option(help="name of the new account", max_length=64)


@router.post("/accounts", status_code=201, responses=NOT_FOUND | CONFLICT, openapi_extra=body_of(NewAccount))
async def add_account(request: Request, caller: CallerOf, service: ServiceOf) -> NewAccountView:
    """Add an account. Its token is in this answer only; the first account is the owner's."""
    found, asked = accounts_of(service), read_request(NewAccount, await read_json(request))
    allowance = Allowance(**{name: value for name, value in as_data(asked).items() if name != "name"})

    def add() -> NewAccountView:
        if caller.account is None:  # without login, until there is an account
            account, token = found.add_first(asked.name, allowance)
        else:
            account = found.add(asked.name, allowance)
            token = found.add_token(account.name)
        return NewAccountView(name=account.name, token=token)

    return await run_in_threadpool(add)


@dataclass(frozen=True, kw_only=True)
class AccountChange(Allowance):
    """What changes of an account."""

    is_disabled: bool = option(False, "refuse all requests of the account")


@router.patch("/accounts/{name}", responses=NOT_FOUND, openapi_extra=body_of(AccountChange))
async def change_account(request: Request, name: AccountName, caller: CallerOf, service: ServiceOf) -> AllowanceView:
    """Change what an account may use, or disable it; what is not given stays."""
    found, data = accounts_of(service), await read_json(request)
    return await run_in_threadpool(_change_account, found, name, data, caller.account)


def _change_account(accounts: Accounts, name: str, data: Mapping[str, Any], caller: Account | None) -> AllowanceView:
    account = accounts.find(name)
    read_request(AccountChange, data)
    if data.get("is_disabled") and caller is not None and caller.id == account.id:
        raise CalotypeError("this is your own account, which stays", option="is_disabled")
    allowance = {key: value for key, value in data.items() if key != "is_disabled"}
    changes = as_data(read(Allowance, as_data(account.allowance) | allowance))
    if "is_disabled" in data:
        changes["is_disabled"] = data["is_disabled"]
    return _allowance_view(accounts.change(name, **changes), accounts.people())


@router.post("/accounts/{name}/tokens", status_code=201, responses=NOT_FOUND)
def add_token(name: AccountName, service: ServiceOf) -> NewAccountView:
    """Another token of an account; it is in this answer only."""
    return NewAccountView(name=name, token=accounts_of(service).add_token(name))


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """An invitation with which newcomers open accounts themselves."""

    accounts: int = option(1, "accounts that can be opened with it", min=1, max=1000)
    seconds: float = option(TRIAL_SECONDS, "device seconds of these accounts together", min=0, max=1e9)


@router.post("/invitations", status_code=201, responses=NOT_FOUND | CONFLICT, openapi_extra=body_of(Invitation))
async def invite(request: Request, service: ServiceOf) -> InvitationView:
    """Make an invitation. It is in this answer only."""
    found, asked = accounts_of(service), read_request(Invitation, await read_json(request))
    if not await run_in_threadpool(found.exist):
        raise Conflict("add an account of your own first")
    return InvitationView(invitation=await run_in_threadpool(found.invite, asked.accounts, asked.seconds))
