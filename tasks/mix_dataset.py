"""`dataset.mix`: every agent's examples, weighted, for every agent that can learn from them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from queue_app.errors import Invalid
from queue_app.job_type import ArtifactRef, Attempt, InputPath, Result, Spec, job
from tasks.data.compatibility import Compatibility, read_compatibility
from tasks.data.mixing import Mixture, Outlets
from tasks.data.reading import follow_rows
from tasks.data.statistics import write_statistics


class MixDataset(Spec):
    """Whose examples, and how much each agent's count for the others."""

    source: ArtifactRef | dict[str, ArtifactRef] = Field(
        description="a dataset whose examples tell their source_agent, or a dataset for each agent: {math: …, code: …}"
    )
    compatibility: InputPath = Field(
        description="a .csv or .yaml file: a row for each source agent, a column for each target agent; 1 is an "
        "agent's own, 0 never"
    )
    assign: bool = Field(False, description="the examples have no agent: deal them out to the agents by content")
    per_agent: bool = Field(False, description="make one dataset for each target agent instead of one for all")
    min_weight: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="leave out what would count less, and say how many"
    )

    @model_validator(mode="after")
    def _assign_one(self) -> Self:
        if self.assign and not isinstance(self.source, str):
            raise ValueError("assign deals out one dataset, but source names one for each agent; take assign off")
        return self


class MixedDataset(Result):
    """The weighted examples, and how many there are of and for each agent."""

    dataset: str | None = Field(description="artifact id; none with per_agent")
    datasets: dict[str, str] = Field(description="artifact id by target agent; empty without per_agent")
    examples: int
    base_examples: int
    bases: dict[str, int] = Field(description="examples that went in, by source agent")
    targets: dict[str, int] = Field(description="examples that came out, by target agent")
    light: int = Field(description="copies left out: below min_weight, or of an example of weight 0")


@job("dataset.mix", queues=("cpu",))
def mix_dataset(spec: MixDataset, attempt: Attempt) -> MixedDataset:
    """Give every example to every agent that is compatible with its own, with the weight that it has there."""
    compatibility = read_compatibility(Path(spec.compatibility))
    sources = _sources(spec, attempt, compatibility)
    mixture = Mixture(compatibility, spec.assign, spec.min_weight)
    folder = attempt.workdir / "mixed"
    shutil.rmtree(folder, ignore_errors=True)
    with Outlets(folder, compatibility.agents if spec.per_agent else ()) as outlets:
        for agent, source in sources:
            for record in mixture.mix(follow_rows(source, attempt.report), agent):
                outlets.write(record)
        mixture.check_complete()
    chosen = {"compatibility": compatibility.weights, "assign": spec.assign, "min_weight": spec.min_weight}
    ids: dict[str | None, str] = {}
    for agent, writer in outlets.writers.items():
        write_statistics(writer.path.parent, {"examples": writer.count, "mix": chosen}, [])
        ids[agent] = attempt.artifacts.publish(writer.path.parent, kind="dataset")
    return MixedDataset(
        dataset=ids.get(None),
        datasets={agent: made for agent, made in ids.items() if agent is not None},
        examples=mixture.examples.total(),
        base_examples=mixture.bases.total(),
        bases=dict(mixture.bases),
        targets=dict(mixture.examples),
        light=mixture.light,
    )


def _sources(spec: MixDataset, attempt: Attempt, compatibility: Compatibility) -> list[tuple[str | None, Path]]:
    """Every dataset with the agent that it is of, in the order of the matrix; no agent where the examples tell theirs.

    Raises:
        Invalid: the datasets are not those of the matrix's agents
    """
    if isinstance(spec.source, str):
        return [(None, attempt.artifacts.resolve(spec.source))]
    for agent in spec.source:
        try:
            compatibility.check_known(agent)
        except ValueError as error:
            raise Invalid(f"source: {error}") from error
    if absent := [f'"{agent}"' for agent in compatibility.agents if agent not in spec.source]:
        raise Invalid(f"source has no dataset of {', '.join(absent)}; add it, or take its row and column out")
    return [(agent, attempt.artifacts.resolve(spec.source[agent])) for agent in compatibility.agents]
