"""Whether a provider still tunes at all, and a model: what the catalogue says of the day of the check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_worker.catalogue import Wanted
from api_worker.provider import Method
from api_worker.quotes import ending, over, said
from tasks.data.checking.finding import Problem

if TYPE_CHECKING:
    from datetime import date

    from api_worker.catalogue import Catalogue
    from tasks.data.checking.target_lines import Said

_PREFERENCES = {"openai_preference": "openai"}  # targets that are a way of training at a provider


@dataclass(frozen=True)
class Standing:
    """What stands in the way of any file, and what is to be said beside it."""

    findings: tuple[Said, ...] = ()
    notes: tuple[str, ...] = ()


def standing(catalogue: Catalogue, target: str, model: str | None, today: date) -> Standing:
    """What has ended or soon ends at a provider, and whether it tunes the model at all.

    Where a model is named, what has ended for it stands in the way of every file; without one, rows may be checked for
    a provider that has closed, and that it has is said.
    """
    provider = _PREFERENCES.get(target, target)
    method = Method.DPO if target in _PREFERENCES else Method.SFT
    wanted = Wanted(provider, model or "", method)
    ended = [said(closing, today) for closing in over(catalogue, wanted, today)]
    notes = tuple(f"{provider}: {said(closing, today)}" for closing in ending(catalogue, wanted, today))
    if model is None:
        return Standing((), (*(f"{provider}: {text}" for text in ended), *notes))
    found = [("closed", f"{model}: {text}") for text in ended]
    strange = catalogue.stranger(provider, model) if provider in catalogue.listings and not ended else ""
    if strange and catalogue.tunes_only_what_is_listed(provider):
        found.append(("unknown-model", strange))
    elif strange:
        notes = (f"{provider}: {strange}", *notes)
    repair = "choose another model or provider; without base_model the rows alone are checked"
    return Standing(tuple((rule, "blocking", Problem("base_model", text, repair)) for rule, text in found), notes)
