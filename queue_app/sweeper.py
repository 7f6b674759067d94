"""Makes up for everything that was lost: expired leases, unmet needs that are met by now, rings nobody heard.

No row is marked as rung. A queue holds as many rings as it has due jobs, up to a depth; what is missing is rung again.
So a lost ring costs a sweep, a doubled one is answered by "nothing due", and a dead broker by its return.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from queue_app.errors import TuneyardError
from queue_app.job_type import QUEUES
from queue_app.process_identity import has_died

if TYPE_CHECKING:
    from queue_app.dispatcher import Ring
    from queue_app.store import Store
    from settings import Settings

log = logging.getLogger("tuneyard.sweeper")


@dataclass
class Sweeper:
    """One pass is `sweep`; several sweepers at once do no harm."""

    store: Store
    settings: Settings
    ring: Ring
    depth: Callable[[str], int]  # rings that stand in a queue
    actor: str = "sweeper"
    _troubles: set[str] = field(default_factory=set, init=False)

    def sweep(self) -> None:
        """Do what is due now, each part whatever became of the others.

        Raises:
            TuneyardError: a part could not be done; the first such
        """
        troubles = []
        parts: list[Callable[[], None]] = [self._bury, self._expire, self._wake, self._give]
        parts += [partial(self._ring, queue) for queue in QUEUES]
        for part in parts:
            try:
                part()
            except TuneyardError as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def _bury(self) -> None:
        for worker, _ in self.store.read.workers():
            if worker.process is not None and has_died(worker.process):
                log.warning("worker %s has died", worker.name)
                self.store.workers.bury(worker)

    def _expire(self) -> None:
        for job in self.store.expire_leases(max_failures=self.settings.queue.max_failures, actor=self.actor):
            log.warning("job %s lost its worker in attempt %d: %s", job.id, job.attempt, job.state)

    def _wake(self) -> None:
        self.store.wake(actor=self.actor)

    def _give(self) -> None:
        self.store.slots.give(actor=self.actor)

    def _ring(self, queue: str) -> None:
        due = self.store.read.due(queue, limit=self.settings.broker.doorbell_depth)
        if not due or not self.store.cards.has_taker(queue, self.settings.queue.lease_seconds):
            return
        missing = len(due) - self.depth(queue)
        if missing > 0:
            self.ring({queue: due[:missing]})

    def run(self, stopping: threading.Event) -> None:
        """Sweep until told to stop; a store or broker that is away is waited for, and said once.

        Settings change when processes start, so those who wait for slots ask once more then.
        """
        self._try(self.store.slots.ask_again)
        while not stopping.wait(self.settings.queue.sweep_seconds):
            self._try(self.sweep)

    def _try(self, part: Callable[[], object]) -> None:
        try:
            part()
        except TuneyardError as error:
            if str(error) not in self._troubles:
                log.warning("sweeping goes on when this is over: %s", error)
                self._troubles.add(str(error))
        else:
            if self._troubles:
                log.info("sweeping again")
                self._troubles.clear()
