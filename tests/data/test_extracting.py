"""Text out of Markdown, HTML, DOCX and PDF, and what such files can be instead."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from queue_app.lifecycle import Cause, State
from tasks.data.chunking import Bounds, cut
from tasks.data.examples import read_examples
from tasks.data.sources import Document, find_source, read_file
from tasks.data.walking import BadFile
from tests.data.documents import (
    NAVIGATION,
    RUNNING,
    WORD_SPACE,
    Block,
    docx_file,
    docx_line,
    drawn,
    html_page,
    hyphenated,
    pdf_file,
    pdf_of,
    topic,
    zip_file,
)
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import RunHere

TABLE = Block("table", "name\tmeaning\nyard\twhere trains stand\nrail\twhat they stand on, and what they roll on, far")
BLOCKS = [*topic("with"), TABLE]
COLUMN_POINTS, LINE_POINTS = 650, 13
LOCKED = (
    "/Encrypt << /Filter /Standard /V 1 /R 2 /O (12345678901234567890123456789012) "
    "/U (12345678901234567890123456789012) /P -4 >> /ID [(1234567890123456)(1234567890123456)]"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mixed").mkdir()
    return tmp_path / "mixed"


def read(folder: Path, name: str, content: bytes | str, encoding: str | None = None) -> Document | BadFile:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file(folder / name, folder, encoding)


def text_of(folder: Path, name: str, content: bytes | str) -> str:
    found = read(folder, name, content)
    assert isinstance(found, Document), found
    return found.text


def problem_of(folder: Path, name: str, content: bytes | str) -> str:
    found = read(folder, name, content)
    assert isinstance(found, BadFile)
    return found.problem


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


@pytest.mark.parametrize(
    ("name", "write"), [("a.html", lambda blocks: html_page(blocks).encode()), ("a.docx", docx_file)]
)
def test_paragraphs_headings_code_and_rows_come_out_as_they_went_in(folder: Path, name: str, write):
    text = text_of(folder, name, write(BLOCKS))
    parts = re.split(r"\n\n(?!\s)", text.strip())
    for block in BLOCKS:
        if block.kind == "paragraph":
            assert block.text in parts
        elif block.kind == "heading":
            assert f"## {block.text}" in parts
        elif block.kind == "code":
            assert block.text in text
    assert "```\nwith EXPRESSION as TARGET:\n    SUITE\n```" in text
    assert "| name | meaning |\n| --- | --- |\n| yard | where trains stand |\n| rail |" in text


def test_printed_paragraphs_are_whole_again_and_what_runs_over_the_pages_is_gone(folder: Path):
    blocks = topic("import")
    found = read(folder, "a.pdf", pdf_file(blocks))
    assert isinstance(found, Document)
    assert RUNNING not in found.text
    assert not re.search(r"Page \d+ of", found.text)
    parts = found.text.split("\n\n")
    prose = [block.text for block in blocks if block.kind == "paragraph"]
    assert sum(paragraph in parts for paragraph in prose) > 0.85 * len(prose)
    assert parts[0] == '## The "import" statement'
    pages = found.removed["running line"]
    assert pages > 3
    assert found.removed["page number"] == pages
    assert found.removed["line-end hyphen"] > 5


def paragraphs(*topics: str) -> list[str]:
    return [
        block.text for name in topics for block in topic(name) if block.kind == "paragraph" and block.text.isascii()
    ]


def page_of(lines: Sequence[tuple[str, float, float]]) -> str:
    """Text, left and bottom of each line."""
    return "\n".join(drawn(text, "F1 10", left, bottom) for text, left, bottom in lines)


def laid_out(texts: Sequence[str], *, indent: int, gap: int, columns: int) -> list[str]:
    """Pages of paragraphs in hyphenated lines, each begun by an indent or by a gap."""
    pages: dict[int, list[tuple[str, float, float]]] = {}
    place = 0.0
    for text in texts:
        for number, line in enumerate(hyphenated(text, 470 / columns - 30, indent)):
            column, below = divmod(place, COLUMN_POINTS)
            page, side = divmod(int(column), columns)
            left = 60 + 250 * side + (0 if number else indent)
            pages.setdefault(page, []).append((line, left, 770 - below))
            place += LINE_POINTS
        place += gap
    return [page_of(lines) for lines in pages.values()]


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize(("indent", "gap"), [(15, 0), (0, 6), (0, 2), (15, 13)])
def test_paragraphs_are_told_apart_by_indents_and_gaps(folder: Path, indent: int, gap: int, columns: int):
    texts = paragraphs("import", "with", "class")
    pages = laid_out(texts, indent=indent, gap=gap, columns=columns)
    assert len(pages) > 1
    parts = text_of(folder, "a.pdf", pdf_of(pages)).strip().split("\n\n")
    assert sum(text in parts for text in texts) > 0.9 * len(texts)
    assert abs(len(parts) - len(texts)) < 0.1 * len(texts)


def test_a_running_line_of_one_chapter_is_taken_off(folder: Path):
    texts = paragraphs("import", "with", "class", "try", "function", "typesseq", "specialnames")
    pages = laid_out(texts, indent=15, gap=0, columns=1)
    chapters = [f"Chapter {number // 3}: {'ABCDEFG'[number // 3] * 9}" for number in range(len(pages))]
    assert len(pages) > 9
    titled = [f"{page}\n{page_of([(title, 60, 810)])}" for page, title in zip(pages, chapters, strict=True)]
    found = read(folder, "a.pdf", pdf_of(titled))
    assert isinstance(found, Document)
    assert found.removed["running line"] >= 3 * (len(pages) // 3)
    assert "AAAAAAAAA" not in found.text


def test_a_hyphen_that_belongs_to_its_word_stays(folder: Path):
    lines = [
        "The well-known yard has its fast track, and the well-",
        "known line of 2-",
        "tuples and of Karl Smith-",
        "Jones.",
    ]
    page = page_of([(line, 60, 700 - 13 * number) for number, line in enumerate(lines)])
    text = " ".join(text_of(folder, "a.pdf", pdf_of([page])).split())
    assert "well-known line of 2-tuples and of Karl Smith-Jones." in text


def test_code_in_a_pdf_keeps_its_lines_and_indentation(folder: Path):
    text = text_of(folder, "a.pdf", pdf_file([*topic("lambda"), TABLE]))
    assert "```\ndef <lambda>(parameters):\n    return expression\n```" in text
    assert [line for line in text.split("\n") if "where trains stand" in line and "rail" not in line]


def test_menus_scripts_and_banners_are_left_out_and_counted(folder: Path):
    found = read(folder, "a.html", html_page(BLOCKS))
    assert isinstance(found, Document)
    for left_out in (*NAVIGATION, "script", "#123456", "Seen by others", "Send a comment", "All rights"):
        assert left_out not in found.text
    assert found.extracted_from == "html"
    assert found.removed == {
        "script": 2,  # and what is shown without one
        "style": 1,
        "navigation": 1,
        "form control": 2,
        "page header": 1,
        "page footer": 1,
        "aside": 1,
    }


def test_what_the_text_of_a_page_does_not_say_is_counted(folder: Path):
    page = (
        "<p>The <b>long <i>yard</i></b> is <a href='/map'>here</a>, <a href='#foot'>see below</a>, 10<sup>2</sup> m by "
        "<del>3</del> 4.<img src=a.png></p><blockquote>Mind the gap.</blockquote><table><tr><td colspan=2>a<img></td>"
        "<td rowspan=1>b</td></tr></table><picture><source srcset=c></picture>"
    )
    found = read(folder, "a.html", page)
    assert isinstance(found, Document)
    assert found.removed == {
        "image": 3,
        "link address": 1,
        "emphasis": 2,
        "strike-through": 1,
        "raised or lowered": 1,
        "quotation mark-up": 1,
        "merged cell": 1,
    }
    assert "The long yard is here, see below, 102 m by 3 4." in found.text


def test_what_a_document_loses_is_counted(folder: Path):
    styles = ("<w:b/>", "<w:u w:val='single'/>", "<w:strike/>")
    body = (
        "<w:p>"
        + "".join(f"<w:r><w:rPr>{style}</w:rPr><w:t>yard</w:t></w:r>" for style in styles)
        + "<w:del w:id='1'><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<m:oMath xmlns:m='http://schemas.openxmlformats.org/officeDocument/2006/math'><m:r/></m:oMath></w:p>"
    )
    with zipfile.ZipFile(io.BytesIO(docx_file([], body=body))) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    kept = f'xmlns:w="{WORD_SPACE}"'
    parts["word/header1.xml"] = f"<w:hdr {kept}><w:p><w:r><w:t>Top</w:t></w:r></w:p></w:hdr>"
    parts["word/footer1.xml"] = f"<w:ftr {kept}><w:p/></w:ftr>"
    parts["word/comments.xml"] = f"<w:comments {kept}><w:comment w:id='1'><w:p/></w:comment></w:comments>"
    found = read(folder, "a.docx", zip_file(parts))
    assert isinstance(found, Document)
    assert found.text == "yardyardyard\n"
    lost = {"emphasis": 2, "strike-through": 1, "deleted text": 1, "formula": 1, "page header": 1, "comment": 1}
    assert found.removed == lost


def test_the_main_part_of_a_page_is_taken_with_its_own_header(folder: Path):
    page = (
        "<body><div>Of the site, on every page</div><main><header><h1>Yards</h1></header><p>Trains stand here.</p>"
        "<ul><li>one</li><li>two<ol start=3><li>three</li></ol></li></ul></main></body>"
    )
    assert text_of(folder, "a.html", page) == "# Yards\n\nTrains stand here.\n\n- one\n- two\n  3. three\n"


@pytest.mark.parametrize(
    ("declared", "written", "repair"),
    [
        ("iso-8859-1", "utf-8", "utf-8, declared as cp1252"),
        ("shift_jis", "utf-8", "utf-8, declared as shift_jis"),
        ("utf-8", "cp1252", "cp1252, declared as utf-8"),
        ("iso-8859-1", "cp1252", "cp1252"),
        ("no-such-thing", "utf-8", None),
    ],
)
def test_a_page_is_read_by_its_bytes_where_its_declaration_is_wrong(folder: Path, declared, written, repair):
    page = f'<meta charset="{declared}"><p>' + "Le café était fermé, la gare aussi. " * 20
    found = read(folder, "a.html", page.encode(written))
    assert isinstance(found, Document)
    assert "Le café était fermé" in found.text
    assert found.repair == repair


def test_a_page_that_nests_deep_is_read_and_one_that_nests_without_end_is_bad(folder: Path):
    assert text_of(folder, "a.html", "<div>" * 4000 + "deep") == "deep\n"
    for name in ("b.html", "b.md"):
        assert "nests 500000 elements deep" in problem_of(folder, name, "<div>" * 500_000 + "deep")


def test_markdown_stays_as_it_is_but_for_what_no_reader_sees(folder: Path):
    source = (
        "---\ntitle: x\n---\n[![badge](a.svg)](b) ![two](c.svg)\n\nThe *yard*\n==========\n\n<!-- a note -->\n\n"
        "Trains [stand](x.md).\n\n```sh\n# not a heading\n<!-- kept -->\n```\n\n"
        "<table><tr><td>a</td><td>b</td></tr></table>\n\n| c | d |\n| - | - |\n| 1 | 2 |\n"
    )
    found = read(folder, "a.md", source)
    assert isinstance(found, Document)
    assert re.sub(r"\n{3,}", "\n\n", found.text) == (
        "# The *yard*\n\nTrains [stand](x.md).\n\n```sh\n# not a heading\n<!-- kept -->\n```\n\n"
        "| a | b |\n| --- | --- |\n\n| c | d |\n| - | - |\n| 1 | 2 |\n"
    )
    assert found.removed == {"front matter": 1, "image": 2, "comment": 1}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.pdf", pdf_of(["BT /F1 9 Tf (x) Tj ET"], trailer=LOCKED), "is encrypted; save it without its password"),
        ("a.pdf", pdf_of(["0 0 100 100 re f"] * 12), "no text layer: 12 pages; recognise the text first (ocrmypdf"),
        ("a.pdf", b"%PDF-1.4 and no more", "is no PDF, or is damaged; open it and print it into a new PDF"),
        ("a.docx", b"PK\x03\x04 broken", "is no .docx, or is cut short: it is no whole ZIP"),
        ("a.docx", docx_file(BLOCKS)[:-40], "is no .docx, or is cut short: it is no whole ZIP"),
        ("a.docx", zip_file({"a.txt": "x"}), "is a ZIP, but no Word document"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is under a password, or of Word before 2007"),
        ("a.docx", docx_file([], body="<w:p><w:r>"), "the document is damaged (ExpatError"),
        ("a.docx", docx_file([], body="<w:p>" * 9_000 + "</w:p>" * 9_000), "the document is damaged (RecursionError"),
        ("a.docx", docx_file([], body=docx_line(" " * (30 << 20))), "unpacks to 30 MiB of XML, and at most 24 MiB"),
        ("a.html", "<p>" + "x" * (17 << 20), "has 17 MiB, and a html file is read as a whole, up to 16 MiB"),
        ("a.html", "<nav>Home</nav><script>x</script>", "the page has no text of its own"),
        ("a.html", b"<p>\0</p>", "byte 0x00 does not belong in text"),
    ],
)
def test_a_file_that_gives_no_text_is_bad_and_says_what_to_do(folder: Path, name: str, content, problem: str):
    assert problem in problem_of(folder, name, content)


def test_a_huge_file_is_refused_before_it_is_read(folder: Path):
    with (folder / "a.html").open("wb") as file:
        file.truncate(200 << 20)  # takes no room on the disk
    found = read_file(folder / "a.html", folder)
    assert isinstance(found, BadFile)
    assert "has 200 MiB" in found.problem


def test_a_piece_begins_with_a_heading_where_the_bounds_allow():
    sections = [f"## Part {number}\n\n" + "\n\n".join(["one two three four five"] * 7) for number in range(9)]
    pieces = cut("\n\n".join(sections), Bounds(35, 100), words)
    assert len(pieces) > 3
    assert all(piece.text.lstrip().startswith("## Part") for piece in pieces)
    assert all(35 <= piece.tokens <= 100 for piece in pieces)


def test_a_comment_in_a_fence_is_no_heading():
    code = "```\n" + "\n\n".join(["# a b c"] * 12) + "\n```"
    pieces = cut(f"{code}\n\n# Next\n\n" + "one two three four five\n\n" * 6, Bounds(10, 60), words)
    assert [piece.text.lstrip().split("\n")[0] for piece in pieces] == ["```", "# Next"]


def test_a_mixed_folder_becomes_one_dataset(run_here: RunHere, tmp_path: Path, folder: Path):
    model = str(make_tiny_model(tmp_path / "model"))
    (folder / "a.html").write_text(html_page(topic("with")))
    (folder / "b.docx").write_bytes(docx_file(topic("try")))
    (folder / "c.pdf").write_bytes(pdf_file(topic("import")))
    (folder / "d.md").write_text("# Notes\n\n" + "Trains stand in long rows. " * 60)
    (folder / "e.txt").write_text("Nobody counts them but the clock. " * 60)
    (folder / "f.pdf").write_bytes(pdf_of(["0 0 100 100 re f"] * 3))
    failed = run_here("dataset.prepare", source=str(folder), base_model=model, max_tokens=600)
    assert (failed.state, failed.cause) == (State.FAILED, Cause.DATA)
    assert f"{folder / 'f.pdf'}: no text layer: 3 pages" in str(failed.failure)
    done = run_here("dataset.prepare", source=str(folder), base_model=model, max_tokens=600, on_bad_file="skip")
    assert done.state == State.SUCCEEDED, done.failure
    result = done.result or {}
    assert result["extracted"] == {"html": 1, "docx": 1, "pdf": 1, "markdown": 1}
    assert (result["files"], result["bad"]) == (6, 1)
    assert result["removed"]["navigation"] >= 1
    assert result["removed"]["running line"] == result["removed"]["page number"]
    dataset = run_here.artifact(result["dataset"])
    assert json.loads((dataset / "statistics.json").read_text())["extracted"] == result["extracted"]
    origins = {example.origin.document for example in read_examples(dataset) if example.origin}
    assert origins == {"a.html", "b.docx", "c.pdf", "d.md", "e.txt"}


def test_libraries_are_loaded_only_for_files_that_need_them(folder: Path, subprocess_modules):
    (folder / "a.txt").write_text("Yard.")
    loaded = subprocess_modules(
        f"from tasks.data.sources import find_source; list(find_source({str(folder)!r}).read())"
    )
    assert not loaded & {"selectolax", "mammoth", "pypdfium2", "markdown_it"}
    assert len(list(find_source(str(folder)).read())) == 1


@pytest.fixture
def subprocess_modules():
    """The modules that a fresh interpreter has loaded after a line of code."""
    import subprocess
    import sys

    def run(line: str) -> set[str]:
        code = f"import sys; {line}; print(*(name.partition('.')[0] for name in sys.modules))"
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    return run
