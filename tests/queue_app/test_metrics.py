"""`jobs metrics`: the loss of all attempts as one curve, in the terminal, as a picture and as JSON."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from queue_app.cli import context
from queue_app.cli.application import run
from queue_app.cli.curve import HEIGHT, WIDTH
from queue_app.cli.metrics import falling_loss
from queue_app.lifecycle import Event
from queue_app.store import NewJob
from settings import get_settings
from tests.yard import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def job_id() -> str:
    """A training that was handed back after step 30 and went on from step 21 in another attempt."""
    get_settings.cache_clear()
    context.store.cache_clear()
    store, new = context.store(), NewJob(kind="adapter.train", queue="gpu", spec={})
    store.submit([new], actor="user:test")
    for attempt, steps in ((1, range(1, 31)), (2, range(21, 41))):
        store.claim(worker="w", lease_seconds=60, job_id=new.id)
        for step in steps:
            progress = {"step": step, "steps": 40, "loss": 4 / step + attempt, "tokens_per_second": None}
            store.report(new.id, fence=attempt, progress=progress | holdout_at(step))
        if attempt == 1:
            store.record(new.id, Event.RELEASED, actor="w")
    return new.id


def holdout_at(step: int) -> dict[str, float]:
    """The last look at the holdout, which is told again at each step after it."""
    return {"holdout_loss": 5.0 - min(step // 10, 3), "holdout_step": step // 10 * 10}


def test_an_attempt_that_went_back_leaves_no_break(job_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs", "metrics", job_id, "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["step"] for row in told] == list(range(1, 41))
    assert [row["attempt"] for row in told] == [1] * 20 + [2] * 20


def test_a_curve_in_the_terminal_falls_from_left_to_right(job_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs", "metrics", job_id]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "loss at 40 steps"
    assert lines[1].startswith("       5 ┤")
    assert any("holdout_loss at 5 steps" in line for line in lines)
    assert max(len(line) for line in lines) <= 100


def test_a_curve_is_not_broken_at_the_edge_of_a_narrow_terminal(job_id: str) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "queue_app.cli", "jobs", "metrics", job_id]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    told = b""
    with subprocess.Popen(command, stdout=theirs, env=env) as shown:
        os.close(theirs)
        with suppress(OSError):  # which is how the end of a terminal is told
            while part := os.read(ours, 4096):
                told += part
    os.close(ours)
    assert shown.returncode == 0
    drawn = [line for line in told.decode().split("\r\n") if "┤" in line]
    assert 70 < max(map(len, drawn)) <= 80


@pytest.mark.parametrize("name", ["loss.png", "loss.svg"])
def test_the_losses_are_written_as_a_picture(job_id: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert run(["jobs", "metrics", job_id, "--plot", str(path)]) == 0
    data = path.read_bytes()
    if path.suffix == ".svg":
        lines = [element for element in ElementTree.fromstring(data) if element.tag.endswith("polyline")]
        assert [len(line.attrib["points"].split()) for line in lines] == [40, 5]
        return
    assert struct.unpack(">II", data[16:24]) == (WIDTH, HEIGHT)
    begin = data.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", data[begin - 8 : begin - 4])
    pixels = zlib.decompress(data[begin : begin + length])
    assert len(pixels) == HEIGHT * (1 + 3 * WIDTH)
    assert bytes((31, 119, 180)) in pixels


def test_what_is_no_picture_and_a_job_without_a_loss_are_refused(
    job_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["jobs", "metrics", job_id, "--plot", "loss.gif"]) == 3
    assert ".png or .svg" in capsys.readouterr().err
    other = NewJob(kind="dataset.split", queue="cpu", spec={})
    context.store().submit([other], actor="user:test")
    assert run(["jobs", "metrics", other.id]) == 3
    assert "has told no loss" in capsys.readouterr().err


def test_a_watched_training_shows_its_loss(job_id: str) -> None:
    assert f"loss of {job_id}" in falling_loss([context.read().job(job_id)])
