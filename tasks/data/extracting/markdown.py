"""Markdown, which is text already: only what readers do not see is taken out, by the blocks markdown-it finds."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from tasks.data.encoding import decode
from tasks.data.extracted import Extracted, joined

if TYPE_CHECKING:
    from markdown_it.token import Token

SUFFIXES = (".md", ".markdown", ".mdx")
MOST_MIB = 16

FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n.*?^\1[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
ONLY_PICTURES = re.compile(
    r"(?:\s*(?:\[\s*)?!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])(?:\s*\](?:\([^)]*\)|\[[^\]]*\]))?)+\s*"
)


def extract(raw: bytes, encoding: str | None) -> Extracted:
    """The source without front matter, comments, rows of badges and raw HTML's marks; underlined headings get a #."""
    from markdown_it import MarkdownIt

    source = decode(raw, fallback=encoding)
    removed: Counter[str] = Counter()
    text, number = FRONT_MATTER.subn("", source.text, count=1)
    removed["front matter"] += number
    lines = text.split("\n")
    blocks = MarkdownIt("commonmark").enable("table")
    blocks.core.ruler.enableOnly(["normalize", "block"])  # what stands within a line is left as it is
    for token in reversed(blocks.parse(text)):
        if token.map is not None and (shown := _shown(token, lines, removed)) is not None:
            lines[slice(*token.map)] = shown
    return Extracted("\n".join(lines).lstrip("\n"), +removed, source.repair, source.suspicious)


def _shown(token: Token, lines: list[str], removed: Counter[str]) -> list[str] | None:
    """The lines that take a block's place; None: it stays as it is."""
    assert token.map is not None
    source = "\n".join(lines[slice(*token.map)])
    if token.type == "html_block":
        return _without_marks(source, removed)
    if token.type == "heading_open" and token.markup in ("=", "-"):
        title = " ".join(" ".join(line.split()) for line in source.split("\n")[:-1] if line.strip())
        return [f"{'#' * (1 if token.markup == '=' else 2)} {title}"] if token.level == 0 else None
    if token.type == "paragraph_open" and token.level == 0 and ONLY_PICTURES.fullmatch(source):
        removed["image"] += source.count("![")
        return []
    return None


def _without_marks(source: str, removed: Counter[str]) -> list[str]:
    from selectolax.lexbor import LexborHTMLParser

    from tasks.data.extracting.html import check_depth
    from tasks.data.rendering import blocks_of

    check_depth(source)
    source, comments = COMMENT.subn("", source)
    removed["comment"] += comments
    page = LexborHTMLParser(source)
    removed["script"] += len(page.css("script"))
    removed["style"] += len(page.css("style"))
    return joined(blocks_of(page.body, removed), removed).split("\n") if page.body else []
