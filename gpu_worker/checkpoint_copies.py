"""Copies of a training's checkpoints in the artifact store, from which another host goes on.

On the job's shelf there (`queue_app.shelf`):

    attempt-<n>/checkpoint-<step>/…   a copy made by attempt n; complete or absent: its manifest comes last
    attempt-<n>/fitting.json          the settings that attempt n went by
    attempt-<n>/passed_over.txt       the checkpoints that could not be used
    tensorboard/…                     the curves, a file an attempt

An attempt writes under its own number and removes nothing of a later one, so one that has lost its lease and does not
know it yet harms nothing: what it takes away of earlier ones, the next look of the attempt that owns the job puts back.
Which of two copies of a step is taken does not matter: they are states of the same run.

Covered: death at any line on either host, a stale attempt, copies cut off, changed or missing. Not covered: where the
store lies on the disk of the work folder, a copy is a second name of the same file, and damage to it is damage to both.
"""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gpu_worker import checkpoints
from gpu_worker.checkpoints import MANIFEST, PASSED_OVER
from gpu_worker.child_side import alone
from gpu_worker.disk_room import no_room, require_room
from gpu_worker.run_notes import NOTES, RunNotes
from queue_app.errors import Transient
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from queue_app.job_type import Attempt
    from queue_app.shelf import Beat, Shelf

CURVES = "tensorboard"
COPIED = re.compile(r"attempt-(?P<attempt>\d+)/checkpoint-(?P<step>\d+)/(?P<file>.+)")
MIB = 2**20


class Copy(NamedTuple):
    """One copy of a checkpoint; the best of several is the greatest."""

    step: int
    attempt: int

    @property
    def name(self) -> str:
        return f"attempt-{self.attempt}/checkpoint-{self.step}"


@dataclass(frozen=True)
class Found:
    """What lies on the shelf."""

    names: frozenset[str] = frozenset()

    def copies(self, anew_after: int = 0) -> list[Copy]:
        """The complete ones that fit the settings, best first."""
        found = {self._copy(match) for match in self._matches() if match["file"] == MANIFEST}
        return sorted((copy for copy in found if copy.attempt > anew_after), reverse=True)

    def begun(self) -> set[Copy]:
        """All of which there is anything."""
        return {self._copy(match) for match in self._matches()}

    def noted(self) -> int:
        """The last attempt that left notes; 0: none did."""
        found = [re.fullmatch(rf"attempt-(\d+)/{NOTES}", name) for name in self.names]
        return max((int(match[1]) for match in found if match), default=0)

    def _matches(self) -> Iterator[re.Match[str]]:
        return filter(None, map(COPIED.fullmatch, self.names))

    def _copy(self, match: re.Match[str]) -> Copy:
        return Copy(int(match["step"]), int(match["attempt"]))


