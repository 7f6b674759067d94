"""The one write path of a job's life: `Store.record`, and the few writes that are no transition."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, insert, or_, select, update

from queue_app.errors import Invalid, StaleTransition
from queue_app.lifecycle import CLAIMABLE, FINAL, Cause, Event, Reason, Request, State, backoff_seconds
from queue_app.store.accounts import Accounts
from queue_app.store.artifact_index import ArtifactIndex
from queue_app.store.bills import Bills, end_start
from queue_app.store.cards import CARD_QUEUE, Cards, choose
from queue_app.store.dependents import follow, unmet
from queue_app.store.memos import Memos
from queue_app.store.money import START
from queue_app.store.readings import Readings
from queue_app.store.slots import Refused, SlotRules, Slots, give_free, lower
from queue_app.store.tables import jobs, measurements, runs
from queue_app.store.transitions import count, forget_step, insert_job, lock, move, write_as_holder
from queue_app.store.uploads import Uploads
from queue_app.store.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from queue_app.store.cards import Holds
    from queue_app.store.database import Database
    from queue_app.store.new_job import NewJob
    from queue_app.store.rows import Job


TRIES = 5  # jobs that others take away while this one decides
LOST_SECONDS, LOST_LONGEST_SECONDS = 5.0, 600.0  # pauses of a job that holds a slot and was lost too often


class Store:
    """The store's writes. Reads are in `read`, the other parts under their names."""

    def __init__(self, database: Database, rules: SlotRules | None = None) -> None:
        self.database = database
        self.rules = rules or SlotRules()
        self.read = Readings(database)
        self.artifacts = ArtifactIndex(database)
        self.memos = Memos(database)
        self.slots = Slots(database, self.rules)
        self.accounts = Accounts(database)
        self.uploads = Uploads(database)
        self.bills = Bills(database)
        self.workers = Workers(database)
        self.cards = Cards(database)

    # -- submission -----------------------------------------------------------------------------------------------

    def submit(
        self,
        new: Sequence[NewJob],
        *,
        actor: str,
        recipe: tuple[str, str, str] | None = None,
        cap_usd: float | None = None,
    ) -> None:
        """Insert jobs, all or none, to be served in this order.

        `recipe` is (run id, name, text) of their run, `cap_usd` the most that the run may cost.
        """
        now = datetime.now(UTC)
        with self.database.writing() as connection:
            if recipe is not None:
                run_id, name, text = recipe
                connection.execute(
                    insert(runs).values(id=run_id, name=name, recipe=text, submitted_at=now, cap_usd=cap_usd)
                )
            for place, job in enumerate(new):  # a microsecond apart: who stands first is served first
                insert_job(connection, job, now + timedelta(microseconds=place), actor)

    def submit_held(self, new: NewJob, *, actor: str, worker: str, lease_seconds: float) -> Job:
        """Insert a job that its submitter runs: held from its birth, so no other worker gets its first attempt."""
        with self.database.writing() as connection:
            insert_job(connection, new, datetime.now(UTC), actor)
            return _start(connection, new.id, worker, lease_seconds)

    # -- the worker's side ----------------------------------------------------------------------------------------

    def claim(
        self, *, worker: str, lease_seconds: float, queue: str | None = None, job_id: str | None = None
    ) -> Job | None:
        """Take the most urgent due job of a queue (or the named job, if it is due); None: there is nothing to do.

        Priority first, then who holds a slot, then whose time came first. One guarded update: two workers never get
        the same attempt. A job that needs several cards gets all of them with it, or is not taken; see `store.cards`.
        """
        if queue == CARD_QUEUE and job_id is None:
            return self._claim_with_cards(worker, lease_seconds)
        now = datetime.now(UTC)
        wanted = jobs.c.id == job_id if job_id else jobs.c.queue == queue
        due = (
            select(jobs.c.id)
            .where(wanted, jobs.c.due_at <= now, jobs.c.due_at.is_not(None))
            .order_by(jobs.c.priority.desc(), jobs.c.has_slot.desc(), jobs.c.due_at, jobs.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self.database.writing() as connection:
            found = connection.execute(due).scalar()
            if found is None:
                return None
            return _start(connection, found, worker, lease_seconds)

    def _claim_with_cards(self, worker: str, lease_seconds: float) -> Job | None:
        with self.database.writing() as connection:
            for _ in range(TRIES):
                chosen = choose(connection, worker, lease_seconds)
                if chosen is None:
                    return None
                with suppress(StaleTransition):  # a worker of another host was quicker: it is due no more
                    return _start(connection, chosen.job_id, worker, lease_seconds, chosen.holds)
        return None

    def record(
        self,
        job_id: str,
        event: Event,
        *,
        actor: str,
        fence: int | None = None,
        detail: dict[str, Any] | None = None,
        forget: tuple[str, ...] = (),
        refused: Refused | None = None,
        **changes: Any,
    ) -> Job:
        """Move a job by an event, with what follows from it for other jobs, in one transaction.

        Those that need it are woken or given up; the slot it leaves is given on. `refused` says that its slot was none.

        Raises:
            StaleTransition: the job is not in a state this event may happen in, or `fence` is no longer its attempt
        """
        with self.database.writing() as connection:
            job = move(connection, job_id, event, actor=actor, fence=fence, detail=detail, **changes)
            if job.account is not None and (job.state in FINAL or START in forget):
                end_start(connection, job, is_forgotten=START in forget)
            for step in forget:
                forget_step(connection, job_id, step)
            follow(connection, job, event)
            if refused is not None and job.pool is not None:
                lower(connection, job.pool, self.rules, refused)
            if job.pool is not None and not job.has_slot:
                give_free(connection, job.pool, self.rules, actor=job_id)
            return job

    def renew(self, job_id: str, *, fence: int, lease_seconds: float) -> Job:
        """Keep the lease, and learn what was asked of the job meanwhile.

        Raises:
            StaleTransition: the lease was lost
        """
        until = datetime.now(UTC) + timedelta(seconds=lease_seconds)
        with self.database.writing() as connection:
            return write_as_holder(connection, job_id, fence, lease_until=until)

    def report(self, job_id: str, *, fence: int, progress: dict[str, Any]) -> Job:
        """Write how far a job is; what carries a `step` also joins its series.

        Raises:
            StaleTransition: the lease was lost
        """
        with self.database.writing() as connection:
            job = write_as_holder(connection, job_id, fence, progress=progress)
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

    def pause(self, job_id: str, *, actor: str, once_begun: bool = True) -> Job:
        """Pause a job: at once if nobody holds it, else after its next checkpoint.

        Raises:
            Invalid: it has begun, and `once_begun` says that its type cannot stand still then
        """
        return self._ask(job_id, Request.PAUSE, Event.PAUSED, Event.PAUSE_REQUESTED, actor, once_begun=once_begun)

    def resume(self, job_id: str, *, actor: str) -> Job:
        """Let a paused job go on; one whose inputs are still to be made waits for them."""
        with self.database.writing() as connection:
            waits = connection.execute(unmet(job_id)).first() is not None
            return move(connection, job_id, Event.REPLANNED if waits else Event.RESUMED, actor=actor)

    def retry(self, job_id: str, *, actor: str) -> Job:
        """Send a failed or cancelled job again, and with it the jobs that were cancelled for want of it."""
        return self.record(job_id, Event.RETRIED, actor=actor)

    def _ask(
        self, job_id: str, request: Request, now: Event, later: Event, actor: str, *, once_begun: bool = True
    ) -> Job:
        with self.database.writing() as connection:
            job = lock(connection, job_id)
            if job.attempt > 0 and not once_begun:
                raise Invalid(
                    f"job {job_id} has begun, and {job.kind} cannot stand still; `tuneyard jobs cancel` ends it"
                )
            if request == Request.PAUSE and job.request == Request.CANCEL:
                raise Invalid(f"job {job_id} is being cancelled, and cannot stand still")
            held = job.state == State.RUNNING
            if request == Request.CANCEL and job.attempt > 0 and job.state != State.PAUSED:
                held = True
            if not held:
                job = move(connection, job_id, now, actor=actor)
                follow(connection, job, now)
                return job
            changes: dict[str, Any] = {"due_at": datetime.now(UTC)} if job.state in CLAIMABLE else {}
            return move(connection, job_id, later, actor=actor, **changes)

    # -- the sweeper's side ---------------------------------------------------------------------------------------

    def expire_leases(self, *, max_failures: int, actor: str) -> list[Job]:
        """Queue the jobs whose workers fell silent again; fail those that were lost too often.

        One that holds a slot is never given up, as something may go on elsewhere; it is put off for ever longer.
        """
        now = datetime.now(UTC)
        columns = (jobs.c.id, jobs.c.attempt, jobs.c.failures, jobs.c.worker, jobs.c.has_slot)
        query = select(*columns).where(jobs.c.lease_until < now)
        with self.database.reading() as connection:
            expired = connection.execute(query).all()
        moved = []
        for job_id, attempt, failures, worker, has_slot in expired:
            with self.database.writing() as connection:
                late = connection.execute(select(jobs.c.lease_until).where(jobs.c.id == job_id)).scalar()
                if late is None or late >= now:
                    continue  # it was only slow: the lease was renewed, or the job ended, meanwhile
                lost = (job_id, attempt, failures + 1, worker)
                with suppress(StaleTransition):  # it ended in this very moment
                    if has_slot and failures + 1 >= max_failures:
                        moved.append(_put_off(connection, lost, max_failures, actor))
                    else:
                        moved.append(_expire(connection, lost, max_failures, actor))
        return moved

    def wake(self, *, actor: str) -> int:
        """Queue the waiting jobs whose needs have all succeeded, and make due what is past its deadline."""
        ready = select(jobs.c.id).where(
            jobs.c.state == State.WAITING, jobs.c.reason == Reason.DEPENDENCY, ~exists(unmet(jobs.c.id))
        )
        now = datetime.now(UTC)
        sleeps = or_(jobs.c.due_at.is_(None), jobs.c.due_at > now)
        late = (jobs.c.state == State.WAITING, jobs.c.deadline_at < now, sleeps)
        with self.database.reading() as connection:
            ids = connection.execute(ready).scalars().all()
            overdue = connection.execute(select(jobs.c.id).where(*late)).scalars().all()
        if not ids and not overdue:
            return 0
        with self.database.writing() as connection:
            for job_id in ids:
                with suppress(StaleTransition):  # it was woken, or cancelled, in this very moment
                    move(connection, job_id, Event.WOKEN, actor=actor)
            connection.execute(update(jobs).where(jobs.c.id.in_(overdue), *late).values(due_at=now))
        return len(ids) + len(overdue)

    def count(self, name: str) -> None:
        """Add one to a counter."""
        with self.database.writing() as connection:
            count(connection, name)


def _start(connection: Connection, job_id: str, worker: str, lease_seconds: float, holds: Holds | None = None) -> Job:
    now = datetime.now(UTC)
    until = now + timedelta(seconds=lease_seconds)
    held: dict[str, Any] = {"worker": worker, "lease_until": until, "holds": holds}
    job = move(connection, job_id, Event.STARTED, actor=worker, detail={"holds": holds} if holds else None, **held)
    if job.timeout_seconds is None or job.deadline_at is not None:
        return job
    deadline = now + timedelta(seconds=job.timeout_seconds)
    return write_as_holder(connection, job.id, job.attempt, deadline_at=deadline)


def _put_off(connection: Connection, lost: tuple[str, int, int, str | None], max_failures: int, actor: str) -> Job:
    """Queue a job whose workers die of it, or with it, for later: it may not take down every worker in a row."""
    job_id, attempt, failures, worker = lost
    pause = backoff_seconds(failures - max_failures + 1, first=LOST_SECONDS, longest=LOST_LONGEST_SECONDS)
    why = (
        f"its worker fell silent {failures} times in a row, last {worker} in attempt {attempt}; it holds a slot, so it "
        f"is asked after all the same; look at `tuneyard jobs logs {job_id}` and the system's log (out of memory?)"
    )
    due = datetime.now(UTC) + timedelta(seconds=pause)
    changes: dict[str, Any] = {"failures": failures, "failure": why, "due_at": due}
    detail = {"why": why, "seconds": round(pause, 1)}
    job = move(connection, job_id, Event.LEASE_EXPIRED, actor=actor, fence=attempt, detail=detail, **changes)
    count(connection, "expired_leases")
    return job


def _expire(connection: Connection, lost: tuple[str, int, int, str | None], max_failures: int, actor: str) -> Job:
    job_id, attempt, failures, worker = lost
    if failures < max_failures:
        detail = {"worker": worker}
        job = move(
            connection, job_id, Event.LEASE_EXPIRED, actor=actor, fence=attempt, detail=detail, failures=failures
        )
        count(connection, "expired_leases")
        return job
    failure = (
        f"its worker fell silent {failures} times, last {worker} in attempt {attempt}; look at `tuneyard jobs logs "
        f"{job_id}` and the system's log (out of memory?), then `tuneyard jobs retry {job_id}`"
    )
    changes: dict[str, Any] = {"failures": failures, "cause": Cause.LOST, "failure": failure}
    job = move(connection, job_id, Event.FAILED, actor=actor, fence=attempt, **changes)
    count(connection, "expired_leases")
    end_start(connection, job, is_forgotten=False)
    follow(connection, job, Event.FAILED)
    return job
