"""Rungs that have worked, remembered for the next run of the same model and shape on the same device.

One small file each, named by a hash of what makes runs alike in memory; whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_worker.training_config import TrainingConfig

# The settings that memory depends on; all others may differ.
IN_MEMORY = (
    "objective",
    "method",
    "packing",
    "sequence_len",
    "micro_batch_size",
    "gradient_accumulation_steps",
    "cards",
    "gradient_checkpointing",
    "optimizer",
    "lora_r",
    "lora_alpha",
    "target_modules",
)


@dataclass(frozen=True)
class Alike:
    """What makes two runs alike in memory."""

    base: str  # the base model's fingerprint
    device: str  # its name and size
    engine: str
    asked: TrainingConfig
    may_shrink: tuple[str, ...]
    length: int  # tokens of the longest example; counts by its power of two

    @property
    def facts(self) -> dict[str, Any]:
        chosen = self.asked.model_dump(mode="json", include=set(IN_MEMORY))
        return {
            "base": self.base,
            "device": self.device,
            "engine": self.engine,
            "settings": {**chosen, "has_dropout": self.asked.lora_dropout > 0},
            "may_shrink": sorted(self.may_shrink),
            "length": 1 << (self.length - 1).bit_length(),
        }

    def path(self, home: Path) -> Path:
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        return home / "fitted" / f"{digest[:32]}.json"


def recall(home: Path, alike: Alike) -> tuple[dict[str, Any], str] | None:
    """(the settings that fitted, the job that found them); None: nothing is remembered, or it cannot be read."""
    try:
        found = json.loads(alike.path(home).read_text(encoding="utf-8"))
        return dict(found["fitted"]), str(found["job"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(home: Path, alike: Alike, fitted: dict[str, Any], job_id: str) -> None:
    """Note which settings fitted in the end."""
    path = alike.path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps({"fitted": fitted, "job": job_id, "for": alike.facts}, indent=2) + "\n", "utf-8")
    part.replace(path)
