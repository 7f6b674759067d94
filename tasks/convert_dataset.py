"""`dataset.convert`: rows of one format become rows of another, and what is lost on the way is counted."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from queue_app.errors import Permanent
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job
from queue_app.lifecycle import Cause
from tasks.data.checking.target import TARGETS
from tasks.data.finding import REJECTED, passed_over
from tasks.data.formats import Format, find_format, names, written
from tasks.data.quoting import quoted_counts
from tasks.data.reading import BadRow, Reading, Row, read_rows
from tasks.data.record import encode
from tasks.data.rejecting import Rejects
from tasks.data.writing import CsvWriter, DatasetWriter, JsonlWriter, ParquetWriter, SavedWriter

if TYPE_CHECKING:
    import msgspec

SHOWN_KEYS = 30  # unknown ones in the result
LOOK_EXAMPLES = 1000  # between two looks at whether to go on
DATASET = "chat"  # the format that all other jobs read
FileType = Literal["jsonl", "jsonl.gz", "jsonl.zst", "csv", "parquet", "datasets"]


class ConvertDataset(Spec):
    """Which rows, and the format that they shall have."""

    source: ArtifactRef = Field(
        description="a dataset artifact; a .jsonl, .json, .csv or .parquet file, also .gz or .zst; a folder of such; a "
        "folder that `datasets` saved; or a glob with its full path"
    )
    to: str = Field(
        DATASET, description="openai, together, vertex …; chat makes a dataset for the other jobs, others an export"
    )
    from_format: str | None = Field(None, description="the format of the source; default: told from its first row")
    skip_bad: bool = Field(False, description="set bad rows aside with their reasons instead of failing at the first")
    file_type: FileType = Field(
        "jsonl", description="of an export: a file, or the folder that `datasets` loads; a dataset is jsonl"
    )

    @field_validator("to")
    @classmethod
    def _a_format(cls, name: str) -> str:
        if name in TARGETS and name not in names():
            taken = TARGETS[name].format
            raise ValueError(f'"{name}" takes rows of the format {taken}: to={taken}; then check them for {name}')
        if name in get_args(FileType):
            raise ValueError(f'"{name}" is a type of file, no format: file_type={name}, and in `to` a format')
        return name

    @field_validator("to", "from_format")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                find_format(name)
            except Permanent as error:
                raise ValueError(str(error)) from None
        return name

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.to == DATASET and self.file_type != "jsonl":
            raise ValueError(f"a dataset is written as jsonl; for {self.file_type} name another format in `to`")
        if _is_glob(self.source) and not Path(self.source).is_absolute():
            raise ValueError("give a glob with its full path: the job may run elsewhere")
        return self


class ConvertedDataset(Result):
    """The rows in their new format, and what did not come along."""

    dataset: str = Field(description="artifact id: a dataset, or a folder with the one file of an export")
    format: str
    examples: int
    bytes: int = Field(description="of the file with the rows")
    dropped: dict[str, int] = Field(description="what the format cannot hold, by field: how many examples or messages")
    unknown: dict[str, int] = Field(description="the commonest keys unknown to the source's format; kept as metadata")
    passed_over: dict[str, int] = Field({}, description="files of the source that are not read, by their names' ends")
    rejected: dict[str, int] = Field(description="rows set aside, by the rule that they break")
    rejects: str | None = Field(None, description="artifact id of the rows set aside, if there are any")


@job("dataset.convert", queues=("cpu",))
def convert_dataset(spec: ConvertDataset, attempt: Attempt) -> ConvertedDataset:
    """Bring rows from one format into another: for a provider, or for the other jobs here."""
    source = Path(spec.source) if _is_glob(spec.source) else attempt.artifacts.resolve(spec.source)
    folder, bad_rows = attempt.workdir / "converted", attempt.workdir / f"{source.name.partition('.')[0]}{REJECTED}"
    shutil.rmtree(folder, ignore_errors=True)
    reading, target = Reading(spec.from_format), find_format(spec.to)
    dropped: Counter[str] = Counter()
    with Rejects(bad_rows if spec.skip_bad else None) as rejects, _writer(spec, target, folder) as writer:
        for number, row in enumerate(rejects.good(read_rows(source, reading))):
            if number % LOOK_EXAMPLES == 0:
                attempt.report(examples=number)
            made = _converted(row, target, dropped, rejects)
            if made is not None:
                writer.write(made)
    aside = attempt.artifacts.publish(rejects.file, kind="rejects") if rejects.file else None
    if not writer.count:
        raise Permanent(_nothing(source, rejects, aside), cause=Cause.DATA)
    size = writer.path.stat().st_size
    return ConvertedDataset(
        dataset=attempt.artifacts.publish(folder, kind="dataset" if spec.to == DATASET else "export"),
        format=spec.to,
        examples=writer.count,
        bytes=size,
        dropped=dict(+dropped),
        unknown=quoted_counts(reading.unknown, SHOWN_KEYS),
        passed_over=passed_over(source),
        rejected=dict(rejects.by_rule),
        rejects=aside,
    )


def _nothing(source: Path, rejects: Rejects, aside: str | None) -> str:
    """Why nothing came of it."""
    if rejects.first is None:
        return f"{source} holds no row"
    count, rules = rejects.by_rule.total(), ", ".join(f"{rule}: {n}" for rule, n in rejects.by_rule.most_common())
    return f"{source} holds no row that can be used; {count} bad ({rules}), the first {rejects.first}; all: {aside}"


def _converted(row: Row, target: Format, dropped: Counter[str], rejects: Rejects) -> msgspec.Struct | None:
    """The record in the other format; None if nothing of it is left there."""
    try:
        made: msgspec.Struct = target.from_record(row.record, dropped)
    except ValueError as error:
        dropped.subtract(_counted(row, target))  # it loses nothing: it is set aside as it was
        field, _, problem = str(error).partition(": ")
        repair = "choose another format, or leave the row out"
        rejects.add(BadRow(row.file, row.line, "target", problem, repair, encode(row.record), field))
        return None
    return made


def _counted(row: Row, target: Format) -> Counter[str]:
    """What was counted as lost of a record before it was refused."""
    lost: Counter[str] = Counter()
    with suppress(ValueError):
        target.from_record(row.record, lost)
    return lost


def _writer(spec: ConvertDataset, target: Format, folder: Path) -> JsonlWriter:
    if spec.to == DATASET:
        return DatasetWriter(folder)
    file = folder / f"{spec.to}.{spec.file_type}"
    if spec.file_type == "csv":
        return CsvWriter(file, written(target))
    if spec.file_type == "datasets":
        return SavedWriter(folder, written(target))
    return ParquetWriter(file, written(target)) if spec.file_type == "parquet" else JsonlWriter(file)


def _is_glob(source: str) -> bool:
    wired = source.startswith("$")  # what a step of a recipe will make, such as $chosen[agent=math].dataset
    return not wired and any(sign in source for sign in "*?[") and not Path(source).exists()
