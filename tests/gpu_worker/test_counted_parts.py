"""What is called counted equals, to the byte, what the real libraries hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitsandbytes.nn import Params4bit
from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from gpu_worker.backends import trl_model
from gpu_worker.backends.hardware import Hardware
from gpu_worker.fitting import counted
from gpu_worker.fitting.dense import FAMILIES
from gpu_worker.fitting.known_models import known_names, known_shape
from gpu_worker.fitting.machine import Machine
from gpu_worker.fitting.prediction import predict
from gpu_worker.fitting.shape import read_shape
from gpu_worker.training_config import TrainingConfig
from queue_app.errors import Invalid, NotFound
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RANKS_AND_LAYERS: list[dict[str, Any]] = [
    {"lora_r": 1},
    {"lora_r": 16},
    {"lora_r": 64, "target_modules": ("q_proj", "mlp.down_proj")},
    {"lora_r": 8, "target_modules": ("v_proj", "lm_head")},
]
OPTIMIZERS = {
    "adamw_torch_fused": lambda parameters: torch.optim.AdamW(parameters, fused=True),
    "adamw_8bit": AdamW8bit,
    "paged_adamw_8bit": PagedAdamW8bit,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny", dtype="bfloat16")


def loaded(folder: Path, config: TrainingConfig, dtype: torch.dtype = torch.bfloat16) -> Any:
    """The model as a run has it: the adapter in float32, whatever TRL makes of it."""
    return trl_model.load(folder, config, Hardware("cpu", "any", dtype))[0]


def size(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes, each storage once."""
    return sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}.values())


def quantisation_state(model: Any) -> list[torch.Tensor]:
    states = [weight.quant_state for weight in model.parameters() if isinstance(weight, Params4bit)]
    outer = [tensor for state in states for tensor in (state.absmax, state.code, state.offset)]
    return [*outer, *(tensor for state in states for tensor in (state.state2.absmax, state.state2.code))]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True` and a tied layer is part of the adapter")
@pytest.mark.parametrize(("method", "dtype"), [("lora", torch.float32), ("qlora", torch.bfloat16)], ids=str)
@pytest.mark.parametrize("changes", RANKS_AND_LAYERS, ids=str)
def test_weights_quantisation_adapter_and_gradients_are_counted_to_the_byte(
    model: Path, method: Any, changes: dict[str, Any], dtype: torch.dtype
) -> None:
    config = TrainingConfig(method=method, **changes)
    real = loaded(model, config, dtype)
    trained = [parameter for parameter in real.parameters() if parameter.requires_grad]
    frozen = [parameter for parameter in real.parameters() if not parameter.requires_grad]

    machine = Machine("cpu", number_bytes=4 if dtype == torch.float32 else 2)
    parts = {
        part.name: part.size_bytes for part in predict(read_shape(model), config, machine).parts if part.is_counted
    }
    assert parts["base weights"] == size(frozen)
    assert parts.get("quantisation state", 0) == size(quantisation_state(real))
    assert parts["adapter"] == size(trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    assert parts["gradients"] == size(parameter.grad for parameter in trained)


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("rank", [4, 64], ids="rank {}".format)
def test_the_optimizers_state_is_counted_to_the_byte(model: Path, optimizer: Any, rank: int) -> None:
    config = TrainingConfig(lora_r=rank, optimizer=optimizer)
    trained = [parameter for parameter in loaded(model, config).parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    real = OPTIMIZERS[optimizer](trained)
    real.step()
    held = [each for state in real.state.values() for each in state.values() if isinstance(each, torch.Tensor)]
    assert counted.state_bytes(read_shape(model), config) == size(held)


def test_a_full_run_trains_every_parameter_in_float32(model: Path) -> None:
    config = TrainingConfig(method="full")
    real = loaded(model, config)
    optimizer = torch.optim.AdamW(real.parameters(), fused=True)
    for parameter in real.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    parts = {part.name: part.size_bytes for part in predict(read_shape(model), config, Machine("cpu")).parts}
    assert parts["base weights"] == parts["gradients"] == size(real.parameters())
    held = [each for state in optimizer.state.values() for each in state.values()]
    assert parts["optimizer"] == size(held)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_shape_from_config_json_alone_is_that_of_the_model_and_its_adapter(
    tmp_path: Path, family: str, tied: bool
) -> None:
    widths = {"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 6}
    facts = widths | {"num_key_value_heads": 2, "head_dim": 32, "vocab_size": 500, "tie_word_embeddings": tied}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, **facts}))
    shape = read_shape(tmp_path)
    with torch.device("meta"):
        real = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **facts))
        assert shape.parameters == sum(parameter.numel() for parameter in real.parameters())
        peft = get_peft_model(real, LoraConfig(task_type="CAUSAL_LM", r=12, target_modules="all-linear"))
    config = TrainingConfig(lora_r=12)
    adapter = sum(counted.adapter_sizes(shape.adapted(config), config.lora_r))
    assert adapter == sum(parameter.numel() for parameter in peft.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("name", known_names())
def test_the_shapes_that_come_along_have_as_many_parameters_as_their_publishers_say(name: str) -> None:
    assert known_shape(name).parameters > 100_000_000  # it is held against the stated number as it is read


def test_the_rank_64_adapter_of_llama_8b_has_the_published_size() -> None:
    shape = known_shape("meta-llama/Llama-3.1-8B-Instruct")
    assert sum(counted.adapter_sizes(shape.adapted(TrainingConfig(lora_r=64)), 64)) == 167_772_160


def test_what_cannot_be_told_is_refused_and_never_guessed(tmp_path: Path, model: Path) -> None:
    with pytest.raises(NotFound, match='did you mean "Qwen/Qwen3-8B".*--model FOLDER'):
        known_shape("Qwen/Qwen3-80B")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(Invalid, match="models of the type mamba cannot be planned from config.json alone"):
        read_shape(tmp_path)
    facts = json.loads((model / "config.json").read_text())
    del facts["intermediate_size"]
    (model / "config.json").write_text(json.dumps(facts))
    with pytest.raises(Invalid, match="config.json has no intermediate_size"):
        read_shape(model)
