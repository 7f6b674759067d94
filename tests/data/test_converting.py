"""`dataset.convert` as a job, what it sets aside, and files that are complete or absent."""

from __future__ import annotations

import gzip
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet
import pytest
from pydantic import ValidationError

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause, State
from tasks.convert_dataset import ConvertDataset
from tasks.data.formats import find_format, names
from tasks.data.reading import BadRow, Reading, Row, read_records, read_rows
from tasks.data.record import Message, Record, encode
from tasks.data.rejecting import Rejects
from tasks.data.writing import CsvWriter, JsonlWriter, ParquetWriter
from tests.data.outcomes import result_of

if TYPE_CHECKING:
    from tests.conftest import RunHere

GOOD = [{"question": f"What is {n} and {n}?", "answer": f"{n + n}"} for n in range(5)]


def write(path: Path, rows: list[Any]) -> Path:
    """Rows as JSON Lines; a text among them stands as it is."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


@pytest.fixture
def weighted(tmp_path: Path) -> Path:
    """Rows of the chat format with what no provider takes."""
    rows = [
        {
            "messages": [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}],
            "weight": 0.4,
            "source_agent": "a",
            "target_agent": "b",
            "cross_agent_weight": 0.4,
            "metadata": {"page": 1},
        }
        for row in GOOD
    ]
    return write(tmp_path / "weighted.jsonl", rows)


def test_keys_that_are_personal_are_counted_under_a_mask(run_here: RunHere, tmp_path: Path):
    rows = [row | {"ann.lee@example.org": 1} for row in GOOD]
    unknown = result_of(run_here("dataset.convert", source=str(write(tmp_path / "raw.jsonl", rows))))["unknown"]
    assert list(unknown.values()) == [5]
    assert "ann.lee" not in str(unknown)


def test_questions_and_answers_become_a_dataset(run_here: RunHere, tmp_path: Path):
    result = result_of(run_here("dataset.convert", source=str(write(tmp_path / "raw.jsonl", GOOD))))
    assert result["examples"] == 5
    folder = run_here.artifact(result["dataset"])
    assert result["bytes"] == (folder / "examples.jsonl").stat().st_size
    assert [record.messages[1].content for record in read_records(folder)] == [row["answer"] for row in GOOD]


def test_what_a_provider_refuses_is_left_out_and_counted(run_here: RunHere, weighted: Path):
    result = result_of(run_here("dataset.convert", source=str(weighted), to="openai"))
    assert result["dropped"] == {"weight": 5, "source_agent": 5, "target_agent": 5, "metadata": 5}
    assert result["unknown"] == {"cross_agent_weight": 5}
    lines = (run_here.artifact(result["dataset"]) / "openai.jsonl").read_text().splitlines()
    assert [list(json.loads(line)) for line in lines] == [["messages"]] * 5


def test_what_is_set_aside_loses_nothing(run_here: RunHere, tmp_path: Path):
    call = {"id": "1", "type": "function", "function": {"name": "shunt", "arguments": "{none"}}
    asked = {"role": "user", "content": "Shunt it."}
    refused = {"messages": [asked, {"role": "assistant", "tool_calls": [call]}], "weight": 0.5}
    kept = {"messages": [asked, {"role": "assistant", "content": "Done."}], "weight": 0.5}
    source = write(tmp_path / "raw.jsonl", [kept, refused, kept])
    result = result_of(run_here("dataset.convert", source=str(source), to="vertex", skip_bad=True))
    assert (result["examples"], result["rejected"], result["dropped"]) == (2, {"target": 1}, {"weight": 2})


@pytest.mark.parametrize("name", sorted({*names()} - {"chat", "openai_preference", "preference"}))
def test_every_format_is_written_and_read_again(run_here: RunHere, weighted: Path, name: str):
    result = result_of(run_here("dataset.convert", source=str(weighted), to=name))
    assert result["examples"] == 5
    file = run_here.artifact(result["dataset"]) / f"{name}.jsonl"
    again = list(read_records(file, Reading(name)))
    assert all(GOOD[n]["answer"] in (record.messages[-1].content or "") for n, record in enumerate(again))


@pytest.mark.parametrize("file_type", ["csv", "parquet", "jsonl.gz", "jsonl.zst"])
def test_other_files_are_written_when_asked_for(run_here: RunHere, weighted: Path, file_type: str):
    result = result_of(run_here("dataset.convert", source=str(weighted), to="prompt_completion", file_type=file_type))
    file = run_here.artifact(result["dataset"]) / f"prompt_completion.{file_type}"
    assert result["bytes"] == file.stat().st_size
    again = list(read_records(file))
    assert [record.messages[0].content for record in again] == [row["question"] for row in GOOD]
    assert [record.weight for record in again] == [0.4] * 5


def test_a_table_has_no_column_that_is_always_empty(run_here: RunHere, weighted: Path):
    result = result_of(run_here("dataset.convert", source=str(weighted), to="prompt_completion", file_type="csv"))
    (names, first, *_) = (run_here.artifact(result["dataset"]) / "prompt_completion.csv").read_text().splitlines()
    assert (names, first) == ('"prompt","completion","weight"', '"What is 0 and 0?","0","0.4"')


def test_a_folder_is_written_that_datasets_loads(run_here: RunHere, weighted: Path):
    datasets = pytest.importorskip("datasets")
    result = result_of(run_here("dataset.convert", source=str(weighted), to="openai", file_type="datasets"))
    folder = run_here.artifact(result["dataset"])
    rows = datasets.load_from_disk(str(folder), keep_in_memory=True)
    assert [row["messages"][1]["content"] for row in rows] == [row["answer"] for row in GOOD]
    assert [record.messages[1].content for record in read_records(folder)] == [row["answer"] for row in GOOD]


def test_packed_rows_are_the_same_bytes_every_time(tmp_path: Path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        with JsonlWriter(tmp_path / name) as writer:
            writer.write(GOOD[0])
    packed = (tmp_path / "a.jsonl.gz").read_bytes()
    assert packed == (tmp_path / "b.jsonl.gz").read_bytes()
    assert json.loads(gzip.decompress(packed)) == GOOD[0]


def test_files_that_are_not_read_are_counted(run_here: RunHere, tmp_path: Path):
    write(tmp_path / "rows" / "a.jsonl", GOOD)
    for name in ("b.json", "c.jsonl.xz", "d.jsonl.xz"):
        (tmp_path / "rows" / name).write_text("[]")
    assert result_of(run_here("dataset.convert", source=str(tmp_path / "rows")))["passed_over"] == {
        ".json": 1,
        ".xz": 2,
    }


def test_the_first_bad_row_fails_the_job_and_says_how_many_follow(run_here: RunHere, tmp_path: Path):
    source = write(tmp_path / "raw.jsonl", [GOOD[0], "{", GOOD[1], {"question": 1, "answer": "2"}])
    job = run_here("dataset.convert", source=str(source))
    assert (job.state, job.cause) == (State.FAILED, Cause.DATA)
    assert job.failure is not None
    assert f"{source} line 2: not JSON" in job.failure
    assert "1 of the rows after it are bad as well" in job.failure
    assert "skip_bad" in job.failure


def test_bad_rows_are_set_aside_with_their_reasons(run_here: RunHere, tmp_path: Path):
    bad: list[Any] = ["{", {"question": 1, "answer": "2"}, {"messages": []}, '{"question":"\\ud83d","answer":"2"}']
    source = write(tmp_path / "raw.jsonl", [*GOOD, *bad])
    result = result_of(run_here("dataset.convert", source=str(source), skip_bad=True))
    assert result["examples"] == 5
    assert result["rejected"] == {"json": 1, "shape": 1, "format": 1, "surrogate": 1}
    (line, *_) = rows = [json.loads(line) for line in run_here.artifact(result["rejects"]).read_text().splitlines()]
    assert line == {
        "file": str(source),
        "line": 6,
        "rule": "json",
        "field": "",
        "problem": "not JSON: Expecting property name enclosed in double quotes at column 2",
        "repair": "repair the line, or leave it out",
        "raw": "{",
    }
    assert rows[1]["field"] == "question"
    assert [row["line"] for row in rows] == [6, 7, 8, 9]


def test_a_row_of_which_nothing_is_left_is_bad(run_here: RunHere, tmp_path: Path):
    rows = [{"messages": [{"role": "user", "content": "a"}]}, {"messages": [{"role": "assistant", "content": "b"}]}]
    source = write(tmp_path / "raw.jsonl", rows)
    job = run_here("dataset.convert", source=str(source), to="openai")
    assert job.state is State.FAILED
    assert f'{source} line 1: messages: none is from "assistant"' in (job.failure or "")
    result = result_of(run_here("dataset.convert", source=str(source), to="openai", skip_bad=True))
    assert result["rejected"] == {"target": 1}
    assert result["examples"] == 1


@pytest.mark.parametrize("skip_bad", [True, False])
def test_a_source_without_a_row_fails(run_here: RunHere, tmp_path: Path, skip_bad: bool):
    source = write(tmp_path / "raw.jsonl", [])
    job = run_here("dataset.convert", source=str(source), skip_bad=skip_bad)
    assert (job.state, job.failure) == (State.FAILED, f"{source} holds no row")


def test_a_source_without_a_good_row_fails_and_its_rows_are_kept_with_their_reasons(run_here: RunHere, tmp_path: Path):
    source = write(tmp_path / "raw.jsonl", ["{", {"question": 1, "answer": "2"}, "}"])
    job = run_here("dataset.convert", source=str(source), skip_bad=True)
    assert job.state is State.FAILED
    found = re.fullmatch(
        rf"{source} holds no row that can be used; 3 bad \(json: 2, shape: 1\), the first {source} line 1: not JSON.*; "
        r"all: (sha256:\w+)",
        job.failure or "",
    )
    assert found
    assert len(run_here.artifact(found[1]).read_text().splitlines()) == 3


def test_a_glob_of_several_files_becomes_one_dataset(run_here: RunHere, tmp_path: Path):
    write(tmp_path / "a.jsonl", GOOD[:2])
    write(tmp_path / "b.jsonl", GOOD[2:])
    assert result_of(run_here("dataset.convert", source=str(tmp_path / "*.jsonl")))["examples"] == 5


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"to": "opnai"}, 'there is no format "opnai"; did you mean "openai"'),
        ({"to": "azure"}, '"azure" takes rows of the format openai: to=openai'),
        ({"to": "local"}, "to=chat"),
        ({"to": "csv"}, "file_type=csv"),
        ({"to": "parquet"}, "file_type=parquet"),
        ({"from_format": "x"}, "there is no format"),
        ({"file_type": "csv"}, "name another format"),
        ({"source": "rows/*.jsonl"}, "full path"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(spec: dict[str, str], said: str):
    with pytest.raises(ValidationError, match=said):
        ConvertDataset.model_validate({"source": "a.jsonl"} | spec)


def test_what_one_of_several_steps_will_make_is_no_glob():
    wired = "$chosen[agent=math].dataset"
    assert ConvertDataset(source=wired).source == wired


def test_without_a_bad_row_there_is_no_file_of_rejects(tmp_path: Path):
    source = write(tmp_path / "raw.jsonl", GOOD)
    with Rejects(tmp_path / "x.rejected.jsonl") as rejects:
        assert len(list(rejects.good(read_rows(source)))) == 5
    assert rejects.file is None
    assert not (tmp_path / "x.rejected.jsonl").exists()


def test_rejects_are_absent_when_the_work_fails(tmp_path: Path):
    bad = BadRow(tmp_path, 1, "json", "p", "r", b"\xff\0")
    with suppress(RuntimeError), Rejects(tmp_path / "x.rejected.jsonl") as rejects:
        rejects.add(bad)
        raise RuntimeError
    assert list(tmp_path.glob("*.jsonl*")) == []
    assert list(tmp_path.glob(".*.part")) == []


def test_bytes_that_are_no_text_are_set_aside_readably(tmp_path: Path):
    with Rejects(tmp_path / "x.rejected.jsonl") as rejects:
        rejects.add(BadRow(tmp_path, 1, "json", "p", "r", b"\xff\0"))
    assert json.loads((tmp_path / "x.rejected.jsonl").read_text())["raw"] == "\\xff\0"


def test_the_only_bad_row_is_called_so(tmp_path: Path):
    source = write(tmp_path / "raw.jsonl", ["{", *GOOD])
    with pytest.raises(Permanent, match=r"line 1: not JSON.*it is the only bad row"):
        list(Rejects().good(read_rows(source)))


@pytest.mark.parametrize("writer", [JsonlWriter, CsvWriter, ParquetWriter])
def test_a_file_is_absent_when_its_writing_fails(tmp_path: Path, writer: Any):
    kind = find_format("text").Row
    made = writer(tmp_path / "a") if writer is JsonlWriter else writer(tmp_path / "a", kind)
    with suppress(RuntimeError), made:
        for _ in range(1000):
            made.write(kind("x"))
        raise RuntimeError
    assert list(tmp_path.glob("*a*")) == []


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1000])
def test_every_row_is_written_however_many(tmp_path: Path, count: int):
    record = Record([Message("user", "a"), Message("assistant", "b")])
    with JsonlWriter(tmp_path / "a.jsonl") as writer:
        for _ in range(count):
            writer.write(record)
    assert (tmp_path / "a.jsonl").read_bytes() == (encode(record) + b"\n") * count
    assert writer.count == count


def test_a_record_that_changes_after_it_is_written_stays_as_it_was(tmp_path: Path):
    record = Record([Message("user", "a"), Message("assistant", "b")])
    with JsonlWriter(tmp_path / "a.jsonl") as writer:
        writer.write(record)
        record.weight = 2.0
    (row,) = read_rows(tmp_path / "a.jsonl")
    assert isinstance(row, Row)
    assert row.record.weight is None


def test_parquet_of_more_than_one_group_is_whole(tmp_path: Path):
    kind = find_format("text").Row
    with ParquetWriter(tmp_path / "a.parquet", kind) as writer:
        for number in range(25_000):
            writer.write(kind(str(number)))
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table["text"].to_pylist() == [str(number) for number in range(25_000)]
