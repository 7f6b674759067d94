"""Rows of every format to records and back: what a format holds comes back equal, what it does not is counted."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistral_common.protocol.instruct.messages import ChatMessage
from mistral_common.protocol.instruct.validator import MistralRequestValidatorV3, ValidationMode
from pydantic import TypeAdapter

from queue_app.errors import Invalid
from tasks.data.formats import find_format, names, recognise
from tasks.data.record import Function, Message, Origin, Record, ToolCall
from tasks.data.turns import Turns, until_last

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
NAME = st.text("abcxyz_", min_size=1, max_size=8)
OBJECT = st.dictionaries(NAME, TEXT | st.integers(-9, 9) | st.booleans(), max_size=3)
ARGUMENTS = OBJECT.map(lambda value: msgspec.json.encode(value).decode())
TOOL = st.builds(
    lambda name, text: {
        "type": "function",
        "function": {"name": name, "description": text, "parameters": {"type": "object", "properties": {}}},
    },
    NAME,
    TEXT,
)
CHAT_LIKE = [name for name in names() if name not in ("alpaca", "text", "prompt_completion", "openai_preference")]


@st.composite
def messages(draw: st.DrawFn) -> list[Message]:
    """A conversation as providers take it: calls are answered in their order, and an answer in text ends it."""
    made = [Message("system", draw(TEXT))] if draw(st.booleans()) else []
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        made.append(Message("user", draw(TEXT)))
        names_called = draw(st.lists(NAME, max_size=2, unique=True))
        if names_called:
            calls = []
            for name in names_called:
                number += 1
                calls.append(ToolCall(f"call_{number}", Function(name, draw(ARGUMENTS))))
            made.append(Message("assistant", draw(st.none() | TEXT), tool_calls=calls))
            made += [Message("tool", draw(TEXT), tool_call_id=call.id) for call in calls]
        made.append(Message("assistant", draw(TEXT)))
    return made


def bare_records() -> st.SearchStrategy[Record]:
    return st.builds(Record, messages())


def full_records() -> st.SearchStrategy[Record]:
    """Records with everything that one can have, and messages in any order."""
    calls = st.lists(st.builds(ToolCall, NAME, st.builds(Function, NAME, ARGUMENTS)), max_size=2)
    message = st.one_of(
        st.builds(Message, st.sampled_from(["system", "developer", "user"]), st.none() | TEXT, st.none() | NAME),
        st.builds(
            Message,
            st.just("assistant"),
            st.none() | st.just("") | TEXT,
            st.none() | NAME,
            st.sampled_from([None, 0, 1, 0.5]),
            calls,
            st.none(),
            st.none() | TEXT,
        ),
        st.builds(Message, st.just("tool"), TEXT, st.none() | NAME, tool_call_id=st.none() | NAME),
    )
    return st.builds(
        Record,
        st.lists(message, max_size=5) | messages(),
        st.lists(TOOL, max_size=2),
        st.just([]) | st.just([Message("assistant", "worse")]),
        st.none() | st.booleans(),
        st.sampled_from([None, 0.25, 2.0]),
        st.none() | NAME,
        st.none() | NAME,
        st.none() | NAME,
        st.none() | NAME,
        st.none() | st.just(Origin("book.txt", 1, 2, 700)),
        OBJECT,
    )


def back_and_forth(name: str, record: Record) -> tuple[Record, Counter[str]]:
    """The record as it comes back out of a line of JSON in the format, and what was counted as lost."""
    known, dropped = find_format(name), Counter[str]()
    line = msgspec.json.encode(known.from_record(msgspec.convert(msgspec.to_builtins(record), Record), dropped))
    return known.to_record(msgspec.json.decode(line, type=known.Row)), +dropped


@pytest.mark.parametrize("name", sorted({*CHAT_LIKE} - {"mistral", "unsloth_weighted"}))
@settings(max_examples=30)
@given(bare_records())
def test_a_conversation_comes_back_equal_and_nothing_is_counted(name: str, record: Record):
    again, dropped = back_and_forth(name, record)
    assert again == record
    assert dropped == {}


@pytest.mark.parametrize("name", names())
@settings(max_examples=30)
@given(record=full_records())
def test_what_does_not_come_back_is_counted(name: str, record: Record):
    try:
        again, dropped = back_and_forth(name, record)
    except ValueError:
        return  # nothing is left of it there
    if name == "unsloth_weighted" and record.weight is None:
        again.weight = None
    assert again == record or dropped


@pytest.mark.parametrize("name", names())
@settings(max_examples=30)
@given(record=full_records())
def test_converting_changes_no_record(name: str, record: Record):
    copy = msgspec.json.encode(record)
    with suppress(ValueError):
        find_format(name).from_record(record, Counter())
    assert msgspec.json.encode(record) == copy


@pytest.mark.parametrize("name", sorted({*CHAT_LIKE} - {"chat", "adp"}))
def test_what_cost_a_run_never_reaches_the_row_and_is_counted(name: str):
    record = Record(
        [Message("user", "a"), Message("assistant", "b")],
        weight=0.5,
        source_agent="x",
        target_agent="y",
        category="c",
        difficulty="d",
        origin=Origin("book.txt", 1, 1, 5),
        metadata={"cross_agent_weight": 0.4},
    )
    known, dropped = find_format(name), Counter[str]()
    row = msgspec.to_builtins(known.from_record(record, dropped))
    held = {"weight"} & set(row)
    assert {"source_agent", "target_agent", "category", "difficulty", "origin", "metadata"}.isdisjoint(row)
    lost = ("weight", "source_agent", "target_agent", "category", "difficulty", "origin", "metadata")
    assert dropped == {field: 1 for field in lost if field not in held}
    assert held == ({"weight"} if name in ("together", "unsloth_weighted") else set())


def test_message_weights_are_whole_and_on_the_assistant_alone():
    record = Record(
        [Message("user", "a", weight=1), Message("assistant", "b", weight=1.0), Message("assistant", "c", weight=0.5)]
    )
    dropped = Counter[str]()
    row = msgspec.json.encode(find_format("openai").from_record(record, dropped))
    assert row == (
        b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":1},'
        b'{"role":"assistant","content":"c"}]}'
    )
    assert dropped == {"messages[].weight": 2}


def test_a_tool_call_says_its_type_because_providers_want_it():
    call = ToolCall("call_1", Function("add", "{}"))
    record = Record([Message("user", "a"), Message("assistant", tool_calls=[call])])
    assert b'"type":"function"' in msgspec.json.encode(find_format("openai").from_record(record, Counter()))


@pytest.mark.parametrize("name", [name for name in names() if name not in ("chat", "text")])
def test_nothing_is_left_of_a_record_without_an_answer(name: str):
    with pytest.raises(ValueError, match=r"^(messages|rejected)"):
        find_format(name).from_record(Record([Message("user", "a")]), Counter())


def test_a_preference_comes_back_equal():
    record = Record([Message("user", "a"), Message("assistant", "b")], rejected=[Message("assistant", "c")])
    again, dropped = back_and_forth("openai_preference", record)
    assert again == record
    assert dropped == {}


def test_a_preference_without_a_worse_answer_is_none():
    with pytest.raises(ValueError, match=r"rejected: there is no worse answer"):
        find_format("openai_preference").from_record(
            Record([Message("user", "a"), Message("assistant", "b")]), Counter()
        )


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": []}, "chat"),
        ({"instruction": "", "output": ""}, "alpaca"),
        ({"question": "", "answer": ""}, "prompt_completion"),
        ({"query": "", "response": ""}, "prompt_completion"),
        ({"prompt": "", "completion": ""}, "prompt_completion"),
        ({"text": ""}, "text"),
        ({"contents": []}, "vertex"),
        ({"conversations": []}, "sharegpt"),
        ({"id": "", "content": [], "details": {}}, "adp"),
        ({"input": {}, "preferred_output": [], "non_preferred_output": []}, "openai_preference"),
        ({"id": "", "content": "text"}, None),
    ],
)
def test_a_row_tells_its_format(row: dict[str, Any], name: str | None):
    assert recognise(row) == name


def test_a_row_of_several_formats_is_refused_with_the_field_that_decides():
    with pytest.raises(Invalid, match=r"could be alpaca or .*; say which: from_format=alpaca"):
        recognise({"instruction": "", "output": "", "messages": [], "conversations": [], "contents": [], "text": ""})


def test_alpaca_names_what_it_cannot_hold_and_the_formats_that_can():
    talk = [Message("system", "Be brief."), *[Message("user", "a"), Message("assistant", "b")] * 3]
    with pytest.raises(ValueError, match=r"system, user, assistant, user, assistant… are .*sharegpt and chatml hold"):
        find_format("alpaca").from_record(Record(talk), Counter())


@settings(max_examples=30)
@given(bare_records())
def test_mistral_common_accepts_what_is_written_for_mistral(record: Record):
    row = find_format("mistral").from_record(record, Counter())
    made: list[ChatMessage] = TypeAdapter(list[ChatMessage]).validate_python(msgspec.to_builtins(row.messages))
    MistralRequestValidatorV3(ValidationMode.finetuning).validate_messages(made)


def test_mistral_gets_one_system_message_and_ids_of_nine_characters():
    record = Record(
        [
            Message("user", "a"),
            Message("system", "one"),
            Message("developer", "two"),
            Message("assistant", "I look.", tool_calls=[ToolCall("call_1", Function("look", "{}"))]),
            Message("tool", "b", tool_call_id="call_1"),
            Message("assistant", "c"),
            Message("user", "bye"),
        ]
    )
    dropped = Counter[str]()
    row = find_format("mistral").from_record(record, dropped)
    assert [message.role for message in row.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert row.messages[0].content == "one\n\ntwo"
    assert len(row.messages[2].tool_calls[0].id) == 9
    assert row.messages[3].tool_call_id == row.messages[2].tool_calls[0].id
    assert dropped == {
        "messages": 2,
        "messages[].role": 1,
        "messages[].tool_calls[].id": 2,
        "messages[].content": 1,
    }


def test_nebius_rows_end_with_an_answer_in_text():
    call = ToolCall("call_1", Function("look", "{}"))
    record = Record([Message("user", "a"), Message("assistant", "b"), Message("assistant", tool_calls=[call])])
    dropped = Counter[str]()
    row = find_format("nebius").from_record(record, dropped)
    assert row.messages == record.messages[:2]
    assert dropped == {"messages": 1}


def test_an_adp_trajectory_of_actions_and_observations_is_read():
    known = find_format("adp")
    row = {
        "id": "t1",
        "schema_version": "1.2.0",
        "content": [
            {"class_": "text_observation", "content": "Sum 1 and 2.", "source": "user"},
            {"class_": "code_action", "language": "python", "content": "1 + 2", "description": "I add."},
            {"class_": "text_observation", "content": "3", "source": "environment", "reward": 1.0},
            {"class_": "message_action", "content": "It is 3.", "reasoning_content": "Done."},
        ],
        "details": {"dataset": "sums"},
    }
    record = known.to_record(msgspec.convert(row, known.Row))
    arguments = '{"language":"python","content":"1 + 2"}'
    assert record.messages == [
        Message("user", "Sum 1 and 2."),
        Message("assistant", "I add.", tool_calls=[ToolCall("call_1", Function("execute_code", arguments))]),
        Message("tool", "3", tool_call_id="call_1"),
        Message("assistant", "It is 3.", reasoning="Done."),
    ]
    assert record.metadata == {"dataset": "sums", "id": "t1", "rewards": {"2": 1.0}}


def test_an_adp_trajectory_keeps_what_stands_beside_the_messages_in_its_details():
    record = Record(
        [Message("developer", "Be brief."), Message("user", "a"), Message("assistant", "b", reasoning="c")],
        tools=[{"type": "function", "function": {"name": "look"}}],
        weight=0.5,
        category="x",
        metadata={"y": 1},
    )
    again, dropped = back_and_forth("adp", record)
    assert again == record
    assert dropped == {}


def test_a_picture_is_refused_by_its_place():
    known = find_format("adp")
    row = known.Row("t", [known.Item("image_observation", content="a.png")])  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r'content\[0\]\.class_: "image_observation" has no text'):
        known.to_record(row)


def test_sharegpt_is_read_with_the_speakers_of_its_dialects():
    known = find_format("sharegpt")
    row = msgspec.convert(
        {
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": '{"name": "look", "arguments": {"x": 1}}'},
                {"from": "observation", "value": "b"},
                {"role": "assistant", "content": "c", "weight": 0},
            ],
            "system": "s",
        },
        known.Row,
    )
    assert known.to_record(row).messages == [
        Message("system", "s"),
        Message("user", "a"),
        Message("assistant", tool_calls=[ToolCall("call_1", Function("look", '{"x":1}'))]),
        Message("tool", "b", tool_call_id="call_1"),
        Message("assistant", "c", weight=0),
    ]


def test_chatml_without_its_last_mark_is_read():
    known = find_format("chatml")
    text = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb"
    row = msgspec.convert({"text": text}, known.Row)
    assert known.to_record(row).messages == [Message("user", "a"), Message("assistant", "b")]


@pytest.mark.parametrize("text", ["a<|im_start|>user\nb", "<|im_start|>wizard\na", "<|im_start|>user\na<|im_end|>b"])
def test_broken_chatml_is_refused(text: str):
    known = find_format("chatml")
    with pytest.raises(ValueError, match=r"^text: "):
        known.to_record(msgspec.convert({"text": text}, known.Row))


def test_a_conversation_becomes_a_text_and_its_roles_are_counted():
    dropped = Counter[str]()
    row = find_format("text").from_record(Record([Message("user", "a"), Message("assistant", "b")]), dropped)
    assert row.text == "a\n\nb"
    assert dropped == {"messages[].role": 2}


@given(st.lists(st.sampled_from(["user", "assistant", "system"]), max_size=5))
def test_trailing_messages_are_counted_when_they_go(roles: list[Any]):
    made, dropped = [Message(role, "a") for role in roles], Counter[str]()
    if "assistant" not in roles:
        with pytest.raises(ValueError, match="nothing to learn"):
            until_last(made, dropped)
        return
    kept = until_last(made, dropped)
    assert kept[-1].role == "assistant"
    assert len(kept) + dropped["messages"] == len(made)


def test_messages_that_need_no_change_are_not_copied():
    made = [Message("user", "a"), Message("assistant", "b")]
    assert all(now is then for now, then in zip(Turns().fit(made, Counter()), made, strict=True))
