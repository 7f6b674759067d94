from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gpu_worker.chat import main
from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).parents[2]


def test_one_prompt_gets_one_answer_whether_it_is_given_or_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = make_tiny_model(tmp_path / "model")
    words = ["--model", str(model), "--max-new-tokens", "4"]
    command, typed = [sys.executable, "-m", "gpu_worker.chat", *words], "the yard\n/quit\n"
    done = subprocess.run(command, cwd=ROOT, input=typed, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert main([*words, "--prompt", "the yard"]) == 0
    assert capsys.readouterr().out == done.stdout != ""


@pytest.mark.parametrize(
    ("broken", "message"),
    [("config.json", "config.json is missing"), ("chat_template.jinja", "has no chat template")],
)
def test_a_folder_that_cannot_chat_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str, message: str
):
    model = make_tiny_model(tmp_path / "model")
    (model / broken).unlink()
    assert main(["--model", str(model), "--prompt", "the yard"]) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
