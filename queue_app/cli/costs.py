"""What a job cost, in words: a line for its quote, its approval and its bill, for each of its starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queue_app.cli.output import ago, usd, usd_range

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from queue_app.store import Bill, Job


def costs(job: Job, bills: Sequence[Bill]) -> list[str]:
    """The lines of all starts of a job, the oldest first; of those before the last, only what is owed for."""
    if not bills:
        return [] if job.account is None else ["nothing was quoted yet"]
    owed = [bill for bill in bills[:-1] if bill.committed_at is not None] + [bills[-1]]
    if len(owed) == 1:
        return list(_lines(owed[0]))
    return [f"start {number}: {line}" for number, bill in enumerate(owed, 1) for line in _lines(bill)]


def _lines(bill: Bill) -> Iterator[str]:
    yield _quoted(bill)
    if bill.approved_by is not None:
        yield f"approved {up_to(bill.approved_usd)} by {bill.approved_by} {ago(bill.approved_at)}"
    if bill.committed_at is None:
        yield "nothing is committed to: nothing is owed"
    elif bill.billed_at is None:
        yield f"committed to {ago(bill.committed_at)}; not billed yet"
    else:
        yield _billed(bill)


def up_to(approved: float | None) -> str:
    """How far an approval goes."""
    return "at a price that is not known" if approved is None else f"up to {usd(approved)}"


def _quoted(bill: Bill) -> str:
    if bill.quoted_at is None:
        return f"not quoted at {bill.account}"
    tokens = f" for {bill.quoted_tokens:,} tokens" if bill.quoted_tokens else "; its tokens are not counted"
    if bill.quoted_high_usd is None:
        return f"no price is known at {bill.account}{tokens}"
    return f"quoted {usd_range(bill.quoted_low_usd, bill.quoted_high_usd)}{tokens} at {bill.account}"


def _billed(bill: Bill) -> str:
    tokens = f" for {bill.billed_tokens:,} tokens" if bill.billed_tokens else ""
    if bill.billed_usd is not None:
        price = usd(bill.billed_usd)
        return f"billed about {price}{tokens}: an estimate" if bill.is_estimate else f"billed {price}{tokens}"
    counts = f"against caps it counts {usd(bill.quoted_high_usd)}, as quoted"
    if bill.quoted_high_usd is None:
        counts = "against caps it counts $0.00, for its quote is not known either"
    return f"the provider tells no price{tokens}; {counts}"
