"""Paid for once: what `attempt.once` does when attempts die, doubt, or come too late."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import Field

from queue_app import at_account, attempt
from queue_app.errors import AccountPaused, Permanent, Throttled, Transient, Unsettled
from queue_app.job_type import Attempt, Lag, PollAgain, Result, Spec, TakenBack, job
from queue_app.lifecycle import Cause, Event, Reason, State
from queue_app.store import memos

if TYPE_CHECKING:
    from types import FrameType

    from queue_app.errors import TuneyardError
    from tests.conftest import RunHere


class Provider:
    """Somebody who is paid: remembers all that was created, and by which key."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self.listed = True
        self.taken_back: list[str] = []

    def create(self, key: str) -> str:
        self.created.append(key)
        return f"remote-{len(self.created)}"

    def find(self, key: str) -> str | None:
        return f"remote-{self.created.index(key) + 1}" if self.listed and key in self.created else None


class Order(Spec):
    """What is ordered."""

    lag_seconds: float = Field(0.0, description="how long a listing may lag")
    answer_seconds: float = Field(0.0, description="how long a request may go on")

    @property
    def lag(self) -> Lag:
        return Lag(self.lag_seconds, self.answer_seconds)


class Bought(Result):
    """What was bought."""

    remote: str


class Death(BaseException):
    """Stands for the end of the process: nothing catches it."""


def buying(run_here: RunHere, provider: Provider, *, fault: list[BaseException]) -> RunHere:
    def create(key: str) -> str:
        made = provider.create(key)
        if fault:
            raise fault.pop()
        return made

    def buy(spec: Order, attempt: Attempt) -> Bought | PollAgain:
        remote = attempt.once(
            "start",
            create,
            find=provider.find,
            undo=provider.taken_back.append,
            lag=spec.lag,
        )
        return Bought(remote=remote)

    return run_here.declaring(job("thing.buy", queues=("api",))(buy))


def die_and_be_swept(here: RunHere, job_id: str) -> None:
    with pytest.raises(Death):
        here.runner.run(job_id=job_id)
    with here.store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE job SET lease_until = '2000-01-01 00:00:00.000000'")
    assert len(here.store.expire_leases(max_failures=3, actor="sweeper")) == 1


def test_what_died_between_created_and_written_is_adopted(run_here: RunHere):
    provider = Provider()
    here = buying(run_here, provider, fault=[Death()])
    job_id = here.submit("thing.buy")
    die_and_be_swept(here, job_id)
    done = here.finish(job_id)
    assert (done.result, len(provider.created)) == ({"remote": "remote-1"}, 1)


def test_a_doubtful_answer_is_looked_up_before_it_is_asked_again(run_here: RunHere):
    provider = Provider()
    here = buying(run_here, provider, fault=[Transient("the connection was dropped", retry_after=0.01)])
    done = here("thing.buy")
    assert (done.result, len(provider.created)) == ({"remote": "remote-1"}, 1)


def test_a_listing_that_lags_is_waited_for_and_counts_no_failure(run_here: RunHere):
    provider = Provider()
    provider.listed = False
    here = buying(run_here, provider, fault=[Transient("dropped", retry_after=0.01)])
    job_id = here.submit("thing.buy", lag_seconds=30)
    here.runner.run(job_id=job_id)
    with here.store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE job SET due_at = submitted_at")
    here.runner.run(job_id=job_id)
    waiting = here.store.read.job(job_id)
    assert (waiting.state, waiting.failures, len(provider.created)) == (State.WAITING, 1, 1)
    provider.listed = True
    with here.store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE job SET due_at = submitted_at")
    assert here.finish(job_id).result == {"remote": "remote-1"}
    assert len(provider.created) == 1


def test_the_lag_of_a_list_counts_from_the_end_of_a_slow_create(run_here: RunHere):
    provider = Provider()
    provider.listed = False

    def create(key: str) -> str:
        provider.create(key)
        with run_here.store.database.writing() as connection:  # it began long ago
            connection.exec_driver_sql("UPDATE memo SET acted_at = '2001-01-01 00:00:00.000000'")
        raise Transient("dropped", retry_after=0.01)

    def buy(spec: Order, attempt: Attempt) -> Bought:
        return Bought(remote=attempt.once("start", create, find=provider.find, lag=spec.lag))

    here = run_here.declaring(job("thing.buy", queues=("api",))(buy))
    job_id = here.submit("thing.buy", lag_seconds=30)
    for _ in range(2):
        here.runner.run(job_id=job_id)
        make_due(here, job_id)
    assert len(provider.created) == 1


