"""Which step waits for which: references and `needs`, matched axis by axis where both sides have a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from queue_app.job_type import nearest
from queue_app.recipe.fields import annotation_of, fit, shapes
from queue_app.recipe.references import AXIS, INSIDE, LOOKS_LIKE_ONE, Reference, as_reference, label

if TYPE_CHECKING:
    from queue_app.recipe.steps import Draft, Instance
    from queue_app.recipe.yaml import Document, Where


class Wiring:
    """Connects the instances of a recipe's steps and notes what cannot be connected."""

    def __init__(self, document: Document, drafts: dict[str, Draft], instances: dict[str, list[Instance]]) -> None:
        self.document = document
        self.drafts = drafts
        self.instances = instances
        self.by_name = {instance.name: instance for made in instances.values() for instance in made}
        steps = document.data.get("steps")
        self.names = list(steps) if isinstance(steps, dict) else []  # also those that could not be read
        self.edges: dict[str, set[str]] = {name: set() for name in drafts}  # step → the steps it needs

    def wire(self, instance: Instance, needs: list[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The spec with its references pointing at instances, and all the instances it waits for."""
        waits: dict[str, None] = {}
        for index, need in enumerate(needs):
            for target in self._targets(instance, need, (*instance.draft.where, "needs", index))[0]:
                waits[target.name] = None
        spec = {}
        for key, value in instance.spec.items():
            where = (*instance.draft.where, key)
            spec[key] = self._wired(instance, value, where, waits)
            self._check_shape(instance, key, value, spec[key])
        return spec, tuple(waits)

    def _wired(self, instance: Instance, value: Any, where: Where, waits: dict[str, None]) -> Any:
        if isinstance(value, str):
            return self._wired_text(instance, value, where, waits)
        if isinstance(value, dict):
            return {key: self._wired(instance, item, (*where, key), waits) for key, item in value.items()}
        if not isinstance(value, list):
            return value
        made = []
        for index, item in enumerate(value):
            wired = self._wired(instance, item, (*where, index), waits)
            made += wired if isinstance(item, str) and isinstance(wired, list) else [wired]
        return made

    def _wired_text(self, instance: Instance, text: str, where: Where, waits: dict[str, None]) -> Any:
        reference = as_reference(text)
        if reference is None:
            self._check_text(text, where)
            return text
        targets, fanned = self._targets(instance, reference.step, where)
        if not targets or not self._has_field(targets[0].draft, reference, where):
            return text
        waits.update(dict.fromkeys(target.name for target in targets))
        made = [str(Reference(target.name, reference.field)) for target in targets]
        return made if fanned else made[0]

    def _targets(self, instance: Instance, name: str, where: Where) -> tuple[list[Instance], bool]:
        """The instances that a name means to this instance, and whether it is all of several."""
        exact = self.by_name.get(name)
        draft = exact.draft if exact else self.drafts.get(name)
        if draft is None:
            if name not in self.names and name != "matrix":  # an unknown axis is noted where the matrix is read
                known = [*self.names, *self.by_name]
                self.document.add(where, f'there is no step "{name}"{nearest(name.removeprefix("$"), known)}')
            return [], False
        if draft is instance.draft:
            self.document.add(where, f'it refers to itself ("{name}"); refer to a step before it')
            return [], False
        self.edges[instance.draft.name].add(draft.name)
        if exact:
            return [exact], False
        shared = [axis for axis in draft.axes if axis in instance.point]
        found = [
            other
            for other in self.instances.get(draft.name, [])
            if all(label(other.point[axis]) == label(instance.point[axis]) for axis in shared)
        ]
        if not found and self.instances:
            point = ", ".join(f"{axis}={label(instance.point[axis])}" for axis in shared)
            self.document.add(where, f'"{name}" has no {point}; give both steps the same values of the axis')
        return found, len(shared) < len(draft.axes)

    def _has_field(self, draft: Draft, reference: Reference, where: Where) -> bool:
        known = [*draft.type.result.model_fields, *draft.type.result.model_computed_fields]
        if reference.field in known:
            return True
        said = nearest(reference.field, known) or f"; it gives {', '.join(known) or 'nothing'}"
        told = f'the result of "{draft.name}" ({draft.type.kind}) has no "{reference.field}"{said}'
        self.document.add(where, told)
        return False

    def _check_text(self, text: str, where: Where) -> None:
        if LOOKS_LIKE_ONE.fullmatch(text) and not AXIS.fullmatch(text):
            self.document.add(where, f'"{text[:60]}" is no reference; write "$step.field", such as "$base.model"')
        for found in INSIDE.finditer(text):
            if found["step"] in self.names:
                told = f'"{found[0]}" stands inside a text; a result can only be a whole value: "${found["step"]}.…"'
                self.document.add(where, told)

    def _check_shape(self, instance: Instance, key: str, value: Any, wired: Any) -> None:
        """Note a reference whose result can never be what the field takes."""
        reference = as_reference(value)
        if reference is None:
            return
        source = as_reference(wired[0] if isinstance(wired, list) else wired)
        target = self.by_name.get(source.step) if source else None
        if source is None or target is None or target.draft is instance.draft:
            return
        field = target.draft.type.result.model_fields.get(source.field)
        taken = shapes(annotation_of(instance.draft.type.spec.model_fields[key]))
        where = (*instance.draft.where, key)
        if isinstance(wired, list) and not fit(frozenset({"a list"}), taken):
            told = (
                f'"{key}" takes {_one_of(taken)}, but {reference} is a list of {len(wired)}, one for each of the matrix'
            )
            self.document.add(where, f'{told}; give this step the same axis, or name one: "{wired[0]}"')
        elif not isinstance(wired, list) and field and not fit(shapes(annotation_of(field)), taken):
            given = _one_of(shapes(annotation_of(field)))
            self.document.add(where, f'"{key}" takes {_one_of(taken)}, but {reference} is {given}')


def _one_of(names: frozenset[str]) -> str:
    return " or ".join(sorted(names)) or "nothing"
