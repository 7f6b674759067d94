"""PDF, through PDFium: the lines as they are drawn; `tasks.data.printed` makes paragraphs of them."""

from __future__ import annotations

import ctypes
import re
import threading
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from tasks.data.borders import Line
from tasks.data.extracted import INVISIBLE, Extracted, Unextractable, joined
from tasks.data.printed import blocks_of, without_running_lines

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfTextPage

SUFFIXES = (".pdf",)
MOST_MIB = 256
MOST_PAGES = 10_000
MOST_CHARACTERS = 50_000_000

FIXED_PITCH, FORCED_BOLD = 1, 1 << 18  # bits of a font's flags, as the PDF standard numbers them
FIXED_NAMES = re.compile("courier|mono|consol|menlo|typewriter|cmtt", re.IGNORECASE)  # where the flags are not set
BOLD_NAMES = re.compile("bold|black|heavy|cmbx", re.IGNORECASE)
LINE = re.compile("[^\r\n\x02\ufffe]+[\x02\ufffe]?")  # PDFium goes on after a hyphen at a line's end
UNREADABLE_SHARE = 0.2
PDFIUM = threading.Lock()  # it is not made for threads
DEFECTS = {
    3: "is no PDF, or is damaged; open it and print it into a new PDF",
    4: "is encrypted; save it without its password (qpdf --decrypt --password=… in.pdf out.pdf)",
    5: "is encrypted in a way that is not known here; save it without its password",
}


def extract(raw: bytes, encoding: str | None) -> Extracted:
    """The text that is drawn, without running headers, footers and page numbers."""
    del encoding  # fonts say which letters they draw
    with PDFIUM:
        pages = _pages(raw)
    if not any(pages):
        count = f"{len(pages)} page{'s' * (len(pages) != 1)}"
        raise Unextractable(f"no text layer: {count}; recognise the text first (ocrmypdf in.pdf out.pdf)")
    _check_letters(pages)
    removed = Counter({"page without text": sum(not page for page in pages)})
    return Extracted(joined(blocks_of(without_running_lines(pages, removed), removed), removed), +removed)


def _pages(raw: bytes) -> list[list[Line]]:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(raw)
    except pypdfium2.PdfiumError as error:
        raise Unextractable(DEFECTS.get(getattr(error, "err_code", 3), DEFECTS[3])) from error
    try:
        if len(document) > MOST_PAGES:
            raise Unextractable(f"has {len(document)} pages, and at most {MOST_PAGES} are read; cut it into several")
        return _read(document)
    except pypdfium2.PdfiumError as error:
        raise Unextractable(f"is damaged ({error}); open it and print it into a new PDF") from error
    finally:
        document.close()


def _read(document: PdfDocument) -> list[list[Line]]:
    pages: list[list[Line]] = []
    characters = 0
    for page in document:
        drawn = page.get_textpage()
        characters += drawn.count_chars()
        if characters > MOST_CHARACTERS:
            raise Unextractable(f"holds more than {MOST_CHARACTERS:,} characters; cut it into several")
        pages.append(_lines(drawn))
        drawn.close()
        page.close()
    return pages


def _lines(page: PdfTextPage) -> list[Line]:
    lines = []
    for found in LINE.finditer(page.get_text_range()):
        drawn = found[0]
        if text := drawn.strip():
            start = found.start() + len(drawn) - len(drawn.lstrip())
            lines += _rows(page, text, start)
    return lines


def _rows(page: PdfTextPage, text: str, start: int) -> list[Line]:
    """The lines in what PDFium takes for one: where it goes over a line's end, a later word stands below."""
    line = _line(page, text, start, start + len(text) - 1)
    lowest = _baseline(page, start + len(text) - 1, line.bottom)
    if abs(lowest - line.bottom) < line.height / 2:
        return [line]
    lines, first, at = [], 0, line.bottom
    for gap in re.finditer(r"\s+", text):
        place = _baseline(page, start + gap.end(), at)
        if abs(place - at) >= line.height / 2:
            lines.append(_line(page, text[first : gap.start()], start + first, start + gap.start() - 1))
            first, at = gap.end(), place
    return [*lines, _line(page, text[first:], start + first, start + len(text) - 1)]


def _line(page: PdfTextPage, text: str, first: int, last: int) -> Line:
    most = page.count_chars() - 1
    first, last = min(first, most), min(last, most)
    boxes = [page.get_charbox(index, loose=True) for index in (first, (first + last) // 2, last)]
    height = median(top - bottom for _, bottom, _, top in boxes)  # one of them may be of a ligature, or raised
    fixed, bold = _font(page, first)
    bottom = _baseline(page, first, boxes[0][1])
    return Line(text, boxes[0][0], boxes[2][2], bottom, height, fixed, bold and _font(page, last)[1])


def _baseline(page: PdfTextPage, index: int, otherwise: float) -> float:
    """Where a letter stands: the same in a line whatever its fonts are."""
    import pypdfium2.raw as pdfium

    x, y = ctypes.c_double(0), ctypes.c_double(0)
    return y.value if pdfium.FPDFText_GetCharOrigin(page, index, ctypes.byref(x), ctypes.byref(y)) else otherwise


def _font(page: PdfTextPage, index: int) -> tuple[bool, bool]:
    """Whether each letter is as wide as the other, and whether they are bold."""
    import pypdfium2.raw as pdfium

    flags, name = ctypes.c_int(0), ctypes.create_string_buffer(128)
    pdfium.FPDFText_GetFontInfo(page, index, name, len(name), ctypes.byref(flags))
    called = name.value.decode("utf-8", "replace")
    fixed = bool(flags.value & FIXED_PITCH) or FIXED_NAMES.search(called) is not None
    return fixed, bool(flags.value & FORCED_BOLD) or BOLD_NAMES.search(called) is not None


def _check_letters(pages: list[list[Line]]) -> None:
    text = "".join(line.text.strip("\x02\ufffe") for page in pages for line in page)
    unknown = len(INVISIBLE.findall(text)) + text.count("\ufffd") + sum("\ue000" <= sign <= "\uf8ff" for sign in text)
    if unknown > UNREADABLE_SHARE * len(text):
        raise Unextractable(
            f"its fonts do not tell which letters they draw ({unknown} of {len(text)} are unknown); "
            "recognise the text anew (ocrmypdf --force-ocr in.pdf out.pdf)"
        )
