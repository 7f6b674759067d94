"""A training file of JSON lines, looked through before anything is trained; a vendor says what an example may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# The format of an example, in the vendor's own words, and what is wrong with it: the rest of "Example 3 …".
Judge = Callable[[Any], tuple[str, str | None]]


@dataclass(frozen=True)
class TrainingFile:
    """What is known of an uploaded file: how many examples of which format, and the first thing that is wrong."""

    examples: int
    format: str = ""
    problem: str | None = None


def examine(content: bytes, judge: Judge) -> TrainingFile:
    """Read a file to its end, or to the first example that is none or is of another format than the first."""
    count, kind = 0, ""
    for line in content.removeprefix(b"\xef\xbb\xbf").splitlines():
        if not line.strip():
            continue
        count += 1
        found, problem = _judged(line, judge)
        kind = kind or found
        if problem is None and found != kind:
            problem = f"is of the format {found}, where the first is of the format {kind}."
        if problem is not None:
            return TrainingFile(count, kind, f"Example {count} {problem}")
    return TrainingFile(count, kind)


def _judged(line: bytes, judge: Judge) -> tuple[str, str | None]:
    try:
        example = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError):
        return "", "is not valid JSON."
    except RecursionError:
        return "", "is nested too deeply."
    return judge(example) if isinstance(example, dict) else ("", "is not an object.")
