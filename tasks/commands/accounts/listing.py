"""A provider in full: its models, prices, limits and dates, each with who says so, and what nobody says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from api_worker.catalogue import LIMITS
from api_worker.quotes import said
from queue_app.cli import output
from tasks.commands.accounts.endings import days_left, first_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api_worker.catalogue import BaseModelOffer, Closing, Figure, Limit
    from tasks.commands.accounts.known import Known

WORDS = {  # figure → how it is called
    "usd_per_million_tokens": "$ per 1M trained tokens",
    "minimum_usd": "least that a job costs, $",
    "hosting_usd_per_hour": "an endpoint, $ an hour",
    "storage_usd_per_month": "keeping a model, $ a month",
    "usd_per_hour": "a machine, $ an hour",
    "jobs_at_once": "jobs at once",
    "jobs_a_day": "jobs a day",
    "epochs_at_most": "epochs at most",
}
MEASURES = {  # measure → what there is so much of
    "file_bytes": "bytes of a file",
    "examples": "examples",
    "example_tokens": "tokens of an example",
    "total_tokens": "tokens of a file, times epochs",
}
GRADES = {"P": "the vendor", "S": "somebody else", "M": "measured"}


def show_head(known: Known) -> None:
    """Who it is, and what is to be known before anything else."""
    listing = None if known.is_own_server else known.listing
    output.write(
        f"{known.name}: {listing.title if listing else known.api}, key {'set' if known.has_key else 'not set'}"
    )
    if listing is None:
        output.write(f"  a server of your own that speaks {known.api}'s API: the catalogue knows nothing of it")
        return
    for line in filter(None, (listing.note, f"a tuned model answers {_by(listing.serving)}")):
        output.console().print(f"  {line}")


def closing_words(row: Closing) -> str:
    """An end with its source and how sure that is."""
    return f"{said(row, datetime.now(UTC).date())} [{GRADES[row.grade]}]"


def _by(serving: str) -> str:
    return serving if serving.startswith("by ") else f"at {serving or 'an unknown price'}"


def model_row(known: Known, model: BaseModelOffer) -> list[str]:
    """Methods, weights, end and name of a model."""
    end = first_end(known.catalogue, known.api, model.name, "inference")
    today = datetime.now(UTC).date()
    if end is None:
        until = "no date known"
    else:
        until = f"{end.on}, {days_left(end.on, today)}" if end.on > today else f"over since {end.on}"
    return [", ".join(model.methods), ", ".join(model.tuned) or "not said", until, model.name]


def figure_row(row: Figure) -> list[str]:
    """What a figure is, whom it meets, its value and its source."""
    of = [", ".join(row.models) if row.models != ("*",) else "", str(row.method or ""), str(row.tuned or "")]
    of.append(_sizes(row.over_billions, row.up_to_billions))
    return [WORDS[row.what], " ".join(filter(None, of)) or "all", f"{row.value:g}", _source(row)]


def _sizes(over: float | None, up_to: float | None) -> str:
    """Of which sizes, in billions of parameters."""
    if over is None or up_to is None:
        return f"over {over:g}B" if over is not None else f"to {up_to:g}B" if up_to is not None else ""
    return f"{over:g}–{up_to:g}B"


def sources(models: Sequence[BaseModelOffer]) -> list[str]:
    """Who says that models can be tuned, each once."""
    return list(dict.fromkeys(map(_source, models)))


def _source(row: Any) -> str:
    return f"{row.source} ({GRADES[row.grade]}, seen {row.seen})"


def limits_of(known: Known) -> list[Limit]:
    """What a file for a provider may have, in each of the ways of training there."""
    of, rows = ("" if known.is_own_server else known.api), known.catalogue.limits
    return [row for row in rows if of and any(target.split("_")[0] == of for target in row.targets)]


def limit_row(row: Limit) -> list[str]:
    """What a limit is of, for whose data, its value and its source; one that is not sure only warns."""
    least, most = f"{row.minimum:,}" if row.minimum else "", "" if row.maximum is None else f"to {row.maximum:,}"
    value = f"{least} {most}".strip() if most else f"{least} or more"
    mild = ", a warning" if row.severity == "warning" else ""
    return [MEASURES[row.measure], ", ".join(row.targets), value + mild, _source(row)]


def own_rows(known: Known) -> list[list[str]]:
    """What the settings say of an account."""
    words = {field: WORDS[what] for what, field in LIMITS.items()}
    words |= {"cap_usd": "your cap, $", "cap_usd_a_day": "your cap a day, $"}
    given = {field: getattr(known.account, field, None) for field in words}
    return [
        [words[field], "this account", f"{value:g}", f"your {known.variable(field)}"]
        for field, value in given.items()
        if value is not None
    ]


def gaps(known: Known) -> dict[str, str]:
    """The figures that nobody knows, and where each could be said."""
    figures = known.catalogue.figures
    told = set() if known.is_own_server else {row.what for row in figures if row.provider == known.api}
    wanted = ["jobs_at_once", "jobs_a_day"]
    if not known.is_own_server:
        wanted = ["usd_per_million_tokens", "minimum_usd", *wanted, "epochs_at_most"]
    if not known.is_own_server and known.listing is not None and known.listing.serving.endswith(("endpoint", "hour")):
        wanted.append("hosting_usd_per_hour")
    places: dict[str, str] = {what: known.variable(field) for what, field in LIMITS.items()}
    own = [what for what, field in LIMITS.items() if getattr(known.account, field, None) is not None]
    row = "a [[figure]] in the file of TUNEYARD_CATALOGUE"
    return {what: places.get(what, row) for what in wanted if what not in told and what not in own}


def unknown_rows(known: Known) -> list[list[str]]:
    """What nobody knows of an account."""
    return [[WORDS[what], "all", "unknown", f"{place} sets it"] for what, place in gaps(known).items()]
