"""`dataset.check`: what a provider would say to a file, before it is uploaded and paid for."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from api_worker.catalogue import catalogue
from queue_app.errors import Invalid, NotFound, Permanent
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job
from queue_app.lifecycle import Cause
from tasks.data.checking.checker import Plan
from tasks.data.checking.checkup import Checkup, Order, check
from tasks.data.checking.closings import standing
from tasks.data.checking.ledger import FINDINGS
from tasks.data.checking.mistral import INSTALLED
from tasks.data.checking.target import TARGETS, find_target
from tasks.data.checking.target_lines import is_own_file
from tasks.data.counting import Counting, counting_of_folder, counting_of_name, mistral_counting, openai_counting

_PATH = ("/", "./", "../", "~")  # how a path begins, and no model's name at a provider
NAMED = 5  # findings in the message of a check that says no
VOCABULARY = "o200k_base"  # of what OpenAI and Azure still tune; the estimate for everything unknown


class CheckDataset(Spec):
    """Which data, for whom, and what is done about what is found."""

    source: ArtifactRef = Field(
        description="a dataset artifact, a folder with examples.jsonl, an export, or the provider's own file"
    )
    target: str = Field(description=f"for whom: {', '.join(TARGETS)}")
    base_model: ArtifactRef | None = Field(
        None, description="the model to tune, for tokens and context: a model artifact or folder, or a provider's name"
    )
    max_tokens: int | None = Field(
        None, ge=1, description="tokens an example may have; default: the model's context, or the target's known limit"
    )
    count_tokens: bool = Field(True, description="whether tokens are counted; for target local only with base_model")
    as_file: bool | None = Field(
        None,
        description="take the rows as they stand, without conversion; default: for a file or export, not for a dataset",
    )
    fix: bool = Field(False, description="apply the safe repairs and publish the repaired copy")
    skip_bad: bool = Field(False, description="set bad rows aside in rejected.jsonl and publish the rest")
    strict: bool = Field(False, description="warnings stand in the way as well")
    listed: int = Field(1000, ge=1, description="findings of each rule that are written down; all are counted")

    @field_validator("target")
    @classmethod
    def _known(cls, target: str) -> str:
        if target.startswith("$"):
            return target
        try:
            return find_target(target).name
        except Invalid as error:
            raise ValueError(str(error)) from error


class CheckedDataset(Result):
    """What was found; a check with blocking findings has no result, but its report is kept."""

    report: str = Field(description="artifact id: findings.jsonl, summary.json and perhaps rejected.jsonl")
    dataset: str = Field(description="artifact id or path of what passed: the repaired copy, or else the source itself")
    repaired: str | None = Field(
        description="artifact id of the copy that fix or skip_bad made; none if nothing was to be done"
    )
    examples: int
    kept: int = Field(description="examples not set aside")
    rejected: int = Field(description="examples set aside by skip_bad")
    warnings: int
    found: dict[str, int] = Field(description="findings by rule, with those repaired or set aside")
    fixed: dict[str, int] = Field(description="repairs by rule")
    dropped: dict[str, int] = Field(description="what the target cannot hold, by field: lost by conversion or by fix")
    first: list[str] = Field(description="the first findings")
    tokens: dict[str, Any] | None = Field(description="counter, total, longest, over_limit; none if not counted")
    skipped_rules: dict[str, int] = Field(description="examples that a rule could not be asked of, by the rule")
    notes: list[str] = Field(description="what is an estimate, and what the provider does not document")


@job("dataset.check", queues=("cpu",))
def check_dataset(spec: CheckDataset, attempt: Attempt) -> CheckedDataset:
    """Check a file or dataset against the rules of a provider, and repair what can safely be repaired."""
    source, target = attempt.artifacts.resolve(spec.source), find_target(spec.target)
    known = catalogue(attempt.settings.catalogue)
    as_file = target.name != "local" and (is_own_file(source) if spec.as_file is None else spec.as_file)
    model = _model_folder(spec, attempt)
    report, repaired = attempt.workdir / "report", attempt.workdir / "repaired"
    for folder in (report, repaired):
        shutil.rmtree(folder, ignore_errors=True)
    order = Order(
        source=source,
        plan=Plan(_shown(spec.source, source), target, as_file, spec.fix, spec.skip_bad, spec.strict, known),
        report=report,
        repaired=repaired if spec.fix or spec.skip_bad else None,
        counting=_counting(spec, model),
        context=spec.max_tokens or _context(model),
        listed=spec.listed,
        standing=standing(known, target.name, None if model else spec.base_model, datetime.now(UTC).date()),
    )
    made = check(order, lambda rows: attempt.report(examples=rows))
    kept_report = attempt.artifacts.publish(report, kind="check-report")
    if made.blocked:
        raise Permanent(_refusal(made, kept_report, spec), cause=Cause.GATE)
    kind, changed = "export" if as_file else "dataset", made.figures["fixed"] or made.figures["rejected"]
    copy = attempt.artifacts.publish(repaired, kind=kind) if order.repaired and changed else None
    same = {name: made.figures[name] for name in CheckedDataset.model_fields if name in made.figures}
    first = [str(finding) for finding in made.first]
    return CheckedDataset(dataset=copy or spec.source, report=kept_report, repaired=copy, first=first, **same)


def _shown(ref: str, source: Path) -> str:
    """What findings call the source: the file that the user gave, or the artifact."""
    return str(source) if Path(ref).is_absolute() else ref


def _model_folder(spec: CheckDataset, attempt: Attempt) -> Path | None:
    """The folder of the base model, where it has one: every local one, and what no vocabulary is known by name for."""
    if spec.base_model is None:
        return None
    is_path = spec.base_model.startswith(_PATH)
    if spec.target != "local" and not is_path and counting_of_name(spec.base_model) is not None:
        return None
    try:
        return attempt.artifacts.resolve(spec.base_model)
    except NotFound:
        if spec.target == "local" or is_path:
            raise
        return None


def _counting(spec: CheckDataset, model: Path | None) -> Counting | None:
    if not spec.count_tokens or (spec.target == "local" and model is None):
        return None
    if model is not None:
        return counting_of_folder(model)
    if spec.base_model is not None:
        return counting_of_name(spec.base_model) or openai_counting(VOCABULARY, exact=False)
    if spec.target == "mistral" and INSTALLED:
        return mistral_counting()
    return openai_counting(VOCABULARY, exact=spec.target in ("openai", "openai_preference", "azure"))


def _context(model: Path | None) -> int | None:
    if model is None:
        return None
    from gpu_worker.base_model import read_model

    return read_model(model).context_length


def _refusal(made: Checkup, report: str, spec: CheckDataset) -> str:
    figures = made.figures
    grave = [finding for finding in made.first if finding.severity == "blocking" or spec.strict]
    count = figures["blocking"] + (figures["warnings"] if spec.strict else 0)
    more = f"\n… and {count - NAMED:,} more" if count > NAMED else ""
    named = "\n".join(str(finding) for finding in grave[:NAMED])
    grades = () if spec.fix else ("blocking", "warning") if spec.strict else ("blocking",)
    fixable = sum(figures["fixable"].get(grade, 0) for grade in grades)
    hint = f"; --fix repairs {'it' if fixable == count == 1 else f'{fixable:,} of them'} safely" if fixable else ""
    aside = "; --skip-bad sets bad rows aside" if not spec.skip_bad and any(one.line for one in grave) else ""
    shown = f"`tuneyard data show {report.removeprefix('sha256:')[:12]}` says where it lies"
    where = f"all of them are in {FINDINGS} of {report} ({shown})"
    stand = "1 finding stands" if count == 1 else f"{count:,} findings stand"
    return f"{stand} in the way of {spec.target}:\n{named}{more}\n{where}{hint}{aside}"
