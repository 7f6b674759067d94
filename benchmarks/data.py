"""What the work on a data set costs, beside the obvious script: MB/s, examples/s and peak memory of every step.

At the end stands what is found of planted near duplicates, personal data and secrets: precision and recall.

python benchmarks/data.py [--rows FILE] [--examples 99990] [--text-dedup PYTHON] [--large]

The set is made by `dataset.mix` from real text (Python's language reference, or --rows), with planted personal data and
copies. Ours are the commands as a user types them, start of the interpreter, hashing and publishing included; the other
side is one process per step too. What a side needs beyond this project is left out, and said, where it is not there:
`pip install datasketch` for the obvious audit; `--text-dedup` names the interpreter of another environment, made by
`python -m venv V; V/bin/pip install --no-deps text-dedup; V/bin/pip install "datasets<4" click-option-group scipy ftfy
regex rich xxhash` (with its dependencies text-dedup brings Spark and TensorFlow, which its MinHash does not use).

--large runs each step on 200 MiB and on 2 GiB instead, for what grows with the input; it takes 10 GiB of disk and some
half an hour.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import re
import shutil
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
PASSAGES = 6000  # with planted personal data
PROSE = 600  # texts, every second of which gets a near duplicate; all pairs are counted, so not more
SETTING = {"COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": ""}  # modules are compiled once, as they are where installed
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

    @property
    def shown(self) -> str:
        return f"{self.seconds:.1f} s, {self.cpu_seconds:.1f} CPU s, {self.peak_mib:.0f} MiB"


def run(command: list[str], cores: int, home: Path) -> Cost:
    """Run a command on so many cores and wait for it."""
    home.mkdir(exist_ok=True)
    taken = sorted(os.sched_getaffinity(0))[:cores]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, taken)), *command],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=home,
            env={**os.environ, **SETTING, "PYTHONPATH": str(ROOT), "TUNEYARD_HOME": str(home)},
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


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=lambda text: Path(text).resolve(), help="JSON Lines with question and answer")
    asked.add_argument("--examples", type=int, default=99_990)
    asked.add_argument("--text-dedup", help="a Python that has text-dedup")
    asked.add_argument("--large", action="store_true", help="200 MiB and 2 GiB, and nothing beside them")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        made = make_set(home, given)
        if given.large:
            compare_sizes(made)
        else:
            compare(made)
            compare_near(made, given.text_dedup)
            tell_found()


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


def tuneyard(*words: str) -> list[str]:
    return [sys.executable, "-c", CALL, "data", *words]


def make_set(home: Path, given: argparse.Namespace) -> Made:
    """Plant, mix for fifteen agents, and say what came of it."""
    rows = base_rows(given.rows, given.examples // AGENTS)
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


def compare(made: Made) -> None:
    """Run every step on one and on two cores, then the obvious script, and print the table."""
    print("| step | cores | seconds | CPU seconds | MB/s | examples/s | peak MiB | obvious script | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    ours = theirs = 0.0
    cost = Cost(0, 0, 0, "")
    for step, words in made.steps().items():
        other = obvious(step, made)
        for cores in (1, 2):
            cost = run(tuneyard(*words, "--no-reuse", "-q"), cores, made.home)
            beside = f"{other.shown} | {other.seconds / cost.seconds:.1f}" if other else "– | –"
            print(
                f"| {step} | {cores} | {cost.seconds:.1f} | {cost.cpu_seconds:.1f} | {made.size_mb / cost.seconds:.0f} "
                f"| {made.examples / cost.seconds:,.0f} | {cost.peak_mib:.0f} | {beside} |"
            )
        if other:
            ours, theirs = ours + cost.seconds, theirs + other.seconds
    print(f"\nall steps on two cores {ours:.1f} s, the obvious script {theirs:.1f} s: {theirs / ours:.1f} times")
    if hugging_face := obvious("convert, datasets.map", made):
        ours = run(tuneyard(*made.steps()["convert"], "--no-reuse", "-q"), 2, made.home).seconds
        print(
            f"convert by datasets.map: {hugging_face.shown}; ours {ours:.1f} s, ratio {hugging_face.seconds / ours:.1f}"
        )


def compare_near(made: Made, python: str | None) -> None:
    """Removing near duplicates, by us and by text-dedup, on two cores and of the same texts."""
    if python is None:
        print("(text-dedup is left out: --text-dedup names a Python that has it, see --help)")
        return
    words = ["dedupe", str(made.file), "keep_reuse=false", "--no-reuse", "--json"]
    cost = run(tuneyard(*words), 2, made.home)
    kept = json.loads(cost.output[cost.output.index("{") :])["result"]["examples"]
    texts, out = made.home / "texts.jsonl", made.home / "text-dedup"
    with made.file.open(encoding="utf-8") as lines, texts.open("w", encoding="utf-8") as target:
        for line in lines:
            text = " ".join(message["content"] for message in json.loads(line)["messages"])
            target.write(json.dumps({"text": text}) + "\n")
    options = "--path json --split train --column text --num_perm 128 --threshold 0.85 --ngram 5 --min_length 1"
    files = ["--data_files", str(texts), "--output", str(out), "--cache_dir", str(made.home / "cache")]
    theirs = run([python, "-m", "text_dedup.minhash", *options.split(), "--num_proc", "2", *files], 2, made.home)
    left = re.findall(r"After\s*: (\d+)", theirs.output)
    if not left:
        sys.exit(f"\ntext-dedup says nothing of what stays:\n{theirs.output[-2000:]}")
    print(f"near duplicates removed: ours {cost.shown}, {kept:,} examples stay; ", end="")
    print(f"text-dedup {theirs.shown}, {int(left[-1]):,} stay: ratio {theirs.seconds / cost.seconds:.1f}")


def tell_found() -> None:
    """What is found of what was planted: a regression figure, for the generators are our own, and not the field's."""
    from tests.data.planted import MAKERS, passages, tally
    from tests.data.planted_copies import tally_copies

    told, kinds = tally(passages(7, PASSAGES)), sorted(MAKERS)
    right, claimed, planted = (
        sum(counted[kind] for kind in kinds) for counted in (told.right, told.claimed, told.planted)
    )
    copies = tally_copies(seed=7, texts=PROSE)
    print("\n| planted and found | planted | precision | recall |\n|---|---|---|---|")
    print(f"| near duplicates | {len(copies.true):,} | {copies.precision:.3f} | {copies.recall:.3f} |")
    print(f"| personal data and secrets | {planted:,} | {right / claimed:.3f} | {right / planted:.3f} |")
    for name in sorted(told.planted):  # a form has no precision: a finding has a type, and no form
        precision = f"{told.precision(name):.3f}" if name in MAKERS else ""
        print(f"| {name} | {told.planted[name]:,} | {precision} | {told.recall(name):.3f} |")


