"""The fine-tunes of a recipe as work to be priced, and the free steps that make their data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api_worker.provider import Method, Tuned
from queue_app.errors import Invalid, Permanent
from queue_app.recipe import Recipe, references, resolve_references

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from queue_app.recipe import Step

HOSTED = "finetune.hosted"
OWN: Mapping[Tuned, str] = {Tuned.LORA: "adapter.train", Tuned.FULL: "model.train"}  # on a GPU of one's own
FINE_TUNES = (HOSTED, *OWN.values())
EPOCHS = 3  # of a hosted fine-tune that does not say
DATA_FIELDS = ("dataset", "holdout", "base_model")


@dataclass(frozen=True)
class Work:
    """One fine-tune of a recipe."""

    step: str
    account: str | None  # where the recipe sends it; None: to a GPU of one's own
    base_model: str
    method: Method
    tuned: Tuned | None
    spec: Mapping[str, Any]  # with everything filled in that is known
    dataset: Path | None = None
    holdout: Path | None = None
    unknown: str = ""  # why its data are not there
    called: str = ""  # the base model's name, where that is an artifact

    @property
    def model(self) -> str:
        """What the base model is called."""
        return self.called or self.base_model

    def epochs(self, examples: int) -> float:
        """Passes over so many examples; an adapter's training may say steps instead."""
        steps = self.spec.get("max_steps")
        if steps is None or not examples:
            return float(self.spec.get("epochs") or (1 if self.account is None else EPOCHS))
        each = int(self.spec.get("micro_batch_size", 1)) * int(self.spec.get("gradient_accumulation_steps", 4))
        each *= int(self.spec.get("cards", 1))
        return float(steps) * each / examples


def is_free(step: Step) -> bool:
    """Whether a step runs here and costs nothing but time."""
    return step.kind.startswith("dataset.") or step.kind == "model.pull"


def data_steps(recipe: Recipe) -> tuple[Step, ...]:
    """The free steps that stand before the fine-tunes, in order; of a fine-tune behind another job, none."""
    steps = {step.name: step for step in recipe.steps}
    wanted = set[str]()
    for step in recipe.steps:
        if step.kind in FINE_TUNES:
            before = _before(steps, _sources(step))
            wanted |= before if all(is_free(steps[name]) for name in before) else set()
    return tuple(step for step in recipe.steps if step.name in wanted)


def _sources(step: Step) -> set[str]:
    """The steps that make what a fine-tune learns from and what its tokens are counted by."""
    return {found.step for found in references({field: step.spec.get(field) for field in DATA_FIELDS})}


def _before(steps: Mapping[str, Step], names: set[str]) -> set[str]:
    found, new = set[str](), set(names)
    while new:
        found |= new
        new = {need for name in new for need in steps[name].needs} - found
    return found


def works(
    recipe: Recipe, results: Mapping[str, Mapping[str, Any]], resolve: Callable[[str], Path], why_not: str
) -> list[Work]:
    """The fine-tunes of a recipe; `why_not` is said of those whose data no result tells."""
    return [_work(step, results, resolve, why_not) for step in recipe.steps if step.kind in FINE_TUNES]


def _work(step: Step, results: Mapping[str, Mapping[str, Any]], resolve: Callable[[str], Path], why_not: str) -> Work:
    known = _filled(step.spec, results)
    hosted = step.kind == HOSTED
    own = next((tuned for tuned, kind in OWN.items() if kind == step.kind), None)
    base = Work(
        step=step.name,
        account=known.get("provider", "sandbox") if hosted else None,
        base_model=str(known.get("base_model", step.spec["base_model"])),
        method=Method(known.get("method" if hosted else "objective", Method.SFT)),
        tuned=Tuned(known["tuned"]) if hosted and known.get("tuned") else own,
        spec=known,
    )
    if missing := [field for field in DATA_FIELDS if step.spec.get(field) is not None and field not in known]:
        return Work(**vars(base) | {"unknown": f"{' and '.join(missing)}: {why_not}"})
    try:
        paths = {field: resolve(known[field]) for field in ("dataset", "holdout") if known.get(field) is not None}
    except Permanent as error:
        return Work(**vars(base) | {"unknown": str(error)})
    return Work(**vars(base) | paths)


def _filled(spec: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The fields of a spec whose references have results."""
    found: dict[str, Any] = {}
    for name, value in spec.items():
        try:
            found |= resolve_references({name: value}, results)
        except Invalid:
            continue  # the step that makes it has not run
    return found
