"""What the service can do: kinds of tasks; its health and figures."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import Response

from calotype import __version__
from calotype.api.access import CallerOf, ServiceOf, admin_of
from calotype.api.responses import NOT_FOUND
from calotype.api.schemas import file_options, task_schema
from calotype.api.views import HealthView, TaskView
from calotype.api.wording import WORDING
from calotype.jobs.jobs import NotFound
from calotype.options import as_name, is_required, nearest
from calotype.tasks import TASKS

router = APIRouter(tags=["catalog"])
public = APIRouter(tags=["service"])


@router.get("/tasks")
def tasks(_: CallerOf) -> list[TaskView]:
    """All kinds of tasks, with the schemas of their options: forms can be made from them."""
    return [_task_view(kind) for kind in TASKS]


@router.get("/tasks/{kind}", responses=NOT_FOUND)
def task(kind: Annotated[str, Path(max_length=100, examples=["restore"])], _: CallerOf) -> TaskView:
    """One kind of task."""
    if kind not in TASKS:
        raise NotFound("there is no task {kind}{hint}", kind=as_name(kind), hint=nearest(kind, TASKS))
    return _task_view(kind)


def _task_view(kind: str) -> TaskView:
    options, files = task_schema(kind, wording=WORDING), file_options(TASKS[kind])
    return TaskView(
        kind=kind,
        title=options["title"],
        description=options["description"],
        options=options,
        files=[spec.name for spec in files],
        required_files=[spec.name for spec in files if is_required(spec)],
    )


@public.get("/health")
def health(service: ServiceOf) -> HealthView:
    """Whether the service takes requests."""
    return HealthView(status="stopping" if service.stopping.is_set() else "ok", version=__version__)


@router.get(
    "/metrics",
    dependencies=[Depends(admin_of)],
    response_class=Response,
    responses={200: {"description": "figures", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(service: ServiceOf) -> Response:
    """Figures for Prometheus."""
    text = service.metrics.text(service.store.counts(), service.waiting.count)
    return Response(text, media_type=service.metrics.media_type)
