"""What a provider's API tells today, beside what the catalogue says."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_worker.catalogue import Wanted
from api_worker.providers import open_provider
from queue_app.cli import context
from tasks.commands.accounts.endings import first_end
from tasks.commands.accounts.pools import keep_limits

if TYPE_CHECKING:
    from api_worker.provider import Offer
    from settings import ProviderSettings
    from tasks.commands.accounts.known import Known

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Difference:
    """One thing that the provider tells otherwise."""

    account: str
    model: str
    what: str
    catalogue: str
    told: str


@dataclass(frozen=True)
class Refreshed:
    """What came of a look."""

    account: str
    at: str  # which provider
    differences: list[Difference]
    more: list[str]  # models that are offered and that the catalogue does not have; some may not be tunable
    agreed: list[str]  # models of which both say the same
    limits: int = 0  # pools whose limits it tells


def refresh(known: Known, account: ProviderSettings) -> Refreshed:
    """Ask a provider what it offers. The limits of jobs that it tells are kept, for where nobody else says one."""
    with closing(open_provider(known.name, account)) as provider:
        offers = {offer.model: offer for offer in provider.offers() if not offer.tuned}
    kept = keep_limits(context.store(), known, offers.values())
    models = [model.name for model in known.catalogue.models_of(known.api)]
    found = [difference for model in models for difference in _of_model(known, model, offers.get(model))]
    differ = {difference.model for difference in found}
    more = [name for name in offers if name not in models]
    agreed = [model for model in models if model not in differ]
    return Refreshed(known.name, known.api, found, more, agreed, kept)


def _of_model(known: Known, model: str, offer: Offer | None) -> list[Difference]:
    if offer is None:
        return [Difference(known.name, model, "is offered", "yes", "no")]
    rows, wanted = known.catalogue, Wanted(known.api, model)
    end = first_end(rows, known.api, model, "inference")
    at_once, a_day = rows.figure("jobs_at_once", wanted), rows.figure("jobs_a_day", wanted)
    sides: list[tuple[str, object, object]] = [
        ("shuts down", end.on if end else None, offer.shuts_down),
        ("jobs at once", int(at_once.value) if at_once else None, offer.max_jobs),
        ("jobs a day", int(a_day.value) if a_day else None, offer.max_jobs_a_day),
        ("tokens an example", None, offer.max_tokens),  # the catalogue has no such figure
    ]
    return [
        Difference(known.name, model, what, UNKNOWN if said is None else str(said), str(told))
        for what, said, told in sides
        if told is not None and told != said
    ]
