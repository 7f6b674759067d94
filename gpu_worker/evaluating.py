"""Base and tuned model side by side: the loss of the same held-out completions, and what each one answers."""

from __future__ import annotations

import gc
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpu_worker.backends.hardware import Hardware, find_hardware
from gpu_worker.base_model import chat_template, read_json, read_model
from gpu_worker.child_side import Channel, Stopped, child_main
from gpu_worker.comparison import ExampleLoss, check_measured, compare
from gpu_worker.completions import Row, encode, read_rows
from gpu_worker.evaluation_report import Answer, write_report
from gpu_worker.memory import peak_rss_mib
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause


@dataclass(frozen=True)
class Tokens:
    """One example as the model reads it: the loss is taken from `start` on."""

    ids: list[int]
    start: int
    is_cut: bool


class Steps:
    """Counts the work, tells the worker, and hears it say stop."""

    def __init__(self, channel: Channel, steps: int) -> None:
        self.channel, self.steps, self.step = channel, steps, 0

    def done(self, phase: str, **values: float) -> None:
        self.step += 1
        self.channel.progress(step=self.step, steps=self.steps, phase=phase, **values)
        if self.channel.stop_requested:
            raise Stopped


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Measure both models and write the report into `config["folder"]`.

    Raises:
        Invalid: the models do not speak the same tokens, or have no chat template
        Permanent: no example is left to measure on, the chat template refuses one, or a model's loss is no number
    """
    base, tuned = Path(config["base_model"]), Path(config["model"])
    contexts = _check_comparable(base, tuned)
    tokenizer = AutoTokenizer.from_pretrained(base)
    max_length = min([config["max_length"], *contexts])
    rows = spaced(list(read_rows(Path(config["rows"]))), config["max_examples"])
    examples, dropped = readable(tokenizer, rows, max_length)
    batches = batched([tokens for _, tokens in examples], config["batch_size"])
    prompts = spaced([row for row, _ in examples], config["prompts"])
    steps = Steps(channel, 2 * (len(batches) + bool(prompts)))
    hardware = find_hardware()
    losses, answers = [], []
    for name, folder in (("base", base), ("tuned", tuned)):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=hardware.dtype).to(hardware.device).eval()
        losses.append(measure(model, batches, name, steps))
        check_measured(losses[-1], f"the {name} model ({folder})")
        answers.append(generate(model, tokenizer, prompts, config["max_new_tokens"]) if prompts else [])
        if prompts:
            steps.done(f"answers of the {name} model")
        del model
        gc.collect()
    comparison = compare(*losses)
    facts = {
        **asdict(comparison),
        "cut": sum(tokens.is_cut for _, tokens in examples),
        "dropped": dropped,
        "max_length": max_length,
        "compared_in": _type_name(hardware),
        "device": hardware.name,
        "peak_rss_mib": peak_rss_mib(),
    }
    shown = [Answer(row["prompt"], row["completion"], *both) for row, *both in zip(prompts, *answers, strict=True)]
    write_report(Path(config["folder"]), facts, losses, shown)
    return facts


def readable(tokenizer: Any, rows: list[Row], max_length: int) -> tuple[list[tuple[Row, Tokens]], int]:
    """The examples with something to measure, and how many have a prompt that fills `max_length` alone.

    Raises:
        Permanent: none is left
    """
    both = [(row, tokenize(tokenizer, row, max_length)) for row in rows]
    kept = [(row, tokens) for row, tokens in both if len(tokens.ids) > tokens.start]
    if not kept:
        raise Permanent(
            f"of {len(rows)} held-out examples none has a completion within max_length {max_length}; raise max_length, "
            "or prepare shorter examples",
            cause=Cause.DATA,
        )
    return kept, len(both) - len(kept)


def tokenize(tokenizer: Any, row: Row, max_length: int) -> Tokens:
    """An example through the chat template, cut at its end."""
    ids, start = encode(tokenizer, row)
    return Tokens(ids[:max_length], start, len(ids) > max_length)


def spaced(rows: list[Any], count: int) -> list[Any]:
    """`count` of the rows, evenly spaced, so that no part of the data is left out."""
    if len(rows) <= count:
        return rows
    return [rows[number * len(rows) // count] for number in range(count)]


def batched(examples: list[Tokens], size: int) -> list[list[tuple[int, Tokens]]]:
    """Examples of about the same length together, longest first, each with its place."""
    order = sorted(enumerate(examples), key=lambda item: -len(item[1].ids))
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


@torch.inference_mode()
def measure(model: Any, batches: list[list[tuple[int, Tokens]]], name: str, steps: Steps) -> list[ExampleLoss]:
    """The loss of every example's completion, in the order of the examples."""
    losses: dict[int, ExampleLoss] = {}
    for batch in batches:
        losses |= _batch_losses(model, batch)
        nats, tokens = (sum(getattr(loss, part) for loss in losses.values()) for part in ("nats", "tokens"))
        steps.done(f"loss of the {name} model", loss=round(nats / tokens, 4))
    return [losses[place] for place in sorted(losses)]


def _batch_losses(model: Any, batch: list[tuple[int, Tokens]]) -> dict[int, ExampleLoss]:
    width = max(len(tokens.ids) for _, tokens in batch)
    ids = torch.tensor([tokens.ids + [0] * (width - len(tokens.ids)) for _, tokens in batch])  # (B, T)
    mask = torch.tensor([[1] * len(tokens.ids) + [0] * (width - len(tokens.ids)) for _, tokens in batch])
    first = (
        min(tokens.start for _, tokens in batch) - 1
    )  # no logits are needed for what every prompt of the batch covers
    kept = torch.arange(first, width - 1, device=model.device)
    logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), logits_to_keep=kept).logits
    losses = {}
    for row, (place, tokens) in zip(logits, batch, strict=True):
        ahead = torch.tensor(tokens.ids[tokens.start :], device=model.device)
        scores = row[tokens.start - 1 - first :][: len(ahead)].float()  # (completion, vocabulary)
        nats = torch.nn.functional.cross_entropy(scores, ahead, reduction="sum")
        losses[place] = ExampleLoss(float(nats), len(ahead))
    return losses


@torch.inference_mode()
def generate(model: Any, tokenizer: Any, rows: list[Row], max_new_tokens: int) -> list[str]:
    """Greedy answers to the prompts of `rows`, all in one batch."""
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:  # any token will do: what it fills is masked
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    prompts = [tokenizer.apply_chat_template(r["prompt"], add_generation_prompt=True, tokenize=False) for r in rows]
    inputs = tokenizer(prompts, add_special_tokens=False, return_tensors="pt", padding=True).to(model.device)
    made = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    texts: list[str] = tokenizer.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def _check_comparable(base: Path, tuned: Path) -> list[int]:
    """The context lengths that the models name."""
    contexts = [read_model(folder).context_length for folder in (base, tuned)]
    if chat_template(base) is None:
        raise Invalid(f"{base} has no chat template, so its prompts cannot be written; name a chat (instruct) model")
    ours, theirs = (read_json(folder / "tokenizer.json") for folder in (base, tuned))
    if any(ours.get(part) != theirs.get(part) for part in ("model", "added_tokens")):
        raise Invalid(f"{base} and {tuned} have different tokenizers, so their losses cannot be compared")
    return [context for context in contexts if context is not None]


def _type_name(hardware: Hardware) -> str:
    return str(hardware.dtype).removeprefix("torch.")


if __name__ == "__main__":
    child_main(run)
