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
PREFERENCES = ("openai_preference", "preference")
CHAT_LIKE = [name for name in names() if name not in ("alpaca", "text", "prompt_completion", *PREFERENCES)]
CALLED = Message("assistant", tool_calls=[ToolCall("call_1", Function("look", "{}"))])


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


def exchanges() -> st.SearchStrategy[Record]:
    """One request and one answer, each with anything that a message can have, and a worse answer."""
    call = st.builds(lambda told: ToolCall("call_1", Function("look", told)), ARGUMENTS)
    asked = st.builds(Message, st.just("user"), st.none() | st.just("") | TEXT, st.none() | NAME)
    answer = st.builds(
        Message,
        st.just("assistant"),
        st.none() | st.just("") | TEXT,
        st.none() | NAME,
        st.sampled_from([None, 0, 1, 0.5]),
        st.lists(call, max_size=1),
        st.none(),
        st.none() | TEXT,
    )
    return st.builds(lambda *pair: Record([*pair], rejected=[Message("assistant", "worse")]), asked, answer)


def without_ids(message: Message) -> dict[str, Any]:
    """A message by its fields; some formats give its calls other ids."""
    return msgspec.structs.asdict(message) | {"tool_calls": [call.function for call in message.tool_calls]}


@pytest.mark.parametrize("name", sorted({*names()} - {"text"}))
@settings(max_examples=20)
@given(record=exchanges())
def test_every_field_of_a_message_that_does_not_come_back_is_counted_by_its_name(name: str, record: Record):
    try:
        again, dropped = back_and_forth(name, record)
    except ValueError:
        return  # nothing is left of it there
    lost = {
        f"messages[].{field}"
        for was, now in zip(record.messages, again.messages, strict=True)
        for field in Message.__struct_fields__
        if without_ids(was)[field] != without_ids(now)[field]
    }
    assert lost <= dropped.keys()


@pytest.mark.parametrize("name", ["alpaca", "prompt_completion"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (CALLED, "has text|are more or other|no text to learn"),
        (Message("assistant", ""), "has text|no text to learn"),
        (Message("assistant", "b", weight=0), r"messages\[1\].weight: is 0"),
    ],
)
def test_what_shall_not_be_learned_becomes_no_answer(name: str, answer: Message, said: str):
    with pytest.raises(ValueError, match=said):
        find_format(name).from_record(Record([Message("user", "a"), answer]), Counter())


def test_alpaca_counts_what_stands_beside_the_texts():
    dropped = Counter[str]()
    record = Record([Message("user", None, "bob"), Message("assistant", "b", reasoning="c", weight=0.5)])
    find_format("alpaca").from_record(record, dropped)
    assert dropped == {f"messages[].{field}": 1 for field in ("name", "content", "reasoning", "weight")}


@pytest.mark.parametrize("name", ["vertex", "chatml", "sharegpt", "adp"])
def test_a_key_that_stands_twice_in_what_is_called_with_is_refused(name: str):
    call = ToolCall("call_1", Function("look", '{"at": 1, "at": 2}'))
    record = Record([Message("user", "a"), Message("assistant", tool_calls=[call])])
    with pytest.raises(ValueError, match=r'function.arguments: the key "at" stands there twice'):
        find_format(name).from_record(record, Counter())


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


@pytest.mark.parametrize("name", sorted({*CHAT_LIKE} - {"chat"}))
def test_calls_of_others_than_the_assistant_are_left_out_and_counted(name: str):
    asked = Message("user", "a", tool_calls=CALLED.tool_calls, tool_call_id="call_1")
    again, dropped = back_and_forth(name, Record([asked, Message("assistant", "b")]))
    assert again.messages == [Message("user", "a"), Message("assistant", "b")]
    assert dropped == {"messages[].tool_calls": 1, "messages[].tool_call_id": 1}


