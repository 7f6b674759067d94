"""The one write path of a job's life: `Store.record`, and the few writes that are no transition."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, and_, exists, func, insert, select, update

from queue_app.errors import StaleTransition
from queue_app.lifecycle import CLAIMABLE, FINAL, TRANSITIONS, Cause, Event, Reason, Request, State
from queue_app.store.artifact_index import ArtifactIndex
from queue_app.store.memos import Memos
from queue_app.store.readings import Readings
from queue_app.store.tables import Job, counters, dependencies, events, jobs, measurements, memos, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

    from queue_app.store.database import Database

ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # base 32: safe in file names, URLs and provider suffixes
ID_LENGTH = 10  # 50 bits


def new_id() -> str:
    """A random id; short enough to be part of a submission key."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))


@dataclass(frozen=True)
class NewJob:
    """A job as it is submitted. `needs` are ids of jobs that must succeed first."""

    kind: str
    queue: str
    spec: dict[str, Any]
    id: str = field(default_factory=new_id)
    needs: tuple[str, ...] = ()
    priority: int = 0
    timeout_seconds: float | None = None
    reuse: bool = True
    run_id: str | None = None
    step: str | None = None


class Store:
    """The store's writes. Reads are in `read`, artifacts in `artifacts`, once-only steps in `memos`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.read = Readings(database)
        self.artifacts = ArtifactIndex(database)
        self.memos = Memos(database)

    # -- submission -----------------------------------------------------------------------------------------------

    def submit(self, new: Sequence[NewJob], *, actor: str, recipe: tuple[str, str, str] | None = None) -> None:
        """Insert jobs, all or none, to be served in this order. `recipe` is (run id, name, text) of their run."""
        now = datetime.now(UTC)
        with self.database.writing() as connection:
            if recipe is not None:
                run_id, name, text = recipe
                connection.execute(insert(runs).values(id=run_id, name=name, recipe=text, submitted_at=now))
            for place, job in enumerate(new):  # a microsecond apart: who stands first is served first
                _insert(connection, job, now + timedelta(microseconds=place), actor)

    # -- the worker's side ----------------------------------------------------------------------------------------

    def claim(
        self, *, worker: str, lease_seconds: float, queue: str | None = None, job_id: str | None = None
    ) -> Job | None:
        """Take the most urgent due job of a queue (or the named job, if it is due); None: there is nothing to do.

        Priority first, then whose time came first. One guarded update: two workers never get the same attempt.
        """
        now = datetime.now(UTC)
        wanted = jobs.c.id == job_id if job_id else jobs.c.queue == queue
        due = (
            select(jobs.c.id)
            .where(wanted, jobs.c.due_at <= now, jobs.c.due_at.is_not(None))
            .order_by(jobs.c.priority.desc(), jobs.c.due_at, jobs.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self.database.writing() as connection:
            found = connection.execute(due).scalar()
            if found is None:
                return None
            until = now + timedelta(seconds=lease_seconds)
            job = _move(connection, found, Event.STARTED, actor=worker, worker=worker, lease_until=until)
            if job.timeout_seconds is None or job.deadline_at is not None:
                return job
            deadline = now + timedelta(seconds=job.timeout_seconds)
            return _guarded(connection, job.id, job.attempt, deadline_at=deadline)

    def record(
        self,
        job_id: str,
        event: Event,
        *,
        actor: str,
        fence: int | None = None,
        detail: dict[str, Any] | None = None,
        forget: tuple[str, ...] = (),
        **changes: Any,
    ) -> Job:
        """Move a job by an event, with what follows from it for the jobs that need it, in one transaction.

        Raises:
            StaleTransition: the job is not in a state this event may happen in, or `fence` is no longer its attempt
        """
        with self.database.writing() as connection:
            job = _move(connection, job_id, event, actor=actor, fence=fence, detail=detail, **changes)
            for step in forget:
                _forget(connection, job_id, step)
            _follow(connection, job, event)
            return job

    def renew(self, job_id: str, *, fence: int, lease_seconds: float) -> Job:
        """Keep the lease, and learn what was asked of the job meanwhile.

        Raises:
            StaleTransition: the lease was lost
        """
        until = datetime.now(UTC) + timedelta(seconds=lease_seconds)
        with self.database.writing() as connection:
            return _guarded(connection, job_id, fence, lease_until=until)

    def report(self, job_id: str, *, fence: int, progress: dict[str, Any]) -> Job:
        """Write how far a job is; what carries a `step` also joins its series.

        Raises:
            StaleTransition: the lease was lost
        """
        with self.database.writing() as connection:
            job = _guarded(connection, job_id, fence, progress=progress)
            if "step" in progress:
                row = {"job_id": job_id, "attempt": fence, "at": datetime.now(UTC), "progress": progress}
                connection.execute(insert(measurements).values(row))
            return job

    # -- the user's side ------------------------------------------------------------------------------------------

    def cancel(self, job_id: str, *, actor: str) -> Job:
        """Cancel a job: at once if nobody ever held it, else by asking whoever does.

        A job that ran before may hold something elsewhere, so it is claimed once more to take that back.
        """
        return self._ask(job_id, Request.CANCEL, Event.CANCELLED, Event.CANCEL_REQUESTED, actor)

    def pause(self, job_id: str, *, actor: str) -> Job:
        """Pause a job: at once if nobody holds it, else after its next checkpoint."""
        return self._ask(job_id, Request.PAUSE, Event.PAUSED, Event.PAUSE_REQUESTED, actor)

    def resume(self, job_id: str, *, actor: str) -> Job:
        """Let a paused job go on."""
        return self.record(job_id, Event.RESUMED, actor=actor)

    def retry(self, job_id: str, *, actor: str) -> Job:
        """Send a failed or cancelled job again, and with it the jobs that were cancelled for want of it."""
        return self.record(job_id, Event.RETRIED, actor=actor)

    def _ask(self, job_id: str, request: Request, now: Event, later: Event, actor: str) -> Job:
        with self.database.writing() as connection:
            job = _lock(connection, job_id)
            held = job.state == State.RUNNING
            if request == Request.CANCEL and job.attempt > 0 and job.state != State.PAUSED:
                held = True
            if not held:
                job = _move(connection, job_id, now, actor=actor)
                _follow(connection, job, now)
                return job
            changes: dict[str, Any] = {"due_at": datetime.now(UTC)} if job.state in CLAIMABLE else {}
            return _move(connection, job_id, later, actor=actor, **changes)

    # -- the sweeper's side ---------------------------------------------------------------------------------------

    def expire_leases(self, *, max_failures: int, actor: str) -> list[Job]:
        """Queue the jobs whose workers fell silent again; fail those that were lost too often."""
        now = datetime.now(UTC)
        query = select(jobs.c.id, jobs.c.attempt, jobs.c.failures, jobs.c.worker).where(jobs.c.lease_until < now)
        with self.database.reading() as connection:
            expired = connection.execute(query).all()
        moved = []
        for job_id, attempt, failures, worker in expired:
            with self.database.writing() as connection:
                late = connection.execute(select(jobs.c.lease_until).where(jobs.c.id == job_id)).scalar()
                if late is None or late >= now:
                    continue  # it was only slow: the lease was renewed, or the job ended, meanwhile
                moved.append(_expire(connection, (job_id, attempt, failures + 1, worker), max_failures, actor))
        return moved

    def wake(self, *, actor: str) -> int:
        """Queue the waiting jobs whose needs have all succeeded, and make due what is past its deadline."""
        unmet = _unmet(jobs.c.id)
        ready = select(jobs.c.id).where(
            jobs.c.state == State.WAITING, jobs.c.reason == Reason.DEPENDENCY, ~exists(unmet)
        )
        now = datetime.now(UTC)
        late = (jobs.c.state == State.WAITING, jobs.c.deadline_at < now, jobs.c.due_at > now)
        with self.database.reading() as connection:
            ids = connection.execute(ready).scalars().all()
            overdue = connection.execute(select(jobs.c.id).where(*late)).scalars().all()
        if not ids and not overdue:
            return 0
        with self.database.writing() as connection:
            for job_id in ids:
                _move(connection, job_id, Event.WOKEN, actor=actor)
            connection.execute(update(jobs).where(jobs.c.id.in_(overdue), *late).values(due_at=now))
        return len(ids) + len(overdue)

    def count(self, name: str) -> None:
        """Add one to a counter."""
        with self.database.writing() as connection:
            _count(connection, name)


# -- inside a transaction -----------------------------------------------------------------------------------------


def _insert(connection: Connection, new: NewJob, now: datetime, actor: str) -> None:
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


def _move(
    connection: Connection,
    job_id: str,
    event: Event,
    *,
    actor: str,
    fence: int | None = None,
    detail: dict[str, Any] | None = None,
    **changes: Any,
) -> Job:
    """The compare-and-set behind every transition, with its event."""
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
    if target == State.RUNNING:
        seconds = func.coalesce(jobs.c.started_at, now)
        values |= {"attempt": jobs.c.attempt + 1, "started_at": seconds}
    if target == State.QUEUED:
        values["due_at"] = now
    if target in FINAL:
        values |= {"finished_at": now, "request": None}
    if event in (Event.PAUSED, Event.RESUMED, Event.RETRIED):
        values["request"] = None
    if event in (Event.RETRIED, Event.REPLANNED):
        values |= {"failures": 0, "cause": None, "failure": None, "finished_at": None, "started_at": None}
        values |= {"deadline_at": None, "progress": None}
    if event == Event.REPLANNED:
        values["reason"] = Reason.DEPENDENCY
    return values


def _lock(connection: Connection, job_id: str) -> Job:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).mappings().one()
    return Job.model_validate(dict(row))


def _guarded(connection: Connection, job_id: str, fence: int, **values: Any) -> Job:
    """Write as the holder of the lease."""
    guard = (jobs.c.id == job_id, jobs.c.state == State.RUNNING, jobs.c.attempt == fence)
    row = connection.execute(update(jobs).where(*guard).values(values).returning(jobs)).mappings().first()
    if row is None:
        raise StaleTransition(f"job {job_id}: attempt {fence} has lost its lease")
    return Job.model_validate(dict(row))


def _unmet(job_id: ColumnElement[Any]) -> Any:
    needed: Table = jobs.alias("needed")  # type: ignore[assignment]
    return (
        select(dependencies.c.job_id)
        .join(needed, needed.c.id == dependencies.c.needs_id)
        .where(dependencies.c.job_id == job_id, needed.c.state != State.SUCCEEDED)
    )


def _dependents(connection: Connection, job_id: str, *conditions: ColumnElement[bool]) -> Sequence[str]:
    query = (
        select(jobs.c.id)
        .join(dependencies, dependencies.c.job_id == jobs.c.id)
        .where(dependencies.c.needs_id == job_id, *conditions)
    )
    return connection.execute(query).scalars().all()


def _follow(connection: Connection, job: Job, event: Event) -> None:
    """What a job's end, or its second beginning, means for the jobs that need it."""
    waiting = and_(jobs.c.state == State.WAITING, jobs.c.reason == Reason.DEPENDENCY)
    if job.state == State.SUCCEEDED:
        for child in _dependents(connection, job.id, waiting, ~exists(_unmet(jobs.c.id))):
            _move(connection, child, Event.WOKEN, actor=job.id)
    elif job.state in FINAL:
        because = f"it needs {job.step or job.id}, which {'failed' if job.state == State.FAILED else 'was cancelled'}"
        for child in _dependents(connection, job.id, waiting):
            moved = _move(connection, child, Event.CANCELLED, actor=job.id, failure=because)
            _follow(connection, moved, Event.CANCELLED)
    elif event in (Event.RETRIED, Event.REPLANNED):
        for child in _dependents(connection, job.id, jobs.c.state == State.CANCELLED, jobs.c.attempt == 0):
            _follow(connection, _move(connection, child, Event.REPLANNED, actor=job.id), Event.REPLANNED)


