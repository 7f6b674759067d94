"""Rows out of every container, and what is said about rows that are none."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
import re
import struct
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from queue_app.errors import Invalid, Permanent
from tasks.data import reading as reading_module
from tasks.data.arrays import cut_objects
from tasks.data.cutting import Fault, cut_lines
from tasks.data.finding import data_files, passed_over
from tasks.data.formats import find_format, written
from tasks.data.reading import BadRow, Reading, Row, data_file, read_records, read_rows
from tasks.data.record import Function, Message, Record, ToolCall, encode
from tasks.data.writing import CsvWriter, DatasetWriter, JsonlWriter, ParquetWriter

RECORDS = [
    Record(
        [Message("user", f"Line\n{number}, “quoted”"), Message("assistant", "a\r\n;\tb")],
        weight=0.5,
        metadata={"n": number},
    )
    for number in range(3)
]
LINES = b"".join(encode(record) + b"\n" for record in RECORDS)
GOOD = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}'


def read(path: Path, **given: Any) -> list[Row | BadRow]:
    return list(read_rows(path, Reading(**given)))


def bad(rows: list[Row | BadRow]) -> list[BadRow]:
    return [row for row in rows if isinstance(row, BadRow)]


def good(rows: list[Row | BadRow]) -> list[Record]:
    return [row.record for row in rows if isinstance(row, Row)]


def only_bad(tmp_path: Path, raw: bytes, name: str = "rows.jsonl", **given: Any) -> BadRow:
    """The one bad row of a file with these bytes between two good ones."""
    (tmp_path / name).write_bytes(GOOD + b"\n" + raw + b"\n" + GOOD + b"\n")
    rows = read(tmp_path / name, **given)
    (found,) = bad(rows)
    assert len(good(rows)) == 2
    assert found.line == 2
    return found


# Containers


def zstd(raw: bytes) -> bytes:
    return zstandard.compress(raw)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.jsonl", LINES),
        ("a.ndjson", b"\xef\xbb\xbf" + LINES),
        ("a.jsonl", LINES.replace(b"\n", b"\r\n")),
        ("a.jsonl", b"\n \n" + LINES.rstrip(b"\n")),
        ("a.jsonl.gz", gzip.compress(LINES)),
        ("a.jsonl.gz", gzip.compress(LINES[:100]) + gzip.compress(LINES[100:]) + b"\0" * 9),
        ("a.jsonl.zst", zstd(LINES)),
        ("a.jsonl.zst", zstd(LINES[:100]) + zstd(LINES[100:])),
        ("content", LINES),
        ("content", zstd(LINES)),
        ("a.json", b"[" + LINES.strip().replace(b"\n", b",\n") + b"]\n"),
        ("a.json.gz", gzip.compress(b"\xef\xbb\xbf [ " + LINES.strip().replace(b"\n", b" , ") + b" ]")),
        ("a.json", LINES),
        ("a.json", json.dumps([json.loads(line) for line in LINES.splitlines()], indent=2).encode()),
        ("content", b"[" + LINES.strip().replace(b"\n", b",") + b"]"),
    ],
)
def test_rows_of_json_are_read_out_of_every_container(tmp_path: Path, name: str, raw: bytes):
    (tmp_path / name).write_bytes(raw)
    rows = read(tmp_path / name)
    assert good(rows) == RECORDS
    assert not bad(rows)


@pytest.mark.parametrize(
    "format_name", ["chat", "openai", "sharegpt", "vertex", "openai_preference", "prompt_completion"]
)
@pytest.mark.parametrize("writer", [CsvWriter, ParquetWriter])
def test_every_format_goes_through_columns(tmp_path: Path, writer: type[CsvWriter | ParquetWriter], format_name: str):
    known, call = find_format(format_name), ToolCall("call_1", Function("look", "{}"))
    called = [
        Message("user", "a"),
        Message("assistant", tool_calls=[call]),
        Message("tool", "b", tool_call_id="call_1"),
    ]
    begun = [] if format_name == "prompt_completion" else called
    records = [
        Record([*begun, *record.messages], rejected=[Message("assistant", "no")], parallel_tool_calls=True)
        for record in RECORDS
    ]
    rows = [known.from_record(record, Counter()) for record in records]
    path = tmp_path / f"rows.{'csv' if writer is CsvWriter else 'parquet'}"
    with writer(path, written(known)) as table:
        for row in rows:
            table.write(row)
    reading = Reading(format_name)
    again = [known.to_record(msgspec.convert(msgspec.to_builtins(row), known.Row)) for row in rows]
    assert list(read_records(path, reading)) == again
    assert not reading.unknown


def test_csv_of_other_hands_is_read(tmp_path: Path):
    text = '\ufeffquestion;answer;page\r\n"How\r\n\r\nmuch?";"1;2";7\r\n\r\n;b;\r\n'
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    reading = Reading()
    first, second = read_rows(tmp_path / "a.csv", reading)
    assert isinstance(first, Row)
    assert first.record == Record(
        [Message("user", "How\r\n\r\nmuch?"), Message("assistant", "1;2")], metadata={"page": "7"}
    )
    assert first.line == 2
    assert reading.format == "prompt_completion"
    assert reading.unknown == {"page": 2}
    assert isinstance(second, Row)
    assert second.record == Record([Message("user", ""), Message("assistant", "b")], metadata={"page": ""})


@pytest.mark.parametrize(
    "text", ["", "a\rb", "a\r\nb", "\n", '"', " a ", "null", "[1]", '{"a":1}', "\u2028", "\ufeffa"]
)
@pytest.mark.parametrize("writer", [CsvWriter, ParquetWriter])
def test_a_text_comes_back_out_of_its_cell(tmp_path: Path, writer: type[CsvWriter | ParquetWriter], text: str):
    known = find_format("prompt_completion")
    record = Record([Message("user", text), Message("assistant", text or "b")], weight=0.5)
    with writer(tmp_path / f"a.{writer.__name__[:-6].lower()}", written(known)) as table:
        table.write(known.from_record(record, Counter()))
    assert list(read_records(table.path)) == [record]


def test_lists_in_parquet_have_a_type_that_others_can_read(tmp_path: Path):
    known, call = find_format("openai"), ToolCall("call_1", Function("look", "{}"))
    record = Record([Message("user", "a"), Message("assistant", tool_calls=[call], weight=1)], [{"type": "function"}])
    with ParquetWriter(tmp_path / "a.parquet", written(known)) as table:
        table.write(known.from_record(record, Counter()))
    (row,) = pyarrow.parquet.read_table(table.path).to_pylist()
    assert row["messages"][1]["tool_calls"][0]["function"] == {"name": "look", "arguments": "{}"}
    assert row["tools"] == '[{"type":"function"}]'
    assert list(read_records(table.path)) == [record]


def test_parquet_with_nested_columns_is_read_as_it_is(tmp_path: Path):
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    rows = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [call]}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [len(record.messages[1].tool_calls) for record in read_records(tmp_path / "a.parquet")] == [1, 0]


def test_parquet_without_the_columns_names_those_it_has(tmp_path: Path):
    pyarrow.parquet.write_table(pyarrow.table({"frage": ["a"], "antwort": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(Permanent, match=r"no format has the columns frage, antwort; rename them"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("raw", [b"", b"PAR1", b"PAR1 and more", b"no table"])
def test_a_broken_parquet_is_one_bad_row(tmp_path: Path, raw: bytes):
    (tmp_path / "a.parquet").write_bytes(raw)
    (found,) = bad(read(tmp_path / "a.parquet"))
    assert found.rule == "parquet"
    assert str(found).startswith(f"{tmp_path / 'a.parquet'} row 1: cannot be read as Parquet")


def save_as_datasets_does(folder: Path, parts: int = 2, **state: Any) -> None:
    folder.mkdir(parents=True)
    entries = []
    for part in range(parts):
        table = pyarrow.Table.from_pylist([{"question": f"q{part}", "answer": "a"}])
        name = f"data-{part:05}-of-{parts:05}.arrow"
        with (folder / name).open("wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
        entries.append({"filename": name})
    (folder / "state.json").write_text(json.dumps({"_data_files": entries} | state))
    (folder / "dataset_info.json").write_text("{}")


def test_a_folder_that_datasets_saved_is_read(tmp_path: Path):
    save_as_datasets_does(tmp_path / "saved")
    assert [record.messages[0].content for record in read_records(tmp_path / "saved")] == ["q0", "q1"]


def test_the_only_split_of_a_saved_folder_is_read_and_of_several_none(tmp_path: Path):
    save_as_datasets_does(tmp_path / "saved" / "train")
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert len(read(tmp_path / "saved")) == 2
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(Permanent, match=r"holds 2 splits; give one of them: .*train, .*test"):
        read(tmp_path / "saved")


@pytest.mark.parametrize("spoil", ["missing", "damaged", "indices", "cut"])
def test_a_spoilt_saved_folder_says_what_is_wrong(tmp_path: Path, spoil: str):
    folder = tmp_path / "saved"
    save_as_datasets_does(folder, 1, **({"_indices_files": [{"filename": "x"}]} if spoil == "indices" else {}))
    data = folder / "data-00000-of-00001.arrow"
    if spoil == "cut":
        data.write_bytes(data.read_bytes()[:-300])
        assert {found.rule for found in bad(read(folder))} <= {"cut", "arrow"}
        assert bad(read(folder))
        return
    if spoil == "missing":
        data.unlink()
    elif spoil == "damaged":
        (folder / "state.json").write_text("{")
    said = {"missing": "is missing", "damaged": "is damaged", "indices": r"flatten_indices"}
    with pytest.raises(Permanent, match=said[spoil]):
        read(folder)


def test_a_folder_and_a_glob_of_several_files_are_read_in_the_order_of_their_names(tmp_path: Path):
    for name in ("b.jsonl", "a/c.jsonl.gz", "a.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        row = encode(Record([Message("user", name), Message("assistant", "x")]))
        (tmp_path / name).write_bytes(gzip.compress(row) if name.endswith("gz") else row)
    for other in ("README.md", "notes.json", "x.jsonl.xz", "x.rejected.jsonl", ".hidden.jsonl"):
        (tmp_path / other).write_text("?")
    asked = [record.messages[0].content for record in read_records(tmp_path)]
    assert asked == ["a/c.jsonl.gz", "a.jsonl", "b.jsonl"]
    assert passed_over(tmp_path) == {".md": 1, ".json": 1, ".xz": 1}
    assert len(read(tmp_path / "*.jsonl")) == 2
    assert passed_over(tmp_path / "*.jsonl") == {}
    assert data_file(tmp_path) == tmp_path


def test_each_file_of_a_folder_may_have_a_format_of_its_own(tmp_path: Path):
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "b.jsonl").write_text('{"instruction":"a","output":"b"}')
    assert [record.messages[1].content for record in read_records(tmp_path)] == ["b", "b"]


def test_a_dataset_folder_is_its_file_of_examples(tmp_path: Path):
    with DatasetWriter(tmp_path / "dataset") as writer:
        for record in RECORDS:
            writer.write(record)
    (tmp_path / "dataset" / "statistics.json").write_text("{}")
    assert data_file(tmp_path / "dataset") == tmp_path / "dataset" / "examples.jsonl"
    assert list(read_records(tmp_path / "dataset")) == RECORDS


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "nothing.jsonl", "does not exist"),
        (lambda folder: folder / "*.jsonl", "no file matches"),
        (lambda folder: folder, "holds neither examples.jsonl nor any other file with rows"),
        (lambda folder: (folder / "a.txt", (folder / "a.txt").write_text("x"))[0], "dataset.prepare"),
        (lambda folder: (folder, (folder / "a.md").write_text("x"))[0], "text becomes examples with dataset.prepare"),
        (lambda folder: (folder, (folder / "a.jsonl.xz").write_text("x"))[0], "a.jsonl.xz is packed: unpack it"),
    ],
)
def test_a_source_without_rows_says_what_a_dataset_is(tmp_path: Path, make: Callable[[Path], Path], said: str):
    with pytest.raises(Permanent, match=said):
        data_files(make(tmp_path))


# Bad rows


@pytest.mark.parametrize(
    ("raw", "rule", "field", "problem"),
    [
        (b'{"messages": [}', "json", "", "not JSON: Expecting value at column 15"),
        (GOOD[:-9], "json", "", "not JSON: Unterminated string"),
        (b'{"messages":[]}{', "json", "", "not JSON: Extra data at column 16"),
        (b'{"weight": NaN}', "json", "", "NaN and Infinity are not JSON"),
        (b'{"metadata":{"a":' + b"9" * 5000 + b'},"messages":[]}', "shape", "", "integer value out of range"),
        (b"[1]", "shape", "", "expected an object in braces, found a list"),
        (b"\0\0\0", "nul", "", "byte 1 is NUL"),
        (GOOD.replace(b"a", b"a\0", 1), "nul", "", "is NUL, which no text holds"),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', "encoding", "", "byte 40 (0xff) is not UTF-8"),
        (b'{"messages":[{"role":"user","content":"\xed\xa0\xbd"}]}', "encoding", "", "byte 40 (0xed) is not UTF-8"),
        (rb'{"messages":[{"role":"user","content":"\ud83d"}]}', "surrogate", "", r"\ud83d or another"),
        (rb'{"messages":[{"role":"user","content":"\udc00 x"}]}', "surrogate", "", "half a character"),
        (b'{"messages":' + b"[" * 100_000, "json", "", "nested too deeply"),
        (b'{"messages":[],"metadata":' + b'{"a":' * 100_000, "json", "", "nested too deeply"),
        (b'{"messages":[],"metadata":{"a":' + b"[" * 100 + b"]" * 100 + b"}}", "json", "", "nested too deeply"),
        (b'{"messages":[{"role":"bot"}]}', "shape", "messages[0].role", "'bot' is not known (known: system, "),
        (b'{"messages":[{"content":"x"}]}', "shape", "messages[0].role", "is missing"),
        (b'{"messages":[{"role":"user","x":1}]}', "shape", "messages[0].x", "is not known here"),
        (b'{"messages":3}', "shape", "messages", "expected a list, found a whole number"),
        (b'{"messages":[{"role":"user","content":3}]}', "shape", "messages[0].content", "expected a text or null"),
        (b'{"messages":[{"role":"user","thinking":"a","reasoning":""}]}', "shape", "messages[0].reasoning", "twice"),
        (b'{"messages":[{"content":[{"type":"image_url"}]}]}', "shape", "messages[0].content[0]", "only parts of text"),
        (b'{"instruction":"a","output":"b"}', "format", "", "a row of alpaca where the first was of chat"),
        (b'{"text":"<|im_start|>user"}', "format", "", "a row of chatml where the first was of chat"),
        (b'{"nothing":1}', "shape", "messages", "is missing"),
    ],
)  # fmt: skip
def test_a_bad_line_says_its_place_its_rule_and_what_to_do(
    tmp_path: Path, raw: bytes, rule: str, field: str, problem: str
):
    found = only_bad(tmp_path, raw)
    assert (found.rule, found.field) == (rule, field)
    assert problem in found.problem
    assert found.raw == raw
    assert str(found).startswith(f"{tmp_path / 'rows.jsonl'} line 2: ")
    assert found.repair in str(found)


def test_a_line_that_is_too_long_is_not_read_whole(tmp_path: Path):
    long = GOOD.replace(b"a", b"a" * 50_000_000, 1)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([GOOD, long, GOOD]))
    tracemalloc.start()
    rows = read(tmp_path / "a.jsonl", most_row_bytes=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (found,) = bad(rows)
    assert len(good(rows)) == 2
    assert (found.line, found.rule) == (2, "length")
    assert f"{len(long):,} bytes" in found.problem
    assert len(found.raw) == 4096
    assert peak < 12 << 20


def test_a_long_line_at_the_end_and_one_just_short_enough(tmp_path: Path):
    (tmp_path / "a.jsonl").write_bytes(GOOD + b"\n" + b" " * len(GOOD) + b"x")
    rows = read(tmp_path / "a.jsonl", most_row_bytes=len(GOOD))
    assert len(good(rows)) == 1
    assert [found.rule for found in bad(rows)] == ["length"]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_another_encoding_is_recognised_and_named(tmp_path: Path, codec: str, name: str):
    (tmp_path / name).write_bytes(LINES.decode().encode(codec))
    (found,) = bad(read(tmp_path / name))
    assert found.rule == "encoding"
    assert f"the file is in {codec[:6].upper()}" in found.problem
    assert ("byte order mark" in found.problem) == ("without" not in found.problem) or codec not in ("utf-16", "utf-32")
    name = codec.upper().replace("-LE", "LE").replace("-BE", "BE")
    assert f"`iconv -f {name} -t UTF-8`" in found.repair


@pytest.mark.parametrize(
    ("pack", "said"),
    [(lzma.compress, "unpack it: `xz -d`"), (bz2.compress, "bunzip2"), (lambda raw: b"PK\3\4" + raw, "table as CSV")],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "content"])
def test_what_is_packed_otherwise_is_to_be_unpacked(
    tmp_path: Path, pack: Callable[[bytes], bytes], said: str, name: str
):
    (tmp_path / name).write_bytes(pack(LINES))
    (found,) = bad(read(tmp_path / name))
    assert found.rule == "packed"
    assert said in found.repair


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.jsonl.zst"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"")
    assert read(tmp_path / name) == []


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("zst", zstd)])
def test_rows_before_the_cut_of_a_packed_file_are_read(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]):
    random.seed(5)
    rows = [Record([Message("user", random.randbytes(40).hex()), Message("assistant", "x")]) for _ in range(20_000)]
    whole = pack(b"".join(encode(row) + b"\n" for row in rows))
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(whole[: len(whole) // 2])
    found = read(tmp_path / f"a.jsonl.{suffix}")
    (last,) = bad(found)
    assert found[-1] is last
    assert last.rule == "cut"
    assert "is cut short" in last.problem
    assert last.line == len(found)
    assert good(found) == rows[: len(found) - 1]
    assert len(found) > 6000


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_packed_file_that_is_broken_is_told_apart_from_one_that_is_cut(tmp_path: Path, suffix: str):
    whole = bytearray(gzip.compress(LINES) if suffix == "gz" else zstd(LINES * 9))
    whole[len(whole) // 2] ^= 0xFF
    whole[len(whole) // 2 + 1] ^= 0xFF
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(bytes(whole))
    assert bad(read(tmp_path / f"a.jsonl.{suffix}"))[-1].rule in ("cut", "json", "encoding", "nul")


def test_a_bomb_does_not_fill_the_memory(tmp_path: Path):
    pack = zlib.compressobj(9, wbits=31)
    packed = b"".join(pack.compress(b" " * (1 << 20)) for _ in range(60)) + pack.flush()
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    tracemalloc.start()
    (found,) = bad(read(tmp_path / "a.jsonl.gz", most_row_bytes=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.rule == "length"
    assert peak < 20 << 20


def test_a_bad_element_of_an_array_costs_only_itself(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b"[" + b",".join([GOOD, b'{"a": ]}', GOOD, b"7", b'"x"', GOOD]) + b"]")
    rows = read(tmp_path / "a.json")
    assert len(good(rows)) == 3
    assert [found.line for found in bad(rows)] == [2, 4, 5]
    assert all(found.unit == "row" for found in bad(rows))


@pytest.mark.parametrize("block_bytes", [7, 1 << 20])
@pytest.mark.parametrize("lost", [b"}", b"]", b'"', b'"content":"b"}', b"}]}"])
@pytest.mark.parametrize("between", [b",", b"\n", b",\n  "])
def test_a_mark_that_is_missing_in_an_array_costs_only_its_row(lost: bytes, between: bytes, block_bytes: int):
    at = GOOD.rindex(lost)
    whole = b"[" + between.join([GOOD, GOOD[:at] + GOOD[at + len(lost) :], GOOD, GOOD]) + b"]"
    blocks = [whole[at : at + block_bytes] for at in range(0, len(whole), block_bytes)]
    cut = list(cut_objects(blocks, 1 << 20))
    assert [found for found in cut if not isinstance(found, Fault) and found[1] == GOOD] == [
        *[(1, GOOD), (len(cut) - 1, GOOD), (len(cut), GOOD)]
    ]
    assert len(cut) == 4


@pytest.mark.parametrize("block_bytes", [999, 1 << 16])
def test_an_element_that_is_too_long_costs_only_itself(block_bytes: int):
    long = GOOD.replace(b"a", b'a{\\"messages\\":' * 40_000, 1)
    whole = b"[" + b",".join([GOOD, long, GOOD]) + b"]"
    blocks = [whole[at : at + block_bytes] for at in range(0, len(whole), block_bytes)]
    first, fault, last = cut_objects(blocks, 1 << 17)
    assert (first, last) == ((1, GOOD), (3, GOOD))
    assert isinstance(fault, Fault)
    assert (fault.number, fault.rule, len(fault.raw)) == (2, "length", 4096)
    assert f"{len(long):,} bytes" in fault.problem


def test_an_array_that_ends_too_early_gives_what_it_has(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b"[" + GOOD + b"," + GOOD[:-5])
    rows = read(tmp_path / "a.json")
    assert len(good(rows)) == 1
    assert [(found.line, found.rule) for found in bad(rows)] == [(2, "cut")]


@pytest.mark.parametrize(
    ("row", "rule"),
    [("a,b,c", "columns"), ("a", "columns"), ('"a"x,b', "csv"), ("a\0,b", None), ("a,\udcff", "encoding")],
)
def test_a_bad_row_of_a_csv_costs_only_itself(tmp_path: Path, row: str, rule: str | None):
    text = f"question,answer\ngood,row\n{row}\nlast,row\n"
    (tmp_path / "a.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    rows = read(tmp_path / "a.csv")
    assert len(good(rows)) == (2 if rule else 3)
    assert [(found.line, found.rule) for found in bad(rows)] == ([(3, rule)] if rule else [])


@pytest.mark.parametrize("row", ['"c,d', 'c,"d', '"c" ,d'])
@pytest.mark.parametrize("after", ["e,f\ng,h\n", 'e,"f"\n"g\ng",h\n', ""])
def test_a_quote_that_does_not_close_costs_only_the_line_that_it_opens_on(tmp_path: Path, row: str, after: str):
    (tmp_path / "a.csv").write_text(f"prompt,completion\na,b\n{row}\n{after}")
    rows = read(tmp_path / "a.csv")
    (found,) = bad(rows)
    assert (found.line, found.rule, found.raw) == (3, "csv", row.encode())
    assert len(good(rows)) == (3 if after else 1)


@pytest.mark.parametrize(
    ("names", "rule", "problem"),
    [
        (b"prompt,completion,cat\xe9gorie", "encoding", "the line of names: byte 22 (0xe9) is not UTF-8, so no row"),
        (b"prompt,completion,prompt", "columns", 'the line of names: the column "prompt" is there twice'),
        (b'"prompt"x,completion,z', "csv", "the line of names: "),
    ],
)
def test_a_table_without_sound_names_is_one_bad_row(tmp_path: Path, names: bytes, rule: str, problem: str):
    (tmp_path / "a.csv").write_bytes(names + b"\nq1,a1,x\nq2,a2,y\n")
    (found,) = bad(rows := read(tmp_path / "a.csv"))
    assert rows == [found]
    assert (found.line, found.rule, found.raw) == (1, rule, names)
    assert problem in found.problem


def test_columns_without_a_name_are_kept_where_there_is_something_in_them(tmp_path: Path):
    (tmp_path / "a.csv").write_text("\nprompt,completion,,\na,b,,x\nc,d,,\n")
    assert [record.metadata for record in read_records(tmp_path / "a.csv")] == [{"column 4": "x"}, {}]


def test_columns_whose_texts_lie_beyond_the_end_of_the_file_are_bad(tmp_path: Path):
    lengths = pyarrow.py_buffer(struct.pack("<3i", 0, 1 << 30, 1))
    damaged = pyarrow.StringArray.from_buffers(2, lengths, pyarrow.py_buffer(b"ab"))
    batch = pyarrow.record_batch([pyarrow.array(["a", "b"]), damaged], names=["prompt", "completion"])
    with (tmp_path / "a.arrow").open("wb") as file, pyarrow.ipc.new_stream(file, batch.schema) as stream:
        stream.write_batch(batch)
    (found,) = bad(read(tmp_path / "a.arrow"))
    assert (found.rule, found.line) == ("cut", 1)
    assert "offset" in found.problem.lower()


def test_a_text_that_is_not_utf8_costs_its_own_row_of_a_column(tmp_path: Path):
    texts = pyarrow.array([b"a", b"\xff", b"c"]).view(pyarrow.string())
    batch = pyarrow.record_batch([pyarrow.array(["1", "2", "3"]), texts], names=["prompt", "completion"])
    with (tmp_path / "a.arrow").open("wb") as file, pyarrow.ipc.new_stream(file, batch.schema) as stream:
        stream.write_batch(batch)
    rows = read(tmp_path / "a.arrow")
    assert [(one.line, one.rule) for one in bad(rows)] == [(2, "encoding")]
    assert len(good(rows)) == 2


@pytest.mark.parametrize("name", ["a.arrow", "a.parquet"])
def test_a_columns_name_that_is_not_utf8_is_no_bug(tmp_path: Path, name: str):
    table = pyarrow.table({"prompt": ["a"], "completion": ["b"]})
    if name == "a.parquet":
        pyarrow.parquet.write_table(table, tmp_path / name, store_schema=False)
    else:
        with (tmp_path / name).open("wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw.replace(b"prompt", b"\xff\xfempt"))
    assert bad(read(tmp_path / name))


def test_what_is_said_of_a_bad_row_shows_nothing_personal(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"ann.lee@example.org": 1}')
    (found,) = bad(read(tmp_path / "a.jsonl"))
    assert found.problem.startswith("no format has rows with these keys")
    assert "ann.lee" not in str(found)
    pyarrow.parquet.write_table(pyarrow.table({"ann.lee@example.org": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(Permanent, match="no format has the columns") as refused:
        read(tmp_path / "a.parquet")
    assert "ann.lee" not in str(refused.value)


def test_parquet_with_a_column_that_is_there_twice_is_refused(tmp_path: Path):
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 3, names=["prompt", "completion", "prompt"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(Permanent, match=r'the column "prompt" is there twice'):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("weight", ["nan", "inf", "-Infinity"])
def test_a_weight_that_is_no_number_makes_a_bad_row(tmp_path: Path, weight: str):
    (tmp_path / "a.csv").write_text(f"prompt,completion,weight\na,b,{weight}\n")
    table = pyarrow.table({"prompt": ["a"], "completion": ["b"], "weight": [float(weight)]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        (found,) = bad(rows := read(tmp_path / name))
        assert rows == [found]
        assert "is no number; leave the cell empty" in found.problem


@pytest.mark.parametrize("weight", ["1e308", "-1e308", "1000000001"])
@pytest.mark.parametrize(
    "beside",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"prompt": "a", "completion": "b"},
    ],
)
def test_a_weight_that_would_overflow_in_a_sum_makes_a_bad_row(tmp_path: Path, weight: str, beside: dict[str, Any]):
    (tmp_path / "a.jsonl").write_text(json.dumps(beside)[:-1] + f', "weight": {weight}}}\n')
    (found,) = bad(rows := read(tmp_path / "a.jsonl"))
    assert rows == [found]
    assert (found.line, found.rule, found.field) == (1, "shape", "weight")
    assert re.fullmatch(r"expected a number [<>]= -?1000000000.0", found.problem)


def test_a_cell_that_should_be_json_is_named(tmp_path: Path):
    (tmp_path / "a.csv").write_text("messages\nhello\n")
    (found,) = bad(read(tmp_path / "a.csv"))
    assert (found.field, found.rule) == ("messages", "shape")


# Rows of old, and keys that are not known


def test_functions_and_function_calls_of_old_are_read_as_tools(tmp_path: Path):
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "How "}, {"type": "text", "text": "warm?"}]},
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "look", "arguments": "{}"},
                "refusal": None,
            },
            {"role": "function", "name": "look", "content": "20"},
            {"role": "assistant", "content": "20 degrees", "reasoning_content": "It said 20."},
        ],
        "functions": [{"name": "look", "parameters": {}}],
        "function_call": "auto",
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (record,) = read_records(tmp_path / "a.jsonl")
    assert record == Record(
        [
            Message("user", "How warm?"),
            Message("assistant", tool_calls=[ToolCall("call_2", Function("look", "{}"))]),
            Message("tool", "20", "look", tool_call_id="call_2"),
            Message("assistant", "20 degrees", reasoning="It said 20."),
        ],
        tools=[{"type": "function", "function": {"name": "look", "parameters": {}}}],
    )


def test_keys_that_are_not_known_become_metadata_and_are_counted(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"question":"a","answer":"b","source":"x"}\n' * 2)
    reading = Reading()
    assert [record.metadata for record in read_records(tmp_path / "a.jsonl", reading)] == [{"source": "x"}] * 2
    assert reading.unknown == {"source": 2}


def test_a_row_that_could_be_of_two_formats_asks_which(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"question":"a","answer":"b","instruction":"c","output":"d"}')
    with pytest.raises(Invalid, match="could be alpaca or prompt_completion"):
        read(tmp_path / "a.jsonl")
    assert len(good(read(tmp_path / "a.jsonl", format="alpaca"))) == 1


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_the_second_of_two_pairs_is_kept_and_counted(tmp_path: Path, form: str):
    row = {"prompt": "p", "completion": "c", "answer": "42", "question": "lost?", "weight": 0.5}
    text = json.dumps(row) if form == "jsonl" else ",".join(row) + "\n" + ",".join(map(str, row.values()))
    (tmp_path / f"a.{form}").write_text(text)
    reading = Reading()
    assert list(read_records(tmp_path / f"a.{form}", reading)) == [
        Record(
            [Message("user", "p"), Message("assistant", "c")],
            weight=0.5,
            metadata={"answer": "42", "question": "lost?"},
        )
    ]
    assert reading.unknown == {"answer": 1, "question": 1}


def test_a_key_that_the_metadata_have_already_is_kept_under_another_name(tmp_path: Path):
    (tmp_path / "a.jsonl").write_bytes(GOOD[:-1] + b',"metadata":{"id":1},"id":2}')
    reading = Reading()
    assert [record.metadata for record in read_records(tmp_path / "a.jsonl", reading)] == [{"id": 1, "outer_id": 2}]
    assert reading.unknown == {"outer_id": 1}


def test_rows_of_vertex_are_read_in_both_spellings(tmp_path: Path):
    call = {"function_call": {"name": "look", "args": {"function_call": 1}}}
    row = {
        "contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [call]}],
        "system_instruction": {"parts": [{"text": "s"}]},
        "tools": [{"function_declarations": [{"name": "look"}]}],
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert list(read_records(tmp_path / "a.jsonl")) == [
        Record(
            [
                Message("system", "s"),
                Message("user", "a"),
                Message("assistant", tool_calls=[ToolCall("call_1", Function("look", '{"function_call":1}'))]),
            ],
            [{"type": "function", "function": {"name": "look"}}],
        )
    ]


def test_read_records_ends_at_the_first_bad_row(tmp_path: Path):
    (tmp_path / "a.jsonl").write_bytes(GOOD + b"\n{\n")
    records = read_records(tmp_path / "a.jsonl")
    next(records)
    with pytest.raises(Permanent, match=r"a\.jsonl line 2: not JSON"):
        next(records)


# Whatever comes


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([GOOD, b"\n", b"{", b"}", b'"', b"[", b",", b"\\", b"\0", b"\xff", b"\r\n"])).map(
        b"".join
    ),
    st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.jsonl.zst", "content"]),
)
@example(b"\x1f\x8b", "a.jsonl.gz")
@example(b"\x28\xb5\x2f\xfd", "a.jsonl.zst")
@example(b"]", "a.json")
@example(b'[{"text":"a"}]]]', "a.json")
def test_whatever_the_bytes_only_our_errors_come(tmp_path: Path, raw: bytes, name: str):
    (tmp_path / name).write_bytes(raw)
    with suppress(Permanent):
        assert all(isinstance(row, Row) or str(row) for row in read(tmp_path / name))


INNER = [
    "messages",
    "role",
    "content",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "parts",
    "text",
    "from",
    "value",
    "functionCall",
    "class_",
    "id",
    "source",
    "function_call",
    "weight",
    "type",
]
OUTER = [
    "messages",
    "text",
    "contents",
    "conversations",
    "question",
    "answer",
    "instruction",
    "output",
    "input",
    "id",
    "content",
    "details",
    "preferred_output",
    "non_preferred_output",
    "functions",
    "tools",
    "metadata",
    "prompt",
    "completion",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "user", "assistant", "<|im_start|>"]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(INNER), inside, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(OUTER)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), min_size=1, max_size=3))
def test_whatever_the_values_only_our_errors_come(tmp_path: Path, rows: list[dict[str, Any]]):
    with JsonlWriter(tmp_path / "a.jsonl") as writer:
        for row in rows:
            writer.write(row)
    with suppress(Permanent):
        assert len(read(tmp_path / "a.jsonl")) == len(rows)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 40).map(lambda size: b"x" * size), max_size=12), st.integers(1, 7))
def test_lines_are_the_same_however_the_blocks_fall(lines: list[bytes], size: int):
    whole = b"\n".join(lines)
    blocks = [whole[at : at + size] for at in range(0, len(whole), size)]
    cut = list(cut_lines(blocks, 20))
    wanted = [(number, line if len(line) <= 20 else None) for number, line in enumerate(lines, 1) if line]
    assert [(found.number, None) if isinstance(found, Fault) else found for found in cut] == wanted


def test_the_limit_of_a_row_is_the_modules():
    assert Reading().most_row_bytes == reading_module.MOST_ROW_BYTES == 16 << 20


def test_rows_know_where_they_stood(tmp_path: Path):
    (tmp_path / "a.jsonl").write_bytes(b"\n" + GOOD + b"\n\n" + GOOD)
    assert [(row.file, row.line) for row in read(tmp_path / "a.jsonl")] == [(tmp_path / "a.jsonl", n) for n in (2, 4)]
    assert msgspec.json.decode(GOOD) == msgspec.to_builtins(next(read_records(tmp_path / "a.jsonl")))
