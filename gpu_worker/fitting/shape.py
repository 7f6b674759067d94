"""The shape of a base model: every tensor, and the few widths that its activations are made of."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from gpu_worker.base_model import read_header, read_json, weight_files
from gpu_worker.fitting.dense import dense_tensors
from queue_app.errors import Invalid
from queue_app.job_type import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gpu_worker.training_config import TrainingConfig

HEAD = "lm_head"
WIDTHS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


@dataclass(frozen=True)
class Matrix:
    """The weight of one linear layer."""

    module: str  # model.layers.0.self_attn.q_proj
    outputs: int
    inputs: int

    @property
    def size(self) -> int:
        return self.outputs * self.inputs


@dataclass(frozen=True)
class ModelShape:
    """All that a prediction needs to know of a base model."""

    source: str  # where these facts come from, for the reader
    linear: tuple[Matrix, ...]  # inside the layers: what QLoRA quantises and all-linear adapts
    head: Matrix  # the output layer; never quantised
    others: tuple[tuple[str, int], ...]  # name and size of embeddings, norms, biases, and of a head that is not tied
    hidden: int
    inner: int
    layers: int
    key_value_width: int  # of all key heads together
    query_width: int
    vocabulary: int
    context_length: int | None

    @property
    def linear_parameters(self) -> int:
        return sum(matrix.size for matrix in self.linear)

    @property
    def other_parameters(self) -> int:
        return sum(size for _, size in self.others)

    @property
    def parameters(self) -> int:
        return self.linear_parameters + self.other_parameters

    def adapted(self, config: TrainingConfig) -> list[Matrix]:
        """The layers that get an adapter: named in full, or by the end of their names, as PEFT matches them.

        Raises:
            Invalid: no layer is called so
        """
        if config.method == "full":
            return []
        if isinstance(config.target_modules, str):
            return list(self.linear)
        layers = [*self.linear, self.head]
        found = {target: [each for each in layers if _is_called(each, target)] for target in config.target_modules}
        for target, matches in found.items():
            if not matches:
                known = sorted({each.module.rpartition(".")[2] for each in layers})
                raise Invalid(f'target_modules: no layer is called "{target}"{nearest(target, known)}')
        return list({each.module: each for matches in found.values() for each in matches}.values())


def read_shape(folder: Path) -> ModelShape:
    """The shape of a model folder: from the headers of its weights, or from config.json where it has no weights.

    Raises:
        Invalid: what is there is no dense causal language model whose memory can be told
    """
    config = read_json(folder / "config.json")
    if not list(folder.glob("*.safetensors")):
        return shape_of(config, dense_tensors(config, str(folder / "config.json")), f"{folder}/config.json, no weights")
    headers = (tensor for path in weight_files(folder) for tensor in read_header(path))
    return shape_of(config, {tensor.name: tensor.shape for tensor in headers}, f"the weights in {folder}")


def shape_of(config: dict[str, Any], tensors: dict[str, tuple[int, ...]], source: str) -> ModelShape:
    """The shape of a model with these tensors; `config` is its config.json.

    Raises:
        Invalid: a width is missing, or a layer is of a kind whose memory cannot be told
    """
    missing = [name for name in WIDTHS if not isinstance(config.get(name), int)]
    if missing:
        raise Invalid(f"{source}: config.json has no {missing[0]}, so the memory of its activations cannot be told")
    odd = [name for name, shape in tensors.items() if len(shape) > 2]
    if odd:
        raise Invalid(f"{source}: {odd[0]} has {len(tensors[odd[0]])} dimensions; only dense models can be planned")
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_width = config.get("head_dim") or hidden // heads
    head = Matrix(HEAD, config["vocab_size"], hidden)
    tied = bool(config.get("tie_word_embeddings"))
    kept = {name: shape for name, shape in tensors.items() if not (tied and name == f"{HEAD}.weight")}
    linear = tuple(_linear(kept))
    if not linear:
        raise Invalid(f"{source}: holds no linear layer")
    within = {f"{matrix.module}.weight" for matrix in linear}
    return ModelShape(
        source=source,
        linear=linear,
        head=head,
        others=tuple((name, prod(shape)) for name, shape in sorted(kept.items()) if name not in within),
        hidden=hidden,
        inner=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        key_value_width=(config.get("num_key_value_heads") or heads) * head_width,
        query_width=heads * head_width,
        vocabulary=config["vocab_size"],
        context_length=config.get("max_position_embeddings"),
    )


def _linear(tensors: dict[str, tuple[int, ...]]) -> Iterable[Matrix]:
    """The matrices inside the layers; embeddings and head stand outside of them."""
    for name, shape in sorted(tensors.items()):
        module, _, last = name.rpartition(".")
        if last == "weight" and len(shape) == 2 and ".layers." in f".{module}" and "embed" not in module:
            yield Matrix(module, *shape)


def _is_called(matrix: Matrix, target: str) -> bool:
    return matrix.module == target or matrix.module.endswith(f".{target}")
