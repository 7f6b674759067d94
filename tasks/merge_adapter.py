"""`adapter.merge`: adapter and base made into one model, checked against the two apart."""

from __future__ import annotations

import shutil
import time
from typing import Literal

from pydantic import Field

from gpu_worker.child import run_child
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job


class MergeAdapter(Spec):
    """What is merged into what."""

    adapter: ArtifactRef = Field(description="the LoRA adapter")
    base_model: ArtifactRef = Field(description="the unquantised model that it was trained on")
    dtype: Literal["base", "bfloat16", "float16", "float32"] = Field(
        "base", description="type the merged model is stored in; base: each weight as the base has it"
    )
    shard_gib: float | None = Field(None, gt=0, description="largest weight file; default: files like the base's")
    prompts: int = Field(4, ge=1, le=8, description="texts on which merged and unmerged are compared")
    tolerance: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="largest effect_error: what rounding may cost of the adapter's effect on the logits; default: "
        "0.01 stored as float32, 0.1 as float16, 0.5 as bfloat16",
    )


class MergedModel(Result):
    """The merged model, and how close it is to base and adapter apart."""

    model: str = Field(description="the artifact")
    tensors_merged: int = Field(description="weights that LoRA changed")
    tensors_replaced: int = Field(
        description="weights that the adapter brought along whole: trained ones, a vocabulary"
    )
    untied: bool = Field(description="head and embedding were one in the base, and are two now")
    vocabulary_before: int | None = Field(description="rows of the base's embedding")
    vocabulary: int | None = Field(description="rows of the embedding")
    tokenizer: str = Field(description="whose it is: base or adapter")
    dtype: str = Field(description="type that most weights are stored in")
    files: int = Field(description="weight files")
    size_mib: float = Field(description="of the weights")
    base_verified: bool = Field(description="the adapter's record names just this base; false: it names none")
    weight_error: float = Field(description="largest error of a weight, in units of what rounding allows; at most 1")
    effect_kept: float = Field(description="how far the logits moved along what the adapter changes; 1 is all of it")
    effect_error: float = Field(
        description="distance of merged and unmerged logits, as a share of the adapter's effect"
    )
    max_logit_difference: float = Field(description="merged against unmerged, over a few texts")
    loss_difference: float = Field(description="nats per token, merged minus unmerged, over a few texts")
    compared_in: str = Field(description="type of the forward passes compared")
    compared_texts: int
    tolerance: float = Field(description="largest effect_error that was allowed")
    merge_peak_rss_mib: float = Field(description="memory that the merge itself took")
    peak_rss_mib: float = Field(description="memory with the comparison")
    merge_seconds: float
    seconds: float

    def told(self) -> dict[str, str]:
        """What was written, and how the proof went."""
        unproven = "" if self.base_verified else "; the adapter does not name its base, so any that fits was taken"
        return {
            "merged": f"{self.tensors_merged + self.tensors_replaced} tensors changed; {self.dtype}, "
            f"{self.size_mib:,.1f} MiB in {self.files} file(s){unproven}",
            "verified": f"{self.effect_kept:.1%} of the adapter's effect kept, error {self.effect_error:.4f} "
            f"(allowed: {self.tolerance:g}), over {self.compared_texts} texts in {self.compared_in}",
        }


@job("adapter.merge", queues=("cpu", "gpu"))
def merge_adapter(spec: MergeAdapter, attempt: Attempt) -> MergedModel:
    """Merge a LoRA adapter into its base model, and prove it."""
    started = time.monotonic()
    folder = attempt.workdir / "model"
    shutil.rmtree(folder, ignore_errors=True)
    order: dict[str, object] = {
        "adapter": str(attempt.artifacts.resolve(spec.adapter)),
        "base_model": str(attempt.artifacts.resolve(spec.base_model)),
        "folder": str(folder),
        "dtype": spec.dtype,
        "shard_bytes": None if spec.shard_gib is None else int(spec.shard_gib * 2**30),
        "prompts": spec.prompts,
        "tolerance": spec.tolerance,
        "lineage": [one.model_dump() for one in attempt.artifacts.lineage()],
    }
    made = run_child(attempt, "gpu_worker.merging", order)
    model = attempt.artifacts.publish(folder, kind="model")
    return MergedModel(model=model, seconds=round(time.monotonic() - started, 1), **made)
