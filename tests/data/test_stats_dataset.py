"""`dataset.stats` says exactly what is in a small known dataset, and `tuneyard data show` can draw it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import toktok

from queue_app.lifecycle import Cause, State
from tests.data.outcomes import result_of

if TYPE_CHECKING:
    from tests.conftest import RunHere

QUESTIONS = [f"What is {n} and {n}? " + "Think. " * n for n in range(40)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = [
        {
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "A number."}],
            "category": "even" if number % 2 == 0 else "odd",
            "weight": 0.5,
        }
        for number, question in enumerate(QUESTIONS)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n", encoding="utf-8")
    return path


def statistics(run_here: RunHere, artifact: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_here.artifact(artifact) / "statistics.json").read_text(encoding="utf-8"))
    return found


def test_the_figures_are_those_of_the_rows(run_here: RunHere, source: Path):
    result = result_of(run_here("dataset.stats", source=str(source), tokenizers=["o200k_base", "cl100k_base"]))
    assert (result["examples"], result["messages"], result["bad_rows"]) == (40, 80, 1)
    assert "rows.jsonl line 41" in result["first_bad"][0]
    assert result["categories"] == {"even": 20, "odd": 20}
    assert result["roles"] == {"user": 40, "assistant": 40}
    assert result["weight_total"] == 20
    texts = [text for question in QUESTIONS for text in (question, "A number.")]
    for name in ("o200k_base", "cl100k_base"):
        assert result["tokens"][name] == sum(toktok.batch_count(texts, name))
    assert result["characters"] == sum(map(len, texts)) + 40  # what stands between two messages


def test_the_bars_hold_every_example(run_here: RunHere, source: Path):
    found = statistics(run_here, result_of(run_here("dataset.stats", source=str(source)))["statistics"])
    assert found["examples"] == 40
    assert sum(bar["examples"] for bar in found["histogram"]) == 40
    assert found["histogram"] == found["histograms"]["tokens o200k_base"]
    assert {"characters", "turns", "answer characters"} <= found["histograms"].keys()
    assert found["profile"]["category"]["distinct"] == 2


def test_without_a_tokenizer_there_is_no_histogram_of_tokens(run_here: RunHere, source: Path):
    result = result_of(run_here("dataset.stats", source=str(source), tokenizers=[]))
    assert result["tokens"] == {}
    assert "histogram" not in statistics(run_here, result["statistics"])


def test_languages_and_balance_are_measured_when_asked_for(run_here: RunHere, source: Path):
    result = result_of(run_here("dataset.stats", source=str(source), languages=True, balance=True))
    profile = statistics(run_here, result["statistics"])["profile"]
    assert profile["languages"]["sampled"] == 40
    assert profile["balance"] is not None


def test_a_file_without_a_readable_row_is_said_to_have_none(run_here: RunHere, tmp_path: Path):
    (tmp_path / "bad.jsonl").write_text("{\n{\n")
    job = run_here("dataset.stats", source=str(tmp_path / "bad.jsonl"))
    assert (job.state, job.cause) == (State.FAILED, Cause.DATA)
    assert "2 bad rows" in (job.failure or "")


def test_a_tokenizer_that_is_not_known_is_refused(run_here: RunHere, source: Path):
    job = run_here("dataset.stats", source=str(source), tokenizers=["o300k"])
    assert job.state == State.FAILED
    assert 'no vocabulary is known for "o300k"' in (job.failure or "")


def test_personal_keys_are_masked_also_where_a_row_is_bad(run_here: RunHere, tmp_path: Path):
    person = "margarete.mustermann@stadtwerke-nordheim.de"
    row = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}], person: 1}
    bad = {"messages": [{"role": "user", "content": "Who?", person: 1}]}
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(bad)}\n", encoding="utf-8")
    result = result_of(run_here("dataset.stats", source=str(tmp_path / "rows.jsonl"), from_format="chat"))
    found = statistics(run_here, result["statistics"])
    assert list(found["unknown_keys"].values()) == [1]
    assert result["bad_rows"] == 1
    assert person not in json.dumps([found, result])
    assert "line 2: messages" in result["first_bad"][0]
