"""Is a merged model its base and its adapter together? Two answers, both against PEFT's own reading of the adapter.

*Weights*: every changed tensor is compared with `base + scale * B @ A` in float64. A merge stores the nearest number of
the stored type, so the error of a weight is at most half the gap between two such numbers there. A layer that was left
out, merged twice, scaled wrongly or merged with another layer's matrices is beyond that as soon as its change is.

*Forward pass*: on a few texts, in float32, the logits of the merged model are compared with those of base and adapter
apart, and the difference with what the adapter changes at all. A merge that did nothing, or was done twice, is off by
the whole (`effect_error` 1). Rounding to bfloat16 swallows changes smaller than half a gap, so a part of the effect of
a short training is really lost (measured on SmolLM2-135M: 8 % after 16 steps, 28 % after 2), and shown. Covered: what
the weights cannot show – files that do not load, tied weights, a wrong config. Not covered: texts unlike these few.
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

from gpu_worker.base_model import chat_template, read_model, weight_files
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
)
ARITHMETIC_SLACK = 64 * 2.0**-24  # of a weight's own change: float32 sums in another order
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


def check_merge(base: Path, adapter: Path, merged: Path, tolerance: float) -> Parity:
    """Compare; `tolerance` is the largest `effect_error` that passes.

    Where memory is too small for float32 the logits themselves are noisy, and only `effect_kept` is held against it.

    Raises:
        Permanent: the merged model is not base and adapter together; says which answer showed it
    """
    dtype = _affordable_type(base)
    texts = _texts(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    model = PeftModel.from_pretrained(model, str(adapter)).eval()
    weight_error = _weight_error(model, merged)
    together = _logits(model, texts)
    with model.disable_adapter():
        alone = _logits(model, texts)
    del model
    gc.collect()
    after = _logits(AutoModelForCausalLM.from_pretrained(merged, dtype=dtype).eval(), texts)
    if not all(torch.isfinite(logits).all() for logits in (*alone, *together, *after)):
        raise Permanent(_what_is_not_finite(base, merged), cause=Cause.DATA)
    effect_kept, effect_error = _effect(alone, together, after)
    parity = Parity(
        weight_error=round(weight_error, 4),
        effect_kept=round(effect_kept, 4),
        effect_error=round(effect_error, 6),
        max_logit_difference=max((a - t).abs().max().item() for a, t in zip(after, together, strict=True)),
        loss_difference=_loss(after, texts) - _loss(together, texts),
        compared_in=str(dtype).removeprefix("torch."),
    )
    _judge(parity, tolerance)
    return parity


def _judge(parity: Parity, tolerance: float) -> None:
    if not parity.weight_error <= 1:
        raise Permanent(
            f"the merge is wrong: a merged weight is {parity.weight_error:g} times as far from base + adapter as "
            "rounding allows; the files changed under it, or this is a bug: report it with both artifacts",
            cause=Cause.BUG,
        )
    error = parity.effect_error if parity.compared_in == "float32" else abs(parity.effect_kept - 1)
    if not error <= tolerance:
        raise Permanent(
            f"the merged model is off by {error:.0%} of what the adapter changes (allowed: {tolerance:.0%}): its "
            "changes are smaller than the rounding of the base's weights; train longer or with a higher learning rate, "
            "merge into a float32 copy of the base, or allow more with `tolerance`",
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


def _weight_error(model: Any, merged: Path) -> float:
    """The largest error of a merged weight, in units of what rounding allows."""
    places = {}
    files = [safe_open(path, framework="pt") for path in weight_files(merged)]
    for file in files:
        places.update(dict.fromkeys(file.keys(), file))
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
    allowed = exact.abs() * (precision.eps / 2) + change.abs().max() * ARITHMETIC_SLACK + precision.tiny
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


def _texts(folder: Path) -> list[dict[str, torch.Tensor]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if chat_template(folder) is None:
        return [tokenizer(f"{question}\n{answer}", return_tensors="pt") for question, answer in TEXTS]
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in TEXTS]
    return [tokenizer.apply_chat_template(turn, return_tensors="pt", return_dict=True) for turn in turns]


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
