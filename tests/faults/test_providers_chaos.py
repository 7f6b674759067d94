"""`benchmarks/providers.py` in small, at four vendors: whatever dies or is answered, each job is paid for once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.hosted.accounts import SLOTS, accounts
from benchmarks.hosted.tuneyard_side import ours
from benchmarks.hosted.workers import Plan

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan(jobs=28, kills=12, seed=11, seconds=150.0)


@pytest.mark.chaos
@pytest.mark.timeout(240)
@pytest.mark.parametrize("vendors", [("openai", "nebius", "together", "fireworks"), ("openai",) * 4], ids=" ".join)
def test_each_job_is_paid_once_and_none_is_lost_while_workers_are_killed(tmp_path: Path, vendors: tuple[str, ...]):
    with accounts(tmp_path, vendors, PLAN.seed) as there:
        outcome = ours(tmp_path, PLAN, there)
    assert outcome.kills == PLAN.kills
    assert (outcome.results, outcome.remote_jobs, outcome.doubles) == (PLAN.jobs, PLAN.jobs, 0)
    assert [most for most, slots in zip(outcome.most, SLOTS, strict=True) if most > slots] == []
