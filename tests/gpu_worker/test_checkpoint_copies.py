"""What one host has copied, another one goes on from: complete or absent, and never at the training's cost."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from gpu_worker import checkpoints
from gpu_worker.checkpoint_copies import Copies
from gpu_worker.copying import Copier
from gpu_worker.run_notes import RunNotes
from queue_app.errors import Cancelled, Paused, Permanent, StaleTransition, Transient
from tests.conftest import eventually
from tests.gpu_worker.stand_in import StandIn

if TYPE_CHECKING:
    from queue_app.shelf import Shelf


@dataclass
class Host:
    """One machine's share of a run: its own folder, the artifact store of all."""

    folder: Path
    url: str
    number: int = 1  # of its attempt

    def __post_init__(self) -> None:
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.attempt = StandIn(self.folder, number=self.number, artifacts_url=self.url)
        self.copies = Copies(self.attempt, self.checkpoints, self.folder / "tensorboard")

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def shelf(self) -> Shelf:
        return self.attempt.artifacts.shelf

    def save(self, *steps: int, spared: int = 0) -> None:
        """Write checkpoints and remove old ones, as a training does."""
        for step in steps:
            place = checkpoints.at_step(self.checkpoints, step)
            (place / "deep").mkdir(parents=True)
            (place / "weights").write_bytes(bytes([step]) * 1000)
            (place / "deep" / "state").write_text(f"step {step}")
            checkpoints.complete(place)
            checkpoints.rotate(self.checkpoints, spared={spared})

    def copy(self) -> list[int]:
        return list(self.copies.bring_up_to_date(lambda: None))

    def take_over(self) -> RunNotes | None:
        """What an attempt does before it trains."""
        found = self.copies.look()
        notes = self.copies.take_notes(found)
        self.copies.fetch(found)
        return notes

    @property
    def steps(self) -> list[int]:
        """The steps whose checkpoints are here and whole."""
        found = checkpoints.complete_steps(self.checkpoints)
        assert [checkpoints.problem_of(checkpoints.at_step(self.checkpoints, step)) for step in found] == [
            None for _ in found
        ]
        return found

    @property
    def stored(self) -> list[str]:
        """The copies there are: `attempt-1/checkpoint-3`."""
        return [name.removesuffix("/manifest.json") for name in self.shelf.ls() if name.endswith("/manifest.json")]


