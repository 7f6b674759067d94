"""How long a tuned model at a provider will answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from api_worker.catalogue import WARN_DAYS
from queue_app.cli import context
from queue_app.errors import Invalid, NotFound
from tasks.commands.accounts.endings import days_left, first_end
from tasks.commands.accounts.known import find_known

if TYPE_CHECKING:
    from queue_app.store import Artifact

HOSTED = "hosted-model"


@dataclass(frozen=True)
class Life:
    """Until when a model answers, as far as that is known."""

    provider: str = ""
    base_model: str = ""
    until: date | None = None
    days: int | None = None  # below 0: so long ago

    @property
    def is_short(self) -> bool:
        return self.days is not None and self.days <= WARN_DAYS

    @property
    def words(self) -> str:
        if self.until is None or self.days is None:
            return "no end known" if self.provider else "not known here"
        if self.days <= 0:
            return f"over since {self.until}"
        return f"{days_left(self.until, datetime.now(UTC).date())}, {self.until}"


def life_of(artifact: Artifact) -> Life:
    """The life of a hosted model, by the base model of the job that made it."""
    read = context.read()
    try:
        result = (read.job(artifact.job_id).result if artifact.job_id else None) or {}
        provider, base = str(result.get("provider", "")), str(result.get("base_model", ""))
        known = find_known(context.settings(), provider)
    except (NotFound, Invalid):  # a job of another yard's, or an account that is no longer in the settings
        return Life()
    end = None if known.is_own_server else first_end(known.catalogue, known.api, base, "inference")
    if end is None:
        return Life(provider, base)
    return Life(provider, base, end.on, (end.on - datetime.now(UTC).date()).days)
