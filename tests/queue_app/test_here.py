"""A job run in the command's own process: whose it is, what it waits for, and its interruption."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
import typer
from sqlalchemy import event

from queue_app.cli import context
from queue_app.cli.here import finish_here
from queue_app.cli.submit import submit
from queue_app.errors import AccountPaused, StandsStill
from queue_app.job_type import Attempt, PollAgain, Result, Spec, job
from queue_app.lifecycle import Event, Reason
from queue_app.runner import Runner
from queue_app.store import NewJob
from settings import get_settings
from tests.conftest import eventually

if TYPE_CHECKING:
    from queue_app.attempt import LiveAttempt
    from queue_app.job_type import JobType
    from queue_app.store import Job
    from tests.conftest import RunHere

COMMON: dict[str, Any] = {"queue": None, "priority": 0, "timeout": None, "reuse": False}
COMMON |= {"here": True, "as_json": False, "quiet": False}


class Nothing(Spec):
    """Nothing to say."""


class Done(Result):
    """Nothing to tell."""


@pytest.fixture(autouse=True)
def _fresh_context() -> None:
    get_settings.cache_clear()
    context.store.cache_clear()


@pytest.fixture
def typed(run_here: RunHere, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `tuneyard jobs submit … --here` does with a job type: the job as it is then, and the exit code."""

    def submit_here(job_type: JobType[Any, Any]) -> tuple[Job, int]:
        here = run_here.declaring(job_type)
        monkeypatch.setattr(context, "runner", lambda _: here.runner)
        code = 0
        try:
            submit(job_type, {}, COMMON)
        except typer.Exit as ended:
            code = ended.exit_code
        return here.store.read.ls()[0], code

    return submit_here


@job("test.stop", queues=("cpu",))
def stop(spec: Nothing, attempt: Attempt) -> Done:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


