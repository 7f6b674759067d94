"""The metrics say what the store knows, in Prometheus' own format."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from queue_app.celery_app import answer
from queue_app.errors import Invalid
from queue_app.lifecycle import Event, Reason
from queue_app.metrics import StoreCollector, serve_metrics
from queue_app.store import Database, NewJob, Store

if TYPE_CHECKING:
    from tests.conftest import RunHere


def scrape(store: Store) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def test_jobs_are_counted_by_kind_queue_state_and_reason(store: Store):
    new = [NewJob(kind="finetune.hosted", queue="api", spec={}) for _ in range(3)]
    store.submit(new, actor="user")
    store.claim(worker="w", lease_seconds=60, job_id=new[0].id)
    store.record(new[0].id, Event.POLL_SCHEDULED, actor="w", reason=Reason.REMOTE)
    figures = scrape(store)

    def jobs(state: str, reason: str) -> float:
        labels = {"kind": "finetune.hosted", "queue": "api", "state": state, "reason": reason}
        return figures[("tuneyard_jobs", frozenset(labels.items()))]

    assert (jobs("queued", ""), jobs("waiting", "remote")) == (2, 1)
    labels = frozenset({("kind", "finetune.hosted"), ("queue", "api")})
    assert figures[("tuneyard_job_attempts", labels)] == 1
    assert 0 <= figures[("tuneyard_oldest_due_job_age_seconds", frozenset({("queue", "api")}))] < 60
    assert figures[("tuneyard_events_total", frozenset({("event", "submitted")}))] == 3


def test_expired_leases_and_stale_messages_are_counted(store: Store):
    store.submit([NewJob(kind="a.b", queue="cpu", spec={})], actor="user")
    store.claim(worker="w", lease_seconds=-1, queue="cpu")
    store.expire_leases(max_failures=3, actor="sweeper")
    store.count("stale_messages")
    figures = scrape(store)
    assert figures[("tuneyard_expired_leases_total", frozenset())] == 1
    assert figures[("tuneyard_stale_messages_total", frozenset())] == 1


def test_only_a_ring_that_finds_nothing_due_is_stale(run_here: RunHere):
    assert not run_here.runner.run(job_id="gone")
    assert not run_here.runner.run(queue="cpu")
    assert "stale_messages" not in run_here.store.read.tally()
    answer(run_here.runner, "cpu", "gone")
    assert run_here.store.read.tally()["stale_messages"] == 1
    run_here.runner.stopping.set()
    answer(run_here.runner, "cpu", "gone")
    assert run_here.store.read.tally()["stale_messages"] == 1, "it was not looked at"


def test_a_taken_port_is_named_with_its_setting(store: Store):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Invalid, match=f"port {port} .*TUNEYARD_MONITORS__METRICS_PORT"):
            serve_metrics(store, port=port, stopping=threading.Event())


def test_a_store_that_does_not_answer_is_a_figure_too(tmp_path: object):
    figures = scrape(Store(Database("sqlite:////proc/nowhere/yard.db")))
    assert figures == {("tuneyard_store_up", frozenset()): 0.0}