@dataclass
class Copies:
    """The copies as one attempt sees them."""

    attempt: Attempt
    folder: Path  # of the checkpoints
    curves: Path
    anew_after: int = 0  # as in `RunNotes`
    damaged: set[Copy] = field(default_factory=set, init=False)
    _written: dict[str, int | bytes] = field(default_factory=dict, init=False)  # small files, as they were put last

    @property
    def shelf(self) -> Shelf:
        return self.attempt.artifacts.shelf

    # -- at the start of an attempt --------------------------------------------------------------------------------

    def look(self) -> Found:
        """What lies on the shelf; nothing, if it cannot be read and the run loses nothing by that.

        Raises:
            Transient: it cannot be read, and there may be checkpoints that this host does not have
        """
        try:
            return self._look()
        except OSError as error:
            if self._may_lack_some():
                raise self._out_of_reach(error) from error
            self.attempt.log.warning("the artifact store cannot be read, going on with what is here: %s", error)
            return Found()

    def _may_lack_some(self) -> bool:
        """Whether there may be checkpoints that are not here: none is, or the last attempt was elsewhere."""
        before, here = self.attempt.number - 1, RunNotes.read(self.attempt.workdir)
        was_here = here is not None and here.attempt >= before
        return before > 0 and not (was_here and checkpoints.complete_steps(self.folder))

    def take_notes(self, found: Found) -> RunNotes | None:
        """The newest notes about the run; those of another host are taken over, with what goes with them."""
        here = RunNotes.read(self.attempt.workdir)
        last_here = 0 if here is None else here.attempt
        if found.noted() > last_here:
            try:
                here = RunNotes.parse(self.shelf.read(f"attempt-{found.noted()}/{NOTES}"))
                self._take_over(found, here, last_here)
            except OSError as error:
                raise self._out_of_reach(error) from error
        self.anew_after = 0 if here is None else here.anew_after
        return here

    def _take_over(self, found: Found, notes: RunNotes, last_here: int) -> None:
        if last_here <= notes.anew_after:
            shutil.rmtree(self.folder, ignore_errors=True)  # they fit the settings no more
        self.folder.mkdir(parents=True, exist_ok=True)
        passed_over = f"attempt-{found.noted()}/{PASSED_OVER}"
        if passed_over in found.names:
            (self.folder / PASSED_OVER).write_bytes(self.shelf.read(passed_over))
        for name in found.names:
            curve = self.curves / name.removeprefix(f"{CURVES}/")
            if name.startswith(f"{CURVES}/") and not curve.exists():
                self.curves.mkdir(exist_ok=True)
                curve.write_bytes(self.shelf.read(name))

    def fetch(self, found: Found) -> None:
        """Bring here what is missing, if there is a newer copy than the newest checkpoint here that verifies.

        Raises:
            Transient: the artifact store broke off, or an earlier process still writes here
            Permanent: there is no room
        """
        copies = found.copies(self.anew_after)
        if not copies:
            return
        newest = checkpoints.newest_whole(self.folder, self._beat) or 0
        if copies[0].step <= newest:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.attempt.workdir / "child.lock"):
            for copy in copies:
                if copy.step > newest or copy.step not in checkpoints.complete_steps(self.folder):
                    newest = max(newest, self._fetch(copy))

    def _fetch(self, copy: Copy) -> int:
        """The step, once its checkpoint is here; 0: the copy is damaged."""
        coming, place = self.folder / ".coming", checkpoints.at_step(self.folder, copy.step)
        shutil.rmtree(coming, ignore_errors=True)
        try:
            problem = self._bring(copy, coming)
        except OSError as error:
            raise no_room(error, self.attempt.workdir) or self._out_of_reach(error) from error
        if problem is not None:
            shutil.rmtree(coming, ignore_errors=True)
            self.damaged.add(copy)
            checkpoints.note(self.folder, f"the copy of checkpoint-{copy.step} in the artifact store: {problem}")
            self.attempt.log.warning("passed over the copy of checkpoint-%d: %s", copy.step, problem)
            return 0
        if place.exists():
            checkpoints.note(self.folder, f"{place.name}: {checkpoints.problem_of(place, self._beat)}")
            checkpoints.remove(place)
        coming.rename(place)
        self.attempt.log.info("fetched checkpoint-%d from the artifact store", copy.step)
        return copy.step

    def _bring(self, copy: Copy, coming: Path) -> str | None:
        """Copy a copy here; what keeps it from being used."""
        try:
            text = self.shelf.read(f"{copy.name}/{MANIFEST}")
            entries = checkpoints.read_manifest(text)
            total = sum(entry.size_bytes for entry in entries)
            require_room(self.folder, total, f"the files of checkpoint-{copy.step}, which are to be fetched,")
            coming.mkdir()
            self._say_fetching(coming, total)()
            for entry in entries:
                self.shelf.get(f"{copy.name}/{entry.name}", coming / entry.name, self._say_fetching(coming, total))
        except ValueError as error:
            return str(error)
        except FileNotFoundError as error:
            return f"a file is missing ({error})"
        (coming / MANIFEST).write_bytes(text)
        return checkpoints.problem_of(coming, self._beat)

    def _say_fetching(self, coming: Path, total: int) -> Callable[[], None]:
        def say() -> None:
            done = sum(path.stat().st_size for path in coming.rglob("*") if path.is_file())
            self.attempt.report(phase="fetching checkpoint", done_mib=done // MIB, total_mib=-(-total // MIB))

        return say

    def _beat(self) -> None:
        self.attempt.report()

    def _out_of_reach(self, error: OSError) -> Transient:
        return Transient(
            f"the run's checkpoints in the artifact store cannot be read ({error}); it is tried again, for without "
            "them what other attempts have done would be done anew",
            cause=Cause.LOST,
        )

    # -- while it runs ---------------------------------------------------------------------------------------------

    def bring_up_to_date(self, beat: Beat) -> Iterator[int]:
        """Make the shelf hold what the disk does, newest first; yields each step that was copied.

        The newest copy stays until a newer one is complete.
        """
        self._put_small_files()
        here = checkpoints.complete_steps(self.folder)
        for step in here:
            found = self._look()
            self._remove(found, here, spared=self._whole(found)[:1])
            if not self._has(found, step) and self._put(step, beat):
                yield step
        if here:
            found = self._look()
            self._remove(found, here, spared=[copy for copy in self._whole(found)[:1] if copy.step > here[0]])

    def _look(self) -> Found:
        return Found(frozenset(self.shelf.ls()))

    def _has(self, found: Found, step: int) -> bool:
        """Whether there is a copy with all files: a stale attempt may have ended one that was removed meanwhile."""
        try:
            entries = checkpoints.read_manifest((checkpoints.at_step(self.folder, step) / MANIFEST).read_bytes())
        except FileNotFoundError:
            return False
        names = [entry.name for entry in entries]
        copies = [copy for copy in self._whole(found) if copy.step == step]
        return any(found.names.issuperset(f"{copy.name}/{name}" for name in names) for copy in copies)

    def _whole(self, found: Found) -> list[Copy]:
        return [copy for copy in found.copies(self.anew_after) if copy not in self.damaged]

    def _remove(self, found: Found, here: list[int], spared: list[Copy]) -> None:
        """Remove what the disk does not have any more, what is damaged, half or doubled: never of later attempts."""
        best = {copy.step: copy for copy in reversed(self._whole(found))}
        kept = {copy for step, copy in best.items() if step in here} | set(spared)
        for copy in sorted(found.begun() - kept):
            if copy.attempt <= self.attempt.number:
                self.shelf.remove(f"{copy.name}/{MANIFEST}")  # first, so that half a removal leaves no copy
                self.shelf.remove(copy.name)

    def _put(self, step: int, beat: Beat) -> bool:
        """Copy a checkpoint; False: it was removed from the disk before that began."""
        checkpoint, copy = checkpoints.at_step(self.folder, step), Copy(step, self.attempt.number)
        with ExitStack() as stack:
            try:  # what is open can be read to its end, whenever the trainer removes it
                text = (checkpoint / MANIFEST).read_bytes()
                names = [entry.name for entry in checkpoints.read_manifest(text)]
                files = [stack.enter_context((checkpoint / name).open("rb")) for name in names]
            except FileNotFoundError:
                return False
            for name, file in zip(names, files, strict=True):
                self.shelf.put(file, f"{copy.name}/{name}", beat)
            self.shelf.write(f"{copy.name}/{MANIFEST}", text)
        self.damaged.discard(copy)
        return True

    def _put_small_files(self) -> None:
        """Put what has changed: the settings before any checkpoint that was made with them."""
        own = f"attempt-{self.attempt.number}"
        small = {f"{own}/{NOTES}": self.attempt.workdir / NOTES, f"{own}/{PASSED_OVER}": self.folder / PASSED_OVER}
        for name, path in small.items():
            if path.is_file() and self._written.get(name) != (data := path.read_bytes()):
                self.shelf.write(name, data)
                self._written[name] = data
        for path in sorted(self.curves.glob("*")):
            name = f"{CURVES}/{path.name}"
            if self._written.get(name) != (size_bytes := path.stat().st_size):
                self.shelf.write(name, path.read_bytes())
                self._written[name] = size_bytes
