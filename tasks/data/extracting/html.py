"""Web pages, through Lexbor's parser (selectolax), which reads what browsers read."""

from __future__ import annotations

import codecs
import re
from collections import Counter

from tasks.data.encoding import MARKS, Decoded, Undecodable, decode
from tasks.data.extracted import Extracted, Unextractable, joined

SUFFIXES = (".html", ".htm", ".xhtml")
MOST_MIB = 16  # the tree of a page takes up to 40 times its bytes

DECLARED = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
DECLARED_AS_XML = re.compile(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{2,40})[\"']")
MARK = re.compile(r"<(/?)([a-zA-Z][\w:-]*+)[^<>]*+>")
# Elements without an end, or with one that need not be written.
IMPLIED = {
    "area", "base", "br", "col", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta", "option", "p",
    "param", "source", "tbody", "td", "tfoot", "th", "thead", "tr", "track", "wbr",
}  # fmt: skip
MOST_DEPTH = 5000  # the time to parse a page grows with the square of it
HEAD_BYTES = 4096  # browsers look at 1024
# What browsers take for cp1252 whatever it calls itself.
WESTERN = {"iso8859-1", "ascii"}


def extract(raw: bytes, encoding: str | None) -> Extracted:
    """A page's text without menus, scripts, banners and forms."""
    from tasks.data.boilerplate import main_part
    from tasks.data.rendering import blocks_of

    page = decode_page(raw, encoding)
    check_depth(page.text)
    removed: Counter[str] = Counter()
    body = main_part(page.text, removed)
    text = joined(blocks_of(body, removed), removed) if body else ""
    if not text and page.text.strip():
        raise Unextractable(
            "the page has no text of its own, only menus, scripts or forms; save it as the browser shows it"
        )
    return Extracted(text, removed, page.repair, page.suspicious)


def check_depth(source: str) -> None:
    """Raises Unextractable where a page nests deeper than it could be parsed in good time."""
    if (depth := depth_of(source)) > MOST_DEPTH:
        raise Unextractable(f"the page nests {depth} elements deep, and {MOST_DEPTH} are read; mend its unclosed tags")


def depth_of(source: str) -> int:
    """How deep a page nests at most, about: from its marks alone."""
    from tasks.data.rendering import BLOCKS

    depth = deepest = 0
    for mark in MARK.finditer(source):
        name = mark[2].lower()
        if mark[1]:
            depth = max(0, depth - (name not in IMPLIED))
        elif name not in IMPLIED and (name in BLOCKS or not mark[0].endswith("/>")):
            depth += 1
            deepest = max(deepest, depth)
    return deepest


def decode_page(raw: bytes, encoding: str | None) -> Decoded:
    """The page's source. A declaration that does not fit its bytes is not believed, and that is told as a repair.

    Raises:
        Undecodable: it is neither UTF-8 nor what it declares, and its encoding is in doubt
    """
    declared = declared_codec(raw)
    if encoding or declared is None or raw.startswith(tuple(mark for mark, _ in MARKS)):
        return decode(raw, fallback=encoding)
    try:
        page = decode(raw, fallback=declared)
    except Undecodable:
        page = decode(raw)
    if page.repair is None and declared != "utf-8" and not raw.isascii():
        return Decoded(page.text, f"utf-8, declared as {declared}", page.suspicious)
    if page.repair not in (None, declared):
        return Decoded(page.text, f"{page.repair}, declared as {declared}", page.suspicious)
    return page


def declared_codec(raw: bytes) -> str | None:
    """The codec that a page says it is in; None where it says none that there is."""
    found = DECLARED_AS_XML.match(raw, 0, HEAD_BYTES) or DECLARED.search(raw, 0, HEAD_BYTES)
    if not found:
        return None
    try:
        name = codecs.lookup(found[1].decode("ascii")).name
        "a".encode(name).decode(name)
    except (LookupError, UnicodeError):
        return None
    return "cp1252" if name in WESTERN else name
