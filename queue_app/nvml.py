"""NVIDIA's management library, as far as it is needed here: it comes with the driver, so nothing is installed for it.

Every call is made in a thread of its own and waited for so long and no longer: a driver that hangs in one takes that
thread, and neither a training nor a worker's sign of life. While it hangs, nothing more is asked of it.

The names and layouts are those of NVIDIA's API reference (https://docs.nvidia.com/deploy/nvml-api/). Tested against a
stand-in of the library at its binary interface; unproven on a card, for none was at hand when it was written.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import contextmanager, suppress
from functools import cache
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIBRARY = "libnvidia-ml.so.1"
SUCCESS, NOT_SUPPORTED, NOT_FOUND, TOO_SMALL, NOT_LOADED, NO_LIBRARY = 0, 3, 6, 7, 9, 12
NO_DRIVER = frozenset({NOT_LOADED, NO_LIBRARY})  # the library is there, as in many containers, and no driver below it
IN_WORDS = {
    2: "it was asked for what it does not know",
    NOT_SUPPORTED: "the card cannot tell",
    4: "no permission",
    NOT_FOUND: "there is none",
    NOT_LOADED: "the driver is not loaded",
    10: "it took too long",
    15: "the card is lost: it has fallen off the bus, or hangs",
    16: "the card must be reset",
    18: "the driver was updated while the old one runs: restart this host",
}
NAME_BYTES = 96
OPEN_SECONDS = 30.0  # without a daemon that keeps them awake, the driver wakes every card first: a second or two each
ANSWER_SECONDS = 10.0
NOT_TOLD = 2**64 - 1  # what a process takes, where the driver does not say


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class NvmlError(OSError):
    """The library refused a call; `status` is its number for why, None where it lacks the function."""

    def __init__(self, function: str, status: int | None) -> None:
        said = f"answered {status}" if status is not None else f"is not in this driver's {LIBRARY}; update the driver"
        words = "" if status not in IN_WORDS else f" ({IN_WORDS[status]})"
        super().__init__(f"{function} {said}{words}")
        self.status = status


class Unanswered(NvmlError):
    """The library has not come back from a call, or from one before it."""

    def __init__(self, function: str) -> None:
        OSError.__init__(self, f"{function} is not answered: the driver hangs; restart this host if it goes on so")
        self.status = None


class _Patience:
    """Waits for calls; `hung` is the last one that was given up."""

    hung: threading.Thread | None = None

    def wait_for(self, function: str, call: Callable[[], int], seconds: float) -> int:
        if self.hung is not None and self.hung.is_alive():
            raise Unanswered(function)
        answers: SimpleQueue[int] = SimpleQueue()
        thread = threading.Thread(target=lambda: answers.put(call()), name=function, daemon=True)
        thread.start()
        try:
            return answers.get(timeout=seconds)
        except Empty:
            self.hung = thread
            raise Unanswered(function) from None


@cache
def _patience() -> _Patience:
    """One for all: who opens the library anew meets the same driver."""
    return _Patience()


class Nvml:
    """An open library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def driver_version(self) -> str:
        text = ctypes.create_string_buffer(NAME_BYTES)
        self._call("nvmlSystemGetDriverVersion", text, ctypes.c_uint(NAME_BYTES))
        return text.value.decode()

    def cuda_version(self) -> tuple[int, int]:
        """The newest CUDA that the driver can run: (major, minor)."""
        number = ctypes.c_int()
        self._call("nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(number))
        return number.value // 1000, number.value % 1000 // 10

    def count(self) -> int:
        number = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(number))
        return number.value

    def by_index(self, index: int) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        return handle

    def by_uuid(self, uuid: str) -> ctypes.c_void_p:
        """A card, or a MIG slice, by the whole of its name (`GPU-…`, `MIG-…`)."""
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByUUID", ctypes.c_char_p(uuid.encode()), ctypes.byref(handle))
        return handle

    def parent(self, piece: ctypes.c_void_p) -> ctypes.c_void_p:
        """The card that a MIG slice is a part of."""
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", piece, ctypes.byref(handle))
        return handle

    def slices(self, card: ctypes.c_void_p) -> list[ctypes.c_void_p]:
        """The MIG slices that a card is cut into; none of one that is whole, or that cannot be cut."""
        room = ctypes.c_uint()
        status = self._status("nvmlDeviceGetMaxMigDeviceCount", card, ctypes.byref(room))
        if status not in (SUCCESS, NOT_SUPPORTED):
            raise NvmlError("nvmlDeviceGetMaxMigDeviceCount", status)
        found = []
        for place in range(room.value):
            piece = ctypes.c_void_p()
            asked = (card, ctypes.c_uint(place), ctypes.byref(piece))
            status = self._status("nvmlDeviceGetMigDeviceHandleByIndex", *asked)
            if status == SUCCESS:
                found.append(piece)
            elif status != NOT_FOUND:  # a place without a slice; the ones behind it may have one
                raise NvmlError("nvmlDeviceGetMigDeviceHandleByIndex", status)
        return found

    def name(self, card: ctypes.c_void_p) -> str:
        return self._text("nvmlDeviceGetName", card)

    def uuid(self, card: ctypes.c_void_p) -> str:
        return self._text("nvmlDeviceGetUUID", card)

    def memory(self, card: ctypes.c_void_p) -> tuple[int, int]:
        """(all of it, what is free now) in bytes."""
        found = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", card, ctypes.byref(found))
        return found.total, found.free

    def capability(self, card: ctypes.c_void_p) -> tuple[int, int]:
        """The architecture: (12, 0) is sm_120."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvmlDeviceGetCudaComputeCapability", card, ctypes.byref(major), ctypes.byref(minor))
        return major.value, minor.value

    def processes(self, card: ctypes.c_void_p) -> list[tuple[int, int | None]]:
        """Who computes on it: (pid, bytes held). Those of other containers are not seen from within one."""
        room = 32
        while True:
            count, found = ctypes.c_uint(room), (_Process * room)()
            status = self._status("nvmlDeviceGetComputeRunningProcesses_v3", card, ctypes.byref(count), found)
            if status == SUCCESS:
                return [(each.pid, None if each.used == NOT_TOLD else each.used) for each in found[: count.value]]
            if status != TOO_SMALL:
                raise NvmlError("nvmlDeviceGetComputeRunningProcesses_v3", status)
            room = max(2 * room, count.value + 8)

    def busy_percent(self, card: ctypes.c_void_p) -> int:
        """The share of the last moments in which something ran."""
        found = (ctypes.c_uint * 2)()  # of the card, of its memory
        self._call("nvmlDeviceGetUtilizationRates", card, ctypes.byref(found))
        return int(found[0])

    def celsius(self, card: ctypes.c_void_p) -> int:
        number = ctypes.c_uint()
        self._call("nvmlDeviceGetTemperature", card, ctypes.c_uint(0), ctypes.byref(number))  # 0: of the GPU's die
        return number.value

    def watts(self, card: ctypes.c_void_p) -> float:
        number = ctypes.c_uint()
        self._call("nvmlDeviceGetPowerUsage", card, ctypes.byref(number))  # in milliwatts
        return number.value / 1000

    def joules(self, card: ctypes.c_void_p) -> float:
        """The energy that it took since the driver came up."""
        number = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", card, ctypes.byref(number))  # in millijoules
        return number.value / 1000

    def _text(self, function: str, card: ctypes.c_void_p) -> str:
        text = ctypes.create_string_buffer(NAME_BYTES)
        self._call(function, card, text, ctypes.c_uint(NAME_BYTES))
        return text.value.decode()

    def _call(self, function: str, *arguments: object) -> None:
        status = self._status(function, *arguments)
        if status != SUCCESS:
            raise NvmlError(function, status)

    def _status(self, function: str, *arguments: object) -> int:
        found = getattr(self._library, function, None)
        if found is None:
            raise NvmlError(function, None)
        return _patience().wait_for(function, lambda: int(found(*arguments)), ANSWER_SECONDS)


def load_library() -> ctypes.CDLL | None:
    """The driver's library; None: it is not on this machine."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        return None


@contextmanager
def open_nvml() -> Iterator[Nvml | None]:
    """The library, opened; None: there is no driver.

    Raises:
        NvmlError: there is one, and it does not work, or hangs
    """
    library = load_library()
    if library is None:
        yield None
        return
    status = _patience().wait_for("nvmlInit_v2", library.nvmlInit_v2, OPEN_SECONDS)
    if status in NO_DRIVER:
        yield None
        return
    if status != SUCCESS:
        raise NvmlError("nvmlInit_v2", status)
    try:
        yield Nvml(library)
    finally:
        with suppress(Unanswered):
            _patience().wait_for("nvmlShutdown", library.nvmlShutdown, ANSWER_SECONDS)
