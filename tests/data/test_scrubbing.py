"""Personal data replaced and put back, and `dataset.scrub` as a job."""

from __future__ import annotations

import json
import stat
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause, State
from tasks.data.key_file import KeyFile, read_key_file
from tasks.data.personal import Confidence, Search, find_personal
from tasks.data.reading import Row, read_records, read_rows
from tasks.data.record import Function, Message, Origin, Record, ToolCall, encode
from tasks.data.remains import find_remains
from tasks.data.scanning import Census, find_spots, scan
from tasks.data.scrubbing import Scrubber
from tasks.data.surrogates import SHAPE, draw_surrogate
from tasks.data.unscrubbing import Unscrubber
from tasks.data.writing import DatasetWriter
from tasks.scrub_dataset import ScrubDataset
from tests.data.outcomes import result_of
from tests.data.planted import MAKERS, passages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RunHere

BOB, ANNA = "bob.canary@firm-nord.de", "anna.canary@firm-nord.de"
ARGUMENTS = (
    '{ "to": "bob.canary@firm-nord.de", "caf\\u00e9": 1.10, "phone": 4153922671, "n": [1, 2e3],"body":"Hi\\nBob" }'
)


def record(*contents: str) -> Record:
    return Record([Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(contents)])


def rich() -> Record:
    """A record with something personal in every place that can have it."""
    call = ToolCall("call_1", Function("send", ARGUMENTS))
    return Record(
        [
            Message("user", f"Mail {BOB} and {ANNA}, then {BOB} again."),
            Message("assistant", None, tool_calls=[call], reasoning=f"It is {ANNA}."),
            Message("tool", json.dumps({"sent": [BOB], "quoted": f'a "b"\n{ANNA}'}), tool_call_id="call_1"),
            Message("assistant", "Done."),
        ],
        rejected=[Message("assistant", f"No, {ANNA}.")],
        tools=[{"type": "function", "function": {"name": "send", "description": f"Sends, e.g. to {BOB}"}}],
        origin=Origin(f"mail of {BOB}.txt", 1, 1, 10),
        metadata={"author": BOB, "nested": [{"phone": 4153922671}], BOB: "key", "count": 4153922671},
    )


def scrubbed(scrubber: Scrubber, *records: Record) -> list[Record]:
    return list(scrubber.scrub(records))


def planted_records(seed: int, count: int) -> list[Record]:
    return [record(each.text, "Thank you.") for each in passages(seed, count)]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    with DatasetWriter(tmp_path / "dataset") as writer:
        writer.write(rich())
        for each in planted_records(5, 60):
            writer.write(each)
        writer.write(record("What is 48/2?", "24"))
    return tmp_path / "dataset"


def test_placeholders_are_typed_and_numbered_alike_within_an_example():
    one, two = scrubbed(Scrubber(), record(f"{BOB} {ANNA} {BOB}", f"To {ANNA}."), record(f"From {ANNA}", "Yes"))
    assert [message.content for message in one.messages] == ["[EMAIL_1] [EMAIL_2] [EMAIL_1]", "To [EMAIL_2]."]
    assert two.messages[0].content == "From [EMAIL_1]"


def test_a_placeholder_that_was_there_before_is_not_given_twice():
    (one,) = scrubbed(Scrubber(), record(f"[EMAIL_1] is not {BOB}", "No"))
    assert one.messages[0].content == "[EMAIL_1] is not [EMAIL_2]"


def test_every_place_of_a_record_is_scrubbed_and_the_rest_stays():
    (one,) = scrubbed(Scrubber(), rich())
    assert "canary" not in encode(one).decode()
    arguments = one.messages[1].tool_calls[0].function.arguments
    assert arguments == (
        '{ "to": "[EMAIL_1]", "caf\\u00e9": 1.10, "phone": "[PHONE_1]", "n": [1, 2e3],"body":"Hi\\nBob" }'
    )
    assert json.loads(one.messages[2].content or "") == {"sent": ["[EMAIL_1]"], "quoted": 'a "b"\n[EMAIL_2]'}
    assert one.metadata["nested"] == [{"phone": "[PHONE_1]"}]
    assert one.metadata["count"] == 4153922671, "digits that no word explains are of low confidence"


