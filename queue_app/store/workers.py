"""The workers that live, as far as they have said so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, update

from queue_app.lifecycle import State
from queue_app.store.tables import jobs, workers

if TYPE_CHECKING:
    from queue_app.store.database import Database
    from queue_app.store.rows import Worker

FORGOTTEN = timedelta(hours=1)  # who is silent for so long


class Workers:
    """The table of workers; `Readings.workers` reads it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def see(self, worker: Worker) -> None:
        """A worker lives, and is as it says."""
        told = worker.model_dump()
        with self.database.writing() as connection:
            connection.execute(delete(workers).where(workers.c.seen_at < worker.seen_at - FORGOTTEN))
            # never absent for a moment: a claim that counts the cards of this host may wait for this row
            if connection.execute(update(workers).where(workers.c.name == worker.name).values(told)).rowcount == 0:
                connection.execute(insert(workers).values(told))

    def forget(self, name: str) -> None:
        """A worker has ended."""
        with self.database.writing() as connection:
            connection.execute(delete(workers).where(workers.c.name == name))

    def bury(self, worker: Worker) -> None:
        """A worker is certainly dead: its leases end now, instead of running out."""
        here = (workers.c.name == worker.name, workers.c.process == worker.process)
        with self.database.writing() as connection:
            if connection.execute(delete(workers).where(*here)).rowcount == 0:
                return  # another one has its name by now
            held = (jobs.c.worker == worker.name, jobs.c.state == State.RUNNING)
            connection.execute(update(jobs).where(*held).values(lease_until=datetime.now(UTC)))
