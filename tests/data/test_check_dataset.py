"""`dataset.check` as a job."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from subprocess import run
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from api_worker.catalogue import catalogue
from queue_app.lifecycle import Cause, State
from tasks.check_dataset import CheckDataset
from tasks.data.checking.closings import Standing, standing
from tasks.data.record import Message, Record
from tasks.data.writing import DatasetWriter
from tests.tiny_model import CONTEXT, make_tiny_model

if TYPE_CHECKING:
    from tests.conftest import RunHere

KNOWN = catalogue()
PLAIN = {"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "There."}]}
BESIDE = {"weight": 0.4, "source_agent": "a", "target_agent": "b", "cross_agent_weight": 0.4, "metadata": {"k": 1}}


def write_file(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def write_dataset(folder: Path, answer: str = "There.") -> str:
    with DatasetWriter(folder) as writer:
        for _ in range(10):
            writer.write(Record([Message("user", "Where?"), Message("assistant", answer)], source_agent="a"))
    return str(folder)


def test_a_blocked_file_fails_at_the_gate_and_its_report_is_kept(run_here: RunHere, tmp_path: Path) -> None:
    source = write_file(tmp_path / "train.jsonl", [PLAIN] * 10 + [PLAIN | BESIDE])
    job = run_here("dataset.check", source=source, target="openai")
    assert (job.state, job.cause) == (State.FAILED, Cause.GATE)
    assert f"{source} line 11: weight:" in str(job.failure)
    report = next(word.rstrip(";") for word in str(job.failure).split() if word.startswith("sha256:"))
    findings = (run_here.artifact(report) / "findings.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["field"] for line in findings] == list(BESIDE)


def test_a_repaired_file_is_published_and_passes(run_here: RunHere, tmp_path: Path) -> None:
    source = write_file(tmp_path / "train.jsonl", [PLAIN | BESIDE] * 10)
    made = run_here("dataset.check", source=source, target="openai", fix=True).result or {}
    assert made["fixed"] == {"openai.unknown-key": 50}
    assert made["dropped"] == dict.fromkeys(BESIDE, 10)
    again = run_here("dataset.check", source=made["dataset"], target="openai", fix=True)
    assert again.state is State.SUCCEEDED
    assert (again.result or {})["found"] == {}
    assert made["dataset"] == made["repaired"] == (again.result or {})["dataset"], "nothing to repair, and no copy"


def test_a_dataset_is_converted_first_and_what_is_dropped_is_told(run_here: RunHere, tmp_path: Path) -> None:
    made = run_here("dataset.check", source=write_dataset(tmp_path / "set"), target="openai").result or {}
    assert made["dropped"] == {"source_agent": 10}
    assert made["tokens"]["counter"] == "o200k_base"
    assert (made["repaired"], made["dataset"]) == (None, str(tmp_path / "set"))


def test_an_export_is_checked_as_it_stands(run_here: RunHere, tmp_path: Path) -> None:
    export = (run_here("dataset.convert", source=write_dataset(tmp_path / "set"), to="together").result or {})[
        "dataset"
    ]
    made = run_here("dataset.check", source=export, target="together").result or {}
    assert (made["examples"], made["dropped"], made["dataset"]) == (10, {}, export)
    (tmp_path / "own").mkdir()
    write_file(tmp_path / "own" / "openai.jsonl", [PLAIN | BESIDE] * 10)
    blocked = run_here("dataset.check", source=str(tmp_path / "own"), target="openai")
    assert "line 1: weight:" in str(blocked.failure)


@pytest.mark.parametrize(("file_type", "name"), [("csv", "CSV"), ("parquet", "Parquet")])
def test_an_export_that_is_no_jsonl_is_told_by_its_name(
    run_here: RunHere, tmp_path: Path, file_type: str, name: str
) -> None:
    source = write_dataset(tmp_path / "set")
    export = run_here("dataset.convert", source=source, to="together", file_type=file_type).result or {}
    job = run_here("dataset.check", source=export["dataset"], target="together")
    assert f"it is {name}, and no JSONL" in str(job.failure)


def test_a_rule_that_could_not_be_asked_is_told(tmp_path: Path) -> None:
    script = f"""
import sys
sys.modules["mistral_common"] = None  # as if it were not installed
from pathlib import Path
from tasks.data.checking.checker import Plan
from tasks.data.checking.checkup import Order, check
from tasks.data.checking.target import find_target
made = check(Order(Path({write_file(tmp_path / "rows.jsonl", [PLAIN] * 3)!r}),
    Plan("rows", find_target("mistral"), as_file=True), Path({str(tmp_path / "report")!r})))
