"""What happens to one row inside a transaction: the compare-and-set behind every transition, with its event."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from queue_app.errors import StaleTransition
from queue_app.lifecycle import FINAL, TRANSITIONS, Event, Reason, Request, State
from queue_app.store.rows import Job
from queue_app.store.tables import counters, dependencies, events, jobs, memos

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from queue_app.store.new_job import NewJob


def insert_job(connection: Connection, new: NewJob, now: datetime, actor: str) -> None:
    """Insert a job: queued, or waiting for the jobs it needs."""
    done = select(func.count()).select_from(jobs).where(jobs.c.id.in_(new.needs), jobs.c.state == State.SUCCEEDED)
    blocked = bool(new.needs) and connection.execute(done).scalar() != len(new.needs)
    event = Event.PLANNED if blocked else Event.SUBMITTED
    state = TRANSITIONS[event][1]
    row = Job(
        id=new.id,
        kind=new.kind,
        queue=new.queue,
        priority=new.priority,
        spec=new.spec,
        run_id=new.run_id,
        step=new.step,
        state=State.WAITING if blocked else State.QUEUED,
        reason=Reason.DEPENDENCY if blocked else None,
        submitted_at=now,
        due_at=None if blocked else now,
        timeout_seconds=new.timeout_seconds,
        reuse=new.reuse,
        cards=new.cards,
    )
    connection.execute(insert(jobs).values(row.model_dump()))
    if new.needs:
        pairs = [{"job_id": new.id, "needs_id": need} for need in new.needs]
        connection.execute(insert(dependencies), pairs)
    connection.execute(insert(events).values(_event_row(new.id, event, 0, str(state), actor, {})))


def _event_row(
    job_id: str, event: Event, attempt: int, state: str, actor: str, detail: dict[str, Any]
) -> dict[str, Any]:
    at = datetime.now(UTC)
    return {
        "job_id": job_id,
        "at": at,
        "name": event,
        "attempt": attempt,
        "state": state,
        "actor": actor,
        "detail": detail,
    }


def move(
    connection: Connection,
    job_id: str,
    event: Event,
    *,
    actor: str,
    fence: int | None = None,
    detail: dict[str, Any] | None = None,
    **changes: Any,
) -> Job:
    """Move a job by an event, or raise.

    Raises:
        StaleTransition: it is not in a state this event may happen in, or `fence` is no longer its attempt
    """
    sources, target = TRANSITIONS[event]
    guard = [jobs.c.id == job_id, jobs.c.state.in_(sources)]
    if fence is not None:
        guard.append(jobs.c.attempt == fence)
    values = {**_consequences(event, target), **changes}
    row = connection.execute(update(jobs).where(*guard).values(values).returning(jobs)).mappings().first()
    if row is None:
        raise StaleTransition(f'job {job_id}: "{event}" does not apply any more; see `tuneyard jobs show {job_id}`')
    job = Job.model_validate(dict(row))
    connection.execute(insert(events).values(_event_row(job_id, event, job.attempt, job.state, actor, detail or {})))
    return job


def _consequences(event: Event, target: State | None) -> dict[str, Any]:
    """What a transition sets beside the state."""
    now = datetime.now(UTC)
    if target is None:
        return {"request": Request.PAUSE if event == Event.PAUSE_REQUESTED else Request.CANCEL}
    values: dict[str, Any] = {"state": target, "lease_until": None, "worker": None, "due_at": None, "reason": None}
    values["holds"] = None
    if target == State.RUNNING:
        seconds = func.coalesce(jobs.c.started_at, now)
        values |= {"attempt": jobs.c.attempt + 1, "started_at": seconds}
    if target == State.QUEUED:
        values["due_at"] = now
    if target in FINAL:
        values |= {"finished_at": now, "request": None, "has_slot": False}
    if event in (Event.PAUSED, Event.RESUMED, Event.RETRIED):
        values["request"] = None
    if event in (Event.RETRIED, Event.REPLANNED):
        values |= {"failures": 0, "cause": None, "failure": None, "finished_at": None, "started_at": None}
        values |= {"deadline_at": None, "progress": None}
    if event == Event.REPLANNED:
        values["reason"] = Reason.DEPENDENCY
    return values


def lock(connection: Connection, job_id: str) -> Job:
    """The row, and nobody else writes it before this transaction ends."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).mappings().one()
    return Job.model_validate(dict(row))


def write_as_holder(connection: Connection, job_id: str, fence: int, **values: Any) -> Job:
    """Write as the holder of the lease."""
    guard = (jobs.c.id == job_id, jobs.c.state == State.RUNNING, jobs.c.attempt == fence)
    row = connection.execute(update(jobs).where(*guard).values(values).returning(jobs)).mappings().first()
    if row is None:
        raise StaleTransition(f"job {job_id}: attempt {fence} has lost its lease")
    return Job.model_validate(dict(row))


def forget_step(connection: Connection, job_id: str, step: str) -> None:
    """Let a once-only step be done anew, under a new key."""
    here = (memos.c.job_id == job_id, memos.c.step == step)
    fresh = {"round": memos.c.round + 1, "done": False, "value": None, "intended_at": None, "acted_at": None}
    connection.execute(update(memos).where(*here).values(fresh))


def count(connection: Connection, name: str) -> None:
    """Add one to a counter."""
    more = update(counters).where(counters.c.name == name).values(value=counters.c.value + 1)
    if connection.execute(more).rowcount == 0:
        try:
            with connection.begin_nested():
                connection.execute(insert(counters).values(name=name, value=1))
        except IntegrityError:  # another one began it in this very moment
            connection.execute(more)
