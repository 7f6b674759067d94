"""What `adapter.train` costs beside the same TRL script run bare, on a CPU: tokens/s in pairs, and the same losses.

python benchmarks/training.py [--model FOLDER] [--pairs 3] [--steps 10]

Without --model it pulls smollm2-135m. Both sides run in a process of their own with the same thread settings, write
checkpoints at the same steps, and are read by the line that transformers itself prints at the end of a training.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_worker.backends.hardware import find_hardware
from queue_app.runner import Runner
from queue_app.store import Database, NewJob, Store
from settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SEQUENCE_LEN, RATE, SEED = 512, 5e-4, 42

BARE = """
import json, sys
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
from trl import SFTConfig, SFTTrainer

told = json.loads(sys.argv[1])
dtype = getattr(torch, told["dtype"])
set_seed(told["seed"])
model = AutoModelForCausalLM.from_pretrained(
    told["model"], dtype=dtype, device_map={"": "cpu"},
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype))
for module in model.modules():
    if hasattr(module, "support_avx512bf16_for_cpu"):
        module.support_avx512bf16_for_cpu = False
trainer = SFTTrainer(
    model=model, processing_class=AutoTokenizer.from_pretrained(told["model"]),
    train_dataset=Dataset.from_list([json.loads(line) for line in open(told["rows"])]),
    peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear"),
    args=SFTConfig(
        output_dir=told["output"], per_device_train_batch_size=1, gradient_accumulation_steps=4,
        max_steps=told["steps"], learning_rate=told["rate"], lr_scheduler_type="cosine", warmup_steps=0.03,
        optim="adamw_torch_fused", seed=told["seed"], max_length=told["sequence_len"], use_cpu=True, bf16=False,
        gradient_checkpointing=False, dataloader_pin_memory=False, logging_steps=1, save_steps=told["save_steps"],
        include_num_input_tokens_seen="non_padding", loss_type=told["loss_type"], report_to="none", disable_tqdm=True))
for parameter in trainer.model.parameters():
    if parameter.requires_grad:
        parameter.data = parameter.data.float()
