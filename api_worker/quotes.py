"""What a fine-tune would cost at a provider, by the catalogue: low to high, with what is not known said in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from api_worker.catalogue import WARN_DAYS, Wanted

if TYPE_CHECKING:
    from api_worker.catalogue import Catalogue, Closing, Figure

MILLION = 1_000_000
COUNT_MARGIN = 0.05  # of tokens that were not counted with the provider's own tokenizer


@dataclass(frozen=True)
class Need:
    """The work that is to be priced."""

    wanted: Wanted
    tokens: int  # of the training examples, once through
    epochs: int
    holdout_tokens: int = 0
    exact: bool = False  # the tokens are those of the model's own tokenizer


@dataclass(frozen=True)
class Quote:
    """A price in USD; None: not known. What stands in the way is in `impossible`."""

    low: float | None
    high: float | None
    tokens: int
    usd_per_million: Figure | None = None
    minimum: Figure | None = None
    hosting: Figure | None = None
    storage: Figure | None = None
    impossible: str = ""
    notes: tuple[str, ...] = field(default=())


def quote(catalogue: Catalogue, need: Need, today: date) -> Quote:
    """The price of a piece of work.

    Tokens × epochs × price, and never less than the minimum. The low end leaves out what may be charged: measuring on
    the holdout, a minimum that some models are exempt of, and the margin of a count with another tokenizer.
    """
    wanted = need.wanted
    price = catalogue.figure("usd_per_million_tokens", wanted)
    minimum = catalogue.figure("minimum_usd", wanted)
    trained = need.tokens * need.epochs
    low = high = None
    if price is not None:
        margin = 0.0 if need.exact else COUNT_MARGIN
        measured = need.holdout_tokens * need.epochs
        low = trained * (1 - margin) * price.value / MILLION
        high = max((trained + measured) * (1 + margin) * price.value / MILLION, minimum.value if minimum else 0.0)
    notes, impossible = _standing(catalogue, need, today)
    if price is None:
        notes = (*notes, f"no price of {wanted.model} is known")
    return Quote(
        low=low,
        high=high,
        tokens=trained,
        usd_per_million=price,
        minimum=minimum,
        hosting=catalogue.figure("hosting_usd_per_hour", wanted),
        storage=catalogue.figure("storage_usd_per_month", wanted),
        impossible=impossible,
        notes=notes,
    )


def _standing(catalogue: Catalogue, need: Need, today: date) -> tuple[tuple[str, ...], str]:
    """What is to be said of the work at this provider, and what makes it impossible, if anything does."""
    wanted, notes = need.wanted, []
    for closing in over(catalogue, wanted, today):
        return (), said(closing, today)
    offer = next((model for model in catalogue.models_of(wanted.provider) if model.name == wanted.model), None)
    if offer is None:
        notes.append(f"{wanted.model} is not in the catalogue")
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
    """What has ended for everybody: the training, or the use of a model that would be there on the day `done`."""
    ends = {"training": today, "inference": done or today}
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
