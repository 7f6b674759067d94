"""What the training runs on, and the number formats that are fast there."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Literal

import torch

from gpu_worker.card_faults import lost
from gpu_worker.fitting.machine import cpu_facts, has_fast_bf16


@dataclass(frozen=True)
class Hardware:
    """A device and the type to compute in."""

    device: Literal["cpu", "cuda"]
    name: str
    dtype: torch.dtype

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"


def find_hardware(*, on_card: bool = False) -> Hardware:
    """This process's CUDA card, or the CPU. The CUDA side is unproven: no card was at hand when it was written.

    Raises:
        Transient: it is to be `on_card`, and CUDA finds none
    """
    if torch.cuda.is_available():
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return Hardware("cuda", torch.cuda.get_device_name(), dtype)
    if on_card:
        raise lost("CUDA finds none, although the driver shows one")
    name = cpu_facts().get("model name", platform.processor() or platform.machine())
    return Hardware("cpu", name, torch.bfloat16 if has_fast_bf16() else torch.float32)
