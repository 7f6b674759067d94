from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from queue_app.errors import Invalid
from queue_app.process_family import Family, yard_mark
from queue_app.shipped import find_shipped
from queue_app.supervisor import run_yard
from queue_app.yard import Yard
from tests.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]

# Runs a yard as `tuneyard up` does; the broker answers once the file `door` is there.
SUPERVISE = """
import json, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests were started by
from pathlib import Path
from queue_app.errors import Transient, TuneyardError
from queue_app.supervisor import run_yard
from queue_app.yard import Yard
from queue_app.yard_process import Pace
folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
def ready():
    if not (folder / "door").exists():
        raise Transient("nobody answers")
pace = Pace(**{"first_pause_seconds": 0.1, "longest_pause_seconds": 0.4, **settings.pop("pace", {})})
try:
    sys.exit(run_yard(Yard(folder / "Procfile", folder / "home", ready, pace=pace, **settings)))
except TuneyardError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""

# What stands in the Procfile: `python part.py PART [NAME]`.
PART = """
import os, signal, subprocess, sys, time
from pathlib import Path
part, name = sys.argv[1], sys.argv[-1]
def note(word):
    with Path("notes").open("a") as notes: notes.write(f"{name} {word}\\n")
def end(*_):
    note("ended")
    sys.exit(0)
def end_later(*_):
    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
signal.signal(signal.SIGTERM, {"deaf": signal.SIG_IGN, "slow": end_later}.get(part, end))
note("started" if Path("door").exists() else "started before the door")
if part == "broker": Path("door").touch()
if part == "parent":
    subprocess.Popen([sys.executable, "part.py", "deaf", "child"], start_new_session=True)
    subprocess.Popen(["sh", "-c", "exec " + sys.executable + " part.py deaf grandchild"])
if part == "frail": sys.exit(3)
if part == "chatty":
    for number in range(400):
        for piece in (name, " says ", str(number), " whole\\n"):
            sys.stdout.write(piece); sys.stdout.flush()
    sys.stdout.write(name + " says no line end"); sys.stdout.flush()
    sys.exit(0)