def filled(struct: Any, text: Iterator[str]) -> Any:
    """An instance with another text in every field that takes one, all the way down."""
    return msgspec.convert(_fill(msgspec.inspect.type_info(struct), text), struct)


def _fill(kind: Any, text: Iterator[str]) -> Any:
    inspect = msgspec.inspect
    match kind:
        case inspect.StructType():
            return {field.name: _fill(field.type, text) for field in kind.fields if field.name != "type"}
        case inspect.ListType():
            return [_fill(kind.item_type, text)]
        case inspect.DictType():
            return {next(text): next(text)}
        case inspect.UnionType():
            return _fill(next(each for each in kind.types if not isinstance(each, inspect.NoneType)), text)
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.StrType():
            return next(text)
        case inspect.BoolType():
            return True
    return 1


def test_no_field_of_a_record_keeps_an_address():
    full = filled(Record, (f"canary{number}@firm-nord.de" for number in count()))
    planted = encode(full).count(b"canary")
    assert planted > 20
    assert len(find_spots(full, 1)) == planted
    (one,) = scrubbed(Scrubber(), full)
    assert b"canary" not in encode(one)
    assert find_remains(Scrubber(), [encode(one)]).total == 0


def test_a_call_and_its_answer_stay_together():
    call = ToolCall(f"call {BOB}", Function("send", "{}"))
    turns = [Message("assistant", tool_calls=[call]), Message("tool", "ok", tool_call_id=f"call {BOB}")]
    (one,) = scrubbed(Scrubber(), Record([Message("user", ANNA), *turns]))
    assert one.messages[1].tool_calls[0].id == one.messages[2].tool_call_id == "call [EMAIL_2]"


@pytest.mark.parametrize("number", ["4153922671", "-4153922671", "4153922671.0", "4.153922671e9", "-4153922671.00"])
def test_a_number_leaves_in_any_notation_and_comes_back_in_it(number: str):
    def made() -> Record:
        arguments = ToolCall("c", Function("f", f'{{"phone": {number}, "n": 7.5}}'))
        return Record([Message("assistant", tool_calls=[arguments])], metadata={"phone": json.loads(number)})

    scrubber = Scrubber(reversible=True)
    (one,) = scrubbed(scrubber, made())
    assert "4153922671" not in encode(one).decode()
    assert json.loads(one.messages[0].tool_calls[0].function.arguments)["phone"] == "[PHONE_1]"
    (back,) = Unscrubber(scrubber.keys).restore([one])
    assert encode(back) == encode(made())


def test_metadata_that_only_looks_like_a_mark_of_scrubbing_is_scrubbed():
    mark = "s" + "0123456789ab" * 2
    full = record("Hi", "Hello")
    full.metadata = {"scrubbed": [BOB, mark]}
    scrubber = Scrubber(reversible=True)
    (one,) = scrubbed(scrubber, full)
    assert one.metadata["scrubbed"][:2] == ["[EMAIL_1]", mark]
    (back,) = Unscrubber(scrubber.keys).restore([one])
    assert back.metadata == {"scrubbed": [BOB, mark]}
    taken = record(BOB, "Hello")
    taken.metadata = {"scrubbed": True}
    with pytest.raises(Permanent, match="rename that"):
        scrubbed(Scrubber(reversible=True), taken)


@given(
    st.dictionaries(st.text(max_size=8), st.one_of(st.text(), st.just(f'x "{BOB}"\\ y'), st.integers(), st.floats()))
)
def test_arguments_stay_valid_json_and_lose_nothing_else(arguments: dict[str, Any]):
    text = json.dumps(arguments)
    one = Record([Message("assistant", tool_calls=[ToolCall("1", Function("f", text))])])
    scrubber = Scrubber()
    scrubbed(scrubber, one)
    new = one.messages[0].tool_calls[0].function.arguments
    json.loads(new)
    assert BOB not in new
    assert new == text or scrubber.replaced


