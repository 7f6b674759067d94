"""Whether this PyTorch can use a card: asked in a process of its own, for a worker never imports torch.

Run as a program it prints what PyTorch says about itself. Unproven on a card, as all that is CUDA here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from queue_app.errors import Permanent, Transient
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from gpu_worker.fitting.cards import Card

ASK_SECONDS = 120.0


@dataclass(frozen=True)
class TorchBuild:
    """What an installed PyTorch was built for."""

    version: str
    cuda: str | None  # 12.8; None: a build for CPUs
    archs: tuple[str, ...]  # sm_90, sm_120, compute_120 …


def ask_torch() -> TorchBuild:
    """What the installed PyTorch was built for; a second or two.

    Raises:
        Permanent: it cannot even be imported
        Transient: it takes too long
    """
    command = [sys.executable, "-P", "-m", "gpu_worker.fitting.torch_build"]
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    told = os.environ | {"PYTHONPATH": path}
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=False, env=told)
    except subprocess.TimeoutExpired:
        raise Transient(
            f"PyTorch has not said what it was built for in {ASK_SECONDS:.0f} s", cause=Cause.LOST
        ) from None
    if asked.returncode != 0:
        said = (asked.stderr.strip().splitlines() or ["nothing"])[-1]
        raise Permanent(f'PyTorch cannot be imported here ({said}); `pip install "tuneyard[train]"` installs it')
    found = json.loads(asked.stdout.splitlines()[-1])
    return TorchBuild(found["version"], found["cuda"], tuple(found["archs"]))


def problem_with(build: TorchBuild, card: Card) -> str | None:
    """Why this PyTorch cannot use this card, and what to do; None: it can.

    Source of the rules: NVIDIA's CUDA C++ Programming Guide on binary and PTX compatibility (a binary runs on cards of
    its own major version with the same or a higher minor one, PTX on all later cards) and its guide on driver
    compatibility (a driver runs every CUDA of its own major version, and those before it).
    """
    if build.cuda is None:
        return (
            f"torch {build.version} is a build for CPUs, and would leave the {card.name} idle; install a CUDA build of "
            "it, or set CUDA_VISIBLE_DEVICES to nothing to train on the CPU"
        )
    if int(build.cuda.partition(".")[0]) > card.cuda[0]:
        runs = f"{card.cuda[0]}.{card.cuda[1]}"
        return f"torch {build.version} needs CUDA {build.cuda}, the driver {card.driver} runs CUDA {runs}; update it"
    if not any(_runs_on(arch, card.capability) for arch in build.archs):
        return (
            f"torch {build.version} was built for {', '.join(build.archs)}, and the {card.name} is {card.arch}; "
            f"install a build that has {card.arch}"
        )
    return None


def _runs_on(arch: str, capability: tuple[int, int]) -> bool:
    found = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", arch)
    if found is None:
        return False
    major, minor = int(found[2]), int(found[3])
    if arch[-1] in "af":  # for one architecture, or one family, alone
        return (major, minor) == capability
    return (major, minor) <= capability if found[1] == "compute" else major == capability[0] and minor <= capability[1]


def _describe() -> dict[str, object]:
    import torch

    flags = torch._C._cuda_getArchFlags() if hasattr(torch._C, "_cuda_getArchFlags") else None
    return {"version": torch.__version__, "cuda": torch.version.cuda, "archs": (flags or "").split()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_describe()) + "\n")
