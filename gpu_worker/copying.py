"""The thread that copies a training's checkpoints while it runs, and neither slows nor fails it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from gpu_worker import checkpoints
from queue_app.errors import Cancelled, Interruption, Paused, Permanent, Released, StaleTransition

if TYPE_CHECKING:
    from types import TracebackType

    from gpu_worker.checkpoint_copies import Copies

PATIENCE_SECONDS = 120.0  # for the newest checkpoint to be copied once the training has stopped
HURRY_SECONDS = 15.0  # the same where the worker is shutting down; the supervisor kills it after a minute in all
LAST_SECONDS = 1.0  # for the thread to notice that it is not wanted any more


class Abandoned(Interruption):
    """Nobody wants the rest of the copy."""


@dataclass
class Copier:
    """Copies each checkpoint once `notice` hears of it; what failed is tried again with the next one.

    The end of the block waits until the newest one is copied, or says that it is not. It does not wait if the training
    has succeeded or was cancelled, and stops at once if the lease was lost: what is copied then is another's affair.
    """

    copies: Copies
    patience_seconds: float = PATIENCE_SECONDS
    failed: int = field(default=0, init=False)  # tries that came to nothing
    problem: Exception | None = field(default=None, init=False)  # of the last try
    _asked: int = field(default=1, init=False)  # the first: what earlier attempts have left on this disk
    _done: int = field(default=0, init=False)
    _heard: object = field(default=None, init=False)
    _abandoned: bool = field(default=False, init=False)
    _change: threading.Condition = field(default_factory=threading.Condition, init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._work, name=f"copies-{self.copies.attempt.job_id}", daemon=True)

    def notice(self, progress: dict[str, Any]) -> None:
        """Hear what the child tells: of a new `checkpoint_step` above all."""
        step = progress.get("checkpoint_step")
        if step is not None and step != self._heard:
            self._heard = step
            self._ask()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is not None and not isinstance(error, StaleTransition | Cancelled):
                self._settle(HURRY_SECONDS if isinstance(error, Released) else self.patience_seconds)
        finally:
            with self._change:
                self._abandoned = True
                self._change.notify_all()
            self._thread.join(LAST_SECONDS)

    def _ask(self) -> None:
        with self._change:
            self._asked += 1
            self._change.notify_all()

    def _settle(self, seconds: float) -> None:
        """Wait for the newest checkpoint to be copied, and say whether it is."""
        steps = checkpoints.complete_steps(self.copies.folder)
        self._ask()
        give_up = time.monotonic() + seconds
        while not self._is_idle() and time.monotonic() < give_up:
            try:
                self.copies.attempt.report()
            except Paused:
                continue
            except Released:
                give_up = min(give_up, time.monotonic() + HURRY_SECONDS)
            except Permanent:  # its deadline is over
                break
        if not self._is_idle() or self.problem is not None:
            why = self.problem or f"not done after {seconds:.0f} s"
            if steps:
                self.copies.attempt.log.warning(
                    "checkpoint-%d is not in the artifact store (%s): go on with the job on this host, or another one "
                    "goes on from an earlier step",
                    steps[0],
                    why,
                )
        elif steps:
            self.copies.attempt.log.info("checkpoint-%d is in the artifact store, for any host to go on from", steps[0])

    def _is_idle(self) -> bool:
        with self._change:
            return self._change.wait_for(lambda: self._done == self._asked, timeout=0.5)

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._abandoned or self._done < self._asked)
                asked = self._asked
            if self._abandoned:
                return
            try:
                self._copy(asked)
            except Abandoned:
                return
            with self._change:
                self._done = asked
                self._change.notify_all()

    def _copy(self, asked: int) -> None:
        def beat() -> None:
            if self._abandoned:
                raise Abandoned

        log, began = self.copies.attempt.log, time.monotonic()
        try:
            for step in self.copies.bring_up_to_date(beat):
                log.info("copied checkpoint-%d to the artifact store in %.2f s", step, time.monotonic() - began)
                if self._asked > asked:  # a newer one comes before what is left of the older ones
                    break
                began = time.monotonic()
        except Abandoned:
            raise
        except Exception as error:  # a thread of its own: what it does not catch, nobody hears
            self.failed += 1
            self.problem = error
            log.warning(
                "checkpoints could not be copied to the artifact store, which is tried again with the next: %s", error
            )
        else:
            self.problem = None