def compare_sizes(made: Made) -> None:
    """Every step on 200 MiB and on 2 GiB: peak memory shall not grow."""
    print("| step | MiB | examples | seconds | CPU seconds | MB/s | peak MiB |\n|---|---|---|---|---|---|---|")
    streaming = ["duplicates=false", "contradictions=false"]
    for mib in (200, 2048):
        large = enlarge(made, mib)
        steps = large.steps()
        steps |= {"audit, its streaming parts": [*steps["audit"], *streaming], "audit": steps.pop("audit")}
        for step, words in steps.items():
            home = made.home / "large"
            cost = run(tuneyard(*words, "--no-reuse", "-q"), 2, home)
            print(
                f"| {step} | {mib} | {large.examples:,} | {cost.seconds:.0f} | {cost.cpu_seconds:.0f} "
                f"| {large.size_mb / cost.seconds:.0f} | {cost.peak_mib:.0f} |",
                flush=True,
            )
            shutil.rmtree(home)
        large.file.unlink()


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


def obvious(step: str, made: Made) -> Cost | None:
    """The step as a script that anybody would write; None where a library that it needs is not installed."""
    if step == "audit" and importlib.util.find_spec("datasketch") is None:
        print("(datasketch is not installed: the obvious audit is left out)")
        return None
    setting = f"import json, sys\nsource, target = {str(made.file)!r}, {str(made.home / 'obvious.jsonl')!r}\n"
    return run([sys.executable, "-c", setting + OBVIOUS[step]], 2, made.home)


if __name__ == "__main__":
    main()
