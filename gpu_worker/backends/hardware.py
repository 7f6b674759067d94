"""What the training runs on, and the number formats that are fast there."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

FAST_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86, Arm; elsewhere a CPU emulates bfloat16


@dataclass(frozen=True)
class Hardware:
    """A device and the type to compute in."""

    device: Literal["cpu", "cuda"]
    name: str
    dtype: torch.dtype

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"


def find_hardware() -> Hardware:
    """The first CUDA card, or the CPU. The CUDA side is unproven: no card was at hand when it was written."""
    if torch.cuda.is_available():
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return Hardware("cuda", torch.cuda.get_device_name(0), dtype)
    about = _cpuinfo()
    flags = set(about.get("flags", about.get("Features", "")).split())
    name = about.get("model name", platform.processor() or platform.machine())
    return Hardware("cpu", name, torch.bfloat16 if flags & FAST_BF16_FLAGS else torch.float32)


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    pairs = (line.partition(":") for line in path.read_text().splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
