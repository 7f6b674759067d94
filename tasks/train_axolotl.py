"""`axolotl.train`: an axolotl file that the user has, run by the axolotl that the user has."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from gpu_worker.axolotl.program import ask, find_axolotl
from gpu_worker.axolotl.users_file import check_known, read_file, sets_of
from gpu_worker.axolotl.words import in_our_words
from gpu_worker.base_model import read_model
from gpu_worker.fitting.allowances import Allowances
from gpu_worker.fitting.repairing import train_within_memory
from gpu_worker.training_config import AxolotlOrder, TrainingOrder
from queue_app.errors import Invalid, Permanent, Transient
from queue_app.job_type import ArtifactRef, Attempt, InputPath, job
from tasks.data.examples import write_prompts_and_completions
from tasks.train_adapter import TrainedAdapter, figures

if TYPE_CHECKING:
    from gpu_worker.axolotl.program import Schema
    from gpu_worker.axolotl.users_file import UsersFile
    from settings import Settings


class TrainAxolotl(Allowances):
    """Runs an axolotl file; what is given here goes before what stands in it."""

    config: InputPath = Field(description="an axolotl YAML file")
    base_model: ArtifactRef | None = Field(None, description="the model to tune; default: the file's, as it is called")
    dataset: ArtifactRef | None = Field(
        None, description="what to train on (its completions), in place of the file's datasets and holdout"
    )
    holdout: ArtifactRef | None = Field(None, description="held out, in place of the file's own")
    checkpoint: Literal["best", "last"] | Annotated[int, Field(ge=1)] | None = Field(
        None, description="what is published: best, last, or that of a step; default: best with a holdout, else last"
    )

    def read(self) -> UsersFile:
        """The file, checked as far as it can be without axolotl.

        Raises:
            Invalid: all that is wrong with it, with the lines
        """
        replaced = {"has_base": self.base_model is not None, "has_dataset": self.dataset is not None}
        file = read_file(Path(self.config), has_holdout=self.holdout is not None, **replaced)
        _check_checkpoint(self, file.settings)
        return file

    def also_reads(self) -> list[str]:
        """The base model and the files of examples that the file names."""
        told = self.read().settings
        base = [] if self.base_model else [str(told["base_model"])]
        return [*base, *map(str, sets_of(told, "datasets") + sets_of(told, "test_datasets"))]

    @model_validator(mode="after")
    def _look_early(self, info: ValidationInfo) -> Self:
        """Where a job is submitted its file is at hand, and an axolotl may be."""
        context = info.context or {}
        if "base" not in context or not Path(self.config).is_file():
            return self
        try:
            file = self.read()
            settings: Settings | None = context.get("settings")
            schema = None if settings is None else _known_here(settings.training.axolotl, file)
            if schema is not None:
                check_known(file, schema)
        except Invalid as error:
            raise ValueError(str(error)) from error
        return self


@job("axolotl.train", queues=("gpu",), pausable=True)
def train_axolotl(spec: TrainAxolotl, attempt: Attempt) -> TrainedAdapter:
    """Train an adapter as an axolotl file says, with the axolotl that is installed."""
    file, program = spec.read(), find_axolotl(attempt.settings.training.axolotl)
    check_known(file, ask(program, file.settings))
    hold_to(file, attempt)
    for note in file.notes:
        attempt.log.warning("%s", note)
    order = _order(spec, attempt, AxolotlOrder(program=program, settings=file.settings))
    made = train_within_memory(attempt, order, spec)
    (order.output / "axolotl.yml").write_text(file.text, encoding="utf-8")  # beside what it made
    adapter = attempt.artifacts.publish(order.output, kind="adapter")
    return TrainedAdapter(adapter=adapter, **figures(made))


def hold_to(file: UsersFile, attempt: Attempt) -> None:
    """See that a later attempt goes on with the file that the run has begun with.

    Raises:
        Permanent: it was changed meanwhile
    """
    own = hashlib.sha256(file.text.encode()).hexdigest()
    if attempt.once("axolotl file", lambda _: own) != own:
        raise Permanent(
            f"{file.document.origin} has changed since the run began: put back what it said, then `tuneyard jobs retry "
            f"{attempt.job_id}`, or submit it as a new job"
        )


def _order(spec: TrainAxolotl, attempt: Attempt, axolotl: AxolotlOrder) -> TrainingOrder:
    """What the child is to do; writes the rows that it reads.

    Raises:
        Permanent: there is no such base model, or an example cannot be trained on
    """
    base = spec.base_model or str(axolotl.settings["base_model"])
    folder = attempt.artifacts.resolve(base)
    config = in_our_words(axolotl.settings)
    context = read_model(folder).context_length or config.sequence_len
    changed = {"sequence_len": min(config.sequence_len, context), "checkpoint": spec.checkpoint}
    return TrainingOrder(
        engine="axolotl",
        name=attempt.job_id,
        base_model=Path(base).name if Path(base).is_absolute() else base,
        model_folder=folder,
        rows=_rows(attempt, spec.dataset, "train") or _joined(attempt, sets_of(axolotl.settings, "datasets")),
        holdout_rows=_rows(attempt, spec.holdout, "holdout"),
        checkpoints=attempt.workdir / "checkpoints",
        output=attempt.workdir / "trained",
        curves=attempt.workdir / "tensorboard",
        hyperparameters=config.model_copy(update=changed),
        axolotl=axolotl,
    )


def _rows(attempt: Attempt, ref: str | None, name: str) -> Path | None:
    """A dataset as the trainer reads it, in the job's own folder."""
    if ref is None:
        return None
    path = attempt.workdir / f"{name}.jsonl"
    write_prompts_and_completions(path, attempt.artifacts.resolve(ref))
    return path


def _joined(attempt: Attempt, sets: list[Path]) -> Path:
    """The file's own examples in one, for counting: axolotl reads them where they are."""
    if len(sets) == 1:
        return sets[0]
    path = attempt.workdir / "train.jsonl"
    with path.open("wb") as file:
        for each in sets:
            file.write(each.read_bytes().rstrip(b"\n") + b"\n")
    return path


def _check_checkpoint(spec: TrainAxolotl, settings: dict[str, Any]) -> None:
    """See that what is to be published will be written.

    Raises:
        Invalid: it will not
    """
    step, often = spec.checkpoint, settings.get("save_steps")
    own = settings.get("test_datasets") or (settings.get("val_set_size") and not spec.dataset)
    if step == "best" and not (own or spec.holdout):
        raise Invalid("checkpoint best is the one of the least holdout loss; give a holdout, or take last")
    if isinstance(step, int) and isinstance(often, int) and step % often and step != settings.get("max_steps"):
        raise Invalid(f"checkpoint {step} is never written: there is one at every {often}th step (save_steps)")


def _known_here(program: Path | None, file: UsersFile) -> Schema | None:
    """What an axolotl of this host knows, if one answers: the worker, which may be elsewhere, asks its own."""
    try:
        return ask(find_axolotl(program), file.settings)
    except (Invalid, Permanent, Transient):
        return None