def _forget(connection: Connection, job_id: str, step: str) -> None:
    here = (memos.c.job_id == job_id, memos.c.step == step)
    fresh = {"round": memos.c.round + 1, "done": False, "value": None, "intended_at": None, "acted_at": None}
    connection.execute(update(memos).where(*here).values(fresh))


def _count(connection: Connection, name: str) -> None:
    changed = connection.execute(update(counters).where(counters.c.name == name).values(value=counters.c.value + 1))
    if changed.rowcount == 0:
        connection.execute(insert(counters).values(name=name, value=1))


def _expire(connection: Connection, lost: tuple[str, int, int, str | None], max_failures: int, actor: str) -> Job:
    job_id, attempt, failures, worker = lost
    _count(connection, "expired_leases")
    if failures < max_failures:
        detail = {"worker": worker}
        return _move(
            connection, job_id, Event.LEASE_EXPIRED, actor=actor, fence=attempt, detail=detail, failures=failures
        )
    failure = (
        f"its worker fell silent {failures} times, last {worker} in attempt {attempt}; look at `tuneyard jobs logs "
        f"{job_id}` and the system's log (out of memory?), then `tuneyard jobs retry {job_id}`"
    )
    changes: dict[str, Any] = {"failures": failures, "cause": Cause.LOST, "failure": failure}
    job = _move(connection, job_id, Event.FAILED, actor=actor, fence=attempt, **changes)
    _follow(connection, job, Event.FAILED)
    return job
