"""What a job's end, or its second beginning, means for the jobs that need it, inside its own transaction.

A job that is cancelled for want of an input keeps the reason `dependency`: by that a retry of the input tells it from
one that the user did not want.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, and_, exists, or_, select

from queue_app.errors import StaleTransition
from queue_app.lifecycle import FINAL, Event, Reason, State
from queue_app.store.tables import dependencies, jobs
from queue_app.store.transitions import move

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnElement, Connection

    from queue_app.store.rows import Job

WAITS = and_(jobs.c.state == State.WAITING, jobs.c.reason == Reason.DEPENDENCY)
STOOD_STILL = and_(jobs.c.state == State.PAUSED, jobs.c.attempt == 0)
WANTED_IN_VAIN = and_(jobs.c.state == State.CANCELLED, jobs.c.reason == Reason.DEPENDENCY)


def unmet(job_id: ColumnElement[Any] | str, *states: State) -> Any:
    """The needs of a job that are in one of these states, or, with none given, have not succeeded."""
    needed: Table = jobs.alias("needed")  # type: ignore[assignment]
    condition = needed.c.state.in_(states) if states else needed.c.state != State.SUCCEEDED
    return (
        select(dependencies.c.job_id)
        .join(needed, needed.c.id == dependencies.c.needs_id)
        .where(dependencies.c.job_id == job_id, condition)
    )


def follow(connection: Connection, job: Job, event: Event) -> None:
    """Wake, cancel or plan anew what needs this job, and what needs that, and so on."""
    work = [(job, event)]
    while work:
        mover, happened = work.pop()
        if mover.state == State.SUCCEEDED:
            list(_move_all(connection, mover, and_(WAITS, ~exists(unmet(jobs.c.id))), Event.WOKEN))
        elif mover.state in FINAL:
            ended = "failed" if mover.state == State.FAILED else "was cancelled"
            why = {"failure": f"it needs {mover.step or mover.id}, which {ended}", "reason": Reason.DEPENDENCY}
            lost = _move_all(connection, mover, or_(WAITS, STOOD_STILL), Event.CANCELLED, **why)
            work += [(child, Event.CANCELLED) for child in lost]
        elif happened in (Event.RETRIED, Event.REPLANNED):
            hopeless = exists(unmet(jobs.c.id, State.FAILED, State.CANCELLED))
            revived = _move_all(connection, mover, and_(WANTED_IN_VAIN, ~hopeless), Event.REPLANNED)
            work += [(child, Event.REPLANNED) for child in revived]


def _move_all(
    connection: Connection, mover: Job, condition: ColumnElement[bool], event: Event, **changes: Any
) -> Iterator[Job]:
    query = (
        select(jobs.c.id)
        .join(dependencies, dependencies.c.job_id == jobs.c.id)
        .where(dependencies.c.needs_id == mover.id, condition)
    )
    for child in connection.execute(query).scalars().all():
        with suppress(StaleTransition):  # another of its needs was quicker
            yield move(connection, child, event, actor=mover.id, **changes)
