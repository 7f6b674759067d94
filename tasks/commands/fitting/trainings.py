"""The trainings of a recipe, with the shapes of their base models, as far as they are known before anything has run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gpu_worker.axolotl.words import in_our_words
from gpu_worker.backends import choose_engine
from gpu_worker.fitting.known_models import known_shape
from gpu_worker.fitting.shape import read_shape
from gpu_worker.training_config import TrainingConfig
from queue_app.errors import Invalid, NotFound
from queue_app.job_type import find_job_type
from queue_app.recipe.references import as_reference, looks_wired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpu_worker.fitting.shape import ModelShape
    from gpu_worker.training_config import EngineName
    from queue_app.recipe import Recipe, Step

TRAININGS = ("adapter.train", "model.train")
AXOLOTL = "axolotl.train"
PULL = "model.pull"


@dataclass(frozen=True)
class PlannedTraining:
    """A training step, and all that its prediction needs."""

    step: str
    kind: str
    base_model: str
    config: TrainingConfig
    shape: ModelShape
    engine: EngineName


def find_trainings(
    recipe: Recipe, model: Path | None, engine: str, artifact: Callable[[str], Path]
) -> Iterator[PlannedTraining]:
    """Every training of a recipe; `model` is a folder to take for their base, `engine` what the settings choose.

    Raises:
        Invalid: a setting is made by another step
        NotFound: a base model is neither at hand nor well known
    """
    steps = {step.name: step for step in recipe.steps}
    for step in recipe.steps:
        if step.kind in TRAININGS:
            config = _config(step)
            base = _base(step, steps)
            shape = read_shape(model) if model is not None else _shape(base, artifact)
            wanted = step.spec.get("engine") or engine
            yield PlannedTraining(step.name, step.kind, base, config, shape, _engine(wanted, config))
        elif step.kind == AXOLOTL:
            spec = _reading(step)
            settings = spec.read().settings
            base = _base(step, steps) if spec.base_model else str(settings["base_model"])
            shape = read_shape(model) if model is not None else _shape(base, artifact)
            yield PlannedTraining(step.name, step.kind, base, in_our_words(settings), shape, "axolotl")


def _reading(step: Step) -> Any:
    """The spec of a step with an axolotl file, as far as its reading depends on it."""
    if looks_wired(step.spec["config"]):
        raise Invalid(f"step {step.name}: config is made by another step, so its memory cannot be planned yet")
    told = {name: step.spec.get(name) for name in ("config", "base_model", "dataset", "holdout")}
    return find_job_type(step.kind).spec.model_validate(told)


def _config(step: Step) -> TrainingConfig:
    fields = find_job_type(step.kind).spec.model_fields
    told: dict[str, Any] = {}
    for name in TrainingConfig.model_fields:
        if name in fields:
            told[name] = step.spec.get(name, fields[name].get_default())
    wired = [name for name, value in told.items() if looks_wired(value)]
    if wired:
        raise Invalid(f"step {step.name}: {wired[0]} is made by another step, so its memory cannot be planned yet")
    return TrainingConfig(**({"method": "full"} if "method" not in fields else {}), **told)


def _base(step: Step, steps: dict[str, Step]) -> str:
    """How the base model is called; one that a step pulls, by the name it is pulled by."""
    named = str(step.spec["base_model"])
    reference = as_reference(named)
    if reference is None:
        return named
    source = steps.get(reference.step)
    if source is None or source.kind != PULL:
        raise NotFound(
            f"step {step.name}: its base model {named} is still to be made; --model FOLDER names a folder with its "
            "config.json"
        )
    return str(source.spec["model"])


def _shape(base: str, artifact: Callable[[str], Path]) -> ModelShape:
    """From a folder, from what was pulled, or from the facts that come with Tuneyard, in this order."""
    if Path(base).is_dir():
        return read_shape(Path(base))
    try:
        return read_shape(artifact(base))
    except NotFound:
        return known_shape(base)


def _engine(wanted: str, config: TrainingConfig) -> EngineName:
    """As the training itself chooses, but without asking that it be installed here."""
    return choose_engine("auto", config) if wanted == "auto" else cast("EngineName", wanted)
