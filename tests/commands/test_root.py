"""The commands of the rooms above are found by listing a folder, and loaded when they are typed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from queue_app.cli.application import run
from queue_app.cli.root import commands_above
from tests.yard import ROOT

if TYPE_CHECKING:
    from queue_app.store import Store

ABOVE = ("tasks", "api_worker", "sqlalchemy", "toktok", "numpy", "openai")


def loaded_by(*words: list[str]) -> str:
    """Which of the heavy and the upper modules a process has loaded after commands."""
    program = f"""if True:
        import sys
        from queue_app.cli.application import run
        codes = [run(words) for words in {list(words)}]
        print(codes, sorted(name for name in sys.modules if name.startswith({ABOVE}) and name.count(".") < 1))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.splitlines()[-1]


def test_a_list_of_jobs_loads_nothing_of_the_rooms_above(yard: Store) -> None:
    assert yard.read.ls() == []
    assert loaded_by(["jobs", "ls"]) == "[0] []"


def test_models_and_plans_load_no_sdk_and_no_sqlalchemy(yard: Store) -> None:
    assert yard.read.ls() == []
    assert loaded_by(["models", "ls"]) == "[0] ['api_worker', 'tasks']"


def test_every_command_above_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert {"models", "plan", "providers", "quote"} <= set(commands_above())
    assert [name for name in commands_above() if f" {name} " not in shown] == []


@pytest.mark.parametrize("name", commands_above())
def test_every_command_above_has_its_own_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f" {name} " in capsys.readouterr().out


def test_a_command_that_is_nowhere_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["accounts"]) == 3
    assert "No such command 'accounts'" in capsys.readouterr().err
