"""How long a fine-tune at an account may run, by those that ran there before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from queue_app.lifecycle import State

if TYPE_CHECKING:
    from queue_app.store import Store

TOO_FEW = 1000  # trained tokens; less tells nothing of a speed


@dataclass(frozen=True)
class RunTime:
    """Seconds from the start of a remote job to its end."""

    fastest: float
    slowest: float
    jobs: int  # that it is known by


def run_time(store: Store, account: str, base_model: str, trained_tokens: int) -> RunTime | None:
    """The time that so many tokens take by the speeds of earlier jobs of the model; None: there were none."""
    speeds = [
        bill.billed_tokens / (job.finished_at - bill.committed_at).total_seconds()
        for bill, job in store.bills.ls()
        if bill.account == account and job.state == State.SUCCEEDED and job.spec.get("base_model") == base_model
        if bill.billed_at is not None and bill.committed_at is not None and (bill.billed_tokens or 0) >= TOO_FEW
        if bill.billed_tokens and job.finished_at and job.finished_at > bill.committed_at
    ]
    if not speeds:
        return None
    return RunTime(trained_tokens / max(speeds), trained_tokens / min(speeds), len(speeds))
