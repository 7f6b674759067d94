"""A profile as sections of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasks.data.profiling.spoken import LIMITS
from tasks.data.profiling.tallies import Breakdown, Distribution, Sighting
from tasks.data.reporting.report import Bar, Chart, Figure, Sample, Section, level_of

if TYPE_CHECKING:
    from tasks.data.profiling import Profile

FIELDS = {
    "source_agent": "Source agents",
    "target_agent": "Target agents",
    "category": "Categories",
    "difficulty": "Difficulty",
    "weights": "Weights",
    "tools_offered": "Tools offered",
    "tools_called": "Tools called",
}


def profile_sections(profile: Profile) -> list[Section]:
    """Sizes, structure, answers, characters, languages and balance."""
    return [
        _sizes(profile),
        _structure(profile),
        _answers(profile),
        _characters(profile),
        _languages(profile),
        _balance(profile),
    ]


def ranking(title: str, counts: Mapping[str, int | Sighting], note: str = "") -> Chart:
    """Values by how often they occur."""
    bars = [
        Bar(name, found.examples, found.lines) if isinstance(found, Sighting) else Bar(name, found)
        for name, found in counts.items()
    ]
    return Chart(title, "ranking", bars, note)


def sighted(label: str, seen: Sighting, *, problem: bool = False, note: str = "") -> tuple[Figure, list[Sample]]:
    """A finding as a figure, and where it is."""
    samples = [Sample(seen.lines, note or label, label)] if seen.examples else []
    return Figure(label, seen.examples, level_of(seen.examples, problem=problem), "examples"), samples


def _sizes(profile: Profile) -> Section:
    tokens = {f"Tokens by {name}": found for name, found in profile.tokens.items()}
    named: dict[str, Distribution | None] = {**tokens, "Characters": profile.characters}
    known = {title: found for title, found in named.items() if found is not None}
    figures = [figure for title, found in known.items() for figure in _percentiles(title, found)]
    return Section(
        "sizes",
        "Length",
        figures=figures,
        charts=[_histogram(f"{title} per example", found) for title, found in known.items()],
        limits=f"{LIMITS}; what a chat template and a provider add comes on top",
    )


def _percentiles(title: str, found: Distribution) -> list[Figure]:
    unit = title.lower()
    return [
        Figure(title, found.total, note=f"mean {found.mean:,.1f}"),
        Figure("median", found.p50, note=f"{unit}; 5 % to 95 %: {found.p5:,} to {found.p95:,}"),
        Figure("longest", found.maximum, note=f"{unit}; shortest: {found.minimum:,}"),
    ]


def _histogram(title: str, found: Distribution) -> Chart:
    bars = [Bar(f"{bar.first:,}" if bar.below is not None else f"≥ {bar.first:,}", bar.examples) for bar in found.bars]
    return Chart(title, "histogram", bars, f"median {found.p50:,}, 99 % up to {found.p99:,}")


def _structure(profile: Profile) -> Section:
    charts = [ranking("Messages by role", profile.roles)]
    for title, found in (
        ("Messages per example", profile.messages_per_example),
        ("Answers per example", profile.turns),
    ):
        if found is not None and found.minimum != found.maximum:
            charts.append(_histogram(title, found))
    for name, title in FIELDS.items():
        breakdown: Breakdown = getattr(profile, name)
        if breakdown.values:
            charts.append(ranking(title, breakdown.values, _rest(breakdown)))
    figures = [
        Figure("Messages", profile.messages),
        Figure("System prompts", profile.system_prompts, note="different ones"),
        Figure("Sum of weights", profile.weight_total, note="an example without one weighs 1"),
    ]
    return Section("structure", "Roles, agents and fields", figures=figures, charts=charts)


def _rest(breakdown: Breakdown) -> str:
    parts = [f"{breakdown.distinct:,} different"]
    if breakdown.rest:
        parts.append(f"{breakdown.rest:,} with others")
    if breakdown.missing:
        parts.append(f"{breakdown.missing:,} without")
    return ", ".join(parts)


def _answers(profile: Profile) -> Section:
    answers = profile.answers
    found = [
        sighted("Empty", answers.empty, problem=True, note="the last answer has neither text nor a tool call"),
        sighted("Very short", answers.short, note=f"below {answers.short_below_characters} characters"),
        sighted("Very long", answers.long, note=f"above {answers.long_above_characters:,} characters"),
    ]
    samples = [sample for _, some in found for sample in some]
    for opening in answers.openings:
        samples.append(Sample(opening.seen.lines, opening.words, f"{opening.seen.examples:,} begin alike"))
    charts = [_histogram("Characters per answer", answers.characters)] if answers.characters is not None else []
    repeated = sum(opening.seen.examples for opening in answers.openings)
    figures = [figure for figure, _ in found]
    figures.append(Figure("Boilerplate", repeated, level_of(repeated), "answers that begin as many others do"))
    limits = (
        "boilerplate: the same first five words in at least 1 % of the answers and ten of them; the ten most frequent"
    )
    return Section("answers", "Answers", figures=figures, charts=charts, samples=samples, limits=limits)


def _characters(profile: Profile) -> Section:
    codes = ", ".join(profile.control_codes)
    found = [
        sighted("Mojibake", profile.mojibake, problem=True, note="text that was read in another encoding than its own"),
        sighted("Replacement characters", profile.replacement_characters, note="U+FFFD: something was lost before"),
        sighted("Control characters", profile.control_characters, note=codes),
    ]
    return Section(
        "characters",
        "Encoding",
        figures=[figure for figure, _ in found],
        samples=[sample for _, some in found for sample in some],
        limits=f"{LIMITS}; mojibake by the heuristic of ftfy, which can be wrong about text that speaks of encodings",
    )


def _languages(profile: Profile) -> Section:
    found = profile.languages
    if found is None:
        return Section("languages", "Languages", skipped="languages=false")
    summary = f"by a sample of {found.sampled:,} of {found.examples:,} examples"
    chart = ranking("Languages", found.counts, "sampled examples; und: too short or not certain")
    return Section("languages", "Languages", summary, charts=[chart], limits=found.limits)


def _balance(profile: Profile) -> Section:
    found = profile.balance
    if found is None:
        return Section("balance", "Names, genders, nationalities", skipped="balance=false")
    topics = {
        "Genders by given name": found.genders_by_name,
        "Genders by word": found.genders_by_word,
        "Given names by culture": found.cultures,
        "Given names": found.names,
        "Nationalities": found.nationalities,
    }
    charts = [ranking(title, seen, "examples") for title, seen in topics.items() if seen]
    samples = [
        Sample(sighting.lines, value, title)
        for title, seen in topics.items()
        if title in ("Genders by given name", "Nationalities")
        for value, sighting in list(seen.items())[:5]
    ]
    return Section("balance", "Names, genders, nationalities", charts=charts, samples=samples, limits=found.limits)
