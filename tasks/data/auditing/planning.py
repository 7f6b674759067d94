"""Which parts an audit has, in the order in which they are started: the longest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.data.auditing.parts import ContradictionsPart, DuplicatesPart, LeaksPart, PersonalPart, ProfilePart, Source
from tasks.data.contradictions import ContradictionOptions
from tasks.data.duplicates import DuplicateOptions
from tasks.data.leakage import LeakOptions
from tasks.data.personal import REGIONS, Confidence, Search, chosen_types
from tasks.data.profiling import ProfileOptions
from tasks.data.reading import data_file

if TYPE_CHECKING:
    from tasks.data.auditing.piece import Work

OTHERS = ("holdout", "benchmark")
INPUTS = ("source", *OTHERS, "base_model")
SMALL_BYTES = 8_000_000  # below it, starting processes costs more than a second core saves


@dataclass(frozen=True)
class AuditPlan:
    """What is asked for; `INPUTS` are paths."""

    source: Path
    holdout: Path | None = None
    benchmark: Path | None = None
    base_model: Path | None = None
    from_format: str | None = None
    tokenizers: Sequence[str] = ()
    duplicates: bool = True
    similarity: float = 0.85
    contradictions: bool = True
    personal: bool = True
    personal_types: Sequence[str] = ()
    least: Literal["low", "medium", "high"] = "medium"
    regions: Sequence[str] = REGIONS
    languages: bool = True
    balance: bool = True
    processes: int = 2
    scratch: Path | None = None  # folder for unnamed files of up to about the dataset's size


OPTIONS = {each.name for each in fields(AuditPlan)} - {*INPUTS, "scratch"}


@dataclass(frozen=True)
class Parts:
    """What is done, what is not and why, and in how many processes."""

    pieces: dict[str, Work]
    skipped: dict[str, str] = field(default_factory=dict)
    processes: int = 1


def plan_parts(plan: AuditPlan) -> Parts:
    """The parts of an audit.

    Raises:
        Permanent: there is no such dataset
        Invalid: a type of personal data or a tokenizer is not known; before anything is read
    """
    source = Source(plan.source, plan.from_format)
    small = data_file(plan.source).stat().st_size < SMALL_BYTES
    search = Search(frozenset(plan.personal_types), tuple(plan.regions), Confidence[plan.least.upper()])
    chosen_types(search.types)
    options = ProfileOptions(languages=plan.languages, balance=plan.balance)
    pieces: dict[str, Work] = {}
    skipped: dict[str, str] = {}
    if plan.duplicates:
        pieces["duplicates"] = DuplicatesPart(source, DuplicateOptions(near=plan.similarity, scratch=plan.scratch))
    else:
        skipped["duplicates"] = "duplicates=false"
    known = {name: Source(path) for name in OTHERS if (path := getattr(plan, name)) is not None}
    if known:
        pieces["leaks"] = LeaksPart(source, known, LeakOptions(near=plan.similarity, scratch=plan.scratch))
    else:
        skipped["leaks"] = "give a holdout or a benchmark to compare with"
    if plan.contradictions:
        pieces["contradictions"] = ContradictionsPart(source, ContradictionOptions(scratch=plan.scratch))
    else:
        skipped["contradictions"] = "contradictions=false"
    if plan.personal:
        pieces["personal"] = PersonalPart(source, search)
    else:
        skipped["personal"] = "personal=false"
    pieces["profile"] = ProfilePart(source, tuple(plan.tokenizers), plan.base_model, options)
    return Parts(pieces, skipped, 1 if small else min(plan.processes, len(pieces)))
