"""`dataset.dedupe`: every example once."""

from __future__ import annotations

import shutil

from pydantic import Field

from queue_app.errors import Permanent
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job
from queue_app.lifecycle import Cause
from tasks.data.duplicates import DuplicateFinder, DuplicateOptions, DuplicateReport, Keep
from tasks.data.leakage import LeakFinder, LeakOptions, LeakReport
from tasks.data.reading import follow_rows
from tasks.data.removing import REMOVED, removals, take_out
from tasks.data.statistics import write_statistics
from tasks.data.writing import DatasetWriter, JsonlWriter


class DedupeDataset(Spec):
    """Which dataset, and what counts as being in it twice."""

    source: ArtifactRef = Field(description="a dataset artifact, a folder with examples.jsonl, or a .jsonl file")
    near: float = Field(
        0.85,
        ge=0.5,
        le=1,
        description="from which similarity on two examples are one: the share of pieces of 5 characters that both have",
    )
    exact_only: bool = Field(
        False, description="remove only what is the same but for case, white space and compatibility forms"
    )
    keep: Keep = Field("first", description="which of several stays; of equals the first")
    keep_reuse: bool = Field(
        True, description="an agent's copy of a base example is none: each target_agent keeps one, if lineage tells"
    )
    against: tuple[ArtifactRef, ...] = Field(
        (), description="holdouts and benchmarks: what is in one of these is removed"
    )
    run: int = Field(13, ge=0, description="words in a row that make an example known from `against`; 0: never")


class DedupedDataset(Result):
    """The dataset, and what is not in it any more; each removed example is a line of its removed.jsonl."""

    dataset: str = Field(description="artifact id")
    examples: int
    source_examples: int
    removed: int
    exact: int = Field(description="removed: the content was there already")
    normalised: int = Field(description="removed: was there but for case, white space or compatibility forms")
    near: int = Field(description="removed: was nearly there")
    leaked: int = Field(description="removed: is in one of `against`")
    leaked_same: int
    leaked_prompt: int = Field(description="the same question, whatever the answer")
    leaked_near: int
    leaked_overlap: int
    reuse: int = Field(description="kept: the same base example for another agent")
    coincident: int = Field(description="kept: like another base's example, for another agent")
    uncompared: int = Field(description="candidate pairs left out where very many examples are made after one pattern")


@job("dataset.dedupe", queues=("cpu",))
def dedupe_dataset(spec: DedupeDataset, attempt: Attempt) -> DedupedDataset:
    """Remove examples that are there twice, word for word or nearly, and those that a holdout or benchmark has."""
    source = attempt.artifacts.resolve(spec.source)
    near = None if spec.exact_only else spec.near
    folder = attempt.workdir / "dataset"
    shutil.rmtree(folder, ignore_errors=True)
    looking = LeakOptions(near=near, run=spec.run or None, scratch=attempt.workdir)
    counting = DuplicateOptions(near=near, keep=spec.keep, tell_reuse=spec.keep_reuse, scratch=attempt.workdir)
    with LeakFinder(looking) as leaks, DuplicateFinder(counting) as copies:
        leaked = _look_for_leaks(spec, attempt, leaks)
        for row, leak in take_out(follow_rows(source, attempt.report), removals(leaks.leaks(), ())):
            if leak is None:
                copies.see(row.record, row.line)
            else:
                copies.pass_over()
        copied = copies.finish()
        taken = removals(leaks.leaks(), copies.copies())
        with DatasetWriter(folder) as kept, JsonlWriter(folder / REMOVED) as removed:
            for row, removal in take_out(follow_rows(source, attempt.report), taken):
                if removal is None:
                    kept.write(row.record)
                else:
                    removed.write(removal)
    if not kept.count:
        raise Permanent(_nothing_left(spec, removed.count), cause=Cause.DATA)
    figures = _figures(leaked, copied) | {"examples": kept.count, "removed": removed.count}
    write_statistics(folder, figures | {"dedupe": spec.model_dump(mode="json", exclude={"source", "against"})}, [])
    return DedupedDataset(dataset=attempt.artifacts.publish(folder, kind="dataset"), **figures)


def _look_for_leaks(spec: DedupeDataset, attempt: Attempt, leaks: LeakFinder) -> LeakReport | None:
    """Compare the source with all that it must not repeat; nothing is read where there is no such thing."""
    if not spec.against:
        return None
    for ref in spec.against:
        for row in follow_rows(attempt.artifacts.resolve(ref), attempt.report):
            leaks.know(row.record, row.line, ref)
    for row in follow_rows(attempt.artifacts.resolve(spec.source), attempt.report):
        leaks.see(row.record, row.line)
    return leaks.finish()


def _figures(leaked: LeakReport | None, copied: DuplicateReport) -> dict[str, int]:
    return {
        "source_examples": copied.examples + (leaked.leaked if leaked else 0),
        "exact": copied.exact,
        "normalised": copied.normalised,
        "near": copied.near,
        "leaked": leaked.leaked if leaked else 0,
        "leaked_same": leaked.same if leaked else 0,
        "leaked_prompt": leaked.prompt if leaked else 0,
        "leaked_near": leaked.near if leaked else 0,
        "leaked_overlap": leaked.overlap if leaked else 0,
        "reuse": copied.reuse,
        "coincident": copied.coincident,
        "uncompared": copied.uncompared + (leaked.uncompared if leaked else 0),
    }


def _nothing_left(spec: DedupeDataset, removed: int) -> str:
    if not removed:
        return f"{spec.source} has no examples; give a dataset that has some"
    return (
        f"all {removed} examples of {spec.source} are in {', '.join(spec.against)}; give other examples, or take "
        "out of `against` what was made of the same text"
    )