def test_the_lag_counts_from_when_the_answer_is_due_where_nobody_lived_to_see_it(run_here: RunHere):
    provider = Provider()
    provider.listed = False
    here = buying(run_here, provider, fault=[Death()])
    job_id = here.submit("thing.buy", answer_seconds=30)
    die_and_be_swept(here, job_id)
    here.runner.run(job_id=job_id)
    waiting = here.store.read.job(job_id)
    assert (waiting.state, waiting.reason, len(provider.created)) == (State.WAITING, Reason.REMOTE, 1)


def test_what_was_never_created_is_created_after_the_lag(run_here: RunHere):
    provider = Provider()

    def refuse(key: str) -> str:
        raise Transient("connection refused", retry_after=0.01)

    actions = [refuse, provider.create]

    def buy(spec: Order, attempt: Attempt) -> Bought:
        action = actions.pop(0) if len(actions) > 1 else actions[0]
        return Bought(remote=attempt.once("start", action, find=provider.find, lag=spec.lag))

    here = run_here.declaring(job("thing.buy", queues=("api",))(buy))
    done = here("thing.buy", lag_seconds=0.1)
    assert (done.state, len(provider.created)) == (State.SUCCEEDED, 1)


def test_a_remembered_value_is_not_looked_up_again(run_here: RunHere):
    provider, polls = Provider(), []

    def buy(spec: Order, attempt: Attempt) -> Bought | PollAgain:
        remote = attempt.once("start", provider.create, find=provider.find)
        polls.append(remote)
        return Bought(remote=remote) if len(polls) == 3 else PollAgain(0.01)

    done = run_here.declaring(job("thing.buy", queues=("api",))(buy))("thing.buy")
    assert (done.result, polls, len(provider.created)) == ({"remote": "remote-1"}, ["remote-1"] * 3, 1)


def test_a_retry_by_the_user_starts_anew_under_a_new_key(run_here: RunHere):
    provider, outcomes = Provider(), ["failed", "succeeded"]

    def buy(spec: Order, attempt: Attempt) -> Bought:
        remote = attempt.once("start", provider.create, find=provider.find)
        if outcomes.pop(0) == "failed":
            raise Permanent("the provider says: bad file", cause=Cause.PROVIDER, forget=("start",))
        return Bought(remote=remote)

    here = run_here.declaring(job("thing.buy", queues=("api",))(buy))
    failed = here("thing.buy")
    here.store.retry(failed.id, actor="user")
    assert here.finish(failed.id).result == {"remote": "remote-2"}
    first, second = provider.created
    assert first != second
    assert all(len(key) <= 18 and set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for key in provider.created)


def test_a_retry_after_a_bug_of_ours_keeps_what_was_paid_for(run_here: RunHere):
    provider, bugs = Provider(), [ZeroDivisionError()]

    def buy(spec: Order, attempt: Attempt) -> Bought:
        remote = attempt.once("start", provider.create, find=provider.find)
        if bugs:
            raise bugs.pop()
        return Bought(remote=remote)

    here = run_here.declaring(job("thing.buy", queues=("api",))(buy))
    failed = here("thing.buy")
    here.store.retry(failed.id, actor="user")
    assert (here.finish(failed.id).result, len(provider.created)) == ({"remote": "remote-1"}, 1)


def test_one_that_comes_back_from_the_dead_takes_back_only_what_is_too_much(run_here: RunHere):
    provider = Provider()
    store = run_here.store

    def overtaken(key: str) -> str:
        made = provider.create(key)
        with store.database.writing() as connection:
            connection.exec_driver_sql("UPDATE job SET lease_until = '2000-01-01 00:00:00.000000'")
        store.expire_leases(max_failures=3, actor="sweeper")
        provider.listed = False  # the second attempt cannot see what the first one made
        second.finish(job_id)
        return made

    def body(action: object) -> object:
        def buy(spec: Order, attempt: Attempt) -> Bought:
            return Bought(
                remote=attempt.once("start", action, find=provider.find, undo=provider.taken_back.append)  # type: ignore[arg-type]
            )

        return buy

    first = run_here.declaring(job("thing.buy", queues=("api",))(body(overtaken)))  # type: ignore[arg-type]
    second = run_here.declaring(job("thing.buy", queues=("api",))(body(provider.create)))  # type: ignore[arg-type]
    job_id = first.submit("thing.buy")
    first.runner.run(job_id=job_id)
    assert store.read.job(job_id).result == {"remote": "remote-2"}
    assert provider.taken_back == ["remote-1"]


