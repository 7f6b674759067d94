"""The rules of the targets: each with a row that breaks it and one that does not."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api_worker.catalogue import catalogue
from queue_app.errors import Invalid
from tasks.data.checking.checker import Plan
from tasks.data.checking.checkup import Checkup, Order, check
from tasks.data.checking.clean import PlainTalk
from tasks.data.checking.finding import Finding
from tasks.data.checking.mistral import INSTALLED
from tasks.data.checking.rulebook import every_rule, judge, mend
from tasks.data.checking.target import TARGETS, find_target
from tasks.data.checking.target_lines import Line
from tasks.data.counting import openai_counting
from tasks.data.formats import find_format, names
from tasks.data.record import Message, Record
from tasks.data.writing import DatasetWriter

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.data.counting import Counting

Row = dict[str, Any]

SYSTEM = {"role": "system", "content": "You are brief."}
ASKED = {"role": "user", "content": "Where is the train?"}
SAID = {"role": "assistant", "content": "On track 3."}
FUNCTION = {"name": "find", "description": "Finds a track.", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
CALL_ID = "a1b2c3d4e"


def talk(*messages: Row, **beside: Any) -> Row:
    return {"messages": list(messages), **beside}


def call_of(name: str, call_id: str = CALL_ID, arguments: Any = "{}") -> Row:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(call_id: str = CALL_ID, name: str = "find", arguments: Any = "{}") -> Row:
    return {"role": "assistant", "tool_calls": [call_of(name, call_id, arguments)]}


def answer(call_id: str = CALL_ID) -> Row:
    return {"role": "tool", "tool_call_id": call_id, "content": "track 3"}


def preference(**changed: Any) -> Row:
    worse = {"role": "assistant", "content": "No idea."}
    row = {"input": {"messages": [ASKED]}, "preferred_output": [SAID], "non_preferred_output": [worse]}
    return row | changed


def contents(*turns: tuple[str, Any], **beside: Any) -> Row:
    return {"contents": [{"role": role, "parts": parts} for role, parts in turns], **beside}


TEXT = [{"text": "Hello."}]
CALLED = {"name": "find", "arguments": "{}"}
UNDESCRIBED = {"type": "function", "function": {"name": "find", "parameters": {}}}
ANSWERED = (ASKED, calling(), answer(), SAID)
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
PLAIN = talk(ASKED, SAID)
TOOLED = talk(ASKED, calling(), answer(), SAID, tools=[TOOL])
GOOD: dict[str, list[Row]] = {
    "openai": [PLAIN, talk(SYSTEM, ASKED, SAID), TOOLED, talk(ASKED, {**SAID, "weight": 0}, ASKED, SAID)],
    "openai_preference": [preference()],
    "azure": [PLAIN, TOOLED],
    "together": [PLAIN, TOOLED, talk(ASKED, SAID, weight=0.4)],
    "fireworks": [PLAIN, TOOLED],
    "nebius": [PLAIN, TOOLED],
    "mistral": [PLAIN, talk(SYSTEM, ASKED, SAID), TOOLED],
    "vertex": [contents(("user", TEXT), ("model", TEXT))],
    "local": [PLAIN, talk(ASKED, SAID, weight=0.4, source_agent="a", metadata={"k": 1})],
}
# target, rule, a row that breaks it, whether a repair is safe
BROKEN: list[tuple[str, str, Row, bool]] = [
    ("openai", "row", {"instruction": "Say.", "output": "No."}, False),
    ("openai", "row", {"messages": "Hello"}, False),
    ("openai", "unknown-key", talk(ASKED, SAID, metadata={}), True),
    ("openai", "unknown-key", talk(ASKED, SAID, weight=0.4), True),
    ("openai", "unknown-key", talk(ASKED, SAID, weight=0), False),
    ("azure", "unknown-key", talk(ASKED, SAID, weight=0.4), False),
    ("azure", "unknown-key", talk(ASKED, SAID, metadata={}), True),
    ("openai", "unknown-key", talk(ASKED, SAID, rejected=[SAID]), False),
    ("vertex", "unknown-key", contents(("user", TEXT), ("model", TEXT), system_instruction={"parts": TEXT}), True),
    ("together", "unknown-key", talk(ASKED, calling(), functions=[FUNCTION]), True),
    ("mistral", "unknown-key", talk(ASKED, SAID, available_tools=[TOOL]), True),
    ("together", "unknown-key", talk(ASKED, SAID, source_agent="a"), True),
    ("openai_preference", "unknown-key", preference(input={"messages": [ASKED], "metadata": {}}), True),
    ("openai", "unknown-message-key", talk(ASKED, {**SAID, "reasoning": "So."}), False),
    ("openai", "unknown-message-key", talk(ASKED, {**SAID, "audio": None}), True),
    ("openai", "unknown-message-key", talk(ASKED, {**SAID, "tool_calls": [{**call_of("find"), "note": 1}]}), False),
    ("openai_preference", "unknown-message-key", preference(preferred_output=[{**SAID, "score": 1}]), False),
    ("openai_preference", "unknown-message-key", preference(preferred_output=[{**SAID, "metadata": {}}]), True),
    ("fireworks", "unknown-message-key", talk(ASKED, {**SAID, "reasoning": "So."}), True),
    ("nebius", "unknown-message-key", talk(ASKED, {**SAID, "weight": 0}), False),
    ("nebius", "unknown-message-key", talk(ASKED, {**SAID, "weight": 1}), True),
    ("together", "unknown-message-key", talk(ASKED, {"role": "assistant", "function_call": CALLED}), True),
    ("openai", "role", talk({"role": "human", "content": "Hi"}, SAID), False),
    ("mistral", "role", talk({"role": "developer", "content": "Hi"}, ASKED, SAID), False),
    ("openai", "assistant-message", talk(ASKED), False),
    ("openai", "last-message", talk(ASKED, SAID, ASKED), True),
    ("nebius", "last-text", talk(ASKED, calling(), tools=[TOOL]), False),
    ("nebius", "last-text", talk(ASKED, {**calling(), "content": "One moment."}, tools=[TOOL]), False),
    ("nebius", "last-text", talk(ASKED, {"role": "assistant", "content": [PICTURE]}), False),
    ("nebius", "last-text", talk(ASKED, {"role": "assistant", "content": " "}), False),
    ("openai", "user-message", talk(SYSTEM, SAID), False),
    ("mistral", "system-count", talk(SYSTEM, SYSTEM, ASKED, SAID), False),
    ("openai", "system-place", talk(ASKED, SYSTEM, SAID), False),
    ("together", "alternation", talk(ASKED, ASKED, SAID), False),
    ("openai", "name", talk({**ASKED, "name": "Ann Lee"}, SAID), False),
    ("openai", "content-type", talk({**ASKED, "content": 7}, SAID), False),
    ("openai", "content-type", talk({**ASKED, "content": ["Hi"]}, SAID), False),
    ("openai", "content-type", talk({**ASKED, "content": [{"type": "zzz"}]}, SAID), False),
    ("openai", "content-type", talk({**ASKED, "content": [{"type": "text"}]}, SAID), False),
    ("openai", "content-type", talk(ASKED, {**SAID, "refusal": 5}), False),
    ("openai_preference", "content-type", preference(preferred_output=[{**SAID, "content": [1, 2]}]), False),
    ("openai", "empty-content", talk({"role": "user", "content": ""}, SAID), False),
    ("openai", "empty-result", talk(ASKED, calling(), {**answer(), "content": ""}, SAID, tools=[TOOL]), False),
    ("openai", "empty-content", talk({"role": "system", "content": ""}, ASKED, SAID), True),
    ("openai", "empty-content", talk(ASKED, {"role": "assistant", "content": None}), False),
    ("openai", "blank-content", talk({"role": "user", "content": " \n"}, SAID), False),
    ("openai_preference", "blank-content", preference(preferred_output=[{**SAID, "content": "   "}]), False),
    ("together", "images", talk({"role": "user", "content": [PICTURE] * 11}, SAID), False),
    ("openai", "weight-value", talk(ASKED, {**SAID, "weight": 0.4}), False),
    ("openai", "weight-value", talk(ASKED, {**SAID, "weight": 1.0}), True),
    ("openai_preference", "weight-value", preference(preferred_output=[{**SAID, "weight": 0.37}]), False),
    ("openai_preference", "weight-value", preference(non_preferred_output=[{**SAID, "weight": 1.0}]), True),
    ("together", "weight-value", talk(ASKED, {**SAID, "weight": True}), True),
    ("openai", "weight-place", talk({**ASKED, "weight": 0}, SAID), True),
    ("openai", "weight-place", talk({**ASKED, "weight": 1}, SAID), False),
    ("openai", "weight-nothing", talk(ASKED, {**SAID, "weight": 0}), False),
    ("together", "example-weight", talk(ASKED, SAID, weight=-1), False),
    ("together", "example-weight", {"prompt": "Hello", "completion": "Bye", "weight": -1}, False),
    ("together", "example-weight", {"text": "Hello", "weight": "x"}, False),
    ("local", "example-weight", talk(ASKED, SAID, weight=-3), False),
    ("together", "example-weight", talk(ASKED, SAID, weight=1e308), False),
    ("openai", "tools", talk(ASKED, SAID, tools=[{"name": "find"}]), False),
    ("openai", "tools", talk(ASKED, SAID, functions=5), False),
    ("openai", "tools", talk(ASKED, SAID, parallel_tool_calls="yes"), False),
    ("mistral", "tool-description", talk(ASKED, SAID, tools=[UNDESCRIBED]), False),
    ("openai", "tools", talk(ASKED, SAID, tools=[{"type": "function", "function": {"name": "a b"}}]), False),
    ("openai", "call-shape", talk(ASKED, {**SAID, "tool_calls": []}), True),
    ("openai", "call-shape", talk({**ASKED, "tool_calls": [{"id": 1}]}, SAID), False),
    ("openai", "call-shape", talk(ASKED, {**SAID, "function_call": "garbage"}), False),
    ("openai", "call-shape", talk(ASKED, calling(name="a b!"), tools=[TOOL]), False),
    ("openai_preference", "call-shape", preference(preferred_output=[{**SAID, "tool_calls": "garbage"}]), False),
    ("openai", "call-arguments", talk(ASKED, calling(arguments="{a"), tools=[TOOL]), False),
    ("openai", "call-arguments", talk(ASKED, calling(arguments={"a": 1}), tools=[TOOL]), True),
    ("openai", "call-declared", talk(ASKED, calling()), False),
    ("openai", "call-answered", talk(ASKED, calling(), SAID, tools=[TOOL]), False),
    ("openai", "answer-known", talk(ASKED, answer("other"), SAID), False),
    ("openai", "answer-known", talk({**ASKED, "tool_call_id": CALL_ID}, SAID), False),
    ("openai", "call-id-unique", talk(ASKED, {"role": "assistant", "tool_calls": [call_of("find")] * 2}), False),
    ("openai", "call-id-repeated", talk(*ANSWERED, *ANSWERED, tools=[TOOL]), True),
    ("mistral", "call-id-repeated", talk(*ANSWERED, *ANSWERED, *ANSWERED, tools=[TOOL]), True),
    ("openai", "call-id-repeated", talk(*ANSWERED, answer(), *ANSWERED, tools=[TOOL]), False),
    ("mistral", "call-id-length", talk(ASKED, calling("call_1"), answer("call_1"), SAID, tools=[TOOL]), True),
    ("openai_preference", "preference-sides", preference(preferred_output=[SAID, SAID]), False),
    ("openai_preference", "preference-differs", preference(non_preferred_output=[SAID]), False),
    ("together", "preference-input", preference(input={"messages": [ASKED, SAID]}), False),
    ("together", "text", {"text": " "}, False),
    ("nebius", "text", {"prompt": "Hello", "completion": ""}, False),
    ("nebius", "tokens-shape", {"token_ids": [1, 2], "labels": [1]}, False),
    ("vertex", "role", contents(("user", TEXT), ("assistant", TEXT)), True),
    ("vertex", "parts", contents(("user", TEXT), ("model", [{"text": ""}])), False),
    ("vertex", "parts", contents(("user", TEXT), ("model", [{"txt": "a"}])), False),
    ("vertex", "parts", contents(("user", TEXT), ("model", [{"functionCall": 5}])), False),
    ("vertex", "parts", contents(("user", TEXT), ("model", [{"text": "a", "functionCall": {"name": "f"}}])), False),
    ("vertex", "parts", contents(("user", TEXT), ("model", [{"function_call": {"name": "f"}}])), True),
    ("vertex", "tools", contents(("user", TEXT), ("model", TEXT), tools="abc"), False),
    ("vertex", "tools", contents(("user", TEXT), ("model", TEXT), tools=[TOOL]), False),
    ("vertex", "tools", contents(("user", TEXT), ("model", TEXT), tools=[{"function_declarations": [FUNCTION]}]), True),
    ("vertex", "user-message", contents(("model", TEXT)), False),
    ("vertex", "alternation", contents(("user", TEXT), ("model", TEXT), ("model", TEXT)), False),
    ("vertex", "assistant-message", contents(("user", TEXT)), False),
    ("vertex", "last-message", contents(("model", TEXT), ("user", TEXT)), False),
    ("vertex", "unknown-message-key", {"contents": [{"role": "model", "parts": TEXT, "weight": 0}]}, False),
    ("vertex", "unknown-message-key", {"contents": [{"role": "model", "parts": TEXT, "id": 1}]}, True),
    ("vertex", "system-instruction", contents(("model", TEXT), systemInstruction={"parts": [5]}), False),
    ("vertex", "system-instruction", contents(("model", TEXT), systemInstruction={"parts": [{"text": ""}]}), False),
    ("local", "trainable", TOOLED, False),
    ("local", "trainable", talk({"role": "developer", "content": "Be brief."}, ASKED, SAID), False),
    ("local", "trainable", talk(ASKED, SAID, rejected=[SAID]), False),
    ("vertex", "system-instruction", contents(("model", TEXT), systemInstruction="Be brief."), False),
]
if INSTALLED:
    both = {**calling(), "content": "One moment."}
    nameless = {"type": "function", "function": {"name": "find", "description": "Finds."}}
    BROKEN += [
        ("mistral", "mistral-common", talk(ASKED, both, answer(), SAID, tools=[TOOL]), False),
        ("mistral", "mistral-common", talk(ASKED, SAID, tools=[nameless]), False),
    ]


def copy(row: Row) -> Row:
    copied: Row = json.loads(json.dumps(row))
    return copied


def rules_broken(row: Row, target: str) -> dict[str, bool]:
    return {rule.name: problem.fixable for rule, _, problem in judge(copy(row), find_target(target))}


def check_rows(folder: Path, rows: list[Any], target: str, **options: Any) -> Checkup:
    """A check of a file with these rows; bytes stand as they are."""
    file = folder / "train.jsonl"
    mark = b"\xef\xbb\xbf" if TARGETS[target].byte_order_mark else b""
    file.write_bytes(mark + b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows))
    return check_file(file, target, **options)


def check_file(file: Path, target: str, counting: Counting | None = None, **options: Any) -> Checkup:
    plan = Plan(str(file), TARGETS[target], as_file=file.is_file(), **options)
    return check(Order(file, plan, file.parent / "report", file.parent / "repaired", counting))


def rows_of(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def findings(folder: Path) -> list[Finding]:
    lines = (folder / "report" / "findings.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Finding) for line in lines]


@pytest.mark.parametrize("target", TARGETS)
def test_a_good_row_breaks_no_rule(target: str) -> None:
    assert [rules_broken(row, target) for row in GOOD[target]] == [{}] * len(GOOD[target])


@pytest.mark.parametrize(("target", "rule", "row", "fixable"), BROKEN)
def test_a_bad_row_breaks_its_rule(target: str, rule: str, row: Row, fixable: bool) -> None:
    assert rules_broken(row, target).get(rule) is fixable


def test_every_rule_has_a_row_that_breaks_it() -> None:
    assert {rule for _, rule, _, _ in BROKEN} == set(every_rule())


@pytest.mark.parametrize(("target", "rule", "row", "fixable"), [case for case in BROKEN if case[3]])
def test_a_repair_leaves_nothing_to_repair(target: str, rule: str, row: Row, fixable: bool) -> None:
    mended = copy(row)
    mend(mended, find_target(target), judge(mended, find_target(target)))
    assert rule not in rules_broken(mended, target)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_its_limits_and_its_format(target: str) -> None:
    limits = [limit for limit in catalogue().limits if target in limit.targets]
    assert limits
    assert {name for limit in limits for name in limit.targets} <= set(TARGETS)
    assert TARGETS[target].format in names()


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(Invalid, match='did you mean "openai"'):
        find_target("opena")


COUNTING = openai_counting("o200k_base")
SEED = talk(ASKED, SAID, weight=0.4, source_agent="a", target_agent="b", cross_agent_weight=0.4, metadata={"k": 1})


def test_keys_beside_the_messages_are_blocked_with_their_line_and_repaired(tmp_path: Path) -> None:
    rows = [PLAIN] * 10 + [SEED]
    made = check_rows(tmp_path, rows, "openai")
    assert made.blocked
    assert [(one.line, one.field, one.rule, one.severity) for one in findings(tmp_path)] == [
        (11, key, "openai.unknown-key", "blocking")
        for key in ("weight", "source_agent", "target_agent", "cross_agent_weight", "metadata")
    ]
    made = check_rows(tmp_path, rows, "openai", fix=True)
    assert not made.blocked
    assert made.figures["fixed"] == {"openai.unknown-key": 5}
    again = check_file(tmp_path / "repaired" / "openai.jsonl", "openai")
    assert again.figures["found"] == {}
    assert rows_of(tmp_path / "repaired" / "openai.jsonl") == [PLAIN] * 11


def test_a_repaired_file_of_every_fixable_row_passes_its_own_check(tmp_path: Path) -> None:
    for target in TARGETS:
        rows = [row for name, _, row, fixable in BROKEN if name == target and fixable and "messages" in row]
        (folder := tmp_path / target).mkdir()
        made = check_rows(folder, rows * 10, target, fix=True)
        assert all(not one.fixable or one.fixed for one in findings(folder)), target
        if rows and not made.blocked:
            again = check_file(folder / "repaired" / f"{TARGETS[target].format}.jsonl", target)
            assert not any(finding.fixable for finding in again.first), target


@pytest.mark.parametrize(
    ("raw", "rule", "says"),
    [
        (b'{"messages": [', "json", "not JSON"),
        (b'["messages"]', "json", "found list"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "encoding", "byte 44 (0xff) is not UTF-8"),
        (b'{"messages": [{"role": "user", "content": "\\ud83d"}]}', "json", "half of a surrogate pair"),
        (b'{"messages": NaN}', "json", "not strict JSON"),
        (b"[" * 100_000, "json", "nested too deeply"),
        (b'{"messages": "' + b"a" * (17 << 20) + b'"}', "length", "too long"),
        (b'{"text": "a", "messages": []}', "row", "no list of messages"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, raw: bytes, rule: str, says: str) -> None:
    made = check_rows(tmp_path, [PLAIN] * 10 + [raw], "openai")
    (finding,) = made.first
    assert (finding.line, finding.rule) == (11, f"openai.{rule}")
    assert says in finding.problem


@pytest.mark.parametrize(
    ("asked", "severity"),
    [
        (b'{"role":"user","role":"user","content":"a"}', "warning"),
        (b'{"role" :"assistant","role":"user","content":"a"}', "blocking"),
        (b'{"role"\t:"assistant","role":"user","content":"a"}', "blocking"),
        (b'{"role":"user","content":"a","c\\u006fntent":"b"}', "blocking"),
    ],
)
def test_a_key_that_stands_twice_is_seen(tmp_path: Path, asked: bytes, severity: str) -> None:
    raw = b'{"messages":[%s,{"role":"assistant","content":"b"}]}' % asked
    made = check_rows(tmp_path, [PLAIN] * 10 + [raw], "openai")
    assert [(finding.rule, finding.severity) for finding in made.first] == [("openai.doubled-key", severity)]


def test_a_doubled_key_with_one_value_is_repaired(tmp_path: Path) -> None:
    raw = b'{"messages":[{"role":"user","role":"user","content":"a"},{"role":"assistant","content":"b"}]}'
    made = check_rows(tmp_path, [PLAIN] * 10 + [raw], "openai", fix=True)
    assert made.figures["fixed"] == {"openai.doubled-key": 1}
    assert check_file(tmp_path / "repaired" / "openai.jsonl", "openai").figures["found"] == {}


def test_text_that_looks_like_keys_is_no_doubled_key(tmp_path: Path) -> None:
    text = 'He said "role": "user", and "content" : \\" then "role" :\t"x\\\\'
    rows = [talk({"role": "user", "content": text}, SAID), json.dumps(PLAIN, separators=(" , ", " : ")).encode()]
    assert check_rows(tmp_path, rows * 5, "openai").figures["found"] == {}


def test_azure_wants_a_byte_order_mark_and_gets_one(tmp_path: Path) -> None:
    (file := tmp_path / "train.jsonl").write_text("\n".join([json.dumps(PLAIN)] * 10))
    assert [finding.rule for finding in check_file(file, "azure").first] == ["azure.byte-order-mark"]
    assert check_file(file, "azure", fix=True).figures["fixed"] == {"azure.byte-order-mark": 1}
    assert check_file(tmp_path / "repaired" / "openai.jsonl", "azure").figures["found"] == {}


def test_a_byte_order_mark_is_warned_about_elsewhere(tmp_path: Path) -> None:
    (file := tmp_path / "train.jsonl").write_text("\ufeff" + "\n".join([json.dumps(PLAIN)] * 10), encoding="utf-8")
    made = check_file(file, "openai")
    assert not made.blocked
    assert made.figures["found"] == {"openai.byte-order-mark": 1}


@pytest.mark.parametrize(
    ("start", "says", "repair"),
    [
        ("a".encode("utf-16"), "UTF-16", "iconv -f UTF-16 -t UTF-8"),
        ('{"messages": []}'.encode("utf-16-be"), "UTF-16", "iconv -f UTF-16BE -t UTF-8"),
        (b"\xfd7zXZ\0rest", "packed with xz", "xz -d"),
        (b"\x1f\x8b\x08\x00", "gzip", "tuneyard data convert"),
    ],
)
def test_a_file_that_is_no_utf8_is_not_read(tmp_path: Path, start: bytes, says: str, repair: str) -> None:
    (file := tmp_path / "train.jsonl").write_bytes(start)
    made = check_file(file, "openai")
    assert made.blocked
    assert says in made.first[0].problem
    assert repair in made.first[0].repair


@pytest.mark.parametrize(("target", "least"), [("openai", 10), ("fireworks", 3), ("together", 1)])
def test_too_few_examples_are_refused(tmp_path: Path, target: str, least: int) -> None:
    rule = "examples" if least > 1 else "no-examples"
    assert check_rows(tmp_path, [PLAIN] * (least - 1), target).figures["found"] == {f"{target}.{rule}": 1}
    assert check_rows(tmp_path, [PLAIN] * least, target).figures["found"] == {}


def test_two_kinds_of_rows_in_a_file_are_refused(tmp_path: Path) -> None:
    made = check_rows(tmp_path, [{"text": "Hello."}, PLAIN, {"text": "Bye."}], "together")
    assert [(finding.line, finding.rule) for finding in made.first] == [(2, "together.mixed-format")]


@pytest.mark.skipif(not INSTALLED, reason="needs mistral-common")
def test_mistral_common_is_asked_of_plain_talk_with_tools(tmp_path: Path) -> None:
    row = talk(ASKED, SAID, tools=[{"type": "function", "function": {"name": "find", "description": "Finds."}}])
    made = check_rows(tmp_path, [row] * 10, "mistral")
    assert {finding.rule for finding in made.first} == {"mistral.mistral-common"}
    assert "Field required" in made.first[0].problem


def test_rows_with_images_and_rows_without_do_not_mix_at_together(tmp_path: Path) -> None:
    seen = talk({"role": "user", "content": [PICTURE]}, SAID)
    made = check_rows(tmp_path, [PLAIN, seen], "together")
    assert [finding.rule for finding in made.first] == ["together.images-everywhere"]
    assert not check_rows(tmp_path, [seen, seen], "together").blocked


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_without_an_example_that_is_left_is_refused(tmp_path: Path, target: str) -> None:
    assert check_rows(tmp_path, [], target).blocked
    made = check_rows(tmp_path, [b"{", b"["], target, skip_bad=True)
    assert made.blocked
    assert made.first[-1].problem == "none of 2 examples is left"


@pytest.mark.parametrize(("target", "key"), [("together", "weight"), ("fireworks", "weight")])
def test_rows_that_are_set_aside_count_for_nothing(tmp_path: Path, target: str, key: str) -> None:
    bad = talk(ASKED) if target == "fireworks" else talk({"role": "user", "content": [PICTURE]})
    rows = [talk(ASKED, SAID, **{key: 0.5})] * 3 + [bad]
    assert not check_rows(tmp_path, rows, target, skip_bad=True).blocked


def test_weights_on_some_examples_alone_are_refused_by_fireworks(tmp_path: Path) -> None:
    made = check_rows(tmp_path, [PLAIN, PLAIN, talk(ASKED, SAID, weight=0.5)], "fireworks")
    assert [finding.rule for finding in made.first] == ["fireworks.example-weight-everywhere"]


def test_bad_rows_are_set_aside_with_their_reasons(tmp_path: Path) -> None:
    made = check_rows(tmp_path, [PLAIN] * 10 + [b"{", talk(ASKED)], "openai", skip_bad=True)
    assert not made.blocked
    assert (made.figures["kept"], made.figures["rejected"]) == (10, 2)
    rejected = rows_of(tmp_path / "report" / "rejected.jsonl")
    assert [(row["line"], row["row"]) for row in rejected] == [(11, "{"), (12, json.dumps(talk(ASKED)))]
    assert "none is from the assistant" in rejected[1]["reasons"][0]


def test_the_bytes_of_a_row_that_is_set_aside_can_be_told(tmp_path: Path) -> None:
    check_rows(tmp_path, [PLAIN] * 10 + [b'{"a": "\xe9"}'], "openai", skip_bad=True)
    assert rows_of(tmp_path / "report" / "rejected.jsonl")[0]["row"] == '{"a": "\\xe9"}'


def test_where_nothing_is_set_aside_there_is_no_file_of_it(tmp_path: Path) -> None:
    check_rows(tmp_path, [PLAIN] * 10, "openai", skip_bad=True, fix=True)
    assert sorted(file.name for file in (tmp_path / "report").iterdir()) == ["findings.jsonl", "summary.json"]


def test_the_size_is_the_files_where_nothing_is_repaired(tmp_path: Path) -> None:
    raw = b"  " + json.dumps(PLAIN).encode() + b" \r\n\r\n"
    (file := tmp_path / "train.jsonl").write_bytes(raw * 10)
    assert check_file(file, "openai").figures["bytes"] == len(raw) * 10
    assert check_rows(tmp_path, [SEED] * 10, "openai", fix=True).figures["bytes"] == (
        (tmp_path / "repaired" / "openai.jsonl").stat().st_size
    )


def test_strict_lets_warnings_stand_in_the_way(tmp_path: Path) -> None:
    rows = [talk(SYSTEM, SAID)] * 10
    assert not check_rows(tmp_path, rows, "openai").blocked
    assert check_rows(tmp_path, rows, "openai", strict=True).blocked


def test_more_findings_than_are_written_down_are_counted(tmp_path: Path) -> None:
    (file := tmp_path / "train.jsonl").write_text("\n".join([json.dumps(SEED)] * 10))
    plan = Plan(str(file), TARGETS["openai"], as_file=True)
    made = check(Order(file, plan, tmp_path / "report", listed=7))
    assert made.figures["found"] == {"openai.unknown-key": 50}
    assert made.figures["unlisted"] == {"openai.unknown-key": 43}
    assert len(findings(tmp_path)) == 7


def test_what_a_repair_takes_out_is_counted_by_field_and_what_it_renames_or_sets_aside_is_not(tmp_path: Path) -> None:
    beside = {"weight": 0.4, "source_agent": "a", "metadata": {}, "category": None, "functions": [FUNCTION]}
    told = talk({**ASKED, "id": 1, "weight": 0}, {**calling(), "tags": ["x"]}, answer(), {**SAID, "id": 2}, **beside)
    told["messages"][1]["tool_calls"][0]["index"] = 0
    aside = talk(ASKED, {**SAID, "content": 7}, metadata={})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [told] * 10 + [aside]))
    made = check_file(tmp_path / "a.jsonl", "together", fix=True, skip_bad=True)
    assert (made.figures["kept"], made.figures["rejected"]) == (10, 1)
    assert made.figures["dropped"] == {
        "messages[].id": 20,
        "messages[].tags": 10,
        "messages[].tool_calls[].index": 10,
        "messages[].weight": 10,
        "metadata": 10,
        "source_agent": 10,
    }
    assert json.loads((tmp_path / "report" / "summary.json").read_bytes())["dropped"] == made.figures["dropped"]
    assert all(row["weight"] == 0.4 and "tools" in row for row in rows_of(tmp_path / "repaired" / "together.jsonl"))


def write_dataset(folder: Path, records: list[Record]) -> Path:
    with DatasetWriter(folder) as writer:
        for record in records:
            writer.write(record)
    return folder


@pytest.mark.parametrize("target", sorted(set(TARGETS) - {"openai_preference", "local"}))
def test_a_dataset_is_checked_as_the_target_would_get_it(tmp_path: Path, target: str) -> None:
    record = Record([Message("user", "Where?"), Message("assistant", "There.")], weight=0.4, source_agent="a")
    made = check_file(write_dataset(tmp_path / "set", [record] * 10), target)
    assert made.figures["found"] == {}
    assert made.figures["dropped"]["source_agent"] == 10


def test_a_repaired_dataset_keeps_what_the_target_has_no_place_for(tmp_path: Path) -> None:
    turns = [Message("system", ""), Message("user", "Where?"), Message("assistant", "There.")]
    record = Record(turns, weight=0.4, source_agent="a", metadata={"k": 1})
    made = check_file(write_dataset(tmp_path / "set", [record] * 10), "openai", fix=True)
    assert made.figures["fixed"] == {"openai.empty-content": 10}
    lines = (tmp_path / "repaired" / "examples.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Record) for line in lines] == [
        Record(turns[1:], weight=0.4, source_agent="a", metadata={"k": 1})
    ] * 10


def test_a_repaired_dataset_keeps_what_the_target_does_not_hold_in_its_messages_either(tmp_path: Path) -> None:
    answer = Message("assistant", "There.", weight=0.5, reasoning="I looked.")
    turns = [Message("system", ""), Message("user", "Where?"), answer]
    made = check_file(write_dataset(tmp_path / "set", [Record(turns)] * 10), "openai", fix=True)
    assert made.figures["fixed"] == {"openai.empty-content": 10}
    lines = (tmp_path / "repaired" / "examples.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Record) for line in lines] == [Record(turns[1:])] * 10


@pytest.mark.parametrize("target", ["openai_preference", "vertex"])
def test_a_repaired_dataset_passes_its_own_check(tmp_path: Path, target: str) -> None:
    turns = [Message("system", ""), Message("user", "Where?"), Message("assistant", "There.")]
    rejected = [Message("assistant", "No idea.")] if target == "openai_preference" else []
    check_file(write_dataset(tmp_path / "set", [Record(turns, rejected=rejected)] * 10), target, fix=True)
    again = check_file(tmp_path / "repaired", target)
    assert not any(finding.fixable for finding in again.first)


def mended(row: Row, target: str) -> Row:
    row = copy(row)
    for _ in range(4):
        mend(row, find_target(target), judge(row, find_target(target)))
    return row


@pytest.mark.parametrize(
    ("target", "row", "becomes"),
    [
        ("together", talk(ASKED, SAID, functions=[FUNCTION]), talk(ASKED, SAID, tools=[TOOL])),
        ("together", talk(ASKED, SAID, functions=[FUNCTION], function_call="auto"), talk(ASKED, SAID, tools=[TOOL])),
        ("mistral", talk(ASKED, SAID, available_tools=[TOOL]), talk(ASKED, SAID, tools=[TOOL])),
        (
            "together",
            talk(ASKED, {"role": "assistant", "function_call": CALLED}, {"role": "function", "content": "3"}, SAID),
            talk(ASKED, calling("call_2"), {"role": "tool", "content": "3", "tool_call_id": "call_2"}, SAID),
        ),
        (
            "fireworks",
            talk(ASKED, {**SAID, "reasoning": "So."}),
            talk(ASKED, {**SAID, "reasoning_content": "So."}),
        ),
        (
            "vertex",
            contents(("user", TEXT), ("model", TEXT), system_instruction={"parts": TEXT}),
            contents(("user", TEXT), ("model", TEXT), systemInstruction={"parts": TEXT}),
        ),
        (
            "openai",
            talk(*ANSWERED, *ANSWERED, tools=[TOOL]),
            talk(*ANSWERED, ASKED, calling(f"{CALL_ID}_2"), answer(f"{CALL_ID}_2"), SAID, tools=[TOOL]),
        ),
    ],
)
def test_what_has_another_name_is_brought_under_the_one_that_is_known(target: str, row: Row, becomes: Row) -> None:
    assert mended(row, target) == becomes


@pytest.mark.parametrize(
    ("target", "row"),
    [
        ("together", talk(ASKED, SAID, functions=[FUNCTION], tools=[TOOL])),
        ("nebius", talk(ASKED, {**SAID, "weight": 0})),
        ("fireworks", talk(ASKED, {**SAID, "reasoning": "So.", "reasoning_content": "Thus."})),
        ("openai", talk({**ASKED, "name": "J. R."}, SAID)),
        ("openai", talk(ASKED, SAID, weight=0)),
        ("azure", talk(ASKED, SAID, weight=0.4)),
    ],
)
def test_no_repair_takes_out_what_may_be_learned(target: str, row: Row) -> None:
    assert mended(row, target) == row


def test_a_key_that_is_personal_is_not_told(tmp_path: Path) -> None:
    rows = [talk({**ASKED, "ann.lee@example.org": 1}, SAID, **{"ann.lee@example.org": 1})] * 10
    made = check_rows(tmp_path, rows, "openai")
    assert made.figures["found"] == {"openai.unknown-key": 10, "openai.unknown-message-key": 10}
    assert b"ann.lee" not in (tmp_path / "report" / "findings.jsonl").read_bytes()


def test_where_no_limit_is_known_it_is_said_that_lengths_were_held_against_none(tmp_path: Path) -> None:
    (file := tmp_path / "train.jsonl").write_text("\n".join([json.dumps(PLAIN)] * 10))
    assert any("no limit of tokens is known" in note for note in check_file(file, "openai", COUNTING).figures["notes"])
    (file := tmp_path / "train.jsonl").write_text("\n".join([json.dumps(PLAIN)] * 10))
    assert not any("no limit" in note for note in check_file(file, "nebius", COUNTING).figures["notes"])


WORDS = st.sampled_from(["", " ", "Hello.", 'He said "role": "x".', "tab\t: here", "\\", 7, None])
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "developer", "human"])
WEIGHTS = st.sampled_from([0, 1, 0.5, -1, True, None])
MESSAGE = st.fixed_dictionaries({"role": ROLES, "content": WORDS}, optional={"weight": WEIGHTS, "name": st.just("A b")})
BESIDE = st.fixed_dictionaries(
    {},
    optional={
        "weight": WEIGHTS,
        "tools": st.just([TOOL]),
        "k": st.none(),
        "metadata": st.sampled_from([{"k": {"k": 1}}, {}, [{"messages": "k"}]]),
        "prompt": st.just("Where?"),
        "parallel_tool_calls": st.sampled_from([True, "yes", None]),
        "functions": st.sampled_from([[FUNCTION], 5, None]),
        "available_tools": st.sampled_from([[TOOL], None]),
        "rejected": st.sampled_from([[], [SAID]]),
        "category": st.sampled_from(["a", None]),
        "unheard_of": st.sampled_from(["a", None]),
    },
)


@settings(deadline=None)  # the first time loads mistral-common
@given(st.sampled_from(sorted(TARGETS)), st.lists(MESSAGE, max_size=4), BESIDE)
def test_the_short_way_passes_only_what_the_rules_pass(target: str, messages: list[Row], beside: Row) -> None:
    row = talk(*messages, **beside)
    line, known = Line(1, json.dumps(row).encode()), TARGETS[target]
    plain = PlainTalk(known).talk(line)
    if plain is not None:
        assert judge(row, known, plain=True) == judge(row, known)
        assert not plain.doubled
        assert beside or judge(row, known) == []


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(TARGETS)), st.lists(BESIDE, min_size=1, max_size=4), st.booleans())
def test_rows_that_are_alike_beside_their_messages_fare_as_each_alone(
    tmp_path: Path, target: str, beside: list[Row], fix: bool
) -> None:
    rows = [talk(ASKED, SAID, **one) for one in beside]
    said, made = [], []
    for number, row in enumerate(rows * 2, 1):
        check_rows(tmp_path, [row], target, fix=fix)
        said += [msgspec.structs.replace(one, line=number) for one in findings(tmp_path) if one.line]
        made += rows_of(tmp_path / "repaired" / f"{TARGETS[target].format}.jsonl")
    check_rows(tmp_path, rows * 2, target, fix=fix)
    assert [one for one in findings(tmp_path) if one.line] == said
    assert rows_of(tmp_path / "repaired" / f"{TARGETS[target].format}.jsonl") == made


@pytest.mark.parametrize("spoilt", [b'"\xff"', b'"\\ud800"', b'[{"a":1,"a":2}]', b"[" * 5000 + b"]" * 5000, b"-01"])
def test_what_is_wrong_beside_good_messages_is_laid_to_its_line_alone(tmp_path: Path, spoilt: bytes) -> None:
    good = [json.dumps(talk(ASKED, SAID, metadata="M")).encode()] * 2
    made = check_rows(tmp_path, [good[0].replace(b'"M"', spoilt), *good], "openai", fix=True)
    assert {one.line for one in findings(tmp_path) if one.line and one.rule != "openai.unknown-key"} == {1}
    assert made.figures["fixed"]["openai.unknown-key"] >= 2


def test_what_the_formats_write_the_rules_take() -> None:
    record = Record([Message("system", "Be brief."), Message("user", "Where?"), Message("assistant", "There.")])
    for target in TARGETS.values():
        if "preference" not in target.format:
            made = find_format(target.format).from_record(record, Counter())
            assert judge(msgspec.json.decode(msgspec.json.encode(made)), target) == [], target.name
