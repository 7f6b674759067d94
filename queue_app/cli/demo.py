"""`tuneyard demo`: the whole of it once, on real text, without any set-up."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import IO

from queue_app.cli import context
from queue_app.cli.output import duration, hint
from queue_app.errors import Transient

START_SECONDS = 30.0
STOP_SECONDS = 90.0
LOOK_SECONDS = 0.1


def run_demo(*, keep: bool, as_json: bool) -> None:
    """Start a yard of our own unless one is running, run the demo recipe in it, and stop it again."""
    from queue_app.cli.recipes import attend, read_recipe
    from queue_app.shipped import find_shipped
    from queue_app.yard_home import runs_in

    recipe = read_recipe(find_shipped("recipes") / "demo.yaml", None)
    yard = None if runs_in(context.settings().home.absolute()) else _start()
    try:
        run_id, ids = context.dispatcher().run(recipe)
        hint(f"run {run_id}: {len(ids)} jobs on three queues; the first run takes about three minutes on two cores\n")
        attend(run_id, ids, as_json=as_json)
    finally:
        if yard is not None and not keep:
            _stop(yard)


def _start() -> subprocess.Popen[bytes]:
    settings = context.settings()
    context.store()
    log = settings.home.absolute() / "yard.log"
    hint(f"starting the yard in {settings.home} (its log: {log})")
    with log.open("ab") as stream:
        yard = _spawn(stream)
    try:
        _await(yard)
    except Transient as error:
        _stop(yard)
        raise Transient(f"the yard did not come up; {log} says why: {error}") from error
    return yard


def _await(yard: subprocess.Popen[bytes]) -> None:
    """Return when the yard runs and its broker answers; a broker of the user's own may answer long before."""
    from queue_app.broker import wait_until_ready
    from queue_app.yard_home import runs_in

    settings = context.settings()
    deadline = time.monotonic() + START_SECONDS
    while not runs_in(settings.home.absolute()):
        if yard.poll() is not None:
            raise Transient(f"it ended with exit code {yard.returncode}")
        if time.monotonic() > deadline:
            raise Transient(f"it did not start within {duration(START_SECONDS)}")
        time.sleep(LOOK_SECONDS)
    wait_until_ready(settings.broker_url, max(1.0, deadline - time.monotonic()))


def _spawn(log: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "queue_app.cli", "up"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _stop(yard: subprocess.Popen[bytes]) -> None:
    yard.terminate()
    try:
        yard.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        yard.kill()
        hint(f"the yard did not stop within {duration(STOP_SECONDS)} and was killed")
