"""What an evaluation leaves behind: report.json for programs, report.md for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_worker.comparison import ExampleLoss

LONGEST = 600  # characters of a text shown in report.md; report.json has the whole

TABLE = """# Evaluation

| on {examples} held-out examples | base | tuned |
|---|---|---|
| loss (nats per completion token) | {base_loss:.4f} | {tuned_loss:.4f} |
| perplexity | {base_perplexity:.2f} | {tuned_perplexity:.2f} |

Difference in loss: {loss_difference:+.4f} ({interval}); the tuned model is better on {better} of {examples} examples
({tokens} completion tokens).

Cut at {max_length} tokens: {cut} examples. Dropped because the prompt alone fills that: {dropped}. Measured in
{compared_in} on {device}, with at most {peak_rss_mib} MiB of memory.
"""


@dataclass(frozen=True)
class Answer:
    """One prompt, and what each model makes of it."""

    prompt: list[dict[str, str]]
    reference: list[dict[str, str]]
    base: str
    tuned: str


def write_report(folder: Path, facts: dict[str, Any], losses: list[list[ExampleLoss]], answers: list[Answer]) -> None:
    """Write both files; `losses` are the base's and the tuned model's, example by example."""
    folder.mkdir(parents=True, exist_ok=True)
    examples = [
        {"tokens": before.tokens, "base_loss": before.nats / before.tokens, "tuned_loss": after.nats / after.tokens}
        for before, after in zip(*losses, strict=True)
    ]
    whole = {**facts, "per_example": examples, "answers": [asdict(answer) for answer in answers]}
    (folder / "report.json").write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(_table(facts) + _answers(answers), encoding="utf-8")


def _table(facts: dict[str, Any]) -> str:
    interval = "too few examples for an interval"
    if facts["interval"] is not None:
        low, high = facts["interval"]
        interval = f"95 % interval {low:+.4f} to {high:+.4f}"
    return TABLE.format(**facts | {"interval": interval})


def _answers(answers: list[Answer]) -> str:
    texts = ["\n## Answers\n"] if answers else []
    for number, answer in enumerate(answers, start=1):
        texts.append(f"\n### {number}\n")
        asked, wanted = answer.prompt[-1]["content"], answer.reference[0]["content"]
        parts = (("Prompt", asked), ("Reference", wanted), ("Base", answer.base), ("Tuned", answer.tuned))
        texts += [f"\n**{title}**\n\n{_quoted(text)}\n" for title, text in parts]
    return "".join(texts)


def _quoted(text: str) -> str:
    short = text if len(text) <= LONGEST else f"{text[:LONGEST]} […]"
    return "\n".join(f"> {line}" for line in short.splitlines()) or "> (nothing)"
