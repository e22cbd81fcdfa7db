"""A worker of another computer runs the jobs of a service over HTTP."""

import contextlib
import hashlib
import os
import socket
import threading
import time
from dataclasses import replace

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")
pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("httpx", reason="the extra serve is not installed")

import httpx
import uvicorn

from calotype.api.app import create_app
from calotype.api.settings import ServiceSettings
from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.jobs.jobs import LeaseLost, NewResult
from calotype.tasks.events import Preview, Progress, Saved
from calotype.worker import remote_store
from calotype.worker.remote_store import RemoteStore, Unreachable
from calotype.worker.supervisor import Supervisor
from calotype.worker.worker import Worker
from calotype.worker.worker_options import ServerOptions
from tests.worker.test_worker import OPTIONS, check_unload, in_thread, photo, submit, wait_for

TOKEN = "t" * 40


class Server:
    """A service on a port of this computer, which can be stopped and started again."""

    def __init__(self, store, settings):
        self._app = lambda: create_app(store, settings, ServiceSettings(worker_token=TOKEN))
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        options = {"log_config": None, "timeout_graceful_shutdown": 1, "access_log": False}
        self._server = uvicorn.Server(uvicorn.Config(self._app(), port=self.port, **options))
        self._thread = in_thread(self._server.run)
        wait_for(lambda: self._server.started)

    def stop(self):
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture
def server(store, settings):
    running = Server(store, settings)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def remote(server, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_store, "RETRY_SECONDS", 0.05)
    opened = RemoteStore(server.url, TOKEN, tmp_path / "elsewhere")
    yield opened
    opened.close()


@pytest.fixture
def worker(remote, settings):
    return Worker(remote, Engine(settings), OPTIONS, "w")


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_job_gives_the_file_that_a_worker_of_the_service_gives(store, worker, settings, remote):
    job, twin = submit(store), submit(store)
    assert worker.run_next()
    assert Worker(store, worker.engine, OPTIONS, "here").run_next()
    job, twin = store.get(job.id), store.get(twin.id)
    assert (job.state, twin.state) == ("done", "done")
    contents = [store.files.result(ended.results[0].id).read_bytes() for ended in (job, twin)]
    assert contents[0] == contents[1]
    assert job.results[0].sha256 == hashlib.sha256(contents[0]).hexdigest() == twin.results[0].sha256
    assert (job.results[0].name, job.results[0].facts["width"]) == ("gran.png", 96)
    names = [[event.data["event"] for event in store.events(ended.id)] for ended in (job, twin)]
    assert names[0] == names[1] and job.cost > 0
    assert not remote.files.work(job.id).exists() and not store.files.work(job.id).exists()
    assert [status.name for status in store.workers()] == ["here", "w"]
    assert not worker.run_next()


def test_models_are_dropped_on_request(store, worker, monkeypatch):
    check_unload(store, worker, monkeypatch)


def test_a_job_that_fails_says_why(store, worker):
    job = submit(store, model="nonsense")
    worker.run_next()
    job = store.get(job.id)
    assert job.state == "failed" and "no model is named nonsense" in str(CalotypeError.from_data(job.error))


def test_the_worker_goes_on_when_the_service_restarts(store, server, worker, runs):
    gone, back = threading.Event(), threading.Event()

    def run(request, output):
        for step in range(4):
            yield Progress(step + 1, 4, "steps")
            yield Preview("x", b"jpeg")
            if step == 1:
                gone.wait(10)
        (output.out / "a.png").write_bytes(b"png")
        yield Saved("x", str(output.out / "a.png"), {"seed": 3})
        back.set()

    runs(run)
    job = submit(store)
    working = in_thread(worker.run_next)
    wait_for(lambda: len(store.events(job.id)) >= 6)
    server.stop()
    gone.set()
    assert back.wait(10)  # the job went on to its end meanwhile
    time.sleep(0.2)
    assert store.get(job.id).state == "running"
    server.start()
    working.join(10)
    job = store.get(job.id)
    assert (job.state, job.attempts, [result.facts["seed"] for result in job.results]) == ("done", 1, [3])
    steps = [event.data["done"] for event in store.events(job.id) if event.data["event"] == "progress"]
    assert steps == [1, 2, 3, 4]
    assert store.files.result(job.results[0].id).read_bytes() == b"png"


