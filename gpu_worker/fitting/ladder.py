"""What is made smaller when memory has run out: one rung at a time, the cheapest first.

1. `micro_batch_size` is halved and `gradient_accumulation_steps` raised, so that the effective batch stays to the
   example; for an odd batch the next smaller divisor is taken.
2. `gradient_checkpointing` is turned on.
3. The optimizer keeps its state in 8 bits, on a card in pages that can leave it. Only before the first checkpoint: the
   state in one cannot be read by another optimizer, and to begin its moments anew would bend the loss curve.
4. Where the spec's `may_shrink` allows it: `sequence_len` is halved, then `lora_r` with `lora_alpha` (their ratio, the
   adapter's scale, stays). A smaller rank does not fit the checkpoints, so it begins anew; so do packed rows of another
   length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from gpu_worker.training_config import TrainingConfig

Shrinkable = Literal["sequence_len", "lora_r"]
LEAST_LENGTH = 128  # tokens; shorter ones are no conversation any more
LEAST_RANK = 4
LENGTH_STEP = 64


@dataclass(frozen=True)
class Rung:
    """One change, by the names of the settings."""

    before: dict[str, Any]
    after: dict[str, Any]
    starts_anew: bool = False  # the checkpoints do not fit it
    passed_over: str = ""  # a rung before it that could not be taken, and why

    def __str__(self) -> str:
        changes = ", ".join(f"{name} {_said(self.before[name])} → {_said(self.after[name])}" for name in self.after)
        return f"{changes}; {self.passed_over}" if self.passed_over else changes


@dataclass(frozen=True)
class Footing:
    """Where a run stands when its memory runs out."""

    on_cpu: bool
    has_checkpoint: bool
    may_shrink: frozenset[Shrinkable] = field(default_factory=frozenset)


def next_rung(config: TrainingConfig, footing: Footing) -> Rung | None:
    """The next change to try; None: nothing is left that may be changed."""
    if config.micro_batch_size > 1:
        return _smaller_batch(config)
    if not (not footing.on_cpu if config.gradient_checkpointing is None else config.gradient_checkpointing):
        return _changed(config, gradient_checkpointing=True)
    smaller_state = "adamw_8bit" if footing.on_cpu else "paged_adamw_8bit"
    passed_over = ""
    if config.optimizer == "adamw_torch_fused" or (config.optimizer == "adamw_8bit" and not footing.on_cpu):
        if not footing.has_checkpoint:
            return _changed(config, optimizer=smaller_state)
        passed_over = f"optimizer stays {config.optimizer}, for a checkpoint holds its state"
    return _shrunk(config, footing, passed_over)


def _smaller_batch(config: TrainingConfig) -> Rung:
    batch = config.micro_batch_size * config.gradient_accumulation_steps
    micro = next(size for size in range(config.micro_batch_size // 2, 0, -1) if batch % size == 0)
    return _changed(config, micro_batch_size=micro, gradient_accumulation_steps=batch // micro)


def _shrunk(config: TrainingConfig, footing: Footing, passed_over: str) -> Rung | None:
    length = config.sequence_len // 2 // LENGTH_STEP * LENGTH_STEP
    if "sequence_len" in footing.may_shrink and length >= LEAST_LENGTH:
        repacked = config.packing != "none"
        return _changed(config, _anew=repacked, _passed_over=passed_over, sequence_len=length)
    rank = config.lora_r // 2
    if "lora_r" in footing.may_shrink and rank >= LEAST_RANK and config.method != "full":
        alpha = config.lora_alpha * rank / config.lora_r
        return _changed(config, _anew=True, _passed_over=passed_over, lora_r=rank, lora_alpha=alpha)
    return None


def _changed(config: TrainingConfig, *, _anew: bool = False, _passed_over: str = "", **after: Any) -> Rung:
    return Rung({name: getattr(config, name) for name in after}, after, _anew, _passed_over)


def _said(value: object) -> str:
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
