"""What a LoRA adapter folder says it changes, read without torch.

Layer by layer `weight += scale * B @ A`; and whole weights that were trained or resized beside them, which it brings
along: those of `modules_to_save`, and an embedding or head with another number of tokens.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpu_worker.base_model import fingerprint, read_header, read_json, weight_files
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from gpu_worker.base_model import Tensor

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
SUFFIX = re.compile(r"\.lora_(?P<half>[AB])\.weight$")
FLOATS = ("F64", "F32", "F16", "BF16")
HEAD = "lm_head.weight"
INPUT_EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings")

# What makes an adapter more than `scale * B @ A` on the layers' weights: setting → what it is.
BEYOND_LORA = {
    "use_dora": "DoRA rescales whole weights",
    "lora_bias": "the adapter has biases of its own",
    "fan_in_fan_out": "the layers store their weights transposed",
    "layer_replication": "layers are replicated",
    "target_parameters": "bare parameters are targeted",
    "trainable_token_indices": "token embeddings were trained",
    "use_qalora": "QALoRA pools its inputs",
    "use_bdlora": "the adapter is block-diagonal",
    "alora_invocation_tokens": "an activated LoRA applies to a part of the text only",
    "arrow_config": "several adapters are routed",
    "kasa_config": "KaSA changes the base weights",
    "velora_config": "VeLoRA compresses activations",
    "monteclora_config": "MonteCLoRA samples its weights",
    "megatron_config": "Megatron splits its layers",
}
BASE_KEEPING_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # other starts change the base weights


@dataclass(frozen=True)
class LowRankChange:
    """One layer's share of an adapter."""

    module: str  # model.layers.0.self_attn.q_proj
    a_name: str  # in the adapter's file; (rank, inputs)
    b_name: str  # (outputs, rank)
    shape: tuple[int, int]  # of the weight that is changed: (outputs, inputs)
    scale: float

    @property
    def target(self) -> str:
        return f"{self.module}.weight"


@dataclass(frozen=True)
class WholeWeight:
    """A weight that the adapter brings along whole, in place of the base's."""

    target: str  # model.embed_tokens.weight
    name: str  # in the adapter's file
    shape: tuple[int, ...]
    trained_apart: bool  # a copy of its own (`modules_to_save`): what was tied to it in the base is so no longer


@dataclass(frozen=True)
class Adapter:
    """All that an adapter changes."""

    changes: tuple[LowRankChange, ...]
    whole: tuple[WholeWeight, ...]


def read_adapter(folder: Path) -> Adapter:
    """What an adapter changes.

    Raises:
        Invalid: it is no LoRA adapter, or more than LoRA and whole weights; names the setting
    """
    config = read_json(folder / "adapter_config.json")
    _check_plain(folder, config)
    tensors = _tensors(folder)
    matrices = {name: tensor for name, tensor in tensors.items() if SUFFIX.search(name)}
    modules = sorted({SUFFIX.sub("", name) for name in matrices})
    if not modules:
        raise Invalid(f"{folder}/{WEIGHTS} holds no LoRA matrix; train the adapter again")
    return Adapter(
        changes=tuple(_change(folder, module, matrices, config) for module in modules),
        whole=tuple(_whole_weights(folder, [t for t in tensors.values() if t.name not in matrices], config)),
    )


def _tensors(folder: Path) -> dict[str, Tensor]:
    if not (folder / WEIGHTS).is_file():
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        is_pickle = f"; {pickles[0]} is a pickle, which can run code, and is not read" if pickles else ""
        raise Invalid(f"{folder}/{WEIGHTS} is missing{is_pickle}; save the adapter as safetensors")
    tensors = {tensor.name: tensor for tensor in read_header(folder / WEIGHTS)}
    if odd := [name for name in tensors if not name.startswith(PREFIX)]:
        raise Invalid(f"{folder}/{WEIGHTS} holds {odd[0]}, which is no part of a PEFT adapter; save the adapter again")
    return tensors


