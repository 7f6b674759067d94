"""A model that lies in a folder already: validated and copied."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gpu_worker.base_model import copy_beside_weights, read_model, weight_files
from gpu_worker.child_side import Channel, child_main


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Copy the weights and everything beside them that is not code into `config["folder"]`."""
    source, folder = Path(config["model"]), Path(config["folder"])
    read_model(source)
    folder.mkdir(parents=True, exist_ok=True)
    copy_beside_weights(source, folder)
    for path in weight_files(source):
        channel.progress(phase=f"copying {path.name}")
        shutil.copyfile(path, folder / path.name)
    return {}


if __name__ == "__main__":
    child_main(run)
