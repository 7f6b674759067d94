"""`dataset.prepare`: text becomes examples to train on."""

from __future__ import annotations

import codecs
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import TimeoutError
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from queue_app.errors import Permanent
from queue_app.job_type import ArtifactRef, Attempt, InputPath, Result, Spec, job
from queue_app.lifecycle import Cause
from tasks.data.preparing import Shape, examples_of, readable
from tasks.data.sources import Document, Source, find_source
from tasks.data.statistics import Tally, distribution, write_statistics
from tasks.data.tokens import TokenCounter
from tasks.data.writing import DatasetWriter

if TYPE_CHECKING:
    from multiprocessing.pool import AsyncResult

    from tasks.data.walking import BadFile

LEAST_SHARE = 0.35  # of max_tokens: 700 of 2000
LOOK_SECONDS = 1.0


class PrepareDataset(Spec):
    """Which text, and how long the examples made of it shall be."""

    source: InputPath = Field(
        description="a folder, a glob or a file: text, Markdown, HTML, DOCX, PDF; or builtin:python-topics"
    )
    base_model: ArtifactRef = Field(
        description="the model whose tokenizer counts: an artifact, a pulled model, a folder"
    )
    min_tokens: int | None = Field(
        None,
        ge=1,
        description="wanted of an example; only a text that is shorter makes one; default: 35 % of max_tokens",
    )
    max_tokens: int = Field(
        2000, ge=16, description="never passed by request and answer; the chat template adds its own on top"
    )
    tiny_tokens: int = Field(32, ge=0, description="pieces below are dropped and counted")
    encoding: str | None = Field(None, description="of files that are not UTF-8, such as cp1252; default: found out")
    on_bad_file: Literal["fail", "skip"] = Field("fail", description="what a binary or unreadable file leads to")

    @property
    def least_tokens(self) -> int:
        return int(self.max_tokens * LEAST_SHARE) if self.min_tokens is None else self.min_tokens

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.least_tokens <= self.max_tokens:
            raise ValueError(f"min_tokens ({self.least_tokens}) is above max_tokens ({self.max_tokens})")
        return self

    @field_validator("encoding")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is None:
            return None
        try:
            "a".encode(name).decode(name)  # some codecs are not of text, and one refuses everything
        except (LookupError, UnicodeError):
            raise ValueError(f'Python knows no text encoding "{name}"; try cp1252, utf-16, shift_jis …') from None
        return codecs.lookup(name).name


class PreparedDataset(Result):
    """The dataset, and all that was kept and not kept."""

    dataset: str = Field(description="artifact id")
    examples: int
    tokens: int = Field(description="of requests and answers, by the base model's tokenizer")
    min_tokens: int
    mean_tokens: float
    p50_tokens: int
    p95_tokens: int
    max_tokens: int
    short: int = Field(description="examples below the wanted size: a short document, or the end of one")
    files: int = Field(description="files, or topics of the built-in source, looked at")
    hidden: int = Field(description="files passed over because their name, or a folder's, begins with a dot")
    bad: int = Field(description="files that are no usable text and folders that cannot be read, left out")
    dropped: dict[str, int] = Field(description="documents and pieces left out, by reason")
    dropped_characters: int
    extracted: dict[str, int] = Field(description="files that are more than plain text, by type: html, docx, pdf …")
    removed: dict[str, int] = Field(
        description="parts of these files that are not their text, by what they are: menus, scripts, page numbers …"
    )
    repaired: int = Field(description="files whose encoding was repaired; statistics.json names them")
    suspicious: int = Field(description="files that look wrongly encoded here and there, and were kept as they are")
    licences: int = Field(description="files whose Project Gutenberg header and footer were taken off")


@job("dataset.prepare", queues=("cpu",))
def prepare_dataset(spec: PrepareDataset, attempt: Attempt) -> PreparedDataset:
    """Make examples of 700 to 2000 tokens, or any other size, out of text."""
    source = find_source(spec.source)
    progress = Progress(attempt, len(source))
    count = TokenCounter.of_model(attempt.artifacts.resolve(spec.base_model), progress.look)
    folder = attempt.workdir / "dataset"
    shutil.rmtree(folder, ignore_errors=True)
    tally = Tally()
    shape = Shape(spec.least_tokens, spec.max_tokens, spec.tiny_tokens)
    documents = readable(progress.follow(source.read(spec.encoding)), tally, skip_bad=spec.on_bad_file == "skip")
    with DatasetWriter(folder) as writer:
        for example in examples_of(documents, shape, count, tally):
            writer.write(example)
            progress.look()
    figures = _figures(tally, source)
    named = {name: getattr(tally, name) for name in ("repaired", "suspicious", "licences", "bad")}
    write_statistics(folder, figures | named, tally.sizes)
    return PreparedDataset(dataset=attempt.artifacts.publish(folder, kind="dataset"), **figures)


@dataclass
class Progress:
    """How many files are done, told also while one is being worked on: that is where a request to stop is heard.

    Files are read in a thread, for a library may take most of a minute over one. It is left behind where the job is
    stopped meanwhile: what it still finds nobody takes.
    """

    attempt: Attempt
    steps: int
    step: int = 0

    def look(self) -> None:
        self.attempt.report(step=self.step, steps=self.steps)

    def follow(self, files: Iterable[Document | BadFile]) -> Iterator[Document | BadFile]:
        source = iter(files)
        with ThreadPool(1) as reader:
            while (file := self._waited(reader.apply_async(next, (source, None)))) is not None:
                yield file
                self.step += 1
                self.look()

    def _waited(self, found: AsyncResult[Document | BadFile | None]) -> Document | BadFile | None:
        while True:
            try:
                return found.get(LOOK_SECONDS)
            except TimeoutError:
                self.look()


def _figures(tally: Tally, source: Source) -> dict[str, Any]:
    """The result's numbers.

    Raises:
        Permanent: no example came out; says why
    """
    if not tally.sizes:
        reasons = ", ".join(f"{number} {reason}" for reason, number in tally.dropped.items())
        left_out = ", ".join(part for part in (reasons, f"{len(tally.bad)} bad files" if tally.bad else "") if part)
        raise Permanent(
            f"no example came out of {tally.files} files ({left_out}); {_advice(tally)}",
            cause=Cause.DATA,
        )
    return {
        "examples": len(tally.sizes),
        **distribution(tally.sizes),
        "short": tally.short,
        "files": tally.files,
        "hidden": source.hidden,
        "bad": len(tally.bad),
        "dropped": dict(tally.dropped),
        "dropped_characters": tally.dropped_characters,
        "extracted": dict(tally.extracted),
        "removed": dict(tally.removed),
        "repaired": len(tally.repaired),
        "suspicious": len(tally.suspicious),
        "licences": len(tally.licences),
    }


def _advice(tally: Tally) -> str:
    if tally.dropped["tiny"]:
        return "give more text, or lower tiny_tokens"
    if tally.dropped["too long a word"]:
        return "give text with spaces between its words, or raise max_tokens"
    return "give more text"
