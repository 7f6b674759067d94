"""`dataset.dedupe` as a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from queue_app.lifecycle import Cause, State
from tasks.data.reading import read_records
from tasks.data.record import Message, Record, encode
from tasks.data.writing import DatasetWriter
from tests.data.outcomes import result_of

if TYPE_CHECKING:
    from tests.conftest import RunHere

LONG = "The clerk notes every wagon that rolls into the yard, and the time at which it was shunted to its track."
TYPO = LONG.replace("clerk", "clark")


def record(asked: str, **more: Any) -> Record:
    return Record([Message("user", asked), Message("assistant", "So it is.")], **more)


def written(folder: Path, *records: Record) -> str:
    with DatasetWriter(folder) as writer:
        for one in records:
            writer.write(one)
    return str(folder)


def asked(run_here: RunHere, result: dict[str, Any]) -> list[str | None]:
    return [one.messages[0].content for one in read_records(run_here.artifact(result["dataset"]))]


def removed(run_here: RunHere, result: dict[str, Any]) -> list[dict[str, Any]]:
    file = run_here.artifact(result["dataset"]) / "removed.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_example_is_left_once_and_what_went_says_why(run_here: RunHere, tmp_path: Path):
    rows = (record(LONG), record("Why?"), record("why? "), record(TYPO), record("Why?"))
    result = result_of(run_here("dataset.dedupe", source=written(tmp_path / "set", *rows)))
    assert asked(run_here, result) == [LONG, "Why?"]
    assert {name: result[name] for name in ("examples", "source_examples", "exact", "normalised", "near")} == {
        "examples": 2,
        "source_examples": 5,
        "exact": 1,
        "normalised": 1,
        "near": 1,
    }
    gone = removed(run_here, result)
    assert [(one["line"], one["reason"], one["twin"]) for one in gone] == [
        (3, "normalised", 2),
        (4, "near", 1),
        (5, "exact", 2),
    ]
    assert 0.85 <= gone[1]["similarity"] < 1


def test_of_several_files_each_copy_goes_from_its_own(run_here: RunHere, tmp_path: Path):
    for name, texts in {"a.jsonl": ("Why?", "Who?", "Where?"), "b.jsonl": ("When?", "Why?")}.items():
        rows = (encode(record(text)) for text in texts)
        (tmp_path / name).write_bytes(b"\n".join(rows) + b"\n")
    result = result_of(run_here("dataset.dedupe", source=str(tmp_path)))
    assert asked(run_here, result) == ["Why?", "Who?", "Where?", "When?"]


def test_near_ones_stay_where_only_exact_ones_shall_go(run_here: RunHere, tmp_path: Path):
    source = written(tmp_path / "set", record(LONG), record(TYPO), record(LONG))
    assert asked(run_here, result_of(run_here("dataset.dedupe", source=source, exact_only=True))) == [LONG, TYPO]


def test_a_base_example_stays_for_each_agent_unless_told_otherwise(run_here: RunHere, tmp_path: Path):
    lineages = (("law", "law"), ("law", "math"), ("law", "math"))
    rows = [record("Why?", source_agent=source, target_agent=target) for source, target in lineages]
    source = written(tmp_path / "set", *rows)
    kept = result_of(run_here("dataset.dedupe", source=source))
    assert (kept["examples"], kept["reuse"], kept["exact"]) == (2, 1, 1)
    once = result_of(run_here("dataset.dedupe", source=source, keep_reuse=False))
    assert (once["examples"], once["reuse"], once["exact"]) == (1, 0, 2)


def test_the_heaviest_stays_as_it_was(run_here: RunHere, tmp_path: Path):
    source = written(tmp_path / "set", record("Why?", weight=0.2), record("why?", weight=0.8, category="law"))
    result = result_of(run_here("dataset.dedupe", source=source, keep="heaviest"))
    assert list(read_records(run_here.artifact(result["dataset"]))) == [record("why?", weight=0.8, category="law")]


def test_what_a_holdout_or_a_benchmark_has_is_removed_even_if_it_is_there_once(run_here: RunHere, tmp_path: Path):
    holdout = written(tmp_path / "holdout", record("Why?"))
    benchmark = written(tmp_path / "benchmark", record("Who?"), record(f"{LONG} How many are there at noon?"))
    rows = (record("Why?"), record(LONG), record("When?"), record("When?"))
    source = written(tmp_path / "set", *rows)
    result = result_of(run_here("dataset.dedupe", source=source, against=[holdout, benchmark]))
    assert asked(run_here, result) == ["When?"]
    assert (result["leaked"], result["leaked_same"], result["leaked_overlap"], result["exact"]) == (2, 1, 1, 1)
    gone = [(one["line"], one["reason"], one["twin"], one.get("dataset")) for one in removed(run_here, result)]
    assert gone == [(1, "leaked-same", 1, holdout), (2, "leaked-overlap", 2, benchmark), (4, "exact", 3, None)]


def test_shared_runs_of_words_are_left_where_they_are_not_asked_for(run_here: RunHere, tmp_path: Path):
    benchmark = written(tmp_path / "benchmark", record(f"{LONG} How many are there at noon, and how many at night?"))
    source = written(tmp_path / "set", record(LONG))
    assert result_of(run_here("dataset.dedupe", source=source, against=[benchmark], run=0))["leaked"] == 0


def test_a_deduped_dataset_has_nothing_more_to_remove(run_here: RunHere, tmp_path: Path):
    rows = [record(f"{LONG} {'And so on. ' * number}") for number in range(12)]
    first = result_of(run_here("dataset.dedupe", source=written(tmp_path / "set", *rows)))
    assert first["near"] > 0
    second = result_of(run_here("dataset.dedupe", source=first["dataset"]))
    assert (second["examples"], second["removed"]) == (first["examples"], 0)


def test_a_dataset_of_which_nothing_would_be_left_fails_and_says_so(run_here: RunHere, tmp_path: Path):
    holdout = written(tmp_path / "holdout", record("Why?"))
    job = run_here("dataset.dedupe", source=written(tmp_path / "set", record("why?")), against=[holdout])
    assert (job.state, job.cause) == (State.FAILED, Cause.DATA)
    assert "all 1 examples" in str(job.failure)


@pytest.mark.parametrize("rows", [(), (record("Why?"),)])
def test_one_example_stays_and_none_is_refused(run_here: RunHere, tmp_path: Path, rows: tuple[Record, ...]):
    job = run_here("dataset.dedupe", source=written(tmp_path / "set", *rows))
    assert job.state == (State.SUCCEEDED if rows else State.FAILED)
