"""Examples that can be trained on, and the rows that the trainer reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.examples import read_examples, write_preferences, write_prompts_and_completions

CHAT = {"messages": [{"role": "user", "content": "Is the yard open?"}, {"role": "assistant", "content": "It is."}]}
INSTRUCT = {"instruction": "Answer.", "input": "Is the yard open?", "output": "It is."}
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def with_message(**message: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"} | message]}


def rows_of(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_only_the_last_answer_of_a_conversation_is_the_completion(tmp_path: Path):
    messages = [{"role": "system", "content": "Be short."}, *CHAT["messages"], *CHAT["messages"]]
    write_prompts_and_completions(tmp_path / "out.jsonl", rows_of(tmp_path / "in.jsonl", {"messages": messages}))
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"prompt": messages[:-1], "completion": messages[-1:]}


def test_an_instruction_and_its_input_become_one_prompt(tmp_path: Path):
    write_prompts_and_completions(tmp_path / "out.jsonl", rows_of(tmp_path / "in.jsonl", INSTRUCT))
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["prompt"] == [{"role": "user", "content": "Answer.\n\nIs the yard open?"}]
    assert row["completion"] == CHAT["messages"][1:]


def test_weights_reach_the_trainer(tmp_path: Path):
    rows: list[dict[str, Any]] = [CHAT, CHAT | {"weight": 1.0}, CHAT | {"weight": 0.4}, with_message(weight=1)]
    write_prompts_and_completions(tmp_path / "out.jsonl", rows_of(tmp_path / "in.jsonl", *rows))
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row.get("weight") for row in written] == [None, None, 0.4, None]
    assert [row["completion"][0].get("weight") for row in written] == [None, None, None, 1]


def test_a_preference_is_a_prompt_and_two_answers(tmp_path: Path):
    rejected = [{"role": "assistant", "content": "No."}]
    write_preferences(tmp_path / "out.jsonl", rows_of(tmp_path / "in.jsonl", CHAT | {"rejected": rejected}))
    told = {"prompt": CHAT["messages"][:1], "chosen": CHAT["messages"][1:], "rejected": rejected}
    assert json.loads((tmp_path / "out.jsonl").read_text()) == told


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (CHAT, "rejected: there is none"),
        (CHAT | {"rejected": CHAT["messages"]}, "rejected: must be one message from assistant"),
        (CHAT | {"rejected": [{"role": "assistant", "content": " "}]}, "rejected[0].content: must be a text"),
        (
            CHAT | {"rejected": CHAT["messages"][1:], "weight": 2},
            "weight: objective dpo counts every preference the same",
        ),
    ],
)
def test_what_is_no_preference_is_named_with_its_field(tmp_path: Path, row: dict[str, Any], problem: str):
    with pytest.raises(Permanent) as caught:
        write_preferences(tmp_path / "out.jsonl", rows_of(tmp_path / "rows.jsonl", row))
    assert f"rows.jsonl line 1: {problem}" in str(caught.value)


def test_what_is_beside_the_messages_does_not_reach_the_trainer(tmp_path: Path):
    row = CHAT | {"category": "yard", "metadata": {"page": 3}, "target_agent": "porter"}
    write_prompts_and_completions(tmp_path / "out.jsonl", rows_of(tmp_path / "in.jsonl", row))
    assert set(json.loads((tmp_path / "out.jsonl").read_text())) == {"prompt", "completion"}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"messages": []}, "messages: must be a list of at least two messages"),
        (with_message(role="tool"), 'messages[1].role: must be one of system, user, assistant, found "tool"'),
        (with_message(content=None), "messages[1].content: must be a text that is not blank, found nothing"),
        (with_message(content=" "), "messages[1].content: must be a text that is not blank, found a blank text"),
        (with_message(tool_calls=[CALL]), "messages[1].tool_calls: training here takes text alone"),
        (with_message(weight=0.5), "messages[1].weight: must be 0 or 1, found 0.5"),
        (CHAT | {"weight": -1}, "weight: must be a number of at least 0, found -1"),
        (with_message(role="user"), 'the last one is from "user"; a training example must end with "assistant"'),
        ({"messages": [CHAT["messages"][1]] * 2}, 'messages: none is from "user"'),
        (CHAT | {"rejected": [{"role": "assistant", "content": "No."}]}, "rejected: this is a preference"),
    ],
)
def test_a_record_that_cannot_be_trained_on_is_named_with_its_field(tmp_path: Path, row: dict[str, Any], problem: str):
    file = rows_of(tmp_path / "rows.jsonl", CHAT, row)
    with pytest.raises(Permanent) as caught:
        list(read_examples(file))
    assert str(caught.value).startswith(f"{file} line 2: ")
    assert problem in str(caught.value)
    assert caught.value.cause == Cause.DATA


def test_an_empty_dataset_and_a_missing_one_are_told_apart(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text("\n")
    with pytest.raises(Permanent, match="holds no example"):
        list(read_examples(tmp_path / "rows.jsonl"))
    with pytest.raises(Permanent, match=r"does not exist"):
        list(read_examples(tmp_path / "nowhere.jsonl"))
