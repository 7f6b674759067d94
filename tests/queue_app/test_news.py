"""What a person who watches jobs is told: each event, phase, look and checkpoint once, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from queue_app.cli import context, live, news
from queue_app.cli.application import run
from queue_app.cli.news import News
from queue_app.lifecycle import Cause, Event, Reason
from queue_app.store import NewJob, Store
from settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable

MATERIAL = {
    "phase": "training",
    "examples": 92,
    "truncated_examples": 3,
    "dropped_examples": 1,
    "weightless_examples": 0,
    "holdout_examples": 12,
}
STEP = MATERIAL | {"epochs": 2, "steps": 40, "first_loss": 4.0, "tokens_per_second": 119.4, "eta_seconds": 130.0}
LOOK = {"holdout_step": 10, "first_holdout_loss": 3.5, "holdout_loss": 3.4, "best_loss": 3.4, "best_step": 10}
TRAINED: dict[str, Any] = {
    "adapter": "sha256:0",
    "steps": 40,
    "epochs": 2.0,
    "first_loss": 4.0,
    "last_loss": 3.0,
    "holdout_loss": 3.2,
    "first_holdout_loss": 3.5,
    "best_holdout_loss": 3.2,
    "best_step": 30,
    "published_step": 30,
    "examples": 92,
    "truncated_examples": 3,
    "dropped_examples": 1,
    "weightless_examples": 0,
    "sequence_len": 256,
    "trained_tokens": 9000,
    "tokens_per_second": 119.4,
    "seconds": 80.0,
    "peak_rss_mib": 900.0,
    "engine": "trl",
    "device": "cpu",
    "device_name": "EPYC",
    "resumed_from": 20,
    "checkpoints_passed_over": 1,
    "failed_copies": 0,
    "repairs": {"micro_batch_size": 2},
}


@pytest.fixture
def yard() -> Store:
    """The store that the commands see."""
    get_settings.cache_clear()
    context.store.cache_clear()
    return context.store()


@pytest.fixture
def job_id(yard: Store) -> str:
    """A training that has been taken up."""
    new = NewJob(kind="adapter.train", queue="gpu", spec={}, step="train")
    yard.submit([new], actor="user:me")
    yard.claim(worker="gpu:1", lease_seconds=60, job_id=new.id)
    return new.id


@pytest.fixture
def hear(yard: Store, job_id: str) -> Callable[[], list[str]]:
    """What one watcher is told at each of its looks."""
    told = News()
    return lambda: [item.text for item in told.of(yard.read.job(job_id)) if not item.is_routine]


def test_a_training_tells_its_phases_looks_and_checkpoints_and_no_step_of_its_own(
    yard: Store, job_id: str, hear: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(**progress: Any) -> list[str]:
        yard.report(job_id, fence=1, progress=progress)
        return hear()

    assert hear() == ["taken up by gpu:1, attempt 1"]
    assert report(phase="loading") == ["loading"]
    assert report(**MATERIAL) == ["training", "92 examples (3 cut, 1 too long, 0 of no weight), 12 held out"]
    assert report(**STEP, step=1, epoch=1, loss=4.0) == [
        "epoch 1/2 · step 1/40 · loss 4.000 → 4.000 · 119 tok/s · 2m 10s left"
    ]
    assert report(**STEP, step=2, epoch=1, loss=3.9) == []
    assert report(**STEP | {"phase": "looking at the holdout"}, step=10, epoch=1, loss=3.6) == [
        "looking at the holdout"
    ]
    assert report(**STEP | LOOK, step=10, epoch=1, loss=3.6) == [
        "epoch 1/2 · step 10/40 · loss 4.000 → 3.600 · holdout 3.500 → 3.400 (best: step 10) · 119 tok/s · 2m 10s left"
    ]
    assert report(**STEP | LOOK, step=10, epoch=1, loss=3.6, checkpoint_step=10) == [
        "checkpoint of step 10 is complete"
    ]
    assert report(**STEP | LOOK, step=11, epoch=1, loss=3.5, checkpoint_step=10) == []
    assert report(**STEP | LOOK, step=21, epoch=2, loss=3.4, checkpoint_step=10) == [], "it is another epoch too soon"
    monkeypatch.setattr(news, "EPOCH_SECONDS", 0.0)
    later = report(**STEP | LOOK | {"epochs": 3}, step=31, epoch=3, loss=3.4, checkpoint_step=10)
    assert later[0].startswith("epoch 3/3 · step 31/40")
    assert hear() == []


def test_steps_are_told_now_and_then_where_nothing_else_happens(
    yard: Store, job_id: str, hear: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.report(job_id, fence=1, progress=STEP | {"step": 1, "epoch": 1, "loss": 4.0})
    hear()
    monkeypatch.setattr(news, "COURSE_SECONDS", 0.0)
    yard.report(job_id, fence=1, progress=STEP | {"step": 2, "epoch": 1, "loss": 3.9, "gpu_percent": 97.0})
    assert hear() == ["epoch 1/2 · step 2/40 · loss 4.000 → 3.900 · 119 tok/s · card 97 % · 2m 10s left"]
    assert hear() == [], "nothing has changed since"
    yard.report(job_id, fence=1, progress={"phase": "writing the adapter"})
    assert hear() == ["writing the adapter"], "a phase alone is its own course"


def test_a_killed_trainer_its_repair_and_its_resumption_are_told(
    yard: Store, job_id: str, hear: Callable[[], list[str]]
) -> None:
    yard.report(job_id, fence=1, progress=STEP | {"step": 21, "epoch": 2, "loss": 3.4, "checkpoint_step": 20})
    hear()
    why = "gpu_worker.training was killed from outside (exit status -9)"
    yard.report(job_id, fence=1, progress=STEP | {"step": 31, "epoch": 2, "loss": 3.3, "checkpoint_step": 30})
    detail = {"why": why, "seconds": 5.0}
    changes: dict[str, Any] = {"reason": Reason.BACKOFF, "failure": why, "due_at": datetime.now(UTC)}
    yard.record(job_id, Event.RETRY_SCHEDULED, actor="gpu:1", fence=1, detail=detail, **changes)
    assert hear() == ["checkpoint of step 30 is complete", f"put off: {why}; next try after 5.0s"], "in this order"
    yard.claim(worker="gpu:2", lease_seconds=60, job_id=job_id)
    yard.report(job_id, fence=2, progress={"phase": "loading"})
    assert hear() == ["taken up by gpu:2, attempt 2", "loading"]
    yard.report(job_id, fence=2, progress=MATERIAL | {"resumed_from": 20})
    assert hear()[2:] == ["goes on from the checkpoint of step 20"]
    said = "memory ran out: micro_batch_size 4 → 2; goes on from step 20"
    rung = {"why": said, "before": {"micro_batch_size": 4}, "after": {"micro_batch_size": 2}}
    yard.record(job_id, Event.REPAIRED, actor="gpu:2", fence=2, detail=rung)
    assert hear() == [f"repaired: {said}"]


def test_who_waits_for_cards_is_told_of_cards_and_not_of_workers(
    yard: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    new = NewJob(kind="adapter.train", queue="gpu", spec={}, cards=99)
    yard.submit([new], actor="user:me")
    since = datetime.now(UTC) - timedelta(minutes=1)
    live.say_once([yard.read.job(new.id).model_copy(update={"due_at": since})], set())
    assert capsys.readouterr().err.startswith(f"{new.id}: it is in the queue gpu and needs 99 cards of one host; ")


def test_what_was_told_before_the_end_has_no_later_time(yard: Store, job_id: str) -> None:
    told = News()
    told.of(yard.read.job(job_id))
    yard.report(job_id, fence=1, progress=MATERIAL)
    yard.record(job_id, Event.SUCCEEDED, actor="gpu:1", fence=1, result=TRAINED)
    times = [item.at for item in told.of(yard.read.job(job_id))]
    assert times == sorted(times)


def test_the_end_is_told_with_what_came_of_it(yard: Store, job_id: str, hear: Callable[[], list[str]]) -> None:
    hear()
    yard.report(job_id, fence=1, progress=MATERIAL | {"checkpoint_step": 40})
    yard.record(job_id, Event.SUCCEEDED, actor="gpu:1", fence=1, result=TRAINED)
    told = hear()
    assert told[:3] == ["training", told[1], "checkpoint of step 40 is complete"], "before the end"
    assert told[3].startswith("succeeded in ")
    assert told[3].endswith("92 examples · 40 steps · 119 tok/s")
    assert told[4:] == [
        "training: 92 examples (3 cut, 1 left out), 2 epochs, 40 steps; 119 tokens/s on cpu by trl",
        "loss: 4.000 → 3.000 in training, 3.500 → 3.200 on the holdout (best: step 30)",
        "checkpoint: step 30, the best; resumed from step 20; 1 damaged or unfinished checkpoint(s) passed over",
        "repairs: memory ran out, so it was trained with micro_batch_size 2",
    ]
    assert hear() == []


def test_a_failure_and_a_result_of_another_version_are_told(
    yard: Store, job_id: str, hear: Callable[[], list[str]]
) -> None:
    yard.record(job_id, Event.FAILED, actor="gpu:1", fence=1, cause=Cause.STALLED, failure="no progress for 5 s")
    assert hear()[-1] == "failed: no progress for 5 s"
    yard.retry(job_id, actor="user:me")
    yard.claim(worker="gpu:1", lease_seconds=60, job_id=job_id)
    yard.record(job_id, Event.SUCCEEDED, actor="gpu:1", fence=2, result={"steps": 40})
    assert hear()[-1] == f"result: of another version of adapter.train; `tuneyard jobs show {job_id}` has its figures"


def test_looks_at_a_remote_job_are_no_news_but_what_it_is_there_is(yard: Store) -> None:
    new, told = NewJob(kind="finetune.hosted", queue="api", spec={}), News()
    yard.submit([new], actor="user:me")

    def look(attempt: int, **progress: Any) -> list[str]:
        yard.claim(worker="api:1", lease_seconds=60, job_id=new.id)
        yard.report(new.id, fence=attempt, progress=progress)
        due: dict[str, Any] = {"reason": Reason.REMOTE, "due_at": datetime.now(UTC)}
        yard.record(new.id, Event.POLL_SCHEDULED, actor="api:1", fence=attempt, **due)
        return [item.text for item in told.of(yard.read.job(new.id)) if not item.is_routine]

    assert look(1, remote="queued") == ["taken up by api:1, attempt 1", "at the provider: queued"]
    assert look(2, remote="queued") == []
    assert look(3, remote="running", step=1, steps=8) == ["at the provider: running"]


def test_a_line_has_its_time_its_job_and_its_step(yard: Store, job_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    yard.record(job_id, Event.SUCCEEDED, actor="gpu:1", fence=1, result=TRAINED)
    assert run(["jobs", "watch", job_id]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[14:36] for line in lines] == [f"  {job_id}  train   "] * len(lines)
    started = yard.read.history(job_id)[1].at
    assert lines[0].startswith(f"{started:%m-%d %H:%M:%S}  ")
