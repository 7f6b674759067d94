"""The queue's own speed: wake-up latency beside bare Celery, submissions, and what a long queue costs.

python benchmarks/doorbell.py            all of it, as Markdown
python benchmarks/doorbell.py latency submits depth cli
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from queue_app.broker import wait_until_ready
from queue_app.celery_app import Doorbell, make_app
from queue_app.dispatcher import Dispatcher
from queue_app.lifecycle import Event
from queue_app.store import Database, NewJob, Store
from settings import Settings

if TYPE_CHECKING:
    from celery import Celery

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, WARM_UP = 200, 20
PAUSE_SECONDS = 0.04  # 25 tasks a second: the workers are idle when one comes

# The same body on both sides: it writes down when it began.
BARE = """
import sys, time
from celery import Celery
app = Celery("bare", broker=sys.argv[1])
app.conf.update(task_ignore_result=True)
@app.task(name="bare.mark")
def mark(number, path):
    with open(path, "a") as stream:
        stream.write(f"{number} {time.time()}\\n")
app.worker_main(["--quiet", "worker", "--pool=solo", "--queues=bare", "--without-gossip", "--without-mingle"])
"""
OURS = """
import sys, time
from pathlib import Path
from queue_app.celery_app import work
from queue_app.job_type import Attempt, Result, Spec, job
from queue_app.runner import Runner
from queue_app.store import Database, Store
from settings import Settings
class Mark(Spec):
    number: int
    path: str
class Marked(Result):
    number: int
@job("mark.write", queues=("cpu",))
def write_mark(spec: Mark, attempt: Attempt) -> Marked:
    with open(spec.path, "a") as stream:
        stream.write(f"{spec.number} {time.time()}\\n")
    return Marked(number=spec.number)
settings = Settings()
runner = Runner(Store(Database(settings.store_url)), settings, "bench", find={"mark.write": write_mark}.__getitem__)
work(runner, settings.broker_url, queue="cpu", threads=1)
"""


@contextmanager
def yard(*programs: tuple[str, str]) -> Iterator[tuple[Settings, Store]]:
    """A broker and workers in a folder of their own, gone at the end."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home")
        env = {**os.environ, "TUNEYARD_HOME": str(settings.home), "PYTHONPATH": str(ROOT)}
        store = Store(Database(settings.store_url))
        store.database.migrate()
        commands = [[sys.executable, "-m", "queue_app.cli", "broker"]]
        commands += [[sys.executable, "-c", code, settings.broker_url] for _, code in programs]
        processes = []
        try:
            for command in commands:
                processes.append(subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.DEVNULL))
                wait_until_ready(settings.broker_url, 20)
            yield settings, store
        finally:
            for process in processes[::-1]:
                process.terminate()
                process.wait()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def read_marks(path: Path, count: int) -> dict[int, float]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) >= count:
            return {int(number): float(at) for number, at in (line.split() for line in lines)}
        time.sleep(0.05)
    raise SystemExit(f"only {len(lines)} of {count} tasks ran")


def latency() -> list[str]:
    """Enqueue → body begins on an idle worker, the two sides in turn."""
    with yard(("bare", BARE), ("ours", OURS)) as (settings, store):
        bare: Celery = make_app(settings.broker_url)
        bare.conf.broker_transport_options = {}
        dispatcher = Dispatcher(store, "bench", Doorbell(settings.broker_url).ring)
        marks = {side: settings.home / f"{side}.txt" for side in ("bare", "ours")}
        sent: dict[str, dict[int, float]] = {"bare": {}, "ours": {}}
        for number in range(-WARM_UP, ROUNDS):
            for side in ("bare", "ours"):
                sent[side][number] = time.time()
                if side == "bare":
                    bare.send_task("bare.mark", (number, str(marks[side])), queue="bare")
                else:
                    spec = {"number": number, "path": str(marks[side])}
                    dispatcher.submit(NewJob(kind="mark.write", queue="cpu", spec=spec))
                if number < 0:
                    read_marks(marks[side], number + WARM_UP + 1)
                time.sleep(PAUSE_SECONDS)
        rows = []
        took = {}
        for side, path in marks.items():
            began = read_marks(path, ROUNDS + WARM_UP)
            took[side] = [1000 * (began[n] - sent[side][n]) for n in range(ROUNDS)]
        for side, name in (("bare", "bare Celery task"), ("ours", "Tuneyard job (committed, claimed, leased)")):
            p50, p99 = percentile(took[side], 0.5), percentile(took[side], 0.99)
            ratio = p50 / percentile(took["bare"], 0.5)
            rows.append(f"| {name} | {p50:.1f} | {p99:.1f} | {ratio:.1f} |")
        return ["| enqueue → body begins | p50 ms | p99 ms | p50 ratio |", "|---|---|---|---|", *rows]


