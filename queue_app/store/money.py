"""Sums that a job is held to. No SQL: job types speak of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Caps:
    """The most that may be spent, in USD; None: without end."""

    recipe: float | None = None  # by the jobs of one run
    account: float | None = None  # ever
    day: float | None = None  # at the account in 24 hours
    job: float | None = None  # by the job alone


@dataclass(frozen=True)
class Quoted:
    """What a job is expected to cost, in USD; None: nobody knows."""

    low: float | None
    high: float | None
    tokens: int | None = None