def test_what_was_cancelled_is_started_anew_by_a_retry(run_here: RunHere):
    provider, cancelled = Provider(), []

    def buy(spec: Order, attempt: Attempt) -> Bought | PollAgain:
        remote = attempt.once("start", provider.create, find=provider.find)
        return PollAgain(60) if len(provider.created) == 1 else Bought(remote=remote)

    def cancel(spec: Order, attempt: Attempt) -> TakenBack:
        cancelled.append(attempt.once("start", provider.create, find=provider.find))
        return TakenBack(("start",))

    here = run_here.declaring(job("thing.buy", queues=("api",), on_cancel=cancel)(buy))
    job_id = here.submit("thing.buy")
    here.runner.run(job_id=job_id)
    here.store.cancel(job_id, actor="user")
    assert here.finish(job_id).state == State.CANCELLED
    here.store.retry(job_id, actor="user")
    assert here.finish(job_id).result == {"remote": "remote-2"}
    assert cancelled == ["remote-1"]


def test_one_that_comes_too_late_waits_to_see_which_one_counts(run_here: RunHere):
    provider, store = Provider(), run_here.store
    settled = threading.Event()

    def slow(key: str) -> str:
        made = provider.create(key)
        provider.listed = False
        second_thread.start()
        assert between.wait(10)
        return made

    def second_create(key: str) -> str:
        made = provider.create(key)
        between.set()  # the first one now tries to write, and finds that it has lost its lease
        settled.wait(1)
        return made

    def body(action: Any) -> Any:
        def buy(spec: Order, attempt: Attempt) -> Bought:
            return Bought(remote=attempt.once("start", action, find=provider.find, undo=provider.taken_back.append))

        return buy

    def overtake() -> None:
        with store.database.writing() as connection:
            connection.exec_driver_sql("UPDATE job SET lease_until = '2000-01-01 00:00:00.000000'")
        store.expire_leases(max_failures=3, actor="sweeper")
        second.finish(job_id)

    between = threading.Event()
    second_thread = threading.Thread(target=overtake)
    first = run_here.declaring(job("thing.buy", queues=("api",))(body(slow)))
    second = run_here.declaring(job("thing.buy", queues=("api",))(body(second_create)))
    job_id = first.submit("thing.buy")
    first.runner.run(job_id=job_id)
    second_thread.join(10)
    assert store.read.job(job_id).result == {"remote": "remote-2"}
    assert provider.taken_back == ["remote-1"]


def test_what_is_held_at_a_provider_is_not_given_up_for_an_outage(run_here: RunHere):
    provider, answers = Provider(), [Transient("unreachable", retry_after=0.01)] * 6

    def buy(spec: Order, attempt: Attempt) -> Bought:
        remote = attempt.once("start", provider.create, find=provider.find, undo=provider.taken_back.append)
        if answers:
            raise answers.pop()
        return Bought(remote=remote)

    done = run_here.declaring(job("thing.buy", queues=("api",))(buy))("thing.buy")
    assert (done.state, done.failures, len(provider.created)) == (State.SUCCEEDED, 0, 1)


def test_a_cancel_is_carried_out_however_long_the_provider_is_away(run_here: RunHere):
    provider, outages = Provider(), [Transient("unreachable")] * 5

    def buy(spec: Order, attempt: Attempt) -> Bought | PollAgain:
        attempt.once("start", provider.create, find=provider.find, undo=provider.taken_back.append)
        return PollAgain(60)

    def cancel(spec: Order, attempt: Attempt) -> TakenBack:
        if outages:
            raise outages.pop()
        provider.taken_back.append("remote-1")
        return TakenBack(("start",))

    here = run_here.declaring(job("thing.buy", queues=("api",), on_cancel=cancel)(buy))
    job_id = here.submit("thing.buy")
    here.runner.run(job_id=job_id)
    here.store.cancel(job_id, actor="user")
    assert here.finish(job_id).state == State.CANCELLED
    assert provider.taken_back == ["remote-1"]


