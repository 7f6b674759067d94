"""What users may ask for, and what they are told when they may not."""

from __future__ import annotations

import pytest

from queue_app.dispatcher import Dispatcher
from queue_app.errors import Invalid
from queue_app.lifecycle import Event, State
from queue_app.recipe import Recipe, Step
from queue_app.store import NewJob, Store


def step(name: str, *needs: str) -> Step:
    return Step(
        name=name, kind="a.b", spec={}, needs=needs, queue="cpu", priority=3, timeout_seconds=60, reuse=True, line=1
    )


@pytest.fixture
def dispatcher(store: Store) -> Dispatcher:
    return Dispatcher(store, "user")


def submit(dispatcher: Dispatcher, event: Event | None = None) -> str:
    [job_id] = dispatcher.submit(NewJob(kind="dataset.split", queue="cpu", spec={}))
    if event is not None:
        dispatcher.store.claim(worker="w", lease_seconds=60, job_id=job_id)
        dispatcher.store.record(job_id, event, actor="w")
    return job_id


def test_a_recipe_becomes_jobs_that_wait_for_one_another(dispatcher: Dispatcher, store: Store):
    run_id, ids = dispatcher.run(Recipe("demo", "name: demo", (step("a"), step("b", "a"))))
    a, b = (store.read.job(ids[name]) for name in "ab")
    assert (a.state, b.state, a.priority, a.timeout_seconds, b.run_id) == (State.QUEUED, State.WAITING, 3, 60, run_id)
    assert [need.id for need in store.read.needs(b.id)] == [a.id]
    assert store.read.run(run_id).recipe == "name: demo"


def test_the_cap_of_a_recipe_stands_on_its_run(dispatcher: Dispatcher, store: Store):
    run_id, _ = dispatcher.run(Recipe("demo", "", (step("a"),), cap_usd=7.5))
    assert store.read.run(run_id).cap_usd == 7.5


def test_fresh_means_no_step_is_reused(dispatcher: Dispatcher, store: Store):
    _, ids = dispatcher.run(Recipe("demo", "", (step("a"),)), reuse=False)
    assert store.read.job(ids["a"]).reuse is False


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_what_has_ended_cannot_be_stopped(dispatcher: Dispatcher, store: Store, verb: str):
    job = store.read.job(submit(dispatcher, Event.SUCCEEDED))
    with pytest.raises(Invalid, match="succeeded"):
        getattr(dispatcher, verb)(job)


def test_a_job_that_would_begin_anew_is_not_paused(dispatcher: Dispatcher, store: Store):
    job_id = submit(dispatcher)
    store.claim(worker="w", lease_seconds=60, job_id=job_id)
    with pytest.raises(Invalid, match=r"dataset\.split cannot stand still"):
        dispatcher.pause(store.read.job(job_id))


def test_only_what_did_not_succeed_is_retried(dispatcher: Dispatcher, store: Store):
    for event in (Event.FAILED, Event.CANCELLED):
        job_id = submit(dispatcher, event)
        assert dispatcher.retry(store.read.job(job_id)).state == State.QUEUED
    with pytest.raises(Invalid, match="nothing to retry"):
        dispatcher.retry(store.read.job(submit(dispatcher, Event.SUCCEEDED)))


def test_a_dependent_is_not_retried_before_what_it_needs(dispatcher: Dispatcher, store: Store):
    _, ids = dispatcher.run(Recipe("demo", "", (step("a"), step("b", "a"))))
    store.claim(worker="w", lease_seconds=60, job_id=ids["a"])
    store.record(ids["a"], Event.FAILED, actor="w")
    with pytest.raises(Invalid, match=r"needs a \(.*, failed\): retry that one"):
        dispatcher.retry(store.read.job(ids["b"]))


def test_resuming_is_for_what_is_paused(dispatcher: Dispatcher, store: Store):
    job_id = submit(dispatcher)
    with pytest.raises(Invalid, match="is not paused"):
        dispatcher.resume(store.read.job(job_id))
    dispatcher.pause(store.read.job(job_id))
    assert dispatcher.resume(store.read.job(job_id)).state == State.QUEUED
