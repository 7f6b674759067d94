"""`model.pull`: a base model from a Python package, the Hugging Face hub, or a folder."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

from pydantic import Field

from gpu_worker.base_model import fingerprint, read_model
from gpu_worker.child import run_child
from gpu_worker.sources import PACKAGED, source_of
from queue_app.errors import Invalid, NotFound
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job

if TYPE_CHECKING:
    from pathlib import Path


class PullModel(Spec):
    """Which base model to fetch."""

    model: ArtifactRef = Field(
        description="smollm2-135m, a name on the Hugging Face hub (organisation/name), or a folder"
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub; default: the newest")


class PulledModel(Result):
    """The model, ready to be tuned."""

    model: str = Field(description="the artifact")
    name: str = Field(description="what recipes can call it")
    parameters: int
    size_mib: float = Field(description="of the weights")
    fetched: bool = Field(description="false: it was here already")
    seconds: float


@job("model.pull", queues=("cpu",))
def pull_model(spec: PullModel, attempt: Attempt) -> PulledModel:
    """Fetch a base model once, in a form that can be trained."""
    started = time.monotonic()
    source, name = source_of(spec.model)
    if spec.revision is not None:
        if not source.endswith(".hub"):
            raise Invalid(f"{spec.model} is not on the hub, so it has no revisions; leave `revision` away")
        name = f"{name}@{spec.revision}"
    kept = _kept(name, attempt) if name in PACKAGED or "/" in name else None
    folder = kept or _fetched(source, spec, attempt)
    facts = read_model(folder)
    return PulledModel(
        model=attempt.artifacts.publish(folder, kind="base-model", name=name),
        name=name,
        parameters=facts.parameters,
        size_mib=facts.size_mib,
        fetched=kept is None,
        seconds=round(time.monotonic() - started, 1),
    )


def _kept(name: str, attempt: Attempt) -> Path | None:
    """What was fetched under a name that only a package or the hub gives; a packaged model must be the very same.

    A name of one word is asked for anew: a folder may have been called so, or an id may begin like it.
    """
    try:
        folder = attempt.artifacts.resolve(name)
        fits = PACKAGED.get(name, "") in ("", fingerprint(folder))
    except (NotFound, Invalid):
        return None
    return folder if fits else None


def _fetched(source: str, spec: PullModel, attempt: Attempt) -> Path:
    folder = attempt.workdir / "model"
    shutil.rmtree(folder, ignore_errors=True)
    token = os.environ.get("HF_TOKEN")  # by the child's pipe: its environment carries no secrets
    order: dict[str, object] = {"model": spec.model, "revision": spec.revision, "token": token, "folder": str(folder)}
    run_child(attempt, source, order)
    return folder
