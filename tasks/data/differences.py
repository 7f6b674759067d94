"""A difference between two datasets as it is shown: fields that changed, some examples, distributions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.diffing import at, changed_fields
from tasks.data.likeness.saying import said
from tasks.data.quoting import quoted
from tasks.data.record import Record, encode
from tasks.data.reporting.markdown import plain
from tasks.data.scratch.spool import Spool

if TYPE_CHECKING:
    from tasks.data.diffing import Difference, Pairs, Version
    from tasks.data.profiling import Profile

Again = Callable[[], Iterable[Record]]  # reads a version once more
BREAKDOWNS = ("category", "difficulty", "source_agent", "target_agent", "weights")


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """An example that changed, came or went; the texts are masked where they could be personal."""

    kind: str
    prompt: str
    before_line: int | None = None
    after_line: int | None = None
    before: str = ""  # the answer
    after: str = ""
    fields: list[str] = []


def count_relabelled(pairs: Pairs, before: Iterable[Record], after: Again, scratch: Path) -> Counter[str]:
    """In how many pairs each field changed; what is compared waits in an unnamed file."""
    counts: Counter[str] = Counter()
    if not len(pairs):
        return counts
    import numpy as np

    order = np.argsort(pairs.after)
    with Spool(scratch) as spool:
        for record in at(before, pairs.before.tolist()):
            spool.append(encode(record))
        for number, record in zip(order.tolist(), at(after(), pairs.after[order].tolist()), strict=True):
            counts.update(changed_fields(msgspec.json.decode(spool.read(number), type=Record), record))
    return counts


def sample_difference(
    found: Difference, versions: tuple[Version, Version], again: tuple[Again, Again], most: int
) -> list[Sample]:
    """The first few of each kind."""
    wanted: dict[str, tuple[list[int], list[int]]] = {
        "reanswered": (found.reanswered.before[:most].tolist(), found.reanswered.after[:most].tolist()),
        "relabelled": (found.relabelled.before[:most].tolist(), found.relabelled.after[:most].tolist()),
        "removed": (found.removed[:most].tolist(), []),
        "added": ([], found.added[:most].tolist()),
    }
    sides = []
    for side in (0, 1):
        positions = sorted(position for pair in wanted.values() for position in pair[side])
        sides.append(dict(zip(positions, at(again[side](), positions), strict=True)))
    samples = []
    for kind, (old, new) in wanted.items():
        for number in range(max(len(old), len(new))):
            places = [positions[number] if positions else None for positions in (old, new)]
            samples.append(_sample(kind, places, versions, sides))
    return samples


def _sample(
    kind: str, places: list[int | None], versions: tuple[Version, Version], sides: list[dict[int, Record]]
) -> Sample:
    lines = [None if place is None else versions[side].lines[place] for side, place in enumerate(places)]
    records = [None if place is None else sides[side][place] for side, place in enumerate(places)]
    old, new = records
    shown = old or new
    answers = ["" if record is None else quoted(said(record.messages[-1:])) for record in records]
    return Sample(
        kind=kind,
        prompt=quoted(said(shown.messages[:-1])) if shown else "",
        before_line=lines[0],
        after_line=lines[1],
        before=answers[0],
        after=answers[1],
        fields=changed_fields(old, new) if old and new else [],
    )


def show_difference(
    folder: Path,
    names: tuple[str, str],
    figures: Mapping[str, Any],
    profiles: tuple[Profile, Profile],
    samples: list[Sample],
) -> None:
    """Write diff.json and diff.md."""
    folder.mkdir(parents=True)
    told = {"before": names[0], "after": names[1], **figures}
    sides = {name: msgspec.to_builtins(profile) for name, profile in zip(("before", "after"), profiles, strict=True)}
    whole = told | {"samples": msgspec.to_builtins(samples), "profiles": sides}
    (folder / "diff.json").write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")
    (folder / "diff.md").write_text("\n".join(_lines(told, profiles, samples)) + "\n", encoding="utf-8")


def _lines(told: Mapping[str, Any], profiles: tuple[Profile, Profile], samples: list[Sample]) -> Iterator[str]:
    yield f"# Dataset diff\n\n{plain(told['before'])} → {plain(told['after'])}\n"
    yield "| | examples |\n|---|---:|"
    for name in ("kept", "added", "removed", "reanswered", "relabelled"):
        yield f"| {name} | {told[name]:,} |"
    if told["relabelled_fields"]:
        yield "\n## Fields that changed\n\n| field | examples |\n|---|---:|"
        yield from (f"| {plain(name)} | {count:,} |" for name, count in told["relabelled_fields"].items())
    yield "\n## Distributions\n\n| | before | after | change |\n|---|---:|---:|---:|"
    yield from _compared(profiles)
    for kind in dict.fromkeys(sample.kind for sample in samples):
        yield f"\n## {kind.capitalize()}: the first ones\n"
        yield "| before | after | prompt | answer before | answer after | fields |"
        yield "|---:|---:|---|---|---|---|"
        for sample in samples:
            if sample.kind == kind:
                lines = ["" if line is None else f"line {line}" for line in (sample.before_line, sample.after_line)]
                texts = [sample.prompt, sample.before, sample.after, ", ".join(sample.fields)]
                yield f"| {' | '.join([*lines, *map(plain, texts)])} |"


def _compared(profiles: tuple[Profile, Profile]) -> Iterator[str]:
    """One figure a line, before and after."""
    flat = [_flat(profile) for profile in profiles]
    for name in dict.fromkeys([*flat[0], *flat[1]]):
        old, new = (side.get(name, 0) for side in flat)
        yield f"| {plain(name)} | {old:,} | {new:,} | {new - old:+,} |"


def _flat(profile: Profile) -> dict[str, int | float]:
    figures: dict[str, int | float] = {"examples": profile.examples, "messages": profile.messages}
    for name, sizes in profile.tokens.items():
        figures |= {f"tokens ({name})": sizes.total, "tokens, mean": sizes.mean, "tokens, median": sizes.p50}
        figures |= {"tokens, 95th percentile": sizes.p95, "tokens, longest": sizes.maximum}
    figures["weight in all"] = profile.weight_total
    for name in BREAKDOWNS:
        found = getattr(profile, name)
        figures |= {f"{name.removesuffix('s')}: {value}": count for value, count in found.values.items()}
        if found.values and found.missing:
            figures[f"{name.removesuffix('s')}: none"] = found.missing
    return figures
