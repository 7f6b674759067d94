"""The files that come with Tuneyard and are not code."""

from __future__ import annotations

from pathlib import Path

from queue_app.errors import NotFound

HERE = Path(__file__).resolve().parent


def find_shipped(name: str) -> Path:
    """The file or folder `name` (`Procfile`, `recipes`): at the root of a clone, inside the package in a wheel.

    Raises:
        NotFound: the installation is incomplete
    """
    for folder in (HERE / "_shipped", HERE.parent):
        if (folder / name).exists():
            return folder / name
    raise NotFound(f"{name} is missing from the installation in {HERE.parent}; install Tuneyard again")
