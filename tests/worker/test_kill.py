"""kill -9 at random moments: no job is lost, none is finished twice, no file is half, and the queue goes on."""

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from PIL import Image
from sqlalchemy import Text, cast, or_, select

from calotype.jobs.claims import PREVIEWED
from calotype.jobs.schema import EVENTS
from calotype.jobs.store import JobStore
from calotype.settings import Settings
from calotype.worker import supervisor
from calotype.worker.worker_options import WorkerOptions
from tests.worker import load

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")
LIGHT = 8  # requests, sent over and over
START_SECONDS = 30.0  # that a worker may take until it runs a job
TARGETS = ("process", "process", "worker", "worker and process", "server", "all")


class Machine:
    """A process that submits jobs, and a worker with its own process, each started again when it is killed."""

    def __init__(self, folder, url, requests, is_light):
        self.folder, self.url, self.role = folder, url, "light" if is_light else "real"
        self.requests = folder / "requests.json"
        self.requests.write_text(json.dumps(requests))
        self.worker = self.server = None
        self.is_sent, self.targets = False, TARGETS

    def start(self):
        if self.worker is None or self.worker.poll() is not None:
            self.worker = self.spawn(self.role)
        if not self.is_sent and (self.server is None or self.server.poll() is not None):
            self.is_sent = self.server is not None and self.server.returncode == 0
            self.server = None if self.is_sent else self.spawn("submit", str(self.requests))

    def spawn(self, role, *args):
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "tests.worker.load", role, str(self.folder), self.url, *args]
            return subprocess.Popen(command, stderr=log, stdout=log)

    def kill(self, target):
        children = psutil.Process(self.worker.pid).children() if self.worker.poll() is None else []
        victims = [child.pid for child in children] if target in ("process", "worker and process", "all") else []
        started = [self.worker] if target in ("worker", "worker and process", "all") else []
        started += [self.server] if self.server and target in ("server", "all") else []
        victims += [process.pid for process in started if process.poll() is None]
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in (self.worker, self.server):
            if process and process.pid in victims:
                process.wait()
        return bool(victims)

    def stop(self):
        for process in (self.worker, self.server):
            if process and process.poll() is None:
                process.terminate()
                process.wait(60)


class ServiceMachine(Machine):
    """`calotype serve` with its worker, or with one that works over HTTP, and a program that sends requests."""

    def __init__(self, folder, requests, is_remote):
        super().__init__(folder, "", requests, True)
        self.is_remote, self.service = is_remote, None
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = str(free.getsockname()[1])
        self.targets = ("service", "process", "all") + (("worker", "service", "both") if is_remote else ())

    def start(self):
        if not is_running(self.service):
            self.service = self.spawn("serve alone" if self.is_remote else "serve")
        if self.is_remote and not is_running(self.worker):
            self._wait_for_service()  # without it a worker ends with a sentence
            self.worker = self.spawn("remote")
        if not self.is_sent and not is_running(self.server):
            self.is_sent = self.server is not None
            assert not self.is_sent or self.server.returncode == 0, (self.folder / "log").read_text()[-3000:]
            self.server = None if self.is_sent else self.spawn("post", str(self.requests))

    def _wait_for_service(self):
        end = time.monotonic() + START_SECONDS
        while is_running(self.service) and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(self.port)), 1.0):
                return
            time.sleep(0.05)

    def spawn(self, role, *args):
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "tests.worker.load", role, str(self.folder), self.port, *args]
            environment = {**os.environ, "CALOTYPE_WORKER_TOKEN": "t" * 40}
            return subprocess.Popen(command, stderr=log, stdout=log, env=environment)

    def kill(self, target):
        owner = self.worker if self.is_remote else self.service  # of the process that runs jobs
        process = psutil.Process(owner.pid).children() if is_running(owner) else []
        chosen = {"service": [self.service], "worker": [self.worker], "both": [self.service, self.worker]}
        killed = chosen | {"process": process, "all": [self.service, self.worker, *process]}
        victims = [victim for victim in killed[target] if isinstance(victim, psutil.Process) or is_running(victim)]
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                victim.kill()
        for victim in victims:
            victim.wait()
        return bool(victims)

    def stop(self):
        for process in (self.server, self.worker, self.service):
            if is_running(process):
                process.terminate()
                process.wait(60)


def is_running(process):
    return process is not None and process.poll() is None


def kill_at_random(folder, url, requests, kills, pause, is_light=True, seconds=600.0):
    """As `kill_machine`, of processes at one database."""
    return kill_machine(Machine(folder, url, requests, is_light), requests, kills, pause, seconds)


