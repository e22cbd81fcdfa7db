"""Errors as HTTP answers: `{error, detail, option}`, never a traceback."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from calotype.errors import PLAIN, CalotypeError, Message
from calotype.jobs.database import StoreFull
from calotype.jobs.files import TooLarge
from calotype.jobs.jobs import Conflict, LeaseLost, NotFound, OverBudget

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    421: "misdirected_request",
    422: "invalid",
    429: "too_many_requests",
    500: "internal_error",
    503: "unavailable",
    507: "disk_full",
}  # HTTP status: value of `error`
SENTENCES = {
    404: "there is nothing at this address",
    405: "this address does not support the method {method}",
}
STATUSES = (
    (NotFound, 404),
    (Conflict, 409),
    (OverBudget, 429),
    (TooLarge, 413),
    (StoreFull, 507),
    (CalotypeError, 422),
)  # the first that fits


class Refusal(CalotypeError):
    """An error with an HTTP status of its own."""

    def __init__(
        self, status: int, template: str | Message, /, *, headers: Mapping[str, str] | None = None, **values: Any
    ):
        self.status, self.headers = status, dict(headers or {})
        super().__init__(template, **values)


class ErrorResponse(Response):
    """`{error, detail, option}` as JSON. Characters beyond ASCII are escaped, so that lone surrogates are valid."""

    media_type = "application/json"

    def __init__(self, status: int, detail: str, option: str = "", headers: Mapping[str, str] | None = None):
        super().__init__({"error": CODES[status], "detail": detail, "option": option}, status, headers)

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


def error_response(fault: CalotypeError) -> ErrorResponse:
    status = getattr(fault, "status", None) or next(status for cls, status in STATUSES if isinstance(fault, cls))
    headers = dict(getattr(fault, "headers", {}))
    if status == 429 and "Retry-After" not in headers:
        headers["Retry-After"] = "60"
    return ErrorResponse(status, PLAIN.fill(fault), fault.option, headers)


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(CalotypeError, _on_refusal)
    app.add_exception_handler(LeaseLost, _on_lease_lost)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_refusal(_: Request, fault: CalotypeError) -> Response:
    return error_response(fault)


async def _on_lease_lost(_: Request, fault: LeaseLost) -> Response:
    return error_response(Conflict("the job was taken from this worker, because its lease had ended"))


async def _on_invalid_parameters(_: Request, fault: RequestValidationError) -> Response:
    """Parameters of the address; bodies are read by `calotype.options`."""
    first = fault.errors()[0]
    option = str(first["loc"][-1]) if first.get("loc") else ""
    return ErrorResponse(422, f"{option}: {first['msg'][:1].lower()}{first['msg'][1:]}", option)


async def _on_http_exception(request: Request, fault: HTTPException) -> Response:
    status = fault.status_code if fault.status_code in CODES else 400
    template = SENTENCES.get(status, str(fault.detail).replace("{", "{{").replace("}", "}}"))
    return ErrorResponse(status, template.format(method=request.method), "", fault.headers)


def internal_error() -> ErrorResponse:
    return ErrorResponse(500, "the service failed at this request; its log has the cause")
