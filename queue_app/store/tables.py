"""The tables: the fields of `rows` as columns, with what only a database asks of them (keys, indexes, checks)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, cast

from pydantic import create_model
from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, String, Table
from sqlmodel import Field, SQLModel
from sqlmodel._compat import SQLModelConfig, get_sa_type_from_field

from queue_app.lifecycle import Cause, Reason, Request, State
from queue_app.store import rows

JSON_TYPE = JSON(none_as_null=True)
KEY = {"primary_key": True}
INDEXED = {"index": True}
LARGE = {"sa_type": BigInteger}


class _Declared(SQLModel):
    model_config = SQLModelConfig(defer_build=True)  # nobody validates with it


def _table(name: str, row: type[rows.Row], /, *checks: CheckConstraint, **facts: dict[str, Any]) -> Table:
    """The table of a row. `facts` are arguments of SQLModel's `Field` by column; the type and default are the row's."""
    columns: dict[str, Any] = {
        column: (Annotated[field.annotation, Field(**_stored_as(field) | facts.pop(column, {}))], field)
        for column, field in row.model_fields.items()
    }
    if facts:
        raise TypeError(f"{row.__name__} has no field {', '.join(facts)}")
    declared = create_model(name, __base__=_Declared, __cls_kwargs__={"table": True}, **columns)
    table = cast(Table, declared.__table__)  # type: ignore[attr-defined]
    for check in checks:
        table.append_constraint(check)
    return table


def _stored_as(field: Any) -> dict[str, Any]:
    """The column type where SQLModel would choose none, or its own enum."""
    kind = get_sa_type_from_field(field)
    if kind in (dict, Any):
        return {"sa_type": JSON_TYPE}
    return {"sa_type": String} if issubclass(kind, StrEnum) else {}


def _to(column: str) -> dict[str, Any]:
    return {"foreign_key": column, "index": True}


def _one_of(column: str, values: type[State | Reason | Cause | Request]) -> CheckConstraint:
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=f"{column}_is_known")


jobs = _table(
    "job",
    rows.Job,
    _one_of("state", State),
    _one_of("reason", Reason),
    _one_of("cause", Cause),
    _one_of("request", Request),
    id=KEY,
    run_id=_to("run.id"),
    account=INDEXED,
)
events = _table("event", rows.JobEvent, id=KEY, job_id=_to("job.id"), name=INDEXED)
runs = _table("run", rows.Run, id=KEY)
dependencies = _table(
    "dependency", rows.Dependency, job_id=KEY | {"foreign_key": "job.id"}, needs_id=KEY | _to("job.id")
)
memos = _table("memo", rows.Memo, job_id=KEY | {"foreign_key": "job.id"}, step=KEY, value={"nullable": True})
artifacts = _table(
    "artifact", rows.Artifact, id=KEY, kind=INDEXED, name=INDEXED, size_bytes=LARGE, job_id=_to("job.id")
)
lineage = _table(
    "lineage", rows.Lineage, child_id=KEY | {"foreign_key": "artifact.id"}, parent_id=KEY | _to("artifact.id")
)
measurements = _table("measurement", rows.Measurement, id=KEY, job_id=_to("job.id"))
counters = _table("counter", rows.Counter, name=KEY, value=LARGE)
pools = _table("pool", rows.Pool, name=KEY)
workers = _table("worker", rows.Worker, name=KEY)
accounts = _table("account", rows.Account, name=KEY)
remote_looks = _table("remote_look", rows.RemoteLook, account=KEY, remote_id=KEY)
uploads = _table("upload", rows.Upload, account=KEY, digest=KEY)
bills = _table(
    "bill",
    rows.Bill,
    key=KEY,
    job_id=_to("job.id"),
    account=INDEXED,
    run_id=INDEXED,
    quoted_tokens=LARGE,
    billed_tokens=LARGE,
)

# What may be claimed, most urgent first: the claim and the sweep read its first rows, however long the queue is.
# Partial on SQLite alone: to say so for PostgreSQL would load its whole dialect at every start.
Index(
    "job_by_urgency",
    jobs.c.queue,
    jobs.c.priority.desc(),
    jobs.c.has_slot.desc(),
    jobs.c.due_at,
    jobs.c.id,
    sqlite_where=jobs.c.due_at.is_not(None),
)
Index(
    "job_by_lease",
    jobs.c.lease_until,
    sqlite_where=jobs.c.lease_until.is_not(None),
)
Index("job_by_pool", jobs.c.pool, jobs.c.has_slot, jobs.c.state, jobs.c.priority, jobs.c.submitted_at)
Index("job_by_fingerprint", jobs.c.fingerprint, jobs.c.finished_at)
Index("job_by_submission", jobs.c.submitted_at)
Index("job_by_state", jobs.c.state, jobs.c.reason, jobs.c.deadline_at)