def test_an_interrupted_job_says_its_id_and_how_to_go_on(
    run_here: RunHere, typed: Any, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(KeyboardInterrupt):
        typed(stop)
    [left] = run_here.store.read.ls()
    said = capsys.readouterr().err
    assert f"job {left.id} was interrupted" in said
    assert f"tuneyard jobs cancel {left.id}" in said
    assert "tuneyard up" in said
    assert (left.state, left.worker) == ("queued", None), "nobody has to wait for its lease to expire"


@job("test.poll", queues=("cpu",))
def poll(spec: Nothing, attempt: Attempt) -> Done | PollAgain:
    """Ask to be called again once."""
    return PollAgain(0.8) if attempt.number == 1 else Done()


def test_a_job_that_waits_here_is_left_alone_until_it_is_due(run_here: RunHere, typed: Any):
    begun: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement == "BEGIN IMMEDIATE":
            begun.append(statement)

    event.listen(run_here.store.database.engine, "before_cursor_execute", note)
    ended, code = typed(poll)
    assert (ended.state, code) == ("succeeded", 0)
    assert len(begun) == 4, "its birth in its first attempt, a claim, and two ends; no write in between"


class Taken(Result):
    """Whether a worker of the yard got the job as well."""

    taken: bool


@job("test.rival", queues=("cpu",))
def rival(spec: Nothing, attempt: Attempt) -> Taken:
    """Let a worker of the yard look for work."""
    store = cast("LiveAttempt", attempt).store
    return Taken(taken=store.claim(worker="yard", lease_seconds=60, queue="cpu") is not None)


def test_a_worker_of_the_yard_finds_nothing_to_take_of_a_job_that_runs_here(
    run_here: RunHere, monkeypatch: pytest.MonkeyPatch
):
    here = run_here.declaring(rival)
    yard = Runner(here.store, here.settings, "yard", find=here.runner.find)

    def look_first(_: str) -> Runner:
        yard.run(queue="cpu")
        return here.runner

    monkeypatch.setattr(context, "runner", look_first)
    submit(rival, {}, COMMON)
    [ended] = here.store.read.ls()
    assert ended.result == {"taken": False}
    assert [(each.name, each.actor) for each in here.store.read.history(ended.id)][1:] == [
        ("started", "test"),
        ("succeeded", "test"),
    ]


def test_a_job_whose_command_has_died_is_taken_over_by_a_worker(run_here: RunHere):
    here, new = run_here.declaring(poll), NewJob(kind="test.poll", queue="cpu", spec={})
    held = here.store.submit_held(new, actor="user:me", worker="here-1", lease_seconds=0)
    assert (held.state, held.worker, held.attempt) == ("running", "here-1", 1)
    assert not here.runner.run(queue="cpu")
    here.store.expire_leases(max_failures=3, actor="sweeper")
    assert here.runner.run(queue="cpu")
    assert here.store.read.job(new.id).attempt == 2


def test_a_job_that_a_dead_worker_holds_is_taken_over_without_a_yard(
    run_here: RunHere, monkeypatch: pytest.MonkeyPatch
):
    here = run_here.declaring(poll)
    job_id = here.submit("test.poll")
    assert here.store.claim(worker="dead", lease_seconds=0, job_id=job_id) is not None
    monkeypatch.setattr(context, "runner", lambda _: here.runner)
    assert finish_here(job_id).attempt == 2


@job("test.dear", queues=("cpu",))
def dear(spec: Nothing, attempt: Attempt) -> Done:
    """Be over a cap."""
    raise StandsStill("it may cost $3.00, and the recipe's cap is $1.00", Reason.APPROVAL)


def test_a_job_that_waits_for_a_word_ends_the_command_and_says_which(typed: Any, capsys: pytest.CaptureFixture[str]):
    waiting, code = typed(dear)
    said = capsys.readouterr()
    assert (waiting.state, code) == ("waiting", 2)
    assert "it waits for your approval: it may cost $3.00, and the recipe's cap is $1.00" in said.err
    assert f"tuneyard approve {waiting.id}" in said.err
    assert f"{waiting.id}  test.dear  waiting (approval)" in said.out


@job("test.broke", queues=("cpu",))
def broke(spec: Nothing, attempt: Attempt) -> Done:
    """Be at an account that has no money left."""
    with cast("LiveAttempt", attempt).at("acme").asked():
        raise AccountPaused("acme: the balance is used up")


def test_a_job_at_an_account_without_money_ends_the_command_and_says_so(
    run_here: RunHere, typed: Any, capsys: pytest.CaptureFixture[str]
):
    waiting, code = typed(broke)
    said = capsys.readouterr().err
    assert (waiting.state, waiting.reason, code) == ("waiting", "budget", 2)
    assert "the account acme is left alone until" in said
    assert "acme: the balance is used up" in said
    assert "tuneyard providers resume acme" in said
    second, _ = typed(broke)
    assert "tuneyard providers resume acme" in capsys.readouterr().err, "it met an account that was paused already"
    assert run_here.store.accounts.resume("acme") == 2
    assert second.id != waiting.id


@job("test.slot", queues=("cpu",))
def wants_slot(spec: Nothing, attempt: Attempt) -> Done:
    """Take a slot of a pool that has one."""
    cast("LiveAttempt", attempt).at("acme").take_slot("acme", size=1)
    return Done()


def test_a_job_that_waits_for_a_slot_says_so_and_goes_on_when_it_has_one(
    run_here: RunHere, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    here = run_here.declaring(wants_slot)
    holder = here.submit("test.slot")
    held = here.store.claim(worker="w", lease_seconds=60, job_id=holder)
    assert held is not None
    here.store.slots.resize("acme", 1, "the test")
    assert here.store.slots.take(holder, "acme", fence=held.attempt)
    job_id = here.submit("test.slot")
    monkeypatch.setattr(context, "runner", lambda _: here.runner)
    command = threading.Thread(target=finish_here, args=(job_id,))
    command.start()
    said = ""

    def has_said() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return f"{job_id}  it waits for a slot at acme: 1 of 1 are held; 0 wait before it" in said

    eventually(has_said, what="a word about the slot")
    here.store.record(holder, Event.SUCCEEDED, actor="w", fence=held.attempt, result={})
    command.join(20)
    assert here.store.read.job(job_id).state == "succeeded"
