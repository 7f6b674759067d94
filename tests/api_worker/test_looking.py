"""Looks at remote jobs: few requests however many jobs there are, and an end that is seen soon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.rules import Rules
from queue_app.lifecycle import State
from settings import ProviderSettings
from tasks.hosting.looking import is_busy, job_of_key, pause_seconds
from tests.conftest import eventually
from tests.sandbox.server import examples_file, serve

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunHere

KIND = "finetune.hosted"
JOBS = 14


def test_many_jobs_are_looked_at_in_lists_and_every_end_is_seen(tmp_path: Path, run_here: RunHere) -> None:
    dataset = examples_file(tmp_path / "data" / "examples.jsonl").parent
    with serve(tmp_path / "state", rules=Rules(pace=Pace(0.0, 0.0, 3.0))) as sandbox:
        account = sandbox.account().model_copy(update={"poll_seconds": 1.0, "max_jobs": JOBS})
        yard = run_here.with_provider("acme", account)
        ids = [yard.submit(KIND, dataset=str(dataset), provider="acme", base_model="sandbox-base") for _ in range(JOBS)]
        for job_id in ids:
            yard.runner.run(job_id=job_id)
        before = sandbox.ledger()["vendors"]["openai"]["requests_received"]
        begun = time.monotonic()

        def ended() -> bool:
            for job_id in ids:
                yard.runner.run(job_id=job_id)
            return all(job.state == State.SUCCEEDED for job in yard.store.read.ids(ids))

        eventually(ended, what="the end of all", seconds=60)
        seconds = time.monotonic() - begun
        after = sandbox.ledger()["vendors"]["openai"]["requests_received"]
    told = {route: after.get(route, 0) - before.get(route, 0) for route in after}
    assert told["list"] <= seconds + 2  # one a second, as poll_seconds says, for all of them
    assert told["retrieve"] <= 4 * JOBS  # the end of each, in full, and those looked at while they were few


def test_few_are_looked_at_one_by_one_and_many_wait_their_turn() -> None:
    account = ProviderSettings(poll_seconds=30.0)
    assert [is_busy(held, account) for held in (1, 10, 15, 16, 1000)] == [False, False, False, True, True]
    assert 27 <= pause_seconds(10, account) <= 33
    assert (
        1800 <= pause_seconds(1000, account) <= 2200
    )  # 1,000 jobs are claimed every two seconds, not 33 times a second


def test_a_key_names_its_job_and_nothing_else_does() -> None:
    assert [job_of_key(key) for key in ("ty-abcdefghij", "ty-abcdefghij-2", "mine", "", None)] == [
        "abcdefghij",
        "abcdefghij",
        None,
        None,
        None,
    ]
