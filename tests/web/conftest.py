"""A service with the page, in this process, and a browser that reaches nothing else."""

import contextlib
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("gradio")

import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from calotype.api.app import create_app
from calotype.api.settings import ServiceSettings
from calotype.jobs.account import LOCAL
from calotype.jobs.jobs import NewResult
from calotype.jobs.store import JobStore
from calotype.jobs.users import Accounts
from calotype.settings import Settings
from calotype.web.page import add_page

ADDRESS = "http://127.0.0.1:7860"


class StudioService:
    """The service with its page; with accounts for `users`."""

    def __init__(self, folder, users=(), **service):
        (folder / "service").mkdir(parents=True, exist_ok=True)
        self.settings = Settings.gather({"home": folder / "home", "offline": True}, environ={})
        self.store = JobStore("", folder / "service")
        self.accounts = Accounts(self.store.database) if users else None
        for name in users:
            self.accounts.add(name)
        service = ServiceSettings(host="0.0.0.0" if users else "127.0.0.1", **service)
        self.app = create_app(self.store, self.settings, service, accounts=self.accounts)
        add_page(self.app, ahead=())


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """For tests that look: two accounts."""
    built = StudioService(tmp_path_factory.mktemp("studio"), ("ann", "ben"))
    with TestClient(built.app, base_url=ADDRESS) as client:
        built.portal = client.portal
        yield built


@pytest.fixture
def guest(studio):
    """A browser without account: it keeps cookies, and sends the header Origin as browsers do."""
    client = TestClient(studio.app, base_url=ADDRESS, headers={"Origin": ADDRESS}, follow_redirects=False)
    client.portal = studio.portal
    return client


@pytest.fixture
def ann(studio, guest):
    """A browser in which ann is logged in."""
    assert guest.post("/login", data={"token": studio.accounts.add_token("ann")}).status_code == 303
    return guest


def log_in(page, studio, name):
    """Logs in at the page that asks for a token."""
    page.get_by_label("Your token").fill(studio.accounts.add_token(name))
    page.keyboard.press("Enter")
    page.locator(".ct-head[data-account]").wait_for()


def drawn(studio, prompt, colours=("red",), owner=LOCAL, seconds=1.0):
    """A finished job with a picture of each colour, as a worker stores it."""
    job = studio.store.submit(owner, "imagine", {"prompt": prompt, "count": len(colours)})
    claim = studio.store.claim("tester")
    folder = studio.store.files.work(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for number, colour in enumerate(colours):
        path = folder / f"{number}.png"
        Image.new("RGB", (64, 96), colour).save(path)
        results.append(NewResult(path, path.name, "image/png", {"width": 64, "height": 96, "seed": number}))
    studio.store.finish(claim, results, seconds)
    return studio.store.get(job.id)


def open_more(page, kind):
    """Opens a form's closed groups. Gradio empties a field that it has just made: nobody types as soon as a script."""
    page.locator(f"#{kind}-more > button").click()
    page.locator(f"#{kind}-more").locator("input, textarea").first.wait_for()
    page.wait_for_timeout(500)


@contextlib.contextmanager
def serving(app, port=0):
    """The address of the application, served in a thread."""
    from calotype.api.server import address, bind

    listener = bind(ServiceSettings(port=port))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield address(listener)
    finally:
        app.state.service.stopping.set()
        server.should_exit = True
        thread.join(20)
        listener.close()


@contextlib.contextmanager
def working(studio, engine):
    """A worker over the store, in a thread, with the models that ship."""
    from calotype.worker.worker import Worker
    from calotype.worker.worker_options import WorkerOptions

    worker = Worker(studio.store, engine, WorkerOptions(poll=0.1), "tester")
    stopping = threading.Event()

    def run():
        while not stopping.is_set():
            if not worker.run_next():
                time.sleep(0.1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        stopping.set()
        thread.join(60)


@pytest.fixture(scope="module")  # while it runs, nothing else in this process can run an event loop
def chromium():
    """Debian's Chromium, or Playwright's own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    playwright.expect.set_options(timeout=30_000)  # of a busy machine
    with playwright.sync_playwright() as started:
        own = started.chromium.executable_path
        found = shutil.which("chromium") or (own if Path(own).exists() else "")
        if not found:
            pytest.skip("there is no Chromium")
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = started.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Opens a page in which no foreign address is reached; every request, error and refusal is noted."""
    contexts = []

    def opened(address, **more):
        context = chromium.new_context(locale=more.pop("locale", "en-GB"), **more)
        contexts.append(context)
        context.asked, context.foreign, context.faults = [], [], []

        def check(route):
            url = route.request.url
            context.asked.append((route.request.method, url.removeprefix(address)))
            if url.startswith((address, "data:", "blob:")):
                route.continue_()
            else:
                context.foreign.append(url)
                route.abort()

        context.route("**/*", check)
        page = context.new_page()
        page.on("pageerror", lambda fault: context.faults.append(str(fault)))
        page.on("console", lambda line: context.faults.append(line.text) if "Content Security" in line.text else None)
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
