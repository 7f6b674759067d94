"""Prometheus metrics, read from the store at every scrape: what no process remembers, no process can forget."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from queue_app.errors import Invalid, TuneyardError
from queue_app.lifecycle import Event, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from queue_app.store import Store


class StoreCollector(Collector):
    """The store's census and tally as metric families."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Read the store; a store that does not answer is a figure too."""
        up = GaugeMetricFamily("tuneyard_store_up", "1 if the store answered this scrape.")
        try:
            families = [*self._jobs(), *self._events()]
        except TuneyardError:
            families = []
        up.add_metric([], float(bool(families)))
        yield up
        yield from families

    def _jobs(self) -> Iterator[Metric]:
        labels = ["kind", "queue", "state", "reason"]
        jobs = GaugeMetricFamily("tuneyard_jobs", "Jobs by kind, queue, state and waiting reason.", labels=labels)
        attempts = GaugeMetricFamily(
            "tuneyard_job_attempts", "Attempts of the jobs there are, by kind and queue.", labels=["kind", "queue"]
        )
        oldest = GaugeMetricFamily(
            "tuneyard_oldest_due_job_age_seconds", "Age of the oldest job that is due, by queue.", labels=["queue"]
        )
        begun: dict[tuple[str, str], int] = {}
        due: dict[str, float] = {}
        now = datetime.now(UTC)
        for row in self._store.read.census():
            jobs.add_metric([row["kind"], row["queue"], row["state"], row["reason"] or ""], row["jobs"])
            pair = (row["kind"], row["queue"])
            begun[pair] = begun.get(pair, 0) + int(row["attempts"] or 0)
            if row["state"] in (State.QUEUED, State.WAITING) and row["oldest_due_at"] is not None:
                age = (now - row["oldest_due_at"]).total_seconds()
                due[row["queue"]] = max(due.get(row["queue"], 0.0), age)
        for (kind, queue), number in sorted(begun.items()):
            attempts.add_metric([kind, queue], number)
        for queue, age in sorted(due.items()):
            oldest.add_metric([queue], age)
        yield from (jobs, attempts, oldest)

    def _events(self) -> Iterator[Metric]:
        tally = self._store.read.tally()
        events = CounterMetricFamily("tuneyard_events", "Events in the life of jobs, by name.", labels=["event"])
        for event in Event:
            events.add_metric([event], tally.get(f"event.{event}", 0))
        yield events
        yield CounterMetricFamily(
            "tuneyard_expired_leases", "Leases of workers that fell silent.", value=tally.get("expired_leases", 0)
        )
        yield CounterMetricFamily(
            "tuneyard_stale_messages", "Wake-ups that found nothing due.", value=tally.get("stale_messages", 0)
        )
        yield CounterMetricFamily(
            "tuneyard_stale_transitions",
            "Results of attempts that had lost their lease, and were dropped.",
            value=tally.get("stale_transitions", 0),
        )


def serve_metrics(store: Store, *, port: int, stopping: threading.Event) -> None:
    """Answer scrapes on loopback until told to stop.

    Raises:
        Invalid: the port cannot be had
    """
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise Invalid(
            f"port {port} on 127.0.0.1 cannot be had ({error.strerror}); set TUNEYARD_MONITORS__METRICS_PORT to another"
        ) from error
    stopping.wait()
    server.shutdown()
    thread.join()
