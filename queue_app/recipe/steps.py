"""One step of a recipe: as written, and fanned out over its matrix."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from queue_app.errors import Invalid
from queue_app.job_type import JobType, nearest
from queue_app.recipe.fields import explain
from queue_app.recipe.references import NAME, axes_used, label, put_axes

if TYPE_CHECKING:
    from collections.abc import Callable

    from queue_app.recipe.yaml import Document, Where

RESERVED = ("job", "needs", "matrix", "queue", "priority", "timeout", "reuse")
MOST_STEPS = 1_000  # after fanning out
MOST_SECONDS = 366 * 86400.0

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)")


def duration_seconds(value: object) -> float:
    """`90`, `90s`, `15m`, `8h`, `2d` in seconds.

    Raises:
        ValueError: it is no duration, or not above zero
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    found = DURATION.fullmatch(str(value).strip()) if number or isinstance(value, str) else None
    if found is None or found["unit"] not in SECONDS:
        raise ValueError("a duration is a number with the unit s, m, h or d, such as 90s, 15m, 8h or 2d")
    seconds = float(found["number"]) * SECONDS[found["unit"]]
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError("a duration must be above zero and at most a year")
    return seconds


def _list_only(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"it is a list of steps; write [{value}]")
    return value


class Options(BaseModel):
    """What a step says beside its spec."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    needs: Annotated[list[StrictStr], BeforeValidator(_list_only)] = []
    queue: StrictStr | None = None
    priority: Annotated[StrictInt, Field(ge=-1000, le=1000)] = 0  # the highest first
    timeout: Annotated[float, BeforeValidator(duration_seconds)] | None = None
    reuse: StrictBool = True


@dataclass(frozen=True)
class Draft:
    """A step as written, with its job type found and its matrix read."""

    name: str
    type: JobType[Any, Any]
    raw: dict[str, Any]
    axes: dict[str, list[Any]]
    mistyped: frozenset[str]  # the keys that the unknown ones were probably meant to be

    @property
    def where(self) -> Where:
        return ("steps", self.name)


@dataclass(frozen=True)
class Instance:
    """A step at one point of its matrix."""

    draft: Draft
    point: dict[str, Any]

    @cached_property
    def name(self) -> str:
        """`train`, or `train[seed=1]` where there is a matrix."""
        axes = ",".join(f"{axis}={label(value)}" for axis, value in self.point.items())
        return f"{self.draft.name}[{axes}]" if axes else self.draft.name

    @cached_property
    def raw(self) -> dict[str, Any]:
        """All keys but `job` and `matrix`, with the axes put in."""
        kept = {key: value for key, value in self.draft.raw.items() if key not in ("job", "matrix")}
        made: dict[str, Any] = put_axes(kept, self.point)
        return made

    @property
    def spec(self) -> dict[str, Any]:
        """The keys that are fields of the job type's spec."""
        return {key: value for key, value in self.raw.items() if key in self.draft.type.spec.model_fields}

    def options(self, document: Document) -> Options:
        """The reserved keys, read; what is wrong is noted and left at its default."""
        given = {key: self.raw[key] for key in Options.model_fields if key in self.raw}
        try:
            read = Options.model_validate(given)
        except ValidationError as error:
            for place, message in explain(error, Options, given):
                document.add((*self.draft.where, *place), message)
            return Options()
        allowed = self.draft.type.queues
        if read.queue is not None and read.queue not in allowed:
            said = f'{self.draft.type.kind} runs on {" or ".join(allowed)}, not on "{read.queue}"'
            document.add((*self.draft.where, "queue"), f"{said}{nearest(read.queue, list(allowed))}")
        return read


def read_drafts(document: Document, find: Callable[[str], JobType[Any, Any]]) -> dict[str, Draft]:
    """The steps that can be read at all, by name; what is wrong with the others is noted."""
    steps = document.data.get("steps")
    if not isinstance(steps, dict) or not steps:
        where: Where = ("steps",) if "steps" in document.data else ()
        document.add(where, "`steps` must be a mapping of at least one step, such as `base: {job: model.pull}`")
        return {}
    read = (_read_draft(document, name, raw, find) for name, raw in steps.items())
    return {draft.name: draft for draft in read if draft}


