"""A row of each table as a plain class: what readers are handed. `tables` makes the columns of these fields."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from queue_app.lifecycle import Cause, Event, Reason, Request, State


def in_utc(value: Any) -> Any:
    """A time as a database hands it over, in UTC; one that knows no time zones was given UTC, and returns bare text."""
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(time, datetime):
        return time
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


Time = Annotated[datetime, BeforeValidator(in_utc)]
Document = Annotated[dict[str, Any], BeforeValidator(_decoded)]  # JSON: a text, where the database has no such type


class Row(BaseModel):
    """What all rows share: their validators are built when they are first used."""

    model_config = ConfigDict(defer_build=True)


class Job(Row):
    """One job: what it is to do, where it stands, and what came of it."""

    id: str
    kind: str
    queue: str
    priority: int = 0  # higher goes first
    spec: Document = Field(default_factory=dict)
    run_id: str | None = None
    step: str | None = None
    state: State
    reason: Reason | None = None
    cause: Cause | None = None
    attempt: int = 0  # the fence
    failures: int = 0  # retries and expired leases; polls are none
    request: Request | None = None
    submitted_at: Time
    due_at: Time | None = None  # from when it may be claimed; None: not claimable
    started_at: Time | None = None
    finished_at: Time | None = None
    lease_until: Time | None = None
    worker: str | None = None
    timeout_seconds: float | None = None
    deadline_at: Time | None = None
    reuse: bool = True
    fingerprint: str | None = None
    reused_from: str | None = None
    account: str | None = None  # elsewhere, that it deals with
    pool: str | None = None  # whose slot it wants or has
    has_slot: bool = False
    cards: int = 1  # workers of one host, each with its card, that an attempt takes, all or none
    holds: Document | None = None  # where these are several, and it runs: worker → its card; its own first
    progress: Document | None = None
    result: Document | None = None
    failure: str | None = None


class JobEvent(Row):
    """Something that happened to a job; never changed afterwards."""

    id: int | None = None
    job_id: str
    at: Time
    name: Event
    attempt: int
    state: State  # the state it led to
    actor: str
    detail: Document = Field(default_factory=dict)


class Run(Row):
    """A recipe that was run."""

    id: str
    name: str
    recipe: str
    submitted_at: Time
    cap_usd: float | None = None  # the most that all of its jobs may cost


class Dependency(Row):
    """`job_id` waits for `needs_id`."""

    job_id: str
    needs_id: str


class Memo(Row):
    """A step that is done once in the life of a job: its intent, then its value."""

    job_id: str
    step: str
    round: int = 0  # how often the step was forgotten
    key: str
    intended_at: Time | None = None
    acted_at: Time | None = None  # when the action has ended, at the latest; None: it was never begun
    done: bool = False
    value: Any = None


class Artifact(Row):
    """A file or folder in the artifact store, by the hash of its content."""

    id: str
    kind: str
    name: str | None = None
    size_bytes: int
    files: int
    job_id: str | None = None
    created_at: Time


class Ancestor(Row):
    """An artifact that others were made from, and where it comes from itself; no table of its own."""

    id: str
    kind: str
    name: str | None = None
    job_id: str | None = None
    made_by: str | None = None  # kind of that job
    recipe: str | None = None  # name of its run's


class Lineage(Row):
    """`child_id` was made from `parent_id`."""

    child_id: str
    parent_id: str


class Measurement(Row):
    """What a job reported at a step: the series behind its loss curve."""

    id: int | None = None
    job_id: str
    attempt: int
    at: Time
    progress: Document


class Counter(Row):
    """Things that are counted and belong to no job."""

    name: str
    value: int


class Pool(Row):
    """Slots that jobs share."""

    name: str
    size: int | None = None  # None: nobody knows
    source: str | None = None  # who says so
    believed: int | None = None  # lowered by a refusal
    probe_at: Time | None = None  # from when one more than is believed may be tried
    told: int | None = None  # jobs at once, as the provider itself says
    told_a_day: int | None = None
    told_at: Time | None = None


class Worker(Row):
    """A worker process, as it said itself when it was last seen."""

    name: str
    queue: str
    host: str
    process: str | None = None  # of `queue_app.process_identity`
    card: str | None = None  # UUID
    card_name: str | None = None
    vram_mib: int | None = None
    vram_used_mib: int | None = None
    gpu_percent: int | None = None
    card_lost: bool = False  # it does not answer: the worker leaves jobs to those whose card does
    seen_at: Time


class Holder(Row):
    """A running job and what it holds; no table of its own."""

    id: str
    worker: str | None = None
    holds: Document | None = None

    def has(self, worker: Worker) -> bool:
        """Whether a worker runs it, or is lent to it; whoever works at a card that it holds, is."""
        lent = self.holds or {}
        return worker.name in (self.worker, *lent) or (worker.card is not None and worker.card in lent.values())


class Account(Row):
    """An account elsewhere, as far as something happened to it."""

    name: str
    failures: int = 0  # answers it owed in a row
    failing_since: Time | None = None
    paused_until: Time | None = None  # it is left alone until then; None, with a reason: until it is resumed
    paused_why: str | None = None
    paused_for: Reason | None = None
    looked_at: Time | None = None  # when all of its jobs were listed last

    @property
    def waits_for_a_person(self) -> bool:
        """Whether it is left alone until somebody resumes it."""
        return self.paused_for is not None and self.paused_until is None

    @property
    def is_paused(self) -> bool:
        """Whether it is left alone now."""
        is_over = self.paused_until is None or self.paused_until <= datetime.now(UTC)
        return self.waits_for_a_person or not is_over


class RemoteLook(Row):
    """How a job at an account was seen last."""

    account: str
    remote_id: str
    job_id: str | None = None  # whose it is by its key; None: no job of ours
    key: str | None = None
    state: str
    ended: bool
    base_model: str | None = None
    created_at: Time | None = None


class Upload(Row):
    """A file that was sent to an account, or is being sent."""

    account: str
    digest: str
    job_id: str  # who sends it
    file: str | None = None  # what the account calls it; None: it is not there yet


class Bill(Row):
    """What a start may cost, and did, in USD; what a retry starts anew has a bill of its own."""

    key: str  # the submission key that the start goes by
    job_id: str
    account: str = ""
    run_id: str | None = None
    quoted_at: Time | None = None
    quoted_low_usd: float | None = None
    quoted_high_usd: float | None = None
    quoted_tokens: int | None = None
    approved_at: Time | None = None
    approved_by: str | None = None
    approved_usd: float | None = None  # up to so much; None: a price that nobody knew
    committed_at: Time | None = None  # since when it counts against the caps
    started_at: Time | None = None  # when its create was sent last, unless that was refused
    billed_at: Time | None = None
    billed_tokens: int | None = None
    billed_usd: float | None = None  # None: the provider does not tell
    is_estimate: bool = False  # what was billed is reckoned, not told
