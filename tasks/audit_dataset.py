"""`dataset.audit`: what is in a dataset, what is wrong with it, and whether that is little enough to train on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from queue_app.errors import Permanent
from queue_app.job_type import ArtifactRef, Attempt, Result, job
from queue_app.lifecycle import Cause
from tasks.data.auditing.assembling import assemble, figures
from tasks.data.auditing.planning import INPUTS, OPTIONS, AuditPlan, plan_parts
from tasks.data.auditing.processes import SILENT_SECONDS, run_side_by_side
from tasks.data.gates import Check, Thresholds, unmeasured
from tasks.data.personal import REGIONS
from tasks.data.profiling.spoken import LIMITS
from tasks.data.reporting import write_report

MEASURED_BY = {
    "duplicates": frozenset({"duplicates", "near_duplicates"}),
    "contradictions": frozenset({"contradictions"}),
    "personal": frozenset({"pii", "secrets"}),
}


class AuditDataset(Thresholds):
    """Which dataset is looked at, for what, and from which finding on the answer is no."""

    source: ArtifactRef = Field(description="a dataset artifact, a folder with examples.jsonl, or a .jsonl file")
    holdout: ArtifactRef | None = Field(None, description="held-out examples that must not be in it")
    benchmark: ArtifactRef | None = Field(None, description="a benchmark's file, whose questions must not be in it")
    from_format: str | None = Field(None, description="the format of the source; default: told from its first row")
    tokenizers: tuple[str, ...] = Field(
        ("o200k_base",), description="vocabularies to count tokens by: o200k_base, cl100k_base, or a model's name"
    )
    base_model: ArtifactRef | None = Field(None, description="a model whose own tokenizer counts as well")
    duplicates: bool = Field(True, description="look for equal and nearly equal examples")
    similarity: float = Field(0.85, gt=0, lt=1, description="from which Jaccard similarity on two are nearly equal")
    contradictions: bool = Field(True, description="look for the same prompt with different answers")
    personal: bool = Field(True, description="look for personal data and secrets")
    personal_types: tuple[str, ...] = Field(
        (), description="types to look for; default: all that need no extra package"
    )
    least: Literal["low", "medium", "high"] = Field(
        "medium", description="how sure a finding must be to count; what is less sure is told apart"
    )
    regions: tuple[str, ...] = Field(REGIONS, description="countries that phone numbers without a + may be from")
    languages: bool = Field(True, description="detect languages, on a sample")
    balance: bool = Field(True, description="count names, genders and nationalities")
    processes: int = Field(2, ge=1, le=16, description="parts that run at once; small datasets need one")
    silent_seconds: float = Field(
        SILENT_SECONDS, gt=0, description="a part whose process is silent for so long is ended, and the job retried"
    )

    @model_validator(mode="after")
    def _judged_is_measured(self) -> AuditDataset:
        off = {part: names for part, names in MEASURED_BY.items() if not getattr(self, part)}
        if self.holdout is None and self.benchmark is None:
            off["holdout"] = frozenset({"leaks"})
        for name, part in unmeasured(self, off):
            needed = "a holdout or a benchmark" if part == "holdout" else f"{part}=true"
            raise ValueError(f"{name} needs {needed}: nothing would be measured")
        return self


class AuditedDataset(Result):
    """The main figures; none where a part was not asked for."""

    report: str = Field(description="artifact id: report.html, report.md and report.json")
    passed: bool | None = Field(description="whether every threshold holds; none without thresholds")
    examples: int
    bad_rows: int = Field(description="rows that could not be read; they are in no other figure")
    tokens: dict[str, int] = Field(description=f"by tokenizer, {LIMITS}; without what a chat template adds")
    duplicates: int | None = Field(description="examples that repeat another word for word, unless meant to")
    near_duplicates: int | None = Field(description="examples that repeat another nearly, unless meant to")
    contradictions: int | None = Field(description="prompts with different answers")
    leaks: int | None = Field(description="examples that are in the holdout or the benchmark as well")
    pii: int | None = Field(description="examples with personal data")
    secrets: int | None = Field(description="examples with keys, tokens or passwords")
    less_sure: dict[str, int] = Field(description="findings below `least`, by type; they are in no other figure")
    mojibake: int
    control_characters: int
    empty_answers: int
    languages_sampled: int = Field(description="examples whose language was detected; 0 where that is off")
    seconds: float
    peak_rss_mib: float = Field(description="of the largest process")


@job("dataset.audit", queues=("cpu",))
def audit_dataset(spec: AuditDataset, attempt: Attempt) -> AuditedDataset:
    """Measure a dataset, look for what spoils a training, and say no where a threshold is passed."""
    started = time.monotonic()
    folder = attempt.workdir / "report"
    shutil.rmtree(folder, ignore_errors=True)

    def look(examples: Mapping[str, int]) -> None:
        attempt.report(**{f"{part}_examples": count for part, count in examples.items()})

    resolve = attempt.artifacts.resolve
    inputs: dict[str, Any] = {name: resolve(ref) for name in INPUTS if (ref := getattr(spec, name)) is not None}
    plan = plan_parts(AuditPlan(scratch=attempt.workdir, **inputs, **spec.model_dump(include=OPTIONS)))
    done = run_side_by_side(plan.pieces, plan.processes, look, silent_seconds=spec.silent_seconds)
    report = assemble(spec.source, done, spec, plan.skipped)
    write_report(folder, report)
    published = attempt.artifacts.publish(folder, kind="report")
    _refuse(report.checks, published)
    return AuditedDataset(
        report=published,
        passed=report.passed,
        seconds=round(time.monotonic() - started, 1),
        peak_rss_mib=max(piece.peak_rss_mib for piece in done.values()),
        **figures(done),
    )


def _refuse(checks: list[Check], report: str) -> None:
    failed = [str(check) for check in checks if not check.passed]
    if failed:
        raise Permanent(
            f"the audit says no: {'; '.join(failed)}. `tuneyard data show {report[7:19]}` says where the report lies, "
            f"which names the lines; repair the dataset, or loosen the threshold (the report is {report})",
            cause=Cause.GATE,
        )
