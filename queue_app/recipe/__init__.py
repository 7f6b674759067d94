"""Recipes: strict YAML in, a checked and ordered tuple of steps out. Nothing is run here."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from queue_app.errors import Invalid, NotFound
from queue_app.job_type import JobType, find_job_type, nearest
from queue_app.recipe.fields import Surroundings, find_faults, fingerprint, make_absolute
from queue_app.recipe.references import NAME, Reference, axes_used, references, resolve_references
from queue_app.recipe.steps import RESERVED, Draft, Instance, duration_seconds, fan_out, read_drafts
from queue_app.recipe.wiring import Wiring
from queue_app.recipe.yaml import MOST_CHARACTERS, Document, override, read_document

if TYPE_CHECKING:
    from settings import Settings

__all__ = [
    "RESERVED",
    "Recipe",
    "Reference",
    "Step",
    "duration_seconds",
    "fingerprint",
    "load_recipe",
    "parse_recipe",
    "references",
    "resolve_references",
]

KEYS = ["name", "cap_usd", "steps"]
FindJobType = Callable[[str], JobType[Any, Any]]


@dataclass(frozen=True)
class Step:
    """One job of a recipe; a result it waits for stands in its spec as "$step.field"."""

    name: str
    kind: str
    spec: dict[str, Any]
    needs: tuple[str, ...]  # every step it waits for, whether by `needs` or by a reference
    queue: str
    priority: int
    timeout_seconds: float | None
    reuse: bool
    line: int
    cards: int = 1  # of one host, which it takes together


@dataclass(frozen=True)
class Recipe:
    """The steps in an order in which each stands behind all that it needs."""

    name: str
    text: str  # the YAML as read, without overrides
    steps: tuple[Step, ...]
    cap_usd: float | None = None  # the most that all steps together may cost; None: without end


def load_recipe(path: Path, overrides: Mapping[str, str] = {}, settings: Settings | None = None) -> Recipe:
    """Read and check the recipe in a file.

    Raises:
        NotFound: there is no such file
        Invalid: names every problem with its line
    """
    return parse_recipe(_read_text(path), path, overrides=overrides, settings=settings)


def parse_recipe(
    text: str,
    path: Path,
    *,
    overrides: Mapping[str, str] = {},
    find: FindJobType = find_job_type,
    settings: Settings | None = None,
) -> Recipe:
    """Read and check a recipe; `path` is the file that it is from.

    `overrides` are dotted keys and YAML values (`steps.chunks.source` → `../books`). Relative paths are taken from the
    file's folder, those in overrides from the current directory. With `settings` what they name is looked at too.

    Raises:
        Invalid: names every problem with its line in the file
    """
    document = read_document(text, path.name)
    for dotted, value in overrides.items():
        override(document, dotted, value)
    name, cap_usd = _read_name(document), _read_cap(document)
    drafts = read_drafts(document, find)
    instances = fan_out(document, drafts)
    wiring = Wiring(document, drafts, instances)
    surroundings = Surroundings(path.parent.absolute(), settings)
    steps = {
        draft: [_read_step(document, wiring, instance, surroundings) for instance in instances[draft]]
        for draft in instances
    }
    order = _in_order(document, wiring.edges)
    document.raise_problems()
    return Recipe(name, text, tuple(step for draft in order for step in steps[draft]), cap_usd)


def _read_text(path: Path) -> str:
    most_bytes = 4 * MOST_CHARACTERS
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except FileNotFoundError as error:
        there = [other.name for other in path.parent.glob("*.y*ml")]
        raise NotFound(f'there is no recipe "{path}"{nearest(path.name, there)}') from error
    except IsADirectoryError as error:
        there = sorted(other.name for other in path.glob("*.y*ml"))
        said = f"name a recipe in it: {', '.join(there[:5])}" if there else "it holds no recipe; name a YAML file"
        raise Invalid(f'"{path}" is a folder; {said}') from error
    except OSError as error:
        raise Invalid(f'"{path}" cannot be read: {error.strerror}; check its path and permissions') from error
    if len(data) > most_bytes:
        raise Invalid(f"{path.name} line 1: longer than {most_bytes:,} bytes; that is no recipe")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        said = f"the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise Invalid(f"{path.name} line {line}: {said}") from error


def _read_name(document: Document) -> str:
    for key in document.data:
        if key not in KEYS:
            said = nearest(key, KEYS) or "; a recipe has `name` and `steps`, and perhaps `cap_usd`"
            document.add((key,), f'unknown key "{key}"{said}')
    name = document.data.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        told = 'a recipe needs a name of letters, digits, "_" and "-" that starts with a letter, such as `name: demo`'
        document.add(("name",), told)
    return str(name)


def _read_cap(document: Document) -> float | None:
    cap = document.data.get("cap_usd")
    if cap is None:
        return None
    if isinstance(cap, bool) or not isinstance(cap, int | float) or cap < 0:
        document.add(("cap_usd",), "`cap_usd` is a number of US dollars, such as 25; with 0 nothing may be spent")
        return None
    return float(cap)


def _read_step(document: Document, wiring: Wiring, instance: Instance, surroundings: Surroundings) -> Step:
    draft = instance.draft
    options = instance.options(document)
    spec, needs = wiring.wire(instance, options.needs)
    fields = draft.type.spec.model_fields
    for key in spec.keys() & fields.keys():
        spec[key] = make_absolute(fields[key], spec[key], _base_of(document, draft, key, surroundings.base))
    for place, message in find_faults(draft.type.spec, spec, surroundings):
        if not any(f'"{key}" is missing' in message for key in draft.mistyped):
            document.add((*draft.where, *place), message)
    return Step(
        name=instance.name,
        kind=draft.type.kind,
        spec=spec,
        needs=needs,
        queue=options.queue or draft.type.queues[0],
        priority=options.priority,
        timeout_seconds=options.timeout,
        reuse=options.reuse,
        cards=_cards(document, draft, spec),
        line=document.lines.get(draft.where, 1),
    )


def _cards(document: Document, draft: Draft, spec: Mapping[str, Any]) -> int:
    try:
        needed: int = draft.type.spec.cards_needed(spec)
    except Invalid as error:
        document.add((*draft.where, "cards"), str(error))
        return 1
    return needed


def _base_of(document: Document, draft: Draft, key: str, base: Path) -> Path:
    """Where relative paths start: in the user's folder if an override gives the field, itself or by an axis."""
    origins = [(*draft.where, key), *((*draft.where, "matrix", axis) for axis in axes_used(draft.raw[key]))]
    return Path.cwd() if any(document.overridden(where) for where in origins) else base


def _in_order(document: Document, edges: Mapping[str, set[str]]) -> list[str]:
    """The steps in the order of the file, but each behind what it needs; cycles are noted."""
    left = dict(edges)
    while True:
        sorter = TopologicalSorter({name: sorted(needs & left.keys()) for name, needs in left.items()})
        try:
            sorter.prepare()
        except CycleError as error:
            _note_cycle(document, error.args[1][:-1])
            left = {name: needs for name, needs in left.items() if name not in error.args[1]}
            continue
        break
    place = {name: index for index, name in enumerate(edges)}
    ready: list[tuple[int, str]] = []
    order: list[str] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, (place[name], name))
        order.append(heapq.heappop(ready)[1])
        sorter.done(order[-1])
    return order


def _note_cycle(document: Document, cycle: list[str]) -> None:
    first = cycle.index(min(cycle, key=lambda name: document.line(("steps", name))))
    names = [*cycle[first:], *cycle[: first + 1]]
    told = f"the steps wait for each other: {' → '.join(names)}; take one of these references or needs away"
    document.add(("steps", names[0]), told)
