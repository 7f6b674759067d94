"""What ends when at a provider, with the days counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api_worker.catalogue import WARN_DAYS

if TYPE_CHECKING:
    from datetime import date

    from api_worker.catalogue import Catalogue, Closing


def endings(catalogue: Catalogue, api: str, what: str, today: date) -> str:
    """The first end for everybody that is still to come, or the one of all models that is over; with its days."""
    rows = [row for row in catalogue.closings if row.provider == api and row.what == what and row.who == "everybody"]
    over = [row for row in rows if row.on <= today and row.models == ("*",)]
    if over:
        return f"closed {over[0].on}"
    coming = min((row for row in rows if row.on > today), key=lambda row: row.on, default=None)
    if coming is None:
        return "some closed" if rows else "open"
    return f"{'' if coming.models == ('*',) else 'some '}{coming.on}, {days_left(coming.on, today)}"


def days_left(on: date, today: date) -> str:
    """`12 d`; with a mark where that is soon."""
    days = (on - today).days
    return f"{days} d{'!' if days <= WARN_DAYS else ''}"


def in_short(row: Closing, today: date) -> str:
    """A closing in a few words; `tuneyard providers show` has all of them, with the source."""
    if row.on > today:
        thing = "training ends" if row.what == "training" else "its answers end"
        return f"{thing} on {row.on} ({days_left(row.on, today)})"
    thing = "training" if row.what == "training" else "its answers"
    rest = f"; instead: {row.instead}" if row.who == "everybody" else f" for {row.who}"
    return f"{thing} ended on {row.on}{rest}"


def first_end(catalogue: Catalogue, api: str, model: str, what: str) -> Closing | None:
    """The first end for everybody that meets a model."""
    found = [row for row in catalogue.closings_of(api, model, what) if row.who == "everybody"]
    return found[0] if found else None
