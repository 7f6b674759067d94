"""Reading, writing and converting examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.examples import (
    DatasetWriter,
    Origin,
    canonical,
    read_examples,
    read_with_origins,
    to_chat,
    to_prompt_completion,
    write_examples,
)

CHAT = {"messages": [{"role": "user", "content": "Is the yard open?"}, {"role": "assistant", "content": "It is."}]}
INSTRUCT = {"instruction": "Answer.", "input": "Is the yard open?", "output": "It is."}
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def with_message(**message: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"} | message]}


@given(
    st.lists(st.fixed_dictionaries({"instruction": WORDS, "input": st.just("") | WORDS, "output": WORDS}), min_size=1)
)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, examples: list[dict[str, Any]]):
    folder = tmp_path_factory.mktemp("dataset")
    assert write_examples(folder, examples) == len(examples)
    assert list(read_examples(folder)) == examples


def test_a_file_is_read_like_a_folder_with_a_byte_order_mark_and_blank_lines_too(tmp_path: Path):
    line = json.dumps(CHAT).encode()
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\n" + line)
    assert list(read_examples(tmp_path / "rows.jsonl")) == [CHAT, CHAT]


def test_a_failed_writing_leaves_nothing_behind_and_what_was_there_untouched(tmp_path: Path):
    write_examples(tmp_path / "rows.jsonl", [CHAT])
    with pytest.raises(TypeError):
        write_examples(tmp_path / "rows.jsonl", [INSTRUCT, {"output": {1, 2}}])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert list(read_examples(tmp_path / "rows.jsonl")) == [CHAT]


def test_an_instruct_example_becomes_a_chat_with_its_input_after_the_instruction():
    question, answer = to_chat(INSTRUCT)["messages"]
    assert question == {"role": "user", "content": "Answer.\n\nIs the yard open?"}
    assert answer == {"role": "assistant", "content": "It is."}
    assert to_chat(INSTRUCT | {"input": ""})["messages"][0]["content"] == "Answer."


def test_only_the_last_answer_of_a_conversation_is_the_completion():
    messages = [{"role": "system", "content": "Be short."}, *CHAT["messages"], *CHAT["messages"]]
    row = to_prompt_completion({"messages": messages})
    assert row == {"prompt": messages[:-1], "completion": messages[-1:]}


def test_equal_content_is_equal_in_either_format():
    assert canonical(to_chat(INSTRUCT)) == canonical(INSTRUCT) != canonical(CHAT)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"messages": [', "not JSON: Expecting value at column 15"),
        ("[" + "7" * 5000 + "]", "holds a number that is too long"),
        ("[1, 2]", "expected an object in braces, found list"),
        ("[" * 100_000, "nested too deeply"),
        ('{"question": "?", "answer": "!"}', 'the keys are "question", "answer"; an example has "messages", or'),
        ("{}", "the keys are nothing"),
        ('{"instruction": "Answer."}', "output: must be a text that is not blank, found nothing"),
        ('{"instruction": " ", "output": "x"}', "instruction: must be a text that is not blank, found a blank text"),
        ('{"instruction": "x", "input": 7, "output": "x"}', "input: must be a text that is not blank, found int"),
        ('{"instruction": "x", "outputs": "x", "output": "x"}', 'unknown key "outputs"; remove it'),
        (json.dumps(CHAT | {"metadata": {}}), 'unknown key "metadata"; remove it (known here: messages)'),
        ('{"messages": "hello"}', "messages: must be a list of at least two messages"),
        (json.dumps({"messages": ["a", "b"]}), "messages[0]: must be an object with role and content"),
        (json.dumps(with_message(role="bot")), "messages[1].role: must be one of system, user, assistant"),
        (json.dumps(with_message(content=None)), "messages[1].content: must be a text that is not blank"),
        (json.dumps(with_message(weight=1)), 'messages[1]: unknown key "weight"'),
        (json.dumps(with_message(role="user")), 'the last one is from "user"; a training example must end with'),
        (json.dumps({"messages": [CHAT["messages"][1]] * 2}), 'messages: none is from "user"'),
        (json.dumps(with_message(content="a\ud800")), "messages[1].content: character 2 is half of a surrogate pair"),
    ],
)
def test_a_bad_line_is_named_with_its_field(tmp_path: Path, line: str, problem: str):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(CHAT) + "\n" + line + "\n")
    with pytest.raises(Permanent) as caught:
        list(read_examples(file))
    assert str(caught.value).startswith(f"{file} line 2: ")
    assert problem in str(caught.value)
    assert caught.value.cause == Cause.DATA


def test_a_line_that_is_not_utf8_is_named_with_its_byte(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"instruction": "caf\xe9"}\n')
    with pytest.raises(Permanent, match="line 1: byte 21 is not UTF-8"):
        list(read_examples(tmp_path / "rows.jsonl"))


def test_an_empty_dataset_and_a_missing_one_are_told_apart(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text("\n")
    with pytest.raises(Permanent, match="holds no example"):
        list(read_examples(tmp_path / "rows.jsonl"))
    with pytest.raises(Permanent, match=r"examples\.jsonl does not exist; a dataset is"):
        list(read_examples(tmp_path))


def test_origins_stand_beside_the_examples_and_not_in_them(tmp_path: Path):
    origin = Origin("yard.txt", 1, 1, 7)
    with DatasetWriter(tmp_path) as writer:
        writer.write(CHAT, origin)
    assert list(read_examples(tmp_path)) == [CHAT]
    assert list(read_with_origins(tmp_path)) == [(CHAT, origin)]


@pytest.mark.parametrize(
    ("rows", "where"), [([INSTRUCT, CHAT], "line 1"), ([CHAT, INSTRUCT, CHAT], "its end"), ([CHAT], "line 2")]
)
def test_origins_of_other_examples_are_noticed(tmp_path: Path, rows: list[dict[str, Any]], where: str):
    with DatasetWriter(tmp_path) as writer:
        for example in (CHAT, INSTRUCT):
            writer.write(example, Origin("yard.txt", 1, 1, 7))
    write_examples(tmp_path, rows)
    with pytest.raises(Permanent, match=rf"origins.jsonl {where}: tells the origin of another example"):
        list(read_with_origins(tmp_path))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ({"tokens": None}, "tokens: must be a whole number, found NoneType"),
        ({"document": 5}, "document: must be a text, found int"),
        ({"pieces": ...}, "pieces: must be a whole number, found nothing"),
    ],
)
def test_a_damaged_origin_is_named_with_its_field(tmp_path: Path, damage: dict[str, Any], problem: str):
    with DatasetWriter(tmp_path) as writer:
        writer.write(CHAT, Origin("yard.txt", 1, 1, 7))
    row = json.loads((tmp_path / "origins.jsonl").read_text()) | damage
    rows = {name: value for name, value in row.items() if value is not ...}
    (tmp_path / "origins.jsonl").write_text(json.dumps(rows))
    with pytest.raises(Permanent, match=rf"origins.jsonl line 1: {problem}; prepare the dataset again"):
        list(read_with_origins(tmp_path))