@pytest.fixture(params=["folder", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder on the disk of the hosts, and a store that is no file system of ours (fsspec's in memory)."""
    return str(tmp_path / "artifacts") if request.param == "folder" else f"memory://{tmp_path.name}"


@pytest.fixture
def first(tmp_path: Path, url: str) -> Host:
    return Host(tmp_path / "first", url)


@pytest.fixture
def second(tmp_path: Path, url: str) -> Host:
    return Host(tmp_path / "second", url, number=2)


def damage(host: Host, name: str, content: bytes | None) -> None:
    """Overwrite a file on the shelf, or remove it."""
    filesystem, root = fsspec.url_to_fs(host.shelf.url)
    path = f"{root}/checkpoints/{host.shelf.job_id}/{name}"
    filesystem.rm(path)
    if content is not None:
        filesystem.pipe_file(path, content)


def test_another_host_gets_the_checkpoints_the_settings_and_the_curves(first: Host, second: Host) -> None:
    first.save(3, 6, 9, 12, spared=3)
    RunNotes(1, {"micro_batch_size": 2}).write(first.folder)
    checkpoints.note(first.checkpoints, "checkpoint-2: it was cut off")
    (first.folder / "tensorboard").mkdir()
    (first.folder / "tensorboard" / "events.1").write_bytes(b"curve")
    assert first.copy() == [12, 9, 3]
    assert first.copy() == [], "what is there is not copied again"

    notes = second.take_over()
    assert notes is not None
    assert notes.changed == {"micro_batch_size": 2}
    assert second.steps == [12, 9, 3]
    assert checkpoints.survey(second.checkpoints).passed_over == ["checkpoint-2: it was cut off"]
    assert (second.folder / "tensorboard" / "events.1").read_bytes() == b"curve"
    assert second.attempt.reports[0] == {"phase": "fetching checkpoint", "done_mib": 0, "total_mib": 1}


def test_the_store_forgets_what_the_disk_forgets_but_never_the_newest_copy(first: Host) -> None:
    first.save(3, 6, 9, spared=3)
    first.copy()
    first.save(12, 15, spared=3)
    damage(first, "attempt-1/checkpoint-9/weights", b"half")
    assert first.copy() == [15, 12]
    assert first.stored == [f"attempt-1/checkpoint-{step}" for step in (12, 15, 3)]
    for step in (12, 15, 3):
        checkpoints.remove(checkpoints.at_step(first.checkpoints, step))
    assert first.copy() == []
    assert "attempt-1/checkpoint-15" in first.stored, "the run may be about to begin anew: nothing newer is there yet"


def test_nothing_is_fetched_where_the_newest_is_here(first: Host, second: Host) -> None:
    first.save(3, 6)
    first.copy()
    second.save(6)
    second.take_over()
    assert second.steps == [6]
    assert second.attempt.reports == []


def test_a_checkpoint_damaged_here_is_fetched(first: Host) -> None:
    first.save(3, 6)
    first.copy()
    weights = checkpoints.at_step(first.checkpoints, 6) / "weights"
    weights.unlink()  # not overwritten: where the copy is a second name of the same file, that would damage both
    weights.write_bytes(b"cut off")
    first.take_over()
    assert first.steps == [6, 3]
    assert checkpoints.survey(first.checkpoints).passed_over == ["checkpoint-6: weights has 7 bytes instead of 1000"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("weights", b"cut off", "weights has 7 bytes instead of 1000"),
        ("weights", b"x" * 1000, "weights has changed since it was written"),
        ("weights", None, "a file is missing"),
        ("manifest.json", b'{"files"', "its manifest cannot be read"),
        ("manifest.json", b'{"files": {"../x": {"bytes": 1, "sha256": ""}}}', "its manifest names ../x"),
    ],
    ids=["cut off", "changed", "missing", "no manifest", "a way out"],
)
def test_a_damaged_copy_is_passed_over_for_the_one_before_and_replaced(
    first: Host, second: Host, caplog: pytest.LogCaptureFixture, name: str, content: bytes | None, said: str
) -> None:
    first.save(3, 6)
    first.copy()
    damage(first, f"attempt-1/checkpoint-6/{name}", content)
    with caplog.at_level(logging.WARNING):
        second.take_over()
    assert second.steps == [3]
    assert f"passed over the copy of checkpoint-6: {said}" in caplog.text
    [noted] = checkpoints.survey(second.checkpoints).passed_over
    assert noted.startswith(f"the copy of checkpoint-6 in the artifact store: {said}")
    second.save(6)
    assert second.copy() == [6]
    assert second.stored == ["attempt-1/checkpoint-3", "attempt-2/checkpoint-6"]


def test_a_half_copied_checkpoint_is_absent(first: Host, second: Host) -> None:
    first.save(3, 6)
    first.copy()
    damage(first, "attempt-1/checkpoint-6/manifest.json", None)
    second.take_over()
    assert second.steps == [3]
    assert checkpoints.survey(second.checkpoints).passed_over == []
    assert first.copy() == [6]


def test_a_stale_attempt_harms_no_copy_of_the_one_that_owns_the_job(first: Host, second: Host) -> None:
    first.save(3, 6)
    first.copy()
    second.take_over()
    second.save(9)
    second.copy()
    first.save(7, 8)  # it does not know that it has lost its lease
    first.copy()
    assert "attempt-2/checkpoint-9" in second.stored
    assert "attempt-1/checkpoint-6" not in second.stored
    assert second.copy() == [6], "what the stale one took away is put back"
    assert second.stored == ["attempt-2/checkpoint-6", "attempt-2/checkpoint-9"]


def test_a_copy_that_a_stale_attempt_ended_after_it_was_cleared_away_is_not_relied_upon(
    first: Host, second: Host
) -> None:
    first.save(3, 6)
    first.copy()
    second.take_over()
    damage(first, "attempt-1/checkpoint-6/deep/state", None)
    assert second.copy() == [6]
    assert second.stored == ["attempt-1/checkpoint-3", "attempt-2/checkpoint-6"]


def test_checkpoints_that_do_not_fit_changed_settings_any_more_are_used_on_no_host(
    first: Host, second: Host, tmp_path: Path, url: str
) -> None:
    first.save(3, 6)
    first.copy()
    RunNotes(2, {"lora_r": 8}, anew_after=2).write(second.folder)  # found there, and it began anew
    second.copy()
    third = Host(tmp_path / "third", url, number=3)
    assert third.take_over() == RunNotes(2, {"lora_r": 8}, anew_after=2)
    assert third.steps == []
    again = Host(first.folder, url, number=3)
    again.take_over()
    assert again.steps == []
    again.save(3)
    again.copy()
    assert again.stored == ["attempt-3/checkpoint-3"]


def test_a_store_on_the_same_disk_takes_no_room_twice(tmp_path: Path) -> None:
    host = Host(tmp_path / "first", str(tmp_path / "artifacts"))
    host.save(3)
    host.copy()
    copied = Path(host.shelf.path, "attempt-1", "checkpoint-3", "weights")
    assert copied.samefile(checkpoints.at_step(host.checkpoints, 3) / "weights")
    checkpoints.remove(checkpoints.at_step(host.checkpoints, 3))
    assert copied.read_bytes() == bytes([3]) * 1000


def test_a_run_whose_copies_cannot_be_read_goes_on_only_where_it_was_last(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(tmp_path / "second", f"unreachable://{tmp_path.name}", number=2)
    RunNotes(1).write(host.folder)
    with pytest.raises(Transient, match="cannot be read.*what other attempts have done would be done anew"):
        host.take_over()
    host.save(3)
    assert host.take_over() == RunNotes(1)
    assert "going on with what is here" in caplog.text
    later = Host(host.folder, host.url, number=4)
    with pytest.raises(Transient, match="cannot be read"):  # the third attempt was another host's, and may be ahead
        later.take_over()


class Gated(MemoryFileSystem):
    """A store in memory that lets nothing in while its gate is shut."""

    protocol = ("gated",)
    gate = threading.Event()

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "wb":
            assert self.gate.wait(30)
        return super()._open(path, mode, **options)


class Unreachable(MemoryFileSystem):
    """A store behind a network that is down, in the words of its own client."""

    protocol = ("unreachable",)

    def exists(self, path: str, **options: Any) -> bool:
        raise RuntimeError("no route to host")

    def makedirs(self, path: str, **options: Any) -> None:
        raise RuntimeError("no route to host")


@pytest.fixture(autouse=True)
def _stores() -> None:
    for store in (Gated, Unreachable):
        fsspec.register_implementation(store.protocol[0], store, clobber=True)
    Gated.gate.set()


def copier(host: Host, patience_seconds: float = 30.0) -> Copier:
    return Copier(host.copies, patience_seconds)


def test_a_store_that_takes_nothing_fails_no_training_and_it_is_said_counted_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(tmp_path / "first", str(tmp_path / "artifacts"))
    (tmp_path / "artifacts").write_text("a file where a folder should be")
    host.save(3)
    with copier(host) as works:
        eventually(lambda: works.failed == 1, what="the first failure")
        host.save(6)
        works.notice({"checkpoint_step": 6})
        eventually(lambda: works.failed == 2, what="the second failure")
        works.notice({"checkpoint_step": 6, "step": 7})
        (tmp_path / "artifacts").unlink()
        host.save(9)
        works.notice({"checkpoint_step": 9})
        eventually(lambda: len(host.stored) == 2, what="the copies")
    assert works.failed == 2
    assert caplog.text.count("checkpoints could not be copied to the artifact store") == 2


def test_a_pause_waits_for_the_newest_to_be_copied(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    host = Host(tmp_path / "first", f"gated://{tmp_path.name}")
    Gated.gate.clear()
    host.save(3)
    host.attempt.heed = lambda progress: Gated.gate.set()  # asked while it waits
    host.save(6)
    with caplog.at_level(logging.INFO), pytest.raises(Paused), copier(host):
        raise Paused("stand still")
    assert "checkpoint-6 is in the artifact store" in caplog.text
    assert host.stored == ["attempt-1/checkpoint-3", "attempt-1/checkpoint-6"]


def test_a_pause_that_finds_the_store_too_slow_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    host = Host(tmp_path / "first", f"gated://{tmp_path.name}")
    Gated.gate.clear()
    host.save(3)
    with pytest.raises(Paused), copier(host, patience_seconds=0.1):
        raise Paused("stand still")
    assert "checkpoint-3 is not in the artifact store (not done after 0 s)" in caplog.text
    assert host.stored == []
    Gated.gate.set()


@pytest.mark.parametrize("end", [StaleTransition("lost"), Cancelled("not wanted")], ids=["stale", "cancelled"])
def test_who_lost_the_job_or_was_cancelled_copies_no_more(tmp_path: Path, end: Exception) -> None:
    host = Host(tmp_path / "first", f"gated://{tmp_path.name}")
    Gated.gate.clear()
    host.save(3)
    with pytest.raises(type(end)), copier(host) as works:
        raise end
    Gated.gate.set()
    works._thread.join(10)
    assert not works._thread.is_alive()
    assert host.stored == []


def test_a_cancel_ends_the_wait(tmp_path: Path) -> None:
    host = Host(tmp_path / "first", f"gated://{tmp_path.name}")
    Gated.gate.clear()
    host.save(3)

    def cancel(progress: dict[str, Any]) -> None:
        raise Cancelled("not wanted")

    host.attempt.heed = cancel
    with pytest.raises(Cancelled), copier(host):
        raise Permanent("the loss is nan")
    Gated.gate.set()


def test_the_newest_comes_first_and_none_that_the_trainer_removes_meanwhile_is_missed_halfway(tmp_path: Path) -> None:
    host = Host(tmp_path / "first", f"gated://{tmp_path.name}")
    Gated.gate.clear()
    host.save(3)
    with copier(host) as works:
        eventually(lambda: any(name.startswith("attempt-1") for name in opened(host)), what="the first copy's begin")
        host.save(6, 9, 12)  # that of step 3, which is being copied, is gone
        works.notice({"checkpoint_step": 12})
        Gated.gate.set()
        eventually(lambda: len(host.stored) == 2, what="the copies")
    assert host.stored == ["attempt-1/checkpoint-12", "attempt-1/checkpoint-9"]


def opened(host: Host) -> list[str]:
    """What the thread holds open."""
    handles = Path("/proc/self/fd").iterdir()
    paths = [str(handle.readlink()) for handle in handles if handle.is_symlink()]
    return ["attempt-1" for path in paths if path.startswith(str(host.checkpoints))]
