"""The streamed merge beside PEFT's `merge_and_unload`: seconds and peak memory, each in a process of its own.

python benchmarks/merging.py [--model FOLDER] [--rounds 3] [--folder FOLDER]

Without --model it pulls smollm2-135m; beside it goes a generated Llama of 1.1 billion bfloat16 weights in three files.
The adapters are random, rank 16 and 64 on every linear layer. Both sides load, merge and save; the time leaves the
imports out, the memory is the process's peak. Every tensor of the two results is compared byte for byte. Prints rows
of Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import TensorSpec, serialize_file
from safetensors.numpy import save_file

from gpu_worker.base_model import INDEX, read_header, weight_files
from queue_app.runner import Runner
from queue_app.store import Database, NewJob, Store
from settings import Settings

ROOT = Path(__file__).resolve().parent.parent
WIDTH, INNER, LAYERS, HEADS, SHARED_HEADS, VOCABULARY = 2048, 8192, 16, 32, 8, 32_000
SHARDS = 3

OURS = """
import json, sys, time
from pathlib import Path
from gpu_worker.memory import peak_rss_mib
from gpu_worker.merging import merge
base, adapter, target = map(Path, sys.argv[1:])
began, used = time.monotonic(), time.process_time()
merge(base, adapter, target, lambda name: None)
took = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - used}
print(json.dumps(took | {"peak_rss_mib": peak_rss_mib()}))
"""
PEFTS = """
import json, sys, time
from gpu_worker.memory import peak_rss_mib
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, target = sys.argv[1:]
began, used = time.monotonic(), time.process_time()
model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(target)
took = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - used}
print(json.dumps(took | {"peak_rss_mib": peak_rss_mib()}))
"""


def pull(folder: Path) -> Path:
    """The 135M model, by the job that gets it."""
    settings = Settings(home=folder / "home")
    database = Database(settings.store_url)
    database.migrate()
    runner = Runner(Store(database), settings, "benchmark")
    new = NewJob(kind="model.pull", queue="cpu", spec={"model": "smollm2-135m"}, reuse=False)
    runner.store.submit([new], actor="benchmark")
    runner.run(job_id=new.id)
    job = runner.store.read.job(new.id)
    if job.result is None:
        sys.exit(f"model.pull {job.state}: {job.failure}")
    return runner.artifacts.fetch(job.result["model"])


def generate(folder: Path) -> Path:
    """A random Llama in three files, without a tokenizer: nobody talks to it."""
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": SHARED_HEADS,
        "vocab_size": VOCABULARY, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "dtype": "bfloat16",
        "tie_word_embeddings": False,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    shared = WIDTH // HEADS * SHARED_HEADS
    linear = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (shared, WIDTH),
              "self_attn.v_proj": (shared, WIDTH), "self_attn.o_proj": (WIDTH, WIDTH), "mlp.gate_proj": (INNER, WIDTH),
              "mlp.up_proj": (INNER, WIDTH), "mlp.down_proj": (WIDTH, INNER)}  # fmt: skip
    for layer in range(LAYERS):
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in linear.items()}
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{layer}.{name}.weight"] = (WIDTH,)
    shapes |= {"model.norm.weight": (WIDTH,), "lm_head.weight": (VOCABULARY, WIDTH)}
    names = list(shapes)
    places: dict[str, str] = {}
    for number in range(SHARDS):
        file = f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        inside = names[number * len(names) // SHARDS : (number + 1) * len(names) // SHARDS]
        places |= dict.fromkeys(inside, file)
        write_random(folder / file, {name: shapes[name] for name in inside})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def write_random(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    random = np.random.default_rng(len(shapes))
    arrays = {
        name: (random.standard_normal(shape, np.float32) * np.float32(0.02)).view(np.uint32) >> 16
        for name, shape in shapes.items()
    }
    halves = {name: array.astype(np.uint16) for name, array in arrays.items()}
    specs = {
        name: TensorSpec(dtype="bfloat16", shape=half.shape, data_ptr=half.ctypes.data, data_len=half.nbytes)
        for name, half in halves.items()
    }
    serialize_file(specs, path, {"format": "pt"})


def make_adapter(folder: Path, base: Path, rank: int) -> Path:
    """Random matrices on every linear layer but the head."""
    folder.mkdir()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none",
              "target_modules": "all-linear", "inference_mode": True}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    random, matrices = np.random.default_rng(1), {}
    for tensor in (tensor for path in weight_files(base) for tensor in read_header(path)):
        if tensor.name.endswith("proj.weight"):
            stem = f"base_model.model.{tensor.name.removesuffix('.weight')}"
            outputs, inputs = tensor.shape
            matrices[f"{stem}.lora_A.weight"] = random.standard_normal((rank, inputs), np.float32) * np.float32(0.02)
            matrices[f"{stem}.lora_B.weight"] = random.standard_normal((outputs, rank), np.float32) * np.float32(0.02)
    save_file(matrices, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def measure(program: str, *paths: Path) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, "-c", program, *(str(path) for path in paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def different(ours: Path, theirs: Path) -> tuple[int, int]:
    """How many tensors there are, and how many are not the same to the last byte."""
    places = [{t.name: (path, t) for path in weight_files(f) for t in read_header(path)} for f in (ours, theirs)]
    if places[0].keys() != places[1].keys():
        sys.exit(f"not the same tensors: {sorted(places[0].keys() ^ places[1].keys())[:3]}")
    return len(places[0]), sum(content(*places[0][name]) != content(*places[1][name]) for name in places[0])


def content(path: Path, tensor: Any) -> bytes:
    with path.open("rb") as file:
        file.seek(tensor.begin)
        return file.read(tensor.end - tensor.begin)


def compare(name: str, base: Path, rank: int, folder: Path, rounds: int) -> str:
    """One row: both sides, in turn."""
    adapter = make_adapter(folder / f"adapter-{rank}", base, rank)
    ours, theirs = folder / f"ours-{rank}", folder / f"theirs-{rank}"
    seen = [(measure(OURS, base, adapter, ours), measure(PEFTS, base, adapter, theirs)) for _ in range(rounds)]
    tensors, off = different(ours, theirs)
    mine, pefts = (_cells([pair[side] for pair in seen]) for side in (0, 1))
    size = sum(path.stat().st_size for path in weight_files(base)) / 2**20
    return (
        f"| {name}, r {rank}, {len(weight_files(base))} files, {size:,.0f} MiB "
        f"| {mine} | {pefts} | {tensors - off} of {tensors} |"
    )


def _cells(seen: list[dict[str, float]]) -> str:
    """The medians of one side: seconds by the clock, seconds of CPU, peak memory."""
    middle = {key: statistics.median(each[key] for each in seen) for key in seen[0]}
    return f"{middle['seconds']:.1f} s ({middle['cpu_seconds']:.1f} s CPU) | {middle['peak_rss_mib']:,.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="a model's folder instead of smollm2-135m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where about 8 GiB fit; default: the temporary folder")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        print("| model | streamed | peak RSS | PEFT: load, merge, save | peak RSS | tensors equal to the last bit |")
        print("|---|---|---|---|---|---|")
        model = asked.model or pull(folder)
        print(compare("smollm2-135m" if asked.model is None else model.name, model, 16, folder, asked.rounds))
        sys.stdout.flush()
        print(compare("generated 1.1B", generate(folder / "generated"), 64, folder, asked.rounds))


if __name__ == "__main__":
    main()
