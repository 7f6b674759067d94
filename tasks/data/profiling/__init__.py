"""What a dataset is, in figures: one pass over its rows, in memory that does not depend on how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.profiling.balance import Balance, BalanceCount
from tasks.data.profiling.characters import Blemishes
from tasks.data.profiling.languages import Languages, LanguageSample
from tasks.data.profiling.openings import Opening, OpeningCount
from tasks.data.profiling.spoken import spoken_in, tools_of, unescaped
from tasks.data.profiling.tallies import Breakdown, Distribution, Sighting, Sightings, Values, distribution

if TYPE_CHECKING:
    from tasks.data.reading import Row
    from tasks.data.record import Record

TokenCount = Callable[[Sequence[str]], Sequence[int]]  # the tokens of each text
BATCH = 256  # rows whose tokens are counted at once
FIELDS = ("source_agent", "target_agent", "category", "difficulty")


@dataclass(frozen=True)
class ProfileOptions:
    """What is measured beside lengths and fields; a part that is off is None in the profile."""

    counters: Mapping[str, TokenCount] = field(default_factory=dict)  # by the tokenizer's name
    short_answer_characters: int = 2  # shorter ones are counted as very short
    long_answer_characters: int = 20_000
    languages: bool = True
    balance: bool = True


class Answers(msgspec.Struct, frozen=True):
    """The last message of the assistant in each example. One without text that calls tools is not empty."""

    characters: Distribution | None
    empty: Sighting
    short: Sighting
    long: Sighting
    short_below_characters: int
    long_above_characters: int
    openings: list[Opening]


class Profile(msgspec.Struct, frozen=True):
    """A dataset in figures; the same for the same rows in the same order."""

    examples: int
    messages: int
    characters: Distribution | None  # of all that is said in an example, its tools with it
    tokens: dict[str, Distribution]  # of the same, without what a chat template adds, by tokenizer
    messages_per_example: Distribution | None
    turns: Distribution | None  # the assistant's messages
    roles: dict[str, int]  # messages
    source_agent: Breakdown
    target_agent: Breakdown
    category: Breakdown
    difficulty: Breakdown
    weights: Breakdown
    weight_total: float  # an example without one weighs 1
    tools_offered: Breakdown
    tools_called: Breakdown
    system_prompts: int  # different ones, counted up to 10,000
    answers: Answers
    mojibake: Sighting
    replacement_characters: Sighting
    control_characters: Sighting
    control_codes: dict[str, int]
    languages: Languages | None
    balance: Balance | None


def profile_rows(rows: Iterable[Row], options: ProfileOptions | None = None) -> Profile:
    """Measure all rows in one pass."""
    profiler = Profiler(options or ProfileOptions())
    stream = iter(rows)
    while batch := list(islice(stream, BATCH)):
        profiler.add(batch)
    return profiler.profile()


class Profiler:
    """A profile in the making."""

    def __init__(self, options: ProfileOptions) -> None:
        self.options = options
        self.examples = 0
        self.weight_total = 0.0
        sizes = ("characters", "messages", "turns", "answers", *options.counters)
        self.sizes: dict[str, Counter[int]] = {name: Counter() for name in sizes}
        self.roles: Counter[str] = Counter()
        self.values = {name: Values() for name in (*FIELDS, "weight", "offered", "called", "system")}
        self.answers = Sightings()
        self.openings = OpeningCount()
        self.blemishes = Blemishes()
        self.languages = LanguageSample() if options.languages else None
        self.balance = BalanceCount() if options.balance else None

    def add(self, rows: Sequence[Row]) -> None:
        """Measure some rows."""
        texts: list[str] = []
        ends: list[int] = []
        for row in rows:
            mine, tools = spoken_in(row.record), tools_of(row.record)
            texts += mine + tools
            ends.append(len(texts))
            spoken = "\n".join(mine)
            self._add_text(spoken, row.line)
            self._add_whole("\n".join([spoken, *tools]), row)
            self._add_fields(row.record)
            self._add_messages(row.record, row.line)
        self._add_tokens(texts, ends)
        self.examples += len(rows)

    def _add_text(self, text: str, line: int) -> None:
        """In which language an example speaks, and of whom; its tools are in English and speak of nobody."""
        if self.languages is not None:
            self.languages.add(text)
        if self.balance is not None:
            self.balance.add(text, line)

    def _add_whole(self, whole: str, row: Row) -> None:
        self.sizes["characters"][len(whole)] += 1
        self.blemishes.look(unescaped(row.record, whole), row.line)

    def _add_fields(self, record: Record) -> None:
        for name in FIELDS:
            self.values[name].add(getattr(record, name))
        self.values["weight"].add(None if record.weight is None else f"{record.weight:g}")
        self.weight_total += 1.0 if record.weight is None else record.weight
        for name in sorted({_tool_name(tool) for tool in record.tools}):
            self.values["offered"].add(name)

    def _add_messages(self, record: Record, line: int) -> None:
        turns, answer = 0, None
        for message in record.messages:
            self.roles[message.role] += 1
            if message.role == "assistant":
                turns, answer = turns + 1, message
                for call in message.tool_calls:
                    self.values["called"].add(call.function.name)
            elif message.role in ("system", "developer"):
                self.values["system"].add(message.content)
        self.sizes["messages"][len(record.messages)] += 1
        self.sizes["turns"][turns] += 1
        if answer is not None:
            self._add_answer(answer.content or "", bool(answer.tool_calls), line)

    def _add_answer(self, answer: str, calls: bool, line: int) -> None:
        size = len(answer.strip())
        self.sizes["answers"][len(answer)] += 1
        if size == 0 and not calls:
            self.answers.see("empty", line)
        elif 0 < size < self.options.short_answer_characters:
            self.answers.see("short", line)
        elif size > self.options.long_answer_characters:
            self.answers.see("long", line)
        self.openings.add(answer, line)

    def _add_tokens(self, texts: list[str], ends: list[int]) -> None:
        for name, count in self.options.counters.items():
            counts = count(texts)
            start = 0
            for end in ends:
                self.sizes[name][sum(counts[start:end])] += 1
                start = end

    def profile(self) -> Profile:
        """What was measured so far."""
        tokens = {name: distribution(self.sizes[name]) for name in self.options.counters}
        blemishes = self.blemishes.sightings
        return Profile(
            examples=self.examples,
            messages=self.roles.total(),
            characters=distribution(self.sizes["characters"]),
            tokens={name: found for name, found in tokens.items() if found is not None},
            messages_per_example=distribution(self.sizes["messages"]),
            turns=distribution(self.sizes["turns"]),
            roles=dict(self.roles.most_common()),
            **{name: self.values[name].breakdown() for name in FIELDS},
            weights=self.values["weight"].breakdown(),
            weight_total=round(self.weight_total, 6),
            tools_offered=self.values["offered"].breakdown(),
            tools_called=self.values["called"].breakdown(),
            system_prompts=len(self.values["system"].counts),
            answers=self._answers(),
            mojibake=blemishes.of("mojibake"),
            replacement_characters=blemishes.of("replacement"),
            control_characters=blemishes.of("control"),
            control_codes=dict(sorted(self.blemishes.codes.items())),
            languages=self.languages.languages() if self.languages is not None else None,
            balance=self.balance.balance() if self.balance is not None else None,
        )

    def _answers(self) -> Answers:
        return Answers(
            characters=distribution(self.sizes["answers"]),
            empty=self.answers.of("empty"),
            short=self.answers.of("short"),
            long=self.answers.of("long"),
            short_below_characters=self.options.short_answer_characters,
            long_above_characters=self.options.long_answer_characters,
            openings=self.openings.repeated(self.examples),
        )


def _tool_name(tool: dict[str, Any]) -> str:
    function = tool.get("function", tool)
    return str(function.get("name", "?")) if isinstance(function, dict) else "?"
