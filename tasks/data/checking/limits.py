"""The limits of `limits.toml`."""

from __future__ import annotations

import tomllib
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from tasks.data.checking.finding import Severity

Measure = Literal["file_bytes", "examples", "example_tokens", "total_tokens"]


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much or little a target's file may have of something, who says so, and when that was read."""

    target: str
    measure: Measure
    severity: Severity
    source: str
    date: date
    minimum: int = 0
    maximum: int | None = None


@cache
def all_limits() -> tuple[Limit, ...]:
    """Every limit there is."""
    table = tomllib.loads(Path(__file__).with_name("limits.toml").read_text(encoding="utf-8"))
    return tuple(msgspec.convert(row, Limit) for row in table["limit"])


def limits_of(target: str, measure: Measure) -> list[Limit]:
    """What is known for a target, the blocking ones first: who breaks one of those is told only that."""
    found = [limit for limit in all_limits() if limit.target == target and limit.measure == measure]
    return sorted(found, key=lambda limit: limit.severity)
