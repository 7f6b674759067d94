"""`tuneyard jobs explain`: every way a job can stand, in words."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from queue_app.cli.application import run
from queue_app.lifecycle import Cause, Event, Reason
from queue_app.store import NewJob, Store

if TYPE_CHECKING:
    import pytest


def submitted(store: Store, **more: Any) -> str:
    new = NewJob(kind="finetune.hosted", queue="api", spec={}, step="tune", **more)
    store.submit([new], actor="user:me")
    return new.id


def held(store: Store, job_id: str, pool: str = "acme") -> bool:
    job = store.claim(worker="w", lease_seconds=60, job_id=job_id)
    assert job is not None
    store.slots.resize(pool, 1, "the catalogue")
    if store.slots.take(job_id, pool, fence=job.attempt):
        return True
    store.record(job_id, Event.POLL_SCHEDULED, actor="w", fence=job.attempt, reason=Reason.SLOT, due_at=None)
    return False


def explained(job_id: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["jobs", "explain", job_id]) == 0
    shown = capsys.readouterr()
    assert job_id in shown.out
    assert run(["jobs", "explain", job_id, "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert all(line[:30] in shown.out for line in told["stands"])
    assert all(f"  {command}\n" in shown.err for command in told["next"])
    return told


def test_a_job_in_line_for_a_slot_knows_its_place(yard: Store, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [submitted(yard) for _ in range(3)]
    assert [held(yard, job_id) for job_id in ids] == [True, False, False]
    told = explained(ids[2], capsys)
    setting = "TUNEYARD_PROVIDERS__ACME__MAX_JOBS"
    assert told["stands"] == [
        "it waits for a slot at acme: 1 of 1 are held; 1 wait before it",
        f"1 at once is what the catalogue says; {setting} sets another, heard when workers start",
    ]
    yard.record(ids[0], Event.SUCCEEDED, actor="w", fence=1, result={})
    assert "a slot at acme was given to it" in explained(ids[1], capsys)["happened"][-1]


def test_a_job_whose_account_is_left_alone_says_until_when_and_why(
    yard: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = submitted(yard)
    held(yard, job_id)
    until = datetime.now(UTC) + timedelta(hours=1)
    yard.accounts.pause("acme", "acme: out of money", until, Reason.BUDGET)
    yard.record(
        job_id, Event.POLL_SCHEDULED, actor="w", fence=1, reason=Reason.BUDGET, due_at=until, account="acme",
        failure="acme: out of money", detail={"why": "acme: out of money"},
    )  # fmt: skip
    told = explained(job_id, capsys)
    assert told["stands"][0].startswith("the account acme is left alone until in 59m")
    assert told["happened"][-1].endswith("put off: acme: out of money")
    assert told["next"][0] == "tuneyard providers resume acme"


def test_a_job_that_only_a_person_lets_go_on_says_so(yard: Store, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = submitted(yard)
    held(yard, job_id)
    yard.accounts.pause("acme", "acme: out of money", None, Reason.BUDGET)
    changes: dict[str, Any] = {"reason": Reason.BUDGET, "due_at": None, "account": "acme", "failure": "no money"}
    yard.record(job_id, Event.POLL_SCHEDULED, actor="w", fence=1, **changes)
    assert explained(job_id, capsys)["stands"] == [
        "the account acme is left alone until `tuneyard providers resume acme`: acme: out of money",
        "it is not tried again by itself: no money",
    ]


def test_a_failure_is_told_with_whose_matter_it_is(yard: Store, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = submitted(yard)
    held(yard, job_id)
    words = "acme: job 7 failed: line 3 has no answer"
    yard.record(job_id, Event.FAILED, actor="w", fence=1, cause=Cause.DATA, failure=words)
    told = explained(job_id, capsys)
    assert told["stands"] == [f"data: {words}", "repair the data as the message says; a retry sends it anew"]
    assert told["next"] == [f"tuneyard jobs logs {job_id}", f"tuneyard jobs retry {job_id}"]


def test_looks_at_a_remote_job_are_one_line(yard: Store, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = submitted(yard)
    for attempt in range(1, 5):
        assert yard.claim(worker="w", lease_seconds=60, job_id=job_id) is not None
        due = datetime.now(UTC)
        yard.record(job_id, Event.POLL_SCHEDULED, actor="w", fence=attempt, reason=Reason.REMOTE, due_at=due)
    told = explained(job_id, capsys)
    assert [line.split("  ", 1)[1] for line in told["happened"]] == [
        "submitted by user:me",
        "taken up by w, attempt 1",
        "looked at; it was not over yet (×4)",
    ]
    assert told["stands"][0].startswith("its remote job at the provider is not seen yet")


def test_what_a_job_waits_for_is_named(yard: Store, capsys: pytest.CaptureFixture[str]) -> None:
    first = submitted(yard)
    second = submitted(yard, needs=(first,))
    assert explained(second, capsys)["stands"] == [f"it waits for tune ({first}), which is queued"]
    assert explained(first, capsys)["stands"][0].startswith("it is in the queue api")


def test_every_end_has_its_next_command(yard: Store, capsys: pytest.CaptureFixture[str]) -> None:
    done, cancelled, paused = (submitted(yard) for _ in range(3))
    held(yard, done)
    yard.record(done, Event.SUCCEEDED, actor="w", fence=1, result={})
    yard.cancel(cancelled, actor="user:me")
    yard.pause(paused, actor="user:me")
    nexts = [explained(job_id, capsys)["next"][0].split()[2] for job_id in (done, cancelled, paused)]
    assert nexts == ["events", "retry", "resume"]