def test_a_surrogate_stands_for_the_same_value_all_over_a_data_set():
    keys = KeyFile(b"k" * 32)
    one, two = scrubbed(Scrubber("surrogate", keys=keys), record(f"{BOB} {ANNA}", "A"), record(f"{ANNA}", "B"))
    (again,) = scrubbed(Scrubber("surrogate", keys=KeyFile(b"k" * 32)), record(ANNA, "C"))
    (other,) = scrubbed(Scrubber("surrogate", keys=KeyFile(b"l" * 32)), record(ANNA, "C"))
    bob, anna = (one.messages[0].content or "").split()
    assert two.messages[0].content == anna == again.messages[0].content != bob
    assert other.messages[0].content != anna
    assert anna.endswith("@example.org")


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_no_surrogate_is_taken_for_a_value_that_somebody_has(kind: str):
    for number in range(300):
        surrogate = draw_surrogate(b"key", kind, str(number))
        assert SHAPE.fullmatch(surrogate)
        in_url = f"https://{surrogate}@host/" if kind == "url_login" else f"It is {surrogate}."
        sure = [each for each in find_personal(in_url) if each.type == kind]
        assert sure == [] or kind in ("street", "url_login", "openai_key", "anthropic_key", "slack_token")


def test_different_values_get_different_surrogates_also_where_few_are_free():
    numbers = [f"+1 415 {300 + n // 100} {1000 + n % 100}" for n in range(3000)]
    scrubber = Scrubber("surrogate")
    made = [each.messages[0].content for each in scrubber.scrub(record(f"Call {n}", "ok") for n in numbers)]
    assert len(set(made)) == len(numbers)


def test_when_no_surrogate_is_free_the_way_out_is_named():
    scrubber = Scrubber("surrogate", keys=KeyFile(b"k" * 32))
    for attempt in range(2000):
        scrubber.keys.put(draw_surrogate(b"k" * 32, "ssn", "123-45-6789", attempt), "somebody else's")
    with pytest.raises(Permanent, match="take mode=placeholder"):
        scrubbed(scrubber, record("SSN 123-45-6789", "ok"))


@pytest.mark.parametrize("mode", ["placeholder", "surrogate"])
def test_a_scrubbing_with_a_key_file_is_undone_to_the_last_byte(tmp_path: Path, mode: Any):
    before = [encode(each) for each in [rich(), *planted_records(9, 150)]]
    scrubber = Scrubber(mode, reversible=True)
    with DatasetWriter(tmp_path / "out") as writer:
        for each in scrubber.scrub([rich(), *planted_records(9, 150)]):
            writer.write(each)
    scrubber.keys.save(tmp_path / "key.jsonl")
    assert [encode(each) for each in read_records(tmp_path / "out")] != before
    unscrubber = Unscrubber(read_key_file(tmp_path / "key.jsonl"))
    assert [encode(each) for each in unscrubber.restore(read_records(tmp_path / "out"))] == before


STREET = "Hauptstra\u00dfe 12"


@pytest.mark.parametrize("mode", ["placeholder", "surrogate"])
@pytest.mark.parametrize(
    "written",
    [
        json.dumps({"to": BOB, "at": STREET, "say": f"caf\u00e9 \U0001f389 {BOB} \u00fcber {STREET}\n"}),
        json.dumps(
            {"to": BOB, "at": STREET, "say": f"caf\u00e9 \U0001f389 {BOB} \u00fcber {STREET}\n"}, ensure_ascii=False
        ),
        r'{"a":"http:\/\/u:pa-55word@firm-nord.de\/x","b":"\u003Cb\u003E anna.canary\u0040firm-nord.de \u00E9"}',
    ],
)
def test_escapes_in_arguments_come_back_as_they_were(tmp_path: Path, mode: Any, written: str):
    def made() -> Record:
        call = ToolCall("c", Function("f", written))
        return Record([Message("user", f"{STREET}, {BOB}"), Message("assistant", tool_calls=[call])])

    scrubber = Scrubber(mode, reversible=True)
    (one,) = scrubbed(scrubber, made())
    assert "canary" not in encode(one).decode()
    assert ("\\\\u" in encode(one).decode()) == ("\\u" in written), "what stands beside a change keeps its escapes"
    scrubber.keys.save(tmp_path / "key")
    (back,) = Unscrubber(read_key_file(tmp_path / "key")).restore([one])
    assert back == made()


