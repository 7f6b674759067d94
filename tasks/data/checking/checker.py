"""A file or a dataset, row by row, against the rules of a target: found, repaired, set aside, passed on."""

from __future__ import annotations

from codecs import BOM_UTF8
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from api_worker.catalogue import Catalogue, catalogue
from tasks.data.checking.clean import PlainTalk, Talk
from tasks.data.checking.content import has_images
from tasks.data.checking.finding import Finding, Problem
from tasks.data.checking.keys import LONG, kind_of
from tasks.data.checking.lengths import BESIDE_KEYS, Spoken, spoken_in
from tasks.data.checking.rulebook import BESIDE_VALUES, Found, judge, mend, mend_own
from tasks.data.checking.target_lines import parse, target_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from api_worker.catalogue import Measure
    from tasks.data.checking.ledger import Ledger
    from tasks.data.checking.lengths import Lengths
    from tasks.data.checking.output import Output
    from tasks.data.checking.target import Kind, Target
    from tasks.data.checking.target_lines import Line, Said
    from tasks.data.record import Record

BATCH_ROWS = 1000
BATCH_BYTES = 4_000_000
_REMEMBERED = 10_000  # fates
_LONG = BESIDE_KEYS | LONG
_NULL = b"null"
_Keys = dict[str, msgspec.Raw]
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
    weighted: bool = False
    pictured: bool = False


