"""What the fields of a spec take: their shape, what is wrong with a value, and which parts name files or artifacts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Number
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from queue_app.job_type import ArtifactRef, InputPath, Spec
from queue_app.recipe.references import looks_wired

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from settings import Settings

ADAPTERS = {"path": TypeAdapter(InputPath), "artifact": TypeAdapter(ArtifactRef)}  # mark → how it is made absolute
ANYTHING = "anything"

Place = tuple[int | str, ...]
Fault = tuple[Place, str]

# The first that fits counts, so a text is no sequence and a yes-or-no is no number.
SHAPES: tuple[tuple[tuple[type, ...], str], ...] = (
    ((str, PurePath), "a text"),
    ((bool,), "true or false"),
    ((Number,), "a number"),
    ((Mapping, BaseModel), "a mapping"),
    ((Sequence, Set), "a list"),
)


def annotation_of(field: FieldInfo) -> Any:
    """The whole annotation of a field, with the metadata that pydantic keeps apart."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def shapes(annotation: Any) -> frozenset[str]:
    """The kinds of JSON value that an annotation stands for; none of them is null."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return shapes(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return frozenset().union(*map(shapes, get_args(annotation)))
    if origin is Literal:
        return frozenset().union(*(shapes(type(value)) for value in get_args(annotation)))
    base = origin or annotation
    if base is NoneType:
        return frozenset()
    found = (name for types, name in SHAPES if isinstance(base, type) and issubclass(base, types))
    return frozenset({next(found, ANYTHING)})


def fit(given: frozenset[str], taken: frozenset[str]) -> bool:
    """Whether a value of one set of shapes can be of the other."""
    return bool(given & taken) or ANYTHING in given | taken


@dataclass(frozen=True)
class Surroundings:
    """Where a spec is checked."""

    base: Path  # relative paths are taken from here
    settings: Settings | None = None  # None: what they name is not looked at


def find_faults(spec: type[Spec], values: dict[str, Any], place: Surroundings) -> list[Fault]:
    """What is wrong with the values of a spec, each with its place in them.

    Covered: every value that is already there, by the spec's own rules, and its rules over several fields as far as
    their message names none that another step is still to make. Not covered, and checked at the start: the others.
    """
    waiting = [key for key, value in values.items() if looks_wired(value)]

    def is_early(where: Place, value: Any, message: str) -> bool:
        return looks_wired(value) and (bool(where) or any(key in message for key in waiting))

    try:
        spec.model_validate(values, context={"base": place.base, "settings": place.settings})
    except ValidationError as error:
        return explain(error, spec, values, leave_out=is_early)
    return []


def explain(
    error: ValidationError,
    model: type[BaseModel],
    values: dict[str, Any],
    leave_out: Callable[[Place, Any, str], bool] | None = None,
) -> list[Fault]:
    """Pydantic's findings in our words, one for each place in the values."""
    faults: dict[Place, list[str]] = {}
    for detail in error.errors():
        place, value = _follow(values, detail["loc"])
        if detail["type"] == "missing" or not (leave_out and leave_out(place, value, detail["msg"])):
            faults.setdefault(place, []).append(_said(detail, model, place))
    return [(place, " / ".join(dict.fromkeys(said))) for place, said in faults.items()]


def _follow(values: Any, loc: Place) -> tuple[Place, Any]:
    """The deepest value on pydantic's path, which also names branches of unions and what is missing."""
    place: Place = ()
    for key in loc:
        there = isinstance(values, list) and isinstance(key, int) and key < len(values)
        if there or (isinstance(values, dict) and key in values):
            values = values[key]
            place = (*place, key)
    return place, values


def _said(detail: ErrorDetails, model: type[BaseModel], place: Place) -> str:
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if detail["type"] == "missing":
        name = str(detail["loc"][-1])
        field = model.model_fields.get(name) if len(detail["loc"]) == 1 else None
        described = f" ({field.description})" if field and field.description else ""
        return f'"{name}" is missing{described}; add it'
    if not place:
        return message
    given = json.dumps(detail["input"], ensure_ascii=False, default=str)
    shown = given if len(given) <= 60 else given[:57] + "…"
    return f'"{".".join(map(str, place))}" is {shown}: {message[:1].lower()}{message[1:]}'


def make_absolute(field: FieldInfo, value: Any, base: Path) -> Any:
    """The value with the user's relative paths in it taken from `base`, whether or not something is there."""

    def change(mark: str, text: str) -> Any:
        try:
            return ADAPTERS[mark].validate_python(text, context={"base": base, "unchecked": True})
        except ValidationError:
            return text  # no path at all: `find_faults` says why

    return _change_marked(annotation_of(field), None, value, change)


def fingerprint(kind: str, version: int, spec: Spec, content: Callable[[str], str], place: str = "") -> str:
    """A sha256 (hex) that is equal for equal work: kind, version, and the spec with its defaults.

    What the spec marks as a path or an artifact is replaced by `content(value)`, so that the same bytes under another
    name are the same work. `content` sees every such text, also those that name no file (`builtin:…`, a glob, an URL).
    Work at another `place` is other work.
    """
    dumped = spec.model_dump(mode="json")
    for name, field in type(spec).model_fields.items():
        if name in dumped:
            dumped[name] = _change_marked(annotation_of(field), None, dumped[name], lambda _, text: content(text))
    canonical = json.dumps(
        [kind, version, dumped, *filter(None, (place,))], sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


Change = Callable[[str, str], Any]


def _change_marked(annotation: Any, mark: str | None, value: Any, change: Change) -> Any:
    """Replace each text that the annotation marks, and put sets in order; a mark on a list holds for its items.

    Not covered: a union of models in which one name is a path in one member and a plain text in another.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        own = next((m for m in args[1:] if isinstance(m, str) and m in ADAPTERS), mark)
        return _change_marked(args[0], own, value, change)
    if origin in (Union, UnionType):
        return _change_member(args, mark, value, change)
    if isinstance(value, str):
        return change(mark, value) if mark and origin is not Literal else value
    base = origin or annotation
    if isinstance(value, dict):
        return _change_mapping(base, args, mark, value, change)
    if isinstance(value, list) and isinstance(base, type) and issubclass(base, Sequence | Set):
        fixed = issubclass(base, tuple) and Ellipsis not in args and len(args) == len(value)
        members = args if fixed else [args[0] if args else Any] * len(value)
        items = [_change_marked(member, mark, item, change) for member, item in zip(members, value, strict=True)]
        return sorted(items, key=json.dumps) if issubclass(base, Set) else items
    return value


def _change_mapping(base: Any, args: tuple[Any, ...], mark: str | None, value: dict[str, Any], change: Change) -> Any:
    if isinstance(base, type) and issubclass(base, BaseModel):
        inner = {name: annotation_of(field) for name, field in base.model_fields.items()}
        return {k: _change_marked(inner.get(k, Any), None, v, change) for k, v in value.items()}
    member = args[1] if len(args) == 2 else Any
    return {k: _change_marked(member, mark, v, change) for k, v in value.items()}


def _change_member(members: tuple[Any, ...], mark: str | None, value: Any, change: Change) -> Any:
    if any(get_origin(m) is Literal and value in get_args(m) for m in members if not isinstance(value, list | dict)):
        return value
    changed = (_change_marked(member, mark, value, change) for member in members)
    return next((made for made in changed if made != value), value)
