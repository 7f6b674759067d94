"""Where base models come from: one module each, run as a child process by `model.pull`.

Every one is handed `{"model", "revision", "token", "folder"}`, fills `folder` or raises, and answers nothing: what was
made is read from the folder.
"""

from __future__ import annotations

from pathlib import Path

PACKAGED = ("smollm2-135m",)


def source_of(model: str) -> tuple[str, str]:
    """The module that fetches `model`, and the name that the model gets."""
    if model.lower() in PACKAGED:
        return "gpu_worker.sources.package", model.lower()
    if Path(model).is_absolute():
        return "gpu_worker.sources.folder", Path(model).name.lower()
    return "gpu_worker.sources.hub", model
