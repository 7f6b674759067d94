"""`dataset.sample`: exactly so many examples out of a dataset."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, Field, model_validator

from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job
from tasks.data.quoting import quoted
from tasks.data.reading import follow_rows
from tasks.data.sampling import DrawBy, Lots, Shares, choose_positions, fit_quotas, pick, share_out, take_census
from tasks.data.statistics import write_statistics
from tasks.data.strata import Bands, FieldName, Strata
from tasks.data.writing import DatasetWriter

if TYPE_CHECKING:
    from collections.abc import Mapping


class SampleDataset(Spec):
    """Which dataset, how many examples of it, and what they shall represent."""

    source: ArtifactRef = Field(description="a dataset artifact, a folder with examples.jsonl, or a .jsonl file")
    size: int = Field(ge=1, description="examples to draw, exactly")
    by: FieldName | None = Field(
        None,
        description="what the sample is divided by: target_agent, source_agent, category, difficulty, weight, "
        "origin.document or metadata.NAME; default: nothing",
    )
    bands: Bands = ()
    shares: Shares = Field(
        "count", description="a stratum's share in the sample: of the examples, of their weight, or the same for each"
    )
    weighted: bool = Field(
        False, description="within a stratum, draw heavy examples sooner; those of weight 0 are never drawn"
    )
    where: dict[FieldName, str] = Field(
        {}, description="draw only from examples with these values, such as {target_agent: math}"
    )
    seed: int = Field(0, description="another seed, another choice")
    draw_by: DrawBy = Field("content", description="position: the order of the file counts, equal examples are apart")
    allow_fewer: bool = Field(False, description="take what there is where that is less than asked for, and count it")

    @model_validator(mode="after")
    def _bands_of_something(self) -> Self:
        if self.bands and self.by is None:
            raise ValueError("bands need a field to be bands of; set `by`, such as by=weight")
        return self


class SampledStratum(BaseModel):
    """One stratum of the source, and what was drawn from it."""

    have: int
    wanted: int = Field(description="its share of the size, rounded so that all of them sum up to the size")
    drawn: int


class SampledDataset(Result):
    """The sample, and the strata it was drawn from."""

    dataset: str = Field(description="artifact id")
    examples: int
    missing: int = Field(description="fewer than asked for; above 0 only with allow_fewer")
    source_examples: int
    outside: int = Field(description="examples of the source that are not what `where` asks for")
    weightless: int = Field(description="examples of weight 0, left out of a weighted choice")
    strata: dict[str, SampledStratum] = Field(description="by name, with what is personal in it masked")


@job("dataset.sample", queues=("cpu",))
def sample_dataset(spec: SampleDataset, attempt: Attempt) -> SampledDataset:
    """Draw exactly so many examples, divided as the whole set is by any field."""
    source, scratch = attempt.artifacts.resolve(spec.source), attempt.workdir
    strata_of, lots = Strata(spec.by, spec.bands), Lots(spec.seed, spec.draw_by, spec.weighted)
    folder = attempt.workdir / "dataset"
    shutil.rmtree(folder, ignore_errors=True)
    with take_census(follow_rows(source, attempt.report), strata_of, lots, spec.where, scratch) as census:
        quotas = share_out(census, spec.size, spec.shares, allow_fewer=spec.allow_fewer)
        drawn = fit_quotas(census, quotas, allow_fewer=spec.allow_fewer)
        with DatasetWriter(folder) as writer:
            for row in pick(follow_rows(source, attempt.report), choose_positions(census, drawn, scratch)):
                writer.write(row.record)
    strata = _shown({name: (have, quotas[name], drawn[name]) for name, have in census.sizes.items()})
    figures = {
        "examples": writer.count,
        "missing": spec.size - writer.count,
        "source_examples": census.total + census.outside + census.weightless,
        "outside": census.outside,
        "weightless": census.weightless,
    }
    shown = {name: stratum.model_dump() for name, stratum in strata.items()}
    chosen = spec.model_dump(mode="json", exclude={"source"})
    write_statistics(folder, figures | {"strata": shown, "sample": chosen}, [])
    return SampledDataset(dataset=attempt.artifacts.publish(folder, kind="dataset"), strata=strata, **figures)


def _shown(strata: Mapping[str, tuple[int, int, int]]) -> dict[str, SampledStratum]:
    """The strata under names that may be shown; those that look alike then are counted together."""
    counted: dict[str, tuple[int, int, int]] = {}
    for name, (have, wanted, drawn) in strata.items():
        before = counted.get(shown := quoted(name), (0, 0, 0))
        counted[shown] = (before[0] + have, before[1] + wanted, before[2] + drawn)
    return {name: SampledStratum(have=each[0], wanted=each[1], drawn=each[2]) for name, each in counted.items()}
