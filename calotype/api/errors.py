"""Errors as HTTP answers: `{error, detail, option}`, or in OpenAI's form below `/v1/`, never a traceback."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from calotype.api.shown import without_paths
from calotype.api.wording import OPENAI, WORDING
from calotype.errors import CalotypeError, Message
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
OPENAI_PATH = "/v1/"  # errors of addresses below it have OpenAI's form
OPENAI_STATUSES = {422: 400}  # its clients take the first for an error of the service
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
OPENAI_CODES = {401: "invalid_api_key", 422: "invalid_value", 429: "rate_limit_exceeded"}
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


class JSONError(Response):
    """An error as JSON. Characters beyond ASCII are escaped, so that lone surrogates are valid."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


def status_of(fault: CalotypeError) -> int:
    return getattr(fault, "status", None) or next(status for cls, status in STATUSES if isinstance(fault, cls))


def error_response(fault: CalotypeError, path: str) -> Response:
    """The answer to a request of the address `path`."""
    status, headers = status_of(fault), dict(getattr(fault, "headers", {}))
    is_temporary = "Retry-After" in headers
    if status == 429:
        headers.setdefault("Retry-After", "60")
    if not path.startswith(OPENAI_PATH):
        return JSONError(error_data(fault), status, headers)
    if not is_temporary:  # OpenAI's client would send the request again: for a job that was cancelled, for instance
        headers["x-should-retry"] = "false"
    return JSONError(openai_error(fault, status), OPENAI_STATUSES.get(status, status), headers)


def error_data(fault: CalotypeError) -> dict[str, str]:
    status = status_of(fault)
    return {"error": CODES[status], "detail": without_paths(WORDING.fill(fault)), "option": fault.option}


def openai_error(fault: CalotypeError, status: int) -> dict[str, Any]:
    """OpenAI's form of an error."""
    kind = OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = "model_not_found" if fault.option == "model" else OPENAI_CODES.get(status, CODES[status])
    param = OPENAI.option(fault.option) or None
    return {"error": {"message": without_paths(OPENAI.fill(fault)), "type": kind, "param": param, "code": code}}


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(CalotypeError, _on_refusal)
    app.add_exception_handler(LeaseLost, _on_lease_lost)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_refusal(request: Request, fault: CalotypeError) -> Response:
    return error_response(fault, request.url.path)


async def _on_lease_lost(request: Request, fault: LeaseLost) -> Response:
    reason = Conflict("the job was taken from this worker, because its lease had ended")
    return error_response(reason, request.url.path)


async def _on_invalid_parameters(request: Request, fault: RequestValidationError) -> Response:
    """Parameters of the address; bodies are read by `calotype.options`."""
    first = fault.errors()[0]
    option = str(first["loc"][-1]) if first.get("loc") else ""
    sentence = f"{option}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return error_response(Refusal(422, Message.of(sentence), option=option), request.url.path)


async def _on_http_exception(request: Request, fault: HTTPException) -> Response:
    status = fault.status_code if fault.status_code in CODES else 400
    message = Message(SENTENCES[status], method=request.method) if status in SENTENCES else Message.of(fault.detail)
    return error_response(Refusal(status, message, headers=fault.headers), request.url.path)


def internal_error(path: str) -> Response:
    return error_response(Refusal(500, "the service failed at this request; its log has the cause"), path)
