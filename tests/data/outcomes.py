"""What became of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from queue_app.lifecycle import State

if TYPE_CHECKING:
    from queue_app.store import Job


def result_of(job: Job) -> dict[str, Any]:
    """The result of a job that succeeded; shows the failure of any other."""
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    return job.result
