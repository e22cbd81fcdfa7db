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

from calotype.jobs.jobs import Conflict
from calotype.jobs.store import JobStore
from calotype.settings import Settings
from calotype.tasks.events import Preview, Progress, Saved
from calotype.worker import attempt, supervisor
from calotype.worker.worker_options import WorkerOptions

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
        supervisor.START = supervisor.START.replace(
            "from calotype.worker import supervisor; sys.exit(supervisor.serve())",
            "from tests.worker.load import serve; sys.exit(serve())",
        )
        assert "tests.worker.load" in supervisor.START
    options = {"store": url, "lease": 2.0, "poll": 0.05, "attempts": 1000, "min_free": 0.0, "progress_every": 0.0}
    settings = Settings.gather({"home": Path(folder), "device": "cpu", "offline": True, "threads": 1}, environ={})
    supervisor.configure_log()
    supervisor.Supervisor(settings, WorkerOptions(**options)).run()


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


if __name__ == "__main__":
    role, *args = sys.argv[1:]
    submit(*args) if role == "submit" else supervise(args[0], args[1], role == "light")
