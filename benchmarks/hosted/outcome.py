"""What a run came to: what the sandboxes counted, and what the caller got, as rows of a table."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Outcome:
    """What the sandboxes counted, and what the caller got."""

    jobs: int
    slots: tuple[int, ...]
    kills: int = 0
    seconds: float = 0.0
    results: int = 0
    adopted: int | None = None
    ledgers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def remote_jobs(self) -> int:
        return sum(told["jobs_created"] for told in self.ledgers)

    @property
    def doubles(self) -> int:
        """Remote jobs beyond the first of one job of ours."""
        return sum(max(0, len(told["jobs"]) - 1) for ledger in self.ledgers for told in ledger["keys"].values())

    @property
    def most(self) -> tuple[int, ...]:
        return tuple(told["most_held_at_once"] for told in self.ledgers)

    @property
    def over_seconds(self) -> float:
        """Remote jobs beyond the slots, times how long."""
        return sum(_over(told["jobs"].values(), slots) for told, slots in zip(self.ledgers, self.slots, strict=True))

    @property
    def idle_seconds(self) -> list[float]:
        """How long each slot that a job left stood free, while another job of the account was still to start."""
        return sorted(s for told, n in zip(self.ledgers, self.slots, strict=True) for s in _idle(told["jobs"], n))


def _idle(jobs: Mapping[str, Mapping[str, Any]], slots: int) -> Iterator[float]:
    begun = sorted(job["created_at"] for job in jobs.values() if job["restarted_from"] is None)
    ended = sorted(job["ended_at"] for job in jobs.values() if job["reason"] != "restarted" and job["ended_at"])
    for free, taken in zip(ended, begun[slots:], strict=False):
        yield max(0.0, taken - free)


def _over(jobs: Collection[Mapping[str, Any]], slots: int) -> float:
    ended = [(job["ended_at"], -1) for job in jobs if job["ended_at"]]
    moves = sorted([(job["created_at"], 1) for job in jobs] + ended)
    held, before, total = 0, 0.0, 0.0
    for at, change in moves:
        total += max(0, held - slots) * (at - before)
        held, before = held + change, at
    return total


def rows_of(outcome: Outcome) -> dict[str, str]:
    """The figures of one side."""
    idle = outcome.idle_seconds
    return {
        "jobs": str(outcome.jobs),
        "jobs with a result": str(outcome.results),
        "**jobs without one**": str(outcome.jobs - outcome.results),
        "remote jobs created": str(outcome.remote_jobs),
        "**of them paid for again**": str(outcome.doubles),
        "adopted after a lost answer or a dead worker": "–" if outcome.adopted is None else str(outcome.adopted),
        f"**most at once, of {' · '.join(map(str, outcome.slots))} slots**": " · ".join(map(str, outcome.most)),
        "seconds that remote jobs were beyond the slots": f"{outcome.over_seconds:.0f}",
        "files sent": str(sum(told["uploads_received"] for told in outcome.ledgers)),
        "a slot free while a job waits: median s": f"{statistics.median(idle):.2f}" if idle else "–",
        "90th percentile s": f"{idle[int(0.9 * len(idle))]:.2f}" if idle else "–",
        "workers killed": str(outcome.kills),
        "seconds": f"{outcome.seconds:.0f}",
    }
