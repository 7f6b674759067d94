"""`tuneyard demo`: the whole of it once, on real text, without any set-up."""

from __future__ import annotations

import subprocess
import sys
from typing import IO

from queue_app.cli import context
from queue_app.cli.output import duration, hint
from queue_app.errors import Transient

START_SECONDS = 30.0
STOP_SECONDS = 90.0


def run_demo(*, keep: bool) -> None:
    """Start a yard of our own unless one is running, run the demo recipe in it, and stop it again."""
    from queue_app.cli.recipes import attend, read_recipe
    from queue_app.shipped import find_shipped

    recipe = read_recipe(find_shipped("recipes") / "demo.yaml", None)
    yard = None if _is_up() else _start()
    try:
        run_id, ids = context.dispatcher().run(recipe)
        hint(f"run {run_id}: {len(ids)} jobs on three queues; the first run takes about three minutes on two cores\n")
        attend(run_id, ids, as_json=False)
    finally:
        if yard is not None and not keep:
            _stop(yard)


def _is_up() -> bool:
    from queue_app.broker import ping
    from queue_app.errors import TuneyardError

    try:
        ping(context.settings().broker_url)
    except TuneyardError:
        return False
    return True


def _start() -> subprocess.Popen[bytes]:
    from queue_app.broker import wait_until_ready

    settings = context.settings()
    context.store()
    log = settings.home.absolute() / "yard.log"
    hint(f"starting the yard in {settings.home} (its log: {log})")
    with log.open("ab") as stream:
        yard = _spawn(stream)
    try:
        wait_until_ready(settings.broker_url, START_SECONDS)
    except Transient as error:
        _stop(yard)
        raise Transient(f"the yard did not come up; {log} says why: {error}") from error
    return yard


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