def test_an_upload_is_fetched_when_the_service_is_back(store, server, remote, tmp_path):
    job = submit(store)
    claim = remote.claim("w")
    assert claim.job == store.get(job.id)
    (upload,) = (ref.partition("/")[0] for ref in job.files.values())
    server.stop()
    fetching = in_thread(lambda: remote.files.upload(upload))
    time.sleep(0.2)
    assert fetching.is_alive() and not files_in(tmp_path / "elsewhere" / "uploads")
    server.start()
    fetching.join(10)
    assert remote.files.upload(upload).read_bytes() == photo()
    assert remote.park(claim, 1.0).state == store.get(job.id).state == "queued"


def test_a_large_result_is_sent_in_parts_and_again_after_a_fault(store, remote, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_store, "MAX_PART", 1000)
    content = bytes(range(256)) * 20
    (tmp_path / "a.bin").write_bytes(content)
    (tmp_path / "empty").write_bytes(b"")
    job, results = submit(store), []
    for name in ("a.bin", "empty"):
        results.append(NewResult(tmp_path / name, name, "application/octet-stream"))
    claim, send, sent = remote.claim("w"), httpx.Client.send, []

    def failing(self, request, **more):
        sent.append(request.url)
        if len(sent) == 3:
            raise httpx.ReadError("connection reset")
        return send(self, request, **more)

    monkeypatch.setattr(httpx.Client, "send", failing)
    with pytest.raises(Unreachable, match="connection reset"):
        remote.finish(claim, results, 1.0)
    assert store.get(job.id).state == "running"
    assert remote.finish(claim, results, 1.0).state == "done"
    stored = store.get(job.id).results
    assert [store.files.result(result.id).read_bytes() for result in stored] == [content, b""]
    with pytest.raises(LeaseLost):  # as when the first answer is lost on its way
        remote.finish(claim, results, 1.0)
    assert len(store.get(job.id).results) == 2 and store.spent("ann") == 1.0


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("offset, content, words", [
    (0, b"wrong", "damaged"), (3, b"right", "missing"), (0, b"right and more", "more than"),
])  # fmt: skip
def test_a_file_that_is_not_the_announced_one_is_refused(store, remote, server, offset, content, words):
    submit(store)
    claim, sha256 = remote.claim("w"), hashlib.sha256(b"right").hexdigest()
    headers = {"Authorization": f"Bearer {TOKEN}", "Calotype-Claim": claim.token}
    address = f"{server.url}/worker/jobs/{claim.job.id}/files/{sha256}?offset={offset}&size=5"
    answer = httpx.put(address, content=content, headers=headers)
    assert answer.status_code in (413, 422) and words in answer.json()["detail"]
    assert not store.files.received(claim.job.id, sha256).exists()


def test_the_owner_stops_a_job_within_a_step(store, worker, runs):
    def run(request, output):
        for step in range(1000):
            time.sleep(0.01)
            yield Progress(step, 1000, "steps")

    runs(run)
    job = submit(store)
    working = in_thread(worker.run_next)
    wait_for(lambda: store.get(job.id).progress)
    store.cancel(job.id)
    working.join(5)
    assert store.get(job.id).state == "cancelled"


def test_a_worker_that_has_lost_its_job_stores_nothing(store, remote, tmp_path):
    job = submit(store)
    claim = remote.claim("w")
    (tmp_path / "a.png").write_bytes(b"png")
    assert [taken.id for taken in remote.worker_ended("w")] == [job.id]
    assert remote.heartbeat(claim) == remote.requested(claim) == "lost"
    for call in (
        lambda: remote.add_event(claim, {"event": "progress"}),
        lambda: remote.add_preview(claim, b"jpeg"),
        lambda: remote.finish(claim, [NewResult(tmp_path / "a.png", "a.png", "image/png")], 1.0),
        lambda: remote.park(claim, 1.0),
        lambda: remote.fetch(job.files["source"].partition("/")[0], tmp_path / "b"),
    ):
        with pytest.raises(LeaseLost):
            call()
        remote._unsent.clear()
    assert store.get(job.id).state == "queued" and files_in(store.folder / "results") == []


