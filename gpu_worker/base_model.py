"""What a model folder must hold, and what can be read from it without loading it.

Light: neither torch nor transformers; only the safetensors headers are read.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from queue_app.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
HEADER_LIMIT = 100_000_000  # bytes; the limit of the safetensors format itself
BESIDE_WEIGHTS = {".json", ".jinja", ".txt", ".model", ".md"}
LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
SAMPLE = 4096  # bytes of every tensor that the fingerprint reads


@dataclass(frozen=True)
class Tensor:
    """One tensor in a safetensors file: where its bytes are, from `begin` to `end` of the file."""

    name: str
    dtype: str  # as the format spells it: F32, BF16, …
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class ModelFacts:
    """What a valid model folder says about itself."""

    architecture: str
    parameters: int
    size_bytes: int  # of the weights
    context_length: int | None
    dtype: str
    has_chat_template: bool

    @property
    def size_mib(self) -> float:
        return round(self.size_bytes / 2**20, 1)


def read_model(folder: Path) -> ModelFacts:
    """Validate a model folder and return its facts.

    Raises:
        Invalid: something is missing or broken; names the file and what to do
    """
    if not folder.is_dir():
        raise Invalid(f"{folder} is not a folder; a model is a folder with config.json, safetensors and a tokenizer")
    architecture, config = read_architecture(folder), read_json(folder / "config.json")
    tensors = [tensor for path in weight_files(folder) for tensor in read_header(path)]
    if not tensors:
        raise Invalid(f"{folder}: its safetensors files hold no tensor; copy the whole model again")
    if not (folder / "tokenizer.json").is_file():
        raise Invalid(
            f"{folder}/tokenizer.json is missing; save the model's fast tokenizer beside its weights "
            "(`AutoTokenizer.from_pretrained(…).save_pretrained(folder)`)"
        )
    _check_layers(folder, config, tensors)
    dtypes = [tensor.dtype for tensor in tensors]
    return ModelFacts(
        architecture=architecture,
        parameters=sum(prod(tensor.shape) for tensor in tensors),
        size_bytes=sum(tensor.end - tensor.begin for tensor in tensors),
        context_length=config.get("max_position_embeddings"),
        dtype=max(sorted(set(dtypes)), key=dtypes.count),
        has_chat_template=chat_template(folder) is not None,
    )


def _check_layers(folder: Path, config: dict[str, Any], tensors: list[Tensor]) -> None:
    """Missing layers would be filled with random numbers as the model is loaded."""
    told = config.get("num_hidden_layers")
    held = {int(found[1]) for found in (LAYER.search(tensor.name) for tensor in tensors) if found}
    missing = sorted(set(range(told)) - held) if isinstance(told, int) and held else []
    if missing:
        raise Invalid(
            f"{folder}: config.json speaks of {told} layers, and the weights have none of number {missing[0]}; copy "
            "the whole model again"
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, in the order of their names.

    Raises:
        Invalid: there are none, or the index names one that is missing
    """
    single = (folder / SINGLE).is_file() or not (folder / INDEX).is_file()  # transformers prefers the single file too
    names = [SINGLE] if single else indexed_files(folder / INDEX)
    missing = [name for name in names if "/" in name or not (folder / name).is_file()]
    if missing:
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        advice = f"; {pickles[0]} is a pickle, which can run code: convert it to safetensors" if pickles else ""
        raise Invalid(f"{folder}/{missing[0]} is missing; copy the whole model again{advice}")
    return [folder / name for name in names]


def indexed_files(index: Path) -> list[str]:
    """The names of the files that a model's index spreads its tensors over.

    Raises:
        Invalid: it is no index
    """
    places = read_json(index).get("weight_map")
    if not (isinstance(places, dict) and places and all(isinstance(name, str) for name in places.values())):
        raise Invalid(f"{index}: weight_map must name a file for each tensor; copy it again")
    return sorted(set(places.values()))


