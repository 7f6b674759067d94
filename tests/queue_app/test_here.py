"""A job run in the command's own process, and its interruption."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from queue_app.cli import context
from queue_app.cli.live import watch_here
from queue_app.cli.submit import finish_here
from queue_app.job_type import Attempt, PollAgain, Result, Spec, job

if TYPE_CHECKING:
    from tests.conftest import RunHere


class Nothing(Spec):
    """Nothing to say."""


class Done(Result):
    """Nothing to tell."""


@job("test.stop", queues=("cpu",))
def stop(spec: Nothing, attempt: Attempt) -> Done:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


def test_an_interrupted_job_says_its_id_and_how_to_go_on(
    run_here: RunHere, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    here = run_here.declaring(stop)
    job_id = here.submit("test.stop")
    monkeypatch.setattr(context, "runner", lambda _: here.runner)
    with pytest.raises(KeyboardInterrupt):
        finish_here(job_id)
    said = capsys.readouterr().err
    assert f"job {job_id} was interrupted" in said
    assert f"tuneyard jobs cancel {job_id}" in said
    assert "tuneyard up" in said


@job("test.poll", queues=("cpu",))
def poll(spec: Nothing, attempt: Attempt) -> Done | PollAgain:
    """Ask to be called again once."""
    return PollAgain(0.8) if attempt.number == 1 else Done()


def test_a_job_that_waits_here_is_left_alone_until_it_is_due(run_here: RunHere):
    here = run_here.declaring(poll)
    job_id = here.submit("test.poll")
    begun: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement == "BEGIN IMMEDIATE":
            begun.append(statement)

    event.listen(here.store.database.engine, "before_cursor_execute", note)
    assert watch_here(here.runner, job_id).state == "succeeded"
    assert len(begun) == 4, "two claims and their two ends, and no write in between"
