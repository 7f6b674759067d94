"""What the trainer says of a run is measured as it is labelled."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerControl, TrainerState

from gpu_worker.backends.hardware import Hardware
from gpu_worker.child_side import Channel
from gpu_worker.completions import read_rows
from gpu_worker.evaluating import batched, measure, readable
from gpu_worker.sft import build_trainer, sft_arguments
from gpu_worker.tokenising import tokenise
from gpu_worker.training_config import TrainingOrder
from gpu_worker.watch import Watch
from tests.gpu_worker.test_evaluating import Counted
from tests.gpu_worker.test_training import order
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Channel]:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    yield Channel(nowhere, tmp_path)
    os.close(nowhere)


@pytest.mark.parametrize("loss", ["nll", "chunked_nll"])
def test_the_holdout_loss_is_what_the_evaluation_measures(tmp_path: Path, loss: str) -> None:
    folder = make_tiny_model(tmp_path / "model")
    made = TrainingOrder.model_validate(order(tmp_path, folder, micro_batch_size=2))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    examples = [tokens for _, tokens in readable(tokenizer, list(read_rows(made.rows)), 256)[0]]
    expected = measure(model.eval(), batched(examples, 4), "base", Counted())

    settings = sft_arguments(made, Hardware("cpu", "any", torch.float32), evaluates=True, loss=loss)
    data = tokenise(made.rows, tokenizer, 256).dataset  # 3 batches of 2 and one of 1, of growing length
    fresh = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))  # changes nothing yet
    found = build_trainer(fresh, tokenizer, settings, [data, data]).evaluate()["eval_loss"]
    assert found == pytest.approx(sum(e.nats for e in expected) / sum(e.tokens for e in expected), rel=1e-5)


def test_only_steps_count_as_training_time(tmp_path: Path, channel: Channel) -> None:
    made = TrainingOrder.model_validate(order(tmp_path, make_tiny_model(tmp_path / "model")))
    settings = sft_arguments(made, Hardware("cpu", "any", torch.float32), evaluates=True, loss="nll")
    watch, state, control = Watch(channel, made, {}), TrainerState(), TrainerControl()
    watch.on_train_begin(settings, state, control)
    assert watch.tokens_per_second is None
    for _ in range(2):
        watch.on_step_begin(settings, state, control)
        watch.on_step_end(settings, state, control)
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            channel.progress()  # a look at the holdout
    assert 0 < watch.seconds < 0.2
