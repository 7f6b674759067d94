"""What is found of personal data and secrets that were planted in real prose: precision and recall by type and by form.

python benchmarks/data_found.py [--passages 6000] [--seed 7]

The generator is our own, so this is a regression figure, and not accuracy in the field.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from tests.data.planted import MAKERS, passages, tally

    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--passages", type=int, default=6000)
    asked.add_argument("--seed", type=int, default=7)
    given = asked.parse_args()
    told = tally(passages(given.seed, given.passages))
    kinds = sorted(MAKERS)
    right, claimed, planted = (
        sum(counted[kind] for kind in kinds) for counted in (told.right, told.claimed, told.planted)
    )
    print("| planted and found | planted | precision | recall |\n|---|---|---|---|")
    print(f"| all | {planted:,} | {right / claimed:.3f} | {right / planted:.3f} |")
    for name in sorted(told.planted):  # a form has no precision: a finding has a type, and no form
        precision = f"{told.precision(name):.3f}" if name in MAKERS else ""
        print(f"| {name} | {told.planted[name]:,} | {precision} | {told.recall(name):.3f} |")


if __name__ == "__main__":
    main()
