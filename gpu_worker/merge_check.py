"""Is a merged model its base and its adapter together? Two answers, both against PEFT's own reading of the adapter.

*Weights*: every changed tensor is compared with `base + scale * B @ A` in float64. A merge stores the nearest number of
the stored type, so the error of a weight is at most half the gap between two such numbers there. A layer that was left
out, merged twice, scaled wrongly or merged with another layer's matrices is beyond that as soon as its change is.

*Forward pass*: on a few texts, in float32, the logits of the merged model are compared with those of base and adapter
apart, and the difference with what the adapter changes at all. A merge that did nothing, or was done twice, is off by
the whole (`effect_error` 1). Rounding to bfloat16 swallows changes smaller than half a gap, so a part of the effect of
a short training is really lost (measured on SmolLM2-135M: 8 % after 16 steps, 28 % after 2), and shown; so what is
allowed depends on the type the model is stored in (`TOLERANCE`). Where the vocabulary grew, the effect is that on the
base's tokens, and one more text consists of the added ones. Covered: what the weights cannot show – files that do not
load, tied weights, a wrong config. Not covered: texts unlike these few.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpu_worker.adapter import WEIGHTS, find_embedding, read_adapter
from gpu_worker.base_model import chat_template, read_header, read_model, weight_files
from gpu_worker.merge_plan import count_tokens
from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Write a Python function that adds two numbers.", "def add(a, b):\n    return a + b"),
    ("Why is the sky blue?", "Air scatters blue light more than red light, so blue reaches us from everywhere."),
    (
        "Name three things that a good summary has.",
        "It is short, it is true to the text, and it leaves nothing vital out.",
    ),
    ("Translate to French: Good morning.", "Bonjour."),
    ("What is 17 plus 25?", "17 plus 25 is 42."),
    ("Give me a title for a story about a lost key.", "The Door That Waited"),
    ('Return {"a": 1} as YAML.', "a: 1"),
)
TOLERANCE = {"F64": 0.01, "F32": 0.01, "F16": 0.1, "BF16": 0.5}  # largest `effect_error`, by the type stored in
ADDED_TOKENS = 16  # of a grown vocabulary, in the text of their own
ARITHMETIC_SLACK = 64 * 2.0**-24  # of a weight's own change: float32 sums in another order
ROWS = 4096  # of a matrix, compared at once
LEAST_EFFECT = 1e-5  # of the logits' spread; below it float32 itself is the difference


Logits = list[torch.Tensor]  # one text each: (tokens, vocabulary)


@dataclass(frozen=True)
class Parity:
    """How close a merged model is to base and adapter apart."""

    weight_error: float  # largest error of a merged weight, in units of what rounding allows (≤ 1)
    effect_kept: float  # how far the logits moved along what the adapter changes: 1 is all of it
    effect_error: float  # distance of merged and unmerged logits, as a share of what the adapter changes
    max_logit_difference: float
    loss_difference: float  # nats per token on the texts, merged minus unmerged
    compared_in: str  # the type of the forward passes
    compared_texts: int
    tolerance: float  # that was held against it


def check_merge(base: Path, adapter: Path, merged: Path, tolerance: float | None = None, prompts: int = 4) -> Parity:
    """Compare on `prompts` texts; `tolerance` is the largest `effect_error` that passes, by default `TOLERANCE`.

    Where memory is too small for float32 the logits themselves are noisy, and only `effect_kept` is held against it.

    Raises:
        Permanent: the merged model is not base and adapter together; says which answer showed it
    """
    dtype, allowed = _affordable_type(base), tolerance or TOLERANCE[read_model(merged).dtype]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    texts = _texts(base, merged, prompts)
    base_tokens = _resize(model, merged)
    model = PeftModel.from_pretrained(model, str(adapter)).eval()
    weight_error = max(_weight_error(model, merged), _whole_error(adapter, merged))
    together = _logits(model, texts)
    with model.disable_adapter():
        alone = _logits(model, texts)
    del model
    gc.collect()
    after = _logits(AutoModelForCausalLM.from_pretrained(merged, dtype=dtype).eval(), texts)
    if not all(torch.isfinite(logits).all() for logits in (*alone, *together, *after)):
        raise Permanent(_what_is_not_finite(base, merged), cause=Cause.DATA)
    effect_kept, effect_error = _effect(*([each[:, :base_tokens] for each in ls] for ls in (alone, together, after)))
    parity = Parity(
        weight_error=round(weight_error, 4),
        effect_kept=round(effect_kept, 4),
        effect_error=round(effect_error, 6),
        max_logit_difference=max((a - t).abs().max().item() for a, t in zip(after, together, strict=True)),
        loss_difference=_loss(after, texts) - _loss(together, texts),
        compared_in=str(dtype).removeprefix("torch."),
        compared_texts=len(texts),
        tolerance=allowed,
    )
    _judge(parity)
    return parity


def _resize(model: Any, merged: Path) -> int:
    """Give a base model as many tokens as the merged one has; how many of the base's own both know."""
    embedding = model.get_input_embeddings().weight  # (tokens, width)
    before, after = embedding.shape[0], _rows_of_embedding(merged)
    if after is None or before == after:
        return int(before)
    model.resize_token_embeddings(after, mean_resizing=False)
    return int(min(before, after))


def _rows_of_embedding(folder: Path) -> int | None:
    shapes = {tensor.name: tensor.shape for path in weight_files(folder) for tensor in read_header(path)}
    name = find_embedding(shapes)
    return None if name is None else shapes[name][0]


