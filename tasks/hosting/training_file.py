"""A dataset as one file in a provider's own format, checked by the provider's rules before it is sent."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from api_worker.catalogue import Catalogue, catalogue
from api_worker.provider import Method
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause
from tasks.data.checking.checker import Plan
from tasks.data.checking.checkup import Order, check
from tasks.data.checking.target import TARGETS, Target
from tasks.data.counting import counting_of_name, openai_counting
from tasks.data.formats import find_format
from tasks.data.reading import BadRow, read_rows
from tasks.data.writing import JsonlWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tasks.data.counting import Counting

VOCABULARY = "o200k_base"  # of what OpenAI still tunes; the estimate for everything unknown
NAMED = 5  # findings in the message of a refusal
LOOK_SECONDS = 1.0
# msgspec 0.22 dies of a segmentation fault where two threads of a worker use a type of row for the first time.
ONE_AT_A_TIME = threading.Lock()
PREFERENCES = "openai_preference"  # every provider that learns from preferences takes OpenAI's rows


@dataclass(frozen=True)
class TrainingFile:
    """What is sent."""

    path: Path  # its name tells its content
    digest: str
    examples: int
    dropped: dict[str, int]  # what the provider's format cannot hold, by field
    tokens: int  # of all examples, once through
    exact: bool  # they were counted with the model's own vocabulary


@dataclass(frozen=True)
class AskedFile:
    """Which dataset, for whom."""

    source: Path
    target: Target
    base_model: str  # whose tokens are counted
    is_holdout: bool = False
    ref: str | None = None  # what the user calls it, where that is not the source
    catalogue: Catalogue = field(default_factory=catalogue, repr=False)  # whose limits are kept

    @property
    def name(self) -> str:
        """What messages call it."""
        return called(self.ref or str(self.source))


def called(ref: str) -> str:
    """A dataset as `tuneyard data` takes it: its path, its name, or the beginning of its id."""
    return ref.removeprefix("sha256:")[:12] if ref.startswith("sha256:") else ref


def origin(datasets: Mapping[str, str | None]) -> str:
    """What a provider's words about the files that it was sent are about."""
    named = [f"the {field} {called(ref)}" for field, ref in datasets.items() if ref is not None]
    return f"what was sent is {' and '.join(named)}, row by row"


def target_of(api: str, method: Method) -> Target:
    """Whose rules a file for a provider keeps; a server that only speaks OpenAI's API is taken to keep OpenAI's."""
    target = TARGETS.get(api, TARGETS["openai"])
    if method != Method.DPO:
        return target
    if target.name == "openai":
        return TARGETS[PREFERENCES]
    if "preference" not in target.kinds:
        raise Permanent(f"{api} does not learn from preferences as far as is known", cause=Cause.USER)
    return replace(target, format=PREFERENCES)


def counting_for(model: str) -> Counting:
    """How a model's tokens are counted: by its own vocabulary, or by an estimate that says so."""
    try:
        found = counting_of_name(model)
    except Invalid:  # mistral-common is not installed
        found = None
    return found or openai_counting(VOCABULARY, exact=False)


def write_training_file(asked: AskedFile, folder: Path, look: Callable[[int], object]) -> TrainingFile:
    """Check a dataset by a provider's rules and write it as the provider's own file, its tokens counted.

    Raises:
        Permanent: rows cannot be read, or the provider would refuse some; names file, line, rule and repair
    """
    while not ONE_AT_A_TIME.acquire(timeout=LOOK_SECONDS):
        look(0)  # a request to stop is heard meanwhile
    try:
        return _checked_and_written(asked, folder, look)
    finally:
        ONE_AT_A_TIME.release()


def _checked_and_written(asked: AskedFile, folder: Path, look: Callable[[int], object]) -> TrainingFile:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source, target = asked.source, asked.target
    plan = Plan(asked.name, target, as_file=False, fix=False, skip_bad=False, catalogue=asked.catalogue)
    counting = counting_for(asked.base_model)
    made = check(Order(source, plan, folder / "check", counting=counting), look)
    grave = [finding for finding in made.first if finding.severity == "blocking"]
    if asked.is_holdout:  # the least number of examples is asked of what is trained on
        grave = [finding for finding in grave if finding.rule != f"{target.name}.examples"]
    if grave:
        hint = f"`tuneyard data check {asked.name} --target {target.name} --fix` repairs what can safely be repaired"
        what = f"{'holdout' if asked.is_holdout else 'dataset'} {asked.name}"
        text = "\n".join([f"{target.name} would refuse the {what}:", *map(str, grave[:NAMED]), hint])
        raise Permanent(text, cause=Cause.DATA)
    return _write(source, target, folder, (made.figures["tokens"]["total"], counting.exact))


def _write(source: Path, target: Target, folder: Path, counted: tuple[int, bool]) -> TrainingFile:
    form, dropped = find_format(target.format), Counter[str]()
    part = folder / "part.jsonl"
    with JsonlWriter(part) as writer:
        for row in read_rows(source):
            if isinstance(row, BadRow):
                raise Permanent(str(row), cause=Cause.DATA)
            writer.write(form.from_record(row.record, dropped))
    with part.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    path = part.rename(folder / f"{digest[:32]}.jsonl")
    return TrainingFile(path, digest, writer.count, dict(+dropped), *counted)
