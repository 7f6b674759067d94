"""An adapter merged into its base, one tensor at a time: memory grows with the largest layer, not with the model.

`gpu_worker.merge_plan` says what the result consists of. Untouched tensors are copied raw, or converted in pieces. A
changed one is `scale * B @ A + weight` in float32, rounded once to the type it is stored in, which is bit-equal to what
PEFT's `merge_and_unload` makes of it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from gpu_worker.adapter import WEIGHTS, check_fit, read_adapter
from gpu_worker.base_model import INDEX, chat_template, copy_beside_weights, read_json, read_model, write_header
from gpu_worker.child_side import Channel, Stopped, child_main
from gpu_worker.memory import peak_rss_mib
from gpu_worker.merge_plan import AS_BASE, CHUNK, TEMPLATE, Form, check_result, index_text, plan_merge
from gpu_worker.model_card import write_card
from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpu_worker.adapter import LowRankChange
    from gpu_worker.base_model import Tensor
    from gpu_worker.merge_plan import Made, MergePlan

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CARD, BASE_CARD = "README.md", "README.base.md"
BESIDE_MIB = 64  # headers, tokenizer, cards: more than they ever take


def merge(base: Path, adapter: Path, target: Path, on_file: Callable[[str], None], form: Form = AS_BASE) -> MergePlan:
    """Write `base` with `adapter` merged into it as the model folder `target`; return what it consists of.

    Raises:
        Invalid: the adapter cannot be merged, or belongs to another base
        Permanent: there is no room for the result, or a merged weight is not finite
    """
    plan = plan_merge(base, adapter, form)
    target.mkdir(parents=True, exist_ok=True)
    _check_room(plan, target)
    _write_beside(base, adapter, plan, target)
    with safe_open(adapter / WEIGHTS, framework="pt") as matrices:
        for name, inside in plan.files:
            on_file(name)
            _write_file(target / name, inside, matrices)
    check_result(target, plan)
    return plan


def _write_beside(base: Path, adapter: Path, plan: MergePlan, target: Path) -> None:
    """Everything but the weights."""
    copy_beside_weights(base, target)
    if (target / CARD).is_file():
        (target / CARD).rename(target / BASE_CARD)
    if plan.config != read_json(base / "config.json"):
        (target / "config.json").write_text(json.dumps(plan.config, indent=2) + "\n", encoding="utf-8")
    if plan.tokenizer and chat_template(adapter) is not None:
        (target / TEMPLATE).unlink(missing_ok=True)
    for path in plan.tokenizer:
        shutil.copyfile(path, target / path.name)
    (target / INDEX).unlink(missing_ok=True)
    if (index := index_text(plan)) is not None:
        (target / INDEX).write_text(index, encoding="utf-8")


def _write_file(target: Path, inside: tuple[Made, ...], matrices: Any) -> None:
    partial = target.with_suffix(".partial")
    with partial.open("wb") as new:
        write_header(new, [(made.name, made.dtype, made.shape, made.size_bytes) for made in inside])
        for made in inside:
            for piece in _pieces(made, matrices):
                new.write(piece)
        new.flush()
        os.fsync(new.fileno())
    partial.chmod(0o644)
    partial.rename(target)


def _pieces(made: Made, matrices: Any) -> Iterator[bytes | memoryview]:
    """The bytes of a tensor, in pieces; what is changed comes whole."""
    if made.change is not None:
        yield _raw(_merged(made, made.change, matrices))
    elif made.whole is not None:
        rows = matrices.get_slice(made.whole.name)
        step = max(1, CHUNK // (4 * prod(made.shape[1:])))
        for begin in range(0, made.shape[0], step):
            yield _raw(_rounded(rows[begin : begin + step], made))
    elif made.source is not None and made.source[1].dtype == made.dtype:
        yield from _copied(*made.source)
    elif made.source is not None:
        dtype = DTYPES[made.source[1].dtype]
        for chunk in _copied(*made.source):
            yield _raw(_rounded(torch.frombuffer(bytearray(chunk), dtype=dtype), made))


def _copied(path: Path, tensor: Tensor) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(tensor.begin)
        for begin in range(tensor.begin, tensor.end, CHUNK):
            size = min(CHUNK, tensor.end - begin)
            chunk = file.read(size)
            if len(chunk) != size:
                raise Permanent(f"{path} ended early; copy the base model again")
            yield chunk


def _merged(made: Made, change: LowRankChange, matrices: Any) -> torch.Tensor:
    weight = _weight(made, matrices)
    a, b = matrices.get_tensor(change.a_name).float(), matrices.get_tensor(change.b_name).float()
    exact = (b @ a).mul_(change.scale).add_(weight)  # (outputs, inputs), float32
    rounded = exact.to(DTYPES[made.dtype])
    if not torch.isfinite(rounded).all():
        if torch.isfinite(exact).all():
            raise _too_large(made)
        sound = torch.isfinite(weight).all()
        why = "the training diverged; lower the learning rate" if sound else "the base's own is not; fetch it anew"
        raise Permanent(f"{made.name} is not finite after the merge: {why}", cause=Cause.DATA)
    return rounded


def _weight(made: Made, matrices: Any) -> torch.Tensor:
    """What LoRA is added to."""
    if made.whole is not None:
        return matrices.get_tensor(made.whole.name).float()
    assert made.source is not None
    path, tensor = made.source
    raw = bytearray(tensor.end - tensor.begin)
    with path.open("rb") as file:
        file.seek(tensor.begin)
        if file.readinto(raw) != len(raw):
            raise Permanent(f"{path} ended early; copy the base model again")
    return torch.frombuffer(raw, dtype=DTYPES[tensor.dtype]).view(tensor.shape)


def _rounded(piece: torch.Tensor, made: Made) -> torch.Tensor:
    rounded = piece.to(DTYPES[made.dtype])
    if torch.isfinite(piece).all() and not torch.isfinite(rounded).all():
        raise _too_large(made)
    return rounded


def _too_large(made: Made) -> Permanent:
    return Permanent(
        f"{made.name} holds a weight that {DTYPES[made.dtype]} cannot; choose bfloat16 or float32 as dtype",
        cause=Cause.DATA,
    )


def _raw(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.contiguous().view(torch.uint8).numpy())


def _check_room(plan: MergePlan, target: Path) -> None:
    needed, free = plan.size_bytes + BESIDE_MIB * 2**20, shutil.disk_usage(target).free
    if free < needed:
        raise Permanent(
            f"the merged model needs {needed / 2**30:.1f} GiB, {target} has {free / 2**30:.1f} GiB free; `tuneyard gc` "
            "finds what may go"
        )


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Merge, then compare with the unmerged model, see `gpu_worker.merge_check`; a model that fails is removed."""
    base, adapter, target = Path(config["base_model"]), Path(config["adapter"]), Path(config["folder"])
    read_model(base)
    base_verified = check_fit(read_adapter(adapter), adapter, base)

    def on_file(name: str) -> None:
        if channel.stop_requested:
            raise Stopped
        channel.progress(phase=f"merging {name}")

    with ExitStack() as undo:
        undo.callback(shutil.rmtree, target, ignore_errors=True)
        started = time.monotonic()
        plan = merge(base, adapter, target, on_file, Form(config["dtype"], config["shard_bytes"]))
        seconds = time.monotonic() - started
        made = _told(plan, target) | {"merge_seconds": seconds, "merge_peak_rss_mib": peak_rss_mib()}
        channel.progress(phase="comparing with the unmerged model")
        from gpu_worker.merge_check import check_merge  # after the merge's own peak has been read

        parity = asdict(check_merge(base, adapter, target, config["tolerance"], prompts=config["prompts"]))
        facts = {"base_verified": base_verified} | _told(plan, target) | parity
        write_card(target, base, adapter, lineage=config["lineage"], facts=facts)
        undo.pop_all()
    return {**made, **parity, "base_verified": base_verified, "peak_rss_mib": peak_rss_mib()}


def _told(plan: MergePlan, target: Path) -> dict[str, Any]:
    return {
        "tensors_merged": plan.changed,
        "tensors_replaced": plan.replaced,
        "untied": plan.untied,
        "vocabulary_before": plan.vocabulary_before,
        "vocabulary": plan.vocabulary,
        "tokenizer": "adapter" if plan.tokenizer else "base",
        "dtype": read_model(target).dtype,
        "files": len(plan.files),
        "size_mib": round(plan.size_bytes / 2**20, 1),
    }


if __name__ == "__main__":
    child_main(run)
