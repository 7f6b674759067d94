"""Small writers of HTML, DOCX and PDF, and real text to write: what Python says about itself."""

from __future__ import annotations

import html
import io
import re
import textwrap
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pydoc_data.topics import topics
from typing import Literal
from xml.sax.saxutils import escape

NAVIGATION = ("Home of the reference", "All topics from A to Z", "Report a mistake here")
RUNNING = "The Python reference, as the interpreter has it"
LINES_A_PAGE = 44
LINE_POINTS = 470
# Of Helvetica's letters from the space to the tilde, in thousandths of their height (Adobe's metrics).
WIDTHS = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, *[556] * 10, 278, 278, 584, 584,
    584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611,
    722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
]  # fmt: skip
WORD_SPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OFFICE = "application/vnd.openxmlformats-officedocument.wordprocessingml"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


@dataclass(frozen=True)
class Block:
    """A part of a document: what it is, and its lines; a table's cells are parted by tabs."""

    kind: Literal["heading", "paragraph", "code", "table"]
    text: str


def topic(name: str) -> list[Block]:
    """One topic of Python's language reference as headings, paragraphs and code."""
    return [_block(part) for part in re.split(r"\n\s*\n", topics[name]) if part.strip()]


def _block(part: str) -> Block:
    lines = part.strip("\n").split("\n")
    if len(lines) == 2 and re.fullmatch(r"([*=\-~^])\1+", lines[1].strip()):
        return Block("heading", lines[0].strip())
    if all(line.startswith("   ") for line in lines):
        return Block("code", textwrap.dedent("\n".join(lines)))
    return Block("paragraph", " ".join(" ".join(lines).split()))


def html_page(blocks: Iterable[Block], *, head: str = '<meta charset="utf-8">') -> str:
    """A page as sites have them: the text among menus, scripts, a banner and a footer."""
    menu = "".join(f'<li><a href="/{number}">{entry}</a></li>' for number, entry in enumerate(NAVIGATION))
    body = "\n".join(map(_html_of, blocks))
    return f"""<!DOCTYPE html><html><head>{head}<title>A topic</title><style>p {{ color: #123456 }}</style>
<script>window.tracker = "counted by a script";</script></head><body>
<header><ul>{menu}</ul></header><nav><ul>{menu}</ul></nav>
<div class="page"><div>{body}</div><aside>Seen by others: a few more topics</aside></div>
<form><input type="text"><button>Send a comment</button></form><noscript>Switch scripts on</noscript>
<footer><p>All rights are with somebody.</p></footer></body></html>"""


def _html_of(block: Block) -> str:
    text = html.escape(block.text)
    if block.kind == "table":
        rows = ("".join(f"<td>{cell}</td>" for cell in row.split("\t")) for row in text.split("\n"))
        return "<table>" + "".join(f"<tr>{row}</tr>\n" for row in rows) + "</table>"
    if block.kind == "code":
        return f"<pre><code>{text}\n</code></pre>"
    return f"<h2>{text}</h2>" if block.kind == "heading" else f"<p>{textwrap.fill(text, 70)}</p>"


def docx_file(blocks: Iterable[Block], *, body: str = "") -> bytes:
    """A document as word processors write them, no bigger than it has to be."""
    content = body or "".join(map(_docx_of, blocks))
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{name.replace(" ", "")}"><w:name w:val="{name}"/></w:style>'
        for name in ("heading 2", "HTML Preformatted")
    )
    return zip_file(
        {
            "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" ContentType='
            '"application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType='
            f'"application/xml"/><Override PartName="/word/document.xml" ContentType="{OFFICE}.document.main+xml"/>'
            f'<Override PartName="/word/styles.xml" ContentType="{OFFICE}.styles+xml"/></Types>',
            "_rels/.rels": _relations("officeDocument", "word/document.xml"),
            "word/_rels/document.xml.rels": _relations("styles", "styles.xml"),
            "word/styles.xml": f'<w:styles xmlns:w="{WORD_SPACE}">{styles}</w:styles>',
            "word/document.xml": f'<w:document xmlns:w="{WORD_SPACE}"><w:body>{content}</w:body></w:document>',
        }
    )