def kill_machine(machine, requests, kills, pause, seconds):
    """Kills that many times while the requests are worked on, then waits for the last job. Returns the jobs by number,
    and how many kills hit a job at work."""
    rng, killed, folder, url = random.Random(1), [], machine.folder, machine.url
    end = time.monotonic() + seconds
    store = JobStore(url, folder / "service")
    try:
        while len(killed) < kills:
            assert time.monotonic() < end, killed
            machine.start()
            since, moment, latest = time.time(), rng.uniform(*pause), time.monotonic() + START_SECONDS
            if rng.random() < 0.75:  # after its start, while it works; else while it starts
                while not works_since(store, since) and time.monotonic() < latest:
                    time.sleep(0.02)
            time.sleep(moment)
            works, target = works_since(store, time.time() - 1), rng.choice(machine.targets)
            if machine.kill(target):
                killed.append((target, works))
        (folder / "stop").touch()
        while not (machine.is_sent and set(store.counts()) <= {"done", "failed"}):
            assert time.monotonic() < end, (store.counts(), (folder / "log").read_text()[-3000:])
            machine.start()
            time.sleep(0.1)
    finally:
        machine.stop()
    ids = (folder / "ids").read_text().split()
    jobs = [store.get(job_id) for job_id in ids]
    assert len(requests) <= len(set(ids)) == len(ids) == sum(store.counts().values())  # none lost, none sent twice
    assert [job.error for job in jobs if job.state != "done"] == []
    for job in jobs:
        states = [event.data["state"] for event in store.events(job.id, limit=10**6) if event.data["event"] == "state"]
        assert states.count("done") == 1 and states[-1] == "done"  # none finished twice
        for result in job.results:
            content = store.files.result(result.id).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (result.size, result.sha256)
    for path in (folder / "service" / "uploads").glob("*/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    check_files(store, jobs)
    store.close()
    return jobs, sum(works for _, works in killed)


def works_since(store, since):
    """Whether a job has made progress since then."""
    text = cast(EVENTS.c.data, Text)
    progress = or_(text.like('{"event": "progress"%'), text.like('{"event": "learning"%'))
    with store.database.reading() as db:
        return db.execute(select(EVENTS.c.number).where(EVENTS.c.created > since, progress)).first() is not None


def check_files(store, jobs):
    """What killed processes have left is deleted once it is old, and nothing else is."""
    folder = store.folder
    for path in folder.rglob("*"):
        os.utime(path, (0, 0))
    store.delete_orphans()
    kept = {path.name for path in (folder / "results").glob("*/*")}
    assert kept == {result.id for job in jobs for result in job.results}
    assert not [*folder.glob("work/*/*"), *folder.glob("incoming/*")]
    kept = {job.id for job in jobs if job.kind in PREVIEWED}
    assert {path.name for path in folder.glob("previews/*/*")} <= kept
    if store.database.is_sqlite:
        with store.database.reading() as db:
            assert db.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def light_requests():
    return [("imagine", {"prompt": "a", "seed": n}, []) for n in range(LIGHT)]


def check_light(jobs, store_folder):
    for number, job in enumerate(jobs):
        (result,) = job.results
        number %= LIGHT
        path = store_folder / "results" / result.id[:2] / result.id
        assert path.read_bytes() == load.content_of(number) and result.facts["seed"] == number


@pytest.mark.slow
def test_a_kill_loses_nothing(tmp_path):
    jobs, _ = kill_at_random(tmp_path, "", light_requests(), kills=1, pause=(0.1, 0.3), seconds=60)
    check_light(jobs, tmp_path / "service")


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_fifty_kills_lose_nothing(tmp_path, request, database):
    url = request.getfixturevalue("empty_postgres")() if database == "postgres" else ""
    jobs, hits = kill_at_random(tmp_path, url, light_requests(), kills=50, pause=(0.0, 1.0), seconds=900)
    check_light(jobs, tmp_path / "service")
    print(
        f"{database}: 50 kills, {hits} during a job; {sum(job.attempts for job in jobs)} attempts at {len(jobs)} jobs"
    )
    assert hits >= 20 and sum(job.attempts for job in jobs) > len(jobs)


@pytest.mark.slow
@pytest.mark.parametrize("is_remote", [False, True], ids=["its own worker", "a worker over HTTP"])
def test_kills_of_the_service_lose_nothing(tmp_path, is_remote):
    requests = light_requests()
    jobs, hits = kill_machine(ServiceMachine(tmp_path, requests, is_remote), requests, 10, (0.0, 1.0), 300.0)
    check_light(jobs, tmp_path / "service")
    print(f"service: 10 kills, {hits} during a job; {sum(job.attempts for job in jobs)} attempts at {len(jobs)} jobs")
    assert hits >= 3


@pytest.mark.slow
@pytest.mark.parametrize("is_remote", [False, True], ids=["its own worker", "a worker over HTTP"])
def test_a_service_that_is_told_to_stop_loses_nothing(tmp_path, is_remote):
    """SIGTERM while a job runs, three times: it ends by itself, the job goes back to its place and is no attempt."""
    requests = light_requests()
    machine, store = ServiceMachine(tmp_path, requests, is_remote), JobStore("", tmp_path / "service")
    end = time.monotonic() + 120
    try:
        for _ in range(3):
            machine.start()
            since = time.time()
            while not works_since(store, since):
                assert time.monotonic() < end, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.02)
            for process in (machine.worker, machine.service) if is_remote else (machine.service,):
                started = time.monotonic()
                process.terminate()
                assert process.wait(30) == 0, (tmp_path / "log").read_text()[-3000:]
                assert time.monotonic() - started < 15
            assert "running" not in store.counts()
        (tmp_path / "stop").touch()
        while not (machine.is_sent and set(store.counts()) == {"done"}):
            assert time.monotonic() < end, (store.counts(), (tmp_path / "log").read_text()[-3000:])
            machine.start()
            time.sleep(0.1)
    finally:
        machine.stop()
    assert "Traceback" not in (tmp_path / "log").read_text()
    jobs = [store.get(job_id) for job_id in (tmp_path / "ids").read_text().split()]
    assert len({job.id for job in jobs}) == len(jobs) >= len(requests)
    assert {(job.state, job.attempts, len(job.results)) for job in jobs} == {("done", 1, 1)}
    check_light(jobs, tmp_path / "service")
    store.close()


