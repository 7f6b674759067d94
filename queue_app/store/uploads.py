"""The files that an account has, by their content: the same file is sent once, whichever jobs need it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from queue_app.lifecycle import State
from queue_app.store.rows import Upload
from queue_app.store.tables import jobs, uploads

if TYPE_CHECKING:
    from queue_app.store.database import Database


class Uploads:
    """What was sent to which account."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def begin(self, account: str, digest: str, job_id: str) -> Upload:
        """What is known of a file; where nobody has sent it or is sending it, `job_id` is to, and the row says so."""
        here = (uploads.c.account == account, uploads.c.digest == digest)
        query = select(uploads).where(*here).with_for_update()
        with self.database.writing() as connection:
            if connection.execute(query).first() is None:
                with suppress(IntegrityError), connection.begin_nested():  # another one began it in this very moment
                    connection.execute(insert(uploads).values(account=account, digest=digest, job_id=job_id))
            found = Upload.model_validate(dict(connection.execute(query).mappings().one()))
            sender = select(jobs.c.id).where(jobs.c.id == found.job_id, jobs.c.state == State.RUNNING)
            if found.file is None and connection.execute(sender).first() is None:
                connection.execute(update(uploads).where(*here).values(job_id=job_id))  # who was at it is gone
                found.job_id = job_id
            return found

    def find(self, account: str, digest: str) -> str | None:
        """What an account calls a file; None: it does not have it."""
        query = select(uploads.c.file).where(uploads.c.account == account, uploads.c.digest == digest)
        with self.database.reading() as connection:
            return connection.execute(query).scalar()

    def finish(self, account: str, digest: str, file: str) -> None:
        """The account has it, and calls it so."""
        here = (uploads.c.account == account, uploads.c.digest == digest)
        with self.database.writing() as connection:
            connection.execute(update(uploads).where(*here).values(file=file))

    def forget(self, account: str, digest: str) -> None:
        """The account does not have it."""
        here = (uploads.c.account == account, uploads.c.digest == digest)
        with self.database.writing() as connection:
            connection.execute(delete(uploads).where(*here))
