"""Workers die in every way there is: each job still ends once, the trained one from its checkpoint."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from queue_app.lifecycle import State
from tests.conftest import eventually
from tests.sandbox.server import serve_in_process

if TYPE_CHECKING:
    import subprocess

    from tests.yard import Yard

SLOW_TRAINING: dict[str, Any] = {
    "method": "lora",
    "engine": "trl",
    "max_steps": 400,
    "save_steps": 10,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "sequence_len": 64,
}
PATIENCE_SECONDS = 150.0


def put_to_sleep(process: subprocess.Popen[Any], store: Path) -> None:
    """Freeze a process, but not in the middle of a write: a SQLite file stays locked then until it wakes up."""
    while True:
        os.kill(process.pid, signal.SIGSTOP)
        with closing(sqlite3.connect(store, timeout=2.0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(process.pid, signal.SIGCONT)
            else:
                connection.execute("ROLLBACK")
                return


def trainers_of(home: Path) -> list[psutil.Process]:
    """The training processes that work in a yard's home."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "gpu_worker.training" in (process.info["cmdline"] or []):
            try:
                if any(str(home) in file.path for file in process.open_files()):
                    found.append(process)
            except psutil.Error:
                continue
    return found


def train(yard: Yard, model: str, examples: str, *, steps: int = 400) -> str:
    spec = SLOW_TRAINING | {"max_steps": steps}
    return yard.submit("adapter.train", "gpu", base_model=model, dataset=examples, **spec)


def test_a_killed_cpu_worker_loses_no_job(yard: Yard, model: str, texts: str):
    yard.start("worker cpu")
    job_id = yard.submit("dataset.prepare", "cpu", source=texts, base_model=model)
    yard.wait_for_progress(job_id, 1)
    yard.kill("worker cpu")  # SIGKILL: no handler runs
    yard.start("worker cpu")
    assert yard.wait_for(job_id, State.SUCCEEDED, seconds=PATIENCE_SECONDS).attempt == 2
    assert yard.history(job_id) == ["submitted", "started", "lease_expired", "started", "succeeded"]


def test_a_killed_gpu_worker_leaves_no_trainer_and_the_next_one_goes_on(yard: Yard, model: str, examples: str):
    yard.start("worker gpu")
    job_id = train(yard, model, examples, steps=120)
    yard.wait_for_progress(job_id, 25, seconds=PATIENCE_SECONDS)
    yard.kill("worker gpu")
    eventually(lambda: not trainers_of(yard.home), seconds=10, what="the end of the trainer")
    yard.start("worker gpu")
    done = yard.wait_for(job_id, State.SUCCEEDED, seconds=PATIENCE_SECONDS)
    assert done.result is not None
    assert done.result["resumed_from"] >= 20
    assert (done.attempt, done.failures, done.result["steps"]) == (2, 1, 120)


def test_a_worker_that_is_told_to_stop_hands_its_training_back(yard: Yard, model: str, examples: str):
    yard.start("worker gpu")
    job_id = train(yard, model, examples, steps=120)
    at = int((yard.wait_for_progress(job_id, 15, seconds=PATIENCE_SECONDS).progress or {})["step"])
    yard.kill("worker gpu", signal.SIGTERM)
    handed_back = yard.job(job_id)
    assert (handed_back.state, handed_back.failures) == (State.QUEUED, 0)
    assert trainers_of(yard.home) == []
    yard.start("worker gpu")
    done = yard.wait_for(job_id, State.SUCCEEDED, seconds=PATIENCE_SECONDS)
    assert done.result is not None
    assert done.result["resumed_from"] >= at  # it finished its step and saved: nothing is trained twice
    assert "released" in yard.history(job_id)


def test_a_training_is_paused_resumed_and_cancelled(yard: Yard, model: str, examples: str):
    yard.start("worker gpu")
    job_id = train(yard, model, examples)
    yard.wait_for_progress(job_id, 5, seconds=PATIENCE_SECONDS)
    yard.store.pause(job_id, actor="user")
    at = int((yard.wait_for(job_id, State.PAUSED).progress or {})["step"])
    assert trainers_of(yard.home) == []
    yard.store.resume(job_id, actor="user")
    yard.wait_for_progress(job_id, at + 5, seconds=PATIENCE_SECONDS)
    told = dict.fromkeys((row["attempt"], row["step"]) for row in yard.store.read.series(job_id))
    steps = [step for _, step in told]
    assert steps == sorted(set(steps)), "a step was trained twice"
    yard.store.cancel(job_id, actor="user")
    yard.wait_for(job_id, State.CANCELLED, seconds=10)
    assert trainers_of(yard.home) == []


def test_a_worker_that_sleeps_through_its_lease_changes_nothing(yard: Yard, model: str, texts: str):
    yard.start("worker cpu")
    job_id = yard.submit("dataset.prepare", "cpu", source=texts, base_model=model)
    yard.wait_for_progress(job_id, 1)
    sleeper = yard.running.pop("worker cpu")
    put_to_sleep(sleeper, yard.home / "tuneyard.db")
    try:
        yard.start("worker cpu")
        done = yard.wait_for(job_id, State.SUCCEEDED, seconds=PATIENCE_SECONDS)
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    eventually(lambda: yard.store.read.tally().get("stale_transitions"), what="the old attempt being dropped")
    os.killpg(sleeper.pid, signal.SIGKILL)
    sleeper.wait()
    assert (yard.job(job_id), yard.history(job_id).count("succeeded")) == (done, 1)


@pytest.mark.parametrize("death", ["created there, not written here", "while the remote job runs"])
def test_a_killed_api_worker_makes_no_second_remote_job(yard: Yard, examples: str, tmp_path: Path, death: str):
    slow = ["--fault", "create:slow=2*1"] if death.startswith("created") else []
    timing = ["--validate-seconds", "0.1", "--queue-seconds", "0.1", "--run-seconds", "4"]
    with serve_in_process(tmp_path / "sandbox", *timing, *slow) as (sandbox, _):
        yard.environment |= {
            "TUNEYARD_PROVIDERS__HERE__BASE_URL": sandbox.url,
            "TUNEYARD_PROVIDERS__HERE__API_KEY": "key",
            "TUNEYARD_PROVIDERS__HERE__LISTING_LAG_SECONDS": "4",
            "TUNEYARD_PROVIDERS__HERE__ANSWER_SECONDS": "2",
            "TUNEYARD_PROVIDERS__HERE__POLL_SECONDS": "0.3",
        }
        yard.start("worker api")
        job_id = yard.submit("finetune.hosted", "api", dataset=examples, provider="here", base_model="sandbox-base")
        if slow:
            asked = {"creates_received": 1, "jobs": []}
            eventually(
                lambda: any(asked.items() <= told.items() for told in sandbox.ledger()["keys"].values()),
                what="the request to create",
            )
        else:
            eventually(lambda: (memo := yard.store.memos.get(job_id, "start")) and memo.done, what="the remote job")
        yard.kill("worker api")
        eventually(lambda: sandbox.ledger()["jobs_created"] == 1, what="the remote job")
        memo = yard.store.memos.get(job_id, "start")
        assert memo is not None
        assert memo.done == (not slow)
        yard.start("worker api")
        done = yard.wait_for(job_id, State.SUCCEEDED, seconds=PATIENCE_SECONDS)
        ledger = sandbox.ledger()
    assert ledger["jobs_created"] == 1
    assert done.result is not None
    assert [done.result["remote_job"]] == ledger["keys"][memo.key]["jobs"]
    assert "sandbox" in done.result["model"]
