"""A job run in the command's own process, and its interruption."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from queue_app.cli import context
from queue_app.cli.submit import finish_here
from queue_app.job_type import Attempt, Result, Spec, job

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
