"""What of a web page is its text, and what stands on every page of its site."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selectolax.lexbor import LexborHTMLParser

if TYPE_CHECKING:
    from collections import Counter

    from selectolax.lexbor import LexborNode

# What is taken out, by the name it is counted under; each by a selector.
REMOVED = {
    "script": "script, noscript, template",
    "style": "style, link",
    "hidden": "[hidden], [aria-hidden='true'], dialog",
    "navigation": "nav, menu, [role='navigation'], [role='search'], [role='menu'], [role='menubar']",
    "form control": "button, input, select, textarea, datalist",
    "medium": "iframe, object, embed, svg, canvas, audio, video, map",
}
FRAME = {
    "page header": "header, [role='banner']",
    "page footer": "footer, [role='contentinfo']",
    "aside": "aside, [role='complementary'], [role='dialog'], [role='alertdialog']",
}
MAIN = ("main, [role='main']", "article")
OWN = ("main", "article", "blockquote", "section")  # a header or footer in these belongs to the text
LEAST_SHARE = 0.2  # of a page's text; a main part with less is none
MENU_LINKS = 3
MENU_SHARE = 0.9  # of a list's text that stands in links
MENU_CHARACTERS = 60  # of a link; a list of longer ones is one of titles, and stays


def main_part(source: str, removed: Counter[str]) -> LexborNode | None:
    """The element that holds a page's text, cleared of what is not text; counts in `removed` what was taken out."""
    page = LexborHTMLParser(source)
    body = page.body
    if body is None:
        return None
    for kind, selector in REMOVED.items():
        _remove(page.css(selector), kind, removed)
    only_title = _only_title(body)
    for kind, selector in FRAME.items():
        framing = [node for node in body.css(selector) if not _has_above(node, OWN)]
        _remove([node for node in framing if not _holds(node, only_title)], kind, removed)
    _remove([node for node in body.css("ul, ol") if _is_menu(node)], "menu", removed)
    return _main(body, removed)


def _main(body: LexborNode, removed: Counter[str]) -> LexborNode:
    whole = _length(body)
    for selector in MAIN:
        found = [node for node in body.css(selector) if not _has_above(node, ("main", "article"))]
        if len(found) == 1 and (length := _length(found[0])) >= LEAST_SHARE * whole:
            if length < whole:
                removed["outside the main part"] += 1
            return found[0]
    return body


def _remove(nodes: list[LexborNode], kind: str, removed: Counter[str]) -> None:
    # The innermost first: one that lies in another is still there to be taken out.
    for node in reversed(nodes):
        removed[kind] += 1
        node.decompose()


def _only_title(body: LexborNode) -> LexborNode | None:
    titles = body.css("h1")
    return titles[0] if len(titles) == 1 else None


def _holds(node: LexborNode, inner: LexborNode | None) -> bool:
    while inner is not None and inner.mem_id != node.mem_id:
        inner = inner.parent
    return inner is not None


def _has_above(node: LexborNode, tags: tuple[str, ...]) -> bool:
    above = node.parent
    while above is not None and above.tag not in tags:
        above = above.parent
    return above is not None


def _is_menu(node: LexborNode) -> bool:
    links = [_length(link) for link in node.css("a")]
    return (
        len(links) >= MENU_LINKS
        and sum(links) >= MENU_SHARE * _length(node)
        and sum(links) <= MENU_CHARACTERS * len(links)
    )


def _length(node: LexborNode) -> int:
    return len("".join(node.text().split()))
