"""What a recipe writes with a dollar: `$step.field`, `$matrix.axis` and `${matrix.axis}` inside a longer text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from queue_app.errors import Invalid
from queue_app.job_type import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

WORD = r"[A-Za-z_][A-Za-z0-9_-]*"
NAME = re.compile(WORD)
REFERENCE = re.compile(rf"\$(?P<step>{WORD}(?:\[[^\[\]]*\])?)\.(?P<field>[A-Za-z_][A-Za-z0-9_]*)")
AXIS = re.compile(rf"\$matrix\.(?P<axis>{WORD})")
INSIDE = re.compile(rf"\$\{{\s*(?P<step>{WORD})\.(?P<field>{WORD})\s*\}}")
LOOKS_LIKE_ONE = re.compile(r"\$[A-Za-z_]\S*")


class Reference(NamedTuple):
    """One field of a step's result."""

    step: str
    field: str

    def __str__(self) -> str:
        return f"${self.step}.{self.field}"


def as_reference(value: Any) -> Reference | None:
    """The reference that a value is, if it is one: a text of nothing else."""
    found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return Reference(found["step"], found["field"]) if found else None


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, the keys of mappings left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)


def change_texts(value: Any, change: Callable[[str], Any]) -> Any:
    """The JSON value with every text replaced by `change(text)`."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [change_texts(item, change) for item in value]
    if isinstance(value, dict):
        return {key: change_texts(item, change) for key, item in value.items()}
    return value


def references(spec: Any) -> list[Reference]:
    """The results that a spec waits for, in the order of their first use."""
    found = (as_reference(text) for text in texts(spec))
    return list(dict.fromkeys(reference for reference in found if reference))


def looks_wired(value: Any) -> bool:
    """Whether the value holds a reference, well written or not."""
    return any(REFERENCE.fullmatch(text) or LOOKS_LIKE_ONE.fullmatch(text) for text in texts(value))


def resolve_references(spec: dict[str, Any], results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The spec with its references filled from the results of finished steps.

    Raises:
        Invalid: a step has no result, or its result lacks the field
    """

    def fill(text: str) -> Any:
        reference = as_reference(text)
        if reference is None:
            return text
        result = results.get(reference.step)
        if result is None:
            raise Invalid(f'{reference}: the step "{reference.step}" has no result yet; run it first')
        if reference.field not in result:
            said = nearest(reference.field, list(result))
            raise Invalid(f'{reference}: the result of "{reference.step}" has no "{reference.field}"{said}')
        return result[reference.field]

    return {key: change_texts(value, fill) for key, value in spec.items()}


def axes_used(value: Any) -> list[str]:
    """The axes of a matrix that a value mentions."""
    found: list[str] = []
    for text in texts(value):
        whole = AXIS.fullmatch(text)
        found += [whole["axis"]] if whole else [m["field"] for m in INSIDE.finditer(text) if m["step"] == "matrix"]
    return found


def put_axes(value: Any, point: Mapping[str, Any]) -> Any:
    """The value at one point of its matrix: `$matrix.axis` keeps its type, `${matrix.axis}` becomes text."""

    def inside(match: re.Match[str]) -> str:
        known = match["step"] == "matrix" and match["field"] in point
        return label(point[match["field"]]) if known else match[0]

    def change(text: str) -> Any:
        whole = AXIS.fullmatch(text)
        return point.get(whole["axis"], text) if whole else INSIDE.sub(inside, text)

    return change_texts(value, change)


def label(value: Any) -> str:
    """A value of an axis as it stands in the names of steps: as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