def test_examples_that_were_shuffled_and_scrubbed_twice_are_undone_in_any_order():
    first = Scrubber(search=Search(frozenset({"email"})), reversible=True)
    second = Scrubber(search=Search(frozenset({"ip"})), reversible=True)
    text = f"{BOB} at 151.20.30.40"
    twice = scrubbed(second, *reversed(scrubbed(first, record(text, "a"), record(f"{ANNA} {text}", "b"))))
    assert twice[1].messages[0].content == "[EMAIL_1] at [IP_1]"
    for keys in (first.keys, second.keys):
        twice = list(Unscrubber(keys).restore(twice))
    assert twice == [record(f"{ANNA} {text}", "b"), record(text, "a")]


def test_placeholders_without_a_key_are_counted():
    unscrubber = Unscrubber(KeyFile())
    assert list(unscrubber.restore([record("[EMAIL_1] and [IP_2]", "ok")])) == [record("[EMAIL_1] and [IP_2]", "ok")]
    assert unscrubber.unresolved == 2


def test_a_key_file_is_readable_for_its_owner_only_and_serves_again(tmp_path: Path):
    path = tmp_path / "keys" / "my.key"
    keys = KeyFile()
    keys.put("[EMAIL_1]", BOB, "s1")
    keys.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key_file(path) == keys
    assert [each.name for each in path.parent.iterdir()] == ["my.key"]
    assert BOB not in repr(keys)


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b'{"tuneyard_scrub_key":1,"key":"a2V5"}\n{"secret canary"\n', b"\xff\xfe"]
)
def test_what_is_no_key_file_is_refused_without_showing_it(tmp_path: Path, content: bytes):
    (tmp_path / "bad.key").write_bytes(content)
    with pytest.raises(Invalid, match=r"bad\.key line \d") as refusal:
        read_key_file(tmp_path / "bad.key")
    assert "canary" not in str(refusal.value)


def test_a_second_scan_looks_where_no_record_has_a_text():
    written = (
        b'{"messages":[{"role":"user","content":"Hi"}],"later":[{"bob.canary@firm-nord.de":{"phone":-4153922671.0}}]}'
    )
    assert find_remains(Scrubber(), [written]).found == {"email": 1, "phone": 1}


def test_a_second_scan_finds_what_a_first_one_left():
    scrubber = Scrubber()
    remains = find_remains(scrubber, map(encode, [record("ok", "ok"), record(BOB, "at 192.168.1.7")]))
    assert (remains.total, remains.lines, remains.found, remains.less_sure) == (1, [2], {"email": 1}, {"ip": 1})


def test_spots_tell_where_and_what_and_never_the_value():
    spots = find_spots(rich(), 7)
    assert {each.line for each in spots} == {7}
    assert {each.field for each in spots} >= {
        "messages[0].content",
        "rejected[0].content",
        "metadata.author",
        "metadata",
    }
    assert "canary" not in str(spots)


def test_a_scan_counts_while_it_streams(dataset: Path):
    census = Census()
    rows = [row for row in read_rows(dataset) if isinstance(row, Row)]
    spots = list(scan(rows, census=census))
    assert census.examples == 62
    assert census.examples_touched == 61
    assert census.found.total() == len(spots)
    assert all(each.confidence >= Confidence.MEDIUM for each in spots)


@pytest.mark.parametrize("mode", ["placeholder", "surrogate"])
def test_a_scrubbed_dataset_has_nothing_left_and_comes_back_with_its_key(
    run_here: RunHere, dataset: Path, tmp_path: Path, mode: str
):
    key = tmp_path / "mine.key"
    job = run_here("dataset.scrub", source=str(dataset), mode=mode, key_file=str(key))
    assert job.state == State.SUCCEEDED, job.failure
    made = job.result or {}
    assert (made["examples"], made["examples_touched"], made["remaining"]) == (62, 61, 0)
    assert made["replaced"]["email"] > 10
    folder = run_here.artifact(made["dataset"])
    assert b"canary" not in (folder / "examples.jsonl").read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not list(folder.rglob("*.key"))
    back = run_here("dataset.scrub", source=made["dataset"], reverse_with=str(key))
    assert back.state == State.SUCCEEDED, back.failure
    restored = run_here.artifact((back.result or {})["dataset"]) / "examples.jsonl"
    assert restored.read_bytes() == (dataset / "examples.jsonl").read_bytes()


