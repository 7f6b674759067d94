"""What the work on a data set costs, beside the obvious script: MB/s, examples/s and peak memory of every step.

python benchmarks/data.py [--rows FILE] [--examples 99990]

The set is made by `dataset.mix` from real text (Python's language reference, or --rows), with planted personal data and
copies. Ours are the commands as a user types them, start of the interpreter, hashing and publishing included; the other
side is one process per step too. Its near duplicates need `pip install datasketch`; without it that row is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
AGENTS = 15
CALL = "import sys; from queue_app.cli import main; main()"

OBVIOUS = {
    "convert": """
with open(source) as lines, open(target, "w") as out:
    for line in lines:
        out.write(json.dumps({"messages": json.loads(line)["messages"]}) + "\\n")
""",
    "check": """
import tiktoken
from mistral_common.tokens.tokenizers import tekken
vocabulary = tekken.Tekkenizer.from_file(tekken.__file__.replace("tokenizers/tekken.py", "../data/tekken_240911.json"))
encoding = vocabulary._model
bad = tokens = 0
with open(source) as lines:
    for line in lines:
        messages = json.loads(line)["messages"]
        bad += messages[-1]["role"] != "assistant" or not all(m["content"].strip() for m in messages)
        tokens += sum(len(encoding.encode_ordinary(m["content"])) for m in messages)
""",
    "audit": """
import re
from collections import Counter
from datasketch import MinHash, MinHashLSH
patterns = [re.compile(p) for p in (
    r"[\\w.+-]+@[\\w-]+\\.[\\w.]+", r"\\+?\\d[\\d ().-]{7,}\\d", r"\\b\\d{3}-\\d{2}-\\d{4}\\b",
    r"\\b(?:\\d[ -]?){13,16}\\b", r"\\b(?:\\d{1,3}\\.){3}\\d{1,3}\\b", r"sk-\\w{20,}", r"AKIA\\w{16}", r"ghp_\\w{36}")]
index, seen, found, near = MinHashLSH(threshold=0.85, num_perm=128), Counter(), Counter(), 0
with open(source) as lines:
    for number, line in enumerate(lines):
        text = " ".join(m["content"] for m in json.loads(line)["messages"])
        seen[text] += 1
        for pattern in patterns:
            found[pattern.pattern] += bool(pattern.search(text))
        words = text.lower().split()
        sketch = MinHash(num_perm=128)
        for n in range(max(1, len(words) - 4)):
            sketch.update(" ".join(words[n : n + 5]).encode())
        near += bool(index.query(sketch))
        index.insert(str(number), sketch)
""",
    "convert, datasets.map": """
from datasets import load_dataset
rows = load_dataset("json", data_files=source, split="train", cache_dir=target + ".cache")
others = [name for name in rows.column_names if name != "messages"]
rows.map(lambda row: {"messages": row["messages"]}, remove_columns=others).to_json(target)
""",
    "sample": """
import random
from collections import defaultdict
groups = defaultdict(list)
with open(source) as lines:
    for line in lines:
        row = json.loads(line)
        groups[row["target_agent"]].append(row)
total = sum(map(len, groups.values()))
with open(target, "w") as out:
    for rows in groups.values():
        for row in random.sample(rows, round(min(5000, total // 2) * len(rows) / total)):
            out.write(json.dumps(row) + "\\n")
""",
}


@dataclass(frozen=True)
class Cost:
    """What a process took, as the kernel counted it."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


def run(command: list[str], cores: int, home: Path) -> Cost:
    """Run a command on so many cores and wait for it."""
    taken = sorted(os.sched_getaffinity(0))[:cores]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, taken)), *command],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=home,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TUNEYARD_HOME": str(home)},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if process.returncode not in (0, 2):  # 2: a gate said no, which is what planted data is for
        sys.exit(f"{' '.join(command[:8])}…: exit code {process.returncode}\n{text[-2000:]}")
    seconds = time.perf_counter() - began
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, text)


