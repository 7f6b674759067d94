"""Examples divided into two sides, and `dataset.split` as a job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from queue_app.lifecycle import Cause, State
from tasks.data.examples import read_examples
from tasks.data.record import Message, Origin, Record, content_hash
from tasks.data.splitting import choose_cut
from tasks.data.writing import DatasetWriter, JsonlWriter
from tasks.split_dataset import SplitDataset

if TYPE_CHECKING:
    from tests.conftest import RunHere


def row(number: int, answer: str | None = None, origin: Origin | None = None) -> Record:
    asked, told = f"Where is train {number}?", answer or f"On track {number}."
    return Record([Message("user", asked), Message("assistant", told)], origin=origin)


def write_rows(path: Path, rows: Sequence[object]) -> None:
    with JsonlWriter(path) as writer:
        for each in rows:
            writer.write(each)


ROWS = [row(number) for number in range(200)]
NUMBERS = st.lists(st.integers(0, 10_000), unique=True, min_size=2, max_size=60)


def sides(rows: list[Record], holdout: float, seed: int = 0) -> tuple[list[Record], list[Record]]:
    cut = choose_cut(rows, holdout, seed)
    held = [row for row in rows if cut.holds_out(row)]
    return [row for row in rows if row not in held], held


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """200 examples out of 20 documents."""
    with DatasetWriter(tmp_path / "dataset") as writer:
        for number in range(200):
            writer.write(row(number, origin=Origin(f"{number // 10}.txt", number % 10 + 1, 10, 20)))
    return tmp_path / "dataset"


@given(NUMBERS, st.integers(), st.floats(0.01, 0.99))
def test_an_example_stays_on_its_side_whatever_stands_beside_it(numbers: list[int], seed: int, share: float):
    rows = [row(number) for number in numbers]
    some = rows[::2]
    train, held = sides(rows, share, seed)
    train_of_some, held_of_some = sides(list(reversed(some)), share, seed)
    assert all(example in train for example in train_of_some)
    assert all(example in held for example in held_of_some)


@given(NUMBERS, st.integers(), st.data())
def test_exactly_as_many_are_held_out_as_asked_for(numbers: list[int], seed: int, data: st.DataObject):
    wanted = data.draw(st.integers(1, len(numbers) - 1))
    train, held = sides([row(number) for number in numbers], wanted, seed)
    assert (len(train), len(held)) == (len(numbers) - wanted, wanted)


@given(NUMBERS, st.integers(1, 20))
def test_a_row_added_to_a_number_held_out_displaces_one_at_most(numbers: list[int], wanted: int):
    rows = [row(number) for number in numbers]
    wanted = min(wanted, len(rows))
    _, before = sides(rows, wanted)
    _, after = sides([*rows, row(20_000)], wanted)
    assert len([example for example in before if example not in after]) <= 1


def test_a_share_is_about_reached_and_another_seed_holds_out_others():
    rows = [row(number) for number in range(5000)]
    _, held = sides(rows, 0.1)
    assert 420 < len(held) < 580
    _, others = sides(rows, 0.1, seed=1)
    assert held[0] != others[0]
    assert len([example for example in others if example in held]) < len(others) / 2


def test_weights_agents_and_metadata_move_no_example():
    cut = choose_cut([], 0.5, 0)
    marked = [Record(each.messages, weight=0.5, target_agent="porter", metadata={"page": 3}) for each in ROWS]
    assert [cut.holds_out(each) for each in ROWS] == [cut.holds_out(each) for each in marked]


def test_a_split_publishes_two_sides_that_are_the_whole_and_share_nothing(run_here: RunHere, dataset: Path):
    done = run_here("dataset.split", source=str(dataset))
    assert done.state == State.SUCCEEDED, done.failure
    result = done.result or {}
    train, held = (list(read_examples(run_here.artifact(result[side]))) for side in ("train", "holdout"))
    assert sorted(map(content_hash, train + held)) == sorted(map(content_hash, ROWS))
    assert not set(map(content_hash, train)) & set(map(content_hash, held))
    assert (result["train_examples"], result["holdout_examples"]) == (len(train), len(held))
    statistics = json.loads((run_here.artifact(result["holdout"]) / "statistics.json").read_text())
    assert (statistics["examples"], statistics["tokens"]) == (len(held), 20 * len(held))


def test_pieces_of_one_document_stay_together_and_keep_their_origin(run_here: RunHere, dataset: Path):
    done = run_here("dataset.split", source=str(dataset), group_by="document", holdout=0.3)
    assert done.result is not None
    origins = [
        [row.origin.document for row in read_examples(run_here.artifact(done.result[side])) if row.origin]
        for side in ("train", "holdout")
    ]
    assert not set(origins[0]) & set(origins[1])
    assert len(origins[0]) + len(origins[1]) == 200


def test_repeated_examples_come_to_one_side_and_are_counted(run_here: RunHere, tmp_path: Path):
    write_rows(tmp_path / "rows.jsonl", [*ROWS, *ROWS[:50]])
    done = run_here("dataset.split", source=str(tmp_path / "rows.jsonl"), holdout=0.5)
    assert done.result is not None
    assert (done.result["duplicates"], done.result["examples"]) == (50, 250)


def test_answers_on_both_sides_are_counted_and_can_be_kept_together(run_here: RunHere, tmp_path: Path):
    write_rows(tmp_path / "rows.jsonl", [row(number, f"Track {number % 20}.") for number in range(200)])
    mixed = run_here("dataset.split", source=str(tmp_path / "rows.jsonl"), holdout=0.3)
    apart = run_here("dataset.split", source=str(tmp_path / "rows.jsonl"), holdout=0.3, group_by="answer")
    assert (mixed.result or {})["shared_answers"] > 0
    assert (apart.result or {})["shared_answers"] == 0


@pytest.mark.parametrize(
    ("rows", "spec", "problem"),
    [
        (ROWS[:1], {}, "there is only 1 distinct example in 1 examples"),
        (
            ROWS[:1] * 50,
            {"holdout": 0.5},
            "there is only 1 distinct example in 50 examples, and equal ones stay together",
        ),
        ([row(n, "x") for n in range(9)], {"group_by": "answer"}, "give more data, or group_by=example"),
        (ROWS[:2], {"holdout": 0.001}, "none of 2 examples is left for holdout; take a larger holdout (1 or more is a"),
        (ROWS[:3], {"holdout": 3}, "none of 3 examples is left for training; take a smaller holdout"),
        (ROWS[:3], {"holdout": 4}, "4 examples cannot be held out of 3; ask for fewer or give more"),
        (
            ROWS,
            {"group_by": "document"},
            "does not tell its documents (an example has no origin); split it with group_by=example",
        ),
        ([], {}, "holds no example"),
        ([{"nonsense": "x"}], {}, 'rows.jsonl line 1: no format has rows with these keys: "nonsense"'),
    ],
)
def test_a_split_that_cannot_be_made_says_what_to_do(
    run_here: RunHere, tmp_path: Path, rows: list[Any], spec: dict[str, Any], problem: str
):
    write_rows(tmp_path / "rows.jsonl", rows)
    done = run_here("dataset.split", source=str(tmp_path / "rows.jsonl"), **spec)
    assert done.state == State.FAILED
    assert done.cause in {Cause.DATA, Cause.USER}
    assert problem in str(done.failure)


def test_one_example_in_two_documents_cannot_be_split_by_document(run_here: RunHere, tmp_path: Path):
    with DatasetWriter(tmp_path / "dataset") as writer:
        for number in range(40):
            writer.write(row(0, origin=Origin(f"{number}.txt", 1, 1, 20)))
    done = run_here("dataset.split", source=str(tmp_path / "dataset"), group_by="document", holdout=0.5)
    assert "stand in two documents that came to different sides; split with group_by=example" in str(done.failure)


@pytest.mark.parametrize("holdout", [0, -1, 1.5, float("inf"), float("nan")])
def test_a_holdout_that_is_neither_share_nor_number_is_refused(holdout: float):
    with pytest.raises(ValidationError, match="holdout"):
        SplitDataset(source="x", holdout=holdout)
