"""A fine-tune at a provider: priced by the catalogue, by the provider itself where it can be asked."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from api_worker.catalogue import Wanted
from api_worker.provider import Order
from api_worker.providers import open_provider
from api_worker.quotes import Need, ending, machine_of, over, quote, said
from queue_app.at_account import files_of, server_of
from queue_app.cli.output import usd
from queue_app.errors import TuneyardError
from tasks.commands.accounts.endings import in_short
from tasks.commands.accounts.known import Known, all_known, find_known
from tasks.commands.quoting.line import Line
from tasks.commands.quoting.models import models_for, plain
from tasks.hosting.run_time import run_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from api_worker.quotes import Quote
    from tasks.commands.quoting.counting import Counted
    from tasks.commands.quoting.grounds import Grounds
    from tasks.commands.quoting.work import Work
    from tasks.hosting.run_time import RunTime


def hosted_lines(work: Work, grounds: Grounds, *, every: bool) -> Iterator[Line]:
    """The lines of all providers for a fine-tune, with that of the account the recipe names."""
    chosen = None if work.account is None else find_known(grounds.settings, work.account)
    if chosen is not None:
        yield hosted_line(work, chosen, work.base_model, grounds)
    for known in all_known(grounds.settings):
        if known.fault or known.is_own_server or known == chosen:
            continue
        is_there = chosen is not None and chosen.api == known.api and not chosen.is_own_server
        for model in models_for(work, known, every=every) if not is_there or every else ():
            yield hosted_line(work, known, model, grounds)


def hosted_line(work: Work, known: Known, model: str, grounds: Grounds) -> Line:
    """The line of one model at one provider."""
    line = listed_line(work, known, model, grounds.today)
    if line.impossible:
        return line
    line = _with_slots(line, known, grounds)
    if work.dataset is None:
        return replace(line, notes=(*line.notes, work.unknown))
    counted = grounds.counts.at_provider(work.dataset, known, work.method, model)
    if counted.refused:
        return replace(line, impossible=counted.refused)
    epochs = ceil(work.epochs(counted.examples))  # a provider takes whole ones
    return _counted(replace(line, epochs=float(epochs)), work, known, counted, grounds)


def listed_line(work: Work, known: Known, model: str, today: date) -> Line:
    """What the catalogue says of a model at a provider, whatever the data."""
    line = Line(work.step, known.name, model, chosen=work.account == known.name and model == work.base_model)
    wanted = Wanted(known.api, model, work.method, work.tuned)
    if not known.is_own_server:
        for end in over(known.catalogue, wanted, today):
            return replace(line, impossible=in_short(end, today))
    machine = None if known.is_own_server else _machine(known)
    price = quote(known.catalogue, Need(wanted, 0, ceil(work.epochs(0)), machine=machine), today)
    if price.impossible and not known.is_own_server:
        return replace(line, impossible=price.impossible)
    listing = None if known.is_own_server else known.listing
    return replace(
        line,
        epochs=work.epochs(0),
        usd_per_million=price.usd_per_million.value if price.usd_per_million else None,
        minimum_usd=price.minimum.value if price.minimum else None,
        hosting_usd_per_hour=price.hosting.value if price.hosting else None,
        machine=f"{usd(price.usd_per_hour.value)} an hour on {machine}" if price.usd_per_hour else "",
        storage_usd_per_month=price.storage.value if price.storage else None,
        serving=listing.serving if listing else "",
        notes=_notes(work, known, wanted, price, today),
        free=known.is_free,
    )


def _machine(known: Known) -> str | None:
    return machine_of(known.catalogue, known.api, known.account.tier if known.account else None)


def _notes(work: Work, known: Known, wanted: Wanted, price: Quote, today: date) -> tuple[str, ...]:
    if known.is_free:
        return ("free; it trains nothing",)
    ends = ending(known.catalogue, wanted, today)
    long = {said(end, today) for end in ends}
    other = () if plain(wanted.model) == plain(work.model) else ("another model",)
    shown = () if known.is_own_server else tuple(in_short(end, today) for end in ends)
    return (*other, *shown, *(note for note in price.notes if note not in long))


def _counted(line: Line, work: Work, known: Known, counted: Counted, grounds: Grounds) -> Line:
    """The line with its tokens and what they cost."""
    held_out, digests = 0, [counted.digest]
    if work.holdout is not None:
        other = grounds.counts.at_provider(work.holdout, known, work.method, line.model, is_holdout=True)
        if other.refused:
            return replace(line, impossible=f"the holdout: {other.refused}")
        held_out = other.tokens
        digests.append(other.digest)
    wanted = Wanted(known.api, line.model, work.method, work.tuned)
    epochs = int(line.epochs or 1)
    found = run_time(grounds.store, known.name, line.model, counted.tokens * epochs)
    need = Need(wanted, counted.tokens, epochs, held_out, counted.exact)
    if found is not None:
        need = replace(need, seconds=(found.fastest, found.slowest))
    price = quote(known.catalogue, replace(need, machine=_machine(known)), grounds.today)
    low, high = (0.0, 0.0) if known.is_free else (price.low, price.high)
    line = replace(line, tokens=counted.tokens, exact=counted.exact, low_usd=low, high_usd=high)
    lost = tuple(f"its file cannot hold {name} ({number}×)" for name, number in counted.dropped.items())
    if found is not None:
        wait = None if line.turns is None else line.turns * found.slowest  # those before it are taken to be like it
        line = replace(line, run_seconds=found.slowest, run_seconds_by=_by(found), wait_seconds=wait)
    line = replace(line, notes=(*line.notes, *lost))
    return _estimated(line, work, known, digests, grounds)


def _with_slots(line: Line, known: Known, grounds: Grounds) -> Line:
    """The line with how full the account is now: what a job would have to wait for."""
    if known.account is None:
        return replace(line, slots="no account")
    by_model = known.listing is not None and known.listing.slots == "model"
    pool = f"{known.name}/{known.catalogue.dated(known.api, line.model)}" if by_model else known.name
    use = next((use for use in grounds.store.slots.ls() if use.pool.name == pool), None)
    size = known.limit("jobs_at_once", line.model)
    held, waiting = (use.held, use.waiting) if use else (0, 0)
    queued = f", {waiting} wait" if waiting else ""
    text = f"{held} of {'an unknown number of' if size is None else size} slots used{queued}"
    turns = max(0, ceil((held + waiting + 1 - size) / size)) if size else None
    return replace(line, slots=text, turns=turns, wait_seconds=0.0 if turns == 0 else None)


def _by(found: RunTime) -> str:
    return f"its time as the slowest of {found.jobs} earlier jobs of the model there"


def _estimated(line: Line, work: Work, known: Known, digests: list[str], grounds: Grounds) -> Line:
    """The line with what the provider itself says, asked only of files that it has already: a quote sends nothing."""
    if not line.chosen or known.account is None or not known.has_key:
        return line
    at = files_of(known.name, server_of(known.account))
    file, *held_out = (grounds.store.uploads.find(at, digest) for digest in digests)
    if file is None:
        return line
    holdout = held_out[0] if held_out else None
    order = Order(line.model, file, holdout, method=work.method, tuned=work.tuned, epochs=int(line.epochs or 1))
    try:
        with closing(open_provider(known.name, known.account)) as provider:
            told = provider.estimate(order)
    except TuneyardError as error:
        return replace(line, notes=(*line.notes, f"its own estimate could not be had: {error}"))
    if told is None:
        return line
    refused = () if told.allowed else (told.why,)
    lacks = ("its own estimate leaves out the holdout, which it does not have yet",) if held_out == [None] else ()
    return replace(line, estimate_usd=told.usd, notes=(*line.notes, *lacks, *refused))
