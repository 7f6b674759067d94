"""Which of a provider's models to quote for a fine-tune that is meant for a model elsewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from api_worker.catalogue import Wanted

if TYPE_CHECKING:
    from api_worker.catalogue import BaseModelOffer, Catalogue
    from tasks.commands.accounts.known import Known
    from tasks.commands.quoting.work import Work

POINT = re.compile(r"(?<=\d)p(?=\d)")
DECORATION = re.compile(r"^meta-|-reference$|(?<=-)v(?=\d)")


def plain(model: str) -> str:
    """A model's name without what each provider adds to it: `Meta-Llama-3.1-8B-Instruct-Reference` and the like."""
    return DECORATION.sub("", POINT.sub(".", model.lower().rpartition("/")[2]))


def models_for(work: Work, known: Known, *, every: bool) -> list[str]:
    """The models of a provider to quote: the same one, else the cheapest that learns so; or all of them."""
    offers = known.catalogue.models_of(known.api)
    same = [offer for offer in offers if plain(offer.name) == plain(work.model)]
    if every:
        return [offer.name for offer in offers]
    if same:
        return [same[0].name]
    can = [offer for offer in offers if work.method in offer.methods]
    return [min(can or offers, key=lambda offer: _price(known.catalogue, offer, work)).name] if offers else []


def _price(catalogue: Catalogue, offer: BaseModelOffer, work: Work) -> float:
    wanted = Wanted(offer.provider, offer.name, work.method, work.tuned)
    figure = catalogue.figure("usd_per_million_tokens", wanted)
    return float("inf") if figure is None else figure.value
