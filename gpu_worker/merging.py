"""An adapter merged into its base, one tensor at a time: memory grows with the largest layer, not with the model.

The files keep their headers byte for byte, because a merge changes neither shapes nor types; untouched tensors are
copied raw. A changed one is `scale * B @ A + weight` in float32, rounded once to the type it is stored in, which is
bit-equal to what PEFT's `merge_and_unload` makes of it.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from gpu_worker.adapter import WEIGHTS, check_fit, read_adapter
from gpu_worker.base_model import copy_beside_weights, read_header, read_model, weight_files
from gpu_worker.child_side import Channel, Stopped, child_main
from gpu_worker.memory import peak_rss_mib
from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from gpu_worker.adapter import LowRankChange
    from gpu_worker.base_model import Tensor

CHUNK = 1 << 24  # bytes copied at once
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def merge(base: Path, adapter: Path, target: Path, on_file: Callable[[str], None]) -> int:
    """Write `base` with `adapter` merged into it as the model folder `target`; return how many tensors changed.

    Raises:
        Invalid: the adapter cannot be merged, or belongs to another base
        Permanent: there is no room for the result, or a merged weight is not finite
    """
    changes = {change.target: change for change in read_adapter(adapter)}
    target.mkdir(parents=True, exist_ok=True)
    _check_room(base, target)
    copy_beside_weights(base, target)
    merged = 0
    with safe_open(adapter / WEIGHTS, framework="pt") as matrices:
        for source in weight_files(base):
            on_file(source.name)
            merged += _merge_file(source, target / source.name, changes, matrices)
    if merged != len(changes):
        raise Permanent(
            f"{merged} of {len(changes)} adapted layers were found in {base}; is it the adapter's base model?"
        )
    return merged


def _merge_file(source: Path, target: Path, changes: dict[str, LowRankChange], matrices: Any) -> int:
    partial = target.with_suffix(".partial")
    merged = 0
    with source.open("rb") as old, partial.open("wb") as new:
        tensors = read_header(source)
        _copy(old, new, tensors[0].begin if tensors else source.stat().st_size)
        for tensor in tensors:
            change = changes.get(tensor.name)
            if change is None:
                _copy(old, new, tensor.end - tensor.begin)
            else:
                new.write(_merged(old.read(tensor.end - tensor.begin), tensor, change, matrices))
                merged += 1
        new.flush()
        os.fsync(new.fileno())
    partial.chmod(0o644)
    partial.rename(target)
    return merged


def _merged(raw: bytes, tensor: Tensor, change: LowRankChange, matrices: Any) -> memoryview:
    weight = torch.frombuffer(bytearray(raw), dtype=DTYPES[tensor.dtype]).view(tensor.shape)
    a, b = matrices.get_tensor(change.a_name).float(), matrices.get_tensor(change.b_name).float()
    exact = (b @ a).mul_(change.scale).add_(weight)  # (outputs, inputs), float32
    rounded = exact.to(weight.dtype)
    if not torch.isfinite(rounded).all():
        sound = torch.isfinite(weight).all()
        why = "the training diverged; lower the learning rate" if sound else "the base's own is not; fetch it anew"
        raise Permanent(
            f"{tensor.name} is not finite after the merge: {why}",
            cause=Cause.DATA,
        )
    return memoryview(rounded.view(torch.uint8).numpy())


def _copy(old: BinaryIO, new: BinaryIO, size: int) -> None:
    while size:
        chunk = old.read(min(CHUNK, size))
        if not chunk:
            raise Permanent(f"{old.name} ended early; copy the base model again")
        new.write(chunk)
        size -= len(chunk)


def _check_room(base: Path, target: Path) -> None:
    needed, free = sum(path.stat().st_size for path in weight_files(base)), shutil.disk_usage(target).free
    if free < needed:
        raise Permanent(f"the merged model needs {needed / 2**30:.1f} GiB, {target} has {free / 2**30:.1f} GiB free")


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
        merged = merge(base, adapter, target, on_file)
        seconds = time.monotonic() - started
        made = {"tensors_merged": merged, "merge_seconds": seconds, "merge_peak_rss_mib": peak_rss_mib()}
        channel.progress(phase="comparing with the unmerged model")
        from gpu_worker.merge_check import check_merge  # after the merge's own peak has been read

        parity = check_merge(base, adapter, target, config["tolerance"])
        undo.pop_all()
    return {**made, **asdict(parity), "base_verified": base_verified, "peak_rss_mib": peak_rss_mib()}


if __name__ == "__main__":
    child_main(run)
