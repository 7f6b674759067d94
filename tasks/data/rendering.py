"""A tree of HTML as blocks of text: headings with #, lists with their marks, tables row by row, code in fences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.data.extracted import fenced

if TYPE_CHECKING:
    from collections import Counter

    from selectolax.lexbor import LexborNode

HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
BLOCKS = {
    *HEADINGS, "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "li", "main", "ol", "p", "section",
    "summary", "table", "td", "th", "tr", "ul", "caption", "tbody", "thead", "tfoot",
}  # fmt: skip
# What the text does not say any more, by the name it is counted under; each by a selector.
LOST = {
    "image": "img, picture:not(:has(img))",
    "link address": "a[href]:not([href^='#'])",
    "emphasis": "b, strong, i, em, u, ins, mark, dfn",
    "strike-through": "s, strike, del",
    "raised or lowered": "sub, sup",
    "quotation mark-up": "blockquote, q",
    "merged cell": ":is(td, th):is([colspan]:not([colspan='1']), [rowspan]:not([rowspan='1']))",
}
IMAGES = {"img", "picture"}
INLINE_CODE = {"code", "kbd", "samp", "tt"}
UNSEEN = {"head", "script", "style", "title", "template"}
LAYOUT = ", ".join(
    f":is(td, th) {inner}" for inner in ("p + p", "h1", "h2", "h3", "pre", "ul", "ol", "table", "div + div")
)  # in a cell: the table only lays out
SPACE = re.compile(r"[ \t\n\r\f]+")
LANGUAGE = re.compile(r"(?:^|[\s-])(?:language|lang|highlight)-([\w+#-]+)")


@dataclass
class Rendering:
    """The blocks so far, and the one being written."""

    blocks: list[str] = field(default_factory=list)
    line: list[str] = field(default_factory=list)
    mark: str = ""  # before the next block: of a heading or a list's item
    lists: list[int] = field(default_factory=list)  # of each list around: the number of its next item; -1: no numbers
    in_item: bool = False

    def flush(self) -> None:
        """End the block being written."""
        text = "\n".join(SPACE.sub(" ", part).strip() for part in "".join(self.line).split("\v")).strip()
        self.line.clear()
        if text:
            self.add(text)

    def add(self, text: str) -> None:
        lead = self.mark if self.mark else "  " * len(self.lists) if self.lists else ""
        indented = text.replace("\n", "\n" + " " * len(lead)) if lead.strip() != "#" else text
        # Items follow each other without a blank line; what else stands in a list is a block of its own.
        if self.mark and self.in_item and self.lists and self.blocks and _is_item(self.blocks[-1]):
            self.blocks[-1] += "\n" + lead + indented
        else:
            self.blocks.append(lead + indented)
        self.mark = ""

    def open(self, node: LexborNode, tag: str) -> bool:
        """Begin an element; false where its content is done with."""
        if tag in UNSEEN:
            return False
        if tag in BLOCKS or tag == "pre":
            self.flush()
        if tag == "pre":
            self.add(_code(node))
        elif tag == "table" and not node.css_first(LAYOUT):
            self.add(_rows(node))
        elif tag not in IMAGES:
            self.begin(node, tag)
            return True
        return False

    def begin(self, node: LexborNode, tag: str) -> None:
        if tag in HEADINGS:
            self.mark, self.in_item = HEADINGS[tag], False
        elif tag in ("ul", "ol"):
            self.lists.append(_first_number(node) if tag == "ol" else -1)
        elif tag == "li":
            self.mark, self.in_item = self.next_mark(), True
        elif tag == "br":
            self.line.append("\v")
        elif tag in INLINE_CODE:
            self.line.append("`")

    def close(self, tag: str) -> None:
        if tag in BLOCKS:
            self.flush()
        if tag in HEADINGS or tag == "li":
            self.mark = ""
        elif tag in ("ul", "ol") and self.lists:
            self.lists.pop()
        elif tag in INLINE_CODE:
            self.line.append("`")

    def next_mark(self) -> str:
        if not self.lists or self.lists[-1] < 0:
            return "  " * (len(self.lists) - 1) + "- "
        self.lists[-1] += 1
        return "  " * (len(self.lists) - 1) + f"{self.lists[-1] - 1}. "


def blocks_of(root: LexborNode, removed: Counter[str]) -> list[str]:
    """The blocks below an element, in reading order; counts in `removed` what is `LOST`: images, links, emphasis …"""
    for kind, selector in LOST.items():
        if found := len(root.css(selector)):
            removed[kind] += found
    rendering = Rendering()
    for text, opened in _walk(root, rendering):
        if opened:
            rendering.line.append(text)
        else:
            rendering.close(text)
    rendering.flush()
    return rendering.blocks


def _walk(root: LexborNode, rendering: Rendering) -> Iterator[tuple[str, bool]]:
    """Texts and ends of elements as they come; without recursion, for pages nest as deep as they like."""
    stack: list[LexborNode | str] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node, False
            continue
        tag = node.tag or ""
        if node.is_text_node:
            yield node.text_content or "", True
        elif node.is_element_node and rendering.open(node, tag):
            stack.append(tag)
            child = node.last_child
            while child is not None:
                stack.append(child)
                child = child.prev


def _code(node: LexborNode) -> str:
    for line_break in node.css("br"):
        line_break.replace_with("\n")
    inner = node.css_first("code")
    classes = " ".join(part.attributes.get("class") or "" for part in (node, inner) if part is not None)
    language = LANGUAGE.search(classes)
    text = node.text().replace("\r", "")
    return fenced(text, language[1] if language else "") if text.strip() else ""


def _rows(table: LexborNode) -> str:
    lines = []
    for row in table.css("tr"):
        cells = [" ".join(cell.text(separator=" ").split()).replace("|", "\\|") for cell in row.css("td, th")]
        if any(cells):
            lines.append("| " + " | ".join(cells) + " |")
            if len(lines) == 1:
                lines.append("|" + " --- |" * len(cells))
    title = table.css_first("caption")
    return (f"{' '.join(title.text().split())}\n\n" if title else "") + "\n".join(lines)


def _first_number(node: LexborNode) -> int:
    start = node.attributes.get("start") or "1"
    return int(start) if start.isdecimal() and len(start) < 6 else 1


def _is_item(block: str) -> bool:
    return re.match(r"\s*(?:-|\d+\.) ", block) is not None
