"""What a yard is to run: the Procfile's lines as processes, and the environment they all share."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from honcho.colour import get_colours
from honcho.environ import parse_procfile

from queue_app.errors import Invalid
from queue_app.process_family import yard_mark
from queue_app.yard_process import Pace, YardProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


@dataclass(frozen=True)
class Yard:
    """What is to run."""

    procfile: Path
    home: Path
    ready: Callable[[], object]  # returns when the broker answers, raises Transient while it does not
    counts: Mapping[str, int] = field(default_factory=dict)  # by Procfile name; 1 unless named, 0 for none
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    own_env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by process (gpu.1), beside `env`
    only: Collection[str] | None = None  # Procfile names; None for all
    first: str = "broker"  # started and awaited before the others, ended after them
    pace: Pace = Pace()

    def processes(self) -> list[YardProcess]:
        """The processes, none of them started.

        Raises:
            Invalid: the Procfile cannot be used, or nothing of it is left to run
        """
        try:
            lines: dict[str, str] = parse_procfile(self.procfile.read_text()).processes
        except (OSError, AssertionError) as error:  # honcho asserts that names are unique
            raise Invalid(f"{self.procfile} cannot be used: {error}") from error
        wanted = set(lines) if self.only is None else set(self.only)
        if missing := sorted((wanted | set(self.counts)) - set(lines)):
            raise Invalid(f"{self.procfile} has no line {', '.join(missing)}; it has {', '.join(lines)}")
        names = [f"{line}.{i + 1}" for line in lines if line in wanted for i in range(self.counts.get(line, 1))]
        if not names:
            raise Invalid(f"{self.procfile}: nothing is left to run; ask for one of {', '.join(lines)}")
        mark = yard_mark(self.home)
        return [
            YardProcess(name, shlex.split(lines[name.rpartition(".")[0]]), colour, mark + name, self.pace)
            for name, colour in zip(names, get_colours(), strict=False)
        ]

    def environment_of(self, process: YardProcess) -> dict[str, str]:
        """`tuneyard` may have been called by its path: its neighbours are found all the same."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{self.env.get('PATH', os.defpath)}"
        return {**self.env, "PATH": path, "PYTHONUNBUFFERED": "1", **self.own_env.get(process.name, {})}
