"""Where base models come from: one module each, run as a child process by `model.pull`.

Every one is handed `{"model", "revision", "token", "folder"}`, fills `folder` or raises, and answers nothing: what was
made is read from the folder.
"""

from __future__ import annotations

from pathlib import Path

from queue_app.errors import Invalid

PACKAGED = {  # name → fingerprint of the model that its package holds
    "smollm2-135m": "sha256:43d69ebdc64346443549b8a6f28e63a80bd517b8a1fb6fbdd44ddfcd3a6789e6",
}


def source_of(model: str) -> tuple[str, str]:
    """The module that fetches `model`, and the name that the model gets.

    Raises:
        Invalid: a folder is called like a model that comes as a package
    """
    if model.lower() in PACKAGED:
        return "gpu_worker.sources.package", model.lower()
    if Path(model).is_absolute():
        name = Path(model).name.lower()
        if name in PACKAGED:
            raise Invalid(f"{model}: the name {name} stands for a model that comes as a package; rename the folder")
        return "gpu_worker.sources.folder", name
    return "gpu_worker.sources.hub", model
