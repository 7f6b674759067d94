"""What the providers offer: models, closing dates, prices and limits, each with its source, read from one file."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import settings
from api_worker.provider import Method, Tuned
from queue_app.errors import Invalid

FILE = Path(settings.__file__).with_name("catalogue.toml")
WARN_DAYS = 90  # before a closing
Grade = Literal["P", "S", "M"]
What = Literal[
    "usd_per_million_tokens",
    "minimum_usd",
    "hosting_usd_per_hour",
    "storage_usd_per_month",
    "jobs_at_once",
    "jobs_a_day",
    "epochs_at_most",
    "usd_per_hour",
]


class Entry(BaseModel):
    """A row of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Listing(Entry):
    """A provider."""

    api: str
    title: str
    slots: Literal["account", "model", "none"]
    serving: str = ""
    note: str = ""


class BaseModelOffer(Entry):
    """A model that can be tuned at a provider."""

    provider: str
    name: str
    methods: tuple[Method, ...]
    tuned: tuple[Tuned, ...]  # empty: the provider does not say which weights it changes
    billions: float | None = Field(None, gt=0)


class Sourced(Entry):
    """What somebody said, and when that was read."""

    provider: str
    models: tuple[str, ...] = ("*",)
    source: str = Field(min_length=1)
    grade: Grade
    seen: date


class Closing(Sourced):
    """The end of something."""

    what: Literal["training", "inference"]
    on: date  # the first day on which it is over
    who: str = "everybody"
    instead: str


class Figure(Sourced):
    """A price or a limit."""

    what: What
    value: float = Field(ge=0)
    method: Method | None = None
    tuned: Tuned | None = None
    up_to_billions: float | None = None


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

    def models_of(self, provider: str) -> list[BaseModelOffer]:
        """The models that can be tuned at a provider."""
        return [model for model in self.models if model.provider == provider]

    def closings_of(self, provider: str, model: str, what: str) -> list[Closing]:
        """The ends that meet a model, the earliest first."""
        found = [row for row in self.closings if row.provider == provider and row.what == what and _fits(row, model)]
        return sorted(found, key=lambda row: row.on)

    def figure(self, what: What, wanted: Wanted) -> Figure | None:
        """The figure that fits best: the one said of the fewest; None: it is not known."""
        billions = next((m.billions for m in self.models_of(wanted.provider) if m.name == wanted.model), None)
        found = [
            row
            for row in self.figures
            if row.provider == wanted.provider and row.what == what and _fits(row, wanted.model)
            if row.method in (None, wanted.method) and (row.tuned is None or row.tuned == (wanted.tuned or Tuned.LORA))
            if row.up_to_billions is None or (billions is not None and billions <= row.up_to_billions)
        ]
        return min(found, key=_breadth, default=None)


def _fits(row: Sourced, model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in row.models)


def _breadth(row: Figure) -> tuple[bool, float, bool, bool]:
    return row.models == ("*",), row.up_to_billions or float("inf"), row.method is None, row.tuned is None


KINDS: dict[str, type[Entry]] = {
    "provider": Listing,
    "model": BaseModelOffer,
    "closing": Closing,
    "figure": Figure,
}


def read_catalogue(file: Path) -> Catalogue:
    """The catalogue in a file.

    Raises:
        Invalid: it is no TOML, or a row makes no sense; names file, line and field
    """
    try:
        text = file.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{file}: the catalogue cannot be read: {error}") from error
    if unknown := set(tables) - set(KINDS):
        raise Invalid(f"{file}: there are no rows of the kind {', '.join(sorted(unknown))}; only {', '.join(KINDS)}")
    rows = {
        kind: [_row(file, text, kind, place, row) for place, row in enumerate(tables.get(kind, ()))] for kind in KINDS
    }
    listings = {row.api: row for row in rows["provider"]}
    for kind in ("model", "closing", "figure"):
        for place, row in enumerate(rows[kind]):
            if row.provider not in listings:
                where = _line(text, kind, place, "provider")
                raise Invalid(f'{file} line {where}: provider: there is no [[provider]] with the api "{row.provider}"')
    return Catalogue(listings, tuple(rows["model"]), tuple(rows["closing"]), tuple(rows["figure"]))


@cache
def catalogue() -> Catalogue:
    """The catalogue that comes with Tuneyard."""
    return read_catalogue(FILE)


def _row(file: Path, text: str, kind: str, place: int, row: dict[str, Any]) -> Any:
    try:
        return KINDS[kind].model_validate(row)
    except ValidationError as error:
        fault = error.errors()[0]
        field = str(fault["loc"][0]) if fault["loc"] else kind
        line = _line(text, kind, place, field)
        raise Invalid(
            f"{file} line {line}: {field}: {fault['msg']}; see the head of the file for what a row holds"
        ) from error


def _line(text: str, kind: str, place: int, field: str) -> int:
    """The line of a field of the row at a place, or of the row's head where it has no such field."""
    lines = text.splitlines()
    heads = [number for number, line in enumerate(lines) if re.match(rf"\[\[\s*{kind}\s*\]\]", line)]
    head = heads[place]
    for number in range(head + 1, len(lines)):
        if lines[number].startswith("[["):
            break
        if re.match(rf"\s*{re.escape(field)}\s*=", lines[number]):
            return number + 1
    return head + 1
