"""Adds the page to the application: Gradio behind a gate, one `Blocks` a language, built at the start."""

import asyncio
import contextlib
import gc
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Collection
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from calotype.api.access import caller_of
from calotype.api.body import MAX_JSON, read_body
from calotype.api.errors import Refusal, error_response
from calotype.api.service import Caller, Service
from calotype.html import as_markup, csp_hash, render
from calotype.languages import NAMES
from calotype.web import login
from calotype.web.texts import STATIC, Texts, language_of

if TYPE_CHECKING:
    from gradio import Blocks

PATH = "/page"
# Of Gradio's addresses only these are open: its own files, what a form without queue needs, and by what a page that has
# lost a request sees that the service is back. Files of the disk,
# uploads, proxies, and its programming interface are not.
FILES = re.compile(r"/(?:assets|static)/[\w./-]+|/theme\.css")
CALLS = re.compile(r"/|/config/?|/gradio_api/(?:run/predict/?|startup-events|app_id/?|theme\.css|reset/?)")
POLICY = (
    "default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "font-src 'self' data:; connect-src 'self' blob:; worker-src 'self'; manifest-src 'self'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_INLINE = re.compile(r"<script(?![^>]*\b(?:src|type)=)[^>]*>(.*?)</script>", re.DOTALL)
_FOREIGN = re.compile(r"<meta\s+(?:property|name)=\"(?:og|twitter):.*?/>|<link rel=\"manifest\"[^>]*>", re.DOTALL)


def add_page(app: FastAPI, ahead: Collection[str] = tuple(NAMES)) -> None:
    """The page at `/`, over a service made by `create_app`.

    Args:
        ahead: languages in which it is built at the start; in others it is when it is first opened.
    """
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "GRADIO_MCP_SERVER": "False"}
    gate = Gate(app.state.service, ahead)
    app.include_router(login.router, include_in_schema=False)
    app.add_api_route("/", _start, include_in_schema=False)
    app.mount("/web", StaticFiles(directory=STATIC))
    app.mount(PATH, gate)
    before = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with before(app) as state, gate.open():
            yield state

    app.router.lifespan_context = lifespan


def _start(request: Request) -> Response:
    """Leads to the page in the browser's language."""
    return RedirectResponse(f"{PATH}/{language_of(request)}/", 303)


class Gate:
    """Lets requests of accounts through to the few addresses of Gradio that the page needs."""

    def __init__(self, service: Service, ahead: Collection[str]):
        self._service, self._ahead = service, ahead
        self._pages: dict[str, asyncio.Task[FastAPI]] = {}
        self._stack, self._building = contextlib.AsyncExitStack(), asyncio.Lock()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Builds the pages, in the background."""
        async with self._stack:
            for language in self._ahead:
                self._built(language)
            yield
            for task in list(self._pages.values()):
                task.cancel()

    def _built(self, language: str) -> asyncio.Task[FastAPI]:
        """The page in a language, once it is built; one that could not be built is built anew."""
        known = self._pages.get(language)
        if known is None or (known.done() and (known.cancelled() or known.exception())):
            self._pages[language] = asyncio.create_task(self._build(language))
        return self._pages[language]

    async def _build(self, language: str) -> FastAPI:
        async with self._building:
            inner = await run_in_threadpool(build, language, self._service)
            await self._stack.enter_async_context(inner.router.lifespan_context(inner))
            # what Gradio keeps for ever is no garbage: looking through it stops every answer for a quarter of a second
            gc.collect()
            gc.freeze()
            return inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request, scope, receive, send)
        except Refusal as fault:
            response = error_response(fault, scope["path"])
        if response is not None:
            await response(scope, receive, send)

    async def _respond(self, request: Request, scope: Scope, receive: Receive, send: Send) -> Response | None:
        language, slash, rest = scope["path"].removeprefix(scope["root_path"]).lstrip("/").partition("/")
        path = slash + rest
        if language not in NAMES or not (FILES.fullmatch(path) or CALLS.fullmatch(path)) or ".." in path:
            raise Refusal(404, "there is nothing at this address")
        try:
            if not FILES.fullmatch(path):
                scope.setdefault("state", {})["caller"] = await caller_of(request, self._service)
        except Refusal as fault:
            if path != "/" or fault.status != 401:
                raise
            return RedirectResponse("/login", 303)
        inner = await asyncio.shield(self._built(language))
        scope = {**scope, "state": dict(scope.get("state", {}))}  # Gradio writes into it
        if path == "/":
            return await self._page(language, inner, scope, receive)
        if request.method == "POST":
            receive = _replayed(await read_body(request, MAX_JSON))
        await inner(scope, receive, _cached(send) if FILES.fullmatch(path) else send)
        return None

    async def _page(self, language: str, inner: FastAPI, scope: Scope, receive: Receive) -> Response:
        """Gradio's page with our head, and the policy that allows only the scripts in it."""
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            parts.append(message.get("body", b""))

        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        await inner({**scope, "headers": plain}, receive, collect)
        caller = scope["state"]["caller"]
        page = dressed(b"".join(parts).decode(), Texts(language), caller.account.name if caller.account else "")
        hashes = " ".join(f"'{csp_hash(script)}'" for script in _INLINE.findall(page))
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY.format(hashes=hashes)})


