"""Documents made into examples, and `dataset.prepare` as a job."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from queue_app.errors import Cancelled
from queue_app.lifecycle import Cause, State
from tasks.data.examples import read_examples
from tasks.data.phrasing import cut_passage
from tasks.data.preparing import Shape, examples_of, readable, sizes_of
from tasks.data.sources import Document, find_source
from tasks.data.statistics import Tally, distribution, histogram, write_statistics
from tasks.data.tokens import TokenCounter
from tasks.data.walking import BadFile
from tasks.data.writing import DatasetWriter
from tasks.prepare_dataset import PrepareDataset, PreparedDataset, Progress, prepare_dataset
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from queue_app.job_type import Attempt, PollAgain
    from tasks.data.record import Record
    from tests.conftest import RunHere

STORY = "The yard is quiet at night. Trains stand in long rows. Nobody counts them! Only the clock goes on.\n\n" * 40


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(make_tiny_model(tmp_path / "model"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good text."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "story.txt").write_text(STORY)
    return folder


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def contents(example: Record) -> list[str]:
    return [message.content or "" for message in example.messages]


def passage_and_rest(example: Record) -> str:
    asked, answer = contents(example)
    return asked.removeprefix("Continue this passage.\n\n") + answer


@given(
    st.text(st.sampled_from("ab .!\n\t”é。") | st.characters(exclude_categories=["Cs"]), max_size=500),
    st.integers(8, 60),
)
def test_nothing_of_a_text_is_lost_but_what_is_counted_as_dropped(text: str, most: int):
    tally = Tally()
    shape = Shape(most // 3, most, 2)
    examples = list(examples_of([Document("a", text)], shape, words, tally))
    kept = "".join(map(passage_and_rest, examples))
    everything = "".join(text.split())
    left = "".join(kept.split())
    signs = iter(everything)
    assert all(sign in signs for sign in left), "what was kept is not the text in its order"
    assert len(everything) - len(left) <= tally.dropped_characters
    assert bool(tally.dropped) == (len(left) < len(everything)) or not everything
    assert all(size <= most for size in sizes_of(examples, words))


@given(st.text(min_size=1).map(str.strip).filter(bool))
def test_a_passage_and_its_continuation_are_the_text(text: str):
    passage, rest = cut_passage(text)
    assert "".join((passage + rest).split()) == "".join(text.split())
    assert bool(rest) == (len(text.split()) > 1 or bool(re.search("[。！？、，；：].", text)))


def test_a_passage_ends_with_a_sentence_near_the_first_quarter():
    passage, rest = cut_passage(STORY[:99])
    assert (passage, rest[:6]) == ("The yard is quiet at night.", "Trains")


def test_topics_become_requests_and_answers_within_bounds(run_here: RunHere, model: str):
    done = run_here("dataset.prepare", source="builtin:python-topics", base_model=model, max_tokens=1000)
    assert done.state == State.SUCCEEDED, done.failure
    result = done.result or {}
    folder = run_here.artifact(result["dataset"])
    examples = list(read_examples(folder))
    sizes = sizes_of(examples, TokenCounter.of_model(Path(model)))
    assert {name: result[name] for name in distribution(sizes)} == distribution(sizes)
    assert max(sizes) <= 1000
    assert (result["examples"], result["files"], result["dropped"]) == (len(examples), 79, {})
    answers = "".join(contents(example)[1] for example in examples)
    assert "".join(answers.split()) == "".join("".join(topics[name] for name in sorted(topics)).split())


def test_pieces_of_a_topic_are_numbered_and_told_apart_by_their_origin(run_here: RunHere, model: str):
    done = run_here("dataset.prepare", source="builtin:python-topics", base_model=model, max_tokens=1000)
    assert done.result is not None
    rows = list(read_examples(run_here.artifact(done.result["dataset"])))
    lambdas = [contents(row)[0] for row in rows if row.origin and row.origin.document == "lambda"]
    assert lambdas == ['Explain the Python topic "lambda" (Lambdas).']
    trying = [contents(row)[0] for row in rows if row.origin and row.origin.document == "try"]
    assert len(trying) > 2
    assert all(f", part {number} of {len(trying)}." in request for number, request in enumerate(trying, 1))


def test_prose_becomes_passages_to_continue(run_here: RunHere, model: str, folder: Path):
    done = run_here("dataset.prepare", source=str(folder), base_model=model, max_tokens=300)
    assert done.result is not None
    examples = list(read_examples(run_here.artifact(done.result["dataset"])))
    assert all(contents(example)[0].startswith("Continue this passage.\n\n") for example in examples)
    assert "".join("".join(map(passage_and_rest, examples)).split()) == "".join(STORY.split())
    assert done.result["min_tokens"] >= 105
    assert done.result["short"] == 0


def test_statistics_stand_beside_the_examples_with_a_histogram(run_here: RunHere, model: str, folder: Path):
    (folder / "old.txt").write_bytes(("Le café était fermé. " * 40).encode("cp1252"))
    (folder / "blank.txt").write_text(" \n\n")
    (folder / "tiny.txt").write_text("Yard.")
    (folder / ".hidden").write_text("Yard.")
    done = run_here("dataset.prepare", source=str(folder), base_model=model, max_tokens=300)
    assert done.result is not None
    statistics = json.loads((run_here.artifact(done.result["dataset"]) / "statistics.json").read_text())
    assert statistics["repaired"] == {"old.txt": "cp1252"}
    assert sum(bar["examples"] for bar in statistics["histogram"]) == done.result["examples"] == statistics["examples"]
    assert (done.result["files"], done.result["hidden"], done.result["repaired"]) == (4, 1, 1)
    assert done.result["dropped"] == {"blank": 1, "tiny": 1}
    assert done.result["dropped_characters"] == len(" \n\nYard.")


def test_every_bad_file_is_named_and_nothing_is_published(run_here: RunHere, model: str, folder: Path):
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\0")
    (folder / "zeros.txt").write_bytes(b"one\ntwo\0three")
    done = run_here("dataset.prepare", source=str(folder), base_model=model)
    assert (done.state, done.cause) == (State.FAILED, Cause.DATA)
    failure = str(done.failure)
    assert failure.startswith(
        "2 files are not usable text; repair or remove them, or leave them out with on_bad_file=skip"
    )
    assert f"{folder / 'photo.png'}: line 2, byte 6: byte 0x00 does not belong in text" in failure
    assert f"{folder / 'zeros.txt'}: line 2, byte 7: byte 0x00" in failure


def test_bad_files_are_counted_when_they_are_to_be_left_out(run_here: RunHere, model: str, folder: Path):
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\0")
    done = run_here("dataset.prepare", source=str(folder), base_model=model, on_bad_file="skip")
    assert done.result is not None
    assert (done.result["bad"], done.result["files"]) == (1, 2)


def test_only_so_many_bad_files_are_named(run_here: RunHere, model: str, folder: Path):
    for number in range(25):
        (folder / f"{number:02}.bin").write_bytes(b"\0")
    failure = str(run_here("dataset.prepare", source=str(folder), base_model=model).failure)
    assert failure.count("byte 0x00") == 20
    assert failure.endswith("and 5 more")


def test_a_named_encoding_is_used_for_what_is_not_utf8(run_here: RunHere, model: str, folder: Path):
    (folder / "cat.txt").write_bytes(("吾輩は猫である。" * 40).encode("shift_jis"))
    assert "encoding is not certain" in str(run_here("dataset.prepare", source=str(folder), base_model=model).failure)
    done = run_here("dataset.prepare", source=str(folder), base_model=model, encoding="shift_jis")
    assert done.result is not None
    assert done.result["repaired"] == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (" \n\n", r"no example came out of 1 files \(1 blank\); give more text$"),
        ("Yard.", r"\(1 tiny\); give more text, or lower tiny_tokens"),
        ("x" * 60_000, r"\(1 too long a word\); give text with spaces between its words, or raise max_tokens"),
    ],
)
def test_text_that_gives_no_example_fails_with_the_reasons(
    run_here: RunHere, model: str, tmp_path: Path, text: str, problem: str
):
    (tmp_path / "only.txt").write_text(text)
    done = run_here("dataset.prepare", source=str(tmp_path / "only.txt"), base_model=model)
    assert (done.state, done.cause) == (State.FAILED, Cause.DATA)
    assert re.search(problem, str(done.failure))


@pytest.mark.parametrize(
    ("tokenizer", "problem"),
    [
        (None, "has no tokenizer.json to count tokens with"),
        ("{", "tokenizer.json is not JSON"),
        ("{}", "tokenizer.json describes no tokenizer: it has no field model"),
        ('{"model": {}}', "tokenizer.json describes no usable tokenizer ("),
    ],
)
def test_a_model_without_a_usable_tokenizer_is_refused(
    run_here: RunHere, tmp_path: Path, folder: Path, tokenizer: str | None, problem: str
):
    (tmp_path / "bare").mkdir()
    if tokenizer is not None:
        (tmp_path / "bare" / "tokenizer.json").write_text(tokenizer)
    done = run_here("dataset.prepare", source=str(folder), base_model=str(tmp_path / "bare"))
    assert (done.state, done.cause) == (State.FAILED, Cause.USER)
    assert problem in str(done.failure)


def test_the_same_text_makes_the_same_artifact(run_here: RunHere, model: str, folder: Path):
    jobs = [run_here.submit("dataset.prepare", reuse=False, source=str(folder), base_model=model) for _ in range(2)]
    first, second = [run_here.finish(job) for job in jobs]
    assert (first.result or {})["dataset"] == (second.result or {})["dataset"]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"min_tokens": 900, "max_tokens": 800}, r"min_tokens \(900\) is above max_tokens \(800\)"),
        ({"encoding": "klingon"}, 'no text encoding "klingon"; try cp1252'),
        ({"encoding": "hex"}, 'no text encoding "hex"'),
        ({"encoding": "undefined"}, 'no text encoding "undefined"'),
        ({"max_tokens": 3}, "greater than or equal to 16"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(wrong: dict[str, Any], problem: str):
    with pytest.raises(ValidationError, match=problem):
        PrepareDataset(source="x", base_model="y", **wrong)


@given(st.lists(st.integers(0, 5000), min_size=1))
def test_a_histogram_holds_every_size_once_in_few_bars(sizes: list[int]):
    bars = histogram(sizes)
    assert sum(bar["examples"] for bar in bars) == len(sizes)
    assert len(bars) <= 20
    assert all(any(bar["from"] <= size < bar["below"] for bar in bars) for size in sizes)


def test_percentiles_are_sizes_that_occur():
    figures = distribution(range(1, 101))
    assert (figures["p50_tokens"], figures["p95_tokens"], figures["mean_tokens"]) == (50, 95, 50.5)
    assert distribution([7])["p95_tokens"] == 7


def test_a_request_that_leaves_no_room_is_refused_for_what_it_is(run_here: RunHere, model: str, folder: Path):
    done = run_here("dataset.prepare", source=str(folder), base_model=model, max_tokens=16, tiny_tokens=0)
    assert (done.state, done.cause) == (State.FAILED, Cause.USER)
    assert re.search(r"max_tokens=16 leaves no room for text: the request for story.txt alone", str(done.failure))


def test_a_utf16_file_without_a_mark_is_read_once_its_encoding_is_named(run_here: RunHere, model: str, tmp_path: Path):
    (tmp_path / "wide.txt").write_bytes(STORY.encode("utf-16-le"))
    done = run_here(
        "dataset.prepare", source=str(tmp_path / "wide.txt"), base_model=model, max_tokens=300, encoding="utf-16-le"
    )
    assert done.state == State.SUCCEEDED, done.failure
    assert (done.result or {})["repaired"] == 1


def test_names_that_are_not_utf8_are_written_with_a_mark_in_their_place(tmp_path: Path):
    (tmp_path / "texts").mkdir()
    for name, content in ((b"caf\xe9.txt", STORY.encode()), (b"photo\xe9.png", b"\0")):
        Path(os.fsdecode(os.fsencode(tmp_path / "texts") + b"/" + name)).write_bytes(content)
    tally = Tally()
    documents = readable(find_source(str(tmp_path / "texts")).read(), tally, skip_bad=True)
    with DatasetWriter(tmp_path / "dataset") as writer:
        for example in examples_of(documents, Shape(20, 80, 2), words, tally):
            writer.write(example)
    write_statistics(tmp_path / "dataset", {"bad": tally.bad}, tally.sizes)
    origins = {example.origin.document for example in read_examples(tmp_path / "dataset") if example.origin}
    assert origins == {"caf\ufffd.txt"}
    assert "photo\ufffd.png: " in (tmp_path / "dataset" / "statistics.json").read_text()


def test_a_worker_that_shuts_down_is_heard_within_one_file(run_here: RunHere, model: str, folder: Path):
    def body(spec: Any, attempt: Attempt) -> PreparedDataset | PollAgain:
        yard.runner.stopping.set()
        return prepare_dataset.body(spec, attempt)

    yard = run_here.declaring(replace(prepare_dataset, body=body))
    job_id = yard.submit("dataset.prepare", source=str(folder), base_model=model)
    yard.runner.run(job_id=job_id)
    job = yard.store.read.job(job_id)
    assert (job.state, job.progress) == (State.QUEUED, {"step": 0, "steps": 1})


def test_a_long_text_is_counted_in_batches_with_a_look_between_them(model: str):
    looks: list[int] = []
    count = TokenCounter.of_model(Path(model), lambda: looks.append(1))
    assert count(["yard " * 80_000] * 5 + ["yard"] * 2000) == [*count(["yard " * 80_000] * 5), *count(["yard"] * 2000)]
    assert len(looks) == 6 + 5 + 2


def test_a_request_to_stop_is_heard_while_a_file_is_read():
    read_on = threading.Event()

    def files() -> Iterator[BadFile]:
        read_on.wait()
        yield BadFile("a.docx", "too late")

    class Stopped:
        def report(self, **progress: float | int | str | None) -> None:
            raise Cancelled(f"at {progress}")

    with pytest.raises(Cancelled):
        next(Progress(cast("Attempt", Stopped()), 1).follow(files()))
    read_on.set()


def test_an_error_of_a_file_comes_through_as_it_is():
    def files() -> Iterator[BadFile]:
        yield from ()
        raise ZeroDivisionError

    class Going:
        def report(self, **progress: float | int | str | None) -> None:
            del progress

    with pytest.raises(ZeroDivisionError):
        list(Progress(cast("Attempt", Going()), 1).follow(files()))