@pytest.mark.parametrize("url, token, words", [
    ("{}", "x" * 40, "the token of workers is not that of this service"),
    ("http://127.0.0.1:9", TOKEN, "the service at http://127.0.0.1:9 cannot be reached"),
    ("studio", TOKEN, "is an address such as https://studio.example.org"),
    ("{}", "", "is missing"),
    ("{}", "with\nline", "is missing"),
])  # fmt: skip
def test_a_wrong_token_or_address_is_one_sentence(server, settings, tmp_path, url, token, words):
    options = ServerOptions(server=url.format(server.url), worker_token=token)
    with pytest.raises(CalotypeError, match=words):
        Supervisor(replace(settings, home=tmp_path), OPTIONS, options).run()


def test_events_keep_the_worker_running_whatever_is_in_them(store, remote):
    submit(store)
    claim = remote.claim("w")
    remote.add_event(claim, {"event": "progress", "done": 1, "total": 2, "loss": float("nan")})
    remote.add_event(claim, {"event": "progress", "done": 2, "total": 2, "text": "x" * (2 << 20)})  # refused, perhaps
    remote.add_event(claim, {"event": "progress", "done": 2, "total": 2})
    events = [stored.data for stored in store.events(claim.job.id) if stored.data["event"] == "progress"]
    assert events[0]["loss"] is None and events[-1] == {"event": "progress", "done": 2, "total": 2}


def test_a_service_of_another_version_is_said(server, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_store, "__version__", "0.0.1")
    with pytest.raises(CalotypeError, match=r"and this worker 0\.0\.1; install the same version"):
        Supervisor(
            replace(settings, home=tmp_path), OPTIONS, ServerOptions(server=server.url, worker_token=TOKEN)
        ).run()


def test_a_missing_upload_fails_the_job_with_a_sentence(store, remote, tmp_path):
    submit(store)
    claim = remote.claim("w")
    upload = claim.job.files["source"].partition("/")[0]
    store.files.upload(upload).unlink()
    with pytest.raises(CalotypeError, match="not there any more"):
        remote.files.upload(upload)


def test_files_of_a_job_are_kept_after_the_last_of_them_was_written(remote):
    work = remote.files.work("0" * 32)
    (work / "state").mkdir(parents=True)
    (work / "state" / "weights").write_bytes(b"x")
    os.utime(work, (0, 0))
    assert remote.delete_orphans() == 0
    for path in (work / "state" / "weights", work / "state", work):
        os.utime(path, (0, 0))
    assert remote.delete_orphans() == 1 and not work.exists()


def test_copies_of_uploads_are_deleted_after_their_last_use(store, remote):
    submit(store)
    claim = remote.claim("w")
    path = remote.files.upload(claim.job.files["source"].partition("/")[0])
    assert remote.delete_orphans() == 0 and path.read_bytes() == photo()
    os.utime(path, (0, 0))
    assert remote.delete_orphans() == 1 and not path.exists()


def test_samples_of_a_training_reach_the_service(store, worker, runs):
    def run(request, output):
        for step in (0, 10, 20):
            yield Preview("photos", b"sheet %d" % step, step=step)
        (output.out / "lora.safetensors").write_bytes(b"weights")
        yield Saved("photos", str(output.out / "lora.safetensors"), {})

    runs(run)
    job = submit(store)
    assert worker.run_next()
    assert store.files.samples(job.id) == [0, 10, 20]
    assert store.files.sample(job.id, 10).read_bytes() == b"sheet 10"


def test_a_service_that_does_not_know_unload_is_served(store, remote, monkeypatch):
    job, send = submit(store), remote._send

    def older(*what, **body):
        answer = send(*what, **body).json()
        del answer["unload"]
        return httpx.Response(200, json=answer)

    monkeypatch.setattr(remote, "_send", older)
    assert remote.report("w", "cpu", ()) is False
    claim = remote.claim("w")
    assert (claim.job.id, claim.unload) == (job.id, False)
