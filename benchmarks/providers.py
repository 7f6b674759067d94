"""Fine-tunes at four accounts while API workers are killed: Tuneyard, and the obvious Celery program beside it.

python benchmarks/providers.py                       both, as Markdown
python benchmarks/providers.py --side ours --jobs 40 --kills 20 --vendors openai nebius together fireworks

Each account is a sandbox that counts and enforces no limit, so that a slot taken too many shows. Its answers are lost,
late and wrong by chance, drawn from the seed; the same seed draws when which worker gets a SIGKILL.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openai
from celery import Celery, Task
from pydantic import SecretStr
from redis import Redis

from api_worker.providers import open_provider
from api_worker.sandbox.__main__ import listen, server_of
from api_worker.sandbox.app import Sandbox, open_desks
from api_worker.sandbox.connections import Connections
from api_worker.sandbox.faults import Faults, parse_fault
from api_worker.sandbox.ledger import ledger_of
from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.rules import Rules
from api_worker.sandbox.vendor import vendors
from queue_app.broker import wait_until_ready
from queue_app.celery_app import work
from queue_app.lifecycle import FINAL, State
from queue_app.presence import present
from queue_app.runner import Runner
from queue_app.store import Database, NewJob, Store
from queue_app.store.slots import SlotRules
from settings import ProviderSettings, Settings

ROOT = Path(__file__).resolve().parent.parent
SLOTS = (2, 3, 4, 5)
PROCESSES, THREADS = 4, 4  # API workers on either side, and what each does at once
PACE = Pace(validate_seconds=0.3, queue_seconds=0.3, run_seconds=2.4)
POLL_SECONDS, LAG_SECONDS = 0.5, 1.0
ANSWER_SECONDS = 1.0  # these accounts answer sooner, or not at all
FAULTS = (
    "upload:503@0.1",
    "create:500@0.05",
    "create:500-after@0.1",
    "create:drop-after@0.1",
    "create:drop@0.05",
    "create:429@0.05",
    "create:429=0.5@0.05",
    "create:slow=0.4@0.2",
    "retrieve:500@0.03",
    "retrieve:drop@0.03",
    f"list:lag={LAG_SECONDS:g}",
    "list:503@0.05",
    "job:odd-word=1@0.1",
    "job:restart@0.1",  # where a vendor does so
)
FILES = 10  # data sets, which the jobs share
KEY = "benchmark-key"

# Of the obvious program. A fine-tune takes an hour or more, and Celery redelivers after one; here it takes 3 s.
SEMAPHORE_SECONDS, REDELIVERED_SECONDS = 12.0, 30.0


@dataclass(frozen=True)
class Account:
    """An account at a sandbox of its own."""

    name: str
    vendor: str
    slots: int
    url: str
    sandbox: Sandbox

    def ledger(self) -> dict[str, Any]:
        part: dict[str, Any] = ledger_of(self.sandbox.desks, time.time())["vendors"][self.vendor]
        return part


@dataclass(frozen=True)
class Plan:
    """What is done to either side."""

    jobs: int = 200
    kills: int = 100
    seed: int = 7
    seconds: float = 190.0  # after which what is not done is lost
    pause_seconds: tuple[float, float] = (0.6, 1.6)  # between two kills


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


# -- the accounts ------------------------------------------------------------------------------------------------------


@contextmanager
def accounts(folder: Path, chosen: Sequence[str], seed: int) -> Iterator[list[Account]]:
    """A sandbox for each account, in threads of this process."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(_account(folder / f"sandbox-{place}", vendor, slots, seed + place))
            for place, (vendor, slots) in enumerate(zip(chosen, SLOTS, strict=True))
        ]


@contextmanager
def _account(folder: Path, vendor: str, slots: int, seed: int) -> Iterator[Account]:
    faults = Faults([parse_fault(text) for text in FAULTS], seed)
    sandbox = Sandbox(open_desks(folder, Rules(pace=PACE), faults), Connections())
    server, line = server_of(sandbox), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [line]})
    thread.start()
    url = f"http://127.0.0.1:{line.getsockname()[1]}{vendors()[vendor].prefix}"
    try:
        yield Account(f"account{slots}", vendor, slots, url, sandbox)
    finally:
        server.should_exit = True
        thread.join()
        line.close()
        sandbox.close()


