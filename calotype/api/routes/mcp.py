"""The Model Context Protocol, for language models and their programs (streamable HTTP)."""

from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from calotype.api.access import WAITING, CallerOf, ServiceOf
from calotype.api.responses import EVENTS
from calotype.api.service import Caller, Service

router = APIRouter(tags=["MCP"])
MESSAGE = {"schema": {"type": "object"}}
BODY = {"requestBody": {"required": True, "content": {"application/json": MESSAGE}}}
STREAM = {"application/json": MESSAGE} | EVENTS
REFUSED = {"description": "an error of JSON-RPC, or of the service", "content": {"application/json": MESSAGE}}


@router.post(
    "/mcp",
    response_class=Response,
    dependencies=WAITING,
    responses={
        200: {"description": "messages", "content": STREAM},
        202: {"description": "a notification was taken"},
        **dict.fromkeys((400, 404, 406, 413, 415), REFUSED),
    },
    openapi_extra=BODY,
)
async def mcp(caller: CallerOf, service: ServiceOf) -> Any:
    """Messages of the Model Context Protocol: its tools become jobs of this account."""
    return await run_in_threadpool(_response, service, caller)


def _response(service: Service, caller: Caller) -> Response:
    from calotype.api.mcp import MCPResponse  # takes more than a second, and few need it

    return MCPResponse(service, caller)