def test_a_tool_call_says_its_type_because_providers_want_it():
    call = ToolCall("call_1", Function("add", "{}"))
    record = Record([Message("user", "a"), Message("assistant", tool_calls=[call])])
    assert b'"type":"function"' in msgspec.json.encode(find_format("openai").from_record(record, Counter()))


@pytest.mark.parametrize("name", [name for name in names() if name not in ("chat", "text")])
def test_nothing_is_left_of_a_record_without_an_answer(name: str):
    with pytest.raises(ValueError, match=r"^(messages|rejected)"):
        find_format(name).from_record(Record([Message("user", "a")]), Counter())


@pytest.mark.parametrize("name", PREFERENCES)
def test_a_preference_comes_back_equal(name: str):
    record = Record([Message("user", "a"), Message("assistant", "b")], rejected=[Message("assistant", "c")])
    again, dropped = back_and_forth(name, record)
    assert again == record
    assert dropped == {}


@pytest.mark.parametrize("name", PREFERENCES)
@pytest.mark.parametrize(
    ("answers", "worse", "said"),
    [
        (["b"], [], "rejected: there is no worse answer"),
        (["b", "c"], ["d"], "messages: two answers stand at the end"),
        (["b"], ["c", "d"], "rejected: holds 2 messages"),
    ],
)
def test_a_preference_has_one_answer_a_side(name: str, answers: list[str], worse: list[str], said: str):
    better = [Message("assistant", text) for text in answers]
    record = Record([Message("user", "a"), *better], rejected=[Message("assistant", text) for text in worse])
    with pytest.raises(ValueError, match=said):
        find_format(name).from_record(record, Counter())


def test_a_preference_has_the_roles_that_every_provider_of_them_knows():
    dropped = Counter[str]()
    asked = [Message("developer", "s"), Message("user", "a")]
    record = Record([*asked, Message("assistant", "b")], rejected=[Message("assistant", "c")])
    row = find_format("openai_preference").from_record(record, dropped)
    assert [message.role for message in row.input.messages] == ["system", "user"]
    assert dropped == {"messages[].role": 1}


ASKED, BETTER, WORSE = ({"role": role, "content": text} for role, text in (("user", "a"), *[("assistant", "b")] * 2))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": [ASKED], "chosen": [BETTER], "rejected": "c"},
        {"chosen": [ASKED, BETTER], "rejected": [ASKED, WORSE | {"content": "c"}]},
        {"prompt": "a", "chosen": [ASKED, BETTER], "rejected": [ASKED, WORSE | {"content": "c"}]},
    ],
)
def test_preferences_of_data_sets_are_read_with_and_without_their_prompt(row: dict[str, Any]):
    known = find_format("preference")
    assert recognise(row) == "preference"
    record = known.to_record(msgspec.convert(row, known.Row))
    assert record == Record([Message("user", "a"), Message("assistant", "b")], rejected=[Message("assistant", "c")])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"chosen": "b", "rejected": "c"}, "prompt: there is nothing in it"),
        ({"prompt": "x", "chosen": [ASKED, BETTER], "rejected": [ASKED, WORSE]}, "prompt: is another one"),
        ({"prompt": "a", "chosen": [ASKED, BETTER], "rejected": [ASKED]}, "rejected: there is nothing in it"),
    ],
)
def test_half_a_preference_is_refused(row: dict[str, Any], said: str):
    known = find_format("preference")
    with pytest.raises(ValueError, match=said):
        known.to_record(msgspec.convert(row, known.Row))


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
        ({"instruction": "", "output": "", "text": ""}, "alpaca"),
        ({"messages": [], "text": ""}, "chat"),
        ({"messages": [], "rejected": []}, "chat"),
        ({"prompt": "", "chosen": [], "rejected": [], "messages": []}, "preference"),
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


