"""The tables. Each is declared once: the plain class is what readers are handed, `…Row` is the table behind it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, String, Table
from sqlmodel import Field, SQLModel
from sqlmodel._compat import SQLModelConfig

from queue_app.lifecycle import Cause, Event, Reason, Request, State

SCHEMA_REVISION = "0001"  # the newest migration
JSON_TYPE = JSON(none_as_null=True)


def _one_of(column: str, values: type[State | Reason | Cause | Request]) -> CheckConstraint:
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=f"{column}_is_known")


class Row(SQLModel):
    """What all tables share: their validators are built when they are first used, which most commands never do."""

    model_config = SQLModelConfig(defer_build=True)


class Job(Row):
    """One job: what it is to do, where it stands, and what came of it."""

    id: str = Field(primary_key=True)
    kind: str
    queue: str
    priority: int = 0  # higher goes first
    spec: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    run_id: str | None = Field(default=None, foreign_key="run.id", index=True)
    step: str | None = None
    state: State = Field(sa_type=String)
    reason: Reason | None = Field(default=None, sa_type=String)
    cause: Cause | None = Field(default=None, sa_type=String)
    attempt: int = 0  # the fence
    failures: int = 0  # retries and expired leases; polls are none
    request: Request | None = Field(default=None, sa_type=String)
    submitted_at: datetime
    due_at: datetime | None = None  # from when it may be claimed; None: not claimable
    started_at: datetime | None = None
    finished_at: datetime | None = None
    lease_until: datetime | None = None
    worker: str | None = None
    timeout_seconds: float | None = None
    deadline_at: datetime | None = None
    reuse: bool = True
    fingerprint: str | None = None
    reused_from: str | None = None
    progress: dict[str, Any] | None = Field(default=None, sa_type=JSON_TYPE)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON_TYPE)
    failure: str | None = None


class JobRow(Job, table=True):
    """The table of jobs."""

    __tablename__ = "job"
    __table_args__ = (
        _one_of("state", State),
        _one_of("reason", Reason),
        _one_of("cause", Cause),
        _one_of("request", Request),
    )


class JobEvent(Row):
    """Something that happened to a job; never changed afterwards."""

    id: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(foreign_key="job.id", index=True)
    at: datetime
    name: Event = Field(sa_type=String, index=True)
    attempt: int
    state: State = Field(sa_type=String)  # the state it led to
    actor: str
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)


class JobEventRow(JobEvent, table=True):
    """The table of events."""

    __tablename__ = "event"


class Run(Row):
    """A recipe that was run."""

    id: str = Field(primary_key=True)
    name: str
    recipe: str
    submitted_at: datetime


class RunRow(Run, table=True):
    """The table of runs."""

    __tablename__ = "run"


class DependencyRow(Row, table=True):
    """`job_id` waits for `needs_id`."""

    __tablename__ = "dependency"
    job_id: str = Field(primary_key=True, foreign_key="job.id")
    needs_id: str = Field(primary_key=True, foreign_key="job.id", index=True)


class Memo(Row):
    """A step that is done once in the life of a job: its intent, then its value."""

    job_id: str = Field(primary_key=True, foreign_key="job.id")
    step: str = Field(primary_key=True)
    round: int = 0  # how often the step was forgotten
    key: str
    intended_at: datetime | None = None
    acted_at: datetime | None = None  # the last time the action was begun
    done: bool = False
    value: Any = Field(default=None, sa_type=JSON_TYPE, nullable=True)


class MemoRow(Memo, table=True):
    """The table of memos."""

    __tablename__ = "memo"


class Artifact(Row):
    """A file or folder in the artifact store, by the hash of its content."""

    id: str = Field(primary_key=True)
    kind: str = Field(index=True)
    name: str | None = Field(default=None, index=True)
    size_bytes: int = Field(sa_type=BigInteger)
    files: int
    job_id: str | None = Field(default=None, foreign_key="job.id", index=True)
    created_at: datetime


class ArtifactRow(Artifact, table=True):
    """The table of artifacts."""

    __tablename__ = "artifact"


class LineageRow(Row, table=True):
    """`child_id` was made from `parent_id`."""

    __tablename__ = "lineage"
    child_id: str = Field(primary_key=True, foreign_key="artifact.id")
    parent_id: str = Field(primary_key=True, foreign_key="artifact.id", index=True)


class MeasurementRow(Row, table=True):
    """What a job reported at a step: the series behind its loss curve."""

    __tablename__ = "measurement"
    id: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(foreign_key="job.id", index=True)
    attempt: int
    at: datetime
    progress: dict[str, Any] = Field(sa_type=JSON_TYPE)


class CounterRow(Row, table=True):
    """Things that are counted and belong to no job."""

    __tablename__ = "counter"
    name: str = Field(primary_key=True)
    value: int = Field(sa_type=BigInteger)


jobs = cast(Table, JobRow.__table__)  # type: ignore[attr-defined]
events = cast(Table, JobEventRow.__table__)  # type: ignore[attr-defined]
runs = cast(Table, RunRow.__table__)  # type: ignore[attr-defined]
dependencies = cast(Table, DependencyRow.__table__)  # type: ignore[attr-defined]
memos = cast(Table, MemoRow.__table__)  # type: ignore[attr-defined]
artifacts = cast(Table, ArtifactRow.__table__)  # type: ignore[attr-defined]
lineage = cast(Table, LineageRow.__table__)  # type: ignore[attr-defined]
measurements = cast(Table, MeasurementRow.__table__)  # type: ignore[attr-defined]
counters = cast(Table, CounterRow.__table__)  # type: ignore[attr-defined]

# What may be claimed, most urgent first: the claim and the sweep read its first rows, however long the queue is.
# Partial on SQLite alone: to say so for PostgreSQL would load its whole dialect at every start.
Index(
    "job_by_urgency",
    jobs.c.queue,
    jobs.c.priority.desc(),
    jobs.c.due_at,
    jobs.c.id,
    sqlite_where=jobs.c.due_at.is_not(None),
)
Index(
    "job_by_lease",
    jobs.c.lease_until,
    sqlite_where=jobs.c.lease_until.is_not(None),
)
Index("job_by_fingerprint", jobs.c.fingerprint, jobs.c.finished_at)
Index("job_by_submission", jobs.c.submitted_at)
Index("job_by_state", jobs.c.state, jobs.c.reason, jobs.c.deadline_at)