def _replayed(body: bytes) -> Receive:
    """A body that was read, to be read again."""
    parts = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        return next(parts, {"type": "http.disconnect"})

    return receive


def _cached(send: Send) -> Send:
    """Gradio's own files have the hash of their content in their names."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message["headers"] if name.lower() != b"cache-control"]
            message["headers"] = [*kept, (b"cache-control", b"private, max-age=604800")]
        await send(message)

    return sent


def dressed(page: str, texts: Texts, account: str) -> str:
    """Gradio's page without what it says about other sites, with our header, style and scripts."""
    page = _FOREIGN.sub("", page).replace('lang="en"', f'lang="{texts.language}"', 1)
    choices = {name: title for name, title in NAMES.items() if name != texts.language}
    words = as_markup(json.dumps(texts.of_scripts()).replace("<", "\\u003c"))
    facts = {"account": account, "languages": choices, "words": words}
    head, _, header = str(render("web_parts.html", texts.wording, **facts)).partition("<!-- body -->")
    page = page.replace("</head>", head + "</head>", 1)
    start = page.index(">", page.index("<body")) + 1
    return page[:start] + header + page[start:]


def build(language: str, service: Service) -> FastAPI:
    """The application of Gradio for one language."""
    import gradio as gr

    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    return gr.mount_gradio_app(
        inner,
        blocks(language, service),
        path=f"/{language}",
        theme=theme(),
        footer_links=[],
        run_history=False,
        max_file_size=0,
        blocked_paths=["/"],
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        show_error=False,
    )


def blocks(language: str, service: Service) -> "Blocks":
    """The tabs in one language."""
    import gradio as gr

    from calotype.web.forms import Door, add_choices
    from calotype.web.tabs import TABS

    texts = Texts(language)

    def names_for(request: gr.Request | None) -> Callable[[str], Collection[str]]:
        caller = request.request.state.caller if request else Caller("")  # the gate has put it there
        return service.names_for(caller)

    door = Door(texts, names_for)
    with gr.Blocks(title="Calotype", analytics_enabled=False, fill_width=True) as page:
        with gr.Tabs(elem_id="tabs"):
            for tab in TABS:
                title = texts.wording.translate(tab.TITLE)
                with gr.Tab(title, id=tab.NAME, elem_id=f"tab-{tab.NAME}", render_children=True):
                    tab.add(door)
        add_choices(door)
    return page


def theme() -> Any:
    import gradio as gr

    plain = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Noto Sans CJK SC", "PingFang SC"]
    fonts = [*plain, "Microsoft YaHei", "WenQuanYi Micro Hei", "sans-serif"]
    mono = ["ui-monospace", "Menlo", "Consolas", "Noto Sans Mono", "monospace"]
    return gr.themes.Base(font=fonts, font_mono=mono)
