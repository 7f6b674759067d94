"""The sweeper and the doorbell: what is lost is rung again, what is doubled does no harm, on a real broker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from queue_app.broker import wait_until_ready
from queue_app.celery_app import Doorbell
from queue_app.dispatcher import Dispatcher
from queue_app.errors import Transient
from queue_app.lifecycle import Event, Reason, State
from queue_app.process_identity import has_died, own_identity
from queue_app.store import NewJob, Store
from queue_app.store.rows import Worker
from queue_app.sweeper import Sweeper
from settings import BrokerSettings, Settings
from tests.conftest import eventually
from tests.yard import ROOT


@pytest.fixture
def bell(settings: Settings) -> Iterator[Doorbell]:
    """A doorbell at a real broker that nobody answers."""
    broker = subprocess.Popen([sys.executable, "-m", "queue_app.cli", "broker"], env=None, cwd=ROOT)
    try:
        wait_until_ready(settings.broker_url, 20)
        bell = Doorbell(settings.broker_url)
        yield bell
        bell.app.close()
    finally:
        broker.kill()
        broker.wait()


def sweeper(store: Store, settings: Settings, bell: Doorbell) -> Sweeper:
    return Sweeper(store, settings, bell.ring, bell.depth)


def submit(store: Store, count: int = 1, queue: str = "cpu") -> list[str]:
    new = [NewJob(kind="a.b", queue=queue, spec={}) for _ in range(count)]
    store.submit(new, actor="user")
    return [job.id for job in new]


def test_a_ring_that_was_lost_is_rung_again(store: Store, settings: Settings, bell: Doorbell):
    submit(store, 3)
    assert bell.depth("cpu") == 0
    sweeper(store, settings, bell).sweep()
    assert bell.depth("cpu") == 3


def test_sweeping_again_adds_no_rings(store: Store, settings: Settings, bell: Doorbell):
    submit(store, 3)
    for _ in range(4):
        sweeper(store, settings, bell).sweep()
    assert bell.depth("cpu") == 3


def test_a_long_queue_holds_no_more_rings_than_its_depth(store: Store, settings: Settings, bell: Doorbell):
    shallow = settings.model_copy(update={"broker": BrokerSettings(doorbell_depth=5)})
    submit(store, 40)
    for _ in range(3):
        sweeper(store, shallow, bell).sweep()
    assert bell.depth("cpu") == 5


def test_each_queue_has_its_own_bell(store: Store, settings: Settings, bell: Doorbell):
    submit(store, 2, "cpu")
    submit(store, 1, "gpu")
    sweeper(store, settings, bell).sweep()
    assert [bell.depth(queue) for queue in ("cpu", "api", "gpu")] == [2, 0, 1]


def test_a_submission_rings_at_once_and_succeeds_without_a_broker(store: Store, settings: Settings, bell: Doorbell):
    new = NewJob(kind="a.b", queue="cpu", spec={})
    Dispatcher(store, "user", bell.ring).submit(new)
    assert bell.depth("cpu") == 1
    nobody = Doorbell("redis+socket:///nowhere/broker.sock")
    with pytest.raises(Transient, match="the broker does not answer"):
        nobody.ring({"cpu": [new.id]})
    [other] = Dispatcher(store, "user", nobody.ring).submit(NewJob(kind="a.b", queue="cpu", spec={}))
    assert store.read.job(other).state == State.QUEUED


def test_a_sweep_ends_expired_leases_and_wakes_what_is_ready(store: Store, settings: Settings, bell: Doorbell):
    [first] = submit(store)
    second = NewJob(kind="a.b", queue="cpu", spec={}, needs=(first,))
    store.submit([second], actor="user")
    store.claim(worker="w", lease_seconds=-1, queue="cpu")
    sweeper(store, settings, bell).sweep()
    assert store.read.job(first).state == State.QUEUED
    # A need that was met by a writer who died before waking the rest:
    with store.database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE job SET state = 'succeeded', due_at = NULL WHERE id = '{first}'")
    sweeper(store, settings, bell).sweep()
    assert store.read.job(second.id).state == State.QUEUED


def test_a_waiting_job_past_its_deadline_becomes_due(store: Store, settings: Settings, bell: Doorbell):
    new = NewJob(kind="a.b", queue="api", spec={}, timeout_seconds=0.0)
    store.submit([new], actor="user")
    store.claim(worker="w", lease_seconds=60, queue="api")
    later = datetime.now(UTC) + timedelta(hours=1)
    store.record(new.id, Event.POLL_SCHEDULED, actor="w", fence=1, reason=Reason.REMOTE, due_at=later)
    sweeper(store, settings, bell).sweep()
    assert store.claim(worker="w", lease_seconds=60, queue="api") is not None


def test_a_broker_that_is_away_keeps_no_lease_from_expiring(store: Store, settings: Settings):
    [job_id] = submit(store)
    store.claim(worker="w", lease_seconds=-1, queue="cpu")
    nobody = Doorbell("redis+socket:///nowhere/broker.sock")
    with pytest.raises(Transient):
        sweeper(store, settings, nobody).sweep()
    assert store.read.job(job_id).state == State.QUEUED


WORKER = """
import sys, time
from queue_app.presence import present
from queue_app.store import Database, Store
store = Store(Database(sys.argv[1]))
with present(store, "cpu:forge:1", queue="cpu", host="forge", every_seconds=600):
    print(store.claim(worker="cpu:forge:1", lease_seconds=600, queue="cpu").id, flush=True)
    time.sleep(600)
"""


def test_a_worker_that_dies_on_this_host_loses_its_job_at_once(store: Store, settings: Settings):
    [first, second] = submit(store, 2)
    nobody = Doorbell("redis+socket:///nowhere/broker.sock")
    command = [sys.executable, "-c", WORKER, settings.store_url]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert worker.stdout is not None
    try:
        assert worker.stdout.readline().strip() == first
        [(known, held)] = store.read.workers()
        assert known.process is not None
        elsewhere = known.model_copy(update={"name": "cpu:quarry:1", "process": f"another boot/{known.process}"})
        store.workers.see(elsewhere)
        store.claim(worker=elsewhere.name, lease_seconds=600, job_id=second)
        sweeper(store, settings, nobody).sweep()
        assert (held, store.read.job(first).state) == ([first], State.RUNNING), "it lives"
        worker.kill()
        # it is not waited for yet: the dead whose parent does not care are dead all the same
        eventually(lambda: has_died(str(known.process)), what="its end")
        with pytest.raises(Transient):
            sweeper(store, settings, nobody).sweep()
    finally:
        worker.kill()
        worker.communicate()
    assert store.read.job(first).state == State.QUEUED
    assert store.read.job(second).state == State.RUNNING, "nothing is known of another host"
    assert [each.name for each, _ in store.read.workers()] == [elsewhere.name]
    assert has_died(str(known.process)), "and waited for"


def test_a_number_that_a_process_has_now_does_not_bring_back_the_dead_one(store: Store):
    own = own_identity()
    assert own is not None
    assert not has_died(own)
    earlier = f"{own.rpartition('/')[0]}/1"
    assert has_died(earlier)
    [job_id] = submit(store)
    dead = Worker(name="cpu:forge:1", queue="cpu", host="forge", process=earlier, seen_at=datetime.now(UTC))
    store.workers.see(dead)
    store.workers.see(dead.model_copy(update={"process": own}))
    store.claim(worker=dead.name, lease_seconds=600, job_id=job_id)
    store.workers.bury(dead)
    store.expire_leases(max_failures=3, actor="sweeper")
    assert store.read.job(job_id).state == State.RUNNING, "the living one of the same name goes on"
