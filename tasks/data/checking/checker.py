"""A file or a dataset, row by row, against the rules of a target: found, repaired, set aside, passed on."""

from __future__ import annotations

from codecs import BOM_UTF8
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.checking.clean import PlainTalk
from tasks.data.checking.finding import Finding, Problem
from tasks.data.checking.keys import kind_of
from tasks.data.checking.lengths import Spoken, spoken_in
from tasks.data.checking.limits import Measure, limits_of
from tasks.data.checking.rulebook import Found, judge, mend
from tasks.data.checking.target_lines import parse
from tasks.data.formats import find_format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tasks.data.checking.ledger import Ledger
    from tasks.data.checking.lengths import Lengths
    from tasks.data.checking.output import Output
    from tasks.data.checking.target import Kind, Target
    from tasks.data.checking.target_lines import Line, Said
    from tasks.data.record import Record

BATCH_ROWS = 1000
BATCH_BYTES = 4_000_000
PASSES = 4  # a repair may bring out what another rule finds; after so many, what is left is left


@dataclass(slots=True)
class Checked:
    """A row, what was found in it, and what it became."""

    line: Line
    raw: bytes
    spoken: Spoken | None
    said: list[Said] = field(default_factory=list)  # what is left
    fixed: list[Said] = field(default_factory=list)
    record: Record | None = None


@dataclass(frozen=True)
class Plan:
    """What is checked, and what is done about it."""

    name: str  # of the file, as findings tell it
    target: Target
    as_file: bool  # the bytes are the provider's own file: its byte order mark counts
    fix: bool = False
    skip_bad: bool = False
    strict: bool = False  # warnings stand in the way as well


