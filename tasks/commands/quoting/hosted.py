"""A fine-tune at a provider: priced by the catalogue, by the provider itself where it can be asked."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from math import ceil
from statistics import median
from typing import TYPE_CHECKING

from api_worker.catalogue import Wanted, catalogue
from api_worker.provider import Order
from api_worker.providers import open_provider
from api_worker.quotes import Need, ending, over, quote, said
from queue_app.cli.output import usd, usd_range
from queue_app.errors import TuneyardError
from queue_app.lifecycle import State
from tasks.commands.accounts.endings import in_short
from tasks.commands.accounts.known import Known, all_known, find_known
from tasks.commands.quoting.line import Line
from tasks.commands.quoting.models import models_for, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from api_worker.quotes import Quote
    from tasks.commands.quoting.counting import Counted
    from tasks.commands.quoting.grounds import Grounds
    from tasks.commands.quoting.work import Work

HOURLY = "usd_per_hour"
TOO_FEW = 1000  # trained tokens; less tells nothing of a speed


def hosted_lines(work: Work, grounds: Grounds, *, every: bool) -> Iterator[Line]:
    """The lines of all providers for a fine-tune, with that of the account the recipe names."""
    chosen = None if work.account is None else find_known(grounds.settings, work.account)
    if chosen is not None:
        yield hosted_line(work, chosen, work.base_model, grounds)
    for known in all_known(grounds.settings):
        if known.fault or known.is_own_server or known == chosen:
            continue
        is_there = chosen is not None and chosen.api == known.api and not chosen.is_own_server
        for model in models_for(work, known.api, every=every) if not is_there or every else ():
            yield hosted_line(work, known, model, grounds)


def hosted_line(work: Work, known: Known, model: str, grounds: Grounds) -> Line:
    """The line of one model at one provider."""
    line = listed_line(work, known, model, grounds.today)
    if line.impossible:
        return line
    line = replace(line, slots=_slots(known, model, grounds))
    if work.dataset is None:
        return replace(line, notes=(*line.notes, work.unknown))
    counted = grounds.counts.at_provider(work.dataset, known.api, work.method, model)
    if counted.refused:
        return replace(line, impossible=counted.refused)
    epochs = ceil(work.epochs(counted.examples))  # a provider takes whole ones
    return _counted(replace(line, epochs=float(epochs)), work, known, counted, grounds)


def listed_line(work: Work, known: Known, model: str, today: date) -> Line:
    """What the catalogue says of a model at a provider, whatever the data."""
    line = Line(work.step, known.name, model, chosen=work.account == known.name and model == work.base_model)
    wanted = Wanted(known.api, model, work.method, work.tuned)
    if not known.is_own_server:
        for end in over(catalogue(), wanted, today):
            return replace(line, impossible=in_short(end, today))
    price = quote(catalogue(), Need(wanted, 0, ceil(work.epochs(0))), today)
    if price.impossible and not known.is_own_server:
        return replace(line, impossible=price.impossible)
    listing = None if known.is_own_server else known.listing
    return replace(
        line,
        epochs=work.epochs(0),
        usd_per_million=price.usd_per_million.value if price.usd_per_million else None,
        minimum_usd=price.minimum.value if price.minimum else None,
        hosting_usd_per_hour=price.hosting.value if price.hosting else None,
        machine=_machine(known),
        storage_usd_per_month=price.storage.value if price.storage else None,
        serving=listing.serving if listing else "",
        notes=_notes(work, known, wanted, price, today),
        free=known.is_free,
    )


def _machine(known: Known) -> str:
    """What an hour of a provider's machines costs, where it bills those; the account's tier names one."""
    prices = {row.models: row.value for row in catalogue().figures if row.provider == known.api if row.what == HOURLY}
    tier = known.account.tier if known.account else None
    if tier is not None and (tier,) in prices:
        return f"billed by the hour: {usd(prices[tier,])} on {tier}"
    return f"billed by the hour: {usd_range(min(prices.values()), max(prices.values()))} by machine" if prices else ""


def _notes(work: Work, known: Known, wanted: Wanted, price: Quote, today: date) -> tuple[str, ...]:
    if known.is_free:
        return ("free; it trains nothing",)
    ends = ending(catalogue(), wanted, today)
    long = {said(end, today) for end in ends}
    other = () if plain(wanted.model) == plain(work.model) else ("another model",)
    shown = () if known.is_own_server else tuple(in_short(end, today) for end in ends)
    return (*other, *shown, *(note for note in price.notes if note not in long))


def _counted(line: Line, work: Work, known: Known, counted: Counted, grounds: Grounds) -> Line:
    """The line with its tokens and what they cost."""
    held_out = 0
    if work.holdout is not None:
        other = grounds.counts.at_provider(work.holdout, known.api, work.method, line.model, is_holdout=True)
        if other.refused:
            return replace(line, impossible=f"the holdout: {other.refused}")
        held_out = other.tokens
    wanted = Wanted(known.api, line.model, work.method, work.tuned)
    epochs = int(line.epochs or 1)
    price = quote(catalogue(), Need(wanted, counted.tokens, epochs, held_out, counted.exact), grounds.today)
    low, high = (0.0, 0.0) if known.is_free else (price.low, price.high)
    seconds, by = _run_time(known, counted.tokens * epochs, grounds)
    line = replace(line, tokens=counted.tokens, exact=counted.exact, low_usd=low, high_usd=high)
    lost = tuple(f"its file cannot hold {name} ({number}×)" for name, number in counted.dropped.items())
    line = replace(line, run_seconds=seconds, run_seconds_by=by, notes=(*line.notes, *lost))
    return _estimated(line, work, known, counted, grounds)


def _slots(known: Known, model: str, grounds: Grounds) -> str:
    """How full the account is now: what a job would have to wait for."""
    if known.account is None:
        return "no account"
    by_model = known.listing is not None and known.listing.slots == "model"
    pool = f"{known.name}/{model}" if by_model else known.name
    use = next((use for use in grounds.store.slots.ls() if use.pool.name == pool), None)
    size = known.limit("jobs_at_once", model)
    held, waiting = (use.held, use.waiting) if use else (0, 0)
    line = f", {waiting} wait" if waiting else ""
    return f"{held} of {'an unknown number of' if size is None else size} slots used{line}"


def _run_time(known: Known, trained: int, grounds: Grounds) -> tuple[float | None, str]:
    """How long it may run, by the account's earlier jobs that tell their tokens."""
    speeds = [
        bill.billed_tokens / (job.finished_at - bill.committed_at).total_seconds()
        for bill, job in grounds.store.bills.ls()
        if bill.account == known.name and job.state == State.SUCCEEDED and (bill.billed_tokens or 0) >= TOO_FEW
        if bill.billed_tokens and bill.committed_at and job.finished_at and job.finished_at > bill.committed_at
    ]
    if not speeds:
        return None, ""
    return trained / median(speeds), f"by {len(speeds)} earlier jobs there, with their wait for a slot"


def _estimated(line: Line, work: Work, known: Known, counted: Counted, grounds: Grounds) -> Line:
    """The line with what the provider itself says, asked only of a file that it has already: a quote sends nothing."""
    if not line.chosen or known.account is None or not known.has_key:
        return line
    file = grounds.store.uploads.find(known.name, counted.digest)
    if file is None:
        return line
    order = Order(line.model, file, method=work.method, tuned=work.tuned, epochs=int(line.epochs or 1))
    try:
        with closing(open_provider(known.name, known.account)) as provider:
            told = provider.estimate(order)
    except TuneyardError as error:
        return replace(line, notes=(*line.notes, f"its own estimate could not be had: {error}"))
    if told is None:
        return line
    refused = () if told.allowed else (told.why,)
    return replace(line, estimate_usd=told.usd, notes=(*line.notes, *refused))
