"""A child does what it is told, tells what went wrong, and is never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpu_worker import child
from gpu_worker.child import ChildCrashed, _Pace, run_child
from gpu_worker.disk_room import no_room
from queue_app.errors import Cancelled, Paused, Permanent, Released, StaleTransition, Transient
from queue_app.lifecycle import Cause
from tests.conftest import eventually
from tests.gpu_worker.stand_in import MODULE, StandIn, is_alive

ROOT = Path(__file__).parents[2]


@pytest.fixture
def attempt(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


def raising(error: BaseException) -> Any:
    """A `heed` that raises once the child has shown its process id."""

    def heed(progress: dict[str, Any]) -> None:
        if "child" in progress:
            raise error

    return heed


def first_report(folder: Path) -> dict[str, int]:
    """What the child of `be_a_worker` reports first."""

    def written() -> str:
        text = (folder / "reports").read_text() if (folder / "reports").exists() else ""
        return "" if text == "[]" else text  # a look at a child that has said nothing yet

    reports: list[dict[str, int]] = json.loads(eventually(written, what="the child's first report"))
    return reports[0]


def test_every_step_of_a_child_is_reported_in_order(attempt: StandIn) -> None:
    seen: list[dict[str, Any]] = []
    result = run_child(attempt, MODULE, {"act": "count", "steps": 500}, seen.append)
    assert result == {"steps": 500}
    assert attempt.reports == seen == [{"step": step} for step in range(1, 501)]


def test_what_a_child_prints_is_in_the_jobs_log_and_not_in_its_progress(attempt: StandIn) -> None:
    run_child(attempt, MODULE, {"act": "count", "steps": 1})
    assert "counted" in (attempt.workdir / "logs" / "child.log").read_text()


def test_secrets_stay_with_the_worker(attempt: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "MY_SECRET", "PGPASSWORD", "TUNEYARD_BROKER__URL"):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("HARMLESS", "yes")
    environment = run_child(attempt, MODULE, {"act": "environment"})
    assert environment["HARMLESS"] == "yes"
    assert [name for name, value in environment.items() if "hush" in value] == []


def test_a_childs_error_keeps_its_kind_its_cause_and_its_advice(attempt: StandIn) -> None:
    with pytest.raises(Permanent, match="too large") as permanent:
        run_child(attempt, MODULE, {"act": "raise", "error": "permanent"})
    with pytest.raises(Transient, match="come back later") as transient:
        run_child(attempt, MODULE, {"act": "raise", "error": "transient"})
    assert permanent.value.cause == Cause.OOM
    assert transient.value.retry_after == 7.5


def test_a_card_that_fails_is_another_ones_chance_and_what_the_run_did_wrong_is_not(attempt: StandIn) -> None:
    with pytest.raises(Transient, match=r"the card failed \(CUDA error: unspecified launch failure\); .*Xid") as failed:
        run_child(attempt, MODULE, {"act": "raise", "error": "launch"})
    assert failed.value.cause == Cause.LOST
    words = "terminate called after throwing an instance of 'c10::AcceleratorError'\n  CUDA error: unknown error\n"
    with pytest.raises(Transient, match=r"the card failed \(.*status 134:   CUDA error: unknown error"):
        run_child(attempt, MODULE, {"act": "exit", "status": 134, "last_words": words})
    with pytest.raises(ChildCrashed, match="device-side assert triggered"):
        run_child(attempt, MODULE, {"act": "raise", "error": "assert"})


def test_a_bug_in_a_child_is_one_line_with_its_traceback_as_a_note(attempt: StandIn) -> None:
    with pytest.raises(ChildCrashed) as crash:
        run_child(attempt, MODULE, {"act": "raise", "error": "bug"})
    assert str(crash.value) == "ZeroDivisionError: one over nothing"
    assert "stand_in.py" in crash.value.__notes__[0]
    assert crash.value.__notes__[0] in (attempt.workdir / "logs" / "child.log").read_text()


@pytest.mark.parametrize("writer", ["a file", "safetensors", "torch"])
def test_a_full_disk_is_not_taken_for_a_bug(attempt: StandIn, writer: str) -> None:
    with pytest.raises(Permanent, match=f"{attempt.workdir}.*no room left to write .*tuneyard gc") as full:
        run_child(attempt, MODULE, {"act": "fill the disk", "writer": writer})
    assert full.value.cause == Cause.USER


def test_a_broken_checkpoint_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    error = RuntimeError("[enforce fail at inline_container.cc:1] . PytorchStreamReader failed reading zip archive")
    assert no_room(error, tmp_path) is None


def test_what_a_child_leaves_in_its_temporary_folder_goes_with_it(attempt: StandIn) -> None:
    environment = run_child(attempt, MODULE, {"act": "environment"})
    assert Path(environment["TMPDIR"]).parent == attempt.workdir
    assert Path(environment["TORCHINDUCTOR_CACHE_DIR"]).is_relative_to(environment["TMPDIR"])
    assert {path.name for path in attempt.workdir.iterdir()} == {"logs", "child.lock"}


def test_a_child_that_ends_without_a_word_shows_the_end_of_its_log(attempt: StandIn) -> None:
    with pytest.raises(ChildCrashed, match="ended with status 3; the last line of its log: --- attempt 1"):
        run_child(attempt, MODULE, {"act": "exit", "status": 3})


def test_a_module_that_is_not_there_is_named(attempt: StandIn) -> None:
    with pytest.raises(ChildCrashed, match=r"No module named tests\.gpu_worker\.nothing"):
        run_child(attempt, "tests.gpu_worker.nothing", {})


def test_a_child_killed_from_outside_is_tried_again(attempt: StandIn) -> None:
    attempt.heed = lambda progress: os.kill(progress["child"], signal.SIGKILL) if "child" in progress else None
    with pytest.raises(Transient, match="killed from outside"):
        run_child(attempt, MODULE, {"act": "obey"})


@pytest.fixture
def ice() -> Iterator[Path]:
    """A control group that no signal reaches while it is frozen; the first version alone has such."""
    group = Path("/sys/fs/cgroup/freezer", f"tuneyard-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no group can be frozen here")
    yield group
    (group / "freezer.state").write_text("THAWED")
    eventually(lambda: not (group / "cgroup.procs").read_text(), what="the end of the process")
    group.rmdir()


def test_a_child_that_cannot_be_killed_is_told_and_holds_up_nobody(
    attempt: StandIn, ice: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "KILL_SECONDS", 0.5)
    monkeypatch.setattr(child, "TERM_SECONDS", 0.5)

    def freeze(progress: dict[str, Any]) -> None:
        if "child" in progress:
            (ice / "cgroup.procs").write_text(str(progress["child"]))
            (ice / "freezer.state").write_text("FROZEN")
            raise Cancelled("no more")

    attempt.heed = freeze
    with pytest.raises(Cancelled):
        run_child(attempt, MODULE, {"act": "obey"})
    assert f"process {attempt.last('child')} hangs in the kernel and cannot be killed" in caplog.text


@pytest.fixture
def tight_group() -> Iterator[Path]:
    """A control group that allows 256 MiB, of either version of control groups."""
    for root, limit in (("memory", "memory.limit_in_bytes"), (".", "memory.max")):
        group = Path("/sys/fs/cgroup", root, f"tuneyard-test-{os.getpid()}")
        with suppress(OSError):
            group.mkdir()
            try:
                if (group / limit).is_file():
                    (group / limit).write_text(str(256 * 2**20))
                    yield group
                    return
            finally:
                group.rmdir()
    pytest.skip("no control group can be made here")


def test_a_child_that_the_kernel_kills_for_memory_is_told_from_one_that_was_killed_from_outside(
    tmp_path: Path, tight_group: Path
) -> None:
    worker = [sys.executable, "-m", MODULE, str(tmp_path), "hog", str(tight_group)]
    subprocess.run(worker, cwd=ROOT, check=True, timeout=60)
    assert (tmp_path / "failure").read_text().startswith(f"oom: {MODULE} was killed by the kernel because memory ran")


@pytest.mark.parametrize("error", [Cancelled("no more"), StaleTransition("lost"), Permanent("too late")], ids=repr)
def test_nothing_of_the_group_survives_when_the_job_is_over(attempt: StandIn, error: Exception) -> None:
    attempt.heed = raising(error)
    with pytest.raises(type(error), match=str(error)):
        run_child(attempt, MODULE, {"act": "family"})
    assert not is_alive(attempt.last("child"))
    eventually(lambda: not is_alive(attempt.last("grandchild")), seconds=5, what="the end of the grandchild")


@pytest.mark.parametrize("request_", [Paused("stand still"), Released("go home")], ids=repr)
def test_a_child_that_is_asked_to_stop_does_so_by_itself(attempt: StandIn, request_: Exception) -> None:
    attempt.heed = raising(request_)
    with pytest.raises(type(request_), match=str(request_)):
        run_child(attempt, MODULE, {"act": "obey"})
    assert "killed" not in (attempt.workdir / "logs" / "child.log").read_text()
    assert not is_alive(attempt.last("child"))


def test_a_child_that_stops_slowly_is_not_killed_while_it_says_that_it_lives(
    attempt: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(child, "STOP_SECONDS", 1.0)
    monkeypatch.setattr(child, "REPORT_SECONDS", 0.02)
    attempt.heed = raising(Paused("stand still"))
    with pytest.raises(Paused):
        run_child(attempt, MODULE, {"act": "wind down"})
    assert "did not stop in time" not in caplog.text


def test_cancelling_does_not_wait_for_a_child_that_is_pausing(attempt: StandIn) -> None:
    def heed(progress: dict[str, Any]) -> None:
        if attempt.last("child"):
            raise Paused("stand still") if progress else Cancelled("no more")

    attempt.heed = heed
    with pytest.raises(Cancelled):
        run_child(attempt, MODULE, {"act": "family"})
    assert not is_alive(attempt.last("child"))


def test_a_silent_child_is_stalled_and_ended(attempt: StandIn) -> None:
    attempt.stall_margin_seconds = 0.3
    with pytest.raises(Permanent, match="no progress for 2 s") as stalled:
        run_child(attempt, MODULE, {"act": "family"})
    assert stalled.value.cause == Cause.STALLED
    assert not is_alive(attempt.last("child"))


def test_what_is_told_again_of_a_step_makes_no_step_shorter() -> None:
    pace = _Pace(margin_seconds=1.0)
    for step in (1, 1, 2, 2, 2, 3):
        pace.tick({"step": step})
    pace.tick({})
    assert len(pace.intervals) == 2


def test_a_killed_worker_leaves_no_child_and_no_grandchild(tmp_path: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-m", MODULE, str(tmp_path), "family"], cwd=ROOT)
    try:
        pids = first_report(tmp_path)
        assert is_alive(pids["child"])
    finally:
        worker.kill()
        worker.wait()
    eventually(lambda: not any(map(is_alive, pids.values())), seconds=5, what="the end of child and grandchild")


def test_a_second_child_waits_for_the_first_to_die(attempt: StandIn, tmp_path: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-m", MODULE, str(tmp_path), "obey"], cwd=ROOT)
    try:
        first = psutil.Process(first_report(tmp_path)["child"])
        attempt.heed = lambda progress: first.kill() if first.is_running() else None
        assert run_child(attempt, MODULE, {"act": "count", "steps": 1}) == {"steps": 1}
    finally:
        worker.kill()
        worker.wait()
