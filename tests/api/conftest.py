"""A service over a job store in a temporary folder, and what a worker would do."""

import contextlib
import io
import shutil
import threading
import time

import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")

import uvicorn
from fastapi.testclient import TestClient

from calotype.api.app import create_app
from calotype.api.server import address, bind
from calotype.api.service import Service
from calotype.api.settings import ServiceSettings
from calotype.errors import CalotypeError
from calotype.jobs.jobs import NewResult
from calotype.jobs.store import JobStore
from calotype.jobs.users import Accounts
from calotype.settings import Settings
from calotype.worker.worker_options import WorkerOptions

ADDRESS = "http://127.0.0.1:7860"


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock, empty_database):
    (tmp_path / "service").mkdir()
    shutil.copy(empty_database, tmp_path / "service")
    store = JobStore("", tmp_path / "service", clock)
    yield store
    store.close()


@pytest.fixture
def home(tmp_path):
    return Settings.gather({"home": tmp_path / "home", "offline": True}, environ={})


@pytest.fixture(scope="session")
def shared_app(tmp_path_factory):
    """FastAPI takes 0.2 s to prepare its routes, once. All clients use one event loop."""
    app = create_app(JobStore("", tmp_path_factory.mktemp("service")), Settings.gather({}, environ={}))
    with TestClient(app, base_url=ADDRESS) as client:
        app.state.portal = client.portal
        yield app


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """Migrations run once."""
    folder = tmp_path_factory.mktemp("empty")
    JobStore("", folder).close()
    return folder / "jobs.sqlite3"


@pytest.fixture
def client(shared_app, store, home):
    """Of the only user of a service on this computer."""
    shared_app.state.service = Service(store, home, ServiceSettings())
    return client_of(shared_app)


@pytest.fixture
def accounts(store, clock):
    return Accounts(store.database, clock)


@pytest.fixture
def app(shared_app, store, home, accounts):
    """A service with accounts."""
    shared_app.state.service = Service(store, home, ServiceSettings(host="0.0.0.0"), accounts)
    return shared_app


@pytest.fixture
def client_for(app, accounts):
    """A client with a new account of this name."""

    def made(name, **more):
        accounts.add(name, **more)
        return client_of(app, accounts.add_token(name))

    return made


def client_of(app, token=""):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    client = TestClient(app, base_url=ADDRESS, headers=headers, raise_server_exceptions=False)
    client.portal = getattr(app.state, "portal", None)
    return client


def png(width=8, height=6, **more):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 40)).save(file, "PNG", **more)
    return file.getvalue()


def upload(client, content=None):
    answer = client.post("/uploads", content=content or png())
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def submit(client, kind="imagine", task=None, **more):
    answer = client.post("/jobs", json={"kind": kind, "task": {"prompt": "fox"} if task is None else task, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def work(store, content=None, name="picture.png", media_type="image/png", fault=None, seconds=1.0, has_preview=False):
    """Runs the next job as a worker would: one event, then a file as the result, or a fault."""
    claim = store.claim("tester")
    store.add_event(claim, {"event": "progress", "done": 1, "total": 2, "what": "steps", "remaining": None})
    if has_preview:
        store.add_preview(claim, b"\xff\xd8\xff")
        return claim.job.id
    if fault:
        store.fail(claim, CalotypeError(fault), seconds)
        return claim.job.id
    folder = store.files.work(claim.job.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content or png())
    store.finish(claim, [NewResult(folder / name, name, media_type)], seconds)
    return claim.job.id


@contextlib.contextmanager
def listening(app):
    """The address of the application on a free port of this computer."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    server, listener = uvicorn.Server(config), bind(ServiceSettings(port=0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield address(listener)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextlib.contextmanager
def drawing(store, settings, **options):
    """A real worker, in a thread."""
    from calotype.engine import Engine
    from calotype.worker.worker import Worker

    options = WorkerOptions(min_free=0, poll=0.05, progress_every=0, **options)
    with Worker(store, Engine(settings), options, "w").in_thread():
        yield


@contextlib.contextmanager
def working(store, content):
    """A thread that finishes jobs as a worker would; `count` pictures each, with rising seeds."""
    stopping = threading.Event()

    def run():
        while not stopping.wait(0.02):
            if claim := store.claim("tester"):
                finish(claim)

    def finish(claim):
        try:
            folder = store.files.work(claim.job.id)
            folder.mkdir(parents=True)
            results = []
            for n in range(claim.job.task.get("count", 1)):
                (folder / f"{n}.png").write_bytes(content + bytes(n))
                seed = claim.job.task.get("seed", -1) + n
                results.append(NewResult(folder / f"{n}.png", f"{n}.png", "image/png", {"seed": seed}))
            store.finish(claim, results, 1.0)
        except Exception as fault:  # else the client would wait without an end
            store.fail(claim, CalotypeError(f"the test's worker: {fault!r}"), 0.0)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
