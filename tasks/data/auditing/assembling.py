"""The report and the main figures, put together from the parts of an audit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tasks.data.gates import Thresholds, judge
from tasks.data.reporting.findings import (
    contradictions_section,
    duplicates_section,
    leaks_section,
    personal_section,
    rows_section,
)
from tasks.data.reporting.report import Figure, Report, Section, level_of
from tasks.data.reporting.sections import profile_sections

if TYPE_CHECKING:
    from tasks.data.auditing.parts import PersonalData, Rows
    from tasks.data.auditing.piece import Done
    from tasks.data.contradictions import ContradictionReport
    from tasks.data.duplicates import DuplicateReport
    from tasks.data.leakage import LeakReport
    from tasks.data.profiling import Profile

TITLES = {
    "duplicates": "Duplicates",
    "contradictions": "Contradictions",
    "leaks": "Leakage",
    "personal": "Personal data and secrets",
}


class Findings(NamedTuple):
    """What the parts returned; None for a part that did not run."""

    rows: Rows
    profile: Profile
    personal: PersonalData | None
    duplicates: DuplicateReport | None
    leaks: LeakReport | None
    contradictions: ContradictionReport | None

    @classmethod
    def of(cls, done: Mapping[str, Done]) -> Findings:
        rows, profile = done["profile"].result
        others = {name: done[name].result if name in done else None for name in cls._fields[2:]}
        return cls(rows, profile, **others)


def assemble(source: str, done: Mapping[str, Done], thresholds: Thresholds, skipped: Mapping[str, str]) -> Report:
    """The report of an audit."""
    found = Findings.of(done)
    counts = measured(found)
    checks = judge(thresholds, counts, found.profile.examples)
    made = {section.key: section for section in _sections(found)}
    for name, why in skipped.items():
        made[name] = Section(name, TITLES[name], skipped=why)
    return Report(
        title="Dataset audit",
        source=source,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        examples=found.profile.examples,
        passed=all(check.passed for check in checks) if checks else None,
        checks=checks,
        headline=_headline(found, counts),
        sections=[made[key] for key in ORDER if key in made],
        seconds={name: piece.seconds for name, piece in done.items()},
        data={name: msgspec.to_builtins(part) for name, part in found._asdict().items() if part is not None},
    )


ORDER = (
    "rows", "sizes", "structure", "answers", "duplicates", "contradictions", "leaks", "personal", "characters",
    "languages", "balance",
)  # fmt: skip


def measured(found: Findings) -> dict[str, int]:
    """What thresholds are held against, by their names without `min_` or `max_`."""
    profile = found.profile
    counts = {
        "examples": profile.examples,
        "bad_rows": found.rows.bad,
        "mojibake": profile.mojibake.examples,
        "control_characters": profile.control_characters.examples,
        "empty_answers": profile.answers.empty.examples,
        "boilerplate": max((opening.seen.examples for opening in profile.answers.openings), default=0),
    }
    if found.personal is not None:
        counts |= {"pii": found.personal.pii_examples, "secrets": found.personal.secret_examples}
    if found.duplicates is not None:
        accidents = found.duplicates.exact + found.duplicates.normalised
        counts |= {"duplicates": accidents, "near_duplicates": found.duplicates.near}
    if found.leaks is not None:
        counts["leaks"] = found.leaks.leaked
    if found.contradictions is not None:
        counts["contradictions"] = found.contradictions.contradictory_prompts
    return counts


def figures(done: Mapping[str, Done]) -> dict[str, Any]:
    """The main figures, by the names of the job's result."""
    found = Findings.of(done)
    counts: dict[str, Any] = dict.fromkeys(
        ("duplicates", "near_duplicates", "contradictions", "leaks", "pii", "secrets")
    )
    counts |= measured(found)
    del counts["boilerplate"]
    counts["less_sure"] = {} if found.personal is None else found.personal.less_sure
    languages = found.profile.languages
    counts["languages_sampled"] = 0 if languages is None else languages.sampled
    counts["tokens"] = {name: sizes.total for name, sizes in found.profile.tokens.items()}
    return counts


def _sections(found: Findings) -> list[Section]:
    sections = [rows_section(found.rows), *profile_sections(found.profile)]
    if found.personal is not None:
        sections.append(personal_section(found.personal))
    if found.duplicates is not None:
        sections.append(duplicates_section(found.duplicates))
    if found.leaks is not None:
        sections.append(leaks_section(found.leaks))
    if found.contradictions is not None:
        sections.append(contradictions_section(found.contradictions))
    return sections


def _headline(found: Findings, counts: Mapping[str, int]) -> list[Figure]:
    profile = found.profile
    tokens = [Figure("Tokens", sizes.total, note=name) for name, sizes in profile.tokens.items()]
    named = (
        ("bad_rows", "Unreadable rows", True),
        ("duplicates", "Duplicates", False),
        ("near_duplicates", "Near duplicates", False),
        ("contradictions", "Contradictions", False),
        ("leaks", "Leaks", True),
        ("secrets", "With secrets", True),
        ("pii", "With personal data", False),
        ("mojibake", "Mojibake", True),
        ("empty_answers", "Empty answers", True),
    )
    findings = [
        Figure(label, counts[name], level_of(counts[name], problem=problem))
        for name, label, problem in named
        if name in counts
    ]
    return [Figure("Examples", profile.examples, "plain" if profile.examples else "problem"), *tokens, *findings]
