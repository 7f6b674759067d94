"""`model.export`: a merged or pulled model as a GGUF file, for llama.cpp and what is built on it."""

from __future__ import annotations

import shutil
import time
from typing import Literal

from pydantic import Field

from gpu_worker.child import run_child
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job


class ExportModel(Spec):
    """Which model, and how its weights are stored."""

    model: ArtifactRef = Field(description="a Llama model: merged, pulled, or a folder")
    type: Literal["f16", "q8_0"] = Field(
        "f16", description="f16: 16 bits a weight; q8_0: 8.5 bits, which small models (below about 1B) bear badly"
    )


class ExportedModel(Result):
    """The file, read back and compared with the model."""

    gguf: str = Field(description="the artifact: a folder with the file, and the model's card and licence")
    file: str = Field(description="name of the GGUF file in it")
    tensors: int
    weight_error: float = Field(
        description="largest error of a weight, in units of what the type allows: f16 is exact (0), q8_0 at most 1"
    )
    size_mib: float
    peak_rss_mib: float
    seconds: float

    def told(self) -> dict[str, str]:
        """What was written, and how the proof went."""
        return {
            "exported": f"{self.tensors} tensors, {self.size_mib:,.1f} MiB; read back, largest weight error "
            f"{self.weight_error:.2f} of what the type allows"
        }


@job("model.export", queues=("cpu", "gpu"))
def export_model(spec: ExportModel, attempt: Attempt) -> ExportedModel:
    """Write a model as GGUF (f16 or q8_0), and prove it by reading it back."""
    started = time.monotonic()
    folder, file = attempt.workdir / "gguf", f"model-{spec.type}.gguf"
    shutil.rmtree(folder, ignore_errors=True)
    model = attempt.artifacts.resolve(spec.model)
    order: dict[str, object] = {"model": str(model), "folder": str(folder), "file": file, "type": spec.type}
    made = run_child(attempt, "gpu_worker.gguf_export", order)
    artifact = attempt.artifacts.publish(folder, kind="gguf")
    return ExportedModel(gguf=artifact, file=file, seconds=round(time.monotonic() - started, 1), **made)
