"""Answers that routes have in common, and their descriptions."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi.responses import FileResponse

from calotype.api.views import ErrorView
from calotype.jobs.files import open_stored

PERSON = "Cookie, Authorization"  # a browser shows what it has kept to the session alone that asked for it
SHOWN_INLINE = ("image/png", "image/jpeg", "image/webp", "image/avif", "image/gif")
DESCRIPTIONS = {
    400: "the body cannot be read",
    401: "no valid token",
    403: "not allowed",
    404: "there is no such object of this account",
    409: "the state of the object does not allow it",
    413: "the body is too large",
    415: "the body is of another type",
    421: "the host name is not this service's",
    422: "an option is invalid",
    429: "too many requests, or a budget is used up",
    503: "the service is stopping",
    507: "the disk of the service is full",
}


def refusals(*statuses: int, view: type = ErrorView) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": view, "description": DESCRIPTIONS[status]} for status in statuses}


ANYWHERE = (400, 401, 403, 413, 415, 421, 422, 429, 503, 507)
COMMON = refusals(*ANYWHERE)
NOT_FOUND = refusals(404)
CONFLICT = refusals(409)
FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "the file", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
}
ZIP: dict[int | str, dict[str, Any]] = {
    200: {"description": "a ZIP", "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}
}

_TEXT = {"type": "string"}
EVENTS = {  # one server-sent event
    "text/event-stream": {"schema": {"type": "object", "properties": {"id": _TEXT, "event": _TEXT, "data": _TEXT}}}
}


def file_response(path: Path, name: str, media_type: str, is_final: bool = False) -> FileResponse:
    """A file of the store. Pictures are shown in the browser, anything else is saved; nothing in them can run.

    `is_final`: it never changes, and may be kept by the browser.
    """
    open_stored(path).close()
    kind = "inline" if media_type in SHOWN_INLINE else "attachment"
    headers = {
        "Content-Disposition": f"{kind}; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, max-age=31536000, immutable" if is_final else "no-store",
        "Vary": PERSON,
    }
    return FileResponse(path, media_type=media_type, headers=headers)
