"""What a card says of itself while it trains."""

from __future__ import annotations

import logging
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from queue_app.cards import load_of, own_card
from queue_app.errors import Invalid
from queue_app.nvml import NvmlError, open_nvml

if TYPE_CHECKING:
    from ctypes import c_void_p

    from queue_app.nvml import Nvml


log = logging.getLogger(__name__)


class CardSensors:
    """Readings of the card of this process; none where it uses none, or there is no driver that answers."""

    is_mute = False  # it was said that the card tells nothing

    def __init__(self, *, uses_card: bool) -> None:
        self._open = ExitStack()  # until the process ends
        self._nvml: Nvml | None = None
        self._card: c_void_p | None = None
        self._joules = 0.0  # when the training began
        if uses_card:
            try:
                self._begin()
            except (NvmlError, Invalid) as error:
                log.warning("the card is not watched: %s", error)

    def _begin(self) -> None:
        self._nvml, own = self._open.enter_context(open_nvml()), own_card()
        if self._nvml is not None and own is not None:
            self._card = self._nvml.by_uuid(own.uuid)
            with suppress(NvmlError):  # some cards count no energy
                self._joules = self._nvml.joules(self._card)

    def read(self) -> dict[str, float]:
        """What can be read now; what a card does not tell is left out."""
        nvml, card = self._nvml, self._card
        if nvml is None or card is None:
            return {}
        load = load_of(nvml, card)
        told = {"gpu_percent": load.gpu_percent, "vram_mib": load.vram_used_mib}
        found = {name: float(value) for name, value in told.items() if value is not None}
        with suppress(NvmlError):
            found["gpu_celsius"] = float(nvml.celsius(card))
        with suppress(NvmlError):
            found["gpu_watts"] = nvml.watts(card)
        with suppress(NvmlError):
            found["gpu_joules"] = round(nvml.joules(card) - self._joules, 1)  # of this attempt
        if not found and not self.is_mute:
            log.warning("the card tells nothing of itself any more; `nvidia-smi` may say why")
        self.is_mute = not found
        return found
