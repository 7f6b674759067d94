"""A training over two cards in a real yard: both are held and given back, whichever process dies."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from queue_app.lifecycle import State
from tests.conftest import eventually

if TYPE_CHECKING:
    from tests.yard import Yard

PATIENCE_SECONDS = 150.0
SLOW: dict[str, Any] = {"method": "lora", "engine": "trl", "save_steps": 10, "sequence_len": 64, "max_steps": 4000}


def train(yard: Yard, model: str, examples: str, **spec: Any) -> str:
    return yard.submit("adapter.train", "gpu", base_model=model, dataset=examples, **SLOW | spec)


def other_ranks(yard: Yard) -> list[psutil.Process]:
    """The second processes of the runs in a yard."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "gpu_worker.rank" in (process.info["cmdline"] or []) and process.cwd().startswith(str(yard.home)):
            found.append(process)
    return found


def step_of(yard: Yard, job_id: str) -> int:
    return int((yard.job(job_id).progress or {}).get("step", 0))


@pytest.mark.timeout(300)
def test_a_job_of_two_cards_outlives_its_lent_worker_and_gives_both_back(yard: Yard, model: str, examples: str):
    yard.start("worker gpu", "worker gpu#2")
    eventually(lambda: len(yard.store.read.workers()) == 2, what="two workers")
    job_id, small = train(yard, model, examples, cards=2), train(yard, model, "nowhere.jsonl")  # fails once begun
    yard.wait_for_progress(job_id, 3, seconds=PATIENCE_SECONDS)
    assert [jobs for _, jobs in yard.store.read.workers()] == [[job_id], [job_id]]
    assert (yard.job(small).state, len(other_ranks(yard))) == (State.QUEUED, 1)

    yard.store.pause(job_id, actor="user")
    yard.wait_for(job_id, State.PAUSED, seconds=PATIENCE_SECONDS)
    assert other_ranks(yard) == []
    yard.wait_for(small, State.FAILED, seconds=PATIENCE_SECONDS)

    yard.store.resume(job_id, actor="user")
    yard.wait_for_progress(job_id, step_of(yard, job_id) + 3, seconds=PATIENCE_SECONDS)
    holder = str(yard.job(job_id).worker)
    [lent] = [name for name, process in yard.running.items() if "gpu" in name and str(process.pid) not in holder]
    yard.kill(lent)  # its process runs no rank
    yard.wait_for_progress(job_id, step_of(yard, job_id) + 3, seconds=PATIENCE_SECONDS)
    assert yard.job(job_id).worker == holder

    [second] = other_ranks(yard)
    os.kill(second.pid, signal.SIGKILL)
    queued = eventually(lambda: yard.job(job_id) if yard.job(job_id).failures else None, what="the end of the attempt")
    assert "on card 2 of 2 was killed from outside" in str(queued.failure)
    yard.start("worker gpu#3")  # until there is one, no host has two
    yard.wait_for_progress(job_id, step_of(yard, job_id) + 3, seconds=PATIENCE_SECONDS)
    yard.store.cancel(job_id, actor="user")
    yard.wait_for(job_id, State.CANCELLED, seconds=PATIENCE_SECONDS)
    assert (other_ranks(yard), [jobs for _, jobs in yard.store.read.workers()]) == ([], [[], []])
