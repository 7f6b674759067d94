"""The other side: the obvious Celery program, on a broker like ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import openai
from redis import Redis

from benchmarks.hosted.accounts import FILES, KEY, PACE, Account, datasets, rehearsal
from benchmarks.hosted.outcome import Outcome
from benchmarks.hosted.workers import THREADS, Plan, Workers, harass, running
from benchmarks.obvious.celery_program import fine_tuned, obvious_app
from queue_app.broker import wait_until_ready
from settings import Settings


def load_obvious() -> Callable[[], None]:
    """Load what jobs do, and do one."""
    with rehearsal() as (url, file), openai.OpenAI(api_key=KEY, base_url=url) as client:
        fine_tuned(client, "rehearsal", str(file))
    return serve_obvious


def serve_obvious() -> None:
    app = obvious_app(Settings().broker_url)
    app.worker_main(["--quiet", "worker", "--pool=threads", f"--concurrency={THREADS}", "--loglevel=ERROR"])


def obvious(folder: Path, plan: Plan, there: Sequence[Account]) -> Outcome:
    """The other side."""
    home = folder / "obvious"
    home.mkdir()
    files, told = datasets(home / "data"), {"TUNEYARD_HOME": str(home)}
    settings = Settings(home=home)
    with ExitStack() as stack:
        stack.enter_context(running(["-m", "queue_app.cli", "broker"], told, home / "broker.log"))
        wait_until_ready(settings.broker_url, 30)
        app, redis = obvious_app(settings.broker_url), Redis(unix_socket_path=str(settings.broker_socket))
        for number in range(plan.jobs):
            account = there[number % len(there)]
            arguments = (f"ty-{number}", (account.url, account.slots), str(files[number % FILES]))
            app.send_task("fine_tune", arguments)
        workers = Workers("obvious", told, home / "workers.log")
        stack.callback(workers.stop)
        outcome = Outcome(plan.jobs, tuple(account.slots for account in there))
        outcome.kills, outcome.seconds = harass(workers, plan, lambda: int(str(redis.hlen("models"))))
        outcome.results = int(str(redis.hlen("models")))
        redis.close()
    time.sleep(sum(vars(PACE).values()))  # what is still burning ends
    outcome.ledgers = [account.ledger() for account in there]
    return outcome
