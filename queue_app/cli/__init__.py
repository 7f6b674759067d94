"""The command line: nouns and verbs over the store. `--json` speaks to machines on stdout, hints go to stderr.

Exit codes: 0 ok · 1 failed · 2 a gate or cap said no · 3 usage or validation · 4 not found · 124 timeout ·
130 interrupted.
"""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """The command `tuneyard`."""
    gc.freeze()  # a short command's start-up is imports: nothing it makes wants collecting
    gc.disable()
    from queue_app.cli.application import run

    sys.exit(run(sys.argv[1:]))
