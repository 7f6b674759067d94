"""The log of a job, in its folder, without the settings' secrets."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from settings.secrets import mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from queue_app.store import Job
    from settings import Settings

log = logging.getLogger("tuneyard.runner")


def redact(text: str, settings: Settings) -> str:
    """The text without any secret of the settings."""
    return mask(text, settings.secrets)


class Redacting(logging.Formatter):
    """Writes log lines without the settings' secrets."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._settings = settings

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), self._settings)


@contextmanager
def job_log(settings: Settings, job: Job) -> Iterator[logging.Logger]:
    """The log of a job: what `tuneyard jobs logs` shows."""
    folder = settings.home.absolute() / "jobs" / job.id / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger(f"tuneyard.job.{job.id}")
    logger.setLevel(logging.INFO)
    handler = logging.FileHandler(folder / "job.log", encoding="utf-8")
    handler.setFormatter(Redacting(settings))
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        try:
            handler.close()
        except OSError as error:  # the disk is full: what became of the job is in the store
            log.warning("the log of job %s lacks its last lines: %s", job.id, error.strerror)
