"""Jobs of several cards: reserved all or none, in order, and free again whatever ends them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from queue_app.cli import context
from queue_app.cli.application import run
from queue_app.errors import Invalid
from queue_app.lifecycle import Event, Reason, State
from queue_app.recipe import parse_recipe
from queue_app.store import NewJob
from queue_app.store.rows import Worker
from queue_app.store.tables import jobs
from settings import get_settings

if TYPE_CHECKING:
    from pathlib import Path

    from queue_app.store import Job, Store

LEASE = 60.0


def sign_on(store: Store, name: str, *, host: str = "here", silent: float = 0.0, **told: Any) -> None:
    seen = datetime.now(UTC) - timedelta(seconds=silent)
    store.workers.see(Worker(name=name, queue="gpu", host=host, seen_at=seen, **told))


def bench(store: Store, number: int, *, host: str = "here", cards: bool = True) -> list[str]:
    """So many gpu workers of a host, each at a card of its own."""
    names = [f"gpu:{host}:{place}" for place in range(number)]
    for place, name in enumerate(names):
        sign_on(store, name, host=host, card=f"GPU-{host}-{place}" if cards else None)
    return names


def submit(store: Store, *, cards: int = 1, priority: int = 0) -> str:
    new = NewJob(kind="adapter.train", queue="gpu", spec={}, cards=cards, priority=priority)
    store.submit([new], actor="test")
    return new.id


def claim(store: Store, worker: str) -> Job | None:
    return store.claim(worker=worker, lease_seconds=LEASE, queue="gpu")


def claimed(store: Store, worker: str) -> Job:
    job = claim(store, worker)
    assert job is not None
    return job


def lent(store: Store) -> dict[str, list[str]]:
    return {worker.name: jobs for worker, jobs in store.read.workers() if jobs}


@pytest.mark.parametrize("cards", [True, False])
def test_a_claim_takes_all_the_cards_of_its_host_that_it_needs(store: Store, *, cards: bool) -> None:
    workers = bench(store, 3, cards=cards)
    job_id = submit(store, cards=2)
    job = claimed(store, workers[1])
    assert job.holds == {workers[1]: "GPU-here-1" if cards else None, workers[0]: "GPU-here-0" if cards else None}
    assert lent(store) == {workers[0]: [job_id], workers[1]: [job_id]}


def test_a_lent_worker_takes_nothing_and_the_third_goes_on(store: Store) -> None:
    workers = bench(store, 3)
    submit(store, cards=2)
    other = submit(store)
    claimed(store, workers[0])
    assert claim(store, workers[1]) is None
    assert claimed(store, workers[2]).id == other


ENDS: list[tuple[Event, dict[str, Any]]] = [
    (Event.SUCCEEDED, {"result": {}}),
    (Event.FAILED, {}),
    (Event.CANCELLED, {}),
    (Event.PAUSED, {}),
    (Event.RELEASED, {"due_at": None}),
    (Event.REPAIRED, {"due_at": None}),
    (Event.RETRY_SCHEDULED, {"reason": Reason.BACKOFF}),
    (Event.POLL_SCHEDULED, {"reason": Reason.GPU}),
]


@pytest.mark.parametrize(("event", "changes"), ENDS, ids=[event for event, _ in ENDS])
def test_whatever_ends_the_attempt_frees_its_cards(store: Store, event: Event, changes: dict[str, Any]) -> None:
    workers = bench(store, 2)
    job_id = submit(store, cards=2)
    claimed(store, workers[0])
    other = submit(store)
    assert claim(store, workers[1]) is None
    store.record(job_id, event, actor="test", fence=1, **changes)
    assert lent(store) == {}
    assert claimed(store, workers[1]).id == other


def test_a_lease_that_runs_out_frees_them_and_the_next_attempt_reserves_anew(store: Store) -> None:
    workers = bench(store, 2)
    submit(store, cards=2)
    claimed(store, workers[0])
    with store.database.writing() as connection:
        connection.execute(update(jobs).values(lease_until=datetime.now(UTC) - timedelta(seconds=1)))
    [late] = store.expire_leases(max_failures=3, actor="test")
    assert (late.state, late.holds, lent(store)) == (State.QUEUED, None, {})
    again = claimed(store, workers[1])
    assert (again.attempt, list(again.holds or {})) == (2, [workers[1], workers[0]])


def test_a_holder_that_is_buried_keeps_nothing(store: Store) -> None:
    workers = bench(store, 2)
    submit(store, cards=2)
    claimed(store, workers[0])
    [(holder, _), _] = store.read.workers()
    store.workers.bury(holder)
    store.expire_leases(max_failures=3, actor="test")
    assert lent(store) == {}


def test_a_lent_worker_that_dies_leaves_its_card_lent_and_its_successor_takes_nothing(store: Store) -> None:
    workers = bench(store, 2)
    job_id = submit(store, cards=2)
    submit(store)
    claimed(store, workers[0])
    [_, (victim, _)] = store.read.workers()
    store.workers.bury(victim)
    assert store.read.job(job_id).state == State.RUNNING
    sign_on(store, "gpu:here:9", card="GPU-here-1")
    assert claim(store, "gpu:here:9") is None
    assert lent(store)["gpu:here:9"] == [job_id]


def test_the_most_urgent_job_lets_the_host_drain_and_nothing_overtakes_it(store: Store) -> None:
    workers = bench(store, 2)
    first = submit(store)
    assert claimed(store, workers[0]).id == first
    large = submit(store, cards=2)
    submit(store)
    assert claim(store, workers[1]) is None
    store.record(first, Event.SUCCEEDED, actor="test", fence=1, result={})
    assert claimed(store, workers[1]).id == large


def test_what_is_more_urgent_goes_before_a_job_of_several_cards(store: Store) -> None:
    workers = bench(store, 2)
    submit(store, cards=2)
    urgent = submit(store, priority=1)
    assert claimed(store, workers[0]).id == urgent
    assert claim(store, workers[1]) is None


def test_a_host_that_can_never_give_so_many_passes_the_job_over(store: Store) -> None:
    [worker] = bench(store, 1)
    submit(store, cards=2)
    other = submit(store)
    assert claimed(store, worker).id == other
    assert claim(store, worker) is None


def test_a_worker_that_fell_silent_gives_no_card(store: Store) -> None:
    sign_on(store, "a", card="GPU-a")
    sign_on(store, "b", card="GPU-b", silent=2 * LEASE)
    submit(store, cards=2)
    assert claim(store, "a") is None
    sign_on(store, "b", card="GPU-b")
    assert claimed(store, "a").holds == {"a": "GPU-a", "b": "GPU-b"}


def test_hosts_do_not_lend_to_one_another(store: Store) -> None:
    [near], far = bench(store, 1), bench(store, 2, host="far")
    job_id = submit(store, cards=2)
    assert claim(store, near) is None
    assert claimed(store, far[0]).id == job_id
    assert set(lent(store)) == set(far)


def test_two_workers_at_one_card_are_one_card_and_slices_stand_alone(store: Store) -> None:
    for name, card in (("a", "GPU-1"), ("b", "GPU-1"), ("c", "MIG-1"), ("d", "MIG-2"), ("e", None)):
        sign_on(store, name, card=card)
    submit(store, cards=2)
    assert [claim(store, name) for name in "abcde"] == [None] * 5
    assert [len(found.seats) for found in store.cards.benches(LEASE)] == [1, 1, 1, 1]


def test_a_worker_that_has_not_signed_on_still_takes_jobs_of_one_card(store: Store) -> None:
    submit(store, cards=2)
    other = submit(store)
    assert claimed(store, "unknown").id == other


def test_a_worker_whose_card_is_lost_leaves_jobs_to_those_whose_card_answers(store: Store) -> None:
    first, second = bench(store, 2)
    sign_on(store, first, card="GPU-here-0", card_lost=True)
    job_id = submit(store)
    assert claim(store, first) is None, "another worker's card is there for it"
    assert store.cards.has_taker("gpu", LEASE)
    assert claimed(store, second).id == job_id
    submit(store)
    assert not store.cards.has_taker("gpu", LEASE), "a ring would be answered by the one that leaves it alone"
    sign_on(store, first, card="GPU-here-0")
    assert claim(store, first) is not None, "the card answers again"


def test_a_lost_card_is_not_among_those_that_a_job_may_have(store: Store) -> None:
    workers = bench(store, 3)
    sign_on(store, workers[1], card="GPU-here-1", card_lost=True)
    large = submit(store, cards=3)
    small = submit(store)
    assert claimed(store, workers[0]).id == small, "the host can give two at most, and does not drain for three"
    store.record(small, Event.SUCCEEDED, actor="test", fence=1, result={})
    fitting = submit(store, cards=2, priority=1)
    assert claimed(store, workers[0]).holds == {workers[0]: "GPU-here-0", workers[2]: "GPU-here-2"}
    assert store.read.job(fitting).state == State.RUNNING
    assert store.read.job(large).state == State.QUEUED


def test_where_every_card_is_lost_a_job_is_taken_up_to_say_what_it_waits_for(store: Store) -> None:
    [only] = bench(store, 1)
    sign_on(store, only, card="GPU-here-0", card_lost=True)
    submit(store)
    assert store.cards.has_taker("gpu", LEASE)
    assert claim(store, only) is not None


def test_to_end_a_job_takes_no_more_than_one_card(store: Store) -> None:
    workers = bench(store, 2)
    job_id = submit(store, cards=2)
    claimed(store, workers[0])
    store.record(job_id, Event.RELEASED, actor="test", fence=1)
    store.workers.forget(workers[1])
    assert claim(store, workers[0]) is None
    store.cancel(job_id, actor="test")
    assert claimed(store, workers[0]).holds is None


def test_claims_at_once_never_hold_one_card_twice(store: Store) -> None:
    workers = bench(store, 4)
    for cards in (3, 2, 1, 2, 1, 4, 1):
        submit(store, cards=cards)

    def work(worker: str) -> None:
        deadline = time.monotonic() + 30
        while store.read.ls(states=[State.QUEUED, State.RUNNING]) and time.monotonic() < deadline:
            job = claim(store, worker)
            if job is None:
                continue
            taken = [name for each in store.read.ls(states=[State.RUNNING]) for name in each.holds or [each.worker]]
            assert len(set(taken)) == len(taken)
            assert len(job.holds or {}) == (job.cards if job.cards > 1 else 0)
            store.record(job.id, Event.SUCCEEDED, actor=worker, fence=job.attempt, result={})

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, worker) for worker in workers]:
            done.result(timeout=60)
    assert {job.state for job in store.read.ls()} == {State.SUCCEEDED}
    assert lent(store) == {}


def test_the_bell_is_rung_only_where_somebody_would_take_something(store: Store) -> None:
    workers = bench(store, 2)
    first = submit(store)
    claimed(store, workers[0])
    large = submit(store, cards=2)
    submit(store)
    assert not store.cards.has_taker("gpu", LEASE)
    store.record(first, Event.SUCCEEDED, actor="test", fence=1, result={})
    assert store.cards.has_taker("gpu", LEASE)
    job = claimed(store, workers[0])
    assert job.id == large
    assert not store.cards.has_taker("gpu", LEASE)
    store.record(large, Event.SUCCEEDED, actor="test", fence=1, result={})
    assert store.cards.has_taker("gpu", LEASE)


def test_who_ends_rings_for_those_that_its_cards_are_for(store: Store) -> None:
    workers = bench(store, 2)
    submit(store, cards=2)
    large = claimed(store, workers[0])
    ids = [submit(store) for _ in range(3)]
    store.record(large.id, Event.SUCCEEDED, actor="test", fence=1, result={})
    assert store.cards.called(large) == {"gpu": ids[:2]}
    one = claimed(store, workers[0])
    store.record(one.id, Event.SUCCEEDED, actor="test", fence=1, result={})
    assert store.cards.called(one) == {}, "rings for it stand in the queue"


@pytest.fixture
def here() -> Store:
    """The store that the commands see."""
    get_settings.cache_clear()
    context.store.cache_clear()
    return context.store()


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run([*words]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_job_that_waits_for_cards_says_for_which(here: Store, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = submit(here, cards=4)
    assert "needs 4 cards of one host; no gpu worker lives" in told(capsys, "jobs", "explain", job_id)
    bench(here, 2, host="forge")
    bench(here, 1, host="anvil")
    said = told(capsys, "jobs", "explain", job_id)
    assert "needs 4 cards of one host; the largest host that lives has 2 (forge)" in said
    [first, *_] = bench(here, 5, host="smithy")
    submit(here, priority=9)
    claimed(here, first)
    said = told(capsys, "jobs", "explain", job_id)
    assert "needs 4 cards of one host: smithy has 4 of 5 free; what is less urgent is not begun there" in said


def test_a_job_behind_one_of_several_cards_says_so(here: Store, capsys: pytest.CaptureFixture[str]) -> None:
    [first, *_] = bench(here, 2, host="forge")
    submit(here, priority=9)
    claimed(here, first)
    large, small = submit(here, cards=2), submit(here)
    said = told(capsys, "jobs", "explain", small)
    assert f"behind job {large}, which needs 2 cards of one host: forge has 1 of 2 free" in said
    bench(here, 1, host="anvil")  # which could never serve it
    assert "is taken up by the next free worker" in told(capsys, "jobs", "explain", small)


def test_the_workers_of_a_job_of_several_cards_are_shown_with_it(
    here: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = bench(here, 2)
    job_id = submit(here, cards=2)
    claimed(here, workers[0])
    assert told(capsys, "workers").count(job_id) == 2
    said = told(capsys, "jobs", "explain", job_id)
    assert f"{workers[0]} holds it in attempt 1, with the cards of {workers[1]}" in said


RECIPE = """
name: two
steps:
  base: {job: model.pull, model: smollm2-135m}
  train: {job: adapter.train, base_model: $base.model, dataset: $base.model}
"""


def test_a_recipe_says_how_many_cards_a_step_takes_or_an_override_does(tmp_path: Path) -> None:
    def cards(**overrides: str) -> list[int]:
        dotted = {f"steps.train.{name}": value for name, value in overrides.items()}
        read = parse_recipe(RECIPE, tmp_path / "two.yaml", overrides=dotted)
        return [step.cards for step in read.steps]

    assert (cards(), cards(cards="2")) == ([1, 1], [1, 2])
    with pytest.raises(Invalid, match="another step cannot say how many; give a number"):
        cards(cards="$base.files")
    with pytest.raises(Invalid, match='"cards" is 0: '):
        cards(cards="0")


def test_what_is_submitted_tells_the_cards_that_its_spec_asks_for(here: Store, tmp_path: Path) -> None:
    recipe = parse_recipe(RECIPE, tmp_path / "two.yaml", overrides={"steps.train.cards": "2"})
    context.dispatcher().run(recipe)
    assert {job.step: job.cards for job in here.read.ls()} == {"base": 1, "train": 2}
    assert run(["jobs", "submit", "model.train", "--base-model", "a", "--dataset", "b", "--cards", "3"]) == 0
    assert here.read.ls(kind="model.train")[0].cards == 3