def datasets(folder: Path) -> list[Path]:
    """Files of chat examples, no two alike."""
    folder.mkdir()
    made = []
    for number in range(FILES):
        asked = [(f"What is {number} + {n}?", f"It is {number + n}.") for n in range(16)]
        rows = [
            {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
            for question, answer in asked
        ]
        made.append(folder / f"{number}.jsonl")
        made[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


# -- workers that are killed -------------------------------------------------------------------------------------------


class Workers:
    """Worker processes, forked from one that has loaded everything, so that a new one is there at once."""

    def __init__(self, side: str, environment: Mapping[str, str], log: Path) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--forks", side]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with log.open("ab") as stream:
            self._parent = subprocess.Popen(
                command,
                env={**os.environ, **environment, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                start_new_session=True,
            )
        self.pids = [self._start() for _ in range(PROCESSES)]

    def _start(self) -> int:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write("\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def replace(self, place: int) -> None:
        """SIGKILL one, and start another."""
        with suppress(ProcessLookupError):  # the log says why it ended by itself
            os.kill(self.pids[place], signal.SIGKILL)
        self.pids[place] = self._start()

    def stop(self) -> None:
        os.killpg(self._parent.pid, signal.SIGKILL)
        self._parent.communicate()  # and close what led there


def fork_workers(serve: Callable[[], None]) -> None:
    """Fork a worker for every line that comes in, and tell its process id."""
    for _ in sys.stdin:
        bury()
        child = os.fork()
        if child == 0:
            faulthandler.enable()
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            serve()
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


def bury() -> None:
    """Take note of the dead; one that was not killed is told of."""
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if child == 0:
            return
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.stderr.write(f"worker {child} ended by itself: {os.waitstatus_to_exitcode(status)}\n")


def harass(workers: Workers, plan: Plan, results: Callable[[], int]) -> tuple[int, float]:
    """Kill workers until there are enough kills and results, or the time is up; how many, and how long it took."""
    chance, kills, began = random.Random(plan.seed), 0, time.monotonic()
    while (lived := time.monotonic() - began) < plan.seconds and (results() < plan.jobs or kills < plan.kills):
        time.sleep(chance.uniform(*plan.pause_seconds))
        place = chance.randrange(PROCESSES)
        if kills < plan.kills:
            workers.replace(place)
            kills += 1
    return kills, lived


# -- Tuneyard ----------------------------------------------------------------------------------------------------------


@contextmanager
def rehearsal() -> Iterator[tuple[str, Path]]:
    """A sandbox in a process of its own, and a file: for a job that is done before workers are forked.

    A worker lives for days, and here for seconds: most of it would go into what only a first job costs.
    """
    command = [sys.executable, "-m", "api_worker.sandbox", "--port", "0", "--validate-seconds", "0"]
    command += ["--queue-seconds", "0", "--run-seconds", "0.1", "--state"]
    with tempfile.TemporaryDirectory() as place:
        process = subprocess.Popen([*command, f"{place}/state"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("sandbox: ").strip(), datasets(Path(place, "data"))[0]
        finally:
            process.kill()
            process.communicate()


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


def load_celery() -> None:
    """Load what a Celery worker loads when it starts."""
    for name in ("bin.celery", "apps.worker", "worker.components", "concurrency.thread"):
        importlib.import_module(f"celery.{name}")
    importlib.import_module("kombu.transport.redis")


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
            stack.enter_context(_process(["-m", "queue_app.cli", name], told, home / f"{name}.log"))
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


@contextmanager
def _process(arguments: Sequence[str], told: Mapping[str, str], log: Path) -> Iterator[None]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **told, "PYTHONPATH": path}
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# -- the obvious Celery program ----------------------------------------------------------------------------------------


def obvious_app(broker_url: str) -> Celery:
    """One long task a job, late acknowledgement, retries with back-off, a semaphore in Redis, the SDK as it comes."""
    app = Celery("obvious", broker=broker_url)
    app.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        broker_transport_options={"visibility_timeout": REDELIVERED_SECONDS},
    )
    redis: Any = Redis(unix_socket_path=broker_url.removeprefix("redis+socket://"), decode_responses=True)

    @app.task(bind=True, name="fine_tune", autoretry_for=(Exception,), retry_backoff=1, max_retries=10)
    def fine_tune(self: Task[Any, Any], name: str, account: tuple[str, int], path: str) -> None:
        url, slots = account
        token = _take(redis, f"slots {url}", slots)
        if token is None:
            raise self.retry(countdown=1, max_retries=None)
        try:
            redis.hset("models", name, fine_tuned(openai.OpenAI(api_key=KEY, base_url=url), name, path))
        finally:
            redis.zrem(f"slots {url}", token)

    return app


def _take(redis: Any, name: str, slots: int) -> str | None:
    """A place in a semaphore whose holders are forgotten after a time."""
    token, now = uuid.uuid4().hex, time.time()
    redis.zremrangebyscore(name, 0, now - SEMAPHORE_SECONDS)
    redis.zadd(name, {token: now})
    if redis.zrank(name, token) < slots:
        return token
    redis.zrem(name, token)
    return None


def fine_tuned(client: openai.OpenAI, name: str, path: str) -> str:
    """A fine-tune as the SDK's own documents do it, and the model's name."""
    with Path(path).open("rb") as content:
        file = client.files.create(file=content, purpose="fine-tune")
    made = client.fine_tuning.jobs.create(model="sandbox-base", training_file=file.id, metadata={"tuneyard": name})
    while made.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(POLL_SECONDS)
        made = client.fine_tuning.jobs.retrieve(made.id)
    return made.fine_tuned_model or ""


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
        stack.enter_context(_process(["-m", "queue_app.cli", "broker"], told, home / "broker.log"))
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


# -- both --------------------------------------------------------------------------------------------------------------

SIDES = {"ours": (ours, "Tuneyard"), "obvious": (obvious, "the obvious Celery program")}


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


@contextmanager
def folder(*, keep: bool) -> Iterator[Path]:
    """A folder, gone at the end unless it is to be kept. In memory where it can be: no disk is measured here."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    made = Path(tempfile.mkdtemp(prefix="providers-", dir=memory))
    try:
        yield made
    finally:
        if keep:
            sys.stderr.write(f"kept: {made}\n")
        else:
            shutil.rmtree(made)


def main() -> None:
    parser, plan = argparse.ArgumentParser(description=__doc__), Plan()
    parser.add_argument("--side", choices=list(SIDES), action="append")
    parser.add_argument("--jobs", type=int, default=plan.jobs)
    parser.add_argument("--kills", type=int, default=plan.kills)
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--seconds", type=float, default=plan.seconds)
    parser.add_argument("--vendors", nargs=len(SLOTS), default=["openai"] * len(SLOTS), choices=list(vendors()))
    parser.add_argument("--keep", action="store_true", help="leave the folders where they are, and say where")
    parser.add_argument("--forks", choices=list(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.forks:
        load_celery()
        fork_workers({"ours": load_ours, "obvious": load_obvious}[options.forks]())
        return
    plan = Plan(options.jobs, options.kills, options.seed, options.seconds)
    sides: dict[str, dict[str, str]] = {}
    for side in options.side or SIDES:
        run, title = SIDES[side]
        with folder(keep=options.keep) as place, accounts(place, options.vendors, plan.seed) as there:
            outcome = run(place, plan, there)
            sides[title] = rows_of(outcome)
            plan = replace(plan, seconds=min(plan.seconds, outcome.seconds + REDELIVERED_SECONDS))
    print("| | " + " | ".join(sides) + " |")
    print("|---|" + "---|" * len(sides))
    for row in next(iter(sides.values())):
        print(f"| {row} | " + " | ".join(told[row] for told in sides.values()) + " |")


if __name__ == "__main__":
    main()
