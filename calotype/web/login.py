"""The log-in page, which works without scripts: a token for a cookie that scripts cannot read; newcomers sign up."""

from collections.abc import Mapping
from types import MappingProxyType

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from calotype.api.access import COOKIE, ServiceOf
from calotype.api.body import read_form
from calotype.api.errors import status_of
from calotype.api.limiter import too_many
from calotype.api.service import address_of
from calotype.errors import CalotypeError
from calotype.html import as_markup, csp_hash, render
from calotype.web.texts import LANGUAGE_COOKIE, STATIC, Texts, language_of, preferred

router = APIRouter()
SESSION = 30 * 86_400  # seconds
MAX_FORM = 2000  # bytes
POLICY = "default-src 'none'; img-src 'self'; style-src '{style}'; form-action 'self'; base-uri 'none'; "
POLICY += "frame-ancestors 'none'"


@router.get("/login")
def form(request: Request, service: ServiceOf) -> Response:
    """The form; without accounts there is nothing to log in to."""
    if service.is_open():
        return RedirectResponse("/", 303)
    return _page(Texts(language_of(request)))


@router.post("/login")
async def log_in(request: Request, service: ServiceOf) -> Response:
    """Takes a token. Wrong ones count as in the API."""
    if await run_in_threadpool(service.is_open):
        return RedirectResponse("/", 303)
    _ = texts = Texts(language_of(request))
    address = address_of(request)
    if wait := service.failures.wait_for(address):
        return _page(texts, texts.wording.fill(too_many(wait)), 429)
    token = (await _fields(request)).get("token", "")
    session = await run_in_threadpool(service.accounts.open_session, token, SESSION)
    if session is None:
        service.failures.take(address)
        return _page(texts, _("this is not a valid token; ask the owner of the service for one"), 401)
    return _with_session(request, RedirectResponse("/", 303), session)


@router.post("/join")
async def join(request: Request, service: ServiceOf) -> Response:
    """Opens an account with an invitation and logs it in; its token is on this page only."""
    if await run_in_threadpool(service.is_open):
        return RedirectResponse("/", 303)
    texts, fields = Texts(language_of(request)), await _fields(request)
    try:
        service.check_open()
        service.sign_ups.take(address_of(request))
        _, token = await run_in_threadpool(
            service.accounts.sign_up, fields.get("invitation", ""), fields.get("name", "")
        )
    except CalotypeError as fault:
        option = "name" if fault.option == "name" else "invitation"
        return _page(texts, texts.wording.fill(fault), status_of(fault), option=option, given=fields)
    session = await run_in_threadpool(service.accounts.open_session, token, SESSION)
    return _with_session(request, _page(texts, token=token), session)


def _with_session(request: Request, response: Response, session: str) -> Response:
    is_secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, session, max_age=SESSION, httponly=True, samesite="strict", secure=is_secure)
    return response


@router.post("/logout")
def log_out(request: Request, service: ServiceOf) -> Response:
    """Ends the session, in every window."""
    if service.accounts is not None:
        service.accounts.end_session(request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


@router.post("/language")
async def set_language(request: Request) -> Response:
    """Keeps the language that was chosen."""
    response = RedirectResponse("/", 303)
    language = (await _fields(request)).get("language", "")
    response.set_cookie(LANGUAGE_COOKIE, preferred(language, ""), max_age=365 * 86_400, samesite="strict")
    return response


async def _fields(request: Request) -> dict[str, str]:
    """The short texts of the form in the body, without spaces around them."""
    return {name: values[0].strip() for name, values in (await read_form(request, MAX_FORM, max_fields=4)).items()}


def _page(
    texts: Texts,
    fault: str = "",
    status: int = 200,
    *,
    option: str = "token",
    given: Mapping[str, str] = MappingProxyType({}),
    token: str = "",
) -> Response:
    """The forms.

    Args:
        option: the field that the fault is about.
        given: what was typed into the form of newcomers.
        token: of a new account, shown in place of the forms.
    """
    style = (STATIC / "login.css").read_text("utf-8")
    facts = {"fault": fault, "option": option, "given": given, "token": token, "style": as_markup(style)}
    page = render("login.html", texts.wording, **facts)
    headers = {"Content-Security-Policy": POLICY.format(style=csp_hash(style)), "Cache-Control": "no-store"}
    return HTMLResponse(page, status, headers=headers)
