"""Personal data by patterns, copies, and near copies by MinHash: python audit.py SOURCE."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

from datasketch import MinHash, MinHashLSH

patterns = [
    re.compile(pattern)
    for pattern in (
        r"[\w.+-]+@[\w-]+\.[\w.]+",
        r"\+?\d[\d ().-]{7,}\d",
        r"\b\d{3}-\d{2}-\d{4}\b",
        r"\b(?:\d[ -]?){13,16}\b",
        r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
        r"sk-\w{20,}",
        r"AKIA\w{16}",
        r"ghp_\w{36}",
    )
]
index, near = MinHashLSH(threshold=0.85, num_perm=128), 0
seen: Counter[str] = Counter()
found: Counter[str] = Counter()
with Path(sys.argv[1]).open() as lines:
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
