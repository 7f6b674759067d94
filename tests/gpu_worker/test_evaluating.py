from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpu_worker.comparison import ExampleLoss, check_measured, compare, ratio_interval, student_t
from gpu_worker.evaluating import batched, generate, measure, readable, spaced, tokenize
from gpu_worker.merging import merge
from queue_app.errors import Permanent
from queue_app.lifecycle import Cause, State
from tests.tiny_adapter import make_tiny_adapter
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from tests.conftest import RunHere

TEXT = "the yard runs every train on time and the tune is measured before it leaves"
WORDS = TEXT.split()


class Counted:
    """Stands where the progress of a job is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def done(self, phase: str, **values: float) -> None:
        self.told.append({"phase": phase, **values})


def row(prompt: str, completion: str) -> dict[str, Any]:
    asked, answered = example(prompt, completion)
    return {"number": 1, "prompt": [asked], "completion": [answered]}


def example(prompt: str, completion: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]


def rows(count: int) -> list[dict[str, Any]]:
    return [row(" ".join(WORDS[: 1 + n % 7]), " ".join(WORDS[n % 5 : 4 + n])) for n in range(count)]


def dataset(path: Path, count: int = 8) -> Path:
    """A dataset of so many examples of growing length."""
    lines = [json.dumps({"messages": each["prompt"] + each["completion"]}) for each in rows(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def merged(folder: Path, base: Path) -> Path:
    merge(base, make_tiny_adapter(folder / "adapter", base), folder / "tuned", lambda _: None)
    return folder / "tuned"


def test_the_loss_is_that_of_the_completions_alone_whatever_the_batch(tmp_path: Path):
    folder = make_tiny_model(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    examples = [tokens for _, tokens in readable(tokenizer, rows(7), 512)[0]]
    for size in (1, 3):
        found = measure(model, batched(examples, size), "base", Counted())
        for loss, tokens in zip(found, examples, strict=True):
            ids = torch.tensor([tokens.ids])
            labels = ids.clone()
            labels[0, : tokens.start] = -100
            with torch.inference_mode():
                expected = model(input_ids=ids, labels=labels).loss.item()
            assert loss.tokens == len(tokens.ids) - tokens.start
            assert loss.nats / loss.tokens == pytest.approx(expected, rel=1e-5)


def test_a_completion_ends_with_the_turn_and_not_with_the_text(tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_model(tmp_path / "model"))
    tokens = tokenize(tokenizer, row("the yard", "on time"), 512)
    assert tokenizer.decode(tokens.ids[: tokens.start]).endswith("<|im_start|>assistant\n")
    assert tokenizer.decode(tokens.ids[tokens.start :]) == "on time<|im_end|>\n"


def test_examples_are_cut_and_dropped_by_their_length(tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_model(tmp_path / "model"))
    whole = tokenize(tokenizer, row("the yard", "on time"), 512)
    kept, dropped = readable(tokenizer, [row("the yard", "on time"), row("the yard " * 40, "x")], len(whole.ids) - 1)
    assert dropped == 1
    assert [tokens.is_cut for _, tokens in kept] == [True]
    assert kept[0][1].ids == whole.ids[:-1]
    with pytest.raises(Permanent, match="none has a completion within max_length 16"):
        readable(tokenizer, [row("the yard " * 40, "x")], 16)


def test_rows_are_taken_evenly_from_the_whole():
    assert spaced(list(range(10)), 3) == [0, 3, 6]
    assert spaced(list(range(3)), 10) == [0, 1, 2]
    assert spaced(list(range(10)), 0) == []


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.7764), (9, 2.2622), (31, 2.0395), (1000, 1.9623)])
def test_the_quantiles_of_students_t_are_those_of_the_tables(freedom: int, quantile: float):
    assert student_t(0.975, freedom) == pytest.approx(quantile, rel=0.005)


def test_for_examples_of_one_length_the_interval_is_the_paired_t_interval():
    differences = [-0.3, -0.1, 0.05, -0.2, -0.4, -0.15]
    mean = sum(differences) / 6
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / 5 / 6)
    low, high = ratio_interval([10 * d for d in differences], [10] * 6) or (0, 0)
    assert low == pytest.approx(mean - 2.5706 * error, rel=0.01)
    assert high == pytest.approx(mean + 2.5706 * error, rel=0.01)


def test_losses_are_weighted_by_tokens():
    base = [ExampleLoss(30.0, 10), ExampleLoss(2.0, 1)]
    tuned = [ExampleLoss(20.0, 10), ExampleLoss(4.2, 1)]
    found = compare(base, tuned)
    assert found.base_loss == pytest.approx(32 / 11)
    assert found.loss_difference == pytest.approx((24.2 - 32) / 11)
    assert found.base_perplexity == pytest.approx(math.exp(32 / 11))
    assert (found.better, found.examples, found.tokens, found.interval) == (1, 2, 11, None)


def test_the_job_measures_both_models_and_leaves_a_report(run_here: RunHere, tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    tuned = merged(tmp_path, base)
    spec = {
        "dataset": str(dataset(tmp_path / "held-out.jsonl", 9)),
        "max_examples": 6,
        "prompts": 2,
        "max_new_tokens": 4,
    }
    job = run_here("model.evaluate", base_model=str(base), model=str(tuned), **spec)
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    folder = run_here.artifact(job.result["report"])
    report = json.loads((folder / "report.json").read_text())
    assert report["loss_difference"] == job.result["loss_difference"] != 0
    assert job.result["interval"][0] < job.result["loss_difference"] < job.result["interval"][1]
    assert job.result["examples"] == len(report["per_example"]) == 6
    assert sum(example["tokens"] for example in report["per_example"]) == job.result["tokens"]
    assert len(report["answers"]) == 2
    assert f"| loss (nats per completion token) | {job.result['base_loss']:.4f} |" in (folder / "report.md").read_text()


def test_a_model_compared_with_itself_differs_by_nothing(run_here: RunHere, tmp_path: Path):
    base = str(make_tiny_model(tmp_path / "base"))
    held_out = str(dataset(tmp_path / "held-out.jsonl"))
    job = run_here("model.evaluate", base_model=base, model=base, dataset=held_out, prompts=1, max_new_tokens=4)
    assert job.result is not None
    assert (job.result["loss_difference"], job.result["interval"], job.result["better"]) == (0, [0, 0], 0)
    report = json.loads((run_here.artifact(job.result["report"]) / "report.json").read_text())
    assert report["answers"][0]["base"] == report["answers"][0]["tuned"]


def test_models_of_different_tokens_are_not_compared(run_here: RunHere, tmp_path: Path):
    base, other = make_tiny_model(tmp_path / "base"), make_tiny_model(tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].pop()
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    held_out = str(dataset(tmp_path / "held-out.jsonl"))
    job = run_here("model.evaluate", base_model=str(base), model=str(other), dataset=held_out)
    assert (job.state, job.cause) == (State.FAILED, "user")
    assert "have different tokenizers" in str(job.failure)


@pytest.mark.parametrize("nats", [math.nan, math.inf, 8000.0])
def test_a_loss_that_is_no_number_is_no_measurement(nats: float):
    check_measured([ExampleLoss(30.0, 10)], "the base model")
    with pytest.raises(Permanent, match="the loss of the tuned model is .* nats per token") as refused:
        check_measured([ExampleLoss(30.0, 10), ExampleLoss(nats, 1)], "the tuned model")
    assert refused.value.cause == Cause.DATA


def test_a_tokenizer_without_a_pad_token_answers_too(tmp_path: Path):
    folder = make_tiny_model(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked = [row("the yard runs", "x"), row("on time", "y")]
    expected = generate(model, tokenizer, asked, 4)
    tokenizer.pad_token = None
    assert generate(model, tokenizer, asked, 4) == expected


def test_nothing_is_measured_beyond_the_models_context(run_here: RunHere, tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 48}))
    (tmp_path / "long.jsonl").write_text(json.dumps({"messages": example("the yard", TEXT * 3)}) + "\n")
    spec = {"dataset": str(tmp_path / "long.jsonl"), "prompts": 0}
    job = run_here("model.evaluate", base_model=str(base), model=str(base), **spec)
    assert job.result is not None, job.failure
    assert (job.result["max_length"], job.result["cut"]) == (48, 1)
    assert job.result["tokens"] < 48
