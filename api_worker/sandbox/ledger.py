"""What was asked of the sandbox and what was made of it, as its clients' tests and benchmarks count it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from api_worker.sandbox.remote_job import SandboxJob, most_at_once

if TYPE_CHECKING:
    from collections.abc import Iterable

    from api_worker.sandbox.desk import Desk


def ledger_of(desks: Iterable[Desk], now: float) -> dict[str, Any]:
    """The whole, and each vendor's part."""
    parts = {desk.vendor.name: _part(desk, now) for desk in desks}
    counters = ("uploads", "faults_committed", "requests_received", "requests_refused")
    numbers = ("jobs_created", "uploads_received", "creates_received")
    jobs = [job for desk in desks for job in desk.jobs(now)]
    return {
        "keys": _keys(parts.values()),
        **{name: dict(sum((Counter(part[name]) for part in parts.values()), Counter())) for name in counters},
        **{name: sum(part[name] for part in parts.values()) for name in numbers},
        **_at_once(jobs, now),
        "vendors": parts,
    }


def _part(desk: Desk, now: float) -> dict[str, Any]:
    jobs, asked = desk.jobs(now), desk.state.requests
    made: dict[str, list[str]] = {}
    for job in reversed(jobs):
        if job.predecessor is None:  # one that the provider restarts is no other job
            made.setdefault(job.key, []).append(job.id)
    keys = {*made, *asked.creates, *asked.cancels}
    return {
        "keys": {
            key: {
                "creates_received": asked.creates[key],
                "cancels_received": asked.cancels[key],
                "jobs": made.get(key, []),
            }
            for key in sorted(keys)
        },
        "jobs_created": sum(map(len, made.values())),
        "creates_received": asked.creates.total(),
        "uploads_received": asked.uploads,
        "uploads": dict(desk.state.uploads),  # by the content's SHA-256
        **_at_once(jobs, now),
        "max_concurrent": desk.rules.max_concurrent,
        "jobs": {job.id: _line(job, now) for job in jobs},
        "faults_committed": desk.faults.committed,
        "requests_received": dict(desk.received),
        "requests_refused": dict(desk.refused),
    }


def _keys(parts: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What was asked under each key, at all vendors together: a job may have gone from one to another."""
    found: dict[str, dict[str, Any]] = {}
    for key, told in (row for part in parts for row in part["keys"].items()):
        before = found.get(key, {"creates_received": 0, "cancels_received": 0, "jobs": []})
        found[key] = {name: before[name] + told[name] for name in before}
    return found


def _line(job: SandboxJob, now: float) -> dict[str, Any]:
    return {
        "key": job.key,
        "model": job.model,
        "phase": job.phase(now),
        "reason": job.failure.reason if job.failure else None,  # known from its beginning
        "created_at": job.created_at,
        "running_at": job.running_at,
        "ended_at": job.finished_at(now),
        "restarted_from": job.predecessor,
    }


def _at_once(jobs: list[SandboxJob], now: float) -> dict[str, int]:
    ends = {job.id: job.finished_at(now) or now for job in jobs}
    held = [job for job in jobs if job.holds_slot]
    return {
        "most_held_at_once": most_at_once([(job.created_at, ends[job.id]) for job in held]),
        "most_running_at_once": most_at_once([(job.running_at, ends[job.id]) for job in jobs]),
    }
