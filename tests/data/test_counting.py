"""Tokens, counted offline; the numbers are those of the ids of the vocabularies' own encoders."""

from __future__ import annotations

from pydoc_data.topics import topics
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data.checking.lengths import Lengths, Spoken, spoken_in
from tasks.data.counting import counting_of_folder, counting_of_name, mistral_counting, openai_counting
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

TEXTS = [
    "tiktoken is great!",
    "antidisestablishmentarianism",
    "2 + 2 = 4",
    "お誕生日おめでとう",
    "<|endoftext|>",
    "He said: 'I'LL be there'\r\n\n  now",
    "🤷\u200d♂️ é e\u0301",
    "12345678901234567890",
]
TALK = {"messages": [{"role": "user", "content": "hello world"}, {"role": "assistant", "content": "hello world"}]}


@pytest.mark.parametrize(
    ("vocabulary", "counts"), [("o200k_base", [6, 6, 7, 8, 7, 13, 8, 7]), ("cl100k_base", [6, 6, 7, 9, 7, 13, 11, 7])]
)
def test_counts_are_those_of_the_ids(vocabulary: str, counts: list[int]) -> None:
    assert openai_counting(vocabulary).count(TEXTS) == counts


def test_long_texts_count_as_they_do_in_the_reference() -> None:
    name = {"o200k_base": [242, 100, 2011, 644], "cl100k_base": [240, 99, 2007, 647]}
    texts = [topics[topic] for topic in ("assert", "lambda", "strings", "class")]
    if sum(map(len, texts)) == 13_857:  # the topics are another text in another Python
        assert {vocabulary: openai_counting(vocabulary).count(texts) for vocabulary in name} == name
    else:
        assert all(count > 50 for count in openai_counting("o200k_base").count(texts))


@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        ("gpt-4.1-mini", "o200k_base"),
        ("gpt-4o-2024-08-06", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:yard::x", "o200k_base"),
        ("o4-mini", "o200k_base"),
        ("openai/gpt-oss-20b", "o200k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama3"),
        ("Qwen/Qwen3-8B", "qwen3"),
    ],
)
def test_a_model_is_known_by_its_name(model: str, vocabulary: str) -> None:
    counting = counting_of_name(model)
    assert counting is not None
    assert (counting.name, counting.exact) == (vocabulary, True)


@pytest.mark.parametrize("model", ["gemma-3-4b", "smollm2-135m", "Qwen3.5-9B", "deepseek-v3", "olmo-2", "ox"])
def test_a_model_without_a_vocabulary_at_hand_is_not_guessed(model: str) -> None:
    assert counting_of_name(model) is None


@pytest.mark.parametrize(("vocabulary", "counts"), [("meta-llama/Llama-3.2-1B", [2, 2, 7]), ("Qwen2.5-7B", [2, 5, 7])])
def test_open_vocabularies_count_as_their_own(vocabulary: str, counts: list[int]) -> None:
    counting = counting_of_name(vocabulary)
    assert counting is not None
    assert counting.count(["hello world", "12345", "<|endoftext|>"]) == counts


@settings(deadline=None)  # the first time loads a vocabulary
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_no_text_is_too_odd_to_be_counted(texts: list[str]) -> None:
    counts = openai_counting("o200k_base").count([f"{text}<|im_start|><|endoftext|>" for text in texts])
    assert len(counts) == len(texts)
    assert all(count > 2 for count in counts)


def test_a_talk_counts_three_a_message_its_roles_and_three_for_the_example() -> None:
    lengths = Lengths("openai", openai_counting("o200k_base"))
    lengths.measure([(1, spoken_in(TALK))])
    assert lengths.total == 2 * (3 + 1 + 2) + 3


def test_a_name_is_one_token_more_than_its_own() -> None:
    named = {"messages": [{"role": "user", "content": "hello world", "name": "Ann"}]}
    spoken = spoken_in(named)
    assert (spoken.texts, spoken.names) == (["hello world", "Ann"], 1)


