"""Memory that ran out, told from a bug: every library has words of its own for it.

Covered, by their own words: PyTorch on CUDA (`OutOfMemoryError`, `AcceleratorError`, cuBLAS, cuDNN) and on a CPU,
NumPy and Python (`MemoryError`), the operating system (ENOMEM, no room for a thread), C++ that ended the process. Real
are those of the CPU; the CUDA ones were never met, for no card was at hand.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = (
    "out of memory",  # torch.OutOfMemoryError, AcceleratorError "CUDA error: out of memory", std::bad_alloc of CUDA
    "can't allocate memory",  # DefaultCPUAllocator
    "cannot allocate memory",  # the system's own words, as safetensors and others pass them on
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",  # its handle found no room: the first thing a full card refuses
    "cudnn_status_alloc_failed",
    "can't start new thread",
    "std::bad_alloc",
    "thread creation failed: resource temporarily unavailable",  # libgomp, which then ends the process
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it comes from, means that memory ran out."""
    return any(_means_it(each) for each in _chain(error))


def says_out_of_memory(text: str) -> bool:
    """Whether the last words of a process mean it."""
    return any(words in text.lower() for words in WORDS)


def _means_it(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return says_out_of_memory(str(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__
