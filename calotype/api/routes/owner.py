"""What the owner of the service does: models that are fetched, kept and removed; accounts and invitations."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from starlette.concurrency import run_in_threadpool

from calotype.api.access import CallerOf, ServiceOf, accounts_of, admin_of, result_in
from calotype.api.body import read_json
from calotype.api.responses import CONFLICT, NOT_FOUND
from calotype.api.schemas import body_of
from calotype.api.service import Service
from calotype.api.views import AllowanceView, DownloadView, InvitationView, KeptModelView, NewAccountView
from calotype.checkpoints.entries import CATALOG
from calotype.checkpoints.store import ModelStore
from calotype.errors import CalotypeError
from calotype.files import atomic_path, make_folder
from calotype.jobs.account import TRIAL_SECONDS, Account, Allowance
from calotype.jobs.jobs import Conflict, NotFound
from calotype.jobs.users import Accounts
from calotype.options import as_data, as_name, nearest, option, read
from calotype.tasks.guard import read_request

router = APIRouter(tags=["owner"], dependencies=[Depends(admin_of)])
ModelName = Annotated[str, Path(pattern=r"^\w[\w .+()&'-]{0,99}$", examples=["codeformer"])]
AccountName = Annotated[str, Path(pattern=r"^\w[\w.@-]{0,63}$", examples=["ann"])]
TRAINED = {"train_lora": "lora", "train_gan": "diffusion", "train_upscaler": "upscale", "train_restorer": "faces"}


# Models


@router.get("/downloads")
def downloads(service: ServiceOf) -> list[DownloadView]:
    """The models that are being fetched, and those that were since the service was started."""
    return [DownloadView(**vars(download)) for download in service.downloads.list()]


@router.post("/models/{name}/fetch", status_code=202, responses=NOT_FOUND)
def fetch_model(name: ModelName, service: ServiceOf) -> DownloadView:
    """Fetch a model of the catalog; `GET /downloads` tells how far it is."""
    service.check_open()
    if name not in CATALOG:
        raise NotFound("no model is named {name}{hint}", name=as_name(name), hint=nearest(name, CATALOG))
    return DownloadView(**vars(service.downloads.start(CATALOG[name], service.settings)))


@router.delete("/models/{name}", status_code=204, responses=NOT_FOUND)
def remove_model(name: ModelName, service: ServiceOf) -> None:
    """Remove a model: a downloaded file is deleted, one of the owner's own only leaves the list."""
    ModelStore(service.settings, trusted=False).remove(name)


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """The file of a training to keep as a model."""

    job: str = option(help="id of the training", max_length=32)
    result: str = option(help="id of its file", max_length=32)


@router.post("/models/trained", status_code=201, responses=NOT_FOUND | CONFLICT, openapi_extra=body_of(TrainedModel))
async def keep_trained(request: Request, caller: CallerOf, service: ServiceOf) -> KeptModelView:
    """Keep the file of one of one's own trainings as a model, under its name or with a number."""
    asked = read_request(TrainedModel, await read_json(request))
    return await run_in_threadpool(_keep_trained, service, caller.owner, asked)


def _keep_trained(service: Service, owner: str, asked: TrainedModel) -> KeptModelView:
    job = service.store.get(asked.job, owner)
    result = result_in(job, asked.result, "result")
    if job.kind not in TRAINED or not result.name.endswith(".safetensors"):
        raise CalotypeError("{option} is no file of a model", option="result")
    models = ModelStore(service.settings, trusted=False)
    folder = models.folder / "trained" / job.id
    make_folder(folder, "home")
    path = folder / PurePosixPath(result.name).name  # of a worker, perhaps on another computer
    with atomic_path(path, "home") as whole:
        shutil.copyfile(service.store.files.result(result.id), whole)
    return KeptModelView(name=models.register(path, TRAINED[job.kind]), kind=TRAINED[job.kind])


# Accounts


def _allowance_view(account: Account) -> AllowanceView:
    facts = {"name": account.name, "is_admin": account.is_admin, "is_disabled": account.is_disabled}
    return AllowanceView(**facts, is_trial=account.invitation is not None, **as_data(account.allowance))


@router.get("/accounts", responses=NOT_FOUND)
def accounts(service: ServiceOf) -> list[AllowanceView]:
    """All accounts, with what they may use."""
    return [_allowance_view(account) for account in accounts_of(service).list()]


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
    return _allowance_view(accounts.change(name, **changes))


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
