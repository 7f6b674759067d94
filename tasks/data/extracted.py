"""What comes out of a file that is more than text: HTML, DOCX, PDF, Markdown."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

# Signs that only lay a page out, and control characters, which belong in no text.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff]")
BLANK_LINES = re.compile(r"\n\s*\n")


class Unextractable(ValueError):
    """The file gives no text; says why and what to do."""


@dataclass(frozen=True)
class Extracted:
    """A file's text: blocks parted by blank lines, headings as `#` lines, code in fences, tables row by row."""

    text: str
    removed: Counter[str] = field(default_factory=Counter)  # parts that are no text of the file's own, by what they are
    repair: str | None = None  # as of Document
    suspicious: bool = False


def joined(blocks: list[str], removed: Counter[str]) -> str:
    """Blocks as one text; counts the control characters taken out."""
    text = "\n\n".join(block for block in blocks if block.strip()).replace("\u00a0", " ")
    text, number = INVISIBLE.subn("", text)
    if number:
        removed["invisible character"] += number
    return text + "\n" if text else ""


def fenced(code: str, language: str = "") -> str:
    """Code between fences longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code.strip(chr(10))}\n{fence}"
