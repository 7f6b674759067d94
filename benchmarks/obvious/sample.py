"""So many rows of each agent as its share: python sample.py SOURCE TARGET."""

import json
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

groups: defaultdict[str, list[Any]] = defaultdict(list)
with Path(sys.argv[1]).open() as lines:
    for line in lines:
        row = json.loads(line)
        groups[row["target_agent"]].append(row)
total = sum(map(len, groups.values()))
with Path(sys.argv[2]).open("w") as out:
    for rows in groups.values():
        for row in random.sample(rows, round(min(5000, total // 2) * len(rows) / total)):
            out.write(json.dumps(row) + "\n")
