"""Word documents, through mammoth: its HTML is read like any other."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from tasks.data.extracted import Extracted, Unextractable, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIXES = (".docx", ".docm")
MOST_MIB = 256  # as packed: pictures may make it large

MOST_XML_MIB = 24  # unpacked, of all that is not a picture: a tree takes up to 30 times as much
OLD_OR_LOCKED = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # an OLE file: Word before 2007, or a document under a password
CODE_STYLES = ("HTML Preformatted", "Code", "Source Code", "Code Block", "Preformatted Text", "macro")
STYLES = "\n".join(
    [
        *(f"p[style-name='{name}'] => pre:separator('\\n')" for name in CODE_STYLES),
        "p[style-name='Title'] => h1:fresh",
        "r[style-name='HTML Code'] => code",
        "r[style-name='Verbatim Char'] => code",
        "u => u",
    ]
)
# mammoth takes a document as it should be; these are what it comes upon in one that is not.
NOT_AS_IT_SHOULD_BE = (
    AttributeError, IndexError, KeyError, NotImplementedError, OSError, RecursionError, TypeError, ValueError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
# What mammoth leaves out without a word: the parts of the ZIP that hold it, what it stands in, and its name.
LEFT_OUT = (
    (re.compile(r"word/(document|footnotes|endnotes)\.xml"), re.compile(rb"<w:delText[ >/]"), "deleted text"),
    (re.compile(r"word/(document|footnotes|endnotes)\.xml"), re.compile(rb"<m:oMath[ >/]"), "formula"),
    (re.compile(r"word/comments\.xml"), re.compile(rb"<w:comment[ >]"), "comment"),
    (re.compile(r"word/header\d*\.xml"), re.compile(rb"<w:hdr[ >](?=.*?<w:t[ >])", re.DOTALL), "page header"),
    (re.compile(r"word/footer\d*\.xml"), re.compile(rb"<w:ftr[ >](?=.*?<w:t[ >])", re.DOTALL), "page footer"),
)
REPAIR = "open it in Word or LibreOffice and save it anew as .docx"


def extract(raw: bytes, encoding: str | None) -> Extracted:
    """A document's text, footnotes at its end; changes not yet accepted are taken as accepted.

    What is left out is counted by the prefixes that all word processors give their elements (w:, m:).
    """
    del encoding  # XML says its own
    from xml.parsers.expat import ExpatError

    import mammoth
    from selectolax.lexbor import LexborHTMLParser

    from tasks.data.rendering import blocks_of

    _check(raw)
    removed: Counter[str] = Counter()

    def leave_out(_: Any) -> Sequence[Any]:
        removed["image"] += 1
        return []

    try:
        html = mammoth.convert_to_html(io.BytesIO(raw), style_map=STYLES, convert_image=leave_out).value
        removed += _left_out(raw)
    except (*NOT_AS_IT_SHOULD_BE, ExpatError) as error:
        told = str(error) or "it is nested too deep"
        raise Unextractable(f"the document is damaged ({type(error).__name__}: {told[:200]}); {REPAIR}") from error
    body = LexborHTMLParser(html).body
    return Extracted(joined(blocks_of(body, removed), removed) if body else "", +removed)


def _left_out(raw: bytes) -> Counter[str]:
    found: Counter[str] = Counter()
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        for part in archive.namelist():
            for names, pattern, kind in LEFT_OUT:
                if names.fullmatch(part):
                    found[kind] += len(pattern.findall(archive.read(part)))
    return found


def _check(raw: bytes) -> None:
    if raw.startswith(OLD_OR_LOCKED):
        raise Unextractable("is under a password, or of Word before 2007; save it as .docx without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            parts = archive.infolist()
    except (*NOT_AS_IT_SHOULD_BE,) as error:
        raise Unextractable(f"is no .docx, or is cut short: it is no whole ZIP ({error}); {REPAIR}") from error
    names = {part.filename for part in parts}
    if "[Content_Types].xml" not in names or not any(name.startswith("word/") for name in names):
        raise Unextractable("is a ZIP, but no Word document: it has no word/document.xml; unpack it into the folder")
    if any(part.flag_bits & 1 for part in parts):
        raise Unextractable("has parts under a password; save it without one")
    size = sum(part.file_size for part in parts if part.filename.endswith((".xml", ".rels")))
    if size > MOST_XML_MIB << 20:
        raise Unextractable(
            f"unpacks to {size >> 20} MiB of XML, and at most {MOST_XML_MIB} MiB are read; "
            "cut the document into several, or leave it out: this is what a ZIP bomb looks like"
        )
