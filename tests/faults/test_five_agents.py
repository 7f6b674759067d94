"""`recipes/five_agents.yaml`, by the commands that a user types and with real processes, at an account of two slots."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from queue_app.artifacts import ArtifactStore
from queue_app.lifecycle import Cause, Reason, State
from queue_app.shipped import find_shipped
from tests.conftest import eventually
from tests.sandbox.server import Served, serve_in_process
from tests.yard import ROOT

if TYPE_CHECKING:
    from queue_app.store import Job
    from tests.yard import Yard

AGENTS = ("arithmetic", "algebra", "finance", "planning", "support")
TIMING = ("--validate-seconds", "2", "--queue-seconds", "0.2", "--run-seconds", "2", "--max-concurrent", "2")
PATIENCE_SECONDS = 100.0


def tuneyard(yard: Yard, *words: str) -> Any:
    """What a command tells machines."""
    done = subprocess.run(
        [sys.executable, "-m", "queue_app.cli", *words, "--json"],
        env={**os.environ, **yard.environment, "TUNEYARD_HOME": str(yard.home), "PYTHONPATH": str(ROOT)},
        cwd=yard.home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(yard: Yard, sandbox: Served, api: str, *changes: str) -> dict[str, str]:
    """Run the recipe at an account of the sandbox; the jobs by agent, all of which begin at once."""
    account = {"API": api, "BASE_URL": sandbox.base_url(api), "API_KEY": "key", "POLL_SECONDS": "0.3"}
    account |= {"LISTING_LAG_SECONDS": "0", "ANSWER_SECONDS": "0"}
    yard.environment |= {f"TUNEYARD_PROVIDERS__STUDIO__{name}": value for name, value in account.items()}
    words = [word for change in ("steps.tuned.provider=studio", *changes) for word in ("--set", change)]
    ids = tuneyard(yard, "run", str(find_shipped("recipes") / "five_agents.yaml"), *words, "--detach")["jobs"]
    tuned = {agent: ids[f"tuned[agent={agent}]"] for agent in AGENTS}
    yard.start("worker cpu")
    for job_id in tuned.values():
        yard.wait_for(job_id, State.QUEUED, seconds=PATIENCE_SECONDS)
    yard.start("worker api")
    return tuned


def jobs(yard: Yard, ids: dict[str, str]) -> dict[str, Job]:
    return {agent: yard.job(job_id) for agent, job_id in ids.items()}


def all_ended(yard: Yard, ids: dict[str, str]) -> dict[str, Job]:
    def ended() -> dict[str, Job] | None:
        found = jobs(yard, ids)
        return found if all(job.state in (State.SUCCEEDED, State.FAILED) for job in found.values()) else None

    return eventually(ended, seconds=PATIENCE_SECONDS, what=f"the end of all five\n{yard.logs()}")


def waiting_for(yard: Yard, ids: dict[str, str], reason: Reason) -> set[str]:
    return {agent for agent, job in jobs(yard, ids).items() if (job.state, job.reason) == (State.WAITING, reason)}


def report_of(yard: Yard, job: Job) -> dict[str, Any]:
    assert job.result is not None
    store = ArtifactStore(yard.settings.artifacts_url, yard.store.artifacts, yard.home / "cache")
    told: dict[str, Any] = json.loads((store.fetch(job.result["report"]) / "training_report.json").read_text())
    return told


def test_two_run_three_wait_and_the_one_that_fails_is_sent_again_alone(yard: Yard, model: str, tmp_path: Path):
    with serve_in_process(tmp_path / "sandbox", *TIMING, "--faults", "file:broken*1") as (sandbox, _):
        ids = run(yard, sandbox, "nebius", f"steps.base.model={model}", "steps.chosen.size=20")
        eventually(
            lambda: len(waiting_for(yard, ids, Reason.SLOT)) == 3 and sandbox.ledger()["jobs_created"] == 2,
            seconds=PATIENCE_SECONDS,
            what="two at the provider and three in the queue",
        )
        first = all_ended(yard, ids)
        [(unlucky, failed)] = [(agent, job) for agent, job in first.items() if job.state == State.FAILED]
        ledger = sandbox.ledger()
        assert (ledger["jobs_created"], ledger["most_held_at_once"]) == (5, 2)
        assert failed.failure is not None
        assert failed.failure.startswith("studio: job ftjob-")

        assert tuneyard(yard, "jobs", "retry", failed.id)[0]["id"] == failed.id
        yard.wait_for(failed.id, State.SUCCEEDED, seconds=PATIENCE_SECONDS)
        after = sandbox.ledger()
    assert (after["jobs_created"], after["most_held_at_once"]) == (6, 2)
    last = jobs(yard, ids)
    assert {agent: job for agent, job in last.items() if agent != unlucky} == {
        agent: job for agent, job in first.items() if agent != unlucky
    }
    names = {agent: report_of(yard, job)["model"] for agent, job in last.items()}
    assert names == {agent: (job.result or {})["model"] for agent, job in last.items()}
    assert [agent for agent, name in names.items() if not name.startswith(f"ft:sandbox-base:sandbox:{agent}")] == []


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of examples for each agent; the seventh of one is a talk without an answer at its end."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for agent in AGENTS:
        talks = [[("user", f"{agent}: what is {n}?"), ("assistant", f"It is {n}.")] for n in range(12)]
        if agent == "support":
            talks[6].append(("user", "Thanks!"))
        write(folder / f"{agent}.jsonl", talks)
    return folder


def write(path: Path, talks: list[list[tuple[str, str]]]) -> None:
    lines = [{"messages": [{"role": role, "content": said} for role, said in talk]} for talk in talks]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_what_the_provider_refuses_is_shown_with_its_line_and_sent_again_once_it_is_mended(
    yard: Yard, model: str, rows: Path, tmp_path: Path
):
    with serve_in_process(tmp_path / "sandbox", *TIMING) as (sandbox, _):
        changes = (f"steps.base.model={model}", f"steps.tuned.dataset={rows}/${{matrix.agent}}.jsonl")
        ids = run(yard, sandbox, "together", *changes)
        first = all_ended(yard, ids)
        assert {agent for agent, job in first.items() if job.state == State.FAILED} == {"support"}
        refused = first["support"]
        assert refused.cause == Cause.DATA
        assert 'Example 7 does not end with a message from "assistant".' in str(refused.failure)
        before = sandbox.ledger()
        assert (before["jobs_created"], before["uploads_received"], before["most_held_at_once"]) == (4, 5, 2)

        write(rows / "support.jsonl", [[("user", f"What is {n}?"), ("assistant", f"It is {n}.")] for n in range(12)])
        tuneyard(yard, "jobs", "retry", refused.id)
        yard.wait_for(refused.id, State.SUCCEEDED, seconds=PATIENCE_SECONDS)
        after = sandbox.ledger()
    assert (after["jobs_created"], after["uploads_received"]) == (5, 6)
