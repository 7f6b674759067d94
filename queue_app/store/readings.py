"""What readers ask the store: the CLI, the metrics, the runner. Nothing here writes.

One text a question, which SQLite and PostgreSQL read alike.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from queue_app.errors import Invalid, NotFound
from queue_app.store.artifact_readings import ArtifactReadings
from queue_app.store.database import any_of, beginning
from queue_app.store.rows import Holder, Job, JobEvent, Measurement, Run, Worker, in_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from queue_app.lifecycle import State
    from queue_app.store.database import Database

SQLITE_CLOCK = "SELECT (julianday('now') - 2440587.5) * 86400.0 AS now"  # 2440587.5: 1970-01-01 as a Julian day
SERVER_CLOCK = "SELECT extract(epoch FROM clock_timestamp()) AS now"
MANY = 6  # looked at where one is wanted
Named = TypeVar("Named", Job, Run)


class Readings:
    """Questions about jobs and runs; those about artifacts are in `artifacts`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.artifacts = ArtifactReadings(database)

    def _jobs(self, question: str, **values: Any) -> list[Job]:
        return [Job.model_validate(row) for row in self.database.ask(question, **values)]

    def job(self, job_id: str) -> Job:
        """The job with exactly this id.

        Raises:
            NotFound: there is none
        """
        found = self._jobs("SELECT * FROM job WHERE id = :id", id=job_id)
        if not found:
            raise NotFound(f'there is no job "{job_id}"; `tuneyard jobs ls` lists them')
        return found[0]

    def find(self, prefix: str) -> Job:
        """The job whose id begins with `prefix`.

        Raises:
            NotFound: there is none
            Invalid: there are several
        """
        question = "SELECT * FROM job WHERE id LIKE :pattern ESCAPE '/' LIMIT :many"
        found = self._jobs(question, pattern=beginning(prefix), many=MANY)
        return _only(found, prefix, "job", "`tuneyard jobs ls` lists them")

    def ls(
        self, *, states: Sequence[State] = (), kind: str | None = None, run_id: str | None = None, limit: int = 50
    ) -> list[Job]:
        """Jobs, newest first."""
        wanted, values = ["1 = 1"], dict[str, Any]()
        if states:
            names, values = any_of(states)
            wanted.append(f"state IN ({names})")
        if kind:
            wanted.append("kind = :kind")
            values["kind"] = kind
        if run_id:
            wanted.append("run_id = :run_id")
            values["run_id"] = run_id
        question = f"SELECT * FROM job WHERE {' AND '.join(wanted)} ORDER BY submitted_at DESC, id LIMIT :limit"
        return self._jobs(question, limit=limit, **values)

    def ids(self, job_ids: Sequence[str]) -> list[Job]:
        """The jobs with these ids, as far as they exist."""
        names, values = any_of(job_ids)
        return self._jobs(f"SELECT * FROM job WHERE id IN ({names})", **values)

    def workers(self) -> list[tuple[Worker, list[str]]]:
        """Every worker that has signed on, with the ids of the jobs it runs, or is lent to with its card."""
        found = self.database.ask("SELECT * FROM worker ORDER BY host, queue, name")
        held = self.database.ask("SELECT worker, id, holds FROM job WHERE lease_until IS NOT NULL ORDER BY id")
        known, holders = [Worker.model_validate(row) for row in found], [Holder.model_validate(row) for row in held]
        return [(each, [holder.id for holder in holders if holder.has(each)]) for each in known]

    def clock(self) -> float:
        """The time by the store's clock, in seconds since the epoch."""
        [row] = self.database.ask(SQLITE_CLOCK if self.database.is_sqlite else SERVER_CLOCK)
        return float(row["now"])

    def run(self, prefix: str) -> Run:
        """The run whose id begins with `prefix`.

        Raises:
            NotFound: there is none
            Invalid: there are several
        """
        question = "SELECT * FROM run WHERE id LIKE :pattern ESCAPE '/' LIMIT :many"
        found = self.database.ask(question, pattern=beginning(prefix), many=MANY)
        listed = "`tuneyard jobs ls --json` tells the run of each job"
        return _only([Run.model_validate(row) for row in found], prefix, "run", listed)

    def needs(self, job_id: str) -> list[Job]:
        """The jobs that a job waits for."""
        question = "SELECT job.* FROM job JOIN dependency ON needs_id = job.id WHERE job_id = :id"
        return self._jobs(question, id=job_id)

    def history(self, job_id: str) -> list[JobEvent]:
        """Everything that happened to a job, oldest first."""
        found = self.database.ask("SELECT * FROM event WHERE job_id = :id ORDER BY id", id=job_id)
        return [JobEvent.model_validate(row) for row in found]

    def series(self, job_id: str) -> list[dict[str, Any]]:
        """What a job reported at its steps, oldest first."""
        found = self.database.ask("SELECT * FROM measurement WHERE job_id = :id ORDER BY id", id=job_id)
        told = [Measurement.model_validate(row) for row in found]
        return [{"at": each.at, "attempt": each.attempt, **each.progress} for each in told]

    def due(self, queue: str, *, limit: int) -> list[str]:
        """The ids of a queue's most urgent due jobs."""
        question = (
            "SELECT id FROM job WHERE queue = :queue AND due_at <= :now AND due_at IS NOT NULL "
            "ORDER BY priority DESC, has_slot DESC, due_at, id LIMIT :limit"
        )
        return [row["id"] for row in self.database.ask(question, queue=queue, now=datetime.now(UTC), limit=limit)]

    def reusable(self, fingerprint: str) -> list[Job]:
        """Succeeded jobs that did the same with the same inputs, newest first."""
        question = (
            "SELECT * FROM job WHERE fingerprint = :fingerprint AND state = 'succeeded' "
            "ORDER BY finished_at DESC LIMIT 5"
        )
        return self._jobs(question, fingerprint=fingerprint)

    def census(self) -> list[dict[str, Any]]:
        """Jobs counted by kind, queue, state and reason, with their attempts and the oldest time they became due."""
        question = (
            "SELECT kind, queue, state, reason, count(*) AS jobs, sum(attempt) AS attempts, "
            "min(due_at) AS oldest_due_at FROM job GROUP BY kind, queue, state, reason"
        )
        return [row | {"oldest_due_at": in_utc(row["oldest_due_at"])} for row in self.database.ask(question)]

    def tally(self) -> dict[str, int]:
        """How often each event happened, and the counters."""
        happened = self.database.ask("SELECT name, count(*) AS times FROM event GROUP BY name")
        counted = self.database.ask("SELECT name, value FROM counter")
        return {f"event.{row['name']}": row["times"] for row in happened} | {r["name"]: r["value"] for r in counted}


def _only(found: list[Named], prefix: str, noun: str, listed: str) -> Named:
    exact = [each for each in found if each.id == prefix]
    if exact:
        return exact[0]
    if len(found) > 1:
        ids = ", ".join(each.id for each in found[: MANY - 1])
        more = ", …" if len(found) == MANY else ""
        raise Invalid(f'"{prefix}" fits several {noun}s ({ids}{more}); give more of the id')
    if not found or not prefix:
        raise NotFound(f'there is no {noun} "{prefix}"; {listed}')
    return found[0]
