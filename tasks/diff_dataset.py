"""`dataset.diff`: what became of a dataset from one version to the next."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job
from tasks.data.auditing.parts import counter
from tasks.data.differences import count_relabelled, sample_difference, show_difference
from tasks.data.diffing import Difference, Version, compare
from tasks.data.profiling import BATCH, Profile, ProfileOptions, Profiler
from tasks.data.reading import follow_rows

if TYPE_CHECKING:
    from collections import Counter

    from tasks.data.reading import Row
    from tasks.data.record import Record


class DiffDataset(Spec):
    """The two versions, and what is shown of the difference."""

    before: ArtifactRef = Field(description="the earlier version: a dataset artifact, a folder, or a file of examples")
    after: ArtifactRef = Field(description="the later version")
    samples: int = Field(10, ge=0, le=1000, description="examples of each kind of change in the report")
    tokenizer: str | None = Field("o200k_base", description="vocabulary or model's name to count tokens by; or none")


class DatasetDiff(Result):
    """Counts; every example of both versions is in one of them. The artifact has samples and distributions."""

    diff: str = Field(description="artifact id: diff.json and diff.md")
    identical: bool = Field(description="the same examples with the same fields, in whatever order")
    before_examples: int
    after_examples: int
    kept: int = Field(description="the same in everything")
    added: int
    removed: int
    changed: int = Field(description="reanswered and relabelled together")
    reanswered: int = Field(description="the same prompt, another answer")
    relabelled: int = Field(description="the same content, but another weight, agent, category or metadata")
    relabelled_fields: dict[str, int] = Field(description="by the field that changed")
    before_tokens: int | None
    after_tokens: int | None


@job("dataset.diff", queues=("cpu",))
def diff_dataset(spec: DiffDataset, attempt: Attempt) -> DatasetDiff:
    """Compare two versions of a dataset by the content of their examples."""
    before, after = attempt.artifacts.resolve(spec.before), attempt.artifacts.resolve(spec.after)
    options = ProfileOptions(
        {spec.tokenizer: counter(spec.tokenizer)} if spec.tokenizer else {}, languages=False, balance=False
    )
    (old, profile), (new, profile_after) = (_look(path, options, attempt) for path in (before, after))
    found = compare(old, new)

    def again(path: Path) -> Iterator[Record]:
        return (row.record for row in follow_rows(path, attempt.report))

    fields = count_relabelled(found.relabelled, again(before), lambda: again(after), attempt.workdir)
    samples = sample_difference(found, (old, new), (lambda: again(before), lambda: again(after)), spec.samples)
    figures = _figures(found, (old, new), (profile, profile_after), fields)
    folder = attempt.workdir / "diff"
    shutil.rmtree(folder, ignore_errors=True)
    show_difference(folder, (spec.before, spec.after), figures, (profile, profile_after), samples)
    return DatasetDiff(diff=attempt.artifacts.publish(folder, kind="diff"), **figures)


def _look(source: Path, options: ProfileOptions, attempt: Attempt) -> tuple[Version, Profile]:
    version, profiler = Version(), Profiler(options)
    rows: Iterator[Row] = follow_rows(source, attempt.report)
    while batch := list(islice(rows, BATCH)):
        profiler.add(batch)
        for row in batch:
            version.see(row.record, row.line)
    return version, profiler.profile()


def _figures(
    found: Difference, versions: tuple[Version, Version], profiles: tuple[Profile, Profile], fields: Counter[str]
) -> dict[str, Any]:
    changed = len(found.reanswered) + len(found.relabelled)
    tokens = [next((sizes.total for sizes in profile.tokens.values()), None) for profile in profiles]
    return {
        "identical": not (changed or len(found.added) or len(found.removed)),
        "before_examples": len(versions[0]),
        "after_examples": len(versions[1]),
        "kept": len(found.kept),
        "added": len(found.added),
        "removed": len(found.removed),
        "changed": changed,
        "reanswered": len(found.reanswered),
        "relabelled": len(found.relabelled),
        "relabelled_fields": dict(sorted(fields.items())),
        "before_tokens": tokens[0],
        "after_tokens": tokens[1],
    }
