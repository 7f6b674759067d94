"""What the providers offer: models, closing dates, prices and limits, each with its source, read from a file.

A file of the user's own (`TUNEYARD_CATALOGUE`) may add rows, and takes the place of those that are about the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import settings
from api_worker.catalogue_file import read_rows
from api_worker.catalogue_rows import BaseModelOffer, Closing, Entry, Figure, Limit, Listing, Measure, OfModels, What
from api_worker.provider import Method, Tuned
from settings.addresses import host_of, is_on_this_machine

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

__all__ = [
    "FILE",
    "LIMITS",
    "WARN_DAYS",
    "BaseModelOffer",
    "Catalogue",
    "Closing",
    "Figure",
    "Limit",
    "Listing",
    "Measure",
    "Wanted",
    "What",
    "catalogue",
    "nearest_names",
    "read_catalogue",
]

E = TypeVar("E", bound=Entry)

FILE = Path(settings.__file__).with_name("catalogue.toml")
WARN_DAYS = 90  # before a closing
NEAREST = 3  # names beside one that is not known
LIMITS: dict[What, str] = {"jobs_at_once": "max_jobs", "jobs_a_day": "max_jobs_a_day"}  # the setting of each
DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")
FINE_TUNE = re.compile(r"ft:([^:]+)")  # what goes on from a fine-tune is tuned at the terms of its base


@dataclass(frozen=True)
class Wanted:
    """What a figure is asked for."""

    provider: str
    model: str
    method: Method = Method.SFT
    tuned: Tuned | None = None


@dataclass(frozen=True)
class Catalogue:
    """Every row."""

    listings: dict[str, Listing]
    models: tuple[BaseModelOffer, ...]
    closings: tuple[Closing, ...]
    figures: tuple[Figure, ...]
    limits: tuple[Limit, ...]

    # -- whose cloud it is ------------------------------------------------------------------------------------------

    def cloud_of(self, url: str) -> str:
        """The provider whose own cloud a URL leads to; empty: none that goes by a name of its own."""
        host = host_of(url)
        found = [row.api for row in self.listings.values() for domain in row.domains if _is_in(host, domain)]
        return found[0] if found else ""

    def is_own_server(self, api: str, url: str | None) -> bool:
        """Whether a server is the user's own, of which the catalogue knows nothing; no URL is the vendor's."""
        if url is None or self.cloud_of(url) == api:
            return False
        listing = self.listings.get(api)
        return listing is None or not listing.anywhere or is_on_this_machine(url)

    # -- models -----------------------------------------------------------------------------------------------------

    def models_of(self, provider: str) -> list[BaseModelOffer]:
        """The models that can be tuned at a provider."""
        return [model for model in self.models if model.provider == provider]

    def dated(self, provider: str, model: str) -> str:
        """The name to order a model by: of one without its date the one with it, where there is no other."""
        names = [row.name for row in self.models_of(provider)]
        found = [name for name in names if name != model and DATE.sub("", name) == model]
        return found[0] if len(found) == 1 and model not in names else model

    def offer(self, provider: str, model: str) -> BaseModelOffer | None:
        """The row of a model, by its name, the name without its date, or the name of a fine-tune of it."""
        name = self._name(provider, model)
        return next((row for row in self.models_of(provider) if row.name == name), None)

    def stranger(self, provider: str, model: str) -> str:
        """What is to be said of a model that the catalogue does not have; empty: it has it."""
        if self.offer(provider, model) is not None:
            return ""
        listing = self.listings.get(provider)
        near = nearest_names(model, [row.name for row in self.models_of(provider)])
        hint = f"; nearest: {', '.join(near)}" if near else ""
        if listing is None or not listing.all_models:
            return f"{model} is not in the catalogue{hint}"
        return f'{listing.title} tunes no model "{model}"{hint}; `tuneyard providers show {provider}` lists them'

    def tunes_only_what_is_listed(self, provider: str) -> bool:
        """Whether a provider refuses what the catalogue does not have."""
        return provider in self.listings and self.listings[provider].all_models

    def _name(self, provider: str, model: str) -> str:
        base = FINE_TUNE.match(model)
        return self.dated(provider, base[1] if base else model)

    # -- what is said of them -----------------------------------------------------------------------------------------

    def closings_of(self, provider: str, model: str, what: str) -> list[Closing]:
        """The ends that meet a model, the earliest first."""
        name = self._name(provider, model)
        found = [row for row in self.closings if row.provider == provider and row.what == what and _fits(row, name)]
        return sorted(found, key=lambda row: row.on)

    def figure(self, what: What, wanted: Wanted) -> Figure | None:
        """The figure that fits best: the one said of the fewest; None: it is not known."""
        offer, name = self.offer(wanted.provider, wanted.model), self._name(wanted.provider, wanted.model)
        found = [
            row
            for row in self.figures
            if row.provider == wanted.provider and row.what == what and _fits(row, name)
            if row.method in (None, wanted.method) and (row.tuned is None or row.tuned == (wanted.tuned or Tuned.LORA))
            if _fits_size(row, offer.billions if offer else None)
        ]
        return min(found, key=_breadth, default=None)

    def limits_of(self, target: str, measure: Measure) -> list[Limit]:
        """What is known for a target of data, what blocks first: who breaks such a limit is told only that."""
        found = [row for row in self.limits if target in row.targets and row.measure == measure]
        return sorted(found, key=lambda row: row.severity)


def nearest_names(model: str, names: Iterable[str]) -> list[str]:
    """The names most like that of a model, the most like first."""
    tails = {_tail(name): name for name in names}
    return [tails[found] for found in get_close_matches(_tail(model), list(tails), NEAREST, cutoff=0.5)]


def _is_in(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _tail(model: str) -> str:
    """What of a name is compared: without the folders that a provider puts before it."""
    return model.lower().rpartition("/")[2]


def _fits(row: OfModels, model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in row.models)


def _fits_size(row: Figure, billions: float | None) -> bool:
    if row.over_billions is None and row.up_to_billions is None:
        return True
    return billions is not None and (row.over_billions or 0.0) < billions <= (row.up_to_billions or float("inf"))


def _breadth(row: Figure) -> tuple[bool, float, bool, bool]:
    return row.models == ("*",), row.up_to_billions or float("inf"), row.method is None, row.tuned is None


def read_catalogue(file: Path, under: Catalogue | None = None) -> Catalogue:
    """The catalogue in a file, whose rows take the place of those about the same in the one `under` it.

    Raises:
        Invalid: it is no TOML, or rows make no sense; names file, line and field of each
    """
    rows = read_rows(file, listed=under.listings if under else ())
    below = under or Catalogue({}, (), (), (), ())
    listings = _merged(rows["provider"], tuple(below.listings.values()))
    return Catalogue(
        {row.api: row for row in listings},
        _merged(rows["model"], below.models),
        _merged(rows["closing"], below.closings),
        _merged(rows["figure"], below.figures),
        _merged(rows["limit"], below.limits),
    )


def _merged(own: list[E], below: tuple[E, ...]) -> tuple[E, ...]:
    taken: set[Hashable] = {row.key for row in own}
    return (*own, *(row for row in below if row.key not in taken))


def catalogue(own: Path | None = None) -> Catalogue:
    """The catalogue that comes with Tuneyard, under the rows of a file of the user's own, if there is one."""
    return _catalogue(own)


@cache
def _catalogue(own: Path | None) -> Catalogue:
    return read_catalogue(FILE) if own is None else read_catalogue(own, _catalogue(None))
