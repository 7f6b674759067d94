"""`adapter.merge`: adapter and base made into one model, checked against the two apart."""

from __future__ import annotations

import shutil
import time

from pydantic import Field

from gpu_worker.child import run_child
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job


class MergeAdapter(Spec):
    """What is merged into what."""

    adapter: ArtifactRef = Field(description="the LoRA adapter")
    base_model: ArtifactRef = Field(description="the unquantised model that it was trained on")
    tolerance: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="largest effect_error: what rounding may cost of the adapter's effect on the logits",
    )


class MergedModel(Result):
    """The merged model, and how close it is to base and adapter apart."""

    model: str = Field(description="the artifact")
    tensors_merged: int
    base_verified: bool = Field(description="the adapter's record names just this base; false: it names none")
    weight_error: float = Field(description="largest error of a weight, in units of what rounding allows; at most 1")
    effect_kept: float = Field(description="how far the logits moved along what the adapter changes; 1 is all of it")
    effect_error: float = Field(
        description="distance of merged and unmerged logits, as a share of the adapter's effect"
    )
    max_logit_difference: float = Field(description="merged against unmerged, over a few texts")
    loss_difference: float = Field(description="nats per token, merged minus unmerged, over a few texts")
    compared_in: str = Field(description="type of the forward passes compared")
    merge_peak_rss_mib: float = Field(description="memory that the merge itself took")
    peak_rss_mib: float = Field(description="memory with the comparison")
    merge_seconds: float
    seconds: float


@job("adapter.merge", queues=("cpu", "gpu"))
def merge_adapter(spec: MergeAdapter, attempt: Attempt) -> MergedModel:
    """Merge a LoRA adapter into its base model, and prove it."""
    started = time.monotonic()
    folder = attempt.workdir / "model"
    shutil.rmtree(folder, ignore_errors=True)
    order = {
        "adapter": str(attempt.artifacts.resolve(spec.adapter)),
        "base_model": str(attempt.artifacts.resolve(spec.base_model)),
        "folder": str(folder),
        "tolerance": spec.tolerance,
    }
    made = run_child(attempt, "gpu_worker.merging", order)
    model = attempt.artifacts.publish(folder, kind="model")
    return MergedModel(model=model, seconds=round(time.monotonic() - started, 1), **made)
