"""A vendor's pace and limits at the sandbox."""

from __future__ import annotations

from dataclasses import dataclass, field

from api_worker.sandbox.remote_job import Pace

MIB = 1024 * 1024


@dataclass(frozen=True)
class Rules:
    """What the sandbox holds a vendor's clients to. None: no limit, or what the vendor's own table says."""

    pace: Pace = field(default_factory=Pace)
    max_concurrent: int | None = None  # unfinished jobs of the account
    max_jobs_a_day: int | None = None  # created within 24 hours, for each base model
    min_examples: int | None = None
    max_file_mib: float = 512
    models: tuple[str, ...] = ()  # empty: the vendor's own
