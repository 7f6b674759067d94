"""A profile says exactly what is in a small known dataset."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tasks.data.profiling import Profile, ProfileOptions, profile_rows
from tasks.data.profiling.balance import known_words
from tasks.data.profiling.characters import is_mojibake
from tasks.data.profiling.languages import LanguageSample, language_of
from tasks.data.profiling.openings import OpeningCount
from tasks.data.profiling.tallies import Bar, Sighting, Values, distribution
from tasks.data.profiling.wordlists import lexicon
from tasks.data.reading import Row
from tasks.data.record import Function, Message, Record, ToolCall

FILE = Path("examples.jsonl")


def asked(question: str, answer: str | None = "Yes, that is right.", **fields: object) -> Record:
    return Record([Message("user", question), Message("assistant", answer)], **fields)  # type: ignore[arg-type]


def profile(*records: Record, **options: object) -> Profile:
    rows = [Row(FILE, line, record) for line, record in enumerate(records, 1)]
    return profile_rows(rows, ProfileOptions(languages=False, **options))  # type: ignore[arg-type]


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_lengths_are_counted_by_example() -> None:
    found = profile(asked("one two", "three"), asked("four", "five"), counters={"words": words})
    assert found.examples == 2
    assert found.messages == 4
    assert found.tokens["words"].total == 5
    assert (found.tokens["words"].minimum, found.tokens["words"].maximum) == (2, 3)
    assert found.characters is not None
    assert found.characters.maximum == len("one two\nthree")


def test_all_that_is_said_is_measured_and_looked_through() -> None:
    call = ToolCall("1", Function("look up", '{"in": "the caf\\u00c3\\u00a9"}'))  # as json.dumps writes it
    tool = {"type": "function", "function": {"name": "look", "description": "bell \x07"}}
    talk = Record(
        [Message("user", "one two"), Message("assistant", None, tool_calls=[call], reasoning="three\ufffd four")],
        tools=[tool],
        rejected=[Message("assistant", "five six")],
        metadata={"note": "not said"},
    )
    found = profile(talk, counters={"words": words})
    assert found.tokens["words"].total == 2 + 2 + 5 + 2 + 2
    assert found.characters is not None
    assert found.characters.total > len("one two three four look up five six")
    assert found.mojibake == found.control_characters == found.replacement_characters == Sighting(1, [1])


def test_token_counts_do_not_depend_on_where_a_batch_ends() -> None:
    records = [asked("a " * (number % 7 + 1), "b") for number in range(600)]
    tokens = profile(*records, counters={"words": words}).tokens["words"]
    assert tokens.count == 600
    assert tokens.total == sum(number % 7 + 2 for number in range(600))


def test_fields_are_broken_down_and_what_has_none_is_counted() -> None:
    found = profile(
        asked("a", source_agent="x", target_agent="y", category="c", difficulty="hard", weight=0.4),
        asked("b", source_agent="x", weight=0.4),
        asked("c"),
    )
    assert found.source_agent.values == {"x": 2}
    assert found.source_agent.missing == 1
    assert found.target_agent.values == {"y": 1}
    assert found.difficulty.values == {"hard": 1}
    assert found.weights.values == {"0.4": 2}
    assert found.weight_total == 1.8


def test_roles_turns_and_tools_are_counted() -> None:
    call = ToolCall("1", Function("look", "{}"))
    talk = Record(
        [
            Message("system", "Be brief."),
            Message("user", "Hello"),
            Message("assistant", None, tool_calls=[call]),
            Message("tool", "warm", tool_call_id="1"),
            Message("assistant", "It is warm."),
        ],
        tools=[{"type": "function", "function": {"name": "look"}}],
    )
    found = profile(talk)
    assert found.roles == {"assistant": 2, "system": 1, "user": 1, "tool": 1}
    assert found.turns is not None
    assert found.turns.p50 == 2
    assert found.tools_offered.values == {"look": 1}
    assert found.tools_called.values == {"look": 1}
    assert found.system_prompts == 1


def test_an_answer_that_only_calls_a_tool_is_not_empty() -> None:
    call = ToolCall("1", Function("look", "{}"))
    calling = Record([Message("user", "Hello"), Message("assistant", None, tool_calls=[call])])
    found = profile(calling, asked("a", ""), asked("b", " \n"), asked("c", None), asked("d", "x"))
    assert found.answers.empty == Sighting(3, [2, 3, 4])
    assert found.answers.short == Sighting(1, [5])


def test_damaged_characters_are_found_with_their_lines() -> None:
    found = profile(
        asked("plain", "naïve café – “quoted”, 日本語, Привет"),
        asked("encoded twice", "It costs â‚¬ 5 at the cafÃ©."),
        asked("bell", "ring\x07"),
        asked("lost", "caf\ufffd"),
    )
    assert found.mojibake == Sighting(1, [2])
    assert found.control_characters == Sighting(1, [3])
    assert found.control_codes == {"U+0007": 1}
    assert found.replacement_characters == Sighting(1, [4])


@pytest.mark.parametrize("text", ["déjà vu à Noël", "Größe: 3 m²", "Ångström", "«Bonjour»", "¿Qué? ¡Sí!", "5 € – 10 €"])
def test_text_of_other_languages_is_no_mojibake(text: str) -> None:
    assert not is_mojibake(text)
    assert profile(asked("question", text)).mojibake.examples == 0


def test_an_example_counts_once_for_every_gender_nationality_and_name() -> None:
    found = profile(
        asked("Emily and Emily met James.", "She is French, he is Dutch."),
        asked("“José” – who is that?", "A Frenchman; his mother is a Korean."),
        asked("In April and May we mark what will be done.", "The rose is red."),
    ).balance
    assert found is not None
    assert {name: seen.examples for name, seen in found.names.items()} == {"Emily": 1, "James": 1, "José": 1}
    assert found.genders_by_name == {"male": Sighting(2, [1, 2]), "female": Sighting(1, [1])}
    assert found.genders_by_word == {"female": Sighting(2, [1, 2]), "male": Sighting(2, [1, 2])}
    assert found.nationalities == {
        "French": Sighting(2, [1, 2]),
        "Dutch": Sighting(1, [1]),
        "Korean": Sighting(1, [2]),
    }


def test_a_name_for_both_sexes_stands_for_neither() -> None:
    assert b"Andrea" not in lexicon()
    assert b"Maria" in lexicon()


def test_words_end_at_marks_of_any_script() -> None:
    assert known_words("“Anna’s”…Zoë—Łukasz") == {word.encode() for word in ("Anna", "s", "Zoë", "Łukasz")}


def test_repeated_openings_are_boilerplate_and_rare_ones_are_not() -> None:
    records = [asked(f"q {n}", f"Certainly! Here is the answer {n}") for n in range(12)]
    records += [asked(f"r {n}", f"Answer {n} has its own five words") for n in range(12)]
    (opening,) = profile(*records).answers.openings
    assert opening.words == "certainly! here is the answer"
    assert opening.seen == Sighting(12, [1, 2, 3, 4, 5])


def test_a_frequent_opening_survives_a_flood_of_rare_ones() -> None:
    count = OpeningCount(most=50)
    for line in range(1000):
        count.add(f"this one is line number{line} indeed" if line % 2 else "the same five words again", line)
    assert [(opening.words, opening.seen.examples) for opening in count.repeated(1000)] == [
        ("the same five words again", 500)
    ]


def test_nothing_makes_an_empty_profile() -> None:
    found = profile()
    assert found.examples == 0
    assert found.characters is None
    assert found.tokens == {}
    assert found.answers.openings == []


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The train leaves at eight and we still have to buy tickets.", "en"),
        ("Der Zug fährt um acht Uhr ab, und wir müssen noch Fahrkarten kaufen.", "de"),
        ("火车八点出发，我们还得先买票。", "zh"),
        ("3 + 4 = 7", "und"),
        ("", "und"),
    ],
)
def test_a_language_is_detected_offline(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_sample_is_spread_evenly_and_says_its_size() -> None:
    sample = LanguageSample(most=8)
    for number in range(100):
        sample.add(f"{number}")
    assert sample.starts == [str(number) for number in range(0, 100, 16)]
    languages = sample.languages()
    assert (languages.sampled, languages.examples) == (7, 100)


def test_percentiles_are_of_nearest_rank() -> None:
    found = distribution(Counter(range(1, 101)))
    assert found is not None
    assert (found.p5, found.p25, found.p50, found.p75, found.p95, found.p99) == (5, 25, 50, 75, 95, 99)
    assert (found.total, found.mean, found.minimum, found.maximum) == (5050, 50.5, 1, 100)


@pytest.mark.parametrize("sizes", [[0], [7], [3, 3, 9], [1, 1_000_000], list(range(5000)), [10**9, 10**9 + 37]])
def test_every_size_is_in_one_bar(sizes: list[int]) -> None:
    found = distribution(Counter(sizes))
    assert found is not None
    assert sum(bar.examples for bar in found.bars) == len(sizes)
    assert len(found.bars) <= 21
    for bar in found.bars:
        inside = [size for size in sizes if size >= bar.first and (bar.below is None or size < bar.below)]
        assert len(inside) == bar.examples


def test_one_giant_does_not_flatten_the_rest() -> None:
    found = distribution(Counter([*range(100, 1100), 5_000_000]))
    assert found is not None
    assert found.bars[-1] == Bar(1100, None, 1)
    assert len(found.bars) > 8


def test_a_field_that_is_different_everywhere_is_bounded_and_counted() -> None:
    values = Values(most=40)
    for number in range(100):
        values.add(str(number))
    found = values.breakdown()
    assert (len(found.values), found.distinct, found.rest) == (30, 40, 70)
