"""Engines: who loads the base model and attaches the adapter. All else of a run is the same for each."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Literal, Protocol, cast

from queue_app.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gpu_worker.backends.hardware import Hardware
    from gpu_worker.training_config import Engine, Objective, TrainingConfig

EngineName = Literal["trl", "unsloth"]


class Backend(Protocol):
    """A module of this package. Importing it imports its engine, so only the child does."""

    PACKAGES: tuple[str, ...]  # whose versions belong to what was measured
    LOSS: str  # TRL's `loss_type`

    def validate(self, config: TrainingConfig, hardware: Hardware) -> None:
        """See that this engine can do here what the config asks, before anything is loaded.

        Raises:
            Invalid: it cannot; says why and what can
        """

    def load(
        self, folder: Path, config: TrainingConfig, hardware: Hardware
    ) -> tuple[PeftModel | PreTrainedModel, PreTrainedTokenizerBase]:
        """The base model with a fresh adapter on it, or for a `full` run itself, ready to train, and its tokenizer.

        Raises:
            Permanent: this machine cannot do what the config asks
        """


def choose_engine(wanted: Engine, objective: Objective = "sft") -> EngineName:
    """The engine that is meant; `auto` is Unsloth where it is installed and can. Imports neither.

    Raises:
        Invalid: it is not installed
    """
    if wanted == "auto":
        return "unsloth" if _is_installed("unsloth") and objective == "sft" else "trl"
    if not _is_installed(wanted):
        raise Invalid(
            f"engine {wanted} is not installed here; `pip install --no-deps -r requirements-unsloth.lock` adds "
            "Unsloth, and engine: trl needs nothing more"
            if wanted == "unsloth"
            else 'engine trl is not installed here; `pip install "tuneyard[train]"` adds it'
        )
    return wanted


def load_backend(engine: EngineName) -> Backend:
    """Import an engine. Before anything else imports TRL or transformers: Unsloth changes them as it is imported."""
    return cast("Backend", importlib.import_module(f"gpu_worker.backends.{engine}"))


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