def test_an_adp_trajectory_keeps_what_no_message_is_made_of():
    known = find_format("adp")
    row = {
        "id": "t1",
        "content": [
            {"class_": "text_observation", "content": "a", "source": "user", "annotations": [{"k": 1}]},
            {"class_": "message_action", "content": "b", "url": "x"},
        ],
        "available_code_languages": ["python"],
        "details": {"id": 5},
    }
    kept = {"annotations": {"0": [{"k": 1}]}, "url": {"1": "x"}, "available_code_languages": ["python"]}
    assert known.to_record(msgspec.convert(row, known.Row)).metadata == kept | {"id": 5, "outer_id": "t1"}


@pytest.mark.parametrize(("named", "dropped"), [("tuneyard-1", {}), (f"tuneyard-{'0' * 16}", {"metadata.id": 1})])
def test_an_id_is_kept_or_counted(named: str, dropped: dict[str, int]):
    record = Record([Message("user", "a"), Message("assistant", "b")], metadata={"id": named})
    again, lost = back_and_forth("adp", record)
    assert lost == dropped
    assert (again == record) is not bool(dropped)


SAYING = [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tools": [{"functionDeclarations": None}]}, "functionDeclarations"),
        ({"tools": [{"functionDeclarations": "look"}]}, "functionDeclarations"),
        ({"tools": [{"googleSearch": {}}]}, "googleSearch"),
        ({"tools": [{"functionDeclarations": [{"description": "a"}]}]}, "name"),
        ({"systemInstruction": {"parts": [{"functionCall": {"name": "look"}}]}}, r"systemInstruction\.parts\[0\]"),
        ({"contents": [{"role": "user", "parts": [{}]}]}, r"contents\[0\]\.parts\[0\]: must hold one of text"),
        ({"contents": [{"role": "user", "parts": []}]}, r"contents\[0\]\.parts: is empty"),
        ({"contents": [{"role": "user", "parts": [{"functionCall": {"name": "look"}}]}]}, "is not for the role user"),
    ],
)
def test_what_vertex_rows_cannot_hold_is_refused_by_its_place(change: dict[str, Any], said: str):
    known = find_format("vertex")
    with pytest.raises(ValueError, match=said):
        known.to_record(msgspec.convert({"contents": SAYING} | change, known.Row))


def test_vertex_roles_and_the_order_of_parts_are_kept():
    known, answer = find_format("vertex"), {"functionResponse": {"name": "look", "response": {"output": "c"}}}
    contents = [
        {"role": "system", "parts": [{"text": "s"}]},
        {"role": "user", "parts": [{"text": "a"}, answer, {"text": "d"}, {"text": "e"}]},
        {"role": "model", "parts": [{"text": "b"}, {"functionCall": {"name": "look"}}, {"text": "f"}]},
    ]
    messages = known.to_record(msgspec.convert({"contents": contents}, known.Row)).messages
    assert [(message.role, message.content) for message in messages] == [
        *[("system", "s"), ("user", "a"), ("tool", "c"), ("user", "de"), ("assistant", "b"), ("assistant", "f")]
    ]
    assert [len(message.tool_calls) for message in messages] == [0, 0, 0, 0, 1, 0]


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


def test_sharegpt_keeps_the_weights_of_what_is_said_and_what_is_called():
    known = find_format("sharegpt")
    turns = [
        {"from": "human", "value": "a"},
        {"from": "gpt", "value": "b", "weight": 0},
        {"from": "function_call", "value": '{"name": "look"}', "weight": 1},
    ]
    messages = known.to_record(msgspec.convert({"conversations": turns}, known.Row)).messages
    assert [message.weight for message in messages] == [None, 0, 1]


@pytest.mark.parametrize("turn", [{"from": "gpt", "role": "user", "value": "a"}, {"value": "a", "content": "b"}])
def test_a_sharegpt_turn_that_is_told_twice_is_refused(turn: dict[str, str]):
    known = find_format("sharegpt")
    with pytest.raises(ValueError, match=r"conversations\[0\]\.(from|value): is told twice"):
        known.to_record(msgspec.convert({"conversations": [{"from": "gpt"} | turn]}, known.Row))


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