def test_a_cancel_that_comes_while_the_body_ends_is_not_put_off(run_here: RunHere):
    def buy(spec: Order, attempt: Attempt) -> Bought:
        run_here.store.cancel(attempt.job_id, actor="user")
        raise Transient("come back tomorrow", retry_after=45_000)

    here = run_here.declaring(job("thing.buy", queues=("api",))(buy))
    assert here("thing.buy").state == State.CANCELLED


@pytest.mark.parametrize("error", [Unsettled("not shown yet", 3600.0), AccountPaused("no money", retry_after=3600.0)])
def test_a_cancel_that_must_wait_is_tried_again_soon_and_not_at_once(run_here: RunHere, error: TuneyardError):
    def buy(spec: Order, attempt: Attempt) -> Bought | PollAgain:
        return PollAgain(60)

    def cancel(spec: Order, attempt: Attempt) -> TakenBack:
        raise error

    here = run_here.declaring(job("thing.buy", queues=("api",), on_cancel=cancel)(buy))
    job_id = here.submit("thing.buy")
    here.runner.run(job_id=job_id)
    here.store.cancel(job_id, actor="user")
    here.runner.run(job_id=job_id)
    waiting = here.store.read.job(job_id)
    assert waiting.due_at is not None
    assert 0.1 < (waiting.due_at - datetime.now(UTC)).total_seconds() < 60


def test_who_is_told_when_to_come_back_waits_and_counts_no_failure(run_here: RunHere):
    answers: list[TuneyardError] = [Throttled("too many requests", retry_after=30.0) for _ in range(5)]

    def buy(spec: Order, attempt: Attempt) -> Bought:
        if answers:
            raise answers.pop()
        return Bought(remote="r")

    here = run_here.declaring(job("thing.buy", queues=("api",))(buy))
    job_id = here.submit("thing.buy")
    for _ in range(5):
        here.runner.run(job_id=job_id)
        waiting = here.store.read.job(job_id)
        assert (waiting.state, waiting.reason, waiting.failures) == (State.WAITING, Reason.BACKOFF, 0)
        assert waiting.due_at is not None
        assert 29 < (waiting.due_at - datetime.now(UTC)).total_seconds() <= 36
        make_due(here, job_id)
    assert here.finish(job_id).state == State.SUCCEEDED
    puts_off = [event for event in here.store.read.history(job_id) if "seconds" in event.detail]
    assert [event.detail["why"] for event in puts_off] == ["too many requests"] * 5


def test_who_is_told_to_come_back_hours_later_leaves_its_slot_to_others(run_here: RunHere):
    def buy(spec: Order, attempt: Attempt) -> Bought:
        attempt.at("acme").take_slot("acme", size=1)
        error = Throttled("no more today", retry_after=3600.0)
        error.undone = True
        raise error

    here = run_here.declaring(job("thing.buy", queues=("api",))(buy))
    job_id = here.submit("thing.buy")
    here.runner.run(job_id=job_id)
    waiting = here.store.read.job(job_id)
    assert (waiting.state, waiting.has_slot) == (State.WAITING, False)


def test_who_goes_back_to_an_earlier_step_leaves_its_slot_to_others(run_here: RunHere):
    def buy(spec: Order, attempt: Attempt) -> Bought:
        file = attempt.once("upload", lambda _: f"file-{attempt.number}")
        attempt.at("acme").take_slot("acme", size=1)
        if file == "file-1":
            error = Unsettled("the file is gone; it is sent again", 60.0)
            error.forget = ("upload",)
            raise error
        return Bought(remote=file)

    here = run_here.declaring(job("thing.buy", queues=("api",))(buy))
    job_id = here.submit("thing.buy")
    here.runner.run(job_id=job_id)
    waiting = here.store.read.job(job_id)
    assert (waiting.state, waiting.has_slot, waiting.failures) == (State.WAITING, False, 0)
    make_due(here, job_id)
    assert here.finish(job_id).result == {"remote": "file-2"}


