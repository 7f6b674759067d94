"""`dataset.stats`: a dataset in figures and histograms, without a judgement."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import Field

from queue_app.errors import Permanent
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job
from queue_app.lifecycle import Cause
from tasks.data.auditing.parts import SHOWN_KEYS, Source, counter, told
from tasks.data.counting import Count, counting_of_folder
from tasks.data.profiling import Profile, ProfileOptions, profile_rows
from tasks.data.profiling.spoken import LIMITS
from tasks.data.quoting import quoted_counts
from tasks.data.reading import BadRow, Reading
from tasks.data.statistics import STATISTICS

if TYPE_CHECKING:
    from tasks.data.profiling.tallies import Distribution

SIZES = ("characters", "messages_per_example", "turns")
SHOWN_BAD_ROWS = 5


class StatsDataset(Spec):
    """Which dataset, and what is measured beside sizes and fields."""

    source: ArtifactRef = Field(description="a dataset artifact, a folder with examples.jsonl, or a file of examples")
    from_format: str | None = Field(None, description="the format of the source; default: told from its first row")
    tokenizers: tuple[str, ...] = Field(
        ("o200k_base",), description="vocabularies to count tokens by: o200k_base, cl100k_base, or a model's name"
    )
    base_model: ArtifactRef | None = Field(None, description="a model whose own tokenizer counts first")
    languages: bool = Field(False, description="detect languages, on a sample")
    balance: bool = Field(False, description="count names, genders and nationalities")


class DatasetStatistics(Result):
    """The main figures; all of them, with the histograms, are in the artifact."""

    statistics: str = Field(description="artifact id: statistics.json")
    examples: int
    messages: int
    bad_rows: int = Field(description="rows that could not be read; they are in no other figure")
    first_bad: list[str] = Field(description="the first of them, with what to do")
    characters: int = Field(description=LIMITS)
    tokens: dict[str, int] = Field(description=f"by tokenizer, {LIMITS}; without what a chat template adds")
    longest_tokens: dict[str, int] = Field(description="by tokenizer, of the longest example")
    weight_total: float = Field(description="an example without a weight counts as 1")
    roles: dict[str, int] = Field(description="messages by role")
    categories: dict[str, int] = Field(description="examples by category; the most frequent")


@job("dataset.stats", queues=("cpu",))
def stats_dataset(spec: StatsDataset, attempt: Attempt) -> DatasetStatistics:
    """Measure a dataset: sizes, tokens, roles, fields and their distributions."""
    source = Source(attempt.artifacts.resolve(spec.source), spec.from_format)
    folder = attempt.workdir / "statistics"
    shutil.rmtree(folder, ignore_errors=True)
    counters = _counters(spec, attempt)
    first: list[str] = []
    bad = [0]

    def note(row: BadRow) -> None:
        bad[0] += 1
        if len(first) < SHOWN_BAD_ROWS:
            first.append(f"{row.file} {row.unit} {row.line}: {told(row)}; {row.repair}")

    reading = Reading(spec.from_format)
    options = ProfileOptions(counters, languages=spec.languages, balance=spec.balance)
    profile = profile_rows(source.read(lambda number: attempt.report(examples=number), note, reading), options)
    if not profile.examples:
        raise Permanent(f"{spec.source} has no example that can be read ({bad[0]} bad rows)", cause=Cause.DATA)
    figures = {"examples": profile.examples, "messages": profile.messages, "bad_rows": bad[0]}
    _write(
        folder,
        figures | {"format": reading.format, "unknown_keys": quoted_counts(reading.unknown, SHOWN_KEYS)},
        profile,
    )
    return DatasetStatistics(
        statistics=attempt.artifacts.publish(folder, kind="statistics"),
        first_bad=first,
        characters=profile.characters.total if profile.characters else 0,
        tokens={name: sizes.total for name, sizes in profile.tokens.items()},
        longest_tokens={name: sizes.maximum for name, sizes in profile.tokens.items()},
        weight_total=profile.weight_total,
        roles=profile.roles,
        categories=profile.category.values,
        **figures,
    )


def _counters(spec: StatsDataset, attempt: Attempt) -> dict[str, Count]:
    """By name; an artifact is called as the user called it."""
    counters: dict[str, Count] = {}
    if spec.base_model is not None:
        name = Path(spec.base_model).name.removeprefix("sha256:")[:40]
        counters[name] = counting_of_folder(attempt.artifacts.resolve(spec.base_model), attempt.report).count
    return counters | {name: counter(name) for name in spec.tokenizers}


def _write(folder: Path, figures: Mapping[str, Any], profile: Profile) -> None:
    """statistics.json: single figures first, the bars of tokens, then all that was measured."""
    named: dict[str, Distribution] = {name: sizes for name in SIZES if (sizes := getattr(profile, name)) is not None}
    named |= {f"tokens {name}": sizes for name, sizes in profile.tokens.items()}
    if profile.answers.characters is not None:
        named["answer characters"] = profile.answers.characters
    histograms = {name: _bars(sizes) for name, sizes in named.items()}
    whole: dict[str, Any] = dict(figures) | {"weight_total": profile.weight_total}
    if profile.characters is not None:
        whole["characters"] = profile.characters.total
    for name, sizes in profile.tokens.items():
        whole |= {f"{name} tokens": sizes.total, f"{name} tokens p50": sizes.p50, f"{name} tokens p95": sizes.p95}
        whole[f"{name} tokens of the longest"] = sizes.maximum
    if profile.tokens:
        first = next(iter(profile.tokens))
        whole |= {"histogram_of": f"tokens {first}", "histogram": histograms[f"tokens {first}"]}
    whole |= {"histograms": histograms, "profile": msgspec.to_builtins(profile)}
    folder.mkdir(parents=True)
    (folder / STATISTICS).write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")


def _bars(sizes: Distribution) -> list[dict[str, int | None]]:
    return [{"from": bar.first, "below": bar.below, "examples": bar.examples} for bar in sizes.bars]
