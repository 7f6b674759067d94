"""`python -m tasks.data.auditing DESCRIPTOR` is a process of `processes`."""

from __future__ import annotations

import sys

from tasks.data.auditing.piece import serve

if __name__ == "__main__":
    serve(int(sys.argv[1]))
