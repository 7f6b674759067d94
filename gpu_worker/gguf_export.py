"""A Llama model folder written as a GGUF file, tensor by tensor, and read back: without torch or llama.cpp.

Memory grows with the largest tensor. What the types hold says `gguf_tensors`, what is proven `gguf_check`.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gguf import GGUFWriter

from gpu_worker.base_model import read_json, read_model
from gpu_worker.child_side import Channel, Stopped, child_main
from gpu_worker.gguf_check import check_export
from gpu_worker.gguf_head import rope_factors, write_head
from gpu_worker.gguf_tensors import encoded, sources_of
from gpu_worker.memory import peak_rss_mib
from queue_app.errors import Permanent

if TYPE_CHECKING:
    from gpu_worker.gguf_tensors import Source

MARGIN_MIB = 64  # for the head: tokens and merges


def export(model: Path, target: Path, file_type: str, channel: Channel | None = None) -> dict[str, Any]:
    """Write `model` as the GGUF file `target` and prove it; `file_type` is f16 or q8_0.

    Raises:
        Invalid: it is no Llama that GGUF can hold; says what is in the way
        Permanent: there is no room, or a weight is too large for float16
    """
    read_model(model)
    config = read_json(model / "config.json")
    sources = sources_of(model, config, file_type)
    _check_room(sources, target)
    with closing(GGUFWriter(target, "llama")) as writer:
        write_head(writer, model, config, sources, file_type)
        for number, source in enumerate(sources):
            _show(channel, "writing", done_tensors=number + 1, tensors=len(sources))
            writer.write_tensor_data(encoded(source))
        if (factors := rope_factors(model, config)) is not None:
            writer.write_tensor_data(factors)
    target.chmod(0o644)
    _show(channel, "reading it back")
    error = check_export(target, sources)
    return {"tensors": len(sources), "size_mib": round(target.stat().st_size / 2**20, 1), "weight_error": error}


def _show(channel: Channel | None, phase: str, **counted: int) -> None:
    if channel is not None:
        if channel.stop_requested:
            raise Stopped
        channel.progress(phase=phase, **counted)


def _check_room(sources: list[Source], target: Path) -> None:
    needed, free = sum(s.size_bytes for s in sources) + MARGIN_MIB * 2**20, shutil.disk_usage(target.parent).free
    if free < needed:
        raise Permanent(
            f"the file needs {needed / 2**30:.1f} GiB, {target.parent} has {free / 2**30:.1f} GiB free; `tuneyard gc` "
            "finds what may go"
        )


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Export as told; a file that is not proven is removed."""
    model, folder = Path(config["model"]), Path(config["folder"])
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made = export(model, folder / config["file"], config["type"], channel)
        for path in sorted(model.iterdir()):
            if path.name.startswith(("README", "LICENSE")):
                shutil.copyfile(path, folder / path.name)
        undo.pop_all()
    return made | {"peak_rss_mib": peak_rss_mib()}


if __name__ == "__main__":
    child_main(run)
