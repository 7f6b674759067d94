"""A yard of real processes for tests: started one by one, killed by name, gone at the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from queue_app.broker import wait_until_ready
from queue_app.job_type import find_job_type
from queue_app.lifecycle import State
from queue_app.store import Database, Job, NewJob, Store
from settings import Settings
from tests.conftest import eventually

READY_SECONDS = 30.0
ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@dataclass
class Yard:
    """Processes over one home. `environment` holds TUNEYARD_ settings beside the home's."""

    home: Path
    environment: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ports = ("MONITORS__METRICS_PORT", "MONITORS__FLOWER_PORT", "SANDBOX__PORT")  # another yard may be up here
        self.environment = {f"TUNEYARD_{name}": str(free_port()) for name in ports} | self.environment
        self.home.mkdir(parents=True, exist_ok=True)
        self.database = Database(self.settings.store_url)
        self.database.migrate()
        self.store = Store(self.database)

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home)

    def start(self, *names: str) -> None:
        """Start processes: `broker`, `sweeper`, `worker cpu`, …; a second one of a kind is `worker cpu#2`."""
        for name in names:
            log = (self.home / f"{name.replace(' ', '-')}.log").open("ab")
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "queue_app.cli", *name.partition("#")[0].split()],
                env={**os.environ, **self.environment, "TUNEYARD_HOME": str(self.home), "PYTHONPATH": str(ROOT)},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            log.close()
            if name == "broker":
                wait_until_ready(self.settings.broker_url, READY_SECONDS)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process (not to its children) and wait for its end."""
        process = self.running.pop(name)
        process.send_signal(number)
        process.wait(READY_SECONDS)

    def stop(self) -> None:
        """Kill whatever still runs, groups and all."""
        for process in self.running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(READY_SECONDS)
        self.running.clear()
        self.database.engine.dispose()

    def submit(self, kind: str, queue: str, **spec: Any) -> str:
        new = NewJob(kind=kind, queue=queue, spec=spec, cards=find_job_type(kind).spec.cards_needed(spec))
        self.store.submit([new], actor="test")
        return new.id

    def job(self, job_id: str) -> Job:
        return self.store.read.job(job_id)

    def wait_for(self, job_id: str, *states: State, seconds: float = 60.0) -> Job:
        """The job once it is in one of the states; another final state fails at once."""

        def arrived() -> Job | None:
            job = self.job(job_id)
            ended = job.state in (State.SUCCEEDED, State.FAILED, State.CANCELLED)
            assert job.state in states or not ended, f"{job.kind} {job.state}: {job.failure}\n{self.logs()}"
            return job if job.state in states else None

        return eventually(arrived, seconds=seconds, what=f"{job_id} {' or '.join(states)}")

    def wait_for_progress(self, job_id: str, step: int, *, seconds: float = 60.0) -> Job:
        """The job once it has reported at least this step."""

        def reached() -> Job | None:
            job = self.job(job_id)
            return job if int((job.progress or {}).get("step", -1)) >= step else None

        return eventually(reached, seconds=seconds, what=f"step {step} of {job_id}")

    def history(self, job_id: str) -> list[str]:
        return [str(event.name) for event in self.store.read.history(job_id)]

    def logs(self) -> str:
        return "\n".join(f"== {log.name}\n{log.read_text()[-2000:]}" for log in sorted(self.home.glob("*.log")))