class Fate(NamedTuple):
    """What becomes of a row of plain talk, by what stands beside its messages: said, repaired, the keys that stay."""

    said: tuple[Said, ...]
    fixed: tuple[Said, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What is checked, and what is done about it."""

    name: str  # of the file, as findings tell it
    target: Target
    as_file: bool  # the bytes are the provider's own file: its byte order mark counts
    fix: bool = False
    skip_bad: bool = False
    strict: bool = False  # warnings stand in the way as well
    catalogue: Catalogue = field(default_factory=catalogue, repr=False)  # whose limits are kept


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
    weighted: int = 0  # of those kept
    pictured: int = 0
    file_bytes: int | None = None  # of the file as it stands
    _fates: dict[tuple[tuple[str, bytes], ...], Fate] = field(default_factory=dict)

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
        if not fixed and problem.fixable and not set_aside:
            self.ledger.fixable[severity] += 1
        if self.ledger.add(full, severity, fixed=fixed, set_aside=set_aside):
            place = (self.plan.name, line, problem.field, full, severity)
            told = Finding(*place, problem.text, problem.repair, problem.fixable, fixed)
            self.ledger.tell(told, set_aside=set_aside)

    def _check(self, line: Line, plain: PlainTalk) -> Checked:
        talk = plain.talk(line)
        if talk is None:
            return self._check_long(line, plain=False)
        if talk.doubled or self.kind not in (None, "chat") or not _LONG.isdisjoint(talk.beside):
            return self._check_long(line, plain=True)
        spoken = Spoken(talk.texts, len(talk.texts))
        if not talk.beside:
            self.kind = "chat"
            return Checked(line, line.raw, spoken, record=line.record)
        return self._check_beside(line, talk, spoken)

    def _check_beside(self, line: Line, talk: Talk, spoken: Spoken) -> Checked:
        """Rows with the same beside their messages, as far as rules look at it, fare alike."""
        beside = tuple(
            [(name, value if name in BESIDE_VALUES or value == _NULL else b"") for name, value in talk.beside.items()]
        )
        fate = self._fates.get(beside)
        if fate is None or (fate.fixed and line.record is not None):
            checked = self._check_long(line, plain=True)
            if len(self._fates) < _REMEMBERED:
                kept = talk.row.keys() if checked.raw is line.raw else msgspec.json.decode(checked.raw, type=_Keys)
                self._fates[beside] = Fate(tuple(checked.said), tuple(checked.fixed), tuple(kept))
            return checked
        raw = msgspec.json.encode({name: talk.row[name] for name in fate.kept}) if fate.fixed else line.raw
        weighted = "weight" in fate.kept
        return Checked(line, raw, spoken, list(fate.said), list(fate.fixed), line.record, weighted)

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
        checked.weighted = "weight" in row
        checked.pictured = not plain and _is_pictured(row)
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
            if checked.record is None:
                mend(row, self.plan.target, found)
            elif (remade := self._mend_record(checked, checked.record, found)) is not None:
                row = remade
            else:
                return
            found = judge(row, self.plan.target, plain=plain)
            if not any(problem.fixable for _, _, problem in found):
                break
        again = {rule.name for rule, _, problem in found if problem.fixable}
        checked.fixed = [said for said in before if said[2].fixable and said[0] not in again]
        checked.said = [said for said in before if said[0] == "doubled-key" and not said[2].fixable] + _said(found)
        checked.raw = msgspec.json.encode(row)

    def _mend_record(self, checked: Checked, record: Record, found: list[Found]) -> dict[str, Any] | None:
        """Repair a dataset's own row, with all that the target has no place for; the row that the target gets of it."""
        own = msgspec.to_builtins(record)
        mend_own(own, self.plan.target, found)
        try:
            checked.record = msgspec.convert(own, type(record))
            return target_row(checked.record, self.plan.target)
        except ValueError as error:
            checked.record = record
            checked.said.append(("conversion", "blocking", Problem("", str(error), "repair the line, or leave it out")))
            return None

    def _pass_on(self, batch: list[Checked]) -> None:
        self._measure(batch)
        for checked in batch:
            self.examples += 1
            if (checked.said or checked.fixed) and self._sets_aside(checked):
                self.rejected += 1
                continue
            self.kept += 1
            self.size_bytes += len(checked.raw) + 1
            self.weighted += checked.weighted
            self.pictured += checked.pictured
            if self.output is not None:
                self.output.keep(checked.raw, checked.record)

    def _sets_aside(self, checked: Checked) -> bool:
        """Write down what was found in a row, and whether that keeps it out."""
        grave = [said for said in checked.said if said[1] == "blocking" or self.plan.strict]
        aside = bool(grave) and self.plan.skip_bad
        for said in checked.fixed:
            self.add(checked.line.number, said, fixed=True, set_aside=aside)
            if said[2].drops and not aside:
                self.ledger.drop(said[2].field)
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
        if self.plan.as_file and target.byte_order_mark:
            self.size_bytes += len(BOM_UTF8)
        if self.file_bytes is not None and not self.ledger.fixed and not self.rejected:
            self.size_bytes = self.file_bytes
        self._check_measure("file_bytes", self.size_bytes, "bytes")
        if self.kept:
            self._check_measure("examples", self.kept, "examples")
        else:
            text = f"none of {counted(self.examples, 'example')} is left" if self.examples else "there is no example"
            self.add(0, ("no-examples", "blocking", Problem("", text, "give at least one that can be learned")))
        if self.lengths is not None:
            self._check_measure("total_tokens", self.lengths.total, "tokens")
        if target.name == "fireworks" and 0 < self.weighted < self.kept:
            text = f"{self.weighted} of {self.kept} examples have a weight"
            repair = "give all a weight, or none (it is documented for reinforcement alone)"
            self.add(0, ("example-weight-everywhere", "blocking", Problem("weight", text, repair)))
        if target.name == "together" and 0 < self.pictured < self.kept:
            text = f"{self.pictured} of {self.kept} examples have images"
            repair = "make a file of those with images and one of those without"
            self.add(0, ("images-everywhere", "blocking", Problem("", text, repair)))

    def _check_measure(self, measure: Measure, found: int, unit: str) -> None:
        target = self.plan.target.name
        for limit in self.plan.catalogue.limits_of(target, measure):
            said = f"({limit.source}, {limit.seen})"
            name = measure.replace("_", "-")
            if limit.maximum is not None and found > limit.maximum:
                text = f"{found:,} {unit}, and {target} takes {limit.maximum:,} {said}"
                self.add(0, (name, limit.severity, Problem("", text, "split it, or leave some out")))
                return
            if found < limit.minimum:
                text = f"{found:,} {unit}, and {target} wants at least {limit.minimum:,} {said}"
                self.add(0, (name, limit.severity, Problem("", text, "add examples")))
                return


def _is_pictured(row: dict[str, Any]) -> bool:
    given = row.get("input")
    messages = given.get("messages") if isinstance(given, dict) else row.get("messages")
    return isinstance(messages, list) and has_images([one for one in messages if isinstance(one, dict)])


def counted(number: int, thing: str) -> str:
    """A number of things in words."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


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
