"""What a training job may do about memory, as its spec says."""

from __future__ import annotations

from pydantic import Field

from gpu_worker.fitting.ladder import Shrinkable  # noqa: TC001 - pydantic needs it at run time
from queue_app.job_type import Spec


class Allowances(Spec):
    """The part of a training job's spec that is about memory."""

    may_shrink: tuple[Shrinkable, ...] = Field(
        (),
        description="what else may be made smaller when memory runs out, once batch, checkpointing and optimizer are: "
        "sequence_len, lora_r",
    )
    even_if_too_large: bool = Field(False, description="start although the prediction says that it cannot fit")
