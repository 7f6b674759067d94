"""The formats of rows, one module each: what a row looks like there, and the way to a record and back.

A format is found by listing this folder. Its module has the type `Row`, which refuses keys that the format does not
know; `recognises(keys)`, asked of the keys of a file's first row; `to_record` and `from_record`.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from queue_app.errors import Invalid
from queue_app.job_type import nearest

if TYPE_CHECKING:
    from collections import Counter

    import msgspec

    from tasks.data.record import Record


class Format(Protocol):
    """A module of this folder. `SUMMARY` is one line for people, `FIRST` says that it is asked before the others."""

    SUMMARY: str
    Row: type[msgspec.Struct]

    def recognises(self, keys: frozenset[str]) -> bool:
        """Whether a row with these keys is one of this format."""

    def to_record(self, row: Any) -> Record:
        """The record that a row tells.

        Raises:
            ValueError: it is none; the message begins with the field, as in `messages[2].role: …`
        """

    def from_record(self, record: Record, dropped: Counter[str]) -> Any:
        """The row that tells a record; counts by field in `dropped` what this format cannot hold.

        Raises:
            ValueError: nothing is left of the record in this format; says why
        """


def names() -> list[str]:
    """Every format there is, by listing the folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@cache
def find_format(name: str) -> Format:
    """The format called `name`.

    Raises:
        Invalid: there is none; names the nearest
    """
    if name not in names():
        raise Invalid(f'there is no format "{name}"{nearest(name, names())} (known: {", ".join(names())})')
    return cast("Format", importlib.import_module(f"{__name__}.{name}"))


def recognise(row: dict[str, Any]) -> str | None:
    """The name of the one format that a row is of; None where none knows it.

    Raises:
        Invalid: several do; names them
    """
    found = [name for name in names() if find_format(name).recognises(frozenset(row))]
    if len(found) > 1:
        raise Invalid(f"the rows could be {' or '.join(found)}; say which: from_format={found[0]}")
    return found[0] if found else None
