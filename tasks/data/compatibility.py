"""How much one agent's examples count for another: a square matrix, in CSV or YAML.

CSV: a header with the target agents, then a line for each source agent with its name in front. YAML: a mapping of
source agents to mappings of target agents to weights.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from queue_app.errors import Invalid, NotFound
from queue_app.job_type import nearest

if TYPE_CHECKING:
    from pathlib import Path

MOST_AGENTS = 200  # each may have a file open
SHOWN = 20  # problems in one message
SUFFIXES = {".csv": ",", ".tsv": "\t", ".yaml": "", ".yml": ""}


@dataclass(frozen=True)
class Compatibility:
    """The agents, and what an example of one counts for another: 1 at home, 0 for never."""

    file: Path
    agents: tuple[str, ...]
    weights: dict[str, dict[str, float]]  # source → target → weight

    def targets(self, source: str) -> list[tuple[str, float]]:
        """The agents that take examples of `source`, and the weight of these for each."""
        return [(target, weight) for target, weight in self.weights[source].items() if weight]

    def check_known(self, agent: str) -> None:
        """See that it is one of the agents.

        Raises:
            ValueError: it is not; names the nearest
        """
        if agent not in self.weights:
            said = nearest(agent, list(self.agents))
            raise ValueError(
                f'the agent "{agent}" is not in {self.file.name}{said}; correct it, or add its row and column'
            )


@dataclass
class _Table:
    """The cells as they stand in the file, and what is wrong with them."""

    file: Path
    targets: list[str] = field(default_factory=list)
    rows: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)  # source → line, cells by target
    problems: list[str] = field(default_factory=list)

    def add(self, line: int, problem: str) -> None:
        self.problems.append(f"{self.file} line {line}: {problem}")

    def raise_problems(self) -> None:
        if self.problems:
            more = len(self.problems) - SHOWN
            rest = [f"… and {more} more"] if more > 0 else []
            raise Invalid("\n".join(self.problems[:SHOWN] + rest))


def read_compatibility(file: Path) -> Compatibility:
    """Read and check a matrix.

    Raises:
        NotFound: there is no such file
        Invalid: names every problem with its line, row and column
    """
    if not file.is_file():
        raise NotFound(f"{file} does not exist; a compatibility matrix is a .csv or .yaml file")
    if file.suffix.lower() not in SUFFIXES:
        raise Invalid(f"{file}: a compatibility matrix is a {', '.join(SUFFIXES)} file; rename it to what it is")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Invalid(f"{file} line {line}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from error
    delimiter = SUFFIXES[file.suffix.lower()]
    table = _from_csv(file, text, delimiter) if delimiter else _from_yaml(file, text)
    table.raise_problems()
    _check_square(table)
    weights = {source: _weights(table, source) for source in table.targets if source in table.rows}
    table.raise_problems()
    return Compatibility(file, tuple(table.targets), weights)


def _from_csv(file: Path, text: str, delimiter: str) -> _Table:
    table = _Table(file)
    header_line = text.lstrip().partition("\n")[0]
    if delimiter not in header_line and ";" in header_line:
        delimiter = ";"
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise Invalid(f"{file} line {reader.line_num}: this is not CSV: {error}; check its quotes") from error
    if not lines:
        return table
    (head, (_, *targets)), *rows = lines
    table.targets = [target.strip() for target in targets]
    for name, times in Counter(table.targets).items():
        if not name or times > 1:
            table.add(
                head, f'two columns are named "{name}"; keep one' if name else "a column has no name; give it one"
            )
    for line, (first, *cells) in rows:
        source = first.strip()
        if not source or source in table.rows:
            told = f'"{source}" has a row already, on line {table.rows[source][0]}; keep one' if source else "no name"
            table.add(line, told if source else "the row has no name; begin it with its source agent")
        elif len(cells) > len(table.targets):
            told = f"{len(cells)} cells, but {len(table.targets)} columns have a name"
            table.add(line, f'row "{source}": {told}; decimals take a point, as in 0.8')
        table.rows.setdefault(source, (line, dict(zip(table.targets, cells, strict=False))))
    return table


def _from_yaml(file: Path, text: str) -> _Table:
    table = _Table(file)
    try:
        read = YAML(typ="rt", pure=True).load(text)  # the round-trip loader tells lines
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Invalid(f"{file} line {mark.line + 1 if mark else 1}: this is not YAML: {error.problem}") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise Invalid(f"{file}: this is not YAML: {error}") from error
    if read is None:
        return table
    if not isinstance(read, CommentedMap):
        raise Invalid(f"{file} line 1: a matrix is a mapping of source agents, such as `math: {{math: 1, code: 0.5}}`")
    for source, cells in read.items():
        line = read.lc.key(source)[0] + 1
        if not isinstance(cells, dict):
            table.add(line, f'row "{source}": must be a mapping of target agents to weights')
            cells = {}
        table.rows[str(source)] = (line, {str(target): weight for target, weight in cells.items()})
    table.targets = list(dict.fromkeys(target for _, cells in table.rows.values() for target in cells))
    return table


def _check_square(table: _Table) -> None:
    """See that rows and columns are of the same agents.

    Raises:
        Invalid: they are not, or there are none or too many
    """
    if not table.rows or not table.targets:
        raise Invalid(f"{table.file}: there is no matrix in it; it needs a row and a column for each agent")
    shape = f"{len(table.rows)} rows and {len(table.targets)} columns"
    for source, (line, _) in table.rows.items():
        if source not in table.targets:
            said = nearest(source, table.targets)
            table.add(line, f'row "{source}": there is no such column{said}; a matrix is square, this one has {shape}')
    for target in table.targets:
        if target not in table.rows:
            said = nearest(target, list(table.rows))
            table.add(1, f'column "{target}": there is no such row{said}; a matrix is square, this one has {shape}')
    if len(table.targets) > MOST_AGENTS:
        table.add(1, f"{len(table.targets)} agents, and {MOST_AGENTS} is the limit; divide the matrix")


def _weights(table: _Table, source: str) -> dict[str, float]:
    line, cells = table.rows[source]
    found: dict[str, float] = {}
    for target in table.targets:
        try:
            found[target] = _weight(cells.get(target), at_home=source == target)
        except ValueError as error:
            table.add(line, f'row "{source}", column "{target}": {error}')
    return found


def _weight(cell: Any, *, at_home: bool) -> float:
    text = "" if cell is None else str(cell).strip()
    if not text:
        raise ValueError("the weight is missing; write 0 for never")
    try:
        weight = float(text) if not isinstance(cell, bool) else None
    except ValueError:
        weight = None
    if weight is None:
        point = "; write it with a point" if "," in text else "; write one from 0 to 1"
        raise ValueError(f'"{text}" is no number{point}')
    if not 0 <= weight <= 1:
        raise ValueError(f"{text} is no weight; write a number from 0 (never) to 1 (as the agent's own)")
    if at_home and weight != 1:
        raise ValueError(f"{text} on the diagonal; an agent's own examples count 1")
    return weight