def base_rows(path: Path | None, count: int) -> list[dict[str, Any]]:
    """So many requests and answers; from a file of question and answer, or pieces of Python's language reference."""
    if path is not None:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        pairs = [(row["question"], row["answer"]) for row in rows]
    else:
        texts = [" ".join(text.split()) for text in topics.values()]
        cut = [text[at : at + 480] for text in texts for at in range(0, len(text) - 480, 60)]
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


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=lambda text: Path(text).resolve(), help="JSON Lines with question and answer")
    asked.add_argument("--examples", type=int, default=99_990)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), given)


def compare(home: Path, given: argparse.Namespace) -> None:
    """Make the set, run every step on one and on two cores, then the obvious script, and print the table."""
    rows = base_rows(given.rows, given.examples // AGENTS)
    planted = plant(rows)
    base = home / "base.jsonl"
    base.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tuneyard = [sys.executable, "-c", CALL, "data"]
    matrix = ROOT / "recipes" / "matrices" / "fifteen_agents.csv"
    words = ["mix", str(base), "--compatibility", str(matrix), "assign=true", "--json"]
    mixed = run([*tuneyard, *words], 2, home)
    made = json.loads(mixed.output[mixed.output.index("{") :])["result"]
    source = home / "mixed.jsonl"
    source.write_bytes((home / "artifacts" / made["dataset"][7:] / "content" / "examples.jsonl").read_bytes())
    size = source.stat().st_size / 1e6
    print(f"{made['examples']:,} examples, {size:.1f} MB, {planted} base rows with planted personal data\n")
    steps = {
        "convert": ["convert", str(source), "--to", "openai"],
        "check": ["check", str(source), "--target", "openai", "--fix"],
        "audit": ["audit", str(source)],
        "sample": ["sample", str(source), f"size={min(5000, given.examples // 2)}", "by=target_agent"],
    }
    costs = {
        (step, cores): run([*tuneyard, *words, "--no-reuse", "-q"], cores, home)
        for step, words in steps.items()
        for cores in (1, 2)
    }
    print("| step | cores | seconds | CPU seconds | MB/s | examples/s | peak MiB | obvious script | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    total = {"ours": 0.0, "theirs": 0.0}
    for step in steps:
        theirs = obvious(step, source, home)
        for cores in (1, 2):
            cost = costs[step, cores]
            beside = (
                f"{theirs.seconds:.1f} s, {theirs.peak_mib:.0f} MiB | {theirs.seconds / cost.seconds:.1f}"
                if theirs
                else "– | –"
            )
            figures = f"{cost.seconds:.1f} | {cost.cpu_seconds:.1f} | {size / cost.seconds:.0f}"
            print(
                f"| {step} | {cores} | {figures} | {made['examples'] / cost.seconds:,.0f} "
                f"| {cost.peak_mib:.0f} | {beside} |"
            )
        if theirs:
            total["ours"] += costs[step, 2].seconds
            total["theirs"] += theirs.seconds
    hugging_face = obvious("convert, datasets.map", source, home)
    if hugging_face:
        ratio = hugging_face.seconds / costs["convert", 2].seconds
        figures = f"{hugging_face.seconds:.1f} s, {hugging_face.peak_mib:.0f} MiB"
        print(f"\nconvert by datasets.map: {figures}, ratio {ratio:.1f}")
    print(f"\nmix: {mixed.seconds:.1f} s, {size / mixed.seconds:.0f} MB/s, peak {mixed.peak_mib:.0f} MiB")
    print(f"all steps on two cores {total['ours']:.1f} s, the obvious script {total['theirs']:.1f} s: ", end="")
    print(f"{total['theirs'] / total['ours']:.1f} times")


def obvious(step: str, source: Path, home: Path) -> Cost | None:
    """The step as a script that anybody would write; None where a library that it needs is not installed."""
    if step == "audit" and importlib.util.find_spec("datasketch") is None:
        print("(datasketch is not installed: the obvious audit is left out)")
        return None
    setting = f"import json, sys\nsource, target = {str(source)!r}, {str(home / 'obvious.jsonl')!r}\n"
    return run([sys.executable, "-c", setting + OBVIOUS[step]], 2, home)


if __name__ == "__main__":
    main()
