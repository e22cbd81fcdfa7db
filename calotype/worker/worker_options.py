"""Options of a worker."""

from dataclasses import dataclass
from pathlib import Path

from calotype.jobs.jobs import LEASE, MAX_ATTEMPTS
from calotype.options import option


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How a worker runs jobs, and how much of their results is kept."""

    TITLE = "Jobs"

    store: str = option(
        "",
        "database of the queue, postgresql://user:password@host/name; empty: SQLite in the home folder",
        env="CALOTYPE_STORE",
    )
    lease: float = option(LEASE, "seconds until a job is taken from a worker that does not report", min=1, max=3600)
    poll: float = option(0.5, "seconds between two reads of the queue while it is empty", min=0.05, max=60)
    attempts: int = option(MAX_ATTEMPTS, "times a job is started whose process ends", min=1, max=1000)
    preview_every: float = option(1.0, "seconds between two previews of a picture; 0: no previews", min=0, max=3600)
    progress_every: float = option(0.5, "seconds between two stored events of progress", min=0, max=3600)
    tagger: Path | None = option(
        None,
        "WD14 tagger for jobs that ask for tags: its model.onnx, or the folder with it and selected_tags.csv",
        is_path=True,
        env="CALOTYPE_TAGGER",
    )
    min_free: float = option(1.0, "GiB free on the disk, below which jobs wait", min=0, max=1e6)
    keep_space: float = option(100.0, "GiB of results and uploads; older ones are deleted", min=0, max=1e6)
    keep_days: float = option(0.0, "days after which results are deleted; 0: never", min=0, max=1e6)
    trusted: bool = option(False, "no limits on the work of a job; only where everybody who sends jobs is trusted")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The service whose jobs a worker runs, where that is on another computer."""

    TITLE = "Service on another computer"

    server: str = option("", "address of the service, such as https://studio.example.org", env="CALOTYPE_SERVER")
    worker_token: str = option("", "the token of workers of that service", env="CALOTYPE_WORKER_TOKEN")
