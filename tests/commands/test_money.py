"""`approve`, `spend`, caps of recipes, and `jobs explain` where money is concerned."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from queue_app.at_account import AtAccount
from queue_app.cli import context
from queue_app.cli.application import run
from queue_app.errors import StandsStill
from queue_app.lifecycle import Event, Reason, State
from queue_app.store import Job, NewJob, Store
from queue_app.store.money import Billed, Caps, Quoted

if TYPE_CHECKING:
    from collections.abc import Sequence


def claimed(store: Store, run_id: str | None = None) -> Job:
    new = NewJob(kind="finetune.hosted", queue="api", spec={}, run_id=run_id, step="tune")
    store.submit([new], actor="user:me")
    job = store.claim(worker="w", lease_seconds=60, job_id=new.id)
    assert job is not None
    return job


def at(store: Store, job: Job, account: str = "acme") -> AtAccount:
    return AtAccount(store, job, account, context.settings().queue)


def waits_for_approval(store: Store) -> Job:
    job = claimed(store)
    with pytest.raises(StandsStill) as caught:
        at(store, job).commit(Quoted(1.0, 2.0, 1_000_000), Caps(job=1.5))
    return store.record(
        job.id, Event.POLL_SCHEDULED, actor="w", fence=1, reason=Reason.APPROVAL, due_at=None,
        detail={"why": str(caught.value)},
    )  # fmt: skip


def test_an_approval_lets_a_job_go_on_at_its_quoted_price(yard: Store, capsys: pytest.CaptureFixture[str]) -> None:
    job = waits_for_approval(yard)
    assert run(["approve", job.id[:6]]) == 0
    said = capsys.readouterr()
    assert said.out == f"{job.id}  queued, approved up to $2.00; a dearer plan asks again\n"
    again = yard.claim(worker="w", lease_seconds=60, job_id=job.id)
    assert again is not None
    at(yard, again).commit(Quoted(1.0, 2.0), Caps(job=1.5))
    bill = yard.bills.get(job.id)
    assert bill is not None
    assert bill.approved_by == context.actor()


@pytest.mark.parametrize("reason", [Reason.DEPENDENCY, Reason.SLOT])
def test_only_what_waits_for_approval_can_be_approved(
    yard: Store, capsys: pytest.CaptureFixture[str], reason: Reason
) -> None:
    job = claimed(yard)
    yard.record(job.id, Event.POLL_SCHEDULED, actor="w", fence=1, reason=reason, due_at=None)
    assert run(["approve", job.id]) == 3
    assert f"it is waiting ({reason})" in capsys.readouterr().err
    assert yard.read.job(job.id).state == State.WAITING
    assert yard.bills.get(job.id) is None


def test_an_approval_of_nobody_is_not_found(yard: Store) -> None:
    assert run(["approve", "nobody"]) == 4


def spent(capsys: pytest.CaptureFixture[str], by: str) -> dict[str, dict[str, Any]]:
    assert run(["spend", "--by", by, "--json"]) == 0
    return {row["of"]: row for row in json.loads(capsys.readouterr().out)}


def committed(store: Store, quotes: Sequence[Quoted], account: str, run_id: str | None = None) -> list[Job]:
    jobs = [claimed(store, run_id) for _ in quotes]
    for job, quoted in zip(jobs, quotes, strict=True):
        at(store, job, account).commit(quoted, Caps())
    return jobs


def test_spending_is_summed_and_what_is_unknown_is_counted(yard: Store, capsys: pytest.CaptureFixture[str]) -> None:
    yard.submit([], actor="user:me", recipe=("run1", "agents", ""))
    first, *_ = committed(yard, [Quoted(1.0, 3.0), Quoted(2.0, 4.0)], "acme", "run1")
    [told_none] = committed(yard, [Quoted(None, None)], "other")
    at(yard, first).settle(Billed(10, 1.25))
    at(yard, told_none, "other").settle(Billed(10, None))
    by_provider = spent(capsys, "provider")
    acme, other = by_provider["acme"], by_provider["other"]
    assert (acme["jobs"], acme["quoted_low_usd"], acme["quoted_high_usd"], acme["billed_usd"]) == (2, 3.0, 7.0, 1.25)
    assert (acme["unbilled"], acme["spent_usd"]) == (1, 5.25)
    assert (other["quote_unknown"], other["bill_unknown"], other["spent_usd"]) == (1, 1, 0.0)
    assert set(spent(capsys, "recipe")) == {"agents", "(no recipe: finetune.hosted)"}
    [(month, row)] = spent(capsys, "month").items()
    assert (len(month), row["jobs"]) == (7, 3)


def test_the_table_of_spending_ends_with_the_sum_of_all(yard: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["spend"]) == 0
    assert "nothing was committed to yet" in capsys.readouterr().err
    committed(yard, [Quoted(1.0, 2.0), Quoted(None, None)], "acme")
    assert run(["spend"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].split()[:6] == ["all", "2", "2", "$1.00", "–", "$2.00"]
    assert "1 of 2 starts have no known quote" in said.err
    assert max(map(len, said.out.splitlines())) <= 100


def test_a_job_over_its_cap_says_which_and_how_to_go_on(yard: Store, capsys: pytest.CaptureFixture[str]) -> None:
    job = waits_for_approval(yard)
    assert run(["jobs", "explain", job.id]) == 0
    said = capsys.readouterr()
    assert "it waits for your approval: it may cost $2.00" in said.out
    assert "the job's cap is $1.50" in said.out
    assert "quoted $1.00 – $2.00 for 1,000,000 tokens at acme" in said.out
    assert "nothing is committed to: nothing is owed" in said.out
    assert f"tuneyard approve {job.id}" in said.err


def test_a_cancelled_run_and_its_retry_both_stand_in_what_was_spent(
    yard: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    [job] = committed(yard, [Quoted(1.0, 2.0, 1000)], "acme")
    memo = yard.memos.intend(job.id, "start", fence=1)
    yard.memos.remember(memo, "remote-1", fence=1)
    at(yard, job).settle(Billed(500, 0.75, is_estimate=True))
    yard.record(job.id, Event.CANCELLED, actor="w", fence=1, forget=("start",))
    yard.retry(job.id, actor="user:me")
    again = yard.claim(worker="w", lease_seconds=60, job_id=job.id)
    assert again is not None
    at(yard, again).commit(Quoted(1.0, 2.0, 1000), Caps())
    acme = spent(capsys, "provider")["acme"]
    assert (acme["jobs"], acme["starts"], acme["spent_usd"], acme["bill_estimated"]) == (1, 2, 2.75, 1)
    assert run(["spend"]) == 0
    said = capsys.readouterr()
    assert "1 of 2 bills are estimates" in said.err
    assert max(map(len, said.out.splitlines())) <= 100
    assert run(["jobs", "explain", job.id]) == 0
    shown = capsys.readouterr().out
    assert "start 1: billed about $0.75 for 500 tokens: an estimate" in shown
    assert "start 2: committed to" in shown


def test_what_is_known_of_a_cost_is_said_and_nothing_of_0_tokens(
    yard: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    [unknown, free] = committed(yard, [Quoted(None, None, 0), Quoted(0.0, 0.0, 5000)], "acme")
    for job in (unknown, free):
        at(yard, job).settle(Billed(0, None))
    shown = ""
    for job in (unknown, free):
        assert run(["jobs", "explain", job.id]) == 0
        shown += capsys.readouterr().out
    assert "no price is known at acme; its tokens are not counted" in shown
    assert "quoted $0.00 for 5,000 tokens at acme" in shown
    assert "the provider tells no price; against caps it counts $0.00, as quoted" in shown
    assert " 0 tokens" not in shown
