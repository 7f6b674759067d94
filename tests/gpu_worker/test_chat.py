from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).parents[2]


def chat(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpu_worker.chat", "--max-new-tokens", "4", *arguments]
    return subprocess.run(command, cwd=ROOT, input=typed, capture_output=True, text=True, check=False, timeout=100)


def test_one_prompt_gets_one_answer(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    once, again = (
        chat("--model", str(model), "--prompt", "the yard"),
        chat("--model", str(model), typed="the yard\n/quit\n"),
    )
    assert (once.returncode, again.returncode) == (0, 0), once.stderr + again.stderr
    assert once.stdout == again.stdout != ""


@pytest.mark.parametrize(
    ("broken", "message"),
    [("config.json", "config.json is missing"), ("chat_template.jinja", "has no chat template")],
)
def test_a_folder_that_cannot_chat_is_told_in_one_line(tmp_path: Path, broken: str, message: str):
    model = make_tiny_model(tmp_path / "model")
    (model / broken).unlink()
    done = chat("--model", str(model), "--prompt", "the yard")
    assert done.returncode == 3
    assert message in done.stderr
    assert "Traceback" not in done.stderr
