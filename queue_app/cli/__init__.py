"""The command line: nouns and verbs over the store. `--json` speaks to machines on stdout, hints go to stderr.

Exit codes: 0 ok · 1 failed · 2 a gate, cap or balance said no · 3 usage or validation · 4 not found · 124 timeout ·
130 interrupted.
"""

from __future__ import annotations

import gc
import io
import sys


def main() -> None:
    """The command `tuneyard`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 shows ? for what it lacks
            stream.reconfigure(errors="replace")
    try:
        code = _run()
    except KeyboardInterrupt:  # while what the command needs was being imported
        code = 130
    gc.freeze()  # else the interpreter looks through everything once more before it ends, a quarter of a short command
    sys.exit(code)


def _run() -> int:
    gc.disable()  # start-up is imports, and nothing they make wants collecting
    from queue_app.cli.application import run

    gc.freeze()
    gc.enable()  # workers run for long
    return run(sys.argv[1:])