@pytest.mark.slow
def test_kills_of_real_work_change_no_byte(tmp_path):
    """Pictures are enlarged and generated, and a network is trained, which goes on from its saved state."""
    photos = [photo(n).hex() for n in range(8)]
    training = {"resolution": 32, "capacity": 0.125, "max_train_steps": 60, "train_batch_size": 2, "snapshots": 2}
    requests = [("upscale", {"model": "realesr-animevideov3"}, [photos[n]]) for n in range(5)]
    requests += [("imagine", {"prompt": "a cat", "steps": 6, "seed": n}, []) for n in range(2)]
    requests.insert(3, ("train_gan", {**training, "save_state_every": 1}, photos))
    (tmp_path / "killed").mkdir()
    (tmp_path / "whole").mkdir()
    killed, hits = kill_at_random(tmp_path / "killed", "", requests, 12, (0.0, 4.0), is_light=False, seconds=2400)
    whole, _ = kill_at_random(tmp_path / "whole", "", requests, 0, (0, 0), is_light=False, seconds=900)
    for number, job in enumerate(killed):
        assert bytes_of(job) == bytes_of(whole[number % len(requests)])
    attempts = sum(job.attempts for job in killed)
    print(f"real work: 12 kills, {hits} during a job; {attempts} attempts at {len(killed)} jobs")


def bytes_of(job):
    """Hashes of results, but for the report and the film, which name times."""
    return [(r.name, r.sha256) for r in job.results if not r.name.endswith((".html", ".gif", ".mp4"))]


def photo(seed):
    file = io.BytesIO()
    Image.radial_gradient("L").rotate(20 * seed).resize((40, 36)).convert("RGB").save(file, "PNG")
    return file.getvalue()


def test_a_job_that_crashes_its_process_fails_alone(tmp_path, monkeypatch):
    """A segmentation fault, twice; the jobs after it are done."""
    start = supervisor.START.replace("from calotype.worker import supervisor;", CRASHING)
    monkeypatch.setattr(supervisor, "START", start.replace("supervisor.serve()", "load.serve()"))
    monkeypatch.setattr(supervisor, "MAX_DELAY", 0.0)
    store = JobStore("", tmp_path / "service")
    bad, good = (store.submit("ann", "imagine", {"prompt": "a", "seed": seed}) for seed in (666, 1))
    settings = Settings.gather({"home": tmp_path, "device": "cpu"}, environ={})
    watched = supervisor.Supervisor(settings, WorkerOptions(poll=0.05, min_free=0.0, attempts=2))
    thread = threading.Thread(target=watched.run, daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while set(store.counts()) & {"queued", "running"}:
        assert time.monotonic() < end
        time.sleep(0.05)
    watched.stop()
    thread.join(20)
    assert not thread.is_alive() and store.get(good.id).state == "done"
    assert (store.get(bad.id).state, store.get(bad.id).attempts) == ("failed", 2)
    assert "ended {attempts} times" in str(store.get(bad.id).error)


CRASHING = """import os; from tests.worker import load
run = load.run
def crash(request, *args, **more):
    assert os.nice(0) >= load.supervisor.NICENESS  # requests go first
    if request.task.seed == 666:
        os.kill(os.getpid(), 11)
    return run(request, *args, **more)
load.run = crash;"""