def zip_file(parts: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _relations(kind: str, target: str) -> str:
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    return (
        f'<Relationships xmlns="{PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{office}/{kind}" Target="{target}"/></Relationships>'
    )


def _docx_of(block: Block) -> str:
    if block.kind == "table":
        cells = [[f"<w:tc>{docx_line(cell)}</w:tc>" for cell in row.split("\t")] for row in block.text.split("\n")]
        return "<w:tbl>" + "".join(f"<w:tr>{''.join(row)}</w:tr>" for row in cells) + "</w:tbl>"
    styles = {"heading": "heading2", "code": "HTMLPreformatted"}
    lines = block.text.split("\n") if block.kind == "code" else [block.text]
    return "".join(docx_line(line, styles.get(block.kind, "")) for line in lines)


def docx_line(text: str, style: str = "") -> str:
    named = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f'<w:p>{named}<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'


def pdf_file(blocks: Iterable[Block]) -> bytes:
    """Printed pages: lines broken and hyphenated, and the same line above and a number below each page's text."""
    lines = [line for block in blocks for line in (*_printed(block), "")]
    pages = [lines[start : start + LINES_A_PAGE] for start in range(0, len(lines), LINES_A_PAGE)]
    return pdf_of([_page(page, f"Page {number} of {len(pages)}") for number, page in enumerate(pages, 1)])


def _printed(block: Block) -> list[str]:
    """Lines, each behind the sign of its font: H of a heading, C of code, P of a paragraph."""
    if block.kind == "heading":
        return ["H" + block.text]
    if block.kind == "code":
        return ["C" + line for line in block.text.split("\n")]
    return ["P" + line for line in (block.text.split("\n") if block.kind == "table" else hyphenated(block.text))]


def hyphenated(text: str, most_points: float = LINE_POINTS, indent: float = 0) -> list[str]:
    """The text in lines of Helvetica, long words broken with a hyphen; the first line is shorter by the indent."""
    lines, line = list[str](), ""
    for word in text.split():
        room = most_points if lines else most_points - indent
        if _points(f"{line} {word}") <= room:
            line = f"{line} {word}".strip()
            continue
        fitting = [end for end in range(3, len(word) - 2) if _points(f"{line} {word[:end]}-") <= room]
        if fitting and word.isalpha():
            lines.append(f"{line} {word[: fitting[-1]]}-")
            line = word[fitting[-1] :]
        else:
            lines.append(line)
            line = word
    return [*lines, line]


def _points(text: str) -> float:
    return sum(WIDTHS[ord(sign) - 32] if " " <= sign <= "~" else 556 for sign in text) / 100


def _page(lines: Sequence[str], number: str) -> str:
    shown = [drawn(RUNNING, "F1 9", 60, 800), drawn(number, "F1 9", 280, 30)]
    fonts = {"H": "F1 16", "C": "F2 9", "P": "F1 10"}
    for at, line in enumerate(lines):
        if line[1:].strip():
            shown.append(drawn(line[1:], fonts[line[0]], 60, 770 - 16 * at))
    return "\n".join(shown)


def drawn(text: str, font: str, left: float, bottom: float) -> str:
    shown = re.sub(r"([\\()])", r"\\\1", text)
    return f"BT /{font} Tf {left} {bottom} Td ({shown}) Tj ET"


def pdf_of(pages: Sequence[str], *, trailer: str = "") -> bytes:
    """A PDF with these drawing instructions, a page each."""
    kids = " ".join(f"{5 + 2 * index} 0 R" for index in range(len(pages)))
    parts = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>",
    ]
    for index, page in enumerate(pages):
        parts.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> "
            f"/Contents {6 + 2 * index} 0 R >>"
        )
        parts.append(f"<< /Length {len(page.encode('cp1252', 'replace'))} >>\nstream\n{page}\nendstream")
    written, offsets = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        offsets.append(len(written))
        written += f"{number} 0 obj\n{part}\nendobj\n".encode("cp1252", "replace")
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    end = f"xref\n0 {len(parts) + 1}\n0000000000 65535 f \n{table}trailer\n"
    ending = f"<< /Size {len(parts) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{len(written)}\n%%EOF\n"
    return written + (end + ending).encode()
