"""What has been changed about a training's settings, as its folder and the artifact store keep it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NOTES = "fitting.json"  # in the job's folder


@dataclass(frozen=True)
class RunNotes:
    """Which settings a run goes by. Of two notes about one run that of the later attempt counts."""

    attempt: int  # the last that went by them
    changed: dict[str, Any] = field(default_factory=dict)  # setting → value, for memory ran out
    anew_after: int = 0  # the attempt up to which checkpoints do not fit these settings; 0: they all do

    @classmethod
    def parse(cls, text: str | bytes) -> RunNotes:
        return cls(**json.loads(text))

    @classmethod
    def read(cls, folder: Path) -> RunNotes | None:
        """The notes in a job's folder; None: the run has not been here yet."""
        path = folder / NOTES
        return cls.parse(path.read_text(encoding="utf-8")) if path.is_file() else None

    def write(self, folder: Path) -> None:
        part = (folder / NOTES).with_suffix(".part")
        part.write_text(json.dumps(asdict(self)), encoding="utf-8")
        part.replace(folder / NOTES)
