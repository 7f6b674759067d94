"""Tuneyard's side: its broker, its sweeper, its API workers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from pydantic import SecretStr

from api_worker.providers import open_provider
from benchmarks.hosted.accounts import (
    ANSWER_SECONDS,
    FILES,
    KEY,
    LAG_SECONDS,
    POLL_SECONDS,
    Account,
    datasets,
    rehearsal,
)
from benchmarks.hosted.outcome import Outcome
from benchmarks.hosted.workers import THREADS, Plan, Workers, harass, running
from queue_app.broker import wait_until_ready
from queue_app.celery_app import work
from queue_app.lifecycle import FINAL, State
from queue_app.presence import present
from queue_app.runner import Runner
from queue_app.store import Database, NewJob, Store
from queue_app.store.slots import SlotRules
from settings import ProviderSettings, Settings


def load_ours() -> Callable[[], None]:
    """Load what jobs do, and do one."""
    for account, told in Settings().providers.items():
        open_provider(account, told).close()
    with rehearsal() as (url, file):
        mine = ProviderSettings(api="openai", base_url=url, api_key=SecretStr(KEY), poll_seconds=0.1)
        settings = Settings(home=file.parent / "home", providers={"rehearsal": mine})
        store = Store(Database(settings.store_url))
        store.database.migrate()
        spec = {"dataset": str(file), "provider": "rehearsal", "base_model": "sandbox-base", "epochs": 1}
        job = NewJob(kind="finetune.hosted", queue="api", spec=spec)
        store.submit([job], actor="bench")
        runner = Runner(store, settings, "rehearsal")
        while store.read.job(job.id).state not in FINAL:
            runner.run(job_id=job.id)
            time.sleep(0.05)
        if store.read.job(job.id).state != State.SUCCEEDED:
            raise RuntimeError(f"the rehearsal: {store.read.job(job.id).failure}")
        store.database.engine.dispose()
    return serve_ours


def serve_ours() -> None:
    settings = Settings()
    limits = settings.queue
    store = Store(Database(settings.store_url), SlotRules(limits.ageing_seconds, limits.probe_seconds))
    runner = Runner(store, settings, f"api:{os.getpid()}")
    with present(store, runner.worker, queue="api", host="here", every_seconds=limits.lease_seconds / 3):
        work(runner, settings.broker_url, queue="api", threads=THREADS)


def environment_of(home: Path, there: Sequence[Account]) -> dict[str, str]:
    """The settings of Tuneyard's processes."""
    queue = {"LEASE_SECONDS": 1.5, "SWEEP_SECONDS": 0.1, "MAX_FAILURES": 20, "BACKOFF_SECONDS": 0.3}
    queue |= {"BACKOFF_MAX_SECONDS": 2, "PROBE_SECONDS": 2}
    told = {f"TUNEYARD_QUEUE__{name}": str(value) for name, value in queue.items()} | {"TUNEYARD_HOME": str(home)}
    for account in there:
        fields = {"API": account.vendor, "BASE_URL": account.url, "API_KEY": KEY, "ORGANIZATION": "sandbox"}
        fields |= {"MAX_JOBS": str(account.slots), "POLL_SECONDS": str(POLL_SECONDS)}
        fields |= {"LISTING_LAG_SECONDS": str(1.5 * LAG_SECONDS), "ANSWER_SECONDS": str(ANSWER_SECONDS)}
        told |= {f"TUNEYARD_PROVIDERS__{account.name.upper()}__{name}": value for name, value in fields.items()}
    return told


def ours(folder: Path, plan: Plan, there: Sequence[Account]) -> Outcome:
    """Tuneyard's side."""
    home = folder / "ours"
    home.mkdir()
    files, told = datasets(home / "data"), environment_of(home, there)
    settings = Settings(home=home)
    store = Store(Database(settings.store_url))
    store.database.migrate()
    numbered = [(number, there[number % len(there)]) for number in range(plan.jobs)]
    jobs = [
        NewJob(
            kind="finetune.hosted",
            queue="api",
            spec={
                "dataset": str(files[number % FILES]),
                "provider": account.name,
                "base_model": "sandbox-base",
                "epochs": 1,
                "suffix": f"b{number}",
            },
            reuse=False,
        )
        for number, account in numbered
    ]
    store.submit(jobs, actor="bench")

    def results() -> int:
        return sum(row["jobs"] for row in store.read.census() if row["state"] in FINAL)

    with ExitStack() as stack:
        for name in ("broker", "sweeper"):
            stack.enter_context(running(["-m", "queue_app.cli", name], told, home / f"{name}.log"))
            wait_until_ready(settings.broker_url, 30)
        workers = Workers("ours", told, home / "workers.log")
        stack.callback(workers.stop)
        outcome = Outcome(plan.jobs, tuple(account.slots for account in there))
        outcome.kills, outcome.seconds = harass(workers, plan, results)
    outcome.results = sum(row["jobs"] for row in store.read.census() if row["state"] == State.SUCCEEDED)
    logs = [path.read_text() for path in (home / "jobs").glob("*/logs/job.log")]
    outcome.adopted = sum("start: adopted" in log for log in logs)
    outcome.ledgers = [account.ledger() for account in there]
    store.database.engine.dispose()
    return outcome
