"""Fine-tunes at four accounts while API workers are killed: Tuneyard, and the obvious Celery program beside it.

python benchmarks/providers.py                       both, as Markdown
python benchmarks/providers.py --side ours --jobs 40 --kills 20 --vendors openai nebius together fireworks

Each account is a sandbox that counts and enforces no limit, so that a slot taken too many shows. Its answers are lost,
late and wrong by chance, drawn from the seed; the same seed draws when which worker gets a SIGKILL.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from api_worker.sandbox.vendor import vendors
from benchmarks.hosted.accounts import SLOTS, accounts
from benchmarks.hosted.obvious_side import obvious
from benchmarks.hosted.outcome import rows_of
from benchmarks.hosted.tuneyard_side import ours
from benchmarks.hosted.workers import Plan
from benchmarks.obvious.celery_program import REDELIVERED_SECONDS

SIDES = {"ours": (ours, "Tuneyard"), "obvious": (obvious, "the obvious Celery program")}


@contextmanager
def folder(*, keep: bool) -> Iterator[Path]:
    """A folder, gone at the end unless it is to be kept. In memory where it can be: no disk is measured here."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    made = Path(tempfile.mkdtemp(prefix="providers-", dir=memory))
    try:
        yield made
    finally:
        if keep:
            sys.stderr.write(f"kept: {made}\n")
        else:
            shutil.rmtree(made)


def main() -> None:
    parser, plan = argparse.ArgumentParser(description=__doc__), Plan()
    parser.add_argument("--side", choices=list(SIDES), action="append")
    parser.add_argument("--jobs", type=int, default=plan.jobs)
    parser.add_argument("--kills", type=int, default=plan.kills)
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--seconds", type=float, default=plan.seconds)
    parser.add_argument("--vendors", nargs=len(SLOTS), default=["openai"] * len(SLOTS), choices=list(vendors()))
    parser.add_argument("--keep", action="store_true", help="leave the folders where they are, and say where")
    options = parser.parse_args()
    plan = Plan(options.jobs, options.kills, options.seed, options.seconds)
    sides: dict[str, dict[str, str]] = {}
    for side in options.side or SIDES:
        run, title = SIDES[side]
        with folder(keep=options.keep) as place, accounts(place, options.vendors, plan.seed) as there:
            outcome = run(place, plan, there)
            sides[title] = rows_of(outcome)
            plan = replace(plan, seconds=min(plan.seconds, outcome.seconds + REDELIVERED_SECONDS))
    print("| | " + " | ".join(sides) + " |")
    print("|---|" + "---|" * len(sides))
    for row in next(iter(sides.values())):
        print(f"| {row} | " + " | ".join(told[row] for told in sides.values()) + " |")


if __name__ == "__main__":
    main()
