"""A job at an account: left alone while it does not answer, held back by caps, and never counted against the job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from queue_app.at_account import AtAccount, server_of
from queue_app.errors import AccountPaused, Permanent, SlotRefused, StandsStill, Throttled, Transient, Unsettled
from queue_app.lifecycle import Event, Reason, State
from queue_app.store import NewJob, Store
from queue_app.store.money import Billed, Caps, Quoted
from settings import ProviderSettings, QueueSettings

if TYPE_CHECKING:
    from queue_app.store import Job

LIMITS = QueueSettings(backoff_seconds=10.0, backoff_max_seconds=40.0)
NO_CAPS = Caps()


def claimed(store: Store, *, run_id: str | None = None) -> Job:
    new = NewJob(kind="finetune.hosted", queue="api", spec={})
    recipe = (run_id, "r", "steps:") if run_id and not store.read.ls(run_id=run_id) else None
    store.submit([NewJob(new.kind, new.queue, {}, id=new.id, run_id=run_id)], actor="test", recipe=recipe)
    job = store.claim(worker="w", lease_seconds=60, job_id=new.id)
    assert job is not None
    return job


def place(store: Store, job: Job | None = None, limits: QueueSettings = LIMITS) -> AtAccount:
    return AtAccount(store, job or claimed(store), "acme", limits)


def fail(here: AtAccount, *, undone: bool = False) -> None:
    with here.asked():
        error = Transient("acme: no answer")
        error.undone = undone
        raise error


def test_the_third_answer_in_a_row_that_does_not_come_pauses_the_account_and_not_the_job(store: Store) -> None:
    here = place(store)
    for _ in range(2):
        with pytest.raises(Transient, match="no answer"):
            fail(here)
    with pytest.raises(AccountPaused, match="no answer") as caught:
        fail(here)
    assert caught.value.reason == Reason.BACKOFF
    account = store.accounts.get("acme")
    assert (account.failures, account.paused_why) == (3, "acme: no answer")
    with pytest.raises(AccountPaused), here.asked():
        pytest.fail("nobody may ask it now")


def test_who_waits_for_a_slot_or_for_another_job_has_had_its_answer(store: Store) -> None:
    here = place(store)
    for error in (SlotRefused("acme: full"), Unsettled("job x is sending the same file", 2.0)) * 3:
        with pytest.raises(type(error)), here.asked():
            raise error
    assert store.accounts.get("acme").failures == 0


def started(store: Store, pool: str, *, a_day: int) -> None:
    """Start a remote job there."""
    here = place(store)
    here.commit(Quoted(0.0, 0.0), NO_CAPS)
    here.take_slot(pool, size=None, a_day=a_day)
    here.begin_start(pool, a_day)
    memo = store.memos.intend(here.job.id, "start", fence=1)
    store.memos.act(memo, fence=1)
    store.memos.remember(memo, "remote-1", fence=1)


def test_what_a_pool_takes_in_a_day_does_not_hold_back_the_account(store: Store) -> None:
    started(store, "acme/m", a_day=1)
    here = place(store)
    with pytest.raises(AccountPaused), here.asked():
        here.take_slot("acme/m", size=None, a_day=1)
    with here.asked():  # the running jobs are looked at all the same
        pass


def test_a_pool_that_takes_none_says_so_at_once(store: Store) -> None:
    with pytest.raises(Permanent, match="takes no jobs: 0 a day are allowed there; allow more, then"):
        place(store).take_slot("acme/m", size=None, a_day=0)


def test_a_file_that_the_account_had_trouble_with_is_sent_anew(store: Store) -> None:
    here = place(store)
    memo = store.memos.intend(here.job.id, "upload", fence=1)
    store.memos.remember(memo, {"file": here.send_once("d1", lambda: "file-1"), "digest": "d1"}, fence=1)
    here.forget_sent_by(("upload", "upload-holdout"))
    assert here.send_once("d1", lambda: "file-2") == "file-2"


def test_an_answer_ends_the_pause(store: Store) -> None:
    here = place(store)
    store.accounts.failed("acme", "before", pause_seconds=None)
    with here.asked():
        pass
    assert store.accounts.get("acme").failures == 0


def test_a_refusal_is_an_answer(store: Store) -> None:
    here = place(store)
    for _ in range(5):
        with pytest.raises(Transient):
            fail(here, undone=True)
    assert store.accounts.get("acme").failures == 0


def test_the_pause_doubles_up_to_the_longest(store: Store) -> None:
    here = place(store)
    pauses = []
    for number in range(6):
        with pytest.raises(Transient) as caught:
            fail(here)
        if number >= 2:
            pauses.append(caught.value.retry_after)
        store.accounts.pause("acme", "over", datetime.now(UTC) - timedelta(seconds=1), Reason.BACKOFF)
    assert [
        pause is not None and low <= pause <= high
        for pause, (low, high) in zip(pauses, [(8, 12), (16, 24), (32, 48), (32, 48)], strict=True)
    ] == [True] * 4


def test_an_outage_that_lasts_costs_the_jobs_their_retries(store: Store) -> None:
    here = place(store, limits=LIMITS.model_copy(update={"outage_hours": 0.0}))
    for _ in range(4):
        with pytest.raises(Transient) as caught:
            fail(here)
        assert not isinstance(caught.value, AccountPaused)
        store.accounts.pause("acme", "over", datetime.now(UTC) - timedelta(seconds=1), Reason.BACKOFF)


def test_a_balance_that_is_used_up_makes_every_job_of_the_account_wait(store: Store) -> None:
    with pytest.raises(AccountPaused), place(store).asked():
        raise AccountPaused("acme: out of money")
    other = place(store)
    with pytest.raises(AccountPaused, match="out of money") as caught, other.asked():
        pytest.fail("nobody may ask it now")
    assert caught.value.reason == Reason.BUDGET
    assert caught.value.retry_after is not None
    assert store.accounts.resume("acme") == 0
    with other.asked():
        pass


# -- money ------------------------------------------------------------------------------------------------------------


def test_what_fits_its_caps_is_committed_once(store: Store) -> None:
    here = place(store)
    here.commit(Quoted(1.0, 2.0, 1000), Caps(account=2.0))
    here.commit(Quoted(1.0, 2.0, 1000), Caps(account=2.0))
    bill = store.bills.get(here.job.id)
    assert bill is not None
    assert (bill.quoted_low_usd, bill.quoted_high_usd, bill.account) == (1.0, 2.0, "acme")
    assert bill.committed_at is not None


@pytest.mark.parametrize(
    ("caps", "words"),
    [
        (Caps(account=3.0), "the account acme's cap is \\$3.00"),
        (Caps(day=3.0), "the account acme's daily cap is \\$3.00"),
        (Caps(recipe=3.0), "the recipe's cap is \\$3.00"),
    ],
)
def test_what_would_break_a_cap_waits_for_approval(store: Store, caps: Caps, words: str) -> None:
    place(store, claimed(store, run_id="run1")).commit(Quoted(1.0, 2.0), caps)
    second = place(store, claimed(store, run_id="run1"))
    with pytest.raises(StandsStill, match=words) as caught:
        second.commit(Quoted(1.0, 2.0), caps)
    assert caught.value.reason == Reason.APPROVAL


def test_a_price_that_nobody_knows_breaks_every_cap(store: Store) -> None:
    with pytest.raises(StandsStill, match="what it costs is not known"):
        place(store).commit(Quoted(None, None), Caps(account=100.0))
    place(store).commit(Quoted(None, None), NO_CAPS)


def test_a_cap_of_nothing_lets_only_what_is_free_pass(store: Store) -> None:
    place(store).commit(Quoted(0.0, 0.0), Caps(account=0.0))
    with pytest.raises(Permanent, match="cap is \\$0.00; raise it"):
        place(store).commit(Quoted(0.1, 0.2), Caps(account=0.0))


def test_what_was_approved_goes_on_over_its_caps(store: Store) -> None:
    here = place(store)
    with pytest.raises(StandsStill):
        here.commit(Quoted(1.0, 2.0), Caps(account=1.0))
    store.record(here.job.id, "poll_scheduled", actor="w", fence=1, reason=Reason.APPROVAL, due_at=None)  # type: ignore[arg-type]
    job = store.bills.approve(here.job.id, actor="user:me")
    assert job.state == State.QUEUED
    again = store.claim(worker="w", lease_seconds=60, job_id=here.job.id)
    assert again is not None
    place(store, again).commit(Quoted(1.0, 2.0), Caps(account=1.0))
    bill = store.bills.get(here.job.id)
    assert bill is not None
    assert bill.approved_by == "user:me"


def test_what_was_billed_takes_the_place_of_what_was_quoted(store: Store) -> None:
    first = place(store)
    first.commit(Quoted(1.0, 5.0), Caps(account=6.0))
    first.settle(Billed(1000, 1.5))
    place(store).commit(Quoted(1.0, 4.0), Caps(account=6.0))
    with pytest.raises(StandsStill, match=r"\$5.50 are spent or committed"):
        place(store).commit(Quoted(1.0, 4.0), Caps(account=6.0))


def test_what_came_to_nothing_is_owed_no_more(store: Store) -> None:
    first = place(store)
    first.commit(Quoted(1.0, 5.0), Caps(account=6.0))
    first.release()
    place(store).commit(Quoted(1.0, 5.0), Caps(account=6.0))


def test_no_more_start_in_a_day_than_the_provider_takes(store: Store) -> None:
    for _ in range(2):
        started(store, "acme/m", a_day=2)
    third = place(store)
    with pytest.raises(AccountPaused, match="takes 2 jobs a day; the next may start at") as caught:
        third.take_slot("acme/m", size=None, a_day=2)
    assert caught.value.reason == Reason.SLOT
    assert caught.value.retry_after is not None
    assert 86000 < caught.value.retry_after <= 86400


def test_a_start_is_none_of_the_others_that_a_day_allows(store: Store) -> None:
    here = place(store)
    here.commit(Quoted(0.0, 0.0), NO_CAPS)
    for _ in range(2):  # it is sent once more, after an answer that was lost
        here.take_slot("acme/m", size=None, a_day=1)
        here.begin_start("acme/m", 1)


def test_two_that_were_let_in_at_once_do_not_both_start_on_a_day_that_allows_one(store: Store) -> None:
    first, second = place(store), place(store)
    for here in (first, second):
        here.commit(Quoted(0.0, 0.0), NO_CAPS)
        here.take_slot("acme/m", size=None, a_day=1)
    first.begin_start("acme/m", 1)
    with pytest.raises(AccountPaused, match="takes 1 jobs a day"):
        second.begin_start("acme/m", 1)


def test_a_start_that_was_refused_leaves_the_day_to_others(store: Store) -> None:
    first = place(store)
    first.commit(Quoted(0.0, 0.0), NO_CAPS)
    first.begin_start("acme/m", 1)
    first.refuse_start()
    started(store, "acme/m", a_day=1)


def test_what_waits_for_a_person_is_ended_by_no_answer_and_no_shorter_pause(store: Store) -> None:
    error = AccountPaused("acme: a job ended for want of money")
    error.until_resumed = True
    with pytest.raises(AccountPaused), place(store).asked():
        raise error
    store.accounts.pause("acme", "no answer", datetime.now(UTC), Reason.BACKOFF)
    store.accounts.answered("acme")
    with pytest.raises(AccountPaused, match="for want of money") as caught, place(store).asked():
        pytest.fail("nobody may ask it now")
    assert (caught.value.until_resumed, caught.value.reason) == (True, Reason.BUDGET)
    store.accounts.resume("acme")
    with place(store).asked():
        pass


def test_the_same_file_is_sent_once(store: Store) -> None:
    first, second = place(store), place(store)
    assert first.send_once("d1", lambda: "file-1") == "file-1"
    assert second.send_once("d1", lambda: pytest.fail("it is there")) == "file-1"
    store.uploads.begin("acme", "d2", first.job.id)
    with pytest.raises(Unsettled, match="is sending the same file"):
        second.send_once("d2", lambda: pytest.fail("another one is at it"))


# -- slots that are left, files of another server ---------------------------------------------------------------------


def test_who_is_given_a_slot_that_is_left_is_called_at_once(store: Store) -> None:
    called: list[str] = []
    holder = AtAccount(store, claimed(store), "acme", LIMITS, call=called.append)
    holder.take_slot("acme", size=1, source="the settings")
    second = place(store)
    with pytest.raises(StandsStill):
        second.take_slot("acme", size=1, source="the settings")
    store.record(second.job.id, Event.POLL_SCHEDULED, actor="w", fence=1, reason=Reason.SLOT, due_at=None)
    holder.leave_slot()
    holder.leave_slot()
    assert called == ["acme"]
    assert store.read.job(second.job.id).has_slot


def test_a_limit_that_is_changed_is_heard_at_the_next_look_of_any_job(store: Store) -> None:
    holder = place(store)
    holder.take_slot("acme", size=1, source="the settings")
    second = place(store)
    with pytest.raises(StandsStill):
        second.take_slot("acme", size=1, source="the settings")
    store.record(second.job.id, Event.POLL_SCHEDULED, actor="w", fence=1, reason=Reason.SLOT, due_at=None)
    holder.hold_slot("acme", size=2, source="the settings")
    assert store.slots.give(actor="sweeper") == 1
    assert store.read.job(second.job.id).has_slot


def test_who_is_told_when_to_come_back_has_had_its_answer(store: Store) -> None:
    here = place(store)
    for _ in range(3):
        with pytest.raises(Throttled), here.asked():
            raise Throttled("acme: too many requests", retry_after=5.0)
    assert store.accounts.get("acme").failures == 0


def test_another_server_does_not_get_the_files_of_the_one_before(store: Store) -> None:
    vendor, own = server_of(ProviderSettings()), server_of(ProviderSettings(base_url="https://tunes.test/canary/v1"))
    assert (vendor, "canary" in own) == ("", False)
    files = iter(("file-1", "file-2", "file-3"))
    places = [AtAccount(store, claimed(store), "acme", LIMITS, server) for server in (vendor, own, vendor)]
    assert [place.send_once("d1", lambda: next(files)) for place in places] == ["file-1", "file-2", "file-1"]
    assert server_of(ProviderSettings(organization="a")) != server_of(ProviderSettings(organization="b"))


def test_what_may_run_there_is_looked_at_while_the_balance_is_used_up(store: Store) -> None:
    here = place(store)
    memo = store.memos.intend(here.job.id, "start", fence=1)
    store.memos.act(memo, fence=1)
    assert here.may_have_begun()
    store.accounts.pause("acme", "out of money", datetime.now(UTC) + timedelta(hours=1), Reason.BUDGET)
    with here.asked():
        pass
    store.memos.refuse(memo, fence=1)
    assert not here.may_have_begun()
    with pytest.raises(AccountPaused), here.asked():
        pytest.fail("nobody may ask it now")
