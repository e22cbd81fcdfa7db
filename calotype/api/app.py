"""The application: routes, their common checks, and the OpenAPI description."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from calotype import __version__
from calotype.api.access import caller_of
from calotype.api.errors import add_handlers
from calotype.api.responses import COMMON
from calotype.api.routes import a1111, catalog, jobs, mcp, models, openai, owner, people, uploads, workers
from calotype.api.schemas import job_schema
from calotype.api.security import SecurityMiddleware
from calotype.api.service import Service
from calotype.api.settings import MIB, ServiceSettings
from calotype.errors import CalotypeError
from calotype.jobs.files import MAX_PART
from calotype.jobs.store import JobStore
from calotype.jobs.users import Accounts
from calotype.settings import Settings

ROUTERS = (  # for accounts
    *(jobs.router, uploads.router, catalog.router, models.router, people.router, owner.router),
    *(a1111.router, openai.router, mcp.router),
)
PUBLIC_ROUTERS = (catalog.public, people.public)  # for everybody
WORKER_ROUTERS = (workers.router,)  # for workers on other computers; not part of the description
MIN_TOKEN = 32  # characters of the workers' token
DESCRIPTION = """Restores photos, enlarges them, and generates pictures from prompts, on your own computer.

`GET /tasks` describes what can be done, `POST /jobs` queues it, `GET /jobs/{job_id}/events` follows it. Every error is
`{error, detail, option}`, below `/v1/` in OpenAI's form.
"""


def create_app(
    store: JobStore,
    settings: Settings,
    service: ServiceSettings | None = None,
    *,
    accounts: Accounts | None = None,
    has_tagger: bool = False,
) -> FastAPI:
    """The service over a job store.

    Args:
        accounts: whose tokens are accepted; where only this computer reaches the service, there is a single user
            without login until the first account is added. None: always a single user.
        has_tagger: whether its workers have one, for jobs that ask for tags.
    Raises:
        CalotypeError: without accounts the service would listen beyond this computer; or the workers' token is short.
    """
    service = service or ServiceSettings()
    if accounts is None and not service.is_local:
        raise CalotypeError(
            "the service on {host} is reached from other computers, which needs accounts; add one first",
            option="host",
            host=service.host,
        )
    if 0 < len(service.worker_token) < MIN_TOKEN:
        raise CalotypeError("{option} needs {count} random characters or more", option="worker_token", count=MIN_TOKEN)
    parts = Service(store, settings, service, accounts, has_tagger)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.stopping.clear()
        yield
        parts.stopping.set()

    app = FastAPI(
        title="Calotype",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # their scripts come from another site
        redoc_url=None,
        redirect_slashes=False,
        responses=COMMON,
    )
    app.state.service = parts
    bearer = HTTPBearer(auto_error=False, description="a token of an account")
    for router in ROUTERS:
        app.include_router(router, dependencies=[Depends(bearer), Depends(caller_of)])
    for router in PUBLIC_ROUTERS:
        app.include_router(router)
    for router in WORKER_ROUTERS:
        app.include_router(router, include_in_schema=False)
    add_handlers(app)
    max_body = max(parts.max_upload, MIB, MAX_PART)
    app.add_middleware(SecurityMiddleware, hosts=(service.host, *service.allow_host), max_body=max_body)
    if service.trust_proxy:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(service.trust_proxy))
    app.openapi = lambda: _openapi(app)
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description, with the tasks' options as the body of `POST /jobs`."""
    if app.openapi_schema is None:
        description = FastAPI.openapi(app)
        body, components = job_schema()
        description["components"]["schemas"] |= components
        description["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"] = body
        app.openapi_schema = description
    return app.openapi_schema
