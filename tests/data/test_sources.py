"""Where documents come from."""

from __future__ import annotations

import os
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from queue_app.errors import Permanent
from tasks.data.sources import Document, find_source, strip_licence
from tasks.data.walking import BadFile, fits

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
        ("nowhere/*.txt", "there is no folder"),
        ("x" * 300, "cannot be read: File name too long"),
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


def problems(where: Path) -> dict[str, str]:
    source = find_source(str(where))
    files = list(source.read())
    assert len(files) == len(source)
    return {Path(file.path).name: file.problem for file in files if isinstance(file, BadFile)}


@pytest.mark.parametrize("pattern", ["", "*", "**/*"])
def test_what_cannot_be_read_as_a_file_is_bad_and_not_passed_over(folder: Path, pattern: str):
    os.mkfifo(folder / "pipe.txt")
    (folder / "lost.txt").symlink_to(folder / "nowhere")
    (folder / "circle.txt").symlink_to(folder / "circle.txt")
    assert problems(folder / pattern) == {
        "pipe.txt": "is a pipe, a socket or a device, and no file of text",
        "lost.txt": "is a link that leads nowhere: No such file or directory",
        "circle.txt": "is a link that leads nowhere: Too many levels of symbolic links",
    }


def test_a_pipe_is_no_source(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Permanent, match="is neither a file nor a folder"):
        find_source(str(tmp_path / "pipe"))


def deepen(folder: Path) -> None:
    """Folders within each other until their path is longer than the system opens, whoever asks."""
    inside = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=inside)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = below
    os.close(inside)


@pytest.mark.parametrize("pattern", ["", "**/*"])
def test_a_folder_that_cannot_be_looked_into_is_bad(folder: Path, pattern: str):
    deepen(folder)
    assert problems(folder / pattern) == {"d" * 250: "cannot be looked into: File name too long"}


def test_a_hidden_folder_that_cannot_be_looked_into_is_counted_as_hidden(folder: Path):
    (folder / ".deep").mkdir()
    deepen(folder / ".deep")
    assert problems(folder) == {}
    assert find_source(str(folder)).hidden == 3


@pytest.mark.parametrize("pattern", ["", "**/*.txt"])
def test_a_link_to_a_folder_is_not_followed_in_silence(folder: Path, tmp_path: Path, pattern: str):
    (tmp_path / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "up").symlink_to(folder)
    told = "is a link to a folder, which is not followed; prepare it by itself"
    assert problems(folder / pattern) == {"linked": told, "up": told}


def test_a_glob_that_says_how_deep_follows_links(folder: Path):
    (folder / "linked").symlink_to(folder / "a")
    found = find_source(str(folder / "*" / "*.txt")).read()
    assert [file.name for file in found if isinstance(file, Document)] == ["a/z.txt", "linked/z.txt"]


@pytest.mark.parametrize(
    ("path", "pattern", "here", "below"),
    [
        ("a/b.txt", "**/*.txt", True, True),
        ("b.txt", "**/*.txt", True, True),
        ("a/b.txt", "*.txt", False, False),
        ("a", "*/b.txt", False, True),
        ("c", "a/*", False, False),
        ("a/b/c", "a/**/c", True, True),
        ("x1", "x[0-9]", True, False),
    ],
)
def test_a_path_fits_a_pattern_part_by_part(path: str, pattern: str, *, here: bool, below: bool):
    parts, wanted = tuple(path.split("/")), tuple(pattern.split("/"))
    assert (fits(parts, wanted), fits(parts, wanted, above=True)) == (here, below)
