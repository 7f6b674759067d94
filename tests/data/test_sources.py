"""Where documents come from."""

from __future__ import annotations

import os
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from queue_app.errors import Permanent
from tasks.data.sources import BadFile, Document, find_source, strip_licence

BOOK = (
    "The Project Gutenberg EBook of Yards\n\nLicence.\n\n"
    "*** START OF THIS PROJECT GUTENBERG EBOOK YARDS ***\nIt was night.\n"
    "*** END OF THIS PROJECT GUTENBERG EBOOK YARDS ***\nMore licence.\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two texts, one of them a folder deeper, and two hidden files."""
    folder = tmp_path / "texts"
    for name in ("b.md", "a/z.txt", ".hidden", ".git/config"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"This is {name}.")
    return folder


def test_a_folder_is_read_to_its_depth_in_the_order_of_names_and_hidden_files_are_counted(folder: Path):
    source = find_source(str(folder))
    assert [(file.name, file.text) for file in source.read() if isinstance(file, Document)] == [
        ("a/z.txt", "This is a/z.txt."),
        ("b.md", "This is b.md."),
    ]
    assert (len(source), source.hidden) == (2, 2)


@pytest.mark.parametrize(("pattern", "names"), [("*.md", ["b.md"]), ("**/*.txt", ["a/z.txt"]), ("a/*", ["z.txt"])])
def test_a_glob_is_read(folder: Path, pattern: str, names: list[str]):
    found = find_source(str(folder / pattern)).read()
    assert [file.name for file in found if isinstance(file, Document)] == names


def test_a_file_whose_name_looks_like_a_glob_is_read_as_the_file_it_is(tmp_path: Path):
    (tmp_path / "notes [1].txt").write_text("Yard.")
    assert [
        file.text for file in find_source(str(tmp_path / "notes [1].txt")).read() if isinstance(file, Document)
    ] == ["Yard."]


def test_the_topics_of_python_are_read_with_what_they_explain():
    documents = [file for file in find_source("builtin:python-topics").read() if isinstance(file, Document)]
    assert {document.name: document.text for document in documents} == topics
    [asserting] = [document for document in documents if document.name == "assert"]
    assert asserting.subject == 'the Python topic "assert" (The "assert" statement)'


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        (
            "missing.txt",
            "missing.txt does not exist; source is a text file, a folder, a glob, or builtin:python-topics",
        ),
        ("empty", "the folder .*empty holds no file"),
        ("hidden", r"holds no file; put text files into it \(1 hidden ones are not read\)"),
        ("*.txt", r"no file matches .*\*.txt"),
        ("a**/b", "is no glob"),
    ],
)
def test_where_there_is_nothing_to_read_that_is_said(tmp_path: Path, where: str, problem: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".secret").write_text("x")
    with pytest.raises(Permanent, match=problem):
        find_source(str(tmp_path / where))


def test_a_mistyped_built_in_source_is_named_with_the_nearest():
    with pytest.raises(Permanent, match='no built-in source "python-topic"; did you mean "python-topics"'):
        find_source("builtin:python-topic")


@pytest.mark.parametrize("marks", [BOOK, BOOK.replace("*** ", "***").replace(" ***", "***").replace("THIS", "THE")])
def test_the_licence_around_a_book_is_taken_off(marks: str):
    assert strip_licence(marks).strip() == "It was night."


def test_a_text_without_a_licence_is_left_alone():
    assert strip_licence("* START *\nYard.\n") == "* START *\nYard.\n"


def test_what_was_taken_off_is_counted(tmp_path: Path):
    (tmp_path / "yards.txt").write_text(BOOK)
    [book] = find_source(str(tmp_path)).read()
    assert isinstance(book, Document)
    assert len(book.text) + book.licence_characters == len(BOOK)


def test_bad_files_are_told_with_their_reason(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "b.jsonl").write_text("{}")
    found = [file for file in find_source(str(tmp_path)).read() if isinstance(file, BadFile)]
    assert "byte 0x00 does not belong in text" in found[0].problem
    assert found[1] == BadFile(str(tmp_path / "b.jsonl"), "JSON lines are examples already; give them to dataset.split")


def test_a_file_that_vanishes_before_it_is_read_is_bad(folder: Path):
    source = find_source(str(folder))
    os.unlink(folder / "b.md")  # noqa: PTH108
    assert [file.problem for file in source.read() if isinstance(file, BadFile)] == [
        "cannot be read: No such file or directory"
    ]
