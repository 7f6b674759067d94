"""`model.evaluate`: base and tuned model measured side by side on held-out examples."""

from __future__ import annotations

import shutil
import time

from pydantic import Field

from gpu_worker.child import run_child
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job
from tasks.data.examples import write_prompts_and_completions


class EvaluateModel(Spec):
    """Which models are compared, and on what."""

    base_model: ArtifactRef = Field(description="the model before tuning")
    model: ArtifactRef = Field(description="the tuned model, merged")
    dataset: ArtifactRef = Field(description="held-out examples: a dataset artifact, a folder or a .jsonl file")
    max_examples: int = Field(32, ge=1, description="evenly spaced over the dataset")
    max_length: int = Field(512, ge=16, description="tokens; longer examples are cut at their end and counted")
    batch_size: int = Field(4, ge=1, le=4, description="examples in one forward pass")
    prompts: int = Field(3, ge=0, le=20, description="prompts that both models answer in the report")
    max_new_tokens: int = Field(40, ge=1, description="longest answer in tokens")


class Evaluation(Result):
    """What was measured; losses in nats per completion token, over the same examples."""

    base_loss: float
    tuned_loss: float
    base_perplexity: float
    tuned_perplexity: float
    loss_difference: float = Field(description="tuned minus base: negative is better")
    interval: tuple[float, float] | None = Field(description="95 % interval of the difference; none below 5 examples")
    examples: int = Field(description="measured")
    better: int = Field(description="examples on which the tuned model has the lower loss")
    tokens: int = Field(description="completion tokens measured")
    max_length: int = Field(description="tokens; the models' context where that is shorter than what was asked for")
    cut: int = Field(description="examples cut at max_length")
    dropped: int = Field(description="examples whose prompt alone fills max_length")
    report: str = Field(description="the artifact with report.md and report.json")
    compared_in: str = Field(description="type the models computed in")
    device: str
    peak_rss_mib: float
    seconds: float

    def told(self) -> dict[str, str]:
        """Both losses, and what they say."""
        return {
            "held-out loss": f"{self.base_loss:.3f} before → {self.tuned_loss:.3f} after   (perplexity "
            f"{self.base_perplexity:.1f} → {self.tuned_perplexity:.1f}, {self.examples} examples)",
            "verdict": f"{self._verdict()}; lower on {self.better} of {self.examples} examples",
        }

    def _verdict(self) -> str:
        if self.interval is None:
            return "none, for that takes five examples"
        low, high = self.interval
        word = "better" if high < 0 else "worse" if low > 0 else "no difference shown"
        return f"{word}: {self.loss_difference:+.3f} nats a token (95 %: {low:+.3f} to {high:+.3f})"


@job("model.evaluate", queues=("gpu", "cpu"))
def evaluate_model(spec: EvaluateModel, attempt: Attempt) -> Evaluation:
    """Compare a tuned model with its base on held-out examples: loss, perplexity, and answers."""
    started = time.monotonic()
    rows, folder = attempt.workdir / "rows.jsonl", attempt.workdir / "report"
    shutil.rmtree(folder, ignore_errors=True)
    write_prompts_and_completions(rows, attempt.artifacts.resolve(spec.dataset))
    limits = spec.model_dump(include={"max_examples", "max_length", "batch_size", "prompts", "max_new_tokens"})
    order = {
        "base_model": str(attempt.artifacts.resolve(spec.base_model)),
        "model": str(attempt.artifacts.resolve(spec.model)),
        "rows": str(rows),
        "folder": str(folder),
        **limits,
    }
    measured = run_child(attempt, "gpu_worker.evaluating", order)
    report = attempt.artifacts.publish(folder, kind="evaluation")
    same = {name: measured[name] for name in Evaluation.model_fields if name in measured}
    return Evaluation(report=report, seconds=round(time.monotonic() - started, 1), **same)
