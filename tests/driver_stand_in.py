"""A stand-in for NVIDIA's driver, at the binary interface of its management library (libnvidia-ml.so.1).

No card was at hand. These are C callbacks with the parameters of NVIDIA's header that fill the caller's memory byte by
byte: what is tested with them is our side's layouts, units, error numbers and loops; that a real driver answers so is
not.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from ctypes import c_char_p, c_int, c_uint, c_void_p
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from queue_app import nvml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

MIB = 2**20
SUCCESS, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND, INSUFFICIENT_SIZE, NOT_LOADED, LOST = 0, 2, 3, 6, 7, 9, 15
MISMATCH = 18
NOBODY_TELLS = 2**64 - 1

# By NVIDIA's header: what each function takes. All return an nvmlReturn_t; a handle is a pointer.
HEADER: dict[str, tuple[Any, ...]] = {
    "nvmlInit_v2": (),
    "nvmlShutdown": (),
    "nvmlSystemGetDriverVersion": (c_void_p, c_uint),
    "nvmlSystemGetCudaDriverVersion_v2": (c_void_p,),
    "nvmlDeviceGetCount_v2": (c_void_p,),
    "nvmlDeviceGetHandleByIndex_v2": (c_uint, c_void_p),
    "nvmlDeviceGetHandleByUUID": (c_char_p, c_void_p),
    "nvmlDeviceGetMaxMigDeviceCount": (c_void_p, c_void_p),
    "nvmlDeviceGetMigDeviceHandleByIndex": (c_void_p, c_uint, c_void_p),
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": (c_void_p, c_void_p),
    "nvmlDeviceGetName": (c_void_p, c_void_p, c_uint),
    "nvmlDeviceGetUUID": (c_void_p, c_void_p, c_uint),
    "nvmlDeviceGetMemoryInfo": (c_void_p, c_void_p),
    "nvmlDeviceGetCudaComputeCapability": (c_void_p, c_void_p, c_void_p),
    "nvmlDeviceGetComputeRunningProcesses_v3": (c_void_p, c_void_p, c_void_p),
    "nvmlDeviceGetUtilizationRates": (c_void_p, c_void_p),
    "nvmlDeviceGetTemperature": (c_void_p, c_uint, c_void_p),
    "nvmlDeviceGetPowerUsage": (c_void_p, c_void_p),
    "nvmlDeviceGetTotalEnergyConsumption": (c_void_p, c_void_p),
}


@dataclass
class StandInCard:
    """A card, or a slice of one, as it is to answer; None: it cannot tell."""

    uuid: str
    name: str
    total_mib: int = 32607
    used_mib: int = 0
    percent: int | None = None
    milliwatts: int | None = None
    millijoules: int | None = None
    processes: Sequence[tuple[int, int]] = ()  # pid, bytes
    slices: Sequence[StandInCard | None] = ()  # by place; None: a free one
    is_lost: bool = False


@dataclass
class StandInDriver:
    """The library: an attribute for each of its functions."""

    cards: Sequence[StandInCard]
    init_status: int = SUCCESS
    lacks: Sequence[str] = ()  # functions that came with later drivers
    hangs_in: str | None = None  # the function that does not come back until `recovered` is set
    recovered: threading.Event = field(default_factory=threading.Event, init=False)
    opened: int = field(default=0, init=False)  # inits without their shutdown
    _all: list[tuple[StandInCard, StandInCard | None]] = field(default_factory=list, init=False)  # with a slice's card

    def __post_init__(self) -> None:
        for card in self.cards:
            self._all += [(card, None), *((piece, card) for piece in card.slices if piece is not None)]
        for name in HEADER.keys() - set(self.lacks):
            prototype = ctypes.CFUNCTYPE(c_int, *HEADER[name])
            setattr(self, name, prototype(self._hanging(name, getattr(self, f"_{name.removeprefix('nvml')}"))))

    def _hanging(self, name: str, answer: Callable[..., int]) -> Callable[..., int]:
        def called(*arguments: Any) -> int:
            if name == self.hangs_in:
                self.recovered.wait()
            return answer(*arguments)

        return called

    def _handle(self, card: StandInCard) -> int:
        return next(place for place, (each, _) in enumerate(self._all, start=1) if each is card)

    def _card(self, handle: int) -> StandInCard:
        return self._all[handle - 1][0]

    def _Init_v2(self) -> int:  # noqa: N802 - the library's names
        self.opened += self.init_status == SUCCESS
        return self.init_status

    def _Shutdown(self) -> int:  # noqa: N802
        self.opened -= 1
        return SUCCESS

    def _SystemGetDriverVersion(self, text: int, room: int) -> int:  # noqa: N802
        return _write_text("575.51.03", text, room)

    def _SystemGetCudaDriverVersion_v2(self, number: int) -> int:  # noqa: N802
        return _write("<i", number, 12080)

    def _DeviceGetCount_v2(self, number: int) -> int:  # noqa: N802
        return _write("<I", number, len(self.cards))

    def _DeviceGetHandleByIndex_v2(self, index: int, handle: int) -> int:  # noqa: N802
        if index >= len(self.cards):
            return INVALID_ARGUMENT
        card = self.cards[index]
        return LOST if card.is_lost else _write("<Q", handle, self._handle(card))

    def _DeviceGetHandleByUUID(self, uuid: bytes, handle: int) -> int:  # noqa: N802
        found = [card for card, _ in self._all if card.uuid == uuid.decode()]
        return _write("<Q", handle, self._handle(found[0])) if found else NOT_FOUND

    def _DeviceGetMaxMigDeviceCount(self, handle: int, number: int) -> int:  # noqa: N802
        slices = self._card(handle).slices
        return _write("<I", number, len(slices)) if slices else NOT_SUPPORTED

    def _DeviceGetMigDeviceHandleByIndex(self, handle: int, index: int, piece: int) -> int:  # noqa: N802
        found = self._card(handle).slices[index]
        return NOT_FOUND if found is None else _write("<Q", piece, self._handle(found))

    def _DeviceGetDeviceHandleFromMigDeviceHandle(self, handle: int, whole: int) -> int:  # noqa: N802
        parent = self._all[handle - 1][1]
        return INVALID_ARGUMENT if parent is None else _write("<Q", whole, self._handle(parent))

    def _DeviceGetName(self, handle: int, text: int, room: int) -> int:  # noqa: N802
        return _write_text(self._card(handle).name, text, room)

    def _DeviceGetUUID(self, handle: int, text: int, room: int) -> int:  # noqa: N802
        return _write_text(self._card(handle).uuid, text, room)

    def _DeviceGetMemoryInfo(self, handle: int, info: int) -> int:  # noqa: N802
        card = self._card(handle)
        total, used = card.total_mib * MIB, card.used_mib * MIB
        return _write("<QQQ", info, total, total - used, used)

    def _DeviceGetCudaComputeCapability(self, handle: int, major: int, minor: int) -> int:  # noqa: N802
        if self._all[handle - 1][1] is not None:
            return NOT_SUPPORTED
        _write("<i", major, 12)
        return _write("<i", minor, 0)

    def _DeviceGetComputeRunningProcesses_v3(self, handle: int, count: int, infos: int) -> int:  # noqa: N802
        held = self._card(handle).processes
        room = c_uint.from_address(count).value
        _write("<I", count, len(held))
        if room < len(held):
            return INSUFFICIENT_SIZE
        for place, (pid, used) in enumerate(held):
            _write("<I4xQII", infos + 24 * place, pid, used, 0xFFFFFFFF, 0xFFFFFFFF)
        return SUCCESS

    def _DeviceGetUtilizationRates(self, handle: int, rates: int) -> int:  # noqa: N802
        percent = self._card(handle).percent
        return NOT_SUPPORTED if percent is None else _write("<II", rates, percent, 1)

    def _DeviceGetTemperature(self, handle: int, sensor: int, number: int) -> int:  # noqa: N802
        return _write("<I", number, 61) if handle and sensor == 0 else INVALID_ARGUMENT

    def _DeviceGetPowerUsage(self, handle: int, number: int) -> int:  # noqa: N802
        drawn = self._card(handle).milliwatts
        return NOT_SUPPORTED if drawn is None else _write("<I", number, drawn)

    def _DeviceGetTotalEnergyConsumption(self, handle: int, number: int) -> int:  # noqa: N802
        taken = self._card(handle).millijoules
        return NOT_SUPPORTED if taken is None else _write("<Q", number, taken)


def _write(layout: str, address: int, *values: int) -> int:
    content = struct.pack(layout, *values)
    ctypes.memmove(address, content, len(content))
    return SUCCESS


def _write_text(text: str, address: int, room: int) -> int:
    content = text.encode() + b"\0"
    if len(content) > room:
        return INSUFFICIENT_SIZE
    ctypes.memmove(address, content, len(content))
    return SUCCESS


def install(monkeypatch: pytest.MonkeyPatch, driver: StandInDriver | None) -> None:
    """Put a driver, or none, in the place of this machine's own; and no card is hidden or chosen."""
    load: Callable[[], StandInDriver | None] = lambda: driver  # noqa: E731
    monkeypatch.setattr(nvml, "load_library", load)
    nvml._patience.cache_clear()  # that the driver before it may have hung is nothing to this one
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
