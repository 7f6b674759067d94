"""The broker, the sweeper, messages and the store fail: nothing queued is lost, nothing runs twice."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from redis import Redis

from queue_app.celery_app import Doorbell
from queue_app.lifecycle import State
from tests.conftest import eventually
from tests.yard import ROOT, Yard


def split(yard: Yard, examples: str) -> str:
    return yard.submit("dataset.split", "cpu", source=examples, holdout=0.25)


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(yard: Yard, examples: str):
    yard.start("worker cpu")
    yard.wait_for(split(yard, examples), State.SUCCEEDED)
    yard.kill("broker")
    ids = [split(yard, examples) for _ in range(5)]  # a submission needs no broker
    yard.start("broker")
    for job_id in ids:
        yard.wait_for(job_id, State.SUCCEEDED)
    assert yard.running["worker cpu"].poll() is None, "the worker did not live through it"
    assert yard.running["sweeper"].poll() is None, "the sweeper did not live through it"


def test_a_broker_killed_in_the_middle_of_a_job_does_not_disturb_it(yard: Yard, model: str, texts: str):
    yard.start("worker cpu")
    job_id = yard.submit("dataset.prepare", "cpu", source=texts, base_model=model)
    yard.wait_for_progress(job_id, 1)
    yard.kill("broker")
    done = yard.wait_for(job_id, State.SUCCEEDED, seconds=120)
    assert done.attempt == 1
    yard.start("broker")
    yard.wait_for(yard.submit("dataset.split", "cpu", source=done.result["dataset"]), State.SUCCEEDED)  # type: ignore[index]


def test_without_a_sweeper_what_was_rung_runs_and_the_rest_waits_for_the_next(yard: Yard, examples: str):
    yard.start("worker cpu")
    yard.kill("sweeper")
    bell = Doorbell(yard.settings.broker_url)
    rung, not_rung = split(yard, examples), yard.submit("dataset.split", "cpu", source=examples, holdout=0.5)
    bell.ring({"cpu": [rung]})
    yard.wait_for(rung, State.SUCCEEDED)
    assert yard.job(not_rung).state == State.QUEUED
    yard.start("sweeper")
    yard.wait_for(not_rung, State.SUCCEEDED)


def test_messages_that_are_lost_doubled_or_late_run_every_job_once(yard: Yard, examples: str):
    bell = Doorbell(yard.settings.broker_url)
    lost, doubled = split(yard, examples), yard.submit("dataset.split", "cpu", source=examples, holdout=0.5)
    eventually(lambda: bell.depth("cpu") == 2, what="two rings")
    yard.kill("sweeper")
    with Redis(unix_socket_path=str(yard.settings.broker_socket)) as broker:
        broker.delete("cpu")
    assert bell.depth("cpu") == 0
    bell.ring({"cpu": [doubled] * 5})
    yard.start("worker cpu", "sweeper")
    for job_id in (lost, doubled):
        assert yard.wait_for(job_id, State.SUCCEEDED).attempt == 1
    bell.ring({"cpu": [lost]})  # late: it has long ended
    eventually(lambda: yard.store.read.tally().get("stale_messages", 0) >= 4, what="stale messages being counted")
    assert yard.history(lost) == yard.history(doubled) == ["submitted", "started", "succeeded"]


def test_a_store_that_stays_locked_for_a_while_is_waited_for(yard: Yard, model: str, texts: str):
    yard.start("worker cpu")
    job_id = yard.submit("dataset.prepare", "cpu", source=texts, base_model=model)
    yard.wait_for_progress(job_id, 1)
    blocker = sqlite3.connect(str(yard.home / "tuneyard.db"), isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(2.0, blocker.execute, ["COMMIT"])
    timer.start()
    timer.join()
    blocker.close()
    assert yard.wait_for(job_id, State.SUCCEEDED, seconds=120).failures <= 1


def test_one_interrupt_stops_the_yard_and_the_next_one_finishes_its_work(tmp_path: Path, examples: str):
    home = Yard(tmp_path / "yard", {"TUNEYARD_WORKERS__GPU": "0", "TUNEYARD_WORKERS__API": "0"})
    home.start("up")
    job_id = split(home, examples)
    home.wait_for(job_id, State.SUCCEEDED)
    home.kill("up", signal.SIGINT)
    pattern = str(home.home)
    listed = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False).stdout
    assert listed == ""
    later = home.submit("dataset.split", "cpu", source=examples, holdout=0.5)
    home.start("up")
    home.wait_for(later, State.SUCCEEDED)
    home.kill("up", signal.SIGINT)
    home.stop()


CRAMPED = """
import resource, signal, sys
from pathlib import Path
from queue_app.artifacts import ArtifactStore
from queue_app.errors import Permanent
from queue_app.store import Database, Store
database = Database(sys.argv[1])
database.migrate()
artifacts = ArtifactStore(sys.argv[2], Store(database).artifacts, Path(sys.argv[2]) / "cache")
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    artifacts.publish(Path(sys.argv[3]), kind="model", name=None, job_id=None, parents=())
except Permanent as error:
    print(error)
else:
    print("published")
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system to publish to")
def test_an_artifact_that_finds_no_room_is_not_there_at_all(tmp_path: Path):
    source = tmp_path / "model.bin"
    source.write_bytes(bytes(3 << 20))
    target = Path("/dev/shm") / f"tuneyard-{tmp_path.parent.name}-{tmp_path.name}"
    try:
        arguments = [f"sqlite:///{tmp_path}/yard.db", str(target), str(source)]
        said = subprocess.run(
            [sys.executable, "-c", CRAMPED, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert "no room for an artifact of 3.0 MiB" in said
        assert [path for path in target.rglob("*") if path.is_file()] == []
        assert source.stat().st_size == 3 << 20
    finally:
        shutil.rmtree(target, ignore_errors=True)
