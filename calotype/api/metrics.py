"""Figures for Prometheus."""

from collections.abc import Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counts requests; jobs are counted when the figures are read."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route")
        self._requests = Counter("calotype_requests", "Requests", (*labels, "status"), registry=self._registry)
        self._seconds = Histogram(
            "calotype_request_seconds", "Time to answer a request", labels, buckets=SECONDS, registry=self._registry
        )
        self._jobs = Gauge("calotype_jobs", "Jobs by their state", ("state",), registry=self._registry)
        self._streams = Gauge("calotype_event_streams", "Open connections that wait for jobs", registry=self._registry)

    def add_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is the template of the address, empty if there is none: ids and foreign addresses are no labels."""
        method = method if method in ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS") else "other"
        self._requests.labels(method, route, str(status)).inc()
        if not route.endswith("/events"):  # open for as long as the job takes
            self._seconds.labels(method, route).observe(seconds)

    def text(self, jobs: Mapping[str, int], streams: int) -> bytes:
        for state, count in jobs.items():
            self._jobs.labels(state).set(count)
        self._streams.set(streams)
        return generate_latest(self._registry)
