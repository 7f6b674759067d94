"""What a merged model will consist of, tensor by tensor and file by file, known before a byte is written.

Tied weights: an embedding that is the head as well stays so, unless the adapter changes one of them alone. Then both
are stored, and the model is no longer tied: that is what base and adapter compute apart. Vocabulary: an adapter that
brings an embedding with another number of tokens gives the model that number, and its own tokenizer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from gpu_worker.adapter import FLOATS, HEAD, WholeWeight, find_embedding, read_adapter
from gpu_worker.base_model import INDEX, SINGLE, read_header, read_json, weight_files
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpu_worker.adapter import Adapter, LowRankChange
    from gpu_worker.base_model import Tensor

StoredType = Literal["base", "bfloat16", "float16", "float32"]
SPELT = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
CHUNK = 1 << 24  # bytes held at once
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class Form:
    """How the merged model is stored."""

    dtype: StoredType = "base"
    shard_bytes: int | None = None  # None: in files like the base's


@dataclass(frozen=True)
class Made:
    """One tensor of the merged model: the base's bytes, or a whole weight of the adapter; then what LoRA adds."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    source: tuple[Path, Tensor] | None
    whole: WholeWeight | None = None
    change: LowRankChange | None = None


@dataclass(frozen=True)
class MergePlan:
    """The files of the merged model, and what is told of them."""

    files: tuple[tuple[str, tuple[Made, ...]], ...]
    config: dict[str, Any]  # config.json
    tokenizer: tuple[Path, ...]  # the adapter's own files, in place of the base's
    untied: bool
    vocabulary_before: int | None  # rows of the embedding
    vocabulary: int | None

    @property
    def size_bytes(self) -> int:
        """Of the weights, without their headers."""
        return sum(made.size_bytes for made in self.tensors)

    @property
    def tensors(self) -> list[Made]:
        return [made for _, inside in self.files for made in inside]

    @property
    def changed(self) -> int:
        """How many tensors LoRA changes."""
        return sum(made.change is not None for made in self.tensors)

    @property
    def replaced(self) -> int:
        """How many tensors are the adapter's whole ones."""
        return sum(made.whole is not None for made in self.tensors)


AS_BASE = Form()


def plan_merge(base: Path, adapter: Path, form: Form = AS_BASE) -> MergePlan:
    """See what merging `adapter` into `base` makes.

    Raises:
        Invalid: the adapter cannot be merged, or its vocabulary or ties contradict the base's
    """
    parts = read_adapter(adapter)
    places = {t.name: (path, t) for path in weight_files(base) for t in read_header(path)}
    config = read_json(base / "config.json")
    embedding = find_embedding(places)
    tied = _is_tied(base, config, places, embedding)
    made = _made_of(places, parts, embedding if tied else None)
    untied = tied and HEAD in made
    before = places[embedding][1].shape[0] if embedding else None
    tokens = made[embedding].shape[0] if embedding else None
    _check_vocabulary(made, embedding, adapter)
    tokenizer = _tokenizer(adapter, tokens, grown=tokens != before)
    stored = [_stored(each, form) for each in made.values()]
    changes: dict[str, Any] = {"tie_word_embeddings": False} if untied else {}
    changes |= {"vocab_size": tokens} if tokens != before else {}
    if form.dtype != "base":
        changes["torch_dtype" if "torch_dtype" in config else "dtype"] = form.dtype
    files = _as_base(base, stored) if form.shard_bytes is None else _packed(stored, form.shard_bytes)
    return MergePlan(files, config | changes, tokenizer, untied, before, tokens)


def _is_tied(base: Path, config: dict[str, Any], places: dict[str, tuple[Path, Tensor]], embedding: str | None) -> bool:
    """Whether the head is the embedding. A copy of it that is stored as the head is taken out of `places`."""
    said = config.get("tie_word_embeddings")
    if HEAD not in places:
        if said is False and embedding is not None and embedding.endswith("embed_tokens.weight"):
            raise Invalid(
                f"{base}: config.json says that {HEAD} is not tied to the embedding, and no file holds it; copy the "
                "whole model again"
            )
        return embedding is not None and said is not False
    if not said or embedding is None:
        return False
    if any(a != b for a, b in zip_longest(_chunks(*places[HEAD]), _chunks(*places[embedding]))):
        raise Invalid(
            f"{base}: config.json ties {HEAD} to {embedding}, and the files hold two different ones; set "
            "tie_word_embeddings to false if the head is its own, or remove it from the weights"
        )
    del places[HEAD]
    return True


def _chunks(path: Path, tensor: Tensor) -> Iterator[bytes]:
    with path.open("rb") as file:
        for begin in range(tensor.begin, tensor.end, CHUNK):
            file.seek(begin)
            yield file.read(min(CHUNK, tensor.end - begin))


def _made_of(places: dict[str, tuple[Path, Tensor]], parts: Adapter, tied_to: str | None) -> dict[str, Made]:
    """The tensors of the result, in the base's types. `tied_to`: the embedding, where it is the head as well."""
    made = {
        name: Made(name, tensor.dtype, tensor.shape, tensor.end - tensor.begin, (path, tensor))
        for name, (path, tensor) in places.items()
    }
    whole = {weight.target: weight for weight in parts.whole}
    changes = {change.target: change for change in parts.changes}
    if tied_to is not None:
        apart = any(w.trained_apart for w in (whole.get(tied_to), whole.get(HEAD)) if w is not None)
        if not apart and HEAD in whole:  # both are one: what is saved of either is that one
            saved = whole.pop(HEAD)
            whole.setdefault(tied_to, replace(saved, target=tied_to))
        if apart or HEAD in changes:
            shared = made[tied_to] if apart else _with_whole(made[tied_to], whole.get(tied_to))
            made[HEAD] = replace(shared, name=HEAD)
    for target, weight in whole.items():
        if target not in made:
            raise Invalid(
                f"the adapter brings {target}, which the base model does not have; was it trained for another base?"
            )
        made[target] = _with_whole(made[target], weight)
    for target, change in changes.items():
        if target not in made:
            raise Invalid(
                f"the adapter changes {target}, which the base model does not have; is it the adapter's base?"
            )
        made[target] = replace(made[target], change=change)
    return made


