"""Reads a file of the catalogue; what makes no sense in it is named by line and field, all of it at once."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from api_worker.catalogue_rows import KINDS, Limit, Listing
from api_worker.provider import providers
from queue_app.errors import Invalid
from queue_app.job_type import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from api_worker.catalogue_rows import Entry

AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")  # how tomllib says where
KEY = re.compile(r"""\s*["']?([\w-]+)["']?\s*=""")
HEAD = re.compile(r"""\s*\[\[?\s*["']?([\w-]+)""")
# Targets of `tuneyard data check` that are no provider's own.
OTHER_TARGETS = frozenset({"openai_preference", "vertex", "local"})

Rows = dict[str, list[Any]]


@dataclass
class Reading:
    """One file, and what is wrong with it."""

    file: Path
    lines: list[str]
    faults: list[str] = field(default_factory=list)

    def complain(self, line: int, name: str, text: str) -> None:
        self.faults.append(f"{self.file} line {line}: {name}: {text}")

    def line_of(self, kind: str, place: int, name: str) -> int:
        """The line of a field of the row at a place, or of the row's head where it has no such field."""
        heads = self._found(rf"\s*\[\[?\s*[\"']?{re.escape(kind)}[\"']?\s*\]") or self._found(
            rf"\s*[\"']?{re.escape(kind)}[\"']?\s*="
        )
        if not heads:
            return 1
        head = heads[min(place, len(heads) - 1)]
        for number in range(head + 1, len(self.lines)):
            if HEAD.match(self.lines[number]):
                break
            if (key := KEY.match(self.lines[number])) and key[1] == name:
                return number + 1
        return head + 1

    def _found(self, pattern: str) -> list[int]:
        return [number for number, line in enumerate(self.lines) if re.match(pattern, line)]


def read_rows(file: Path, listed: Collection[str] = ()) -> Rows:
    """The rows of a file by their kind. They may be of the providers that are `listed` elsewhere, too.

    Raises:
        Invalid: it is no TOML, or rows make no sense; names file, line and field of each
    """
    try:
        text = file.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{file}: the catalogue cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise Invalid(_no_toml(file, text, str(error))) from error
    reading = Reading(file, text.splitlines())
    for name in sorted(set(tables) - set(KINDS)):
        known = f"{nearest(name, KINDS)}; there are {', '.join(f'[[{kind}]]' for kind in KINDS)}"
        reading.complain(reading.line_of(name, 0, name), name, f"there are no such rows{known}")
    places: dict[str, dict[int, Any]] = {kind: dict(_rows(reading, kind, tables.get(kind, []))) for kind in KINDS}
    _check_apis(reading, places["provider"])
    names = {*listed, *(row.api for row in places["provider"].values())}
    for kind, rows in places.items():
        _check_doubles(reading, kind, rows)
        _check_names(reading, kind, rows, names)
    if reading.faults:
        raise Invalid("\n".join(reading.faults))
    return {kind: list(rows.values()) for kind, rows in places.items()}


def _no_toml(file: Path, text: str, said: str) -> str:
    found = AT_LINE.search(said)
    if found is None:
        return f"{file}: the catalogue cannot be read: {said}"
    line = int(found[1])
    there = text.splitlines()[line - 1]
    key = KEY.match(there) or HEAD.match(there)
    return f"{file} line {line}: {key[1] if key else 'TOML'}: {AT_LINE.sub('', said)}"


def _rows(reading: Reading, kind: str, given: object) -> Iterable[tuple[int, Entry]]:
    """The rows of a kind that make sense, by their place among those of their kind."""
    rows = given if isinstance(given, list) else [given]
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in rows):
        line, said = reading.line_of(kind, 0, kind), "a table" if isinstance(given, dict) else repr(given)
        reading.complain(line, kind, f"{said} is no list of rows; each begins with [[{kind}]]")
        return
    for place, row in enumerate(rows):
        try:
            yield place, KINDS[kind].model_validate(row)
        except ValidationError as error:
            for fault in error.errors():
                name = str(fault["loc"][0]) if fault["loc"] else kind
                reading.complain(reading.line_of(kind, place, name), name, _words(kind, name, fault))


def _words(kind: str, name: str, fault: Any) -> str:
    """What pydantic has against a field, in our words."""
    fields = list(KINDS[kind].model_fields)
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] == "extra_forbidden":
        return f"there is no such field{nearest(name, fields)}; a [[{kind}]] has {', '.join(fields)}"
    said = str(fault["msg"]).removeprefix("Value error, ")
    return said if not fault["loc"] else f"{said}, not {fault['input']!r}"


def _check_apis(reading: Reading, listings: dict[int, Listing]) -> None:
    known = providers()
    for place, row in listings.items():
        if row.api not in known:
            said = f'no provider goes by the name "{row.api}"{nearest(row.api, known)}; there are {", ".join(known)}'
            reading.complain(reading.line_of("provider", place, "api"), "api", said)


def _check_doubles(reading: Reading, kind: str, rows: dict[int, Entry]) -> None:
    first = dict[object, int]()
    for place, row in rows.items():
        before = first.setdefault(row.key, place)
        if before != place:
            there = reading.line_of(kind, before, "")
            name = next(iter(KINDS[kind].model_fields)) if kind == "provider" else kind
            said = f"the [[{kind}]] of line {there} is about the same; leave one of them out"
            reading.complain(reading.line_of(kind, place, name), name, said)


def _check_names(reading: Reading, kind: str, rows: dict[int, Any], known: set[str]) -> None:
    """Whether providers and targets that rows are about are there."""
    for place, row in rows.items():
        if isinstance(row, Limit):
            for target in sorted(set(row.targets) - set(providers()) - OTHER_TARGETS):
                said = f'there is no target "{target}"{nearest(target, [*providers(), *OTHER_TARGETS])}'
                reading.complain(reading.line_of(kind, place, "targets"), "targets", said)
        elif kind != "provider" and row.provider not in known:
            said = f'there is no [[provider]] with the api "{row.provider}"{nearest(row.provider, list(known))}'
            reading.complain(reading.line_of(kind, place, "provider"), "provider", said)