def read_header(path: Path) -> list[Tensor]:
    """The tensors of a safetensors file in the order of their bytes, from its header alone.

    Source: the format's own description, https://github.com/huggingface/safetensors#format

    Raises:
        Invalid: the file is cut off, has gaps, or is no safetensors file
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise Invalid(f"{path} is not a safetensors file, or was cut off in its header; copy it again")
        text = file.read(length)
    try:
        tensors = sorted(_tensors(json.loads(text), 8 + length), key=lambda tensor: (tensor.begin, tensor.end))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Invalid(f"{path} has a broken safetensors header ({error}); copy it again") from error
    expected = 8 + length
    for tensor in tensors:
        if tensor.begin != expected or tensor.end < tensor.begin:
            raise Invalid(f"{path}: {tensor.name} does not begin where the tensor before it ends; copy it again")
        expected = tensor.end
    if expected != size:
        raise Invalid(f"{path} has {size} bytes, its header says {expected}: it was cut off; copy it again")
    return tensors


def write_header(file: BinaryIO, tensors: Sequence[tuple[str, str, tuple[int, ...], int]]) -> None:
    """Begin a safetensors file of these tensors: (name, type, shape, bytes), which are to follow in this order."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, dtype, shape, size in tensors:
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, begin + size]}
        begin += size
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)


def _tensors(entries: dict[str, Any], data_start: int) -> Iterator[Tensor]:
    for name, entry in entries.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield Tensor(name, entry["dtype"], tuple(entry["shape"]), data_start + begin, data_start + end)


def fingerprint(folder: Path) -> str:
    """What tells one base model from another: a hash of every tensor's name, shape, type and first 4 KiB.

    Covered: another model, another precision, another fine-tune. Not covered: a change in the later bytes of tensors
    only.
    """
    parts = {}
    for path in weight_files(folder):
        with path.open("rb") as file:
            for tensor in read_header(path):
                file.seek(tensor.begin)
                sample = file.read(min(SAMPLE, tensor.end - tensor.begin))
                parts[tensor.name] = f"{tensor.name} {tensor.dtype} {tensor.shape}\n".encode() + sample
    return "sha256:" + hashlib.sha256(b"".join(parts[name] for name in sorted(parts))).hexdigest()


def chat_template(folder: Path) -> str | None:
    """The model's chat template, wherever it keeps it."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if (folder / "tokenizer_config.json").is_file():
        template = read_json(folder / "tokenizer_config.json").get("chat_template")
        return template if isinstance(template, str) else None
    return None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        Invalid: the file is missing or holds something else
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Invalid(f"{path} is missing; is this the model's own folder?") from None
    except ValueError as error:
        raise Invalid(f"{path} is not valid JSON ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise Invalid(f"{path} must hold a JSON object, not a {type(value).__name__}; copy it again")
    return value


def read_architecture(folder: Path) -> str:
    """Which kind of model config.json names.

    Raises:
        Invalid: it is no causal language model, or is quantised
    """
    config = read_json(folder / "config.json")
    named = config.get("architectures") or ["nothing"]
    if not str(named[0]).endswith("ForCausalLM"):
        raise Invalid(
            f"{folder}/config.json names the architecture {named[0]}; only causal language models (…ForCausalLM) "
            "can be tuned here"
        )
    quantised = config.get("quantization_config")
    if quantised:
        how = quantised.get("quant_method", "somehow") if isinstance(quantised, dict) else quantised
        raise Invalid(
            f"{folder}/config.json says that its weights are quantised ({how}), and no adapter could be merged into "
            "them; take the unquantised model: method qlora quantises it for the training"
        )
    return str(named[0])


def copy_beside_weights(source: Path, target: Path) -> None:
    """Copy configuration, tokenizer, chat template, licence and card of a model: everything but weights and code."""
    for path in sorted(source.iterdir()):
        if path.is_file() and (path.suffix in BESIDE_WEIGHTS or path.name.startswith("LICENSE")):
            shutil.copyfile(path, target / path.name)