def _read_draft(document: Document, name: str, raw: Any, find: Callable[[str], JobType[Any, Any]]) -> Draft | None:
    where: Where = ("steps", name)
    if not NAME.fullmatch(name) or name == "matrix":
        document.add(
            where, 'the name of a step is letters, digits, "_" and "-", starts with a letter, and is not "matrix"'
        )
    if not isinstance(raw, dict):
        document.add(where, "a step is a mapping with a `job`, such as `job: model.pull`, and the keys of its job type")
        return None
    kind = raw.get("job")
    if not isinstance(kind, str):
        said = nearest("job", [key for key in raw if key not in RESERVED])
        document.add((*where, "job"), f"it has no job type; name one, such as `job: model.pull`{said}")
        return None
    try:
        job_type = find(kind)
    except Invalid as error:
        document.add((*where, "job"), str(error))
        return None
    axes = _read_axes(document, where, raw)
    return Draft(name, job_type, raw, axes, frozenset(_unknown_keys(document, where, raw, job_type)))


def _unknown_keys(document: Document, where: Where, raw: dict[str, Any], job_type: JobType[Any, Any]) -> list[str]:
    known = [*job_type.spec.model_fields, *RESERVED]
    meant = []
    for key in raw:
        if key not in known:
            said = nearest(key, known)
            meant += [name for name in known if f'"{name}"' in said]
            listed = said or f"; {job_type.kind} takes {', '.join(known)}"
            document.add((*where, key), f'unknown key "{key}"{listed}')
    return meant


def _read_axes(document: Document, where: Where, raw: dict[str, Any]) -> dict[str, list[Any]]:
    axes = raw.get("matrix", {})
    for key, value in raw.items():
        for axis in axes_used(value):
            if not isinstance(axes, dict) or axis not in axes:
                said = nearest(axis, axes) if isinstance(axes, dict) else ""
                told = f'it uses the axis "{axis}", which its matrix does not have{said}'
                document.add((*where, key), told if "matrix" in raw else f"{told}; add `matrix: {{{axis}: [...]}}`")
    here: Where = (*where, "matrix")
    if not isinstance(axes, dict) or (not axes and "matrix" in raw):
        document.add(here, "a matrix is a mapping of lists, such as `matrix: {seed: [1, 2]}`")
        return {}
    faults = {axis: _axis_fault(axis, values) for axis, values in axes.items()}
    for axis, fault in faults.items():
        if fault:
            document.add((*here, axis), fault)
    return {} if any(faults.values()) else axes


def _axis_fault(axis: str, values: Any) -> str | None:
    if not NAME.fullmatch(axis):
        return f'the axis "{axis}" must be named with letters, digits, "_" and "-"'
    if not isinstance(values, list) or not values:
        return f'the axis "{axis}" must be a list of at least one value, such as [1, 2]'
    if any(isinstance(value, list | dict) for value in values):
        return f'the values of the axis "{axis}" must be single texts, numbers or truth values'
    labels = [label(value) for value in values]
    if strange := next((text for text in labels if not text.isprintable() or set(text) & set("[]")), None):
        return (
            f'the value {strange!r} of the axis "{axis}" becomes part of a name; it may hold no brackets or line breaks'
        )
    if twice := next((text for text in labels if labels.count(text) > 1), None):
        return f'the axis "{axis}" has the value {twice} twice; keep one of them'
    return None


def fan_out(document: Document, drafts: dict[str, Draft]) -> dict[str, list[Instance]]:
    """The instances of every step, by the step's own name."""
    total = 0
    made: dict[str, list[Instance]] = {}
    for draft in drafts.values():
        total += math.prod(map(len, draft.axes.values()))
        if total > MOST_STEPS:
            told = (
                f"with it the recipe has {total:,} steps, and {MOST_STEPS:,} is the limit; take values out of a matrix"
            )
            document.add((*draft.where, "matrix"), told)
            return {}
        points = itertools.product(*draft.axes.values())
        made[draft.name] = [Instance(draft, dict(zip(draft.axes, values, strict=True))) for values in points]
    return made
