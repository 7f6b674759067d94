"""An account's key stays where it was put: a run with faults, and everything that it wrote or shows."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import psutil
from redis import Redis

from queue_app.lifecycle import State
from tests.api_worker.odd_server import odd_server
from tests.conftest import eventually
from tests.sandbox.server import ORGANIZATION, serve_in_process
from tests.yard import ROOT, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.yard import Yard

CANARY = "canary-7d1f40-of-a-key"
QUICK_JOBS = ("--validate-seconds", "0.2", "--queue-seconds", "0.2", "--run-seconds", "0.5")
FAULTS = ("upload:503*1", "create:500-after*1", "retrieve:drop*1", "retrieve:500*1", "list:503*1")
ECHO = {"error": {"message": "We do not know {authorization}", "type": "x", "code": None, "param": None}}
COMMANDS = ("jobs show", "jobs events", "jobs logs", "jobs explain")
PATIENCE_SECONDS = 100.0


def account(yard: Yard, name: str, api: str, url: str) -> None:
    told = {"API": api, "BASE_URL": url, "API_KEY": CANARY, "ORGANIZATION": ORGANIZATION}
    told |= {"POLL_SECONDS": "0.3", "LISTING_LAG_SECONDS": "0", "ANSWER_SECONDS": "0"}
    yard.environment |= {f"TUNEYARD_PROVIDERS__{name.upper()}__{field}": value for field, value in told.items()}


def page(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        content: bytes = answer.read()
    return content


def said(yard: Yard, *words: str) -> bytes:
    """What a command prints, whatever it thinks of the job."""
    environment = {**os.environ, **yard.environment, "TUNEYARD_HOME": str(yard.home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "queue_app.cli", *words]
    done = subprocess.run(command, env=environment, cwd=yard.home, capture_output=True, check=False)
    return done.stdout + done.stderr


def redis_of(yard: Yard) -> dict[str, bytes]:
    """Everything in the broker: keys, and their values as it would hand them to another server."""
    with Redis(unix_socket_path=str(yard.settings.broker_socket)) as broker:
        found: dict[str, bytes] = {}
        for key in broker.scan_iter():
            found[f"redis {key!r}"] = key + (broker.dump(key) or b"")
        found["redis client list"] = str(broker.client_list()).encode()
    return found


def test_a_key_appears_in_nothing_that_a_run_with_faults_writes_or_shows(yard: Yard, examples: str, tmp_path: Path):
    flower, metrics = free_port(), free_port()
    yard.environment |= {
        "TUNEYARD_MONITORS__FLOWER_PORT": str(flower),
        "TUNEYARD_MONITORS__METRICS_PORT": str(metrics),
        "FLOWER_UNAUTHENTICATED_API": "true",
    }
    state = tmp_path / "sandbox"
    with (
        serve_in_process(state, *QUICK_JOBS, "--faults", *FAULTS) as (sandbox, _),
        odd_server(ECHO, status=401) as knows_nobody,
        odd_server(ECHO, status=500) as is_broken,
        odd_server("<html>who is {authorization}?</html>") as is_a_page,
    ):
        good = ("openai", "together", "fireworks", "nebius")
        for api in good:
            account(yard, api, api, sandbox.base_url(api))
        odd = {"stranger": knows_nobody, "broken": is_broken, "page": is_a_page}
        for name, server in odd.items():
            account(yard, name, "openai", f"http://127.0.0.1:{server.port}/v1")
        yard.start("worker api", "flower", "metrics")
        order: dict[str, Any] = {"dataset": examples, "base_model": "sandbox-base", "epochs": 1}
        ids = {
            name: yard.submit("finetune.hosted", "api", provider=name, suffix=name[:8], **order)
            for name in (*good, *odd)
        }
        for name in odd:
            eventually(lambda name=name: yard.job(ids[name]).failure, what=f"trouble at {name}")  # type: ignore[misc]
        for name in good:
            yard.wait_for(ids[name], State.SUCCEEDED, seconds=PATIENCE_SECONDS)
        shown = {f"flower {path}": page(f"http://127.0.0.1:{flower}{path}") for path in ("/", "/tasks", "/api/tasks")}
        shown |= {"flower workers": page(f"http://127.0.0.1:{flower}/api/workers")}
        shown |= {"metrics": page(f"http://127.0.0.1:{metrics}/metrics")}
        shown |= redis_of(yard)
        shown |= {"processes": str([p.info["cmdline"] for p in psutil.process_iter(["cmdline"])]).encode()}
        shown |= {f"{c} {name}": said(yard, *c.split(), ids[name]) for c in COMMANDS for name in ("stranger", "openai")}
        shown |= {"doctor": said(yard, "doctor"), "jobs ls": said(yard, "jobs", "ls", "--json")}
    assert b"***" in shown["jobs show stranger"]  # it was said, and taken out
    assert ids["stranger"].encode() in shown["jobs ls"]
    written = {str(path): path.read_bytes() for path in (*yard.home.rglob("*"), *state.rglob("*")) if path.is_file()}
    kinds = ("tuneyard.db", "worker-api.log", "training_report.json", "job.log", "journal.jsonl", ".aof")
    assert [kind for kind in kinds if not any(kind in name for name in written)] == []
    assert [name for name, content in {**shown, **written}.items() if CANARY.encode() in content] == []
