"""A tokenizer.json in the words of GGUF, for byte-level BPE of the Llama family.

llama.cpp knows how to split text before BPE by name only, so a tokenizer whose rule is none of those below is refused:
it would load, and count other tokens than the model was trained on.
Source of the names: llama.cpp's `llama_vocab_pre_type`, https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from gpu_worker.base_model import chat_template, read_json
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # GGUF's token types
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DIGITS = ("Digits", True)
GPT_2 = ("ByteLevel", True)
PLAIN_BYTES = ("ByteLevel", False)
RULES: dict[tuple[tuple[str, object], ...], str] = {
    (GPT_2,): "gpt-2",
    (DIGITS, GPT_2): "smollm",
    (("Split", LLAMA_3), PLAIN_BYTES): "llama-bpe",
}
SPECIAL = ("bos", "eos", "pad", "unk")


@dataclass(frozen=True)
class Vocabulary:
    """All that GGUF says of a tokenizer."""

    rule: str  # how text is split before BPE
    tokens: list[str]  # by id
    types: list[int]
    merges: list[str]
    special: dict[str, int]  # bos, eos, pad, unk → id
    begins_with_bos: bool
    template: str | None

    def write(self, writer: GGUFWriter) -> None:
        """Add it to the head of a file."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.rule)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        for name, number in self.special.items():
            getattr(writer, f"add_{name}_token_id")(number)
        writer.add_add_bos_token(self.begins_with_bos)
        if self.template is not None:
            writer.add_chat_template(self.template)


def read_vocabulary(folder: Path, rows: int) -> Vocabulary:
    """The tokenizer of a model folder; `rows` of its embedding, those without a token are filled up.

    Raises:
        Invalid: it is no byte-level BPE whose rule llama.cpp knows
    """
    path = folder / "tokenizer.json"
    known = read_json(path)
    model = known.get("model", {})
    if model.get("type") != "BPE" or known.get("normalizer") is not None or model.get("byte_fallback"):
        raise Invalid(
            f"{path}: its model is {model.get('type')}, with{'' if known.get('normalizer') else 'out'} a normalizer; "
            "only plain byte-level BPE (Llama 3, SmolLM2, GPT-2) is exported to GGUF; llama.cpp's "
            "convert_hf_to_gguf.py knows the other families"
        )
    rule = _rule(path, known.get("pre_tokenizer"))
    names: dict[int, str] = {number: token for token, number in model["vocab"].items()}
    added = {int(token["id"]): token for token in known.get("added_tokens") or ()}
    names |= {number: token["content"] for number, token in added.items()}
    if max(names) >= rows:
        raise Invalid(f"{path} gives ids up to {max(names)}, the embedding has {rows} rows; whose tokenizer is it?")
    special = _special_ids(folder, {token: number for number, token in names.items()})
    first = Tokenizer.from_file(str(path)).encode("a").ids[:1]
    return Vocabulary(
        rule=rule,
        tokens=[names.get(number, f"[PAD{number}]") for number in range(rows)],
        types=[_type(number, names, added) for number in range(rows)],
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        special=special,
        begins_with_bos="bos" in special and first == [special["bos"]],
        template=chat_template(folder),
    )


def _type(number: int, names: dict[int, str], added: dict[int, dict[str, Any]]) -> int:
    if number not in names:
        return UNUSED
    if number not in added:
        return NORMAL
    return CONTROL if added[number].get("special") else USER_DEFINED


def _rule(path: Path, splitter: dict[str, Any] | None) -> str:
    parts = (splitter or {}).get("pretokenizers") or [splitter or {}]
    found = tuple(_part(part) for part in parts)
    if found not in RULES:
        shown = ", ".join(str(part.get("type")) for part in parts)
        raise Invalid(
            f"{path} splits text by {shown} in a way that llama.cpp has no name for here; known are "
            f"{', '.join(RULES.values())}; llama.cpp's convert_hf_to_gguf.py knows more families"
        )
    return RULES[found]


def _part(part: dict[str, Any]) -> tuple[str, object]:
    match part:
        case {"type": "Digits"}:
            return ("Digits", part.get("individual_digits"))
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return ("ByteLevel", part.get("use_regex", True))
        case {"type": "Split", "behavior": "Isolated", "invert": False}:
            return ("Split", part.get("pattern", {}).get("Regex"))
    return (str(part.get("type")), "as it is set")


def _special_ids(folder: Path, ids: dict[str, int]) -> dict[str, int]:
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
    found = {}
    for name in SPECIAL:
        value = settings.get(f"{name}_token")
        token = value.get("content") if isinstance(value, dict) else value
        if token in ids:
            found[name] = ids[token]
    return found