def _with_whole(made: Made, weight: WholeWeight | None) -> Made:
    if weight is None:
        return made
    if made.dtype not in FLOATS:
        raise Invalid(f"{made.name} is stored as {made.dtype}; merge into the unquantised base model")
    is_vocabulary = made.name == HEAD or find_embedding([made.name]) is not None
    if weight.shape != made.shape and (weight.shape[1:] != made.shape[1:] or not is_vocabulary):
        raise Invalid(
            f"{weight.target} is {made.shape} in the base, {weight.shape} in the adapter; was it trained for another "
            "base model?"
        )
    return replace(
        made,
        shape=weight.shape,
        size_bytes=prod(weight.shape) * DTYPE_BYTES[made.dtype],
        source=None,
        whole=weight,
    )


def _check_vocabulary(made: dict[str, Made], embedding: str | None, adapter: Path) -> None:
    if embedding is None or HEAD not in made or made[HEAD].shape[0] == made[embedding].shape[0]:
        return
    raise Invalid(
        f"{adapter}: the embedding would have {made[embedding].shape[0]} tokens and the head {made[HEAD].shape[0]}; of "
        f"a resized vocabulary {embedding} and {HEAD} must both be saved with the adapter (`save_pretrained(…, "
        "save_embedding_layers=True)`)"
    )


def _tokenizer(adapter: Path, rows: int | None, *, grown: bool) -> tuple[Path, ...]:
    """The adapter's own tokenizer, if it has one."""
    own = adapter / "tokenizer.json"
    if not own.is_file():
        if grown:
            raise Invalid(
                f"{adapter} was trained with {rows} tokens and holds no tokenizer.json that names the added ones; save "
                "the tokenizer that it was trained with beside it (`tokenizer.save_pretrained(folder)`)"
            )
        return ()
    size = count_tokens(own)
    if rows is not None and size > rows:
        raise Invalid(
            f"{own} knows {size} tokens, the embedding {rows}: the added ones were not saved with the adapter; save it "
            "with `save_pretrained(…, save_embedding_layers=True)`"
        )
    return tuple(adapter / name for name in (*TOKENIZER, TEMPLATE) if (adapter / name).is_file())


def count_tokens(tokenizer: Path) -> int:
    """One more than the highest id that a tokenizer.json gives."""
    known = read_json(tokenizer)
    vocabulary = known.get("model", {}).get("vocab") or {}
    ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    added = [int(token["id"]) for token in known.get("added_tokens") or ()]
    return 1 + max([*ids, *added], default=-1)


def _stored(made: Made, form: Form) -> Made:
    """The tensor in the type it is to be stored in; what is no floating point number stays as it is."""
    if made.change is not None and made.dtype not in FLOATS:
        raise Invalid(f"{made.name} is stored as {made.dtype}; merge into the unquantised base model")
    dtype = made.dtype if form.dtype == "base" or made.dtype not in FLOATS else SPELT[form.dtype]
    if dtype == made.dtype:
        return made
    return replace(made, dtype=dtype, size_bytes=prod(made.shape) * DTYPE_BYTES[dtype])


def _as_base(base: Path, stored: list[Made]) -> tuple[tuple[str, tuple[Made, ...]], ...]:
    """In the files that the base has; what the base does not have goes beside the last one."""
    homes = {tensor.name: path.name for path in weight_files(base) for tensor in read_header(path)}
    last = weight_files(base)[-1].name
    inside: dict[str, list[Made]] = {}
    for made in stored:
        inside.setdefault(homes.get(made.name, last), []).append(made)
    return tuple((name, tuple(inside[name])) for name in sorted(inside))


def _packed(stored: list[Made], shard_bytes: int) -> tuple[tuple[str, tuple[Made, ...]], ...]:
    """In files of at most `shard_bytes` each; a larger tensor has one of its own."""
    shards: list[list[Made]] = [[]]
    filled = 0
    for made in stored:
        if shards[-1] and filled + made.size_bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(made)
        filled += made.size_bytes
    if len(shards) == 1:
        return ((SINGLE, tuple(shards[0])),)
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    return tuple((name, tuple(shard)) for name, shard in zip(names, shards, strict=True))


def index_text(plan: MergePlan) -> str | None:
    """The text of the index; None: a single file needs none."""
    if [name for name, _ in plan.files] == [SINGLE]:
        return None
    places = {made.name: name for name, inside in plan.files for made in inside}
    total = {"total_size": plan.size_bytes}
    return json.dumps({"metadata": total, "weight_map": dict(sorted(places.items()))}, indent=2) + "\n"


def check_result(folder: Path, plan: MergePlan) -> None:
    """See that the files on the disk are those of the plan, byte count by byte count.

    Raises:
        Invalid: one is not
    """
    wanted = {made.name: (made.dtype, made.shape, name) for name, inside in plan.files for made in inside}
    found = {t.name: (t.dtype, t.shape, path.name) for path in weight_files(folder) for t in read_header(path)}
    if found != wanted:
        name = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
        raise Invalid(f"{folder}: {name} should be {wanted.get(name)} and is {found.get(name)}; merge again")
    if (folder / INDEX).is_file() != (index_text(plan) is not None):
        raise Invalid(f"{folder}/{INDEX} does not fit the files beside it; merge again")
