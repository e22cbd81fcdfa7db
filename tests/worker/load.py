"""Processes for `test_kill.py`: one that submits jobs, as a server does, and a worker whose runner needs no torch."""

import contextlib
import hashlib
import io
import json
import os
import random
import sys
import time
from pathlib import Path

import httpx

from calotype.cli import main
from calotype.jobs.jobs import Conflict
from calotype.jobs.store import JobStore
from calotype.settings import Settings
from calotype.tasks.events import Preview, Progress, Saved
from calotype.worker import attempt, supervisor
from calotype.worker.worker_options import WorkerOptions

OPTIONS = ["--lease", "2", "--poll", "0.05", "--attempts", "1000", "--min-free", "0", "--progress-every", "0"]
BLOCKS = 6  # of a result of the runner below


def content_of(seed):
    return hashlib.sha256(str(seed).encode()).digest() * 2000


def run(request, engine, output, **_):
    """Writes what the task says, block by block, in some 0.3 s."""
    path, content = Path(output.out) / "result.png", content_of(request.task.seed)
    with path.open("wb") as file:
        for block in range(BLOCKS):
            size = len(content) // BLOCKS
            file.write(content[block * size : (block + 1) * size if block < BLOCKS - 1 else None])
            file.flush()
            time.sleep(0.05)
            yield Progress(block + 1, BLOCKS, "steps")
            yield Preview("x", b"jpeg")
    yield Saved("x", str(path), {"seed": request.task.seed})


def serve():
    attempt.run = run
    return supervisor.serve()


def supervise(folder, url, is_light):
    """A worker, until it is killed."""
    if is_light:
        use_light_runner()
    options = {"store": url, "lease": 2.0, "poll": 0.05, "attempts": 1000, "min_free": 0.0, "progress_every": 0.0}
    settings = Settings.gather({"home": Path(folder), "device": "cpu", "offline": True, "threads": 1}, environ={})
    supervisor.configure_log()
    supervisor.Supervisor(settings, WorkerOptions(**options)).run()


def serve_http(folder, port, is_alone):
    """`calotype serve`, whose worker has the runner above; without a worker where those of other computers work."""
    use_light_runner()
    lone = ["--no-worker"] if is_alone else []
    flags = ["--home", folder, "--port", port, "--device", "cpu", "--threads", "1", "--offline", "--quiet"]
    sys.exit(main(["serve", *flags, *OPTIONS, *lone]))


def work_remotely(folder, port):
    """`calotype worker --server`, as on another computer: with a home folder of its own."""
    use_light_runner()
    flags = ["--home", str(Path(folder) / "elsewhere"), "--device", "cpu", "--threads", "1", "--offline"]
    sys.exit(main(["worker", "--server", f"http://127.0.0.1:{port}", *flags, *OPTIONS]))


def use_light_runner():
    supervisor.START = supervisor.START.replace(
        "from calotype.worker import supervisor; sys.exit(supervisor.serve())",
        "from tests.worker.load import serve; sys.exit(serve())",
    )
    assert "tests.worker.load" in supervisor.START


def post(folder, port, requests):
    """As `submit`, over HTTP: sends a request again until it is answered."""
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5.0)
    ids, stop = Path(folder) / "ids", Path(folder) / "stop"
    ids.touch()
    requests = json.loads(Path(requests).read_text())
    number = len(ids.read_text().splitlines())

    def answered(method, address, **body):
        while True:
            with contextlib.suppress(httpx.HTTPError, ValueError):
                response = client.request(method, address, **body)
                if response.is_success:
                    return response.json()
                assert response.status_code in (429, 503), response.text
            time.sleep(0.1)

    while number < len(requests) or not stop.exists():
        if number >= len(requests) and len(answered("GET", "/queue")) > 8:
            time.sleep(0.1)
            continue
        kind, task, _ = requests[number % len(requests)]
        body, key = {"kind": kind, "task": task}, {"Idempotency-Key": f"k{number}"}
        job = answered("POST", "/jobs", json=body, headers=key)
        with ids.open("a") as file:
            file.write(f"{job['id']}\n")
        number += 1
        time.sleep(random.random() * 0.1)


def submit(folder, url, requests):
    """Sends the requests over and over, each with its uploads and its key, and notes the ids of the jobs on the disk,
    until a file says stop. After a kill it goes on with the first that has no id yet, which may be queued already."""
    store, rng = JobStore(url, Path(folder) / "service"), random.Random(os.getpid())
    ids, stop = Path(folder) / "ids", Path(folder) / "stop"
    ids.touch()
    requests = json.loads(Path(requests).read_text())
    number = len(ids.read_text().splitlines())
    while number < len(requests) or not stop.exists():
        if store.counts().get("queued", 0) > 8 and number >= len(requests):
            time.sleep(0.1)
            continue
        kind, task, photos = requests[number % len(requests)]
        uploads = [store.upload("ann", io.BytesIO(bytes.fromhex(photo))).id + "/p.png" for photo in photos]
        option = "source" if kind == "upscale" else "photos"
        files = {option: uploads if option == "photos" else uploads[0]} if uploads else {}
        job = store.submit("ann" if uploads else f"user{number % 3}", kind, task, files=files, key=f"k{number}")
        with ids.open("a") as file:
            file.write(f"{job.id}\n")
            file.flush()
            os.fsync(file.fileno())
        number += 1
        if rng.random() < 0.2:  # taken out, and put back
            with contextlib.suppress(Conflict):
                store.pause(job.id)
                store.resume(job.id)
        time.sleep(rng.random() * 0.1)
    for job in store.find(states=["paused"], limit=1000):  # the kill came between the two
        store.resume(job.id)


ROLES = {
    "submit": submit,
    "post": post,
    "serve": lambda folder, port: serve_http(folder, port, False),
    "serve alone": lambda folder, port: serve_http(folder, port, True),
    "remote": work_remotely,
}

if __name__ == "__main__":
    role, *args = sys.argv[1:]
    if role in ROLES:
        ROLES[role](*args)
    else:
        supervise(args[0], args[1], role == "light")
