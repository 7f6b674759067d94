"""A yard of real processes, and real work for it."""

from __future__ import annotations

import json
import pydoc_data.topics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_model import make_tiny_model
from tests.yard import Yard

QUICK = {
    "TUNEYARD_QUEUE__LEASE_SECONDS": "3",
    "TUNEYARD_QUEUE__SWEEP_SECONDS": "0.2",
    "TUNEYARD_QUEUE__BACKOFF_SECONDS": "0.2",
}


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """A broker and a sweeper; tests start the workers they want to see die."""
    yard = Yard(tmp_path / "yard", dict(QUICK))
    try:
        yard.start("broker", "sweeper")
        yield yard
    finally:
        yard.stop()


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(make_tiny_model(tmp_path / "tiny"))


@pytest.fixture
def texts(tmp_path: Path) -> str:
    """So much real text that preparing it takes seconds."""
    folder = tmp_path / "texts"
    folder.mkdir()
    text = "\n\n".join(pydoc_data.topics.topics.values())
    for number in range(24):
        (folder / f"{number:03}.txt").write_text(text)
    return str(folder)


@pytest.fixture
def examples(tmp_path: Path) -> str:
    """A small dataset of chat examples."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"the yard {n}"},
                {"role": "assistant", "content": f"runs train {n}"},
            ]
        }
        for n in range(24)
    ]
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
