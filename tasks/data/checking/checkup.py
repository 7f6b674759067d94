"""A whole check: where the rows come from, what is asked of them, what is left in a folder."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from queue_app.errors import Permanent
from tasks.data.checking.checker import Checker, Plan, counted
from tasks.data.checking.closings import Standing
from tasks.data.checking.finding import Problem
from tasks.data.checking.ledger import Ledger
from tasks.data.checking.lengths import Lengths
from tasks.data.checking.output import Output
from tasks.data.checking.rulebook import skipped_rules
from tasks.data.checking.target_lines import dataset_lines, file_lines, foreign, has_mark
from tasks.data.reading import Reading, data_file
from tasks.data.writing import JsonlWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tasks.data.checking.finding import Finding
    from tasks.data.counting import Counting

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Order:
    """One check to make. `repaired` is the folder of the repaired copy, where there shall be one."""

    source: Path
    plan: Plan
    report: Path
    repaired: Path | None = None
    counting: Counting | None = None
    context: int | None = None
    listed: int = 1000
    standing: Standing = Standing()


@dataclass(frozen=True)
class Checkup:
    """What came of a check."""

    figures: dict[str, Any]
    first: list[Finding]
    blocked: bool


def check(order: Order, look: Callable[[int], object] = lambda rows: None) -> Checkup:
    """Check a file or a dataset; leaves findings.jsonl, summary.json and perhaps rejected.jsonl in the report's folder.

    Raises:
        Permanent: there is no such file, or there are several to be taken as they stand
        Invalid: a dataset's format cannot be told
    """
    plan = order.plan
    dropped: Counter[str] = Counter()
    lengths = Lengths(plan.target.name, order.counting, order.context, plan.catalogue) if order.counting else None
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(order.report, order.listed))
        checker = Checker(plan, ledger, lengths, look=look)
        file = _only_file(order.source) if plan.as_file else None
        for said in order.standing.findings:
            checker.add(0, said)
        readable = file is None or _look_at_start(file, checker)
        if order.repaired is not None and readable:
            mark = plan.as_file and plan.target.byte_order_mark
            export = plan.target.format if plan.as_file else None
            output = Output(order.repaired, order.report, export=export, mark=mark)
            checker.output = stack.enter_context(output)
        if readable:
            checker.file_bytes = file.stat().st_size if file else None
            own = dataset_lines(order.source, plan.target, dropped, Reading())
            checker.run(file_lines(file) if file else own)
    figures = _figures(checker, dropped, lengths)
    figures["notes"] += order.standing.notes
    with JsonlWriter(order.report / SUMMARY) as writer:
        writer.write(figures)
    blocked = ledger.left["blocking"] > 0 or (plan.strict and ledger.left["warning"] > 0)
    return Checkup(figures, ledger.first, blocked)


def _only_file(source: Path) -> Path:
    file = data_file(source)
    if file.is_dir():
        raise Permanent(f"{source} holds several files; a provider takes one: check them one by one, or as_file=false")
    return file


def _look_at_start(file: Path, checker: Checker) -> bool:
    """Whether the file is one of lines; its byte order mark is right or wrong by the target."""
    plan = checker.plan
    if other := foreign(file):
        checker.add(0, other)
        return False
    marked = has_mark(file)
    if plan.target.byte_order_mark and not marked:
        problem = Problem("", "no byte order mark at its start", "save it as UTF-8 with BOM", fixable=True)
        checker.add(0, ("byte-order-mark", "blocking", problem), fixed=plan.fix)
    elif marked and not plan.target.byte_order_mark:
        text = f"a byte order mark at its start; whether {plan.target.name} takes it is not documented"
        problem = Problem("", text, "save it as UTF-8 without BOM", fixable=True)
        checker.add(0, ("byte-order-mark", "warning", problem), fixed=plan.fix)
    return True


def _figures(checker: Checker, dropped: Counter[str], lengths: Lengths | None) -> dict[str, Any]:
    target, skipped = checker.plan.target, skipped_rules(checker.plan.target)
    return {
        "file": checker.plan.name,
        "target": target.name,
        "examples": checker.examples,
        "kept": checker.kept,
        "rejected": checker.rejected,
        "bytes": checker.size_bytes,
        **checker.ledger.figures(),
        "dropped": dict(sorted((dropped + checker.ledger.dropped).items())),
        "tokens": _tokens(lengths) if lengths else None,
        "skipped_rules": dict.fromkeys(skipped, checker.examples),
        "notes": [
            note for note in (target.note, *map(_said_of_skipped, skipped), *_notes(target.name, lengths)) if note
        ],
    }


def _said_of_skipped(rule: str) -> str:
    return f"{rule} was asked of no example: it needs `pip install mistral-common`"


def _tokens(lengths: Lengths) -> dict[str, Any]:
    return {
        "counter": lengths.counting.name,
        "exact": lengths.counting.exact,
        "total": lengths.total,
        "longest": lengths.longest,
        "longest_line": lengths.longest_line,
        "over_limit": lengths.over,
        "limit": lengths.context,
        "examples_with_tools": lengths.with_tools,
    }


def _notes(target: str, lengths: Lengths | None) -> list[str]:
    if lengths is None:
        return ["tokens were not counted"]
    found = [lengths.counting.note]
    if lengths.with_tools:
        found.append(f"tools of {counted(lengths.with_tools, 'example')} were counted by their JSON, an estimate")
    if lengths.with_media:
        found.append(f"images and sound of {counted(lengths.with_media, 'example')} were not counted")
    if not lengths.limited:
        found.append(f"no limit of tokens is known for {target}: the lengths were held against none; give --max-tokens")
    return found
