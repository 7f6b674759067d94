"""A card that failed under a run, told from a bug: another card, or the same one later, may do.

By the words of CUDA's runtime (`cudaGetErrorString`), cuBLAS and cuDNN, as PyTorch passes them on; none was ever
met, for no card was at hand. Not covered: "device-side assert triggered", which is what the run itself did wrong.
"""

from __future__ import annotations

from queue_app.errors import Transient
from queue_app.lifecycle import Cause

WORDS = (
    "unspecified launch failure",
    "uncorrectable ecc error",
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "hardware stack error",
    "the launch timed out and was terminated",
    "cuda-capable device(s) is/are busy or unavailable",
    "no cuda-capable device is detected",
    "no cuda gpus are available",
    "cuda error: unknown error",
    "cuda error: initialization error",
    "cuda error: system not yet initialized",
    "cublas_status_execution_failed",
    "cudnn_status_execution_failed",
    "gpu is lost",
)
BY_ITSELF = "device-side assert triggered"  # every later call fails with it too, whatever its own words


def says_card_failed(text: str) -> bool:
    """Whether an error's words, or the last ones of a process, mean that a card failed."""
    plain = text.lower()
    return BY_ITSELF not in plain and any(words in plain for words in WORDS)


def card_failed(error: BaseException) -> Transient | None:
    """What to tell the user if `error` means that the card failed; None: it means something else."""
    if not isinstance(error, RuntimeError) or not says_card_failed(str(error)):
        return None
    return lost(str(error).splitlines()[0])


def lost(said: str) -> Transient:
    """The end of an attempt whose card failed."""
    return Transient(
        f"the card failed ({said}); the job goes on from its last checkpoint, on whichever card is free; `nvidia-smi` "
        "and the kernel's log (Xid) may say why",
        cause=Cause.LOST,
    )
