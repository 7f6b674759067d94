"""The doctor on homes in disorder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from queue_app.yard_home import runs_in
from tests.yard import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from queue_app.store import Store


def test_a_report_without_its_lock_is_no_yard(tmp_path: Path):
    (tmp_path / "yard.json").write_text("{}")
    assert not runs_in(tmp_path)
    (tmp_path / "yard.lock").touch()
    assert not runs_in(tmp_path)


def test_a_full_disk_is_a_finding_and_nothing_is_left_there(store: Store, tmp_path: Path):
    home = tmp_path / "home"
    command = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-m", "queue_app.cli", "doctor", "--json"]
    env = {**os.environ, "TUNEYARD_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert findings["home"]["grade"] == "blocking"
    assert f"{home} cannot be written: File too large" in findings["home"]["finding"]
    assert list(home.glob(".doctor-*")) == []
