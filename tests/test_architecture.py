"""ARCHITECTURE.md says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from queue_app.job_type import find_job_type, kinds, module_name
from queue_app.lifecycle import TRANSITIONS, Cause, Reason

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]+)`")
TEST_NAME = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def table(*columns: str) -> list[list[str]]:
    """The rows below the one header with these columns."""
    lines = TEXT.splitlines()
    start = lines.index(f"| {' | '.join(columns)} |") + 2
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:end]]


def words(text: str) -> list[str]:
    """What stands as code within the lines of a text; fences have no pairs of marks and stay out."""
    return [word for line in text.splitlines() if not line.startswith("```") for word in CODE.findall(line)]


def decisions() -> dict[str, list[str]]:
    """The lines of every decision, by its heading."""
    parts = TEXT.partition("## 9. Decisions")[2].split("\n### ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2].split("\n") for part in parts}


def test_the_transition_table_is_that_of_the_code() -> None:
    written = [(words(event), words(sources), words(target)) for event, sources, target in table("event", "from", "to")]
    meant = [
        ([event.value], sorted(source.value for source in sources), [target.value] if target else [])
        for event, (sources, target) in TRANSITIONS.items()
    ]
    assert written == meant


@pytest.mark.parametrize(("column", "known"), [("reason", Reason), ("cause", Cause)])
def test_every_reason_and_every_cause_is_explained(column: str, known: type[Reason | Cause]) -> None:
    assert sorted(word for word, _ in table(column, "meaning")) == sorted(f"`{value}`" for value in known)


def test_every_kind_is_in_the_document() -> None:
    rows = table("kind", "module", "queues", "what it does")
    assert sorted(words(row[0])[0] for row in rows) == kinds()
    for kind, module, queues, _ in rows:
        name = words(kind)[0]
        assert words(module) == [f"{module_name(name).replace('.', '/')}.py"]
        assert tuple(queues.split(", ")) == find_job_type(name).queues


def test_every_room_exists_and_every_package_is_a_room() -> None:
    rooms = {words(room)[0].rstrip("/") for room, *_ in table("room", "what lives there", "may import")}
    assert [room for room in sorted(rooms) if not (ROOT / room).is_dir()] == []
    ours = [ROOT / name for name in ("settings", "queue_app", "tasks", "api_worker", "gpu_worker")]
    packages = {path.parent.relative_to(ROOT).as_posix() for top in ours for path in top.rglob("__init__.py")}
    assert packages - rooms == set()


def test_every_file_and_every_test_it_names_is_there() -> None:
    tests = {name for path in (ROOT / "tests").rglob("test_*.py") for name in TEST_NAME.findall(path.read_text())}
    named = set(words(TEXT))
    assert {word for word in named if re.fullmatch(r"test_\w+", word)} - tests == set()
    files = {word for word in named if re.fullmatch(r"(tests|tasks|gpu_worker|queue_app|benchmarks)/[\w/]+\.py", word)}
    assert files
    assert [file for file in sorted(files) if not (ROOT / file).is_file()] == []


def test_every_fault_has_its_line_of_proof() -> None:
    faults = [number for number, *_ in table("no", "fault", "what happens")]
    listed = re.findall(r"^(\d+)\. (?:`test_\w+`|no test)$", TEXT.partition("\nShown by:\n")[2], re.MULTILINE)
    assert faults == listed


def test_a_decision_has_five_lines() -> None:
    found = decisions()
    assert found
    for heading, lines in found.items():
        names = [line.partition("**")[2].partition("**")[0] for line in lines if line]
        assert names == ["Decision", "Why", "Price", "Alternative", "Measured"], heading


def test_no_line_of_the_documents_is_too_long() -> None:
    documents = [ROOT / name for name in ("ARCHITECTURE.md", "CHANGELOG.md")]
    long = [
        f"{path.name} line {number}"
        for path in documents
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 120
    ]
    assert long == []
