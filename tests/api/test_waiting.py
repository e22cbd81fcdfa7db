"""Requests that wait for jobs: how many connections one account may hold."""

import base64
import contextlib
import threading
import time
from dataclasses import replace

import httpx
import pytest
from sqlalchemy import delete

from calotype.api import events
from calotype.api.errors import Refusal
from calotype.api.waiting import as_base64
from calotype.jobs.schema import JOBS
from tests.api.conftest import listening, png, submit, work

PICTURE = base64.b64encode(png()).decode()
ACCEPT = {"Accept": "application/json, text/event-stream"}
CALL = {"name": "text_to_image", "arguments": {"prompt": "fox", "wait": 20}}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": CALL}
DRAWN = {"prompt": "fox", "size": "64x64"}
FILE = {"image": ("a.png", png())}
DOORS = {
    "txt2img": ("/sdapi/v1/txt2img", {"json": {"prompt": "fox"}}),
    "img2img": ("/sdapi/v1/img2img", {"json": {"prompt": "fox", "init_images": [PICTURE]}}),
    "extras": ("/sdapi/v1/extra-single-image", {"json": {"image": PICTURE, "upscaler_1": "Lanczos"}}),
    "extras batch": ("/sdapi/v1/extra-batch-images", {"json": {"imageList": [{"data": PICTURE, "name": "a"}]}}),
    "generations": ("/v1/images/generations", {"json": DRAWN}),
    "generations in parts": ("/v1/images/generations", {"json": {**DRAWN, "stream": True}}),
    "edits": ("/v1/images/edits", {"data": DRAWN, "files": FILE}),
    "variations": ("/v1/images/variations", {"files": FILE}),
    "mcp": ("/mcp", {"json": CALL, "headers": ACCEPT}),
    "events": ("", {}),
}


@contextlib.contextmanager
def waiting(client, store, ask):
    """A request that waits in a thread, for as long as the block lasts; then its job is done."""
    answers, open_requests = [], client.app.state.service.waiting
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    try:
        until = time.monotonic() + 5
        while not (open_requests.count and store.find()) and time.monotonic() < until:
            time.sleep(0.01)
        yield answers
    finally:
        while store.find(states=("queued",)):
            work(store)
        thread.join()


@pytest.mark.parametrize("door", ["txt2img", "generations", "generations in parts", "mcp", "events"])
def test_a_job_that_is_deleted_meanwhile_ends_the_wait_with_a_word(client_for, store, monkeypatch, door):
    monkeypatch.setattr(events, "POLL", 0.02)
    ann, (address, body) = client_for("ann"), DOORS[door]
    ask = (lambda: ann.post(address, **body)) if address else (lambda: ann.get(f"/jobs/{submit(ann)}/events"))
    with waiting(ann, store, ask) as answers:
        time.sleep(0.1)
        [job] = store.find()
        with store.database.writing() as db:  # without an end that is noticed before
            db.execute(delete(JOBS).where(JOBS.c.id == job.id))
    assert "there is no such job" in answers[0].text
    assert answers[0].status_code == (404 if door in ("txt2img", "generations") else 200)


def test_an_account_sends_a_number_of_uploads_at_a_time(client_for, app):
    uploads, going_on, answers = app.state.service.uploads, threading.Event(), []
    uploads.limit = 2
    ann, bob = (client_for(name).headers["Authorization"] for name in ("ann", "bob"))

    def slow_parts():
        yield b"a"
        going_on.wait(10)
        yield b"b"

    with listening(app) as address:

        def send(token, content):
            return httpx.post(f"{address}/uploads", content=content, headers={"Authorization": token})

        threads = [threading.Thread(target=lambda: answers.append(send(ann, slow_parts()))) for _ in range(2)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 5
        while uploads.count < 2 and time.monotonic() < until:
            time.sleep(0.01)
        refused, other = send(ann, b"c"), send(bob, b"c")
        going_on.set()
        for thread in threads:
            thread.join()
    assert (refused.status_code, refused.json()["error"]) == (429, "too_many_requests")
    assert "2 uploads of this account arrive already" in refused.json()["detail"]
    assert [answer.status_code for answer in (*answers, other)] == [201] * 3 and uploads.count == 0


def test_an_answer_has_a_limit(client, store):
    job = submit(client)
    work(store)
    [result] = store.get(job).results
    service = client.app.state.service
    assert [base64.b64decode(content) for content in as_base64(service, [result])] == [png()]
    with pytest.raises(Refusal, match="more than the 268,435,456 of an answer; fetch each by its id") as fault:
        as_base64(service, [replace(result, size=1 << 27)] * 3)
    assert fault.value.status == 413


def test_a_file_that_was_deleted_is_not_found(client, store):
    job = submit(client)
    work(store)
    [result] = store.get(job).results
    store.files.result(result.id).unlink()
    body = {"job": job, "result": result.id}
    arguments = {"name": "upscale", "arguments": {"image": result.id}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": arguments}
    for answer in (
        client.get(f"/jobs/{job}/results/{result.id}"),
        client.post("/links", json=body),
        client.post("/mcp", json=call, headers=ACCEPT),
    ):
        assert "the file is not there any more" in answer.text and answer.status_code in (200, 404)


@pytest.mark.many(plain=3)
@pytest.mark.parametrize("door", DOORS)
def test_an_account_has_a_number_of_connections_that_wait(client_for, app, store, monkeypatch, door):
    app.state.service.waiting.limit = 1
    monkeypatch.setattr(events, "POLL", 0.02)
    ann, bob = client_for("ann"), client_for("bob")

    def ask(client=ann):
        address, body = DOORS[door]
        if address:
            return client.post(address, **body)
        job = store.find(app.state.service.accounts.list()[0].id)[0].id if store.find() else submit(client)
        return client.get(f"/jobs/{job}/events")

    with waiting(ann, store, ask) as answers:
        refused = ask()
        assert refused.status_code == 429, refused.text
        assert "1 connections of this account wait for jobs" in refused.text
        assert int(refused.headers["Retry-After"]) > 0
        assert len(store.find()) == 1, "what is refused leaves no job"
        assert bob.get("/me").status_code == ann.get("/me").status_code == 200
        assert app.state.service.waiting.count == 1
    assert [answer.status_code for answer in answers] == [200], answers[0].text
    assert app.state.service.waiting.count == 0
