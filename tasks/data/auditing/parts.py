"""The parts of an audit: each reads the rows itself, so that they can run side by side in processes of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause
from tasks.data.contradictions import Contradiction, ContradictionFinder, ContradictionOptions, ContradictionReport
from tasks.data.counting import Count, counting_of_folder, counting_of_name, openai_counting
from tasks.data.duplicates import DuplicateFinder, DuplicateOptions, DuplicateReport
from tasks.data.leakage import LeakFinder, LeakOptions, LeakReport
from tasks.data.personal import Confidence, Search, families
from tasks.data.profiling import Profile, ProfileOptions, profile_rows
from tasks.data.profiling.tallies import Sightings
from tasks.data.quoting import quoted, quoted_counts
from tasks.data.reading import BadRow, Reading, Row, read_rows
from tasks.data.scanning import find_spots

Tick = Callable[[int], None]
TICK_EXAMPLES = 1000
VOCABULARIES = ("o200k_base", "cl100k_base")
SHOWN_BAD_ROWS = 20
SHOWN_KEYS = 30
SHOWN_VALUES = 3  # masked, of each type of personal data
SECRET_URL = "url_login"  # a secret, though its family is another


class Unreadable(msgspec.Struct, frozen=True):
    """A row that is no record."""

    line: int
    rule: str
    problem: str
    repair: str


class Rows(msgspec.Struct, frozen=True):
    """What the reading met."""

    format: str | None
    bad: int
    first_bad: list[Unreadable]
    unknown_keys: dict[str, int]


class PersonalType(msgspec.Struct, frozen=True):
    """One type of personal data or secret; the values are masked."""

    secret: bool
    findings: int
    examples: int
    lines: list[int]
    values: list[str]


class PersonalData(msgspec.Struct, frozen=True):
    """What was found of persons and of secrets."""

    pii_examples: int
    secret_examples: int
    types: dict[str, PersonalType]
    less_sure: dict[str, int]  # findings below the confidence asked for, by type; in no other figure


def told(row: BadRow) -> str:
    """Field and problem of a bad row, masked: a name of a field may be somebody's as well."""
    return quoted(f"{row.field}: {row.problem}" if row.field else row.problem)


@dataclass(frozen=True)
class Source:
    """The rows that every part reads."""

    path: Path
    format: str | None = None

    def read(self, tick: Tick, bad: Callable[[BadRow], object] = bool, reading: Reading | None = None) -> Iterator[Row]:
        """The readable rows; the others are handed to `bad`."""
        for count, row in enumerate(read_rows(self.path, reading or Reading(self.format))):
            if isinstance(row, BadRow):
                bad(row)
            else:
                yield row
            if count % TICK_EXAMPLES == 0:
                tick(count)


@dataclass(frozen=True)
class ProfilePart:
    """Lengths, fields, languages, characters and balance, and what could not be read."""

    source: Source
    tokenizers: tuple[str, ...] = VOCABULARIES[:1]
    base_model: Path | None = None
    options: ProfileOptions = field(default_factory=ProfileOptions)

    def __call__(self, tick: Tick) -> tuple[Rows, Profile]:
        reading, first, rules = Reading(self.source.format), list[Unreadable](), Counter[str]()

        def note(row: BadRow) -> None:
            rules[row.rule] += 1
            if len(first) < SHOWN_BAD_ROWS:
                first.append(Unreadable(row.line, row.rule, told(row), row.repair))

        counters = {name: counter(name) for name in self.tokenizers}
        if self.base_model is not None:
            counters["the base model"] = counting_of_folder(self.base_model).count
        options = replace(self.options, counters=counters)
        profile = profile_rows(self.source.read(tick, note, reading), options)
        unknown = quoted_counts(reading.unknown, SHOWN_KEYS)
        return Rows(reading.format, rules.total(), first, unknown), profile


