"""What a fine-tune would cost at a provider, by the catalogue: low to high, with what is not known said in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

from api_worker.catalogue import WARN_DAYS, Wanted

if TYPE_CHECKING:
    from api_worker.catalogue import Catalogue, Closing, Figure, What

MILLION = 1_000_000
HOUR_SECONDS = 3600.0
COUNT_MARGIN = 0.05  # of tokens that were not counted with the provider's own tokenizer
TIME_MARGIN = 0.25  # of a run time that is known by other jobs
LONGEST_RUN = timedelta(days=3)  # queue and training at a provider; no provider promises less
PRICED: tuple[What, What] = ("usd_per_million_tokens", "minimum_usd")


@dataclass(frozen=True)
class Need:
    """The work that is to be priced."""

    wanted: Wanted
    tokens: int  # of the training examples, once through
    epochs: int
    holdout_tokens: int = 0
    exact: bool = False  # the tokens are those of the model's own tokenizer
    machine: str | None = None  # whose hours are billed, where it is not the tokens
    seconds: tuple[float, float] | None = None  # it may run on it, from fastest to slowest

    @property
    def trained(self) -> int:
        """Tokens that are read in training."""
        return self.tokens * self.epochs


@dataclass(frozen=True)
class Quote:
    """A price in USD; None: not known. What stands in the way is in `impossible`."""

    low: float | None
    high: float | None
    tokens: int
    usd_per_million: Figure | None = None
    usd_per_hour: Figure | None = None  # of the machine
    minimum: Figure | None = None
    hosting: Figure | None = None
    storage: Figure | None = None
    impossible: str = ""
    notes: tuple[str, ...] = field(default=())


def quote(catalogue: Catalogue, need: Need, today: date) -> Quote:
    """The price of a piece of work.

    Tokens × epochs × price, and never less than the minimum. The low end leaves out what may be charged: measuring on
    the holdout where that is not sure to be billed, a minimum that some models are exempt of, and the margin of a count
    with another tokenizer. Where hours are billed: as long as it may run × price, with a margin on both sides.
    """
    wanted = need.wanted
    price = catalogue.figure("usd_per_million_tokens", wanted)
    minimum = catalogue.figure("minimum_usd", wanted)
    hourly = catalogue.figure("usd_per_hour", Wanted(wanted.provider, need.machine)) if need.machine else None
    low, high = _by_the_hour(need, hourly)
    if price is not None:
        margin = 0.0 if need.exact else COUNT_MARGIN
        measured = need.holdout_tokens * need.epochs
        listing = catalogue.listings.get(wanted.provider)
        sure = measured if listing is not None and listing.bills_holdout else 0
        low = (need.trained + sure) * (1 - margin) * price.value / MILLION
        high = max((need.trained + measured) * (1 + margin) * price.value / MILLION, minimum.value if minimum else 0.0)
    notes, impossible = _standing(catalogue, need, today)
    if price is None and hourly is None:
        notes = (*notes, f"no price of {wanted.model} is known")
    elif high is None:
        notes = (*notes, "how long it runs there is not known")
    return Quote(
        low=low,
        high=high,
        tokens=need.trained,
        usd_per_million=price,
        usd_per_hour=hourly,
        minimum=minimum,
        hosting=catalogue.figure("hosting_usd_per_hour", wanted),
        storage=catalogue.figure("storage_usd_per_month", wanted),
        impossible=impossible,
        notes=notes,
    )


def _by_the_hour(need: Need, hourly: Figure | None) -> tuple[float | None, float | None]:
    if hourly is None or need.seconds is None:
        return None, None
    fastest, slowest = (seconds / HOUR_SECONDS * hourly.value for seconds in need.seconds)
    return fastest * (1 - TIME_MARGIN), slowest * (1 + TIME_MARGIN)


def machine_of(catalogue: Catalogue, api: str, tier: str | None) -> str | None:
    """The machine whose hours an account is billed for; None: it is billed for tokens."""
    listing = catalogue.listings.get(api)
    return (tier or listing.machine) if listing is not None and listing.machine else None


def price_of(catalogue: Catalogue, wanted: Wanted, tokens: int) -> float | None:
    """What so many billed tokens cost; None: no price is known."""
    price, minimum = (catalogue.figure(what, wanted) for what in PRICED)
    return None if price is None else max(tokens * price.value / MILLION, minimum.value if minimum else 0.0)


def _standing(catalogue: Catalogue, need: Need, today: date) -> tuple[tuple[str, ...], str]:
    """What is to be said of the work at this provider, and what makes it impossible, if anything does."""
    wanted, notes = need.wanted, []
    for closing in over(catalogue, wanted, today):
        return (), said(closing, today)
    offer = catalogue.offer(wanted.provider, wanted.model)
    strange = catalogue.stranger(wanted.provider, wanted.model)
    if strange and catalogue.tunes_only_what_is_listed(wanted.provider):
        return (), strange
    if offer is None:
        notes.append(strange)
    elif wanted.method not in offer.methods:
        return (), f"{wanted.model} learns by {', '.join(offer.methods)} there, not by {wanted.method}"
    elif wanted.tuned is not None and offer.tuned and wanted.tuned not in offer.tuned:
        return (), f"{wanted.model} is tuned as {', '.join(offer.tuned)} there, not {wanted.tuned}"
    most = catalogue.figure("epochs_at_most", wanted)
    if most is not None and need.epochs > most.value:
        return (), f"at most {most.value:.0f} epochs there"
    notes += [said(closing, today) for closing in ending(catalogue, wanted, today)]
    return tuple(notes), ""


def over(catalogue: Catalogue, wanted: Wanted, today: date, *, done: date | None = None) -> list[Closing]:
    """What has ended for everybody: the training, or the use of a model that would be there on the day `done`.

    Without a day, that is when a job that is started now is sure to be done.
    """
    ends = {"training": today, "inference": done or today + LONGEST_RUN}
    found = [row for what in ends for row in catalogue.closings_of(wanted.provider, wanted.model, what)]
    return [row for row in found if row.on <= ends[row.what] and row.who == "everybody"]


def ending(catalogue: Catalogue, wanted: Wanted, today: date) -> list[Closing]:
    """What ends within `WARN_DAYS`, or has ended for some."""
    found = [
        row for what in ("training", "inference") for row in catalogue.closings_of(wanted.provider, wanted.model, what)
    ]
    return [
        row for row in found if (row.on <= today and row.who != "everybody") or 0 < (row.on - today).days <= WARN_DAYS
    ]


def said(closing: Closing, today: date) -> str:
    """A closing in words, with what to use instead."""
    days = (closing.on - today).days
    thing = "training" if closing.what == "training" else "the use of its fine-tunes"
    when = f"ends on {closing.on} ({days} days)" if days > 0 else f"ended on {closing.on}"
    whom = "" if closing.who == "everybody" else f" for {closing.who}"
    return f"{thing} {when}{whom}; instead: {closing.instead} ({closing.source}, seen {closing.seen})"
