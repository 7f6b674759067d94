"""`dataset.scrub`: personal data and secrets leave a dataset, and come back to who has the key file."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from queue_app.errors import Invalid, Permanent
from queue_app.job_type import ArtifactRef, Attempt, InputPath, Result, Spec, job
from queue_app.lifecycle import Cause
from tasks.data.finding import EXAMPLES
from tasks.data.key_file import KeyFile, read_key_file
from tasks.data.personal import REGIONS, Confidence, Search, chosen_types
from tasks.data.reading import read_records
from tasks.data.remains import Remains, find_remains
from tasks.data.scrubbing import Mode, Scrubber
from tasks.data.statistics import write_statistics
from tasks.data.unscrubbing import Unscrubber, keys_of
from tasks.data.writing import DatasetWriter

if TYPE_CHECKING:
    from tasks.data.record import Record

Each = TypeVar("Each")
LOOK_EXAMPLES = 1000  # between two looks at whether to go on


def _absolute(value: Any, info: ValidationInfo) -> Any:
    base = (info.context or {}).get("base")
    return value if base is None or not isinstance(value, str) or value.startswith("$") else str(Path(base, value))


# A file of the user's that the job writes; it need not be there.
OutputPath = Annotated[str, BeforeValidator(_absolute), "path"]


class ScrubDataset(Spec):
    """Which dataset, what is replaced in it, and by what; or which key file undoes it."""

    source: ArtifactRef = Field(description="a dataset artifact, a folder with examples.jsonl, or a .jsonl file")
    mode: Mode = Field(
        "placeholder",
        description="placeholder: [EMAIL_1], numbered within each example; surrogate: a made-up value of the same "
        "type, the same one for the same value all over the dataset",
    )
    types: tuple[str, ...] = Field(
        (), description='what is replaced: types ("email") or families ("secrets"); none: all but names of persons'
    )
    least: Literal["low", "medium", "high"] = Field(
        "medium", description="how sure a finding must be; low takes test numbers, private networks and bare digits too"
    )
    regions: tuple[str, ...] = Field(REGIONS, description="countries that phone numbers without a + may be from")
    key_file: OutputPath | None = Field(
        None,
        description="write what stands for what to this file, readable for its owner only; one that exists is taken "
        "on: the same values get the same surrogates. Without it nothing can be undone",
    )
    reverse_with: InputPath | None = Field(None, description="undo a scrubbing with the key file it wrote")

    @field_validator("types")
    @classmethod
    def _known(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        try:
            chosen_types(frozenset(types))
        except Invalid as error:
            raise ValueError(str(error)) from None
        return types

    @model_validator(mode="after")
    def _one_way(self) -> ScrubDataset:
        if self.key_file is not None and self.reverse_with is not None:
            raise ValueError(
                "key_file is written by scrubbing and reverse_with is read by undoing it: give one of them"
            )
        return self


class ScrubbedDataset(Result):
    """The dataset, and what was replaced in it; never a value that was found."""

    dataset: str = Field(description="artifact id")
    examples: int
    examples_touched: int
    replaced: dict[str, int] = Field(description="replacements by type; where a scrubbing is undone, values put back")
    remaining: int = Field(description="findings in a second scan of what was written; with any, nothing is published")
    less_sure: dict[str, int] = Field(description="findings below `least`, by type: they were left as they are")
    unresolved: int = Field(0, description="placeholders that the key file says nothing about")
    foreign: int = Field(0, description="examples scrubbed with other key files, and not with the one given")
    key_file: str | None = Field(None, description="where what stands for what was written")


@job("dataset.scrub", queues=("cpu",))
def scrub_dataset(spec: ScrubDataset, attempt: Attempt) -> ScrubbedDataset:
    """Replace personal data and secrets in a dataset by placeholders or surrogates, or undo it with the key file."""
    source = attempt.artifacts.resolve(spec.source)
    folder = attempt.workdir / "scrubbed"
    shutil.rmtree(folder, ignore_errors=True)
    if spec.reverse_with is not None:
        return _undo(Path(spec.reverse_with), source, folder, attempt)
    scrubber = _scrubber(spec, source, folder)
    _write(scrubber.scrub(read_records(source)), folder, attempt)
    with (folder / EXAMPLES).open("rb") as lines:
        remains = find_remains(scrubber, _watched(lines, attempt))
    _refuse_remains(remains, source)
    replaced = dict(sorted(scrubber.replaced.items()))
    less_sure = dict(sorted(remains.less_sure.items()))
    chosen = {"mode": spec.mode, "types": sorted(chosen_types(frozenset(spec.types))), "replaced": replaced}
    keys = [*keys_of(source), *([scrubber.keys.fingerprint] if spec.key_file else [])]
    told = {"examples": scrubber.examples, "scrub": chosen | {"less_sure": less_sure, "keys": keys}}
    write_statistics(folder, told, [])
    if spec.key_file is not None:
        scrubber.keys.save(Path(spec.key_file))
    return ScrubbedDataset(
        dataset=attempt.artifacts.publish(folder, kind="dataset"),
        examples=scrubber.examples,
        examples_touched=scrubber.touched,
        replaced=replaced,
        remaining=remains.total,
        less_sure=less_sure,
        key_file=spec.key_file,
    )


def _undo(key_file: Path, source: Path, folder: Path, attempt: Attempt) -> ScrubbedDataset:
    keys, known = read_key_file(key_file), keys_of(source)
    if known and keys.fingerprint not in known:
        raise Invalid(f"{source} was not scrubbed with the key file {key_file}; give the one that was written then")
    unscrubber = Unscrubber(keys)
    _write(unscrubber.restore(read_records(source)), folder, attempt)
    if not known and not unscrubber.restored:
        raise Invalid(
            f"{source}: nothing in {unscrubber.examples} examples stands for something in the key file {key_file}, so "
            "there is nothing to undo; give the key file that this dataset was scrubbed with"
        )
    left = [each for each in known if each != keys.fingerprint]
    told = {"touched": unscrubber.touched, "foreign": unscrubber.foreign, "keys": left}
    write_statistics(folder, {"examples": unscrubber.examples, "unscrub": told}, [])
    return ScrubbedDataset(
        dataset=attempt.artifacts.publish(folder, kind="dataset"),
        examples=unscrubber.examples,
        examples_touched=unscrubber.touched,
        replaced=dict(sorted(unscrubber.restored.items())),
        remaining=0,
        less_sure={},
        unresolved=unscrubber.unresolved,
        foreign=unscrubber.foreign,
    )


def _scrubber(spec: ScrubDataset, source: Path, folder: Path) -> Scrubber:
    search = Search(frozenset(spec.types), spec.regions, Confidence[spec.least.upper()])
    if spec.key_file is None:
        return Scrubber(spec.mode, search)
    path = Path(spec.key_file)
    if any(path.resolve().is_relative_to(place.resolve()) for place in (source, folder)):
        raise Invalid(f"the key file {path} would lie within a dataset, and go wherever that goes; name another path")
    keys = read_key_file(path) if path.exists() else KeyFile()
    return Scrubber(spec.mode, search, keys, reversible=True)


def _write(records: Iterable[Record], folder: Path, attempt: Attempt) -> None:
    with DatasetWriter(folder) as writer:
        for record in _watched(records, attempt):
            writer.write(record)
    if not writer.count:
        raise Permanent("there is no example to scrub; give a dataset that has some", cause=Cause.DATA)


def _watched(examples: Iterable[Each], attempt: Attempt) -> Iterator[Each]:
    for number, example in enumerate(examples):
        if number % LOOK_EXAMPLES == 0:
            attempt.report(examples=number)
        yield example


def _refuse_remains(remains: Remains, source: Path) -> None:
    if remains.total == 0:
        return
    types = ", ".join(f"{count} × {kind}" for kind, count in sorted(Counter(remains.found).items()))
    lines = ", ".join(map(str, remains.lines))
    raise Permanent(
        f"{source}: after replacing, a second scan still finds {types} (examples {lines}); nothing was published; "
        "take these examples out, or look at them with dataset.audit",
        cause=Cause.DATA,
    )
