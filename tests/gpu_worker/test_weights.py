"""Weights reach the loss: an example of weight 2 pulls like two of it, and one of weight 0 not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpu_worker.backends.hardware import Hardware
from gpu_worker.completions import learned
from gpu_worker.sft import build_trainer, sft_arguments
from gpu_worker.tokenising import IGNORED, pack, tokenise
from gpu_worker.training_config import TrainingOrder
from queue_app.errors import Invalid, Permanent
from tests.gpu_worker.test_training import order
from tests.tiny_model import make_tiny_model

TALK = ("the yard", "on time", "the tune", "measured before it leaves")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def example(answer: str, weight: float = 1.0) -> dict[str, Any]:
    told = {"prompt": [{"role": "user", "content": "go"}], "completion": [{"role": "assistant", "content": answer}]}
    return told if weight == 1 else told | {"weight": weight}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


class Run:
    """One step's gradients of an adapter that is the same each time."""

    def __init__(self, folder: Path, tmp_path: Path, loss: str) -> None:
        self.folder, self.tmp_path, self.loss = folder, tmp_path, loss

    def gradients(self, *rows: dict[str, Any], micro_batch_size: int = 1) -> dict[str, torch.Tensor]:
        made = TrainingOrder.model_validate(order(self.tmp_path, self.folder, micro_batch_size=micro_batch_size))
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
        adapter = LoraConfig(
            task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False
        )
        model = get_peft_model(base, adapter)
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        data = tokenise(write(self.tmp_path / "rows.jsonl", *rows), tokenizer, 64, "completion").dataset
        settings = sft_arguments(made, Hardware("cpu", "any", torch.float32), evaluates=False, loss=self.loss)
        trainer = build_trainer(model, tokenizer, settings, [data])
        # as transformers' own loop does for the micro-batches of one step, in the order of the rows
        listed = [data[number] for number in range(len(data))]
        cut = range(0, len(listed), micro_batch_size)
        batches = iter([trainer.data_collator(listed[begin : begin + micro_batch_size]) for begin in cut])
        samples, tokens = trainer.get_batch_samples(batches, len(cut), torch.device("cpu"))
        trainer.current_gradient_accumulation_steps = len(samples)
        for batch in samples:
            trainer.training_step(trainer.model, batch, tokens)
        return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.fixture(params=["nll", "chunked_nll"])
def run(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Run:
    return Run(folder, tmp_path, request.param)


def check_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert any(value.abs().max() > 1e-4 for value in one.values())
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-6)


def check_differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert max(float((value - other[name]).abs().max()) for name, value in one.items()) > 1e-4


def test_an_example_of_weight_two_pulls_like_two_of_it(run: Run) -> None:
    short, long = "on time", "the tune is measured before it leaves"
    weighted = run.gradients(example(short, 2.0), example(long))
    check_close(weighted, run.gradients(example(short), example(short), example(long)))
    check_differ(weighted, run.gradients(example(short), example(long)))


def test_examples_of_several_weights_in_one_micro_batch_are_each_counted_as_they_say(run: Run) -> None:
    rows = [example("on time", 3.0), example("the tune is measured"), example("leaves", 0.5)]
    check_close(run.gradients(*rows, micro_batch_size=3), run.gradients(*rows, micro_batch_size=1))


def test_the_same_factor_in_all_weights_changes_no_bit(run: Run) -> None:
    ones = run.gradients(example("on time"), example("the tune is measured"))
    twos = run.gradients(example("on time", 2.0), example("the tune is measured", 2.0))
    assert all(torch.equal(value, twos[name]) for name, value in ones.items())


def test_an_example_of_weight_nothing_is_left_out_and_counted(tmp_path: Path, tokenizer: Any) -> None:
    rows = write(tmp_path / "rows.jsonl", example("on time"), example("leaves", 0.0))
    found = tokenise(rows, tokenizer, 64, "completion")
    assert (found.examples, found.weightless) == (1, 1)
    with pytest.raises(Permanent, match="all 1 training examples have weight 0"):
        tokenise(write(rows, example("leaves", 0.0)), tokenizer, 64, "completion")


def test_a_holdout_knows_no_weights(tmp_path: Path, tokenizer: Any) -> None:
    rows = write(tmp_path / "rows.jsonl", example("on time", 3.0), example("leaves", 0.0))
    found = tokenise(rows, tokenizer, 64)
    assert found.dataset.column_names == ["input_ids", "labels"]
    assert found.examples == 2


@pytest.mark.parametrize(
    ("train_on", "weights", "expected"),
    [
        ("completion", {}, [3]),
        ("answers", {}, [1, 3]),
        ("answers", {1: 0}, [3]),
        ("completion", {1: 1, 3: 0}, [1]),
        ("all", {0: 0}, [1, 2, 3]),
        ("all", {}, "everything"),
        ("completion", {3: 0}, []),
    ],
    ids=str,
)
def test_what_is_learned_is_what_the_messages_say(
    tokenizer: Any, train_on: Any, weights: dict[int, int], expected: list[int] | str
) -> None:
    roles = ("user", "assistant", "user", "assistant")
    messages: list[dict[str, Any]] = [{"role": r, "content": t} for r, t in zip(roles, TALK, strict=True)]
    for number, weight in weights.items():
        messages[number]["weight"] = weight
    row = {"number": 1, "prompt": messages[:-1], "completion": messages[-1:]}
    ids, stretches = learned(tokenizer, row, train_on)
    texts = [tokenizer.decode(ids[begin:end]) for begin, end in stretches]
    if expected == "everything":
        assert texts == [tokenizer.decode(ids)]
        return
    assert len(texts) == len(expected)
    for index, text in zip(map(int, expected), texts, strict=True):
        said = f"{TALK[index]}<|im_end|>\n"
        assert text == (said if roles[index] == "assistant" else f"<|im_start|>user\n{said}")


def test_rows_that_share_a_length_are_refused_where_examples_count_differently(tmp_path: Path, folder: Path) -> None:
    config = TrainingOrder.model_validate(order(tmp_path, folder, packing="wrapped", sequence_len=32)).hyperparameters
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [example(text) for text in TALK]
    packed = pack(tokenise(write(tmp_path / "rows.jsonl", *rows), tokenizer, 32, "completion"), config)
    alone = tokenise(tmp_path / "rows.jsonl", tokenizer, 32, "completion")
    stream = [token for ids in alone.dataset["input_ids"] for token in ids]
    assert packed.examples == 4
    assert [token for ids in packed.dataset["input_ids"] for token in ids] == stream
    assert all(len(ids) <= 32 for ids in packed.dataset["input_ids"])
    assert all(any(label != IGNORED for label in labels[1:]) for labels in packed.dataset["labels"])
    weighted = tokenise(write(tmp_path / "rows.jsonl", example("a b", 2.0), *rows), tokenizer, 32, "completion")
    with pytest.raises(Invalid, match="these count differently; take packing: none"):
        pack(weighted, config)
