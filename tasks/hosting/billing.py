"""What a remote job cost in the end: as the provider tells it, else reckoned and marked so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api_worker.quotes import price_of
from queue_app.lifecycle import Cause
from queue_app.store.money import Billed, sum_of

if TYPE_CHECKING:
    from api_worker.catalogue import Catalogue, Wanted
    from api_worker.provider import RemoteJob, RemoteResult
    from queue_app.at_account import AtAccount
    from queue_app.store import Bill


def billed(catalogue: Catalogue, wanted: Wanted, made: RemoteResult) -> Billed:
    """What a success cost: told by the provider, else its billed tokens at the catalogue's price."""
    if sum_of(made.usd) is not None or not made.trained_tokens:
        return Billed(made.trained_tokens, made.usd, is_estimate=made.is_estimate)
    reckoned = price_of(catalogue, wanted, made.trained_tokens)
    return Billed(made.trained_tokens, reckoned, is_estimate=reckoned is not None)


def bill_end(place: AtAccount, remote: RemoteJob) -> None:
    """Bill what ended without success; what was never trained, or is not billed, is owed no more.

    Where nobody tells what such a job costs, it counts as much as it was quoted.
    """
    refused = remote.cause == Cause.DATA and not remote.step  # files are looked through before anything is trained
    if remote.wants_slot or remote.is_billed is False or (remote.is_billed is None and refused):
        place.release()
        return
    bill = place.bill()
    usd = remote.usd if remote.usd is not None or bill is None else _share(bill, remote)
    place.settle(Billed(remote.trained_tokens, usd, is_estimate=True))


def _share(bill: Bill, remote: RemoteJob) -> float | None:
    """The part of the quote that was used up, where the provider bills the work done and tells how much that is."""
    if not remote.is_billed or bill.quoted_high_usd is None:
        return None
    done, whole = remote.trained_tokens, bill.quoted_tokens
    if not done or not whole:
        done, whole = remote.step, remote.steps
    return bill.quoted_high_usd * min(1.0, done / whole) if done and whole else None
