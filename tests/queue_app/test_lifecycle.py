"""The transition table, held against the store that obeys it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlmodel import SQLModel

from queue_app.errors import StaleTransition
from queue_app.lifecycle import CLAIMABLE, FINAL, TRANSITIONS, Event, State, backoff_seconds
from queue_app.store import Database, NewJob, Store


def test_every_event_has_a_transition():
    assert set(TRANSITIONS) == set(Event)


def test_nothing_leaves_success():
    assert [event for event, (sources, _) in TRANSITIONS.items() if State.SUCCEEDED in sources] == []


def test_only_a_retry_leaves_a_final_state():
    leaving = {event for event, (sources, _) in TRANSITIONS.items() if sources & FINAL}
    assert leaving == {Event.RETRIED, Event.REPLANNED}


def test_every_state_can_be_reached_and_left():
    reached = {target for _, target in TRANSITIONS.values() if target}
    assert reached == set(State)
    left = set().union(*(sources for sources, _ in TRANSITIONS.values()))
    assert left == set(State) - {State.SUCCEEDED}


def test_a_job_is_claimed_only_from_where_it_can_be():
    assert TRANSITIONS[Event.STARTED][0] == CLAIMABLE


@given(st.integers(1, 40), st.floats(0.1, 60), st.floats(60, 3600))
def test_the_pause_doubles_and_is_bounded(failures: int, first: float, longest: float):
    expected = min(longest, first * 2.0 ** (failures - 1))
    assert 0.8 * expected <= backoff_seconds(failures, first=first, longest=longest) <= 1.2 * expected


class LifeOfAJob(RuleBasedStateMachine):
    """Any order of events: the store moves the job as the table says, or refuses and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(Database("sqlite://"))
        SQLModel.metadata.create_all(self.store.database.engine)
        job = NewJob(kind="a.b", queue="cpu", spec={})
        self.store.submit([job], actor="test")
        self.id = job.id
        self.state = State.QUEUED
        self.attempt = 0
        self.history = [Event.SUBMITTED]

    def teardown(self) -> None:
        self.store.database.engine.dispose()

    @rule(event=st.sampled_from([event for event in Event if event not in (Event.SUBMITTED, Event.PLANNED)]))
    def an_event_happens(self, event: Event) -> None:
        sources, target = TRANSITIONS[event]
        if self.state not in sources:
            with pytest.raises(StaleTransition):
                self.store.record(self.id, event, actor="test")
            return
        self.store.record(self.id, event, actor="test")
        self.attempt += event == Event.STARTED
        self.state = target or self.state
        self.history.append(event)

    @rule()
    def somebody_claims(self) -> None:
        due = self.store.read.job(self.id).due_at is not None
        claimed = self.store.claim(worker="w", lease_seconds=60, queue="cpu")
        assert (claimed is not None) == due
        if claimed:
            assert self.state in CLAIMABLE
            self.state, self.attempt = State.RUNNING, self.attempt + 1
            self.history.append(Event.STARTED)

    @rule()
    def a_ghost_writes(self) -> None:
        with pytest.raises(StaleTransition):
            self.store.record(self.id, Event.SUCCEEDED, actor="ghost", fence=self.attempt - 1)

    @invariant()
    def the_row_is_as_expected(self) -> None:
        job = self.store.read.job(self.id)
        assert (job.state, job.attempt) == (self.state, self.attempt)
        assert [event.name for event in self.store.read.history(self.id)] == self.history
        assert (job.lease_until is not None) <= (job.state == State.RUNNING)
        assert (job.due_at is not None) <= (job.state in CLAIMABLE)
        assert (job.finished_at is not None) == (job.state in FINAL)


TestLifeOfAJob = LifeOfAJob.TestCase
TestLifeOfAJob.settings = hypothesis_settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