assert not made.blocked
"""
    run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
    told = json.loads((tmp_path / "report" / "summary.json").read_bytes())
    assert told["skipped_rules"] == {"mistral.mistral-common": 3}
    assert "mistral.mistral-common was asked of no example: it needs `pip install mistral-common`" in told["notes"]


def test_a_local_dataset_is_measured_by_the_base_model(run_here: RunHere, tmp_path: Path) -> None:
    model = str(make_tiny_model(tmp_path / "model"))
    source = write_dataset(tmp_path / "set", answer="the yard runs " * 300)
    job = run_here("dataset.check", source=source, target="local", base_model=model)
    assert job.cause is Cause.GATE
    assert f"the context has {CONTEXT}" in str(job.failure)
    assert "local.example-tokens" in str(job.failure)


def test_an_unknown_base_model_of_a_provider_leads_to_an_estimate(run_here: RunHere, tmp_path: Path) -> None:
    source = write_dataset(tmp_path / "set")
    made = run_here("dataset.check", source=source, target="together", base_model="gemma-3-4b").result or {}
    assert made["tokens"]["exact"] is False
    assert any("estimate" in note for note in made["notes"])


def test_an_unknown_local_base_model_is_an_error(run_here: RunHere, tmp_path: Path) -> None:
    job = run_here("dataset.check", source=write_dataset(tmp_path / "set"), target="local", base_model="nowhere")
    assert job.state is State.FAILED
    assert "nowhere" in str(job.failure)


def test_a_base_model_that_reads_like_a_path_must_be_there(run_here: RunHere, tmp_path: Path) -> None:
    for path in ("./models/lama", str(tmp_path / "llama-3-8b")):
        job = run_here("dataset.check", source=write_dataset(tmp_path / "set"), target="together", base_model=path)
        assert job.state is State.FAILED
        assert path in str(job.failure)


def test_a_model_that_the_provider_has_retired_stands_in_the_way(run_here: RunHere, tmp_path: Path) -> None:
    source = write_dataset(tmp_path / "set")
    job = run_here("dataset.check", source=source, target="openai", base_model="gpt-3.5-turbo-0125")
    assert job.cause is Cause.GATE
    assert "1 finding stands in the way of openai" in str(job.failure)
    assert "base_model: gpt-3.5-turbo-0125: " in str(job.failure)
    assert "ended on 2026-10-23" in str(job.failure)
    assert "--fix" not in str(job.failure), "nothing is fixable"
    assert "--skip-bad" not in str(job.failure), "it is no matter of rows"


def test_rows_may_be_checked_for_a_provider_that_has_closed_and_that_it_has_is_said(
    run_here: RunHere, tmp_path: Path
) -> None:
    made = run_here("dataset.check", source=write_dataset(tmp_path / "set"), target="mistral").result or {}
    assert any(note.startswith("mistral: training ended on 2026-07-13") for note in made["notes"])


def test_closings_that_are_near_are_said_and_those_that_are_over_block() -> None:
    near, past = date(2026, 11, 21), date(2027, 1, 6)
    assert any("training ends on 2027-01-06 (46 days)" in note for note in standing(KNOWN, "openai", None, near).notes)
    assert standing(KNOWN, "openai", "gpt-4.1-2025-04-14", near).findings == ()
    assert [rule for rule, _, _ in standing(KNOWN, "openai_preference", "gpt-4.1-2025-04-14", past).findings] == [
        "closed"
    ]
    assert standing(KNOWN, "together", "meta-llama/Llama-3.3-70B-Instruct-Reference", past) == Standing()


def test_a_model_that_nobody_knows_is_said_with_the_nearest_and_blocks_where_all_are_known() -> None:
    [(rule, severity, problem)] = standing(KNOWN, "openai", "gpt-4.1-mimi", date(2026, 11, 21)).findings
    assert (rule, severity) == ("unknown-model", "blocking")
    assert "nearest: gpt-4.1-mini-2025-04-14" in problem.text
    somewhere = standing(KNOWN, "together", "meta-llama/Llama-3.1-8B", date(2026, 11, 21))
    assert somewhere.findings == ()
    assert any("nearest: meta-llama/Meta-Llama-3.1-8B-Instruct-Reference" in note for note in somewhere.notes)


def test_limits_of_ones_own_catalogue_go_before_those_that_come_along(run_here: RunHere, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[limit]]\ntargets = ["openai", "openai_preference"]\nmeasure = "examples"\nminimum = 40\n'
        'severity = "blocking"\nsource = "our contract"\ngrade = "P"\nseen = 2026-11-21\n'
    )
    source = write_file(tmp_path / "train.jsonl", [PLAIN] * 20)
    assert run_here("dataset.check", source=source, target="openai").state == State.SUCCEEDED
    strict = type(run_here)(run_here.store, run_here.settings.model_copy(update={"catalogue": own}))
    failed = strict.finish(strict.submit("dataset.check", source=source, target="openai", reuse=False))
    assert failed.state == State.FAILED
    assert "openai wants at least 40 (our contract, 2026-11-21)" in (failed.failure or "")


def test_the_way_to_a_repair_is_named_where_there_is_one(run_here: RunHere, tmp_path: Path) -> None:
    twice = [PLAIN] * 9 + [PLAIN | {"metadata": {}}, PLAIN | {"weight": 0}]
    job = run_here("dataset.check", source=write_file(tmp_path / "train.jsonl", twice), target="openai")
    assert "2 findings stand in the way" in str(job.failure)
    assert "; --fix repairs 1 of them safely; --skip-bad sets bad rows aside" in str(job.failure)
    mild: list[Any] = [PLAIN | {"metadata": {}}] * 10 + [PLAIN | {"messages": []}]
    job = run_here("dataset.check", source=write_file(tmp_path / "mild.jsonl", mild), target="nebius")
    assert "--fix" not in str(job.failure), "what it would repair stands in nobody's way"


def test_bad_rows_can_be_set_aside(run_here: RunHere, tmp_path: Path) -> None:
    source = write_file(tmp_path / "train.jsonl", [PLAIN] * 10 + [{"messages": []}])
    made = run_here("dataset.check", source=source, target="openai", skip_bad=True).result or {}
    assert (made["kept"], made["rejected"]) == (10, 1)
    assert (run_here.artifact(made["report"]) / "rejected.jsonl").is_file()
    assert len((run_here.artifact(made["repaired"]) / "openai.jsonl").read_bytes().splitlines()) == 10


def test_an_unknown_target_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match='did you mean "mistral"'):
        CheckDataset(source="x", target="mistal")