def _judge(parity: Parity) -> None:
    if not parity.weight_error <= 1:
        raise Permanent(
            f"the merge is wrong: a merged weight is {parity.weight_error:g} times as far from base + adapter as "
            "rounding allows; the files changed under it, or this is a bug: report it with both artifacts",
            cause=Cause.BUG,
        )
    error = parity.effect_error if parity.compared_in == "float32" else abs(parity.effect_kept - 1)
    if not error <= parity.tolerance:
        raise Permanent(
            f"the merged model is off by {error:.0%} of what the adapter changes (allowed: {parity.tolerance:.0%}): "
            "its changes are smaller than the rounding of the base's weights; train longer or with a higher learning "
            "rate, merge into a float32 copy (`dtype: float32`), or allow more with `tolerance`",
            cause=Cause.DATA,
        )


def _what_is_not_finite(*models: Path) -> str:
    for folder in models:
        for path in weight_files(folder):
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - a file that only looks like a dictionary
                    if not torch.isfinite(file.get_tensor(name).float()).all():
                        return f"{name} in {path} is not finite, so nothing can be compared; fetch that model anew"
    return f"the logits of {models[-1]} are not finite although its weights are; train the adapter with a lower rate"


def _places(merged: Path) -> dict[str, Any]:
    """The open file that holds each tensor."""
    files = [safe_open(path, framework="pt") for path in weight_files(merged)]
    return {name: file for file in files for name in file.keys()}  # noqa: SIM118


def _whole_error(adapter: Path, merged: Path) -> float:
    """As `_weight_error`, for the weights that the adapter brings along whole; those that LoRA changes too are its."""
    parts, places = read_adapter(adapter), _places(merged)
    changed = {change.target for change in parts.changes}
    worst = 0.0
    with safe_open(adapter / WEIGHTS, framework="pt") as saved:
        for weight in parts.whole:
            if weight.target in changed:
                continue
            tied_to = find_embedding(places) or weight.target
            target = weight.target if weight.target in places else tied_to
            ours, theirs = places[target].get_slice(target), saved.get_slice(weight.name)
            for begin in range(0, weight.shape[0], ROWS):
                found, exact = ours[begin : begin + ROWS], theirs[begin : begin + ROWS].double()
                precision = torch.finfo(found.dtype)
                allowed = exact.abs() * (precision.eps / 2) + precision.tiny * precision.eps
                worst = max(worst, float(((found.double() - exact).abs() / allowed).max()))
    return worst


def _weight_error(model: Any, merged: Path) -> float:
    """The largest error of a merged weight, in units of what rounding allows."""
    places = _places(merged)
    worst = 0.0
    for name, layer in model.get_base_model().named_modules():
        if isinstance(layer, LoraLayer):
            found = places[f"{name}.weight"].get_tensor(f"{name}.weight")
            worst = max(worst, _layer_error(layer, found))
    return worst


def _layer_error(layer: Any, found: torch.Tensor) -> float:
    """As `_weight_error`, for one layer. Half a gap at x is at most eps / 2 * |x| (IEEE 754 rounding to nearest)."""
    (key,) = layer.active_adapters
    a, b = layer.lora_A[key].weight.double(), layer.lora_B[key].weight.double()
    change = (b @ a) * layer.scaling[key]
    exact = layer.get_base_layer().weight.double() + change
    precision = torch.finfo(found.dtype)
    allowed = exact.abs() * (precision.eps / 2) + change.abs().max() * ARITHMETIC_SLACK + precision.tiny * precision.eps
    return float(((found.double() - exact).abs() / allowed).max())


def _effect(alone: Logits, together: Logits, after: Logits) -> tuple[float, float]:
    """`effect_kept` and `effect_error`."""
    base, want, have = (torch.cat(logits) for logits in (alone, together, after))  # (tokens, vocabulary)
    wanted, made = want - base, have - base
    spread = (want - want.mean(-1, keepdim=True)).norm()
    if wanted.norm() < LEAST_EFFECT * spread:
        raise Permanent("the adapter changes no logit: it was not trained; train it, then merge it", cause=Cause.DATA)
    kept = (made * wanted).sum() / wanted.square().sum()
    return float(kept), float((made - wanted).norm() / wanted.norm())


def _texts(base: Path, merged: Path, number: int) -> list[dict[str, torch.Tensor]]:
    tokenizer = AutoTokenizer.from_pretrained(merged)
    texts = TEXTS[:number]
    if chat_template(merged) is None:
        encoded = [tokenizer(f"{question}\n{answer}", return_tensors="pt") for question, answer in texts]
    else:
        turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in texts]
        encoded = [tokenizer.apply_chat_template(t, return_tensors="pt", return_dict=True) for t in turns]
    known, all_of_them = (count_tokens(folder / "tokenizer.json") for folder in (base, merged))
    added = list(range(known, all_of_them))[:ADDED_TOKENS]
    return [*encoded, {"input_ids": torch.tensor([added])}] if added else encoded


@torch.inference_mode()
def _logits(model: Any, texts: list[dict[str, torch.Tensor]]) -> Logits:
    return [model(input_ids=text["input_ids"]).logits[0].float() for text in texts]  # (tokens, vocabulary)


def _loss(logits: Logits, texts: list[dict[str, torch.Tensor]]) -> float:
    """Mean loss of the next token over all texts, in nats."""
    ahead = torch.cat([text["input_ids"][0, 1:] for text in texts])
    return float(torch.nn.functional.cross_entropy(torch.cat([each[:-1] for each in logits]), ahead))


def _affordable_type(base: Path) -> torch.dtype:
    """float32 where two bytes a weight more than that fit into the free memory, else the type that is stored."""
    facts = read_model(base)
    if facts.parameters * 6 < psutil.virtual_memory().available:
        return torch.float32
    return {"F32": torch.float32, "F16": torch.float16}.get(facts.dtype, torch.bfloat16)
