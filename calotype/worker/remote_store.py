"""The queue of a service on another computer, as a worker uses it: the methods of `JobStore` over HTTP.

Uploads are fetched when a job begins, and results are sent whole and checked by their sha256 before the job ends. What
happens to a job while the service cannot be reached is kept and sent later: the job goes on meanwhile.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from calotype import __version__
from calotype.errors import CalotypeError, Message
from calotype.files import atomic_file, file_sha256
from calotype.jobs.database import StoreFull
from calotype.jobs.files import MAX_PART, FileStore
from calotype.jobs.jobs import (
    CANCELLED,
    DONE,
    FAILED,
    LEASE,
    Claim,
    Job,
    LeaseLost,
    NewResult,
    NotFound,
    Unreachable,
    upload_ids,
)
from calotype.jobs.schema import finite

LOG = logging.getLogger("calotype.worker")
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
MAX_UNSENT = 2000  # events kept while the service cannot be reached
RETRY_SECONDS, PATIENCE = 1.0, 600.0  # to fetch an upload
KEEP_UPLOADS, KEEP_WORK = 3600.0, 7 * 86400.0  # seconds after their last use


class RemoteStore:
    """The methods of `JobStore` that a worker uses. Safe to use from several threads.

    Args:
        server: the address of the service.
        token: of its workers.
        folder: on this computer, for uploads and for the files of running jobs.
    Raises:
        CalotypeError: the address or the token is not valid.
    """

    def __init__(self, server: str, token: str, folder: Path):
        self.server = server.rstrip("/")
        parts = urlsplit(self.server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CalotypeError("{option} is an address such as https://studio.example.org", option="server")
        if not (token.isascii() and token.isprintable() and token):
            raise CalotypeError("{option} is missing; it is that of the service", option="worker_token")
        self.files = RemoteFiles(folder, self)
        self._claims: dict[str, Claim] = {}  # running jobs, by their id
        self._unsent: dict[str, deque[Mapping[str, Any]]] = {}  # events, by the token of their claim
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=f"{self.server}/worker", headers=headers, timeout=TIMEOUT)

    def close(self) -> None:
        self._http.close()

    def check(self) -> None:
        """Raises CalotypeError if the service cannot be reached, refuses the token, or is another version."""
        version = self._send("GET", "/version").json().get("version")
        if version != __version__:
            raise CalotypeError(
                "the service at {server} is Calotype {version}, and this worker {ours}; install the same version",
                server=self.server,
                version=version,
                ours=__version__,
            )

    def claim(
        self, worker: str, *, lease: float = LEASE, loaded: Collection[str] = (), kinds: Collection[str] = ()
    ) -> Claim | None:
        body = {"worker": worker, "lease": lease, "loaded": sorted(loaded), "kinds": sorted(kinds)}
        response = self._send("POST", "/claim", json=body)
        if response.status_code == httpx.codes.NO_CONTENT:
            return None
        data = response.json()
        job = _job_of(data["job"])
        claim = Claim(job, worker, data["token"], lease, data.get("unload", False))
        self._claims, self._unsent = {job.id: claim}, {}
        return claim

    def requested(self, claim: Claim) -> str:
        return self._requested("GET", claim, "request")

    def heartbeat(self, claim: Claim) -> str:
        return self._requested("POST", claim, "heartbeat", json={"lease": claim.lease})

    def add_event(self, claim: Claim, data: Mapping[str, Any]) -> None:
        """Sends an event, or keeps it until the service can be reached again. Raises LeaseLost."""
        self._unsent.setdefault(claim.token, deque(maxlen=MAX_UNSENT)).append(dict(data))
        with contextlib.suppress(Unreachable):
            self._send_events(claim)

    def add_preview(self, claim: Claim, image: bytes, media_type: str = "image/jpeg", step: int | None = None) -> None:
        """Sends a preview, unless the service cannot be reached. Raises LeaseLost."""
        where = {} if step is None else {"step": step}
        with contextlib.suppress(Unreachable):
            self._send("POST", "preview", claim, content=image, params=where, headers={"Content-Type": media_type})

    def saved_state(self, claim: Claim) -> None:
        with contextlib.suppress(Unreachable):
            self._send("POST", "state", claim)

    def finish(self, claim: Claim, results: Sequence[NewResult], cost: float) -> Job:
        return self._end(claim, DONE, results, cost)

    def fail(self, claim: Claim, error: CalotypeError | Message, cost: float, results: Sequence[NewResult] = ()) -> Job:
        fault = error if isinstance(error, CalotypeError) else CalotypeError(error)
        return self._end(claim, FAILED, results, cost, error=fault.as_data())

    def stop(self, claim: Claim, cost: float, results: Sequence[NewResult] = ()) -> Job:
        return self._end(claim, CANCELLED, results, cost)

    def park(self, claim: Claim, cost: float) -> Job:
        self._send_events(claim)
        return self._ended(claim, self._send("POST", "park", claim, json={"cost": cost}))

    def report(self, worker: str, device: str, models: Collection[str], note: Message | None = None) -> bool:
        body = {"worker": worker, "device": device, "models": sorted(models), "note": note and note.as_data()}
        return self._send("POST", "/report", json=body).json().get("unload", False)

    def worker_ended(self, worker: str) -> list[Job]:
        jobs = self._send("POST", "/ended", json={"worker": worker}).json()
        return [_job_of(job) for job in jobs]

    def sweep(self) -> list[Job]:
        """The service itself takes jobs from workers whose lease has ended."""
        return []

    def retain(self, max_bytes: float, max_age: float) -> int:
        """The service itself deletes old results."""
        return 0

    def delete_orphans(self) -> int:
        """Deletes uploads and files of jobs on this computer that were not used lately. Returns their number."""
        return self.files.delete_unused(self._claims)

    def fetch(self, upload_id: str, path: Path) -> None:
        """Writes an upload of a running job to `path`; tries again while the service cannot be reached.

        Raises:
            CalotypeError: it could not be fetched.
            LeaseLost: the job was taken from this worker.
        """
        jobs = self._claims.values()
        claim = next((claim for claim in jobs if upload_id in {id for _, id in upload_ids(claim.job.files)}), None)
        if claim is None:
            raise NotFound("the job has no such upload")
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return self._fetch(claim, upload_id, path)
            except Unreachable:
                if time.monotonic() > until:
                    raise
                time.sleep(RETRY_SECONDS)

    def _fetch(self, claim: Claim, upload_id: str, path: Path) -> None:
        try:
            self._receive(claim, upload_id, path)
        except LeaseLost:
            if self.requested(claim) == "lost":
                raise
            raise CalotypeError("a file of the job is not there any more; send it again") from None

    def _receive(self, claim: Claim, upload_id: str, path: Path) -> None:
        digest = hashlib.sha256()
        with self._responding("GET", f"uploads/{upload_id}", claim, True) as response, atomic_file(path) as file:
            for block in response.iter_bytes(1 << 20):
                digest.update(block)
                file.write(block)
            if digest.hexdigest() != upload_id:
                raise Unreachable("a file of the job was damaged on its way from {server}", server=self.server)

    def _requested(self, method: str, claim: Claim, what: str, **body: Any) -> str:
        try:
            return self._send(method, what, claim, **body).json()["requested"]
        except LeaseLost:
            return "lost"

    def _send_events(self, claim: Claim) -> None:
        unsent = self._unsent.get(claim.token, deque())
        while unsent:
            try:
                self._send("POST", "events", claim, json=unsent[0])
            except (Unreachable, StoreFull, LeaseLost):
                raise
            except CalotypeError as fault:  # it would be refused again
                LOG.error("an event of job %s is lost: %s", claim.job.id, fault)
            unsent.popleft()

    def _end(self, claim: Claim, state: str, results: Sequence[NewResult], cost: float, **more: Any) -> Job:
        self._send_events(claim)
        sent = []
        for result in results:
            sha256 = file_sha256(result.path)
            self._send_file(claim, result.path, sha256)
            about = {"name": result.name, "media_type": result.media_type, "facts": dict(result.facts)}
            sent.append({"sha256": sha256, **about})
        body = {"state": state, "cost": cost, "results": sent, **more}
        job = self._ended(claim, self._send("POST", "end", claim, json=body))
        if state != FAILED:  # a failed training run may be tried again, from its saved state
            self.files.delete_work(claim.job.id)
        return job

    def _send_file(self, claim: Claim, path: Path, sha256: str) -> None:
        size, offset = path.stat().st_size, 0
        with path.open("rb") as file:
            while offset == 0 or offset < size:
                part = file.read(MAX_PART)
                where = {"offset": offset, "size": size}
                self._send("PUT", f"files/{sha256}", claim, content=part, params=where)
                offset += len(part)
                if not part:
                    break

    def _ended(self, claim: Claim, response: httpx.Response) -> Job:
        self._claims.pop(claim.job.id, None)
        self._unsent.pop(claim.token, None)
        return Job(**{**vars(claim.job), "state": response.json()["state"]})

    def _send(self, method: str, what: str, claim: Claim | None = None, **body: Any) -> httpx.Response:
        """The response, read to its end. `what` is a path, or with a claim that of something of its job."""
        with self._responding(method, what, claim, False, **body) as response:
            return response

    @contextlib.contextmanager
    def _responding(
        self, method: str, what: str, claim: Claim | None, is_stream: bool, **body: Any
    ) -> Iterator[httpx.Response]:
        """Raises LeaseLost, Unreachable, or CalotypeError if the service refuses the request."""
        if "json" in body:
            body["json"] = finite(body["json"])
        headers = body.pop("headers", {}) | ({"Calotype-Claim": claim.token} if claim else {})
        path = f"/jobs/{claim.job.id}/{what}" if claim else what
        try:
            request = self._http.build_request(method, path, headers=headers, **body)
            response = self._http.send(request, stream=True)
            try:
                if not (is_stream and response.is_success):
                    response.read()
                self._check(response, claim)
                yield response
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            reason = str(fault) or type(fault).__name__
            raise Unreachable(
                "the service at {server} cannot be reached: {reason}", server=self.server, reason=reason
            ) from fault

    def _check(self, response: httpx.Response, claim: Claim | None) -> None:
        if response.is_success:
            return
        try:
            detail = str(response.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"{response.status_code} {response.reason_phrase}"
        if claim and response.status_code in (404, 409):
            raise LeaseLost(claim.job.id)
        if response.status_code == 507:
            raise StoreFull("the disk of the service at {server} is full", server=self.server)
        kind = Unreachable if response.status_code >= 500 or response.status_code == 429 else CalotypeError
        raise kind("the service at {server} refuses this worker: {detail}", server=self.server, detail=detail)


class RemoteFiles(FileStore):
    """Files of running jobs on the computer of the worker, and copies of the uploads they need."""

    def __init__(self, folder: Path, store: RemoteStore):
        super().__init__(folder)
        self._store = store

    def upload(self, upload_id: str) -> Path:
        """The copy of an upload, fetched if there is none."""
        path = super().upload(upload_id)
        if path.is_file():
            os.utime(path)
        else:
            path.parent.mkdir(exist_ok=True)
            self._store.fetch(upload_id, path)
        return path

    def delete_unused(self, running: Collection[str]) -> int:
        count = 0
        for kind, seconds in (("uploads", KEEP_UPLOADS), ("incoming", KEEP_UPLOADS), ("work", KEEP_WORK)):
            for path in list(self._entries(kind)):
                with contextlib.suppress(OSError):
                    if path.name not in running and time.time() - _last_use(path) > seconds:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                        count += 1
        return count


def _job_of(data: Mapping[str, Any]) -> Job:
    """A running or waiting job, which has no results."""
    return Job(**{**data, "models": tuple(data["models"]), "results": ()})


def _last_use(path: Path) -> float:
    """When a file, or the newest file in a folder, was written."""
    return max(file.lstat().st_mtime for file in (path, *path.rglob("*")))
