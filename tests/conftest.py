"""What tests share: a yard's parts in a temporary folder, and jobs run for real in this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from queue_app.job_type import JobType, find_job_type
from queue_app.lifecycle import State
from queue_app.runner import Runner
from queue_app.store import Database, Job, NewJob, Store
from settings import ProviderSettings, QueueSettings, Settings

if TYPE_CHECKING:
    from settings import SandboxSettings

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the developer's own yard, `.env` or `tuneyard.toml`."""
    for name in [name for name in os.environ if name.startswith("TUNEYARD_") and name != "TUNEYARD_SPECS"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


def eventually(condition: Callable[[], T | None], *, seconds: float = 30.0, what: str = "it") -> T:
    """What `condition` returns once that is true; fails when it has not become so in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {seconds:g} s")
        pause.wait(0.05)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", queue=QueueSettings(backoff_seconds=0.2))


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    database = Database(settings.store_url)
    database.migrate()
    yield Store(database)
    database.engine.dispose()


@dataclass
class RunHere:
    """Runs jobs in this process, through the real store and runner, until they end."""

    store: Store
    settings: Settings
    find: Callable[[str], JobType[Any, Any]] = find_job_type
    runner: Runner = field(init=False)

    def __post_init__(self) -> None:
        self.runner = Runner(self.store, self.settings, "test", find=self.find)

    def declaring(self, *job_types: JobType[Any, Any]) -> RunHere:
        """The same, with these job types instead of the installed ones."""
        return RunHere(self.store, self.settings, {job_type.kind: job_type for job_type in job_types}.__getitem__)

    def submit(self, kind: str, queue: str = "cpu", *, reuse: bool = True, **spec: Any) -> str:
        new = NewJob(kind=kind, queue=queue, spec=spec, reuse=reuse)
        self.store.submit([new], actor="test")
        return new.id

    def __call__(self, kind: str, **spec: Any) -> Job:
        return self.finish(self.submit(kind, **spec))

    def finish(self, job_id: str, *, seconds: float = 120.0) -> Job:
        def ended() -> Job | None:
            self.runner.run(job_id=job_id)
            job = self.store.read.job(job_id)
            return job if job.state in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.PAUSED) else None

        return eventually(ended, seconds=seconds, what=f"the end of job {job_id}")

    def artifact(self, artifact_id: str) -> Path:
        return self.runner.artifacts.fetch(artifact_id)

    def with_provider(self, name: str, account: ProviderSettings) -> RunHere:
        return RunHere(self.store, self.settings.model_copy(update={"providers": {name: account}}))

    def with_sandbox(self, sandbox: SandboxSettings) -> RunHere:
        return RunHere(self.store, self.settings.model_copy(update={"sandbox": sandbox}))


@pytest.fixture
def run_here(store: Store, settings: Settings) -> RunHere:
    return RunHere(store, settings)
