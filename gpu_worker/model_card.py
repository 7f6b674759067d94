"""The card of a model that was made here: what it comes from, how it was trained, what was measured. Written anew."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gpu_worker.base_model import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

LICENSE = re.compile(r"^license(?:_name)?:\s*['\"]?([\w.+-]+)", re.MULTILINE)
FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
SHOWN = {  # of what the merge told
    "tensors_merged": "weights changed by the adapter",
    "tensors_replaced": "weights that the adapter brought along whole",
    "vocabulary_before": "rows of the base's embedding",
    "vocabulary": "rows of the embedding",
    "untied": "head and embedding, tied in the base, are apart",
    "tokenizer": "tokenizer of the",
    "dtype": "stored as",
    "size_mib": "size in MiB",
    "base_verified": "the adapter's record names just this base",
    "weight_error": "largest error of a weight, in units of what rounding allows",
    "effect_kept": "share of the adapter's effect on the logits that is kept",
    "effect_error": "distance to base and adapter apart, as a share of that effect",
    "tolerance": "largest such distance allowed",
    "max_logit_difference": "largest difference of a logit",
    "loss_difference": "nats per token, merged minus apart",
    "compared_texts": "texts compared",
    "compared_in": "compared in",
}


def write_card(
    folder: Path, base: Path, adapter: Path, *, lineage: Sequence[dict[str, Any]], facts: dict[str, Any]
) -> None:
    """Write the README.md of a merged model. Nothing in it changes from one run on the same inputs to the next."""
    record = read_json(adapter / "training.json") if (adapter / "training.json").is_file() else {}
    called = [one["name"] for one in lineage if one["kind"] == "base-model" and one["name"]]
    name = next(iter(called), None) or record.get("base_model", {}).get("name") or base.name
    license_name = find_license(base)
    front = ["---", f"license: {license_name}"] if license_name else ["---"]
    text = [
        *front,
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "---",
        f"# {name}, tuned",
        "",
        f"A LoRA adapter merged into {name} by Tuneyard.",
        "",
        "## Where it comes from",
        "",
        *_lineage(lineage, base, adapter),
        "",
        "## Training",
        "",
        *_training(record),
        "",
        "## Merge",
        "",
        *_table(("Measured", "Value"), ((SHOWN[key], facts[key]) for key in SHOWN if facts.get(key) is not None)),
        "",
        "## Licence",
        "",
        _licence_sentence(license_name, base, name),
    ]
    (folder / "README.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def find_license(base: Path) -> str | None:
    """The licence that a model's own card names."""
    for name in ("README.base.md", "README.md"):
        if (base / name).is_file():
            front = FRONT_MATTER.match((base / name).read_text(encoding="utf-8", errors="replace"))
            found = LICENSE.search(front[1]) if front else None
            if found:
                return found[1]
    return None


def _lineage(lineage: Sequence[dict[str, Any]], base: Path, adapter: Path) -> Iterable[str]:
    if not lineage:
        yield f"Base and adapter were folders outside the artifact store: `{base.name}`, `{adapter.name}`."
        return
    rows = ((one["kind"], one["name"], f"`{one['id']}`", _maker(one), one["recipe"]) for one in lineage)
    yield from _table(("Kind", "Name", "Artifact", "Made by job", "Recipe"), rows)


def _maker(one: dict[str, Any]) -> str | None:
    return f"{one['made_by']} `{one['job_id']}`" if one["job_id"] else None


def _training(record: dict[str, Any]) -> Iterable[str]:
    if not record:
        yield "The adapter carries no record of its training."
        return
    plain = ("engine", "device_name", "dtype", "steps", "examples", "trained_tokens")
    rows = [(key, record.get(key)) for key in plain]
    rows += [(key, value) for key, value in record.get("hyperparameters", {}).items()]
    if losses := record.get("losses"):
        rows += [("first loss", losses[0]), ("last loss", losses[-1])]
    if holdout := record.get("holdout_losses"):
        rows.append(("holdout loss", f"{holdout[-1]['loss']} at step {holdout[-1]['step']}"))
    rows += [(f"version of {name}", version) for name, version in record.get("versions", {}).items()]
    yield from _table(("Setting or figure", "Value"), rows)


def _licence_sentence(license_name: str | None, base: Path, name: str) -> str:
    texts = sorted(path.name for path in base.glob("LICENSE*"))
    beside = f" Its text is in {texts[0]}." if texts else ""
    if license_name is None and not texts:
        return f"The licence of {name} is not known here; see where it comes from before passing this model on."
    said = f"{name} is under {license_name}" if license_name else f"{name} comes with a licence"
    return f"{said}, and so is what is made of it.{beside} The data it was tuned on may add terms of its own."


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterable[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_cell(value) for value in row)} |"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
