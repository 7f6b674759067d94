"""Bills: no cap is overrun by a race or a number that is none, and no bill is lost."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from queue_app.at_account import AtAccount
from queue_app.errors import StaleTransition, StandsStill
from queue_app.lifecycle import Cause, Event, Reason, State
from queue_app.store import Job, NewJob, Store
from queue_app.store.money import Billed, Caps, Quoted, dollars
from queue_app.store.tables import bills, jobs
from settings import QueueSettings

if TYPE_CHECKING:
    from queue_app.store import Bill

LIMITS = QueueSettings()
TWO = Quoted(1.0, 2.0, 1000)


def claimed(store: Store, job_id: str | None = None, *, run_id: str | None = None) -> Job:
    if job_id is None:
        new = NewJob(kind="finetune.hosted", queue="api", spec={}, run_id=run_id)
        store.submit(
            [new], actor="test", recipe=(run_id, "r", "") if run_id and not store.read.ls(run_id=run_id) else None
        )
        job_id = new.id
    job = store.claim(worker="w", lease_seconds=60, job_id=job_id)
    assert job is not None
    return job


def place(store: Store, job: Job | None = None) -> AtAccount:
    return AtAccount(store, job or claimed(store), "acme", LIMITS)


def start(here: AtAccount, *, answered: bool = True) -> str:
    """Begin the step that is paid for."""
    memo = here.store.memos.intend(here.job.id, "start", fence=here.job.attempt)
    here.store.memos.act(memo, fence=here.job.attempt)
    if answered:
        here.store.memos.remember(memo, f"remote of {memo.key}", fence=here.job.attempt)
    return memo.key


def end(here: AtAccount, event: Event, **more: Any) -> None:
    here.store.record(here.job.id, event, actor="w", fence=here.job.attempt, **more)


def waits(store: Store, job: Job, quoted: Quoted, caps: Caps) -> Job:
    """A job that waits for approval, as its runner leaves it."""
    with pytest.raises(StandsStill) as caught:
        place(store, job).commit(quoted, caps)
    assert caught.value.seconds is not None
    due = datetime.now(UTC) + timedelta(seconds=caught.value.seconds)
    changes: dict[str, Any] = {"reason": Reason.APPROVAL, "due_at": due, "detail": {"why": str(caught.value)}}
    return store.record(job.id, Event.POLL_SCHEDULED, actor="w", fence=job.attempt, **changes)


def bill(store: Store, job_id: str) -> Bill:
    found = store.bills.get(job_id)
    assert found is not None
    return found


def is_due(store: Store, job: Job) -> bool:
    due = store.read.job(job.id).due_at
    return due is not None and due <= datetime.now(UTC)


# -- caps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caps", [Caps(recipe=6.0), Caps(account=6.0), Caps(day=6.0)])
def test_of_many_that_commit_at_once_no_more_pass_than_the_cap_holds(store: Store, caps: Caps) -> None:
    held = [place(store, claimed(store, run_id="run1")) for _ in range(8)]
    together, passed = threading.Barrier(len(held)), []

    def commit(here: AtAccount) -> None:
        together.wait(30)
        try:
            here.commit(TWO, caps)
        except StandsStill:
            return
        passed.append(here.job.id)

    threads = [threading.Thread(target=commit, args=(here,)) for here in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(passed) == 3


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -5.0])
def test_a_price_that_is_no_sum_of_money_passes_no_cap_and_makes_no_room(store: Store, wrong: float) -> None:
    with pytest.raises(StandsStill, match="what it costs is not known"):
        place(store).commit(Quoted(wrong, wrong), Caps(account=3.0))
    first = place(store)
    first.commit(TWO, Caps(account=3.0))
    start(first)
    first.settle(Billed(1000, wrong))
    with pytest.raises(StandsStill, match=r"\$2.00 are spent"):
        place(store).commit(TWO, Caps(account=3.0))


def test_a_cap_that_is_no_number_lets_nothing_pass(store: Store) -> None:
    with pytest.raises(StandsStill):
        place(store).commit(TWO, Caps(account=float("nan")))


def test_what_adds_up_to_the_cap_fits_although_binary_fractions_do_not(store: Store) -> None:
    for _ in range(3):
        place(store).commit(Quoted(0.1, 0.1), Caps(account=0.3))
    with pytest.raises(StandsStill):
        place(store).commit(Quoted(0.0001, 0.0001), Caps(account=0.3))


def test_a_sum_over_a_cap_never_reads_like_the_cap(store: Store) -> None:
    place(store).commit(Quoted(0.05, 0.0512), Caps(account=0.07))
    with pytest.raises(StandsStill) as caught:
        place(store).commit(Quoted(0.02, 0.0212), Caps(account=0.07))
    assert "it may cost $0.0212, $0.0512 are spent or committed" in str(caught.value)
    assert "cap is $0.0700" in str(caught.value)


def test_amounts_have_the_decimals_that_tell_them_apart() -> None:
    assert dollars(5.0) == ["$5.00"]
    assert dollars(0.0) == ["$0.00"]
    assert dollars(0.006) == ["$0.0060"]
    assert dollars(0.00002) == ["$0.000020"]
    assert dollars(0.07, 0.0712) == ["$0.0700", "$0.0712"]
    assert dollars(1234.5, 2.0) == ["$1,234.50", "$2.00"]


def test_a_cap_of_nothing_is_named_before_all_others(store: Store) -> None:
    with pytest.raises(Exception, match=r"the account acme's cap is \$0.00; raise it"):
        place(store).commit(TWO, Caps(job=1.0, account=0.0))


def test_what_waits_for_its_slot_counts_on_whichever_day_it_may_begin(store: Store) -> None:
    first = place(store)
    first.commit(TWO, Caps(day=3.0))
    age(store, first.job.id)
    with pytest.raises(StandsStill, match="daily cap"):
        place(store).commit(TWO, Caps(day=3.0))
    start(first)  # on the day before
    place(store).commit(TWO, Caps(day=3.0))


def test_a_day_is_that_of_the_start_and_not_of_the_first_attempt(store: Store) -> None:
    first = place(store)
    first.commit(TWO, Caps(day=3.0))
    age(store, first.job.id)
    first.commit(TWO, Caps(day=3.0))  # its slot has come
    start(first)
    with pytest.raises(StandsStill, match="daily cap"):
        place(store).commit(TWO, Caps(day=3.0))


def age(store: Store, job_id: str) -> None:
    with store.database.writing() as connection:
        yesterday = datetime.now(UTC) - timedelta(hours=25)
        connection.execute(update(bills).where(bills.c.job_id == job_id).values(committed_at=yesterday))


def test_a_cap_that_was_lowered_meets_what_has_not_begun(store: Store) -> None:
    first = place(store)
    first.commit(TWO, Caps(account=5.0))
    with pytest.raises(StandsStill):
        first.commit(TWO, Caps(account=1.0))
    assert bill(store, first.job.id).committed_at is None
    second = place(store)
    second.commit(TWO, Caps(account=5.0))
    start(second, answered=False)
    second.commit(TWO, Caps(account=1.0))  # something may be there: it is owed whatever the caps say
    assert bill(store, second.job.id).committed_at is not None


# -- taken back exactly when nothing was created ----------------------------------------------------------------------


@pytest.mark.parametrize("event", [Event.FAILED, Event.CANCELLED])
def test_a_job_that_ends_before_its_start_owes_nothing(store: Store, event: Event) -> None:
    here = place(store)
    here.commit(TWO, Caps(account=2.0))
    end(here, event)
    assert bill(store, here.job.id).committed_at is None
    place(store).commit(TWO, Caps(account=2.0))


def test_a_job_whose_worker_died_too_often_before_its_start_owes_nothing(store: Store) -> None:
    here = place(store)
    here.commit(TWO, Caps())
    with store.database.writing() as connection:
        late = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(update(jobs).where(jobs.c.id == here.job.id).values(lease_until=late))
    [lost] = store.expire_leases(max_failures=1, actor="sweeper")
    assert (lost.state, lost.cause) == (State.FAILED, Cause.LOST)
    assert bill(store, here.job.id).committed_at is None


def test_a_create_that_was_refused_owes_nothing_and_one_without_an_answer_does(store: Store) -> None:
    refused, in_doubt = place(store), place(store)
    for here in (refused, in_doubt):
        here.commit(TWO, Caps())
        start(here, answered=False)
    memo = store.memos.get(refused.job.id, "start")
    assert memo is not None
    store.memos.refuse(memo, fence=1)
    for here in (refused, in_doubt):
        end(here, Event.FAILED, cause=Cause.PROVIDER)
    assert bill(store, refused.job.id).committed_at is None
    assert bill(store, in_doubt.job.id).committed_at is not None


def test_what_is_forgotten_without_a_word_of_its_price_is_billed_as_quoted(store: Store) -> None:
    here = place(store)
    here.commit(TWO, Caps())
    start(here)
    end(here, Event.CANCELLED, forget=("start",))
    kept = bill(store, here.job.id)
    assert (kept.billed_at is not None, kept.billed_usd, kept.is_estimate) == (True, None, True)
    with pytest.raises(StandsStill, match=r"\$2.00 are spent"):
        place(store).commit(TWO, Caps(account=3.0))


def test_who_lost_the_lease_neither_releases_nor_settles(store: Store) -> None:
    here = place(store)
    here.commit(TWO, Caps())
    start(here)
    end(here, Event.RELEASED)
    claimed(store, here.job.id)
    for write in (here.release, lambda: here.settle(Billed(1, 9.0))):
        with pytest.raises(StaleTransition):
            write()
    assert bill(store, here.job.id).billed_at is None
    assert bill(store, here.job.id).committed_at is not None


# -- one bill a start -------------------------------------------------------------------------------------------------


def test_a_start_that_was_cancelled_and_the_one_of_the_retry_have_a_bill_each(store: Store) -> None:
    here = place(store)
    here.commit(TWO, Caps(job=5.0))
    key = start(here)
    here.settle(Billed(400, 0.75, is_estimate=True))
    end(here, Event.CANCELLED, forget=("start",))
    store.retry(here.job.id, actor="test")
    again = place(store, claimed(store, here.job.id))
    again.commit(Quoted(1.5, 2.5), Caps(job=5.0))
    assert start(again) == f"{key}-1"
    again.settle(Billed(1000, 2.25))
    first, second = store.bills.of(here.job.id)
    assert [first.key, second.key] == [key, f"{key}-1"]
    assert (first.billed_usd, first.is_estimate, second.billed_usd, second.is_estimate) == (0.75, True, 2.25, False)
    assert len(store.bills.ls()) == 2
    with pytest.raises(StandsStill, match=r"\$3.00 are spent or committed"):
        place(store).commit(TWO, Caps(account=4.0))


def test_what_a_job_spent_before_its_retry_counts_against_its_own_cap(store: Store) -> None:
    here = place(store)
    here.commit(TWO, Caps(job=3.0))
    start(here)
    here.settle(Billed(None, 2.0))
    end(here, Event.CANCELLED, forget=("start",))
    store.retry(here.job.id, actor="test")
    with pytest.raises(StandsStill, match=r"\$2.00 are spent or committed, the job's cap is \$3.00"):
        place(store, claimed(store, here.job.id)).commit(TWO, Caps(job=3.0))


def test_what_is_adopted_is_committed_to_in_that_moment(store: Store) -> None:
    here = place(store)
    here.commit(TWO, Caps())
    key = start(here, answered=False)
    memo = store.memos.get(here.job.id, "start")
    assert memo is not None
    store.memos.refuse(memo, fence=1)
    end(here, Event.FAILED, cause=Cause.PROVIDER)
    assert bill(store, here.job.id).committed_at is None
    assert store.bills.adopt(store.read.job(here.job.id), "acme", key, "remote-1")
    adopted = bill(store, here.job.id)
    assert (adopted.committed_at is not None, adopted.quoted_high_usd) == (True, 2.0)
    assert not store.bills.adopt(store.read.job(here.job.id), "acme", key, "remote-2")
    with pytest.raises(StandsStill):
        place(store).commit(TWO, Caps(account=3.0))


def test_nothing_is_adopted_beside_what_may_have_been_started_under_another_key(store: Store) -> None:
    here = place(store)
    here.commit(TWO, Caps())
    start(here)
    here.settle(Billed(None, 1.0))
    end(here, Event.CANCELLED, forget=("start",))
    store.retry(here.job.id, actor="test")
    again = place(store, claimed(store, here.job.id))
    again.commit(TWO, Caps())
    start(again, answered=False)
    end(again, Event.RELEASED)
    assert not store.bills.adopt(store.read.job(here.job.id), "acme", f"ty-{here.job.id}", "remote-1")


# -- approval ---------------------------------------------------------------------------------------------------------


def test_an_approval_is_up_to_the_sum_that_was_shown(store: Store) -> None:
    job = waits(store, claimed(store), TWO, Caps(account=1.0))
    store.bills.approve(job.id, actor="user:me")
    assert bill(store, job.id).approved_usd == 2.0
    again = claimed(store, job.id)
    with pytest.raises(StandsStill, match=r"it may cost \$2.50"):
        place(store, again).commit(Quoted(1.0, 2.5), Caps(account=1.0))
    place(store, again).commit(Quoted(1.0, 1.5), Caps(account=1.0))


def test_an_approval_of_a_price_that_nobody_knew_is_none_of_one_that_is_known(store: Store) -> None:
    job = waits(store, claimed(store), Quoted(None, None), Caps(account=1.0))
    store.bills.approve(job.id, actor="user:me")
    again = claimed(store, job.id)
    with pytest.raises(StandsStill, match=r"it may cost \$50.00"):
        place(store, again).commit(Quoted(40.0, 50.0), Caps(account=1.0))
    place(store, again).commit(Quoted(None, None), Caps(account=1.0))


# -- room -------------------------------------------------------------------------------------------------------------


def test_who_waits_for_room_is_called_when_there_is_some_and_nobody_else(store: Store) -> None:
    caps = Caps(account=5.0)
    first = place(store)
    first.commit(Quoted(4.0, 5.0), caps)
    line = [waits(store, claimed(store), TWO, caps) for _ in range(4)]
    other = AtAccount(store, claimed(store), "other", LIMITS)
    other.commit(TWO, Caps(account=2.0))
    end(other, Event.FAILED, cause=Cause.USER)
    assert [is_due(store, job) for job in line] == [False] * 4
    end(first, Event.FAILED, cause=Cause.USER)
    assert [is_due(store, job) for job in line] == [True, True, False, False]


def test_a_bill_that_is_smaller_than_its_quote_makes_room(store: Store) -> None:
    caps = Caps(account=5.0)
    first = place(store)
    first.commit(Quoted(4.0, 5.0), caps)
    waiting = waits(store, claimed(store), TWO, caps)
    start(first)
    first.settle(Billed(None, 3.0))
    assert is_due(store, waiting)
    place(store, claimed(store, waiting.id)).commit(TWO, caps)


def test_a_run_calls_its_own_jobs_at_whichever_account(store: Store) -> None:
    caps = Caps(recipe=2.0)
    first = place(store, claimed(store, run_id="run1"))
    first.commit(TWO, caps)
    elsewhere = claimed(store, run_id="run1")
    with pytest.raises(StandsStill):
        AtAccount(store, elsewhere, "other", LIMITS).commit(TWO, caps)
    later = datetime.now(UTC) + timedelta(hours=1)
    store.record(
        elsewhere.id, Event.POLL_SCHEDULED, actor="w", fence=1, reason=Reason.APPROVAL, due_at=later, account="other"
    )
    end(first, Event.FAILED, cause=Cause.USER)
    assert is_due(store, elsewhere)


def test_a_cap_that_was_raised_is_heard_of_when_the_account_is_resumed(store: Store) -> None:
    job = waits(store, claimed(store), TWO, Caps(account=1.0))
    assert not is_due(store, job)
    assert store.accounts.resume("acme") == 1
    assert is_due(store, job)
