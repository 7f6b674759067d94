"""`tuneyard data …`: commands over data sets that need no worker, and what is shown of a data set."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from queue_app.cli import context
from queue_app.cli.application import MISSING, OK, REFUSED, USAGE, run
from settings import get_settings
from tests.tiny_model import make_tiny_model


@pytest.fixture(autouse=True)
def _fresh_context() -> None:
    get_settings.cache_clear()
    context.store.cache_clear()


@pytest.fixture
def dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A prepared data set's id."""
    story = "".join(f"Night {n}: the yard is quiet, and {n} trains stand in long rows.\n\n" for n in range(60))
    (tmp_path / "story.txt").write_text(story)
    model = str(make_tiny_model(tmp_path / "model"))
    assert run(["data", "prepare", "story.txt", "--base-model", model, "--max-tokens", "200", "-q"]) == OK
    assert run(["data", "ls", "-q"]) == OK
    return capsys.readouterr().out.split()[-1]


def test_a_data_command_runs_at_once_and_tells_its_result(dataset: str, capsys: pytest.CaptureFixture[str]):
    assert run(["data", "split", dataset, "holdout=0.3"]) == OK
    out = capsys.readouterr()
    assert "dataset.split  succeeded" in out.out
    assert "train = sha256:" in out.out
    assert "tuneyard jobs show " in out.err


def test_a_data_command_can_be_left_to_a_worker(dataset: str, capsys: pytest.CaptureFixture[str]):
    assert run(["data", "split", dataset, "--enqueue", "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["state"] == "queued"


def test_yes_and_no_are_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], "weight": 0.5}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(12)))
    assert run(["data", "check", "rows.jsonl", "--target", "openai"]) == REFUSED
    assert "rows.jsonl line 1: weight: openai knows no key" in capsys.readouterr().err
    assert run(["data", "check", "rows.jsonl", "--target", "openai", "--fix"]) == OK
    assert run(["data", "check", "rows.jsonl", "--target", "openai", "fix=true", "--no-count-tokens"]) == OK


def test_a_refusal_counts_by_threes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], "weight": 0.5}
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 1100)
    assert run(["data", "check", "rows.jsonl", "--target", "openai"]) == REFUSED
    said = capsys.readouterr().err
    for words in ("1,100 findings stand in the way", "… and 1,095 more", "--fix repairs 1,100 of them"):
        assert words in said


def test_every_job_type_of_data_sets_is_a_command(capsys: pytest.CaptureFixture[str]):
    assert run(["data", "--help"]) == OK
    out = capsys.readouterr().out
    assert all(f" {verb} " in out for verb in ("ls", "prepare", "show", "split"))
    assert " train " not in out


def test_a_data_set_shows_its_figures_and_what_it_was_made_from(dataset: str, capsys: pytest.CaptureFixture[str]):
    assert run(["data", "split", dataset, "holdout=2", "-q"]) == OK
    assert run(["data", "ls", "-q"]) == OK
    side = capsys.readouterr().out.split()[1]
    assert run(["data", "show", side[7:15]]) == OK
    lines = capsys.readouterr().out.splitlines()
    assert side[7:19] in lines[0]
    assert lines[1].startswith("dataset.split")
    assert dataset[7:19] in lines[2]
    assert "dataset.prepare" in lines[3]
    assert "source=story.txt" in lines[3]
    assert any(line.startswith("examples") for line in lines)
    assert any("█" in line for line in lines), "no histogram"
    assert max(len(line) for line in lines if not line.startswith("/")) <= 100  # a path is shown whole


def test_the_last_bar_of_statistics_has_no_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sizes = [*(n % 40 + 1 for n in range(300)), 4000]
    rows = [{"prompt": "word " * size, "completion": "ok"} for size in sizes]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run(["data", "stats", str(tmp_path / "rows.jsonl"), "--json"]) == OK
    made = json.loads(capsys.readouterr().out)["result"]["statistics"]
    assert run(["data", "show", made]) == OK
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if "█" in line][-1] == "≥"
    assert "data audit" not in shown


