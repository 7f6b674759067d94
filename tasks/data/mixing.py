"""Cross-agent learning: every agent learns from the others' examples too, as far as these are compatible with it."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.reading import unfit
from tasks.data.record import content_hash
from tasks.data.strata import weight_of
from tasks.data.writing import DatasetWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from tasks.data.compatibility import Compatibility
    from tasks.data.reading import Row
    from tasks.data.record import Record

BASE = "base"  # the key in `metadata` of the content hash of the example that a copy was made of


@dataclass
class Mixture:
    """Examples of agents becoming examples for agents, and what became of them by number."""

    compatibility: Compatibility
    assign: bool = False  # the examples have no agent yet: deal them out by content
    min_weight: float = 0.0
    bases: Counter[str] = field(default_factory=Counter)  # by source agent
    examples: Counter[str] = field(default_factory=Counter)  # by target agent
    light: int = 0  # copies left out: below `min_weight`, or of weight 0

    def mix(self, rows: Iterable[Row], agent: str | None = None) -> Iterator[Record]:
        """A copy of every example for every agent that takes it; `agent` is whose they all are, if that is known.

        Raises:
            Permanent: an example has no agent, another than `agent`, or an unknown one, or is a mixture's copy already
        """
        for row in rows:
            try:
                yield from self._copies(row.record, agent)
            except ValueError as error:
                raise unfit(row, str(error)) from error

    def check_complete(self) -> None:
        """See that every agent gave an example and got one.

        Raises:
            Permanent: names those that did not
        """
        agents, file = self.compatibility.agents, self.compatibility.file.name
        if empty := [f'"{agent}"' for agent in agents if not self.bases[agent]]:
            told = f"no example is of {', '.join(empty)}; give some, or take row and column out of {file}"
            raise Permanent(told, cause=Cause.DATA)
        if empty := [f'"{agent}"' for agent in agents if not self.examples[agent]]:
            told = f"{self.light:,} copies are too light, and none is left for {', '.join(empty)}; lower min_weight"
            raise Permanent(told, cause=Cause.DATA)

    def _copies(self, record: Record, agent: str | None) -> Iterator[Record]:
        if BASE in record.metadata:
            raise ValueError(
                f"metadata.{BASE}: a mixture names here what a copy was made of, and something stands there; mix the "
                "examples from before the mixture, or rename the key"
            )
        base = content_hash(record)
        source = self._source(record, agent, base)
        own = weight_of(record)
        self.bases[source] += 1
        metadata = record.metadata | {BASE: base}
        for target, share in self.compatibility.targets(source):
            weight = own * share
            if not weight or weight < self.min_weight:
                self.light += 1
                continue
            self.examples[target] += 1
            yield replace(record, source_agent=source, target_agent=target, weight=weight, metadata=metadata)

    def _source(self, record: Record, agent: str | None, base: str) -> str:
        found = record.source_agent
        if self.assign:
            if found is not None:
                raise ValueError(f'source_agent: the example is of "{found}" already; take assign=true off')
            agents = self.compatibility.agents
            return agents[int(base[:16], 16) % len(agents)]
        if found is not None and agent is not None and found != agent:
            raise ValueError(f'source_agent: "{found}" stands in the dataset of "{agent}"; correct one of them')
        source = found or agent
        if source is None:
            raise ValueError("source_agent: is missing; add it, give a dataset for each agent, or set assign=true")
        self.compatibility.check_known(source)
        return source


class Outlets:
    """Where a mixture goes: one dataset, or one for each target agent. Complete or absent, all of them together."""

    def __init__(self, folder: Path, agents: Sequence[str]) -> None:
        self.writers: dict[str | None, DatasetWriter] = {
            agent: DatasetWriter(folder / f"{number:03}") for number, agent in enumerate(agents)
        } or {None: DatasetWriter(folder)}
        self._whole = self.writers.get(None)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            for writer in self.writers.values():
                opening.enter_context(writer)
            self._open = opening.pop_all()
        return self

    def write(self, record: Record) -> None:
        (self._whole or self.writers[record.target_agent]).write(record)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.__exit__(kind, error, at)
