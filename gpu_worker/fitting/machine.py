"""What a prediction must know of the machine: the device, and how many bytes a number takes that is computed with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from gpu_worker.training_config import EngineName

FAST_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86, Arm; elsewhere a CPU emulates bfloat16
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """A device and an engine on it."""

    device: Literal["cpu", "cuda"]
    engine: EngineName = "trl"
    number_bytes: Literal[2, 4] = 2  # bfloat16 or float16; float32 on CPUs that would emulate those

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"


def this_cpu(engine: EngineName = "trl") -> Machine:
    """The CPU of this machine, as the training will use it: axolotl computes in float32 there."""
    return Machine("cpu", engine, 2 if has_fast_bf16() and engine != "axolotl" else 4)


def has_fast_bf16() -> bool:
    """Whether the CPU computes with bfloat16 itself."""
    about = cpu_facts()
    return bool(FAST_BF16_FLAGS & set(about.get("flags", about.get("Features", "")).split()))


def cpu_facts() -> dict[str, str]:
    """What the kernel says of the last of its processors; nothing where it has no /proc."""
    if not CPUINFO.is_file():
        return {}
    pairs = (line.partition(":") for line in CPUINFO.read_text().splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
