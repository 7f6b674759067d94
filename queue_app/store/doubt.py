"""What is known of a step from its memo alone: by which key it goes, and whether it may have been done. No SQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queue_app.store.rows import Memo

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def submission_key(job_id: str, round_number: int) -> str:
    """The name a step goes by at a provider: ≤ 18 characters of `[a-z0-9-]`, which fits every one."""
    return f"ty-{job_id}" + (f"-{round_number}" if round_number else "")


def is_in_doubt(memo: Memo) -> bool:
    """Whether the action of a step was begun, and nobody knows what came of it."""
    return not memo.done and memo.acted_at is not None and memo.acted_at > LONG_AGO


def going_key(job_id: str, memo: Memo | None) -> str:
    """The key that a step goes by, or will go by when it is begun."""
    if memo is not None and memo.intended_at is not None:
        return memo.key
    return submission_key(job_id, memo.round if memo is not None else 0)