@dataclass
class Checker:
    """One check; `output` takes what is good, where a repaired copy is wanted."""

    plan: Plan
    ledger: Ledger
    lengths: Lengths | None = None
    output: Output | None = None
    look: Callable[[int], object] = lambda rows: None
    examples: int = 0
    kept: int = 0
    rejected: int = 0
    size_bytes: int = 0
    kind: Kind | None = None  # of the first row that the target takes
    weighted: int = 0

    def run(self, lines: Iterable[Line]) -> None:
        """Check every row, and then the whole."""
        plain = PlainTalk(self.plan.target)
        for batch in _batches(lines):
            self._pass_on([self._check(line, plain) for line in batch])
            self.look(self.examples)
        self._check_whole()

    def add(self, line: int, said: Said, *, fixed: bool = False, set_aside: bool = False) -> None:
        """Write a finding into the ledger."""
        rule, severity, problem = said
        full = f"{self.plan.target.name}.{rule}"
        place = (self.plan.name, line, problem.field, full, severity)
        self.ledger.add(Finding(*place, problem.text, problem.repair, problem.fixable, fixed), set_aside=set_aside)

    def _check(self, line: Line, plain: PlainTalk) -> Checked:
        texts = plain.texts(line) if self.kind in (None, "chat") else None
        if texts is None:
            return self._check_long(line, plain=plain.is_plain(line))
        self.kind = "chat"
        return Checked(line, line.raw, Spoken(texts, len(texts)), record=line.record)

    def _check_long(self, line: Line, *, plain: bool) -> Checked:
        row, said = parse(line)
        if row is None:
            return Checked(line, line.raw, None, said, record=line.record)
        found = judge(row, self.plan.target, plain=plain)
        checked = Checked(line, line.raw, None, said + _said(found), record=line.record)
        if self.plan.fix and any(problem.fixable for _, _, problem in checked.said):
            self._mend(checked, row, found, plain=plain)
        checked.said += self._mixed(row)
        checked.spoken = spoken_in(row) if self.lengths else None
        self.weighted += "weight" in row
        return checked

    def _mixed(self, row: dict[str, Any]) -> list[Said]:
        """A row of another kind than the first one's."""
        kind = kind_of(row)
        if kind is None or kind not in self.plan.target.kinds:
            return []
        self.kind = self.kind or kind
        if kind == self.kind:
            return []
        problem = Problem("", f"a row of {kind} in a file of {self.kind}", "make a file of each kind")
        return [("mixed-format", "blocking", problem)]

    def _mend(self, checked: Checked, row: dict[str, Any], found: list[Found], *, plain: bool) -> None:
        """Repair a row and ask again; a doubled key goes with the writing of the row."""
        before = checked.said
        for _ in range(PASSES):
            mend(row, self.plan.target, found)
            found = judge(row, self.plan.target, plain=plain)
            if not any(problem.fixable for _, _, problem in found):
                break
        again = {rule.name for rule, _, problem in found if problem.fixable}
        checked.fixed = [said for said in before if said[2].fixable and said[0] not in again]
        checked.said = [said for said in before if said[0] == "doubled-key" and not said[2].fixable] + _said(found)
        checked.raw = msgspec.json.encode(row)
        if checked.record is not None:
            checked.record = self._mended_record(checked, checked.record, row)

    def _mended_record(self, checked: Checked, record: Record, row: dict[str, Any]) -> Record:
        """What the target has no place for stays as it was in the record."""
        form = find_format(self.plan.target.format)
        try:
            made = form.to_record(msgspec.convert(row, form.Row))
        except ValueError as error:
            checked.said.append(("conversion", "blocking", Problem("", str(error), "repair the line, or leave it out")))
            return record
        return msgspec.structs.replace(record, messages=made.messages, tools=made.tools, rejected=made.rejected)

    def _pass_on(self, batch: list[Checked]) -> None:
        self._measure(batch)
        for checked in batch:
            self.examples += 1
            if (checked.said or checked.fixed) and self._sets_aside(checked):
                self.rejected += 1
                continue
            self.kept += 1
            self.size_bytes += len(checked.raw) + 1
            if self.output is not None:
                self.output.keep(checked.raw, checked.record)

    def _sets_aside(self, checked: Checked) -> bool:
        """Write down what was found in a row, and whether that keeps it out."""
        grave = [said for said in checked.said if said[1] == "blocking" or self.plan.strict]
        aside = bool(grave) and self.plan.skip_bad
        for said in checked.fixed:
            self.add(checked.line.number, said, fixed=True, set_aside=aside)
        for said in checked.said:
            self.add(checked.line.number, said, set_aside=aside)
        if aside and self.output is not None:
            self.output.reject(checked.line, [f"{rule}: {problem.text}" for rule, _, problem in grave])
        return aside

    def _measure(self, batch: list[Checked]) -> None:
        if self.lengths is None:
            return
        spoken = [checked for checked in batch if checked.spoken is not None]
        found = self.lengths.measure([(one.line.number, one.spoken) for one in spoken if one.spoken is not None])
        for checked, said in zip(spoken, found, strict=True):
            if said is not None:
                checked.said.append(said)

    def _check_whole(self) -> None:
        target = self.plan.target
        marked = len(BOM_UTF8) if self.plan.as_file and target.byte_order_mark else 0
        self._check_measure("file_bytes", self.size_bytes + marked, "bytes")
        self._check_measure("examples", self.kept, "examples")
        if self.lengths is not None:
            self._check_measure("total_tokens", self.lengths.total, "tokens")
        if target.name == "fireworks" and 0 < self.weighted < self.examples:
            text = f"{self.weighted} of {self.examples} examples have a weight"
            repair = "give all a weight, or none (it is documented for reinforcement alone)"
            self.add(0, ("example-weight-everywhere", "blocking", Problem("weight", text, repair)))

    def _check_measure(self, measure: Measure, found: int, unit: str) -> None:
        for limit in limits_of(self.plan.target.name, measure):
            said = f"({limit.source}, {limit.date})"
            name = measure.replace("_", "-")
            if limit.maximum is not None and found > limit.maximum:
                text = f"{found:,} {unit}, and {limit.target} takes {limit.maximum:,} {said}"
                self.add(0, (name, limit.severity, Problem("", text, "split it, or leave some out")))
                return
            if found < limit.minimum:
                text = f"{found:,} {unit}, and {limit.target} wants at least {limit.minimum:,} {said}"
                self.add(0, (name, limit.severity, Problem("", text, "add examples")))
                return


def _said(found: list[Found]) -> list[Said]:
    return [(rule.name, severity, problem) for rule, severity, problem in found]


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line.raw)
        if len(batch) == BATCH_ROWS or size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