def submits() -> list[str]:
    """1,000 submissions in one process, with and without ringing."""
    with yard() as (settings, store):
        rows = []
        for name, ring in (("rung each", Doorbell(settings.broker_url).ring), ("swept (as the CLI does)", None)):
            dispatcher = Dispatcher(store, "bench", ring)
            dispatcher.submit(NewJob(kind="a.b", queue="api", spec={}))
            started = time.perf_counter()
            for _ in range(1000):
                dispatcher.submit(NewJob(kind="a.b", queue="api", spec={}))
            seconds = time.perf_counter() - started
            rows.append(f"| 1,000 submits, {name} | {seconds:.2f} | {1000 / seconds:.0f} |")
        batch = [NewJob(kind="a.b", queue="api", spec={}) for _ in range(1000)]
        started = time.perf_counter()
        Dispatcher(store, "bench").submit(*batch)
        seconds = time.perf_counter() - started
        rows.append(f"| 1,000 jobs in one submission | {seconds:.2f} | {1000 / seconds:.0f} |")
        return ["| what | seconds | per second |", "|---|---|---|", *rows]


def depth() -> list[str]:
    """What a claim and a sweep's look cost with 1k, 10k and 100k jobs queued."""
    rows = []
    base: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Database(f"sqlite:///{folder}/yard.db"))
        store.database.migrate()
        for count in (1_000, 10_000, 100_000):
            have = sum(row["jobs"] for row in store.read.census() if row["state"] == "queued")
            store.submit([NewJob(kind="a.b", queue="cpu", spec={}) for _ in range(count - have)], actor="bench")
            figures = {
                "claim": _median(lambda: _claim_and_release(store), 200),
                "look": _median(lambda: store.read.due("cpu", limit=50), 200),
                "leases": _median(lambda: store.expire_leases(max_failures=3, actor="s"), 200),
                "wake": _median(lambda: store.wake(actor="s"), 200),
            }
            base = base or figures
            ratio = figures["claim"] / base["claim"]
            sweep = sum(figures[part] for part in ("look", "leases", "wake"))
            sweep_ratio = sweep / sum(base[part] for part in ("look", "leases", "wake"))
            rows.append(f"| {count:,} | {figures['claim']:.2f} | {ratio:.2f} | {sweep:.2f} | {sweep_ratio:.2f} |")
    return [
        "| queued jobs | claim + hand back ms | ratio | sweep's queries ms | ratio |",
        "|---|---|---|---|---|",
        *rows,
    ]


def _claim_and_release(store: Store) -> None:
    job = store.claim(worker="w", lease_seconds=60, queue="cpu")
    assert job is not None
    store.record(job.id, Event.RELEASED, fence=job.attempt, actor="w")


def _median(action: Callable[[], object], times: int) -> float:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        took.append(1000 * (time.perf_counter() - started))
    return statistics.median(took)


def cli() -> list[str]:
    """`tuneyard jobs ls` from a cold start of the process, over 1,000 jobs."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        store = Store(Database(settings.store_url))
        store.database.migrate()
        store.submit([NewJob(kind="a.b", queue="cpu", spec={}) for _ in range(1000)], actor="bench")
        env = {**os.environ, "TUNEYARD_HOME": folder, "PYTHONPATH": str(ROOT)}
        rows = []
        commands = {
            "python -c pass": ["-c", "pass"],
            "tuneyard jobs ls": ["-m", "queue_app.cli", "jobs", "ls"],
            "tuneyard jobs ls --json": ["-m", "queue_app.cli", "jobs", "ls", "--json"],
            "tuneyard --help": ["-m", "queue_app.cli", "--help"],
        }
        for name, arguments in commands.items():
            took = []
            for _ in range(12):
                started = time.perf_counter()
                subprocess.run([sys.executable, *arguments], env=env, check=True, capture_output=True)
                took.append(time.perf_counter() - started)
            rows.append(f"| `{name}` | {statistics.median(took[2:]):.3f} | {min(took):.3f} | {max(took[2:]):.3f} |")
        return ["| command | median s | min s | max s |", "|---|---|---|---|", *rows]


def main() -> None:
    parts = {"latency": latency, "submits": submits, "depth": depth, "cli": cli}
    for name in sys.argv[1:] or parts:
        sys.stdout.write(f"\n### {parts[name].__doc__}\n\n" + "\n".join(parts[name]()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
