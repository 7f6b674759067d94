"""Slots: never more than the pool has, none lost, the first served first; and accounts that are left alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from queue_app.errors import StaleTransition
from queue_app.lifecycle import Event, Reason, State
from queue_app.store import Database, NewJob, Store
from queue_app.store.slots import Refused, SlotRules
from queue_app.store.tables import jobs, pools

if TYPE_CHECKING:
    from pathlib import Path

    from queue_app.store import Job

ACTOR = "test"


def submitted(store: Store, number: int, *, priority: int = 0) -> list[str]:
    new = [NewJob(kind="finetune.hosted", queue="api", spec={}, priority=priority) for _ in range(number)]
    store.submit(new, actor=ACTOR)
    return [job.id for job in new]


def claimed(store: Store, job_id: str) -> Job:
    job = store.claim(worker="w", lease_seconds=60, job_id=job_id)
    assert job is not None
    return job


def asked(store: Store, job_id: str, *, size: int | None) -> bool:
    """Claim a job and ask for a slot; one that gets none waits for it."""
    job = claimed(store, job_id)
    store.slots.resize("acme", size, "the test")
    if store.slots.take(job_id, "acme", fence=job.attempt):
        return True
    store.record(job_id, Event.POLL_SCHEDULED, actor="w", fence=job.attempt, reason=Reason.SLOT, due_at=None)
    return False


def holders(store: Store) -> set[str]:
    with store.database.reading() as connection:
        return set(connection.execute(select(jobs.c.id).where(jobs.c.has_slot)).scalars())


def test_no_more_take_a_slot_than_there_are_and_the_others_wait_without_a_worker(store: Store) -> None:
    ids = submitted(store, 5)
    assert [asked(store, job_id, size=2) for job_id in ids] == [True, True, False, False, False]
    waiting = [store.read.job(job_id) for job_id in ids[2:]]
    assert {(job.state, job.reason, job.due_at) for job in waiting} == {(State.WAITING, Reason.SLOT, None)}
    assert store.claim(worker="w", lease_seconds=60, queue="api") is None


def test_who_ends_gives_its_slot_to_the_first_in_the_same_transaction(store: Store) -> None:
    ids = submitted(store, 4)
    for job_id in ids:
        asked(store, job_id, size=2)
    store.record(ids[0], Event.SUCCEEDED, actor="w", fence=1, result={})
    assert holders(store) == {ids[1], ids[2]}
    woken = store.read.job(ids[2])
    assert (woken.state, woken.reason) == (State.QUEUED, None)
    assert woken.due_at is not None


def test_a_slot_is_held_through_polls_faults_and_a_lost_worker(store: Store) -> None:
    [job_id, other] = submitted(store, 2)
    assert asked(store, job_id, size=1)
    later = datetime.now(UTC) + timedelta(seconds=60)
    store.record(job_id, Event.POLL_SCHEDULED, actor="w", fence=1, reason=Reason.REMOTE, due_at=later)
    assert not asked(store, other, size=1)
    with store.database.writing() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(due_at=datetime.now(UTC)))
    claimed(store, job_id)
    with store.database.writing() as connection:
        long_ago = datetime.now(UTC) - timedelta(seconds=60)
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(lease_until=long_ago))
    store.expire_leases(max_failures=3, actor=ACTOR)
    store.slots.give(actor=ACTOR)
    assert holders(store) == {job_id}
    assert asked(store, job_id, size=1)  # it has it already


def test_higher_priority_goes_first_and_then_who_was_submitted_first(store: Store) -> None:
    [holder] = submitted(store, 1)
    assert asked(store, holder, size=1)
    low, high = submitted(store, 2), submitted(store, 2, priority=5)
    for job_id in (*low, *reversed(high)):
        asked(store, job_id, size=1)
    served = []
    current = holder
    for _ in range(4):
        store.record(current, Event.CANCELLED, actor=ACTOR)
        [current] = holders(store)
        served.append(current)
    assert served == [*high, *low]


def test_who_waits_long_enough_goes_before_a_higher_priority(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/yard.db")
    database.migrate()
    store = Store(database, SlotRules(ageing_seconds=60.0))
    [holder] = submitted(store, 1)
    asked(store, holder, size=1)
    [old] = submitted(store, 1)
    with store.database.writing() as connection:
        earlier = datetime.now(UTC) - timedelta(seconds=60 * 6 + 1)
        connection.execute(update(jobs).where(jobs.c.id == old).values(submitted_at=earlier))
    [urgent] = submitted(store, 1, priority=5)
    for job_id in (urgent, old):
        asked(store, job_id, size=1)
    store.record(holder, Event.FAILED, actor="w", fence=1)
    assert holders(store) == {old}


def test_nobody_overtakes_those_who_wait(store: Store) -> None:
    first, second, third = submitted(store, 3)
    assert asked(store, first, size=1)
    assert not asked(store, second, size=1)
    with store.database.writing() as connection:  # the slot is free, and not given yet
        connection.execute(update(jobs).where(jobs.c.id == first).values(has_slot=False))
    assert not asked(store, third, size=1)
    assert holders(store) == {second}


def test_a_refusal_lowers_what_is_believed_until_one_more_fits(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/yard.db")
    database.migrate()
    store = Store(database, SlotRules(probe_seconds=0.0))
    ids = submitted(store, 4)
    assert [asked(store, job_id, size=None) for job_id in ids[:3]] == [True, True, True]
    slow = Refused(pause_seconds=3600.0)
    changes: dict[str, Any] = {"reason": Reason.SLOT, "due_at": None, "has_slot": False}
    store.record(ids[2], Event.POLL_SCHEDULED, actor="w", fence=1, refused=slow, **changes)
    assert holders(store) == {ids[0], ids[1]}
    assert not asked(store, ids[3], size=None)
    assert store.slots.give(actor=ACTOR) == 0
    with store.database.writing() as connection:
        connection.execute(update(pools).values(probe_at=datetime.now(UTC)))
    assert store.slots.give(actor=ACTOR) >= 1
    assert ids[2] in holders(store)
    assert store.read.job(ids[2]).failures == 0


def test_a_pool_whose_every_slot_is_foreign_is_tried_again(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/yard.db")
    database.migrate()
    store = Store(database, SlotRules(probe_seconds=3600.0))
    [job_id] = submitted(store, 1)
    assert asked(store, job_id, size=2)
    changes: dict[str, Any] = {"reason": Reason.SLOT, "due_at": None, "has_slot": False}
    store.record(job_id, Event.POLL_SCHEDULED, actor="w", fence=1, refused=Refused(None), **changes)
    assert store.slots.give(actor=ACTOR) == 0
    with store.database.writing() as connection:
        connection.execute(update(pools).values(probe_at=datetime.now(UTC)))
    assert store.slots.give(actor=ACTOR) == 1


def test_one_that_was_cancelled_while_it_waited_takes_no_slot(store: Store) -> None:
    first, second, third = submitted(store, 3)
    for job_id in (first, second, third):
        asked(store, job_id, size=1)
    store.cancel(second, actor=ACTOR)
    job = claimed(store, second)  # it is called once more, to take back what it holds
    store.record(second, Event.CANCELLED, actor="w", fence=job.attempt)
    store.record(first, Event.SUCCEEDED, actor="w", fence=1, result={})
    assert holders(store) == {third}


def test_who_lost_the_lease_takes_no_slot(store: Store) -> None:
    [job_id] = submitted(store, 1)
    job = claimed(store, job_id)
    with pytest.raises(StaleTransition):
        store.slots.take(job_id, "acme", fence=job.attempt - 1)


def test_many_that_ask_at_once_take_as_many_as_there_are(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/yard.db"
    Database(url).migrate()
    ids = submitted(Store(Database(url)), 12)
    with ThreadPoolExecutor(6) as pool:
        taken = list(pool.map(lambda job_id: asked(Store(Database(url)), job_id, size=5), ids))
    assert sum(taken) == 5


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["ask", "end", "refuse", "give", "size"]), max_size=25), st.integers(1, 4))
def test_whatever_happens_no_pool_is_overfull_and_nobody_is_forgotten(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], size: int
) -> None:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('yard')}/yard.db")
    database.migrate()
    store = Store(database, SlotRules(probe_seconds=0.0))
    waiting: list[str] = []
    for step in steps:
        held = sorted(holders(store))
        if step == "ask":
            [job_id] = submitted(store, 1)
            if not asked(store, job_id, size=size):
                waiting.append(job_id)
        elif step == "end" and held:
            store.record(held[0], Event.CANCELLED, actor=ACTOR)
        elif step == "refuse" and held:
            job = store.read.job(held[0])
            if job.state == State.RUNNING:
                changes: dict[str, Any] = {"reason": Reason.SLOT, "due_at": None, "has_slot": False}
                store.record(job.id, Event.POLL_SCHEDULED, actor="w", refused=Refused(0.0), **changes)
        elif step == "give":
            store.slots.give(actor=ACTOR)
        assert len(holders(store)) <= size
    for _ in range(2 * len(steps) + 2):  # everybody who waits is served in the end
        store.slots.give(actor=ACTOR)
        for job_id in holders(store):
            store.record(job_id, Event.CANCELLED, actor=ACTOR)
    assert not [job for job in store.read.ls(states=[State.WAITING])]


# -- accounts -------------------------------------------------------------------------------------------------------


def test_one_of_many_looks_at_an_account_s_jobs(store: Store) -> None:
    assert [store.accounts.begin_look("acme", every_seconds=60) for _ in range(3)] == [True, False, False]
    assert store.accounts.begin_look("other", every_seconds=60)
    assert store.accounts.begin_look("acme", every_seconds=0)


def test_a_file_is_sent_by_one_job_and_again_only_if_that_one_is_gone(store: Store) -> None:
    first, second = submitted(store, 2)
    claimed(store, first)
    claimed(store, second)
    assert store.uploads.begin("acme", "d1", first).job_id == first
    assert store.uploads.begin("acme", "d1", second).job_id == first
    assert store.uploads.begin("acme", "d2", second).job_id == second
    store.record(first, Event.FAILED, actor="w", fence=1)
    assert store.uploads.begin("acme", "d1", second).job_id == second
    store.uploads.finish("acme", "d1", "file-7")
    assert store.uploads.begin("acme", "d1", first).file == "file-7"
    store.uploads.forget("acme", "d1")
    assert store.uploads.begin("acme", "d1", first).file is None


def test_a_limit_that_was_raised_is_heard_of_when_the_account_is_resumed(store: Store) -> None:
    [job_id] = submitted(store, 1)
    job = claimed(store, job_id)
    with store.database.writing() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(account="acme"))
    store.slots.resize("acme", 0, "the test")
    assert not store.slots.take(job_id, "acme", fence=job.attempt)
    store.record(job_id, Event.POLL_SCHEDULED, actor="w", fence=job.attempt, reason=Reason.SLOT, due_at=None)
    assert store.accounts.resume("acme") == 1
    assert asked(store, job_id, size=1)


def test_a_job_that_was_adopted_has_its_slot_however_full_the_pool_is(store: Store) -> None:
    first, second = submitted(store, 2)
    assert asked(store, first, size=1)
    job = claimed(store, second)
    assert store.slots.take(second, "acme", fence=job.attempt, is_held=True)
    assert holders(store) == {first, second}


def test_one_that_waits_for_a_day_without_a_pool_stops_nobody(store: Store) -> None:
    [job_id] = submitted(store, 1)
    job = claimed(store, job_id)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    store.record(job_id, Event.POLL_SCHEDULED, actor="w", fence=job.attempt, reason=Reason.SLOT, due_at=tomorrow)
    assert store.slots.give(actor=ACTOR) == 0


# -- which limit holds ------------------------------------------------------------------------------------------------


def refused(store: Store, job_id: str) -> None:
    """The provider refuses the job that holds a slot of the pool."""
    changes: dict[str, Any] = {"reason": Reason.SLOT, "due_at": None, "has_slot": False}
    store.record(job_id, Event.POLL_SCHEDULED, actor="w", fence=1, refused=Refused(3600.0), **changes)


def test_who_has_ended_elsewhere_gives_its_slot_on_before_it_is_done_itself(store: Store) -> None:
    first, second = submitted(store, 2)
    asked(store, first, size=1)
    asked(store, second, size=1)
    assert store.slots.leave(first, fence=1) == "acme"
    assert holders(store) == {second}
    assert store.slots.called("acme") == {"api": [second]}
    assert store.slots.leave(first, fence=1) is None
    assert store.read.job(first).state == State.RUNNING


def test_who_lost_the_lease_leaves_no_slot(store: Store) -> None:
    first, second = submitted(store, 2)
    asked(store, first, size=1)
    asked(store, second, size=1)
    with pytest.raises(StaleTransition):
        store.slots.leave(first, fence=0)
    assert holders(store) == {first}


def test_a_limit_that_is_changed_ends_what_a_refusal_lowered(store: Store) -> None:
    store.slots.resize("acme", 3, "the settings")
    first, second, third = submitted(store, 3)
    asked(store, first, size=3)
    asked(store, second, size=3)
    refused(store, second)
    assert not asked(store, third, size=3)
    [use] = store.slots.ls()
    assert (use.is_lowered, use.pool.believed, use.free) == (True, 1, 0)
    store.slots.resize("acme", 3, "the catalogue")
    assert store.slots.get("acme").believed == 1
    store.slots.resize("acme", 4, "the settings")
    assert (store.slots.get("acme").believed, store.slots.get("acme").source) == (None, "the settings")
    assert store.slots.give(actor=ACTOR) == 2
    assert holders(store) == {first, second, third}


def test_what_a_refusal_lowered_is_forgotten_when_the_account_is_resumed(store: Store) -> None:
    [first] = submitted(store, 1)
    asked(store, first, size=2)
    refused(store, first)
    assert store.slots.give(actor=ACTOR) == 0
    store.accounts.resume("acme")
    assert store.slots.give(actor=ACTOR) == 1


def test_the_first_of_a_line_is_called_to_hear_a_changed_limit(store: Store) -> None:
    first, second = submitted(store, 2)
    assert not asked(store, first, size=0)
    assert not asked(store, second, size=0)
    assert store.slots.ask_again() == 1
    assert asked(store, first, size=1)
    assert store.read.job(second).due_at is None


def test_what_a_provider_tells_of_a_pool_is_kept_beside_its_size(store: Store) -> None:
    store.slots.tell("acme/m", at_once=3, a_day=8)
    assert store.slots.ls() == []  # no job has wanted it yet
    store.slots.resize("acme/m", 3, "acme itself")
    kept = store.slots.get("acme/m")
    assert (kept.size, kept.told, kept.told_a_day) == (3, 3, 8)
    assert [use.pool.name for use in store.slots.ls()] == ["acme/m"]


def test_a_holder_whose_workers_die_is_put_off_and_never_given_up(store: Store) -> None:
    [job_id] = submitted(store, 1)
    asked(store, job_id, size=1)
    pauses = []
    for _ in range(4):
        with store.database.writing() as connection:
            long_ago = datetime.now(UTC) - timedelta(seconds=60)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(lease_until=long_ago))
        store.expire_leases(max_failures=2, actor=ACTOR)
        job = store.read.job(job_id)
        assert (job.state, job.has_slot) == (State.QUEUED, True)
        assert job.due_at is not None
        pauses.append((job.due_at - datetime.now(UTC)).total_seconds())
        with store.database.writing() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(due_at=datetime.now(UTC)))
        claimed(store, job_id)
    assert [pause > 1 for pause in pauses] == [False, True, True, True]
    assert pauses[1] < pauses[3]
    assert store.read.job(job_id).failures == 4
    last = [event for event in store.read.history(job_id) if event.name == Event.LEASE_EXPIRED][-1]
    assert "fell silent 4 times in a row" in last.detail["why"]
