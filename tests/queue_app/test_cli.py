"""The command line: what it prints where, its exit codes, and how little it loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from queue_app.cli import context
from queue_app.cli.application import run
from queue_app.cli.outcome import show_outcome
from queue_app.lifecycle import Cause, Event
from queue_app.store import Job, NewJob, Store
from settings import get_settings
from tests.queue_app.test_news import TRAINED
from tests.yard import ROOT

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "unsloth", "openai", "together", "mistralai", "celery")


@pytest.fixture(autouse=True)
def _fresh_context() -> None:
    get_settings.cache_clear()
    context.store.cache_clear()


@pytest.fixture
def yard(_fresh_context: None) -> Store:
    """The store that the commands see."""
    return context.store()


def submit(store: Store, event: Event | None = None, **changes: Any) -> str:
    new = NewJob(kind="dataset.split", queue="cpu", spec={"source": "x"}, step="parts")
    store.submit([new], actor="user:test")
    if event is not None:
        store.claim(worker="w", lease_seconds=60, job_id=new.id)
        store.record(new.id, event, actor="w", **changes)
    return new.id


def test_a_list_of_jobs_in_three_dresses(yard: Store, capsys: pytest.CaptureFixture[str]):
    ids = [submit(yard), submit(yard, Event.SUCCEEDED, result={})]
    assert run(["jobs", "ls"]) == 0
    table = capsys.readouterr()
    assert all(job_id in table.out for job_id in ids)
    assert "tuneyard jobs show" in table.err
    assert run(["jobs", "ls", "-q", "--state", "succeeded"]) == 0
    assert capsys.readouterr().out.split() == [ids[1]]
    assert run(["jobs", "ls", "--json"]) == 0
    out = capsys.readouterr().out
    assert {row["id"] for row in json.loads(out)} == set(ids)
    assert json.loads(out)[0]["submitted_at"].endswith("Z")


def test_no_table_passes_100_columns(yard: Store, capsys: pytest.CaptureFixture[str]):
    job_id = submit(yard, Event.FAILED, cause=Cause.DATA, failure="long " * 60)
    for command in (["jobs", "ls"], ["jobs", "events", job_id], ["kinds"], ["kinds", "model.pull"], ["models", "ls"]):
        assert run(command) == 0
        assert max(map(len, capsys.readouterr().out.splitlines()), default=0) <= 100, command


@pytest.mark.parametrize("words", ["a [/INST] b", "tuneyard[train]", "[bold]"])
def test_brackets_are_text_wherever_they_come_from(yard: Store, capsys: pytest.CaptureFixture[str], words: str):
    job_id = submit(yard, Event.FAILED, cause=Cause.PROVIDER, failure=words)
    yard.submit([NewJob(kind="dataset.split", queue="cpu", spec={"source": words}, step=words[:20])], actor=words)
    for command in (["jobs", "show", job_id], ["jobs", "ls"], ["jobs", "events", job_id], ["jobs", "watch", job_id]):
        assert run(command) in (0, 1)
    shown = capsys.readouterr().out
    assert shown.count(words) >= 3
    show_outcome([yard.read.job(job_id)])
    assert words in capsys.readouterr().out


def test_a_job_shows_all_there_is_and_what_to_do(yard: Store, capsys: pytest.CaptureFixture[str]):
    job_id = submit(yard, Event.FAILED, cause=Cause.DATA, failure="support.jsonl line 17: no answer")
    assert run(["jobs", "show", job_id[:5]]) == 0
    shown = capsys.readouterr()
    assert "support.jsonl line 17: no answer" in shown.out
    assert f"tuneyard jobs retry {job_id}" in shown.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["jobs", "show", "nobody"], 4, 'there is no job "nobody"'),
        (["jobs", "submit", "dataset.spilt"], 3, 'did you mean "dataset.split"?'),
        (["jobs", "submit", "model.pull", "modle=x"], 3, 'did you mean "model"?'),
        (["jobs", "submit", "model.pull", "--modle", "x"], 3, "--model"),
        (["jobs", "submit", "model.pull"], 3, '"model" is missing'),
        (["jobs", "submit", "model.pull", "nonsense"], 3, '"nonsense" is no key=value'),
        (["jobs", "submit", "model.pull", "--model", "x", "--queue", "gpu"], 3, 'does not run on queue "gpu"'),
        (["jobs", "submit", "model.pull", "--model", "x", "--timeout", "8 parsecs"], 3, "--timeout 8 parsecs"),
        (["kinds", "model.pul"], 3, 'did you mean "model.pull"?'),
        (["plan", "nowhere.yaml"], 4, "nowhere.yaml"),
        (["run", "nowhere.yaml"], 4, "nowhere.yaml"),
        (["worker", "gpus"], 3, 'did you mean "gpu"?'),
        (["jobs", "lss"], 3, "lss"),
        (["chat", "nobody"], 4, "nobody"),
    ],
)
def test_bad_input_gets_one_message_and_its_exit_code(
    capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
):
    assert run(arguments) == code
    said = capfd.readouterr()
    assert says in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_nothing_is_submitted_by_a_bad_command(yard: Store):
    run(["jobs", "submit", "model.pull", "modle=x"])
    assert yard.read.ls() == []


def test_after_a_submission_come_the_next_commands(yard: Store, capsys: pytest.CaptureFixture[str]):
    assert run(["jobs", "submit", "model.pull", "model=smollm2-135m", "--priority", "7", "--timeout", "2h"]) == 0
    said = capsys.readouterr()
    [job] = yard.read.ls()
    assert (job.spec, job.priority, job.timeout_seconds) == ({"model": "smollm2-135m"}, 7, 7200.0)
    assert job.id in said.out
    for verb in ("logs -f", "wait", "cancel"):
        assert f"tuneyard jobs {verb} {job.id}" in said.err


def test_waiting_tells_how_the_jobs_ended(yard: Store):
    good, bad = submit(yard, Event.SUCCEEDED, result={}), submit(yard, Event.FAILED, cause=Cause.BUG)
    gated, queued = submit(yard, Event.FAILED, cause=Cause.GATE), submit(yard)
    assert run(["jobs", "wait", good]) == 0
    assert run(["jobs", "wait", good, bad]) == 1
    assert run(["jobs", "wait", gated]) == 2
    assert run(["jobs", "wait", queued, "--timeout", "0.3s"]) == 124


def test_jobs_are_cancelled_paused_resumed_and_retried(yard: Store, capsys: pytest.CaptureFixture[str]):
    job_id = submit(yard)
    for verb, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled"), ("retry", "queued")):
        assert run(["jobs", verb, job_id]) == 0
        assert state in capsys.readouterr().out
    actors = {event.actor for event in yard.read.history(job_id)}
    assert all(actor.startswith("user:") for actor in actors)
    assert run(["jobs", "resume", job_id]) == 3


def test_logs_are_shown_by_source_and_tail(yard: Store, capsys: pytest.CaptureFixture[str]):
    job_id = submit(yard, Event.SUCCEEDED, result={})
    folder = context.settings().home / "jobs" / job_id / "logs"
    folder.mkdir(parents=True)
    (folder / "job.log").write_text("one\ntwo\nthree\n")
    (folder / "child.log").write_text("step 1\n")
    assert run(["jobs", "logs", job_id, "--source", "job", "--tail", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == ["job| two", "job| three"]
    assert run(["jobs", "logs", job_id]) == 0
    assert capsys.readouterr().out.splitlines() == ["child| step 1", "job| one", "job| two", "job| three"]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


def test_the_command_line_loads_no_torch_and_no_sdk():
    loaded = python(f"""if True:
        import sys
        import queue_app.cli.application
        print([name for name in {HEAVY} if name in sys.modules])
    """)
    assert loaded.strip() == "[]"


def test_commands_that_only_read_load_no_sqlalchemy(yard: Store):
    done = submit(yard, Event.SUCCEEDED, result={})
    for_one = [["jobs", verb, done] for verb in ("show", "events", "logs", "wait", "watch")]
    program = f"""if True:
        import sys
        from queue_app.cli.application import run
        codes = [run(words) for words in {[["jobs", "ls"], ["models", "ls"], *for_one]}]
        print(codes, [name for name in ("sqlalchemy", "sqlmodel", "alembic") if name in sys.modules])
    """
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout.splitlines()[-1] == f"{[0] * 7} []"
    assert done in told.stdout


def test_every_job_type_loads_without_torch_and_without_an_sdk():
    loaded = python(f"""if True:
        import sys
        from queue_app.job_type import find_job_type, kinds
        assert len([find_job_type(kind) for kind in kinds()]) >= 7
        print([name for name in {HEAVY} if name in sys.modules])
    """)
    assert loaded.strip() == "[]"


def test_a_settings_mistake_is_a_message(tmp_path: Path):
    (tmp_path / "tuneyard.toml").write_text("[queue]\nlease_secnds = 3\n")
    done = subprocess.run(
        [sys.executable, "-m", "queue_app.cli", "jobs", "ls"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert "queue.lease_secnds" in done.stderr


def test_waiting_in_vain_still_tells_how_the_jobs_stand(yard: Store, capsys: pytest.CaptureFixture[str]):
    job_id = submit(yard)
    assert run(["jobs", "wait", job_id, "--timeout", "0.1s", "--json"]) == 124
    assert [row["state"] for row in json.loads(capsys.readouterr().out)] == ["queued"]


def test_watching_and_logs_speak_to_machines_in_lines(yard: Store, capsys: pytest.CaptureFixture[str]):
    job_id = submit(yard, Event.SUCCEEDED, result={})
    assert run(["jobs", "watch", job_id, "--json"]) == 0
    assert [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()] == ["succeeded"]
    folder = context.settings().home / "jobs" / job_id / "logs"
    folder.mkdir(parents=True)
    (folder / "job.log").write_text("one\ntwo\n")
    for tail in ([], ["--tail", "2"]):
        assert run(["jobs", "logs", job_id, "--json", *tail]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert lines == [{"source": "job", "line": "one"}, {"source": "job", "line": "two"}]


@pytest.mark.parametrize("arguments", [[], ["jobs"], ["jobs", "submit"]])
def test_a_command_without_its_verb_shows_help_and_no_empty_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
):
    assert run(arguments) == 3
    said = capsys.readouterr()
    assert "Usage" in said.out
    assert "error" not in said.err


@pytest.mark.parametrize("typed", ["gpt # four", "'quoted'", "2024-13-45", "!!int x", "null", "[/INST]", "a: b", "*"])
def test_a_text_is_taken_as_it_was_typed(yard: Store, capsys: pytest.CaptureFixture[str], typed: str):
    words = ["jobs", "submit", "finetune.hosted", "--dataset", "x", "--base-model", typed, f"suffix={typed}", "--json"]
    assert run(words) == 0
    spec = json.loads(capsys.readouterr().out)["spec"]
    assert (spec["base_model"], spec["suffix"]) == (typed, typed)


def test_numbers_lists_and_what_is_neither_are_told_apart(yard: Store, capsys: pytest.CaptureFixture[str]):
    words = ["jobs", "submit", "adapter.train", "base_model=x", "dataset=y", "--json"]
    assert run([*words, "learning_rate=5e-4", "target_modules=[q_proj, v_proj]"]) == 0
    spec = json.loads(capsys.readouterr().out)["spec"]
    assert (spec["learning_rate"], spec["target_modules"]) == (5e-4, ["q_proj", "v_proj"])
    assert run([*words, "learning_rate=[1"]) == 3
    assert "is not a YAML value" in capsys.readouterr().err
    assert run([*words, "lora_r=many"]) == 3


def test_an_interrupt_while_a_command_is_still_being_imported_ends_it_without_a_traceback():
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "class Interrupt:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'queue_app.cli.application':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from queue_app.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_priority_beyond_reason_is_refused(capsys: pytest.CaptureFixture[str]):
    assert run(["jobs", "submit", "model.pull", "model=x", "--priority", "99999999999999999999"]) == 3
    assert "--priority" in capsys.readouterr().err


def ended(store: Store, kind: str, step: str, result: dict[str, Any]) -> Job:
    new = NewJob(kind=kind, queue="cpu", spec={}, step=step)
    store.submit([new], actor="user:test")
    store.claim(worker="w", lease_seconds=60, job_id=new.id)
    return store.record(new.id, Event.SUCCEEDED, actor="w", result=result)


def test_an_outcome_passes_over_figures_that_are_no_numbers(yard: Store, capsys: pytest.CaptureFixture[str]):
    told = {"examples": 12, "tokens": {"total": 468, "counter": "o200k_base"}}
    show_outcome([ended(yard, "dataset.split", "parts", told)])
    out = capsys.readouterr().out
    assert "12 examples" in out
    assert "468" not in out


def test_an_outcome_shows_every_step_of_a_matrix_and_hosted_models_by_name(
    yard: Store, capsys: pytest.CaptureFixture[str]
):
    training = TRAINED | {"steps": 3}
    hosted = {"model": "ft:small:x", "provider": "sandbox", "remote_job": "j1", "examples": 4, "steps": None}
    show_outcome(
        [
            ended(yard, "adapter.train", "train-8", training | {"tokens_per_second": 12.4}),
            ended(yard, "adapter.train", "train-16", training | {"tokens_per_second": None}),
            ended(yard, "finetune.hosted", "tune", hosted),
        ]
    )
    shown = capsys.readouterr().out
    assert "ft:small:x at sandbox" in shown
    assert "12 tokens/s on cpu by trl   [train-8]" in shown
    assert "speed not measured on cpu by trl   [train-16]" in shown


def test_an_outcome_shows_where_the_files_lie_that_no_step_went_on_with(
    yard: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runner = context.runner("cli")

    def made(name: str, kind: str, *parents: str) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.jsonl").write_text(name)
        return runner.artifacts.publish(tmp_path / name, kind=kind, name=None, job_id=None, parents=parents).id

    raw = made("raw", "dataset")
    mixed = made("mixed", "dataset", raw)
    exported = made("openai", "export", mixed)
    show_outcome(
        [
            ended(yard, "dataset.export", "raw", {"dataset": raw}),
            ended(yard, "dataset.mix", "mixed", {"dataset": None, "datasets": {"math": mixed}}),
            ended(yard, "dataset.convert", "openai", {"dataset": exported, "examples": 3}),
        ]
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if ".jsonl" in line]
    assert [Path(line.split()[1]).read_text() for line in lines] == ["openai"]
    assert lines[0].endswith("[openai]")
