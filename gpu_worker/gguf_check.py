"""A GGUF file read back and compared with the model that it was written from.

Covered: every weight, its place, the order of q and k. Not covered: llama.cpp's own reading of the tokenizer, and its
arithmetic.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGUFReader

from gpu_worker.gguf_conversion import dequantized, hugging_face_name
from gpu_worker.gguf_head import ROPE_FACTORS
from gpu_worker.gguf_tensors import BLOCK, F32, Q8_0
from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gpu_worker.gguf_tensors import Source

HALF_STEP = (0.5 + 127 * 2.0**-11) * (1 + 2.0**-10)  # of a block's scale: rounding, and that of the scale itself
LEAST_SCALE_ERROR = 127 * 2.0**-25  # of a scale below float16's normal numbers


def check_export(target: Path, sources: list[Source]) -> float:
    """Read the file back and compare every weight; the largest error, in units of what its type allows.

    Raises:
        Permanent: a weight is off by more, missing, or one too many
    """
    reader = GGUFReader(target)
    values = {key: field.contents() for key, field in reader.fields.items()}
    found = {tensor.name: tensor for tensor in reader.tensors if tensor.name != ROPE_FACTORS}
    if sorted(found) != sorted(source.name for source in sources):
        raise Permanent(f"{target} does not hold the tensors of the model; this is a bug", cause=Cause.BUG)
    worst = 0.0
    for source in sources:
        tensor, exact = found[source.name], source.read()
        if hugging_face_name(tensor.name) != source.tensor.name or tensor.tensor_type != source.kind:
            raise Permanent(f"{target}: {tensor.name} is not what was written; this is a bug", cause=Cause.BUG)
        error = _error(dequantized(tensor, values), exact, source)
        if not error <= 1:
            raise Permanent(
                f"{target}: {source.name} is {error:g} times as far from {source.tensor.name} as {source.kind.name} "
                "allows; the disk has changed it, or this is a bug: export again",
                cause=Cause.BUG,
            )
        worst = max(worst, error)
    return round(worst, 4)


def _error(read: NDArray[np.float32], exact: NDArray[np.float32], source: Source) -> float:
    """f32 and f16: 0 where it is the nearest number, else infinite. q8_0: in units of half a step of its block."""
    if source.kind != Q8_0:
        nearest = exact if source.kind == F32 else exact.astype(np.float16).astype(np.float32)
        return 0.0 if np.array_equal(read, nearest) else math.inf
    blocks = exact.reshape(-1, BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    allowed = scale * HALF_STEP + LEAST_SCALE_ERROR
    return float((np.abs(read.reshape(-1, BLOCK) - blocks) / allowed).max())
