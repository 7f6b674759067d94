"""Training and evaluation read the same rows as the same tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoTokenizer

from gpu_worker.completions import read_rows
from gpu_worker.evaluating import tokenize
from gpu_worker.tokenising import IGNORED, tokenise
from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tests.tiny_model import CHAT_TEMPLATE, make_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

BRIEF = "{% for turn in messages %}{{ turn['content'] }} {% endfor %}"  # a prompt and an answer meet in a space
REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT_TEMPLATE


def write_rows(path: Path, *texts: tuple[str, str], role: str = "user") -> Path:
    rows = [
        {"prompt": [{"role": role, "content": a}], "completion": [{"role": "assistant", "content": b}]}
        for a, b in texts
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    return AutoTokenizer.from_pretrained(make_tiny_model(tmp_path / "model"))


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, BRIEF], ids=["plain", "brief"])
@pytest.mark.parametrize("answer", ["    return a", "\n\n  on time", "on time"])
def test_both_see_the_same_completion(tmp_path: Path, tokenizer: Any, template: str, answer: str) -> None:
    tokenizer.chat_template = template
    tokenizer.add_tokens(["\n    ", " \n"])  # as real tokenizers have them: a prompt's end and an indentation in one
    rows = write_rows(tmp_path / "rows.jsonl", ("the yard", answer))
    trained = tokenise(rows, tokenizer, 64, "completion").dataset[0]
    measured = tokenize(tokenizer, next(read_rows(rows)), 64)
    assert [label for label in trained["labels"] if label != IGNORED] == measured.ids[measured.start :]
    assert trained["input_ids"] == measured.ids
    assert answer in tokenizer.decode(measured.ids[measured.start :])


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\r"])
def test_only_a_line_feed_ends_a_row(tmp_path: Path, character: str) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ("ask", f"one{character}two"), ("ask", "three"))
    found = list(read_rows(rows))
    assert [row["completion"][0]["content"] for row in found] == [f"one{character}two", "three"]
    assert [row["number"] for row in found] == [1, 2]


def test_a_row_that_the_chat_template_refuses_is_named(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = REFUSING
    rows = write_rows(tmp_path / "rows.jsonl", ("be brief", "yes"), role="system")
    with pytest.raises(Permanent, match=r"example 1 \(roles: system\).*no system role") as refused:
        tokenise(rows, tokenizer, 64)
    assert refused.value.cause == Cause.DATA


def test_a_holdout_whose_prompts_are_too_long_is_named(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(Permanent, match="none of the 1 holdout examples"):
        tokenise(write_rows(tmp_path / "rows.jsonl", ("the yard " * 9, "x")), tokenizer, 8)
