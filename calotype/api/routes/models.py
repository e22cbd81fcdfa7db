"""Models: those at hand, with small pictures; an account keeps and removes those that it has trained."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from calotype.api import trained
from calotype.api.access import CallerOf, ServiceOf, admin_of, result_in
from calotype.api.body import read_json
from calotype.api.responses import CONFLICT, FILE, NOT_FOUND, PERSON
from calotype.api.schemas import body_of
from calotype.api.service import Caller, Service
from calotype.api.views import KeptModelView, ModelView
from calotype.api.wording import WORDING
from calotype.checkpoints.describe import describe, unknown_model
from calotype.checkpoints.previews import preview_of
from calotype.checkpoints.store import Listed, ModelStore
from calotype.jobs.jobs import NotFound
from calotype.options import option
from calotype.outputs.publish import thumbnail
from calotype.tasks.guard import read_request

router = APIRouter(tags=["models"])
ModelName = Annotated[str, Path(pattern=r"^\w[\w .+()&'-]{0,99}$", examples=["codeformer"])]


@router.get("/models")
def models(
    caller: CallerOf,
    service: ServiceOf,
    kind: Annotated[str | None, Query(max_length=100, description="only models of this kind")] = None,
) -> list[ModelView]:
    """The models at hand, and those that could be fetched; of those that people trained, one's own."""
    found = ModelStore(service.settings).entries(kind or "", caller.owner)
    return [_view(model) for model in found]


def _view(model: Listed) -> ModelView:
    facts = describe(model)
    has_preview = model.path is not None and preview_of(model.path) is not None
    return ModelView(
        name=model.name,
        kind=model.kind,
        purpose=WORDING.translate(facts["for"]),
        is_available=model.path is not None,
        is_shipped=model.entry is not None and bool(model.entry.ships),
        is_own=bool(model.owner),
        preview=f"/models/{quote(model.name)}/preview" if has_preview else None,
        licence=facts["licence"],
        size=facts["size"],
        about=WORDING.translate(WORDING.fill(facts["about"])),
    )


def _listed(service: Service, caller: Caller, name: str) -> Listed:
    """A model that the caller may use. Raises NotFound."""
    found = {model.name: model for model in ModelStore(service.settings).entries(owner=caller.owner)}
    if name not in found:
        raise NotFound(unknown_model(name, found).message)
    return found[name]


@router.get("/models/{name}/preview", response_class=Response, responses=FILE | NOT_FOUND)
def preview(name: ModelName, caller: CallerOf, service: ServiceOf) -> Response:
    """A small picture of what a model makes, as JPEG."""
    model = _listed(service, caller, name)
    picture = model.path and preview_of(model.path)
    if not picture:
        raise NotFound("there is no picture of this model")
    content = thumbnail(picture, trained.PREVIEW_SIDE, service.settings.max_pixels)
    headers = {
        "Cache-Control": "private, max-age=3600",
        "Vary": PERSON,
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return Response(content, media_type="image/jpeg", headers=headers)


@router.delete("/models/{name}", status_code=204, responses=NOT_FOUND)
def remove_model(name: ModelName, caller: CallerOf, service: ServiceOf) -> None:
    """Remove a model: one that was fetched or trained is deleted, one's own file only leaves the list.

    The owner of the service removes those of everybody, others only what they have trained.
    """
    if not _listed(service, caller, name).owner:
        admin_of(caller)
    ModelStore(service.settings, trusted=False).remove(name)


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """The file of a training to keep as a model."""

    job: str = option(help="id of the training", max_length=32)
    result: str = option(help="id of its file", max_length=32)


@router.post("/models/trained", status_code=201, responses=NOT_FOUND | CONFLICT, openapi_extra=body_of(TrainedModel))
async def keep_trained(request: Request, caller: CallerOf, service: ServiceOf) -> KeptModelView:
    """Keep the file of one of one's own trainings as a model, under its name or with a number.

    Everybody may use what the owner of the service keeps; what others keep is theirs alone.
    """
    asked = read_request(TrainedModel, await read_json(request))
    return await run_in_threadpool(_keep_trained, service, caller, asked)


def _keep_trained(service: Service, caller: Caller, asked: TrainedModel) -> KeptModelView:
    job = service.store.get(asked.job, caller.owner)
    result, owner = result_in(job, asked.result, "result"), trained.owner_of(caller)
    name = trained.keep_trained(service, caller, job, result, owner)
    return KeptModelView(name=name, kind=trained.TRAINED[job.kind], is_own=bool(owner))
