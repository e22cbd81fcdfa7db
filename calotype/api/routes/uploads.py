"""Uploads: files by the sha256 of their content, private to the account that sent them."""

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Path, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from calotype.api.access import UPLOADING, WAITING, CallerOf, ServiceOf
from calotype.api.body import BodyStream
from calotype.api.responses import CONFLICT, FILE, NOT_FOUND, file_response
from calotype.api.schemas import UPLOAD_ID
from calotype.api.views import ParametersView, UploadView
from calotype.outputs.infotext import infotext_of

router = APIRouter(tags=["uploads"])
UploadId = Annotated[str, Path(pattern=UPLOAD_ID, description="sha256 of the file")]
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/uploads", status_code=201, dependencies=UPLOADING, openapi_extra=BODY)
async def upload(request: Request, caller: CallerOf, service: ServiceOf) -> UploadView:
    """Send a file as the body of the request, of any content type. It is decoded by the worker, not here."""
    service.check_open()
    await run_in_threadpool(service.check_storage, caller)
    sent = caller.owner, BodyStream(request), service.max_upload
    saved = await to_thread.run_sync(service.store.upload, *sent, limiter=service.bodies)
    return UploadView(id=saved.id, size=saved.size)


@router.get("/uploads/{upload_id}", response_class=FileResponse, responses=FILE | NOT_FOUND)
def download(upload_id: UploadId, caller: CallerOf, service: ServiceOf) -> FileResponse:
    """The file again. A file that is there need not be sent again."""
    saved = service.store.find_upload(caller.owner, upload_id)
    path = service.store.files.upload(saved.id)
    return file_response(path, saved.id, "application/octet-stream", is_final=True)


@router.get("/uploads/{upload_id}/parameters", dependencies=WAITING, responses=NOT_FOUND)
def parameters(upload_id: UploadId, caller: CallerOf, service: ServiceOf) -> ParametersView:
    """The parameters that an uploaded picture was generated with, by any program."""
    saved = service.store.find_upload(caller.owner, upload_id)
    text, found = infotext_of(service.store.files.upload(saved.id), service.settings.max_pixels)
    return ParametersView(text=text, parameters=found)


@router.head("/uploads/{upload_id}", status_code=204, responses=NOT_FOUND)
def find_upload(upload_id: UploadId, caller: CallerOf, service: ServiceOf) -> None:
    """Whether this account has sent the file before, so that it need not be sent again."""
    service.store.find_upload(caller.owner, upload_id)


@router.delete("/uploads/{upload_id}", status_code=204, responses=NOT_FOUND | CONFLICT)
def delete_upload(upload_id: UploadId, caller: CallerOf, service: ServiceOf) -> None:
    """Delete an upload that no job needs."""
    service.store.remove_upload(caller.owner, upload_id)
