"""Jobs that need one another: what becomes of them when one fails, is cancelled, paused, retried or lost."""

from __future__ import annotations

import pytest

from queue_app.lifecycle import Event, State
from queue_app.store import NewJob, Store


def submit(store: Store, *needs: str) -> str:
    new = NewJob(kind="a.b", queue="cpu", spec={}, needs=needs)
    store.submit([new], actor="user")
    return new.id


def end(store: Store, job_id: str, event: Event) -> None:
    assert store.claim(worker="w", lease_seconds=60, job_id=job_id) is not None
    store.record(job_id, event, actor="w")


def states(store: Store, *ids: str) -> list[State]:
    return [store.read.job(job_id).state for job_id in ids]


def lose(store: Store, job_id: str) -> None:
    assert store.claim(worker="w", lease_seconds=-1, job_id=job_id) is not None
    store.expire_leases(max_failures=1, actor="sweeper")


@pytest.mark.parametrize("how", ["failed", "cancelled", "lost"])
def test_a_triangle_ends_with_its_first_corner(store: Store, how: str):
    base = submit(store)
    merged = submit(store, base)
    score = submit(store, base, merged)
    if how == "lost":
        lose(store, base)
    elif how == "cancelled":
        store.cancel(base, actor="user")
    else:
        end(store, base, Event.FAILED)
    assert states(store, merged, score) == [State.CANCELLED, State.CANCELLED]
    store.retry(base, actor="user")
    assert states(store, base, merged, score) == [State.QUEUED, State.WAITING, State.WAITING]
    for job_id in (base, merged, score):
        end(store, job_id, Event.SUCCEEDED)


def test_a_chain_of_a_thousand_falls_and_rises_again(store: Store):
    chain = [NewJob(kind="a.b", queue="cpu", spec={})]
    for _ in range(999):
        chain.append(NewJob(kind="a.b", queue="cpu", spec={}, needs=(chain[-1].id,)))
    store.submit(chain, actor="user")
    lose(store, chain[0].id)
    assert states(store, chain[1].id, chain[-1].id) == [State.CANCELLED, State.CANCELLED]
    store.retry(chain[0].id, actor="user")
    assert states(store, chain[0].id, chain[-1].id) == [State.QUEUED, State.WAITING]


def test_what_needs_two_that_failed_comes_back_with_the_second(store: Store):
    a, b = submit(store), submit(store)
    both = submit(store, a, b)
    end(store, a, Event.FAILED)
    end(store, b, Event.FAILED)
    store.retry(a, actor="user")
    assert states(store, both) == [State.CANCELLED]
    end(store, a, Event.SUCCEEDED)
    store.retry(b, actor="user")
    assert states(store, both) == [State.WAITING]
    end(store, b, Event.SUCCEEDED)
    assert states(store, both) == [State.QUEUED]


def test_a_retry_does_not_revive_what_the_user_cancelled(store: Store):
    a = submit(store)
    unwanted, wanted = submit(store, a), submit(store, a)
    store.cancel(unwanted, actor="user")
    end(store, a, Event.FAILED)
    store.retry(a, actor="user")
    assert states(store, unwanted, wanted) == [State.CANCELLED, State.WAITING]


def test_a_resumed_job_still_waits_for_its_inputs(store: Store):
    a = submit(store)
    b = submit(store, a)
    store.pause(b, actor="user")
    store.resume(b, actor="user")
    assert states(store, b) == [State.WAITING]
    end(store, a, Event.SUCCEEDED)
    assert states(store, b) == [State.QUEUED]


def test_what_was_paused_before_its_inputs_failed_does_not_stand_still_for_ever(store: Store):
    a = submit(store)
    b = submit(store, a)
    store.pause(b, actor="user")
    end(store, a, Event.FAILED)
    assert states(store, b) == [State.CANCELLED]


def test_inputs_that_arrive_while_a_job_is_paused_are_there_when_it_resumes(store: Store):
    a = submit(store)
    b = submit(store, a)
    store.pause(b, actor="user")
    end(store, a, Event.SUCCEEDED)
    assert states(store, b) == [State.PAUSED]
    store.resume(b, actor="user")
    assert states(store, b) == [State.QUEUED]
