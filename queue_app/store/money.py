"""Sums that a job is held to. No SQL: job types and commands speak of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

START = "start"  # the once-only step that is paid for
EPSILON_USD = 1e-9  # what sums of binary fractions are off by
FINEST = 6  # decimals


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


@dataclass(frozen=True)
class Billed:
    """What a start cost; None: nobody tells."""

    tokens: int | None
    usd: float | None
    is_estimate: bool = False  # it is reckoned here, or the provider's own estimate


def sum_of(amount: float | None) -> float | None:
    """An amount of money; None where it is none: a NaN passes every cap, and a negative sum makes room under it."""
    return amount if amount is not None and isfinite(amount) and amount >= 0 else None


def fits(amount: float, cap: float) -> bool:
    """Whether a sum keeps to a cap. Nothing fits under a cap that is no number."""
    return amount <= cap + EPSILON_USD


def dollars(*amounts: float) -> list[str]:
    """Amounts that stand beside one another, with as many decimals as tell them from nothing and from each other."""
    rounded = [round(amount, FINEST) for amount in amounts]
    for places in (2, 4, FINEST):
        texts = [f"${amount:,.{places}f}" for amount in rounded]
        is_small = any(0 < abs(amount) < 10**-places for amount in rounded)
        if not is_small and len(set(texts)) == len(set(rounded)):
            break
    return texts
