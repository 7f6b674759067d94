"""Shapes of well-known models that come with Tuneyard, for plans made before the model is pulled.

Each entry holds the model's configuration and the number of parameters that its publisher states; the two are held
against each other whenever a shape is taken from here.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_worker.fitting.dense import dense_tensors
from gpu_worker.fitting.shape import shape_of
from queue_app.errors import Invalid, NotFound
from queue_app.job_type import nearest

if TYPE_CHECKING:
    from gpu_worker.fitting.shape import ModelShape

FACTS = Path(__file__).with_name("known_models.json")


def known_shape(name: str) -> ModelShape:
    """The shape of a well-known model.

    Raises:
        NotFound: its shape does not come with Tuneyard
    """
    known = _entries()
    by_name = {each.lower(): entry for entry in known for each in (entry, *known[entry].get("also", ()))}
    entry = by_name.get(name.lower())
    if entry is None:
        raise NotFound(
            f"{name} is not at hand, and its shape is not among those that come with Tuneyard"
            f"{nearest(name, sorted(known))}; `tuneyard models pull` gets it, or --model FOLDER names a folder "
            "with its config.json"
        )
    config = known[entry]["config"]
    shape = shape_of(config, dense_tensors(config, FACTS.name), f"the facts on {entry} that come with Tuneyard")
    if shape.parameters != known[entry]["parameters"]:
        stated = known[entry]["parameters"]
        raise Invalid(f"{FACTS.name}: {entry} has {shape.parameters:,} parameters by its widths, {stated:,} by name")
    return shape


def known_names() -> list[str]:
    """The models whose shapes come with Tuneyard."""
    return sorted(_entries())


@cache
def _entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = json.loads(FACTS.read_text(encoding="utf-8"))
    return entries
