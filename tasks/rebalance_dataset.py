"""`dataset.rebalance`: a dataset with the shares that are wanted, or the list of what it lacks for them."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job
from tasks.data.quoting import quoted_counts
from tasks.data.reading import follow_rows
from tasks.data.rebalancing import (
    Examples,
    check_targets,
    even_targets,
    find_gaps,
    raise_to,
    reduce_to,
    write_gaps,
)
from tasks.data.sampling import DrawBy, Lots, choose_positions, pick, take_census
from tasks.data.statistics import write_statistics
from tasks.data.strata import Bands, FieldName, Strata
from tasks.data.writing import DatasetWriter

if TYPE_CHECKING:
    from tasks.data.rebalancing import Gap
    from tasks.data.sampling import Census


class RebalanceDataset(Spec):
    """Which dataset, and which shares its strata shall have."""

    source: ArtifactRef = Field(description="a dataset artifact, a folder with examples.jsonl, or a .jsonl file")
    by: FieldName = Field(
        description="what is balanced: target_agent, source_agent, category, difficulty, weight, origin.document or "
        "metadata.NAME"
    )
    targets: dict[str, float] | Literal["even"] = Field(
        "even", description="the share of each value, such as {easy: 0.3, hard: 0.7}; only their proportion counts"
    )
    bands: Bands = ()
    fill: Literal["drop", "ask"] = Field(
        "drop",
        description="drop: leave out by lot what is too much; ask: leave out nothing and list what is missing",
    )
    seed: int = Field(0, description="another seed, another choice")
    draw_by: DrawBy = Field("content", description="position: the order of the file counts, equal examples are apart")

    @field_validator("targets")
    @classmethod
    def _shares(cls, targets: dict[str, float] | Literal["even"]) -> dict[str, float] | Literal["even"]:
        if isinstance(targets, dict):
            for name, share in targets.items():
                if not 0 <= share < math.inf:
                    raise ValueError(f'the share of "{name}" is {share:g}; it must be a number from 0 up')
            if not any(targets.values()):
                raise ValueError("at least one share must be above 0")
        return targets


class RebalancedDataset(Result):
    """The dataset with its new shares, or as it was beside the list of its gaps."""

    dataset: str = Field(description="artifact id")
    gaps: str | None = Field(description="artifact id of what is missing, by stratum; only with fill=ask")
    examples: int
    source_examples: int
    dropped: dict[str, int] = Field(description="examples left out, by stratum")
    missing: dict[str, int] = Field(description="examples that are still to be made, by stratum")
    shares: dict[str, float] = Field(description="of the dataset as it is now")


@job("dataset.rebalance", queues=("cpu",))
def rebalance_dataset(spec: RebalanceDataset, attempt: Attempt) -> RebalancedDataset:
    """Bring a dataset to target shares, or say what it lacks for them."""
    source, scratch = attempt.artifacts.resolve(spec.source), attempt.workdir
    strata, asking = Strata(spec.by, spec.bands), spec.fill == "ask"
    folder = attempt.workdir / "dataset"
    shutil.rmtree(folder, ignore_errors=True)
    rows, lots = follow_rows(source, attempt.report), Lots(spec.seed, spec.draw_by)
    with take_census(rows, strata, lots, scratch=scratch) as census:
        targets = even_targets(census) if spec.targets == "even" else spec.targets
        check_targets(census, targets, strata, asking=asking)
        wanted = raise_to(census.sizes, targets) if asking else reduce_to(census.sizes, targets)
        kept = census.sizes if asking else {name: wanted[name] for name in census.sizes}
        gaps = find_gaps(census, targets, wanted) if asking else []
        examples = Examples(census, gaps)
        with DatasetWriter(folder) as writer:
            chosen = choose_positions(census, kept, scratch)
            # where there are gaps nothing is left out, so what is kept stands where it stood
            for position, row in enumerate(pick(follow_rows(source, attempt.report), chosen)):
                writer.write(row.record)
                examples.look(position, row)
    made = _figures(census, kept, gaps)
    write_statistics(folder, made | {"rebalance": spec.model_dump(mode="json", exclude={"source"})}, [])
    return RebalancedDataset(
        dataset=attempt.artifacts.publish(folder, kind="dataset"),
        gaps=_publish_gaps(attempt, strata, gaps, examples) if asking else None,
        **made,
    )


def _figures(census: Census, kept: dict[str, int], gaps: list[Gap]) -> dict[str, Any]:
    examples = sum(kept.values())
    return {
        "examples": examples,
        "source_examples": census.total,
        "dropped": _shown({name: have - kept[name] for name, have in census.sizes.items()}),
        "missing": _shown({gap.stratum: gap.missing for gap in gaps}),
        "shares": {name: round(number / examples, 6) for name, number in _shown(kept).items()},
    }


def _shown(strata: dict[str, int]) -> dict[str, int]:
    """The strata that have any, under names that may be shown."""
    return quoted_counts(+Counter(strata), len(strata))


def _publish_gaps(attempt: Attempt, strata: Strata, gaps: list[Gap], examples: Examples) -> str:
    folder = attempt.workdir / "gaps"
    shutil.rmtree(folder, ignore_errors=True)
    write_gaps(folder, strata, gaps, examples.ids)
    return attempt.artifacts.publish(folder, kind="gaps")
