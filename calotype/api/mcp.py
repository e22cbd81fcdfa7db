"""The Model Context Protocol over the service: its tools, and the files of results as resources."""

import base64
import json
import logging
import re
from contextlib import AbstractContextManager
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from calotype import __version__
from calotype.api.schemas import JOB_ID
from calotype.api.service import Caller, Service
from calotype.api.tools import TOOLS, ToolResult, call
from calotype.api.waiting import as_base64
from calotype.errors import PLAIN, CalotypeError
from calotype.jobs.account import LOCAL
from calotype.jobs.jobs import NotFound

RESULTS = "calotype://results/"  # address of a result's file: with its id
MAX_RESOURCE = 16 << 20  # bytes of a file that is read as a resource
INSTRUCTIONS = (
    "Restores photos, enlarges pictures, and generates pictures from prompts, on the user's own computer. Pictures are "
    "passed on by the ids of results; paths are never opened, and web addresses only where the owner has allowed it."
)

log = logging.getLogger("calotype.api")


def mcp_server(service: Service, caller: Caller) -> Server[Any]:
    """A server that acts for one account."""

    async def list_tools(_: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_described(name) for name in TOOLS])

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        async def report(done: float, total: float, what: str) -> None:
            await context.session.report_progress(done, total or None, what or None)

        try:
            return _packed(await call(service, caller, params.name, params.arguments or {}, report))
        except CalotypeError as fault:
            return _refused(PLAIN.fill(fault), fault.option)
        except Exception as fault:
            log.error("internal error in the tool %.100r", params.name, exc_info=fault)
            return _refused("the service failed at this call; its log has the cause", "")

    async def list_templates(_: Any, params: Any) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(name="result", title="File of a result", uri_template=f"{RESULTS}{{id}}")
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(_: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        try:
            content, media_type = await run_in_threadpool(_read, service, caller, str(params.uri))
        except CalotypeError as fault:
            raise MCPError(types.INVALID_PARAMS, PLAIN.fill(fault)) from None
        blob = types.BlobResourceContents(uri=str(params.uri), mime_type=media_type, blob=content)
        return types.ReadResourceResult(contents=[blob])

    return Server(
        "calotype",
        title="Calotype",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


def _described(name: str) -> types.Tool:
    tool = TOOLS[name]
    hints = types.ToolAnnotations(
        title=tool.title, read_only_hint=tool.is_reading, destructive_hint=False, open_world_hint=False
    )
    return types.Tool(
        name=name, title=tool.title, description=tool.description, input_schema=tool.schema, annotations=hints
    )


def _packed(result: ToolResult) -> types.CallToolResult:
    content: list[Any] = [types.TextContent(type="text", text=json.dumps(result.data, ensure_ascii=False))]
    for preview in result.previews:
        data = base64.b64encode(preview).decode()
        content.append(types.ImageContent(type="image", data=data, mime_type="image/jpeg"))
    for file in result.files:
        address = f"{RESULTS}{file.id}"
        link = types.ResourceLink(uri=address, name=file.name, mime_type=file.media_type, size=file.size)
        content.append(link)
    return types.CallToolResult(content=content, structured_content=result.data)


def _refused(sentence: str, option: str) -> types.CallToolResult:
    data = {"detail": sentence, "option": option}
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=sentence)], structured_content=data, is_error=True
    )


def _read(service: Service, caller: Caller, address: str) -> tuple[str, str]:
    """A result's file in base64, and its media type. Raises NotFound for anybody else's, and for other addresses."""
    result_id = address.removeprefix(RESULTS)
    if not address.startswith(RESULTS) or not re.fullmatch(JOB_ID, result_id):
        raise NotFound("there is no such result")
    _, result = service.store.result(result_id, caller.owner)
    return as_base64(service, [result], MAX_RESOURCE)[0], result.media_type


class MCPResponse(Response):
    """Handles one request of the streamable HTTP transport, without a session: each request has its own token."""

    def __init__(self, service: Service, caller: Caller):
        super().__init__()
        self._service, self._caller = service, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        manager = StreamableHTTPSessionManager(
            mcp_server(self._service, self._caller), stateless=True, max_request_body_size=self._service.max_upload
        )
        try:
            async with manager.run():
                await manager.handle_request(scope, receive, send)
        except BaseExceptionGroup as group:  # of the manager's tasks
            refusals, unknown = group.split(CalotypeError)
            if refusals is None or unknown is not None:
                raise
            fault: BaseException = refusals
            while isinstance(fault, BaseExceptionGroup):
                fault = fault.exceptions[0]
            raise fault from None


async def serve_stdio(service: Service, worker: AbstractContextManager) -> None:
    """Serves the only user of this computer, on standard input and output, until the input ends.

    Args:
        worker: is entered when its output cannot get between the messages any more.
    """
    server = mcp_server(service, Caller(LOCAL))
    async with stdio_server() as (incoming, outgoing):
        with worker:
            await server.run(incoming, outgoing, server.create_initialization_options())