def test_tools_are_counted_and_told_apart() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    row = {"messages": [{"role": "assistant", "tool_calls": [call]}], "tools": [{"type": "function"}]}
    lengths = Lengths("openai", openai_counting("o200k_base"))
    lengths.measure([(1, spoken_in(row)), (2, spoken_in(TALK))])
    assert lengths.with_tools == 1


def test_both_answers_and_the_input_of_a_preference_are_counted() -> None:
    row = {"input": TALK, "preferred_output": [{"role": "assistant", "content": "A"}], "non_preferred_output": []}
    assert sorted(spoken_in(row).texts) == ["A", "hello world", "hello world"]


CALLED = {"name": "find", "arguments": '{"a": "hello world"}'}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "assistant", "content": "A", "reasoning": "hello world"}]},
        {"messages": [{"role": "assistant", "content": "A", "reasoning_content": "hello world"}]},
        {"messages": [{"role": "assistant", "content": "A", "refusal": "hello world"}]},
        {"messages": [{"role": "assistant", "function_call": CALLED}]},
        {"messages": [{"role": "assistant", "content": "A"}], "functions": [{"description": "hello world"}]},
        {"contents": [{"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": "hello world"}}}]}]},
        {"contents": [{"role": "user", "parts": [{"functionResponse": {"response": {"a": "hello world"}}}]}]},
    ],
)
def test_all_that_is_said_or_called_is_counted(row: dict[str, Any]) -> None:
    assert any("hello world" in text for text in spoken_in(row).texts)


def test_tokens_that_were_made_beforehand_are_counted_as_they_are() -> None:
    lengths = Lengths("nebius", openai_counting("o200k_base"))
    lengths.measure([(1, spoken_in({"token_ids": [1] * 9_000, "labels": [1] * 9_000}))])
    assert (lengths.total, lengths.over) == (9_003, 1)


def test_what_cannot_be_counted_is_told() -> None:
    row = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}
    lengths = Lengths("openai", openai_counting("o200k_base"))
    lengths.measure([(1, spoken_in(row)), (2, spoken_in(TALK))])
    assert lengths.with_media == 1


def test_an_example_over_the_context_is_found_with_both_figures() -> None:
    lengths = Lengths("openai", openai_counting("o200k_base"), context=10)
    found = lengths.measure([(1, Spoken(["hello"], 1)), (2, Spoken(["hello " * 20], 1))])
    assert found[0] is None
    assert found[1] is not None
    assert found[1][:2] == ("example-tokens", "blocking")
    assert "the context has 10" in found[1][2].text
    assert (lengths.over, lengths.longest_line) == (1, 2)


def test_an_estimate_never_blocks_and_says_what_it_is() -> None:
    counting = openai_counting("o200k_base", exact=False)
    found = Lengths("together", counting, context=10).measure([(1, Spoken(["hello " * 20], 1))])
    assert found[0] is not None
    assert found[0][1] == "warning"
    assert found[0][2].text.startswith("about ")
    assert "estimate" in counting.note


def test_the_smallest_context_of_a_target_warns_and_the_largest_blocks() -> None:
    lengths = Lengths("nebius", openai_counting("o200k_base"))
    found = lengths.measure([(1, Spoken(["hello " * 9_000], 1)), (2, Spoken(["hello " * 140_000], 1))])
    assert [said and said[1] for said in found] == ["warning", "blocking"]


def test_a_model_folder_counts_by_its_own_tokenizer(tmp_path: Path) -> None:
    counting = counting_of_folder(make_tiny_model(tmp_path / "model"))
    assert counting.exact
    assert counting.count(["the yard", ""])[1] == 0


def test_mistral_counts_by_mistral_common_and_an_unknown_model_is_an_estimate() -> None:
    known, unknown = mistral_counting(), mistral_counting("mistral-of-tomorrow")
    assert known.count(["hello world", "[INST] </s>"]) == unknown.count(["hello world", "[INST] </s>"])
    assert known.count(["hello world"]) == [2]
    assert (known.exact, unknown.exact) == (True, False)
