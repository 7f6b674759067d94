"""The user's axolotl: where it is, what surroundings it runs in, and what its version knows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queue_app.errors import Invalid, Permanent, Transient
from queue_app.lifecycle import Cause

BESIDE = Path(__file__).parent / "beside"
RELAY = "tuneyard_relay.Relay"  # our plugin, as axolotl names plugins
SHEBANG = re.compile(r"#!\s*(?P<python>/\S*python[\d.]*)\s*$")
ASK_SECONDS = 300.0  # it imports torch, transformers and all plugins
INSTALL = (
    "install it in an environment of its own (`python -m venv axolotl && axolotl/bin/pip install axolotl`) and set "
    "training.axolotl to its program (TUNEYARD_TRAINING__AXOLOTL=/…/axolotl/bin/axolotl)"
)


@dataclass(frozen=True)
class Schema:
    """What an installed axolotl says about its settings."""

    version: str
    keys: dict[str, Any]  # a tree: what stands below a key, None where anything may
    problems: list[tuple[tuple[str | int, ...], str]]  # of the settings that it was asked about: where, what


def find_axolotl(configured: Path | None) -> Path:
    """The program `axolotl`: the configured one, one in Tuneyard's own environment, or one on the PATH.

    Raises:
        Invalid: there is none
    """
    if configured is not None:
        configured = configured.expanduser()
        if not os.access(configured, os.X_OK) or configured.is_dir():
            raise Invalid(f"training.axolotl: {configured} is no program; {INSTALL}")
        return configured.absolute()
    beside = Path(sys.executable).parent / "axolotl"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("axolotl")
    if found is None:
        raise Invalid(f"axolotl is not installed here; {INSTALL}")
    return Path(found).absolute()


def environment(program: Path) -> dict[str, str]:
    """Ours, without our import path: its packages are others. Nobody is asked or told over the network."""
    return os.environ | {
        "PATH": os.pathsep.join((str(program.parent), os.environ.get("PATH", os.defpath))),
        "PYTHONPATH": str(BESIDE),
        "PYTHONUNBUFFERED": "1",
        "AXOLOTL_DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }


def ask(program: Path, settings: dict[str, Any]) -> Schema:
    """What the installed version knows, and which of these settings have a wrong type; several seconds.

    Raises:
        Invalid: it cannot even be imported, or a plugin cannot
        Transient: it takes too long
    """
    plugins = [str(plugin) for plugin in settings.get("plugins") or []]
    asked = json.dumps({"plugins": plugins, "settings": settings})
    command = [str(_interpreter(program)), str(BESIDE / "tuneyard_schema.py")]
    try:
        answer = subprocess.run(
            command,
            input=asked,
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=False,
            env=environment(program),
        )
    except subprocess.TimeoutExpired:
        raise Transient(f"{program} has not said what it knows in {ASK_SECONDS:.0f} s", cause=Cause.LOST) from None
    if answer.returncode != 0:
        said = (answer.stderr.strip().splitlines() or ["nothing"])[-1]
        raise Invalid(f"{program} cannot be asked what it knows: {said}")
    found = json.loads(answer.stdout.splitlines()[-1])
    problems = [(tuple(problem["where"]), problem["message"]) for problem in found["problems"]]
    return Schema(found["version"], found["keys"], problems)


def _interpreter(program: Path) -> Path:
    """The Python that a program made by pip runs with: its first line says it, or it lies beside it."""
    real = program.resolve()
    with real.open("rb") as file:
        first = SHEBANG.match(file.readline(512).decode(errors="replace"))
    for python in [Path(first["python"])] if first else [real.parent / "python"]:
        if os.access(python, os.X_OK):
            return python
    raise Permanent(
        f"{program} does not say which Python it runs with; set training.axolotl to the program of its venv"
    )
