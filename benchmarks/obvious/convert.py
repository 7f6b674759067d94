"""Rows with messages alone, of rows with more: python convert.py SOURCE TARGET."""

import json
import sys
from pathlib import Path

with Path(sys.argv[1]).open() as lines, Path(sys.argv[2]).open("w") as out:
    for line in lines:
        out.write(json.dumps({"messages": json.loads(line)["messages"]}) + "\n")