def make_due(here: RunHere, job_id: str) -> None:
    with here.store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE job SET due_at = submitted_at WHERE due_at IS NOT NULL")


# -- death at every line ----------------------------------------------------------------------------------------------

WATCHED = {module.__file__ for module in (attempt, at_account, memos)}


class DeathAtLine:
    """Raises `Death` at the n-th line that is run of the modules that a start goes through."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise Death
        return self


def starting(run_here: RunHere, provider: Provider, death: DeathAtLine | None) -> RunHere:
    def buy(spec: Order, attempt: Attempt) -> Bought | PollAgain:
        if attempt.number == 1:
            sys.settrace(death)
        place = attempt.at("acme")
        place.take_slot("acme", size=1)
        remote = attempt.once("start", provider.create, find=provider.find, undo=provider.taken_back.append)
        place.leave_slot()
        sys.settrace(None)
        return Bought(remote=remote)

    return run_here.declaring(job("thing.buy", queues=("api",))(buy))


def test_whatever_line_a_start_dies_at_it_is_made_once_and_its_slot_is_free_again(run_here: RunHere):
    deaths = 0
    for number in range(1, 2000, 4):
        provider, tracing = Provider(), sys.gettrace()
        death = DeathAtLine(number)
        here = starting(run_here, provider, death)
        job_id = here.submit("thing.buy", reuse=False)
        try:
            with suppress(Death):
                here.runner.run(job_id=job_id)
        finally:
            sys.settrace(tracing)
        if death.left > 0:
            break
        deaths += 1
        with here.store.database.writing() as connection:
            connection.exec_driver_sql("UPDATE job SET lease_until = '2000-01-01' WHERE lease_until IS NOT NULL")
        here.store.expire_leases(max_failures=3, actor="sweeper")
        done = here.finish(job_id)
        assert (done.state, len(provider.created), provider.taken_back) == (State.SUCCEEDED, 1, []), number
        assert here.store.slots.held_at("acme") == 0
    assert deaths > 10


def test_who_is_given_a_slot_is_rung_for_at_once(run_here: RunHere):
    rung: list[dict[str, list[str]]] = []

    def buy(spec: Order, attempt: Attempt) -> Bought:
        attempt.at("acme").take_slot("acme", size=1)
        first.append(attempt.job_id)
        if len(first) == 1:
            assert run_here.store.claim(worker="w", lease_seconds=60, job_id=second) is not None
            assert not run_here.store.slots.take(second, "acme", fence=1)
            changes: dict[str, Any] = {"reason": Reason.SLOT, "due_at": None}
            run_here.store.record(second, Event.POLL_SCHEDULED, actor="w", fence=1, **changes)
        return Bought(remote="r")

    first: list[str] = []
    here = run_here.declaring(job("thing.buy", queues=("api",))(buy))
    ids = [here.submit("thing.buy", "api", reuse=False) for _ in range(2)]
    second = ids[1]
    ringing = replace(here.runner, ring=lambda rings: rung.append({queue: [*ids] for queue, ids in rings.items()}))
    ringing.run(job_id=ids[0])
    assert rung == [{"api": [second]}]
    ringing.run(job_id=second)
    assert len(rung) == 1  # nobody waits any more


def test_a_doorbell_that_is_out_of_order_is_no_fault_of_the_job(run_here: RunHere):
    def ring(rings: object) -> None:
        raise Transient("the broker does not answer")

    def buy(spec: Order, attempt: Attempt) -> Bought:
        attempt.at("acme").take_slot("acme", size=1)
        assert run_here.store.claim(worker="w", lease_seconds=60, job_id=second) is not None
        assert not run_here.store.slots.take(second, "acme", fence=1)
        changes: dict[str, Any] = {"reason": Reason.SLOT, "due_at": None}
        run_here.store.record(second, Event.POLL_SCHEDULED, actor="w", fence=1, **changes)
        return Bought(remote="r")

    here = run_here.declaring(job("thing.buy", queues=("api",))(buy))
    ids = [here.submit("thing.buy", reuse=False) for _ in range(2)]
    second = ids[1]
    replace(here.runner, ring=ring).run(job_id=ids[0])
    assert here.store.read.job(ids[0]).state == State.SUCCEEDED
    assert here.store.read.job(second).has_slot
