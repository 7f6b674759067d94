"""What was found beyond a dataset's figures, as sections of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.data.reporting.report import Bar, Chart, Figure, Sample, Section, level_of

if TYPE_CHECKING:
    from tasks.data.auditing.parts import PersonalData, Rows
    from tasks.data.contradictions import ContradictionReport
    from tasks.data.duplicates import DuplicateReport
    from tasks.data.leakage import LeakReport


def rows_section(rows: Rows) -> Section:
    """What could not be read, and keys that the format does not know."""
    figures = [Figure("Unreadable rows", rows.bad, level_of(rows.bad, problem=True), "in none of the other figures")]
    samples = [Sample([bad.line], f"{bad.problem}; {bad.repair}", bad.rule) for bad in rows.first_bad]
    unknown = [Bar(key, count) for key, count in rows.unknown_keys.items()]
    charts = [Chart("Keys that the format does not know", "ranking", unknown, "kept as metadata")] if unknown else []
    summary = f"format: {rows.format}" if rows.format else "no row could be read"
    return Section("rows", "Rows", summary, figures, charts, samples)


def duplicates_section(found: DuplicateReport) -> Section:
    """Accidental copies, and beside them those that are meant."""
    figures = [
        Figure("Word for word", found.exact, level_of(found.exact), "accidental copies"),
        Figure("But for case, spaces", found.normalised, level_of(found.normalised), "accidental copies"),
        Figure("Nearly", found.near, level_of(found.near), "accidental copies"),
        Figure("Meant", found.reuse, note="the same base example for another agent"),
        Figure("Coincident", found.coincident, note="like another base's, for another agent"),
        Figure("Different wordings", found.distinct, note=f"of {found.examples:,} examples"),
    ]
    samples = [
        Sample(list(cluster.lines), cluster.text, f"{cluster.examples:,} alike, {cluster.accidental:,} by accident")
        for cluster in found.clusters
        if cluster.kinds.keys() != {"reuse"}  # what is meant is no finding
    ]
    limits = f"{found.uncompared:,} candidate pairs were not compared" if found.uncompared else ""
    return Section("duplicates", "Duplicates", figures=figures, samples=samples, limits=limits)


def contradictions_section(found: ContradictionReport) -> Section:
    """Prompts that are answered in several ways, and beside them those where each agent has its own answer."""
    count = found.contradictory_prompts
    figures = [
        Figure("Contradictory prompts", count, level_of(count), f"with {found.contradictory_examples:,} examples"),
        Figure("Varied prompts", found.varied_prompts, note="each agent has one answer of its own: meant"),
        Figure("Different prompts", found.prompts, note=f"of {found.examples:,} examples"),
        Figure("Not compared", found.unanswered, note="examples without a question or without an answer"),
    ]
    samples = []
    for each in found.contradictions:
        samples.append(Sample([], each.text, f"prompt of {each.examples:,} examples"))
        samples += [Sample(list(answer.lines), answer.text, "is answered") for answer in each.answers]
    return Section("contradictions", "Contradictions", figures=figures, samples=samples)


def leaks_section(found: LeakReport) -> Section:
    """Examples that a holdout or a benchmark has as well."""
    figures = [
        Figure("The same", found.same, level_of(found.same, problem=True), "but for case and spaces"),
        Figure("The same question", found.prompt, level_of(found.prompt, problem=True), "whatever the answer"),
        Figure("Nearly the same", found.near, level_of(found.near, problem=True)),
        Figure("A passage shared", found.overlap, level_of(found.overlap, problem=True)),
    ]
    samples = [
        Sample([leak.line], leak.text, f"{leak.kind}: {leak.dataset} line {leak.twin}, {leak.similarity:.0%} alike")
        for leak in found.leaks
    ]
    compared = ", ".join(f"{count:,} examples of the {name}" for name, count in found.known.items())
    rest = [f"{found.uncompared:,} candidate pairs were not compared"] if found.uncompared else []
    rest += [f"{found.common_runs:,} runs of words are too common to be looked for"] if found.common_runs else []
    return Section("leaks", "Leakage", f"against {compared}", figures, samples=samples, limits="; ".join(rest))


def personal_section(found: PersonalData) -> Section:
    """Personal data and secrets by type, with masked values."""
    figures = [
        Figure("Secrets", found.secret_examples, level_of(found.secret_examples, problem=True), "examples with any"),
        Figure("Personal data", found.pii_examples, level_of(found.pii_examples), "examples with any"),
    ]
    if found.less_sure:
        told = ", ".join(f"{name} {count:,}" for name, count in found.less_sure.items())
        note = f"findings below the confidence asked for, in no other figure: {told}"
        figures.append(Figure("Less sure", sum(found.less_sure.values()), note=note))
    bars = [Bar(name, each.examples, each.lines) for name, each in found.types.items()]
    samples = [
        Sample(each.lines, ", ".join(each.values), f"{name}: {each.findings:,} in {each.examples:,} examples")
        for name, each in found.types.items()
    ]
    return Section(
        "personal",
        "Personal data and secrets",
        figures=figures,
        charts=[Chart("Examples by type", "ranking", bars)] if bars else [],
        samples=samples,
        limits="by form and check digits; values are masked. What only its meaning gives away is not found.",
    )
