"""The tensors of dense models that are built alike, from config.json alone: for planning before anything is pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from queue_app.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

QKV_BIAS, QK_NORM = "biases of q, k and v", "norms of q and k"
# model_type → what its layers have beside the plain Llama's.
FAMILIES: dict[str, tuple[str, ...]] = {
    "llama": (),
    "mistral": (),
    "qwen2": (QKV_BIAS,),
    "qwen3": (QK_NORM,),
}


def dense_tensors(config: dict[str, Any], where: str) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor; `where` is the file to blame.

    Raises:
        Invalid: models of this type are not built from their configuration here; its weights are needed
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise Invalid(
            f"{where}: models of the type {family} cannot be planned from config.json alone "
            f"(those that can: {', '.join(FAMILIES)}); pull its weights, and their headers are read"
        )
    odd = [name for name in ("attention_bias", "mlp_bias") if config.get(name)]
    if odd:
        raise Invalid(f"{where}: {odd[0]} is set, which cannot be planned from config.json alone; pull its weights")
    try:
        return dict(_tensors(config, FAMILIES[family]))
    except (KeyError, TypeError) as error:
        raise Invalid(f"{where}: {error} is missing or no number; copy the model's own config.json") from error


def _tensors(config: dict[str, Any], beside: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    yield "model.norm.weight", (hidden,)
    if not config.get("tie_word_embeddings"):
        yield "lm_head.weight", (vocabulary, hidden)
    for layer in range(config["num_hidden_layers"]):
        for name, shape in _layer(config, beside):
            yield f"model.layers.{layer}.{name}", shape


def _layer(config: dict[str, Any], beside: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    width = config.get("head_dim") or hidden // heads
    queries, shared = heads * width, (config.get("num_key_value_heads") or heads) * width
    for name, outputs, inputs in (
        ("self_attn.q_proj", queries, hidden),
        ("self_attn.k_proj", shared, hidden),
        ("self_attn.v_proj", shared, hidden),
        ("self_attn.o_proj", hidden, queries),
        ("mlp.gate_proj", inner, hidden),
        ("mlp.up_proj", inner, hidden),
        ("mlp.down_proj", hidden, inner),
    ):
        yield f"{name}.weight", (outputs, inputs)
        if QKV_BIAS in beside and name[-6:-5] in "qkv" and name.startswith("self_attn"):
            yield f"{name}.bias", (outputs,)
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"{name}.weight", (hidden,)
    if QK_NORM in beside:
        yield "self_attn.q_norm.weight", (width,)
        yield "self_attn.k_norm.weight", (width,)