@dataclass(frozen=True)
class PersonalPart:
    """Personal data and secrets in every text of every record."""

    source: Source
    search: Search = field(default_factory=Search)

    def __call__(self, tick: Tick) -> PersonalData:
        secrets = {*families()["secrets"].TYPES, SECRET_URL}
        findings: Counter[str] = Counter()
        less_sure: Counter[str] = Counter()
        seen, kinds = Sightings(), Sightings()
        values: dict[str, list[str]] = {}
        every = replace(self.search, least=Confidence.LOW)
        for row in self.source.read(tick):
            found = find_spots(row.record, row.line, every)
            spots = [spot for spot in found if spot.confidence >= self.search.least]
            if len(spots) < len(found):
                less_sure.update(spot.type for spot in found if spot.confidence < self.search.least)
            for spot in spots:
                findings[spot.type] += 1
                shown = values.setdefault(spot.type, [])
                if len(shown) < SHOWN_VALUES:
                    shown.append(spot.masked)
            here = {spot.type for spot in spots}
            for name in sorted(here):
                seen.see(name, row.line)
            for kind in {"secret" if name in secrets else "pii" for name in here}:
                kinds.see(kind, row.line)
        types = {
            name: PersonalType(name in secrets, findings[name], found.examples, found.lines, values[name])
            for name, found in seen.all(len(seen.counts)).items()
        }
        return PersonalData(kinds.counts["pii"], kinds.counts["secret"], types, dict(sorted(less_sure.items())))


@dataclass(frozen=True)
class DuplicatesPart:
    """Examples that are there more than once."""

    source: Source
    options: DuplicateOptions

    def __call__(self, tick: Tick) -> DuplicateReport:
        with DuplicateFinder(self.options) as finder:
            for row in self.source.read(tick):
                finder.see(row.record, row.line)
            found = finder.finish()
        clusters = tuple(msgspec.structs.replace(cluster, text=quoted(cluster.text)) for cluster in found.clusters)
        return msgspec.structs.replace(found, clusters=clusters)


@dataclass(frozen=True)
class LeaksPart:
    """Examples that are in a holdout or a benchmark as well."""

    source: Source
    known: Mapping[str, Source]
    options: LeakOptions

    def __call__(self, tick: Tick) -> LeakReport:
        with LeakFinder(self.options) as finder:
            for name, other in self.known.items():
                for row in other.read(tick, _refuse):
                    finder.know(row.record, row.line, name)
            for row in self.source.read(tick):
                finder.see(row.record, row.line)
            found = finder.finish()
        leaks = tuple(msgspec.structs.replace(leak, text=quoted(leak.text)) for leak in found.leaks)
        return msgspec.structs.replace(found, leaks=leaks)


def _refuse(row: BadRow) -> None:
    """A holdout with a row that cannot be read would let that one leak unseen."""
    raise Permanent(str(row), cause=Cause.DATA)


@dataclass(frozen=True)
class ContradictionsPart:
    """Prompts with different answers."""

    source: Source
    options: ContradictionOptions

    def __call__(self, tick: Tick) -> ContradictionReport:
        with ContradictionFinder(self.options) as finder:
            for row in self.source.read(tick):
                finder.see(row.record, row.line)
            found = finder.finish()
        return msgspec.structs.replace(found, contradictions=tuple(map(_masked, found.contradictions)))


def _masked(found: Contradiction) -> Contradiction:
    answers = tuple(
        msgspec.structs.replace(answer, text=quoted(answer.text), agents=tuple(map(quoted, answer.agents)))
        for answer in found.answers
    )
    return msgspec.structs.replace(found, text=quoted(found.text), answers=answers)


def counter(name: str) -> Count:
    """The token counter of a vocabulary or of a model known by its name.

    Raises:
        Invalid: no vocabulary at hand is known to be its own
    """
    if name in VOCABULARIES:
        return openai_counting(name).count
    found = counting_of_name(name)
    if found is None:
        raise Invalid(
            f'no vocabulary is known for "{name}"; tokenizers are {", ".join(VOCABULARIES)} or a model\'s name'
        )
    return found.count
