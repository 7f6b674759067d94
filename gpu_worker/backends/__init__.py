"""Engines: who trains. What comes before and after a run is the same for each (`gpu_worker.training`)."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Protocol, cast

from queue_app.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_worker.backends.hardware import Hardware
    from gpu_worker.child_side import Channel
    from gpu_worker.fitting.machine import Machine
    from gpu_worker.fitting.prediction import Prediction
    from gpu_worker.fitting.shape import ModelShape
    from gpu_worker.measured import Measured
    from gpu_worker.training_config import Engine, EngineName, RunConfig, TrainingConfig, TrainingOrder


class Backend(Protocol):
    """A module of this package. Importing it imports no engine, so the worker may ask it for an estimate."""

    def validate(self, config: TrainingConfig, hardware: Hardware) -> None:
        """See that this engine can do here what the config asks, before anything is loaded.

        Raises:
            Invalid: it cannot; says why and what can
        """

    def estimate(
        self, shape: ModelShape, config: TrainingConfig, machine: Machine, length: int | None = None
    ) -> Prediction:
        """What a run takes with this engine; as `gpu_worker.fitting.prediction.predict`."""

    def train(self, order: TrainingOrder, channel: Channel, checkpoint: Path | None) -> Measured:
        """Train, from a checkpoint if there is one, and write the order's `output`. In the child alone.

        Before it imports or starts the engine, nothing may have imported TRL or transformers.

        Raises:
            Stopped: it was asked to stop, and has saved
            Invalid: as `validate`
            Permanent: the run is lost, or this machine cannot do what the config asks
        """


def choose_engine(wanted: Engine, config: RunConfig | None = None) -> EngineName:
    """The engine that is meant; `auto` is Unsloth where it is installed and can. Imports none, nor looks for axolotl.

    Raises:
        Invalid: it is not installed
    """
    if wanted == "auto":
        unable = config and (config.objective != "sft" or config.cards > 1 or config.packing == "bfd")
        return "unsloth" if _is_installed("unsloth") and not unable else "trl"
    if wanted != "axolotl" and not _is_installed(wanted):
        raise Invalid(
            f"engine {wanted} is not installed here; `pip install --no-deps -r requirements-unsloth.lock` adds "
            "Unsloth, and engine: trl needs nothing more"
            if wanted == "unsloth"
            else 'engine trl is not installed here; `pip install "tuneyard[train]"` adds it'
        )
    return wanted


def load_backend(engine: EngineName) -> Backend:
    """The module of an engine."""
    return cast("Backend", importlib.import_module(f"gpu_worker.backends.{engine}"))


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
