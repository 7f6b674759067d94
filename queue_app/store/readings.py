"""What readers ask the store: the CLI, the metrics, the runner. Nothing here writes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, func, select

from queue_app.errors import Invalid, NotFound
from queue_app.lifecycle import State
from queue_app.store.tables import Job, JobEvent, Run, counters, dependencies, events, jobs, measurements, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from queue_app.store.database import Database

EPOCH_JULIAN_DAY = 2440587.5  # 1970-01-01


class Readings:
    """Queries."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def _jobs(self, query: Select[Any]) -> list[Job]:
        with self.database.reading() as connection:
            return [Job.model_validate(dict(row)) for row in connection.execute(query).mappings()]

    def job(self, job_id: str) -> Job:
        """The job with exactly this id.

        Raises:
            NotFound: there is none
        """
        found = self._jobs(select(jobs).where(jobs.c.id == job_id))
        if not found:
            raise NotFound(f'there is no job "{job_id}"; `tuneyard jobs ls` lists them')
        return found[0]

    def find(self, prefix: str) -> Job:
        """The job whose id begins with `prefix`.

        Raises:
            NotFound: there is none
            Invalid: there are several
        """
        found = self._jobs(select(jobs).where(jobs.c.id.startswith(prefix, autoescape=True)).limit(6))
        exact = [job for job in found if job.id == prefix]
        if exact:
            return exact[0]
        if len(found) > 1:
            ids = ", ".join(job.id for job in found[:5])
            raise Invalid(f'"{prefix}" fits several jobs ({ids}{", …" if len(found) > 5 else ""}); give more of the id')
        if not found or not prefix:
            raise NotFound(f'there is no job "{prefix}"; `tuneyard jobs ls` lists them')
        return found[0]

    def ls(
        self, *, states: Sequence[State] = (), kind: str | None = None, run_id: str | None = None, limit: int = 50
    ) -> list[Job]:
        """Jobs, newest first."""
        query = select(jobs).order_by(jobs.c.submitted_at.desc(), jobs.c.id).limit(limit)
        if states:
            query = query.where(jobs.c.state.in_(states))
        if kind:
            query = query.where(jobs.c.kind == kind)
        if run_id:
            query = query.where(jobs.c.run_id == run_id)
        return self._jobs(query)

    def ids(self, job_ids: Sequence[str]) -> list[Job]:
        """The jobs with these ids, as far as they exist."""
        return self._jobs(select(jobs).where(jobs.c.id.in_(job_ids)))

    def clock(self) -> float:
        """The time by the store's clock, in seconds since the epoch."""
        if self.database.engine.dialect.name == "sqlite":
            query = select((func.julianday("now") - EPOCH_JULIAN_DAY) * 86400.0)
        else:
            query = select(func.extract("epoch", func.clock_timestamp()))
        with self.database.reading() as connection:
            return float(connection.execute(query).scalar_one())

    def run(self, prefix: str) -> Run:
        """The run whose id begins with `prefix`.

        Raises:
            NotFound: there is none
            Invalid: there are several
        """
        with self.database.reading() as connection:
            query = select(runs).where(runs.c.id.startswith(prefix, autoescape=True)).limit(6)
            found = [Run.model_validate(dict(row)) for row in connection.execute(query).mappings()]
        exact = [run for run in found if run.id == prefix]
        if exact:
            return exact[0]
        if not found or not prefix:
            raise NotFound(f'there is no run "{prefix}"; `tuneyard jobs ls --json` tells the run of each job')
        if len(found) > 1:
            ids = ", ".join(run.id for run in found[:5])
            raise Invalid(f'"{prefix}" fits several runs ({ids}{", …" if len(found) > 5 else ""}); give more of the id')
        return found[0]

    def needs(self, job_id: str) -> list[Job]:
        """The jobs that a job waits for."""
        joined = select(jobs).join(dependencies, dependencies.c.needs_id == jobs.c.id)
        return self._jobs(joined.where(dependencies.c.job_id == job_id))

    def history(self, job_id: str) -> list[JobEvent]:
        """Everything that happened to a job, oldest first."""
        query = select(events).where(events.c.job_id == job_id).order_by(events.c.id)
        with self.database.reading() as connection:
            return [JobEvent.model_validate(dict(row)) for row in connection.execute(query).mappings()]

    def series(self, job_id: str) -> list[dict[str, Any]]:
        """What a job reported at its steps, oldest first."""
        query = select(measurements).where(measurements.c.job_id == job_id).order_by(measurements.c.id)
        with self.database.reading() as connection:
            return [
                {"at": row["at"], "attempt": row["attempt"], **row["progress"]}
                for row in connection.execute(query).mappings()
            ]

    def due(self, queue: str, *, limit: int) -> list[str]:
        """The ids of a queue's most urgent due jobs."""
        now = datetime.now(UTC)
        query = (
            select(jobs.c.id)
            .where(jobs.c.queue == queue, jobs.c.due_at <= now, jobs.c.due_at.is_not(None))
            .order_by(jobs.c.priority.desc(), jobs.c.due_at, jobs.c.id)
            .limit(limit)
        )
        with self.database.reading() as connection:
            return list(connection.execute(query).scalars())

    def reusable(self, fingerprint: str) -> list[Job]:
        """Succeeded jobs that did the same with the same inputs, newest first."""
        query = (
            select(jobs)
            .where(jobs.c.fingerprint == fingerprint, jobs.c.state == State.SUCCEEDED)
            .order_by(jobs.c.finished_at.desc())
            .limit(5)
        )
        return self._jobs(query)

    def census(self) -> list[dict[str, Any]]:
        """Jobs counted by kind, queue, state and reason, with their attempts and the oldest time they became due."""
        group = (jobs.c.kind, jobs.c.queue, jobs.c.state, jobs.c.reason)
        query = select(
            *group,
            func.count().label("jobs"),
            func.sum(jobs.c.attempt).label("attempts"),
            func.min(jobs.c.due_at).label("oldest_due_at"),
        ).group_by(*group)
        with self.database.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def tally(self) -> dict[str, int]:
        """How often each event happened, and the counters."""
        with self.database.reading() as connection:
            happened = connection.execute(select(events.c.name, func.count()).group_by(events.c.name)).all()
            counted = connection.execute(select(counters.c.name, counters.c.value)).all()
        return {f"event.{name}": number for name, number in happened} | dict(counted)
