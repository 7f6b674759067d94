"""The set that is worked on: real text for fifteen agents, with planted personal data and copies."""

from __future__ import annotations

import json
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from benchmarks.dataset.cost import ROOT, run, tuneyard

AGENTS = 15


@dataclass(frozen=True)
class Made:
    """The set that is worked on."""

    home: Path
    file: Path
    examples: int

    @property
    def size_mb(self) -> float:
        return self.file.stat().st_size / 1e6

    def steps(self) -> dict[str, list[str]]:
        """Our commands, by the names of the obvious scripts."""
        source = str(self.file)
        return {
            "convert": ["convert", source, "--to", "openai"],
            "check": ["check", source, "--target", "openai", "--fix"],
            "audit": ["audit", source],
            "sample": ["sample", source, f"size={min(5000, self.examples // 2)}", "by=target_agent"],
        }


def make_set(home: Path, source: Path | None, examples: int) -> Made:
    """Plant, mix for fifteen agents, and say what came of it."""
    rows = base_rows(source, examples // AGENTS)
    planted = plant(rows)
    base = home / "base.jsonl"
    base.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    matrix = ROOT / "recipes" / "matrices" / "fifteen_agents.csv"
    mixed = run(tuneyard("mix", str(base), "--compatibility", str(matrix), "assign=true", "--json"), 2, home)
    told = json.loads(mixed.output[mixed.output.index("{") :])["result"]
    made = Made(home, home / "mixed.jsonl", told["examples"])
    shutil.copyfile(home / "artifacts" / told["dataset"][7:] / "content" / "examples.jsonl", made.file)
    few = home / "few.jsonl"
    few.write_text("".join(json.dumps(row) + "\n" for row in rows[:10]), encoding="utf-8")
    start = run(tuneyard("convert", str(few), "--to", "openai", "-q"), 2, home)
    print(f"{made.examples:,} examples, {made.size_mb:.1f} MB, {planted} base rows with planted personal data")
    print(f"mix: {mixed.seconds:.1f} s, {made.size_mb / mixed.seconds:.0f} MB/s, peak {mixed.peak_mib:.0f} MiB")
    print(f"a command on ten rows, of which all are start-up: {start.seconds:.1f} s, {start.cpu_seconds:.1f} CPU s\n")
    return made


def base_rows(path: Path | None, count: int) -> list[dict[str, Any]]:
    """So many requests and answers; from a file of question and answer, or pieces of Python's language reference."""
    if path is not None:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        pairs = [(row["question"], row["answer"]) for row in rows]
    else:
        texts = [" ".join(text.split()) for text in topics.values()]
        cut = [text[at : at + 480] for text in texts for at in range(0, len(text) - 480, 50)]
        pairs = [(f"Continue: {text[:120]}", text[120:]) for text in cut]
    if len(pairs) < count:
        sys.exit(f"{len(pairs)} rows are too few for {count}; take a smaller --examples")
    return [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}
        for asked, answer in pairs[:count]
    ]


def plant(rows: list[dict[str, Any]], share: float = 0.02) -> int:
    """Put personal data into a share of the answers, and return into how many."""
    sys.path.insert(0, str(ROOT))
    from tests.data.planted import passages

    chosen = random.Random(7).sample(range(len(rows)), int(len(rows) * share))
    for at, passage in zip(chosen, passages(7, len(chosen)), strict=True):
        rows[at]["messages"][1]["content"] += " " + passage.text
    return len(chosen)


def enlarge(made: Made, mib: int) -> Made:
    """The set again and again, each time with another number before the first text, until it is so large."""
    file, examples, size, turn = made.home / "large.jsonl", 0, 0, 0
    with file.open("wb") as out:
        while size < mib << 20:
            turn += 1
            with made.file.open("rb") as lines:
                for line in lines:
                    size += out.write(line.replace(b'"content":"', b'"content":"%d. ' % turn, 1))
                    examples += 1
                    if size >= mib << 20:
                        break
    return Made(made.home, file, examples)