@pytest.mark.parametrize("mode", ["placeholder", "surrogate"])
def test_a_wrong_key_file_undoes_nothing_and_says_so(run_here: RunHere, dataset: Path, tmp_path: Path, mode: str):
    made = result_of(run_here("dataset.scrub", source=str(dataset), mode=mode, key_file=str(tmp_path / "mine.key")))[
        "dataset"
    ]
    KeyFile().save(tmp_path / "wrong.key")
    named = run_here("dataset.scrub", source=made, reverse_with=str(tmp_path / "wrong.key"))
    assert "was not scrubbed with the key file" in (named.failure or "")
    bare = tmp_path / "bare.jsonl"
    bare.write_bytes((run_here.artifact(made) / "examples.jsonl").read_bytes())
    refused = run_here("dataset.scrub", source=str(bare), reverse_with=str(tmp_path / "wrong.key"))
    assert "there is nothing to undo" in (refused.failure or "")
    assert refused.result is None
    assert (
        result_of(run_here("dataset.scrub", source=str(bare), reverse_with=str(tmp_path / "mine.key")))["foreign"] == 0
    )


def test_two_scrubbings_are_undone_one_after_the_other(run_here: RunHere, dataset: Path, tmp_path: Path):
    first, second = str(tmp_path / "first.key"), str(tmp_path / "second.key")
    once = result_of(run_here("dataset.scrub", source=str(dataset), types=["email"], key_file=first))["dataset"]
    twice = result_of(run_here("dataset.scrub", source=once, types=["phone"], key_file=second))["dataset"]
    back = result_of(run_here("dataset.scrub", source=twice, reverse_with=second))
    assert back["foreign"] > 0, "examples with addresses and no number"
    whole = result_of(run_here("dataset.scrub", source=back["dataset"], reverse_with=first))["dataset"]
    restored = run_here.artifact(whole) / "examples.jsonl"
    assert restored.read_bytes() == (dataset / "examples.jsonl").read_bytes()


def test_no_found_value_reaches_the_store_the_logs_or_the_artifact(run_here: RunHere, dataset: Path, tmp_path: Path):
    job = run_here("dataset.scrub", source=str(dataset), mode="surrogate")
    assert job.state == State.SUCCEEDED, job.failure
    folder = run_here.artifact((job.result or {})["dataset"])
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(dataset)]
    assert folder / "examples.jsonl" in kept
    assert [path for path in kept if b"canary" in path.read_bytes()] == []


def test_a_failing_scrub_names_no_value_either(run_here: RunHere, tmp_path: Path):
    source = tmp_path / "broken.jsonl"
    source.write_text(encode(record(f"I am {BOB}", "Hi")).decode() + '\n{"messages": "' + BOB + '"}\n')
    job = run_here("dataset.scrub", source=str(source))
    assert (job.state, job.cause) == (State.FAILED, Cause.DATA)
    assert "line 2" in (job.failure or "")
    assert "canary" not in (job.failure or "")


def test_only_the_chosen_types_leave_a_dataset(run_here: RunHere, dataset: Path):
    job = run_here("dataset.scrub", source=str(dataset), types=["email"])
    assert set((job.result or {})["replaced"]) == {"email"}


def test_a_dataset_without_examples_is_refused(run_here: RunHere, tmp_path: Path):
    (tmp_path / "none.jsonl").touch()
    job = run_here("dataset.scrub", source=str(tmp_path / "none.jsonl"))
    assert (job.state, job.cause) == (State.FAILED, Cause.DATA)
    assert "no example to scrub" in (job.failure or "")


def test_a_key_file_within_a_dataset_is_refused(run_here: RunHere, dataset: Path):
    job = run_here("dataset.scrub", source=str(dataset), key_file=str(dataset / "my.key"))
    assert job.state == State.FAILED
    assert "name another path" in (job.failure or "")


def test_the_spec_refuses_what_cannot_be(tmp_path: Path):
    with pytest.raises(ValidationError, match="did you mean"):
        ScrubDataset(source="x", types=("emial",))
    with pytest.raises(ValidationError, match="give one of them"):
        ScrubDataset(source="x", key_file="a", reverse_with=str(tmp_path))
    spec = ScrubDataset.model_validate({"source": "x", "key_file": "my.key"}, context={"base": tmp_path})
    assert spec.key_file == str(tmp_path / "my.key")
