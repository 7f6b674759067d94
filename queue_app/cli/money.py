"""`tuneyard approve` and `tuneyard spend`: what jobs may cost, and what they did cost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from queue_app.cli import context
from queue_app.cli.costs import up_to
from queue_app.cli.output import AsJson, as_dict, hint, next_commands, table, usd, usd_range, write, write_json
from queue_app.errors import Invalid
from queue_app.lifecycle import Reason, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from queue_app.store import Bill, Job


class By(StrEnum):
    """What spending is summed by."""

    PROVIDER = "provider"
    RECIPE = "recipe"
    MONTH = "month"


@dataclass(frozen=True)
class Sum:
    """What the starts of one group were quoted and billed, in USD; what is unknown is counted, never taken for 0."""

    of: str
    jobs: int
    starts: int  # a job that was sent again after it was billed has several
    quoted_low_usd: float
    quoted_high_usd: float
    quote_unknown: int
    unbilled: int  # starts that are still to be billed
    billed_usd: float
    bill_unknown: int  # starts whose provider tells no price
    bill_estimated: int  # starts whose bill is an estimate, or their quote
    spent_usd: float  # the bill where there is one, else the high end of the quote: what counts against caps


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    app.command()(approve)
    app.command()(spend)


def approve(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Jobs that wait for approval.")],
    as_json: AsJson = False,
) -> None:
    """Let jobs go on although they would break a cap, up to the price they are quoted; a dearer one asks again."""
    found = [_waiting(job_id) for job_id in job_ids]
    bills = context.store().bills
    moved = [(bills.approve(job.id, actor=context.actor()), bills.going(job.id)) for job in found]
    if as_json:
        write_json([as_dict(job) | {"bill": as_dict(bill) if bill else None} for job, bill in moved])
        return
    for job, bill in moved:
        write(f"{job.id}  {job.state}, approved {up_to(bill.approved_usd if bill else None)}; a dearer plan asks again")
    next_commands(*(f"tuneyard jobs wait {job.id}" for job, _ in moved))


def _waiting(job_id: str) -> Job:
    job = context.read().find(job_id)
    if job.state != State.WAITING or job.reason != Reason.APPROVAL:
        beside = f" ({job.reason})" if job.reason else ""
        raise Invalid(f"job {job.id} does not wait for approval: it is {job.state}{beside}")
    return job


def spend(
    by: Annotated[By, typer.Option("--by", help="What to sum by.")] = By.PROVIDER, as_json: AsJson = False
) -> None:
    """Sum what jobs at providers were quoted, are committed to, and were billed."""
    bills = context.store().bills.ls()
    groups: dict[str, list[Bill]] = defaultdict(list)
    for bill, job in bills:
        groups[_group(by, bill, job)].append(bill)
    sums = [_sum(name, groups[name]) for name in sorted(groups)]
    if as_json:
        write_json([asdict(each) for each in sums])
        return
    if not sums:
        hint("nothing was committed to yet; `tuneyard quote RECIPE` says what a recipe would cost")
        return
    total = _sum("all", [bill for bill, _ in bills])
    columns = [by.upper(), "JOBS", "STARTS", "QUOTED", "BILLED", "NOT BILLED YET", "PRICE NOT TOLD", "AGAINST CAPS"]
    table(columns, [_row(each) for each in [*sums, total]])
    if total.quote_unknown:
        hint(f"{total.quote_unknown} of {total.starts} starts have no known quote; they count as $0.00 in the sums")
    if total.bill_estimated:
        hint(f"{total.bill_estimated} of {total.starts} bills are estimates: the provider does not tell the price")


def _group(by: By, bill: Bill, job: Job) -> str:
    if by == By.PROVIDER:
        return bill.account
    if by == By.MONTH:
        return f"{bill.committed_at:%Y-%m}"
    return context.read().run(bill.run_id).name if bill.run_id else f"(no recipe: {job.kind})"


def _sum(name: str, bills: Sequence[Bill]) -> Sum:
    billed = [bill for bill in bills if bill.billed_at is not None]
    return Sum(
        of=name,
        jobs=len({bill.job_id for bill in bills}),
        starts=len(bills),
        quoted_low_usd=sum(bill.quoted_low_usd or 0.0 for bill in bills),
        quoted_high_usd=sum(bill.quoted_high_usd or 0.0 for bill in bills),
        quote_unknown=sum(bill.quoted_high_usd is None for bill in bills),
        unbilled=len(bills) - len(billed),
        billed_usd=sum(bill.billed_usd or 0.0 for bill in billed),
        bill_unknown=sum(bill.billed_usd is None for bill in billed),
        bill_estimated=sum(bill.is_estimate for bill in billed),
        spent_usd=sum(_spent(bill) for bill in bills),
    )


def _spent(bill: Bill) -> float:
    known = (bill.billed_usd, bill.quoted_high_usd)
    return next((each for each in known if each is not None), 0.0)


def _row(each: Sum) -> list[str]:
    quoted = usd_range(each.quoted_low_usd, each.quoted_high_usd)
    counts = [str(each.unbilled), str(each.bill_unknown)]
    return [each.of, str(each.jobs), str(each.starts), quoted, usd(each.billed_usd), *counts, usd(each.spent_usd)]
