"""The commands for jobs and recipes where input is many, half, ambiguous, or beyond the terminal's letters."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from queue_app.cli import context
from queue_app.cli.application import run
from queue_app.lifecycle import Event, Reason
from queue_app.shipped import find_shipped
from queue_app.store import NewJob, Store
from settings import get_settings
from tests.conftest import eventually
from tests.yard import ROOT


@pytest.fixture
def yard() -> Store:
    """The store that the commands see."""
    get_settings.cache_clear()
    context.store.cache_clear()
    return context.store()


def submit(store: Store, job_id: str, run_id: str | None = None, *, ended: bool = True) -> str:
    new = NewJob(kind="dataset.split", queue="cpu", spec={}, id=job_id, run_id=run_id, step="parts")
    store.submit([new], actor="user:test", recipe=(run_id, "test", "") if run_id else None)
    if ended:
        store.claim(worker="w", lease_seconds=60, job_id=job_id)
        store.record(job_id, Event.SUCCEEDED, actor="w", result={})
    return job_id


def log_of(job_id: str) -> Path:
    folder = context.settings().home / "jobs" / job_id / "logs"
    folder.mkdir(parents=True)
    return folder / "job.log"


def test_each_of_several_jobs_is_acted_on_and_each_refusal_is_told(yard: Store, capsys: pytest.CaptureFixture[str]):
    first, last = submit(yard, "first", ended=False), submit(yard, "last", ended=False)
    done = submit(yard, "done")
    assert run(["jobs", "cancel", first, done, "nobody", last]) == 4
    said = capsys.readouterr()
    assert said.out.splitlines() == ["first  cancelled", "last  cancelled"]
    assert "error: job done has ended already" in said.err
    assert 'error: there is no job "nobody"' in said.err
    assert [yard.read.job(job_id).state for job_id in (first, last)] == ["cancelled", "cancelled"]


def test_machines_learn_too_what_was_moved_before_a_refusal(yard: Store, capsys: pytest.CaptureFixture[str]):
    first, done = submit(yard, "first", ended=False), submit(yard, "done")
    assert run(["jobs", "cancel", first, done, "--json"]) == 3
    said = capsys.readouterr()
    assert [(job["id"], job["state"]) for job in json.loads(said.out)] == [("first", "cancelled")]
    assert "job done has ended already" in said.err


def test_the_last_line_of_a_log_is_shown_without_its_line_end(yard: Store, capsys: pytest.CaptureFixture[str]):
    log_of(submit(yard, "done")).write_text("one\ntwo\nkilled he")
    assert run(["jobs", "logs", "done"]) == 0
    assert capsys.readouterr().out.splitlines() == ["job| one", "job| two", "job| killed he"]
    for tail, shown in (("0", []), ("2", ["job| two", "job| killed he"])):
        assert run(["jobs", "logs", "done", "--tail", tail]) == 0
        assert capsys.readouterr().out.splitlines() == shown
    assert run(["jobs", "logs", "-f", "done"]) == 0
    assert capsys.readouterr().out.endswith("job| killed he\n")


def test_a_line_that_is_followed_while_it_is_written_comes_whole(yard: Store, capsys: pytest.CaptureFixture[str]):
    log = log_of(submit(yard, "busy", ended=False))
    log.write_text("zero\none\nha")
    said = ""

    def has_said(word: str) -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return word in said

    follower = threading.Thread(target=run, args=(["jobs", "logs", "-f", "--tail", "1", "busy"],))
    follower.start()
    eventually(lambda: has_said("one"), what="the first look")
    with log.open("a") as stream:
        stream.write("lf\nthe en")
    eventually(lambda: has_said("half"), what="the second look")
    with log.open("a") as stream:
        stream.write("d")
    yard.cancel("busy", actor="user:test")
    follower.join(20)
    assert has_said("the end")
    assert said.splitlines() == ["job| one", "job| half", "job| the end"]


def test_what_cannot_be_read_is_one_line(yard: Store, capsys: pytest.CaptureFixture[str]):
    log = log_of(submit(yard, "done"))
    log.mkdir()
    assert run(["jobs", "logs", "done"]) == 1
    assert f"error: {log.absolute()}: Is a directory; `tuneyard doctor`" in capsys.readouterr().err


def test_a_prefix_of_a_run_and_of_a_job_is_not_guessed_at(yard: Store, capsys: pytest.CaptureFixture[str]):
    submit(yard, "step", run_id="abc1")
    submit(yard, "abc2")
    assert run(["jobs", "watch", "abc", "--json"]) == 3
    assert '"abc" fits a run (abc1) and a job (abc2)' in capsys.readouterr().err
    for prefix, job_id in (("abc1", "step"), ("abc2", "abc2")):
        assert run(["jobs", "watch", prefix, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["id"] == job_id


def test_a_prefix_of_several_runs_is_no_run(yard: Store, capsys: pytest.CaptureFixture[str]):
    submit(yard, "one", run_id="abc1")
    submit(yard, "two", run_id="abc2")
    submit(yard, "abcx")
    for command in (["jobs", "watch", "abc"], ["jobs", "ls", "--run", "abc"]):
        assert run(command) == 3
        assert '"abc" fits several runs (abc1, abc2)' in capsys.readouterr().err
    assert run(["jobs", "watch", "abcd"]) == 4
    assert 'there is no job and no run "abcd"' in capsys.readouterr().err


def test_a_filter_that_fits_no_job_is_not_taken_for_an_empty_yard(yard: Store, capsys: pytest.CaptureFixture[str]):
    assert run(["jobs", "ls", "--state", "running"]) == 0
    assert "no job is like that" in capsys.readouterr().err
    assert run(["jobs", "ls"]) == 0
    assert "no jobs yet" in capsys.readouterr().err


def test_whoever_waits_for_a_job_learns_that_it_waits_for_them(yard: Store, capsys: pytest.CaptureFixture[str]):
    job_id = submit(yard, "dear", ended=False)
    yard.claim(worker="w", lease_seconds=60, job_id=job_id)
    yard.record(job_id, Event.POLL_SCHEDULED, actor="w", reason=Reason.APPROVAL, due_at=None)
    assert run(["jobs", "wait", job_id, "--timeout", "0.1s"]) == 124
    assert capsys.readouterr().err.count("waiting for your approval: `tuneyard approve dear`") == 1


def test_counts_are_read_by_threes_and_a_spec_as_it_was_typed(yard: Store, capsys: pytest.CaptureFixture[str]):
    new = NewJob(kind="dataset.split", queue="cpu", spec={"seed": 123456}, id="done")
    yard.submit([new], actor="user:test")
    yard.claim(worker="w", lease_seconds=60, job_id="done")
    made = {"examples": 5216, "share": 0.25, "found": {"rule": 1000}, "exact": True}
    yard.record("done", Event.SUCCEEDED, actor="w", result=made)
    assert run(["jobs", "show", "done"]) == 0
    shown = capsys.readouterr().out
    for words in ("seed = 123456", "examples = 5,216", "share = 0.25", "rule = 1,000", "exact = True"):
        assert words in shown


@pytest.mark.parametrize("words", [["jobs", "lss"], ["data", "shw"], ["jobs", "show"], ["gc", "--delet"]])
def test_what_was_mistyped_is_told_with_where_to_look(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert run(words) == 3
    path = " ".join(["tuneyard", *words[: 2 if words == ["jobs", "show"] else 1]])
    assert f"`{path} --help` lists what it takes" in capsys.readouterr().err


def test_no_run_is_not_every_run(yard: Store, capsys: pytest.CaptureFixture[str]):
    submit(yard, "one", run_id="abc1")
    assert run(["jobs", "ls", "--run", ""]) == 4
    said = capsys.readouterr()
    assert (said.out, 'there is no run ""' in said.err) == ("", True)


def test_the_next_command_of_a_plan_can_be_pasted(yard: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe, texts = tmp_path / "my recipe.yaml", tmp_path / "it's mine"
    recipe.write_bytes((find_shipped("recipes") / "demo.yaml").read_bytes())
    texts.mkdir()
    changed = ["--set", f"steps.chunks.source={texts}"]
    assert run(["plan", str(recipe), *changed]) == 0
    assert shlex.split(capsys.readouterr().err) == ["tuneyard", "run", str(recipe), *changed]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("command", ["kinds dataset.prepare", "plan DEMO", "jobs events polled"])
def test_a_terminal_that_lacks_letters_shows_what_it_can(yard: Store, encoding: str, command: str):
    submit(yard, "polled", ended=False)
    for _ in range(6):
        yard.record("polled", Event.STARTED, actor="w")
        yard.record("polled", Event.POLL_SCHEDULED, actor="w")
    words = command.replace("DEMO", str(find_shipped("recipes") / "demo.yaml")).split()
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run([sys.executable, "-m", "queue_app.cli", *words], capture_output=True, check=False, env=env)
    assert (shown.returncode, b"Traceback" in shown.stderr) == (0, False)
    assert b"?" in shown.stdout or encoding == "latin-1"
