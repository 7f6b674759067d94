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
    from collections.abc import Collection

    import msgspec

    from tasks.data.record import Record

YIELDING = frozenset({"text"})  # formats whose keys also stand beside those of others


class Format(Protocol):
    """A module of this folder. `SUMMARY` is one line for people; `Row` is what is read.

    Where less is written than is read, a module has a `Written` as well; and where a row may have fields that `Row`
    knows, but that `to_record` would leave out, `fields_read(row)` names those that it takes.
    """

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


def written(known: Format) -> type[msgspec.Struct]:
    """What a format's `from_record` makes."""
    made: type[msgspec.Struct] = getattr(known, "Written", known.Row)
    return made


def fields_read(known: Format, row: dict[str, Any]) -> Collection[str]:
    """The keys of a row that its format has a place for."""
    choose = getattr(known, "fields_read", None)
    found: Collection[str] = choose(row) if choose else known.Row.__struct_encode_fields__
    return found


def recognise(row: dict[str, Any]) -> str | None:
    """The name of the one format that a row is of; None where none knows it.

    Raises:
        Invalid: several do; names them
    """
    found = [name for name in names() if find_format(name).recognises(frozenset(row))]
    found = [name for name in found if name not in YIELDING] or found
    if len(found) > 1:
        raise Invalid(f"the rows could be {' or '.join(found)}; say which: from_format={found[0]}")
    return found[0] if found else None