def _whole_weights(folder: Path, tensors: list[Tensor], config: dict[str, Any]) -> Iterator[WholeWeight]:
    saved = set(config.get("modules_to_save") or ())
    missing = set(saved)
    keeps_ties = bool(config.get("ensure_weight_tying"))
    for tensor in tensors:
        target = tensor.name.removeprefix(PREFIX)
        module, _, kind = target.rpartition(".")
        mentioned = [name for name in saved if module.endswith(name)]  # as PEFT matches them
        if kind not in ("weight", "bias") or not (mentioned or target == HEAD or module.endswith(INPUT_EMBEDDINGS)):
            raise Invalid(
                f"{folder}/{WEIGHTS} holds {tensor.name}, which is no LoRA matrix of a linear layer and no module of "
                "modules_to_save; merge such an adapter with PEFT's merge_and_unload instead"
            )
        missing.difference_update(mentioned)
        yield WholeWeight(target, tensor.name, tensor.shape, trained_apart=bool(mentioned) and not keeps_ties)
    if missing and not keeps_ties:
        raise Invalid(
            f"{folder}/adapter_config.json: modules_to_save names {sorted(missing)[0]}, which {WEIGHTS} does not hold; "
            "it was cut off: save the adapter again"
        )


def check_fit(parts: Adapter, adapter: Path, base: Path) -> bool:
    """Refuse an adapter that was trained for another base; True: its record names just this base.

    Whole weights are looked at by `gpu_worker.merge_plan`.

    Raises:
        Invalid: a layer is missing or has another shape, or the record names another base
    """
    tensors = {tensor.name: tensor for path in weight_files(base) for tensor in read_header(path)}
    for change in parts.changes:
        found = tensors.get(change.target)
        if found is None and change.target == HEAD:  # tied to the embedding, see `gpu_worker.merge_plan`
            found = tensors.get(find_embedding(tensors) or "")
        advice = f"was the adapter in {adapter} trained for another base model than {base}?"
        if found is None:
            raise Invalid(f"the adapter changes {change.target}, which the base model does not have; {advice}")
        if found.shape != change.shape:
            raise Invalid(f"{change.target} is {found.shape} in the base, {change.shape} in the adapter; {advice}")
        if found.dtype not in FLOATS:
            raise Invalid(f"{change.target} is stored as {found.dtype}; merge into the unquantised base model")
    record = read_json(adapter / "training.json") if (adapter / "training.json").is_file() else {}
    trained_on = record.get("base_model", {}).get("fingerprint")
    if trained_on not in (None, fingerprint(base)):
        raise Invalid(
            f"{adapter} was trained on a base with the fingerprint {trained_on}, {base} has {fingerprint(base)}: same "
            "shapes, other weights; name the base model that it was trained on"
        )
    return trained_on is not None


def find_embedding(names: Iterable[str]) -> str | None:
    """Which of a model's weights is the embedding of its tokens."""
    return next((name for name in names if name.removesuffix(".weight").endswith(INPUT_EMBEDDINGS)), None)


def _check_plain(folder: Path, config: dict[str, Any]) -> None:
    where = f"{folder}/adapter_config.json"
    if config.get("peft_type") != "LORA":
        raise Invalid(f"{where}: peft_type is {config.get('peft_type')}; only LORA adapters are merged here")
    if config.get("bias", "none") != "none":
        raise Invalid(f"{where}: bias is {config['bias']}; only adapters trained with bias none are merged here")
    for setting, least in (("r", 1), ("lora_alpha", -math.inf)):
        value = config.get(setting)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise Invalid(f"{where}: {setting} is {value}, not a number that scales an adapter; save the adapter again")
    for setting, meaning in BEYOND_LORA.items():
        if config.get(setting):
            raise Invalid(f"{where}: {setting} is set ({meaning}); merge it with PEFT's merge_and_unload instead")
    start = config.get("init_lora_weights")
    if start not in BASE_KEEPING_STARTS:
        raise Invalid(
            f"{where}: init_lora_weights {start} changes the base weights; convert the adapter to plain LoRA first"
        )


def _change(folder: Path, stem: str, tensors: dict[str, Tensor], config: dict[str, Any]) -> LowRankChange:
    a_name, b_name = f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"
    if a_name not in tensors or b_name not in tensors:
        raise Invalid(f"{folder}/{WEIGHTS} holds only one half of {stem}; it was cut off: save the adapter again")
    module = stem.removeprefix(PREFIX)
    a, b = tensors[a_name].shape, tensors[b_name].shape
    rank = int(_of_module(module, config.get("rank_pattern"), config["r"]))
    if len(a) != 2 or len(b) != 2 or a[0] != rank or b[1] != rank:
        raise Invalid(
            f"{folder}/{WEIGHTS}: {module} has A {a} and B {b}; with rank {rank} these are no LoRA of a linear layer"
        )
    alpha = _of_module(module, config.get("alpha_pattern"), config["lora_alpha"])
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return LowRankChange(module, a_name, b_name, (b[0], a[1]), scale)


def _of_module(module: str, pattern: dict[str, float] | None, default: float) -> float:
    """A module's own rank or alpha: the first key that its name ends with, as PEFT matches them."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default
