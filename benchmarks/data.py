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
import re
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.dataset.cost import ROOT, Cost, run, tuneyard
from benchmarks.dataset.made import Made, enlarge, make_set

PASSAGES = 6000  # with planted personal data
PROSE = 600  # texts, every second of which gets a near duplicate; all pairs are counted, so not more
OBVIOUS = ROOT / "benchmarks" / "obvious"  # scripts


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=lambda text: Path(text).resolve(), help="JSON Lines with question and answer")
    asked.add_argument("--examples", type=int, default=99_990)
    asked.add_argument("--text-dedup", help="a Python that has text-dedup")
    asked.add_argument("--large", action="store_true", help="200 MiB and 2 GiB, and nothing beside them")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        made = make_set(home, given.rows, given.examples)
        if given.large:
            compare_sizes(made)
        else:
            compare(made)
            compare_near(made, given.text_dedup)
            tell_found()


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
    if hugging_face := obvious("convert_by_datasets", made):
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


def obvious(step: str, made: Made) -> Cost | None:
    """The step as a script that anybody would write; None where a library that it needs is not installed."""
    if step == "audit" and importlib.util.find_spec("datasketch") is None:
        print("(datasketch is not installed: the obvious audit is left out)")
        return None
    script = OBVIOUS / f"{step}.py"
    return run([sys.executable, str(script), str(made.file), str(made.home / "obvious.jsonl")], 2, made.home)


if __name__ == "__main__":
    main()
