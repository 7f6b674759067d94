"""Personal data and secrets in text: one module a family of types, found by listing this folder.

A family has `TYPES`, what it finds; `NEEDS`, the hints (see `hints`) of which one must be there before it is asked; and
`find`. Text without a hint, which is nearly all text, costs one cheap look.

Covered: what has a form – addresses, numbers with check digits or a known plan, keys and tokens. Not covered: what only
its meaning gives away (a diagnosis, a nickname), and names of persons unless asked for by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

from queue_app.errors import Invalid
from queue_app.job_type import nearest
from tasks.data.personal.finding import Confidence, Finding, without_overlaps
from tasks.data.personal.hints import ALWAYS, look
from tasks.data.personal.search import REGIONS, Search

__all__ = ["REGIONS", "Confidence", "Finding", "Search", "chosen_types", "families", "find_personal", "types"]


class Family(Protocol):
    """A module of this folder that finds something. `OPTIONAL`, where it has that, keeps it out of the default."""

    TYPES: tuple[str, ...]
    NEEDS: int

    def find(self, text: str, search: Search) -> Iterator[Finding]:
        """What is found, in any order, overlapping or not."""


DEFAULT = Search()
_LABEL_CHARACTERS = 32  # names of agents, categories and the like, which come again and again
_look_at_label = lru_cache(4096)(look)
# digits and signs of other scripts and keyboards, each beside the one character that it stands for
_FOREIGN = dict(
    zip(
        "０１２３４５６７８９٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹०१२३४५६७८९＠．－＋：／（）\u00a0\u2007\u2009\u202f\u2010\u2011\u2012\u2013\u2212",
        "0123456789012345678901234567890123456789@.-+:/()    -----",
        strict=True,
    )
)
_ANY_FOREIGN = re.compile(f"[{re.escape(''.join(_FOREIGN))}]")


def find_personal(text: str, search: Search = DEFAULT) -> list[Finding]:
    """What is found in a text, in its order and without overlaps: the most specific, then the longest stands.

    Raises:
        Invalid: the search names a type that there is not, or one that needs a package that is not installed
    """
    if not text.isascii():
        text = _fold(text)
    hints = (look if len(text) > _LABEL_CHARACTERS else _look_at_label)(text) | ALWAYS
    if hints == ALWAYS and not _needs_all(search.types):
        return []
    wanted = chosen_types(search.types)
    found = [each for family in _asked(search.types) if family.NEEDS & hints for each in family.find(text, search)]
    if not found:
        return []
    return [each for each in without_overlaps(found) if each.type in wanted and each.confidence >= search.least]


@cache
def families() -> dict[str, Family]:
    """Every family by its name."""
    modules = {m.name: import_module(f"{__name__}.{m.name}") for m in iter_modules(__path__)}
    return {name: cast("Family", module) for name, module in modules.items() if hasattr(module, "TYPES")}


@cache
def types() -> tuple[str, ...]:
    """Every type that there is, those of the optional families last."""
    by_choice = sorted(families().values(), key=_is_optional)
    return tuple(name for family in by_choice for name in family.TYPES)


@cache
def chosen_types(names: frozenset[str]) -> frozenset[str]:
    """The types behind names of types and of families; behind none, all but the optional ones.

    Raises:
        Invalid: a name is neither; names the nearest
    """
    if not names:
        return frozenset(name for family in families().values() if not _is_optional(family) for name in family.TYPES)
    known = families()
    for name in names:
        if name not in known and name not in types():
            every = [*types(), *known]
            raise Invalid(
                f'there is no type of personal data "{name}"{nearest(name, every)}; known: {", ".join(every)}'
            )
    return frozenset(kind for name in names for kind in (known[name].TYPES if name in known else (name,)))


@cache
def _asked(names: frozenset[str]) -> tuple[Family, ...]:
    """The families to ask. All that are not optional: one that is not wanted may still stand in the way of another."""
    wanted = chosen_types(names)
    return tuple(each for each in families().values() if not _is_optional(each) or wanted & set(each.TYPES))


@cache
def _needs_all(names: frozenset[str]) -> bool:
    return any(family.NEEDS & ALWAYS for family in _asked(names))


def _is_optional(family: Family) -> bool:
    return getattr(family, "OPTIONAL", False)


def _fold(text: str) -> str:
    for character in set(_ANY_FOREIGN.findall(text)):
        text = text.replace(character, _FOREIGN[character])
    return text
