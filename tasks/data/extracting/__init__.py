"""The types of files that hold text among other things, one module each, found by listing this folder.

A module has its suffixes, how large a file may be that is read as a whole, and `extract`. The library behind it is
imported when the first such file is met.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from tasks.data.extracted import Extracted


class Extractor(Protocol):
    """A module of this folder."""

    SUFFIXES: Sequence[str]
    MOST_MIB: int

    def extract(self, raw: bytes, encoding: str | None) -> Extracted:
        """The text of a file; `encoding` is meant for those that are neither UTF-8 nor say what they are.

        Raises:
            Unextractable: it has none that can be had; says what to do
            Undecodable: its encoding is in doubt
        """


@cache
def extractors() -> dict[str, tuple[str, Extractor]]:
    """Every type of file there is and its module, by suffix."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = {name: cast("Extractor", importlib.import_module(f"{__name__}.{name}")) for name in names}
    return {suffix: (name, module) for name, module in modules.items() for suffix in module.SUFFIXES}
