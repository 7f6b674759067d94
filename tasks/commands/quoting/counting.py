"""Tokens of a data set as each place would count them; what a place would refuse is found on the way."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from api_worker.provider import Method
from queue_app.errors import Permanent
from tasks.data.checking.checker import Plan
from tasks.data.checking.checkup import Order, check
from tasks.data.checking.target import TARGETS
from tasks.data.counting import counting_of_folder
from tasks.data.examples import read_examples, turns
from tasks.data.writing import JsonlWriter
from tasks.hosting.training_file import AskedFile, counting_for, target_of, write_training_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.commands.accounts.known import Known
    from tasks.data.counting import Counting

LOCAL = "local"  # the rules of training here


@dataclass(frozen=True)
class Counted:
    """A data set, once through."""

    examples: int = 0
    tokens: int = 0
    exact: bool = False
    digest: str = ""  # of the file that would be sent
    dropped: Mapping[str, int] = field(default_factory=dict)  # what its format cannot hold, by field
    refused: str = ""  # why it would not be taken


@dataclass
class TokenCounts:
    """Counts each data set once for each kind of file and vocabulary."""

    found: dict[tuple[str, ...], Counted] = field(default_factory=dict)

    def at_provider(self, path: Path, known: Known, method: Method, model: str, *, is_holdout: bool = False) -> Counted:
        """As the file that a provider would be sent, by its model's vocabulary and the limits of its catalogue."""
        target, counting = target_of(known.api, method), counting_for(model)
        key = (str(path), target.name, counting.name, str(counting.exact), str(is_holdout))
        if key not in self.found:
            self.found[key] = _as_sent(AskedFile(path, target, model, is_holdout, catalogue=known.catalogue))
        return self.found[key]

    def here(self, path: Path, method: Method, model: str, folder: Path | None) -> Counted:
        """As it is trained on here, by the vocabulary of the model's folder where there is one."""
        key = (str(path), LOCAL, method, model)
        if key not in self.found:
            counting = counting_for(model) if folder is None else counting_of_folder(folder)
            self.found[key] = (_as_read if method == Method.SFT else _as_preferences)(path, counting)
        return self.found[key]


def _as_sent(asked: AskedFile) -> Counted:
    with tempfile.TemporaryDirectory(prefix="tuneyard-quote-") as folder:
        try:
            made = write_training_file(asked, Path(folder) / "file", lambda _: None)
        except Permanent as error:
            lines = str(error).splitlines()
            return Counted(refused=lines[min(1, len(lines) - 1)])
        return Counted(made.examples, made.tokens, made.exact, made.digest, made.dropped)


def _as_read(path: Path, counting: Counting) -> Counted:
    plan = Plan(str(path), TARGETS[LOCAL], as_file=False, fix=False, skip_bad=False, strict=False)
    with tempfile.TemporaryDirectory(prefix="tuneyard-quote-") as folder:
        try:
            made = check(Order(path, plan, Path(folder), counting=counting))
        except Permanent as error:
            return Counted(refused=str(error))
    if made.blocked:
        return Counted(refused=str(next(finding for finding in made.first if finding.severity == "blocking")))
    return Counted(made.figures["examples"], made.figures["tokens"]["total"], counting.exact)


def _as_preferences(path: Path, counting: Counting) -> Counted:
    """Both answers of every preference, each behind the prompt: that is what the model reads."""
    with tempfile.TemporaryDirectory(prefix="tuneyard-quote-") as folder:
        talks = [Path(folder) / "better.jsonl", Path(folder) / "worse.jsonl"]
        try:
            with JsonlWriter(talks[0]) as better, JsonlWriter(talks[1]) as worse:
                for record in read_examples(path, preferences=True):
                    talk = turns(record)
                    better.write({"messages": talk})
                    worse.write({"messages": [*talk[:-1], talk[-1] | {"content": record.rejected[0].content}]})
        except Permanent as error:
            return Counted(refused=str(error))
        found = [_as_read(talk, counting) for talk in talks]
    refused = next((each.refused for each in found if each.refused), "")
    return replace(found[0], tokens=sum(each.tokens for each in found), refused=refused)