while True: signal.pause()
"""


@dataclass
class Running:
    """A supervisor in a process of its own."""

    folder: Path
    popen: subprocess.Popen[bytes]
    cat: subprocess.Popen[bytes]  # writes down its output, so that this does not end with a full disk

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    @property
    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def report(self) -> dict[str, Any]:
        path = self.home / "yard.json"
        report: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"processes": {}}
        return report

    def pid(self, name: str) -> int:
        return int(self.report()["processes"].get(name, {"pid": 0})["pid"])

    def living(self) -> set[int]:
        """What is alive of the yard: by the mark, and by the groups that the report named."""
        return Family(0, yard_mark(self.home)).living()

    def wait_for(self, *words: str) -> None:
        eventually(lambda: set(words) <= set(self.notes), what=f"{words} in {self.folder / 'notes'}")

    def wait_for_output(self, pattern: str) -> None:
        eventually(lambda: re.search(pattern, self.output), what=f"{pattern} in the output")

    def end(self, number: int, *, seconds: float = 20.0) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(seconds)


@pytest.fixture
def start_yard(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*lines: str, folder: Path = tmp_path, piped: bool = False, **settings: Any) -> Running:
        python = sys.executable
        (folder / "part.py").write_text(PART)
        named = [(line.partition(":")[0], line.partition(":")[2].strip()) for line in lines]
        (folder / "Procfile").write_text(
            "".join(f"{name}: {python} part.py {part} {name}\n" for name, part in named if " " not in part)
            + "".join(f"{name}: {command}\n" for name, command in named if " " in command)
        )
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (folder / f"output{len(started) or ''}").open("wb") as output:
            cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=output)
            assert cat.stdin is not None
            with cat.stdin as pipe:
                written = pipe if piped else output
                popen = subprocess.Popen(
                    [sys.executable, "-c", SUPERVISE, str(folder), json.dumps(settings)],
                    stdout=written,
                    stderr=written,
                    cwd=folder,
                    env=env,
                )
        started.append(Running(folder, popen, cat))
        return started[-1]

    yield start
    for yard in started:
        yard.popen.kill()
        yard.popen.wait()
        Family(0, yard_mark(yard.home)).kill()
        yard.cat.kill()
        yard.cat.wait()


def test_the_others_start_when_the_broker_answers(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("cpu: steady", "broker: broker", "api: steady")
    yard.wait_for("cpu started", "api started")
    assert yard.notes[0] == "broker started before the door"


def test_a_process_that_dies_is_started_again_after_a_growing_pause(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: frail")
    yard.wait_for_output(r"cpu\.1 +\| \* started again \(start 5\)")
    pauses = re.findall(
        r"cpu\.1 +\| \* ended with exit status 3 after [\d.]+ s; starts again in ([\d.]+) s", yard.output
    )
    assert pauses[:4] == ["0.1", "0.2", "0.4", "0.4"]


def test_a_process_that_was_healthy_starts_again_after_the_first_pause(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: frail", pace={"healthy_seconds": 0.0})
    yard.wait_for_output(r"\(start 4\)")
    assert set(re.findall(r"starts again in ([\d.]+) s", yard.output)) == {"0.1"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_everything(start_yard: Callable[..., Running], number: signal.Signals) -> None:
    yard = start_yard("broker: broker", "cpu: parent", "api: steady")
    yard.wait_for("child started", "grandchild started", "api started")
    groups = [yard.pid(name) for name in ("broker.1", "cpu.1", "api.1")]
    assert len(yard.living()) == 5
    assert yard.end(number) == 0
    assert yard.living() == set()
    assert [group for group in groups if Family(group, "none").living()] == []
    assert not (yard.home / "yard.json").exists()


def test_the_broker_ends_last(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: slow", "api: steady", counts={"cpu": 2})
    eventually(lambda: yard.notes.count("cpu started") == 2 and "api started" in yard.notes)
    yard.end(signal.SIGINT)
    assert [note for note in yard.notes if "ended" in note].index("broker ended") == 3


def test_a_deaf_process_is_killed_after_the_grace(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: deaf", pace={"grace_seconds": 0.3})
    yard.wait_for("cpu started")
    assert yard.end(signal.SIGTERM) == 0
    assert yard.living() == set()
    assert "killed" in yard.output
    assert yard.notes[-1] == "broker ended"


def test_a_second_ctrl_c_kills_at_once(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: deaf", pace={"grace_seconds": 600})
    yard.wait_for("cpu started")
    yard.popen.send_signal(signal.SIGINT)
    yard.wait_for_output("SIGINT: stopping")
    assert yard.end(signal.SIGINT) == 130
    assert yard.living() == set()


def test_a_sigterm_after_a_ctrl_c_is_no_second_ctrl_c(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: deaf", pace={"grace_seconds": 1.0})
    yard.wait_for("cpu started")
    yard.popen.send_signal(signal.SIGINT)
    yard.wait_for_output("SIGINT: stopping")
    assert yard.end(signal.SIGTERM) == 0


def test_a_killed_supervisor_leaves_nothing(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: parent", "api: sh -c 'exec sleep 600'", pace={"grace_seconds": 0.5})
    yard.wait_for("child started", "grandchild started")
    eventually(lambda: yard.pid("api.1"))
    assert len(yard.living()) == 5
    yard.end(signal.SIGKILL)
    eventually(lambda: not yard.living(), what="the end of all processes")
    eventually(lambda: not (yard.home / "yard.json").exists(), what="the watchdog's tidying up")
    assert yard.notes[-1] == "broker ended", "the watchdog keeps the order"


def test_a_killed_watchdog_is_replaced(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: steady", "api: frail", pace={"grace_seconds": 0.5})
    yard.wait_for("cpu started")
    first = _watchdog(yard)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: _watchdog(yard) not in (0, first), what="a new watchdog")
    yard.end(signal.SIGKILL)
    eventually(lambda: not yard.living(), what="the end of all processes")


def test_what_outlived_yard_and_watchdog_is_ended_by_the_next_yard(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: parent")
    yard.wait_for("child started", "grandchild started")
    os.kill(_watchdog(yard), signal.SIGKILL)
    yard.end(signal.SIGKILL)
    before = yard.living()
    assert len(before) == 4
    following = start_yard("broker: broker", "cpu: steady")
    eventually(lambda: following.report()["pid"] == following.popen.pid and following.pid("cpu.1"))
    assert not before & following.living()


def test_what_a_dead_worker_has_left_is_ended_before_it_starts_again(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: parent", pace={"first_pause_seconds": 60, "longest_pause_seconds": 60})
    yard.wait_for("child started", "grandchild started")
    os.kill(yard.pid("cpu.1"), signal.SIGKILL)
    yard.wait_for_output(
        r"cpu\.1 +\| \* ended by SIGKILL after .* and 2 it had left behind with it; starts again in 60 s"
    )
    assert yard.living() == {yard.pid("broker.1")}


def test_output_lines_are_whole(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: chatty", "api: chatty", pace={"first_pause_seconds": 60})
    eventually(lambda: yard.output.count("ended with exit status 0") == 2)
    yard.end(signal.SIGTERM)
    said = [line for line in yard.output.splitlines() if " says " in line]
    for name in ("cpu", "api"):
        prefix = rf"\d\d:\d\d:\d\d {name}\.1 +\| {name} says "
        mine = [line for line in said if f" {name}.1 " in line]
        assert [re.fullmatch(rf"{prefix}(\d+) whole", line) is not None for line in mine] == [True] * 400 + [False]
        assert re.fullmatch(rf"{prefix}no line end", mine[-1])
    assert "\033" not in yard.output, "no colours where nobody sees them"


def test_a_second_yard_in_the_same_home_is_refused(start_yard: Callable[..., Running], tmp_path: Path) -> None:
    yard = start_yard("broker: broker", "cpu: steady")
    yard.wait_for("cpu started")
    with pytest.raises(Invalid, match=rf"already runs in .*home \(pid {yard.popen.pid}\)"):
        run_yard(Yard(tmp_path / "Procfile", yard.home, ready=list))
    assert yard.popen.poll() is None


def test_a_broker_that_never_answers_is_said_and_nothing_is_left(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: steady", "cpu: steady", pace={"ready_seconds": 0.5})
    assert yard.popen.wait(20) == 1
    assert "Transient: nobody answers" in yard.output
    assert "cpu started before the door" not in yard.notes
    assert yard.living() == set()


def test_a_disk_that_fills_up_ends_nothing_and_is_said_once(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: steady", "api: steady", piped=True)
    yard.wait_for("cpu started", "api started")
    eventually(lambda: len(yard.living()) == 3 and yard.pid("api.1"))
    before, report = yard.living(), yard.report()
    _fill_the_disk(yard)
    os.kill(yard.pid("api.1"), signal.SIGKILL)
    eventually(lambda: yard.living() - before, what="the next start")
    eventually(lambda: not (yard.home / "yard.json.new").exists(), what="the end of the half-written report")
    assert yard.report() == report
    assert before - {yard.pid("api.1")} <= yard.living()
    _fill_the_disk(yard, bytes_left=resource.RLIM_INFINITY)
    eventually(lambda: yard.pid("api.1") in yard.living() - before, what="a new report")
    yard.wait_for_output(r"yard\.json says again what runs")
    assert yard.output.count("yard.json cannot be written (File too large); free some space") == 1


def test_output_that_could_not_be_written_is_owned_up_to(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: steady")
    yard.wait_for("cpu started")
    before = yard.living()
    _fill_the_disk(yard)
    os.kill(yard.pid("cpu.1"), signal.SIGKILL)
    eventually(lambda: yard.living() - before, what="the next start")
    _fill_the_disk(yard, bytes_left=resource.RLIM_INFINITY)
    yard.wait_for_output(r"yard +\| \* the output could not be written \d+ times; lines may be missing above")


def test_a_yard_on_a_full_disk_still_stops_with_grace(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: slow")
    yard.wait_for("cpu started")
    _fill_the_disk(yard)
    assert yard.end(signal.SIGINT) == 0
    assert [note for note in yard.notes if "ended" in note] == ["cpu ended", "broker ended"]
    assert yard.living() == set()
    assert not (yard.home / "yard.json").exists()


def test_a_yard_does_not_start_where_it_cannot_say_what_runs(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("broker: sleep 600\n")
    limited = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-c", SUPERVISE, str(tmp_path), "{}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    refused = subprocess.run(limited, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert refused.returncode == 1
    assert f"Permanent: {tmp_path / 'home'} cannot be written; free some space" in refused.stderr
    assert Family(0, yard_mark(tmp_path / "home")).living() == set()


def test_a_program_that_is_missing_does_not_stop_the_others(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: steady", "flower: no-such-program --port 1")
    yard.wait_for_output(
        r'flower\.1 \| \* cannot run "no-such-program --port 1": No such file or directory; starts again'
    )
    yard.wait_for("cpu started")


def test_counts_and_only_choose_what_runs(start_yard: Callable[..., Running]) -> None:
    yard = start_yard(
        "broker: broker", "cpu: steady", "api: steady", "gpu: steady",
        counts={"cpu": 3, "gpu": 0}, only=["broker", "cpu", "gpu"],
    )  # fmt: skip
    eventually(lambda: len(yard.report()["processes"]) == 4)
    assert set(yard.report()["processes"]) == {"broker.1", "cpu.1", "cpu.2", "cpu.3"}


def test_each_process_of_a_line_may_have_variables_of_its_own(start_yard: Callable[..., Running]) -> None:
    tell = "sh -c 'echo sees card $CUDA_VISIBLE_DEVICES; sleep 60'"
    own = {"gpu.1": {"CUDA_VISIBLE_DEVICES": "GPU-a"}, "gpu.2": {"CUDA_VISIBLE_DEVICES": "MIG-b"}}
    yard = start_yard("broker: broker", f"gpu: {tell}", counts={"gpu": 2}, own_env=own)
    yard.wait_for_output(r"gpu\.1 *\|.* sees card GPU-a")
    yard.wait_for_output(r"gpu\.2 *\|.* sees card MIG-b")


def test_the_report_says_what_runs(start_yard: Callable[..., Running]) -> None:
    yard = start_yard("broker: broker", "cpu: steady")
    yard.wait_for("cpu started")
    report = yard.report()
    assert report["pid"] == yard.popen.pid
    assert report["started_at"].endswith("+00:00")
    assert yard.living() == {process["pid"] for process in report["processes"].values()}


def test_nobody_reading_the_output_stops_the_yard(start_yard: Callable[..., Running], tmp_path: Path) -> None:
    first = start_yard("broker: broker", "cpu: frail")
    first.wait_for("cpu started")
    first.end(signal.SIGTERM)
    command = [sys.executable, "-c", SUPERVISE, str(tmp_path), "{}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, env=env) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        popen.stdout.close()
        assert popen.wait(20) == 0
    assert first.living() == set()


def test_a_name_that_the_procfile_lacks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("broker: true\ncpu: true\n")
    with pytest.raises(Invalid, match="has no line cpus; it has broker, cpu"):
        run_yard(Yard(tmp_path / "Procfile", tmp_path / "home", ready=list, counts={"cpus": 2}))


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("cpu: true\ncpu: false\n")
    with pytest.raises(Invalid, match="must be unique"):
        run_yard(Yard(tmp_path / "Procfile", tmp_path / "home", ready=list))


def test_the_procfile_names_every_process_and_honcho_reads_it() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "honcho", "-f", str(find_shipped("Procfile")), "check"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "broker, sweeper, cpu, api, gpu, sandbox, metrics, flower" in checked.stderr + checked.stdout


def _fill_the_disk(yard: Running, *, bytes_left: int = 0) -> None:
    """Let the supervisor, and what it starts from now on, write no file beyond so many bytes."""
    _, most = resource.prlimit(yard.popen.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(yard.popen.pid, resource.RLIMIT_FSIZE, (bytes_left, most))


def _watchdog(yard: Running) -> int:
    """The supervisor's child that runs `process_family.py`; 0 if there is none."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == yard.popen.pid and b"process_family.py" in command:
                return int(folder.name)
    return 0