def test_a_list_outlives_the_content_of_what_it_lists(dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["data", "split", dataset, "holdout=2", "--json"]) == OK
    result = json.loads(capsys.readouterr().out)["result"]
    shutil.rmtree(tmp_path / "home" / "artifacts" / dataset.removeprefix("sha256:"))
    assert run(["data", "ls"]) == OK
    lines = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert lines[result["train"][7:19]] == str(result["train_examples"])
    assert lines[result["holdout"][7:19]] == "2"
    assert lines[dataset[7:19]] == str(result["examples"])


def test_what_was_converted_is_listed_with_its_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Why?", "completion": "So."}\n' * 3)
    assert run(["data", "convert", "rows.jsonl", "--to", "chat", "-q"]) == OK
    assert run(["data", "ls"]) == OK
    header, line = capsys.readouterr().out.splitlines()[-2:]
    assert (header.split()[1], line.split()[1]) == ("EXAMPLES", "3")


def test_an_export_shows_what_its_format_could_not_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Why?", "completion": "So.", "weight": 0.5}\n' * 3)
    assert run(["data", "convert", "rows.jsonl", "--to", "openai", "--json"]) == OK
    made = json.loads(capsys.readouterr().out)["result"]["dataset"]
    assert run(["data", "show", made]) == OK
    out = capsys.readouterr().out
    assert re.search(r"^examples +3\b", out, re.MULTILINE)
    assert re.search(r"^DROPPED +COUNT *\nweight +3\b", out, re.MULTILINE)


def test_a_sample_shows_its_strata(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"prompt": str(n), "completion": "So.", "weight": 1 if n % 3 else 0.5} for n in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(["data", "sample", "rows.jsonl", "size=6", "by=weight", "--json"]) == OK
    made = json.loads(capsys.readouterr().out)["result"]["dataset"]
    assert run(["data", "show", made]) == OK
    out = capsys.readouterr().out
    assert re.search(r"^STRATA +HAVE +WANTED +DRAWN *\n0.5 +3 +2 +2 *\n1 +6 +4 +4\b", out, re.MULTILINE)


def test_a_report_shows_its_figures_its_gate_and_where_it_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Why?", "completion": "So."}\n' * 3)
    assert run(["data", "audit", "rows.jsonl", "max_duplicates=0", "max_secrets=0"]) == REFUSED
    said = capsys.readouterr().err
    shown = re.search(r"`tuneyard data show (\w+)`", said)
    assert shown is not None, said
    assert run(["data", "show", shown[1]]) == OK
    out = capsys.readouterr().out
    assert re.search(r"^Duplicates +2\b", out, re.MULTILINE)
    assert re.search(r"^max_duplicates=0 +failed\b", out, re.MULTILINE)
    assert re.search(r"^max_secrets=0 +passed\b", out, re.MULTILINE)
    files = [Path(line) for line in out.splitlines() if line.startswith("/")]
    assert [file.name for file in files] == ["report.html", "report.json", "report.md"]
    assert all(file.is_file() for file in files)


def test_lineage_speaks_to_machines(dataset: str, capsys: pytest.CaptureFixture[str]):
    assert run(["data", "split", dataset, "holdout=2", "-q"]) == OK
    assert run(["data", "ls", "-q"]) == OK
    side = capsys.readouterr().out.split()[1]
    assert run(["data", "show", side, "--json"]) == OK
    shown = json.loads(capsys.readouterr().out)
    assert shown["lineage"]["job"]["kind"] == "dataset.split"
    assert [parent["id"] for parent in shown["lineage"]["parents"]] == [dataset]
    assert shown["statistics"]["examples"] > 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["data", "show", "nothing"], MISSING, 'no artifact, name or path "nothing"'),
        (["data", "split"], USAGE, "Missing argument 'SOURCE'"),
        (["data", "splitt", "x.jsonl"], USAGE, "No such command 'splitt'"),
        (["data", "split", "x.jsonl", "holdoot=3"], USAGE, 'no option "holdoot"; did you mean "holdout"?'),
        (["data", "split", "nowhere.jsonl"], MISSING, 'no artifact, name or path "nowhere.jsonl"'),
    ],
)
def test_bad_input_gets_one_message_and_its_exit_code(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
):
    assert run(words) == code
    out = capsys.readouterr()
    assert said in out.err + out.out
    assert "Traceback" not in out.err