trainer.train()
"""


@dataclass(frozen=True)
class Measured:
    """One run, as transformers told it; the CPU time is of every process it took, loading included."""

    tokens_per_second: float
    losses: list[str]
    cpu_seconds: float


def read_log(text: str, cpu_seconds: float) -> Measured:
    """The figures of the last training in a log."""
    lines = [ast.literal_eval(line) for line in text.splitlines() if line.startswith("{'")]
    last = lines[-1]
    seconds = float(last["train_runtime"])
    losses = [line["loss"] for line in lines if "loss" in line]
    return Measured(float(last["num_input_tokens_seen"]) / seconds, losses, cpu_seconds)


def cpu_seconds() -> float:
    """What this process and those it has waited for have used so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Bench:
    """A yard without processes, the dataset, and the two contestants."""

    def __init__(self, folder: Path, asked: argparse.Namespace) -> None:
        self.folder, self.asked = folder, asked
        self.settings = Settings(home=folder / "home")
        database = Database(self.settings.store_url)
        database.migrate()
        self.store = Store(database)
        self.runner = Runner(self.store, self.settings, "benchmark")
        self.save_steps = max(1, asked.steps // 2)
        self.model = asked.model or self._pull()
        self.dataset = self.write_dataset()

    def run(self, kind: str, **spec: Any) -> tuple[str, dict[str, Any]]:
        new = NewJob(kind=kind, queue="gpu", spec=spec, reuse=False)
        self.store.submit([new], actor="benchmark")
        self.runner.run(job_id=new.id)
        job = self.store.read.job(new.id)
        if job.result is None:
            sys.exit(f"{kind} {job.state}: {job.failure}")
        return new.id, job.result

    def _pull(self) -> Path:
        _, result = self.run("model.pull", model="smollm2-135m")
        return self.runner.artifacts.fetch(result["model"])

    def write_dataset(self) -> Path:
        """Passages of Python's language reference, about 200 tokens each: the first fifth asks for the rest."""
        from pydoc_data.topics import topics

        path = self.folder / "train.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for name, text in sorted(topics.items()):
                words = text.split()
                for start in range(0, len(words) - 110, 110):
                    asked, answer = " ".join(words[start : start + 22]), " ".join(words[start + 22 : start + 110])
                    row = {"instruction": f"Continue this passage on {name}: {asked}", "input": "", "output": answer}
                    file.write(json.dumps(row) + "\n")
        return path

    def ours(self) -> tuple[Measured, Path]:
        """The measurement, and the folder of the job."""
        began = cpu_seconds()
        job_id, _ = self.run(
            "adapter.train",
            base_model=str(self.model),
            dataset=str(self.dataset),
            engine="trl",
            sequence_len=SEQUENCE_LEN,
            max_steps=self.asked.steps,
            save_steps=self.save_steps,
            learning_rate=RATE,
            seed=SEED,
        )
        folder = self.settings.home / "jobs" / job_id
        return read_log((folder / "logs" / "child.log").read_text(), cpu_seconds() - began), folder

    def bare(self, job: Path) -> Measured:
        told = {
            "model": str(self.model),
            "rows": str(job / "train.jsonl"),
            "output": tempfile.mkdtemp(dir=self.folder),
            "dtype": str(find_hardware().dtype).removeprefix("torch."),
            "steps": self.asked.steps,
            "save_steps": self.save_steps,
            "sequence_len": SEQUENCE_LEN,
            "rate": RATE,
            "seed": SEED,
            "loss_type": "chunked_nll",
        }
        began = cpu_seconds()
        command = [sys.executable, "-c", BARE, json.dumps(told)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        return read_log(done.stdout, cpu_seconds() - began)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--model", type=lambda text: Path(text).resolve(), help="a model folder")
    asked.add_argument("--pairs", type=int, default=3)
    asked.add_argument("--steps", type=int, default=10)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as adapter.train has it
    with tempfile.TemporaryDirectory() as folder:
        compare(Bench(Path(folder), asked.parse_args()))


def compare(bench: Bench) -> None:
    """Run the pairs, each in the other order than the one before, and print the table."""
    pairs: list[tuple[Measured, Measured]] = []
    _, job = bench.ours()  # warms the page cache, and leaves the rows that both read
    for number in range(bench.asked.pairs):
        if number % 2:
            bare = bench.bare(job)
            ours, _ = bench.ours()
        else:
            ours, _ = bench.ours()
            bare = bench.bare(job)
        pairs.append((ours, bare))
    ratios = [ours.tokens_per_second / bare.tokens_per_second for ours, bare in pairs]
    same = all(ours.losses == bare.losses for ours, bare in pairs)
    print(f"QLoRA, {bench.model.name}, {bench.asked.steps} steps of 4 x 1 examples, {find_hardware().name}\n")
    print("| pair | adapter.train tok/s | bare TRL tok/s | ratio | CPU seconds | CPU seconds | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for number, ((ours, bare), ratio) in enumerate(zip(pairs, ratios, strict=True), 1):
        cpu = f"{ours.cpu_seconds:.1f} | {bare.cpu_seconds:.1f} | {ours.cpu_seconds / bare.cpu_seconds:.3f}"
        print(f"| {number} | {ours.tokens_per_second:.1f} | {bare.tokens_per_second:.1f} | {ratio:.3f} | {cpu} |")
    overhead = 1 - statistics.median(ratios)
    more_cpu = statistics.median(ours.cpu_seconds / bare.cpu_seconds for ours, bare in pairs) - 1
    print(f"\noverhead (median of the pairs): {overhead:.1%} of tokens/s, {more_cpu:+.1%} of CPU time")
    print(f"the losses are {'equal' if same else 'NOT equal'}")


if __name__ == "__main__":
    main()
