"""The driver's library asked by ctypes: against a stand-in of its binary interface, for no card was at hand."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from gpu_worker.card_sensors import CardSensors
from queue_app import nvml
from queue_app.cards import own_card
from queue_app.nvml import NvmlError, open_nvml
from queue_app.presence import present
from tests.conftest import eventually
from tests.driver_stand_in import MIB, MISMATCH, NOBODY_TELLS, NOT_LOADED, StandInCard, StandInDriver, install

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ctypes import c_void_p

    from queue_app.nvml import Nvml
    from queue_app.store import Store

FIVE_THOUSAND = StandInCard(
    "GPU-1",
    "NVIDIA GeForce RTX 5090",
    used_mib=20480,
    percent=97,
    milliwatts=412_345,
    millijoules=2**40,
    processes=[(4711, 20 * 2**30), (2**31 + 5, NOBODY_TELLS)],
)


def opened(card: StandInCard, **driver: object) -> tuple[Nvml, c_void_p]:
    found = nvml.Nvml(StandInDriver([card], **driver))  # type: ignore[arg-type]
    return found, found.by_index(0)


def test_what_the_library_fills_in_is_read_in_its_layout_and_its_units():
    found, card = opened(FIVE_THOUSAND)
    assert (found.count(), found.uuid(card), found.name(card)) == (1, "GPU-1", "NVIDIA GeForce RTX 5090")
    assert (found.driver_version(), found.cuda_version(), found.capability(card)) == ("575.51.03", (12, 8), (12, 0))
    assert found.memory(card) == (32607 * MIB, (32607 - 20480) * MIB)
    assert (found.busy_percent(card), found.celsius(card)) == (97, 61)
    assert found.watts(card) == 412.345
    assert found.joules(card) == 2**40 / 1000  # more than 32 bits hold
    assert found.by_uuid("GPU-1").value == card.value


def test_a_process_of_which_the_driver_does_not_say_what_it_takes_is_listed_all_the_same():
    found, card = opened(FIVE_THOUSAND)
    assert found.processes(card) == [(4711, 20 * 2**30), (2**31 + 5, None)]


@pytest.mark.parametrize("number", [0, 32, 33, 200])
def test_all_processes_are_listed_however_many_there_are(number: int):
    held = [(pid, pid * MIB) for pid in range(1, number + 1)]
    found, card = opened(StandInCard("GPU-1", "a card", processes=held))
    assert found.processes(card) == held


def test_the_slices_of_a_card_are_found_behind_a_free_place():
    pieces = [StandInCard(f"MIG-{place}", "A100 MIG 3g.20gb", total_mib=20096) for place in (1, 2)]
    found, card = opened(StandInCard("GPU-1", "A100", slices=[pieces[0], None, pieces[1]]))
    slices = found.slices(card)
    assert [found.uuid(each) for each in slices] == ["MIG-1", "MIG-2"]
    assert [found.memory(each)[0] for each in slices] == [20096 * MIB] * 2
    assert {found.parent(each).value for each in slices} == {card.value}
    assert opened(FIVE_THOUSAND)[0].slices(card) == []


def test_what_a_card_cannot_tell_is_an_error_that_says_so():
    found, card = opened(StandInCard("GPU-1", "a card"))
    with pytest.raises(NvmlError, match=r"nvmlDeviceGetUtilizationRates answered 3 \(the card cannot tell\)") as told:
        found.busy_percent(card)
    assert told.value.status == nvml.NOT_SUPPORTED
    with pytest.raises(NvmlError, match="nvmlDeviceGetHandleByIndex_v2 answered 2"):
        found.by_index(1)
    lost = nvml.Nvml(StandInDriver([StandInCard("GPU-1", "a card", is_lost=True)]))  # type: ignore[arg-type]
    with pytest.raises(NvmlError, match="fallen off the bus"):
        lost.by_index(0)


def test_an_older_driver_without_a_function_says_which():
    found, card = opened(FIVE_THOUSAND, lacks=["nvmlDeviceGetComputeRunningProcesses_v3"])
    with pytest.raises(NvmlError, match="nvmlDeviceGetComputeRunningProcesses_v3 is not in this driver's .*update the"):
        found.processes(card)


def test_the_library_is_closed_as_often_as_it_was_opened(monkeypatch: pytest.MonkeyPatch):
    driver = StandInDriver([FIVE_THOUSAND])
    install(monkeypatch, driver)
    with open_nvml() as outer, open_nvml() as inner:
        assert outer is not None
        assert inner is not None
        assert driver.opened == 2
    with pytest.raises(ZeroDivisionError), open_nvml():
        raise ZeroDivisionError
    assert driver.opened == 0


def test_without_a_driver_there_is_nothing_to_open(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nvml, "LIBRARY", "libnvidia-ml-that-nobody-has.so.1")
    with open_nvml() as found:
        assert found is None
    driver = StandInDriver([], init_status=NOT_LOADED)
    install(monkeypatch, driver)
    with open_nvml() as found:
        assert found is None
    assert driver.opened == 0  # what was not opened is not closed


def test_a_driver_that_does_not_work_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch):
    install(monkeypatch, StandInDriver([FIVE_THOUSAND], init_status=MISMATCH))
    with pytest.raises(NvmlError, match="nvmlInit_v2 answered 18 .*restart this host"), open_nvml():
        pass


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInDriver]:
    """A driver that will not come back from being asked how much memory a card has."""
    monkeypatch.setattr(nvml, "ANSWER_SECONDS", 0.2)
    driver = StandInDriver([FIVE_THOUSAND], hangs_in="nvmlDeviceGetMemoryInfo")
    install(monkeypatch, driver)
    yield driver
    driver.recovered.set()
    nvml._patience.cache_clear()  # the thread that hung may be a moment late


def test_a_driver_that_hangs_is_given_up_at_once_until_it_answers_again(hanging: StandInDriver):
    with open_nvml() as found:
        assert found is not None
        card = found.by_index(0)
        with pytest.raises(NvmlError, match="nvmlDeviceGetMemoryInfo is not answered: the driver hangs"):
            found.memory(card)
        threads = threading.active_count()
        for _ in range(20):
            with pytest.raises(NvmlError, match="nvmlDeviceGetTemperature is not answered"):
                found.celsius(card)
        assert threading.active_count() == threads, "no call is stacked upon the one that hangs"
        hanging.recovered.set()
        assert eventually(lambda: answers(found, card), what="an answer") == 61
    assert hanging.opened == 0


def answers(found: Nvml, card: c_void_p) -> int | None:
    try:
        return found.celsius(card)
    except NvmlError:
        return None


def test_a_driver_that_hangs_as_it_is_opened_is_an_error_and_not_taken_for_none(
    hanging: StandInDriver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(nvml, "OPEN_SECONDS", 0.2)
    hanging.hangs_in = "nvmlInit_v2"
    with pytest.raises(NvmlError, match="nvmlInit_v2 is not answered"), open_nvml():
        pass


def test_a_worker_whose_driver_hangs_says_that_it_lives_all_the_same(hanging: StandInDriver, store: Store):
    assert own_card({}) is not None
    with present(store, "gpu:forge:1", queue="gpu", host="forge", every_seconds=0.05):
        [(first, _)] = store.read.workers()
        later = eventually(lambda: [w for w, _ in store.read.workers() if w.seen_at > first.seen_at], what="a new sign")
    assert (later[0].card, later[0].vram_mib) == ("GPU-1", None)


def test_a_training_whose_driver_hangs_goes_on_without_readings(
    hanging: StandInDriver, caplog: pytest.LogCaptureFixture
):
    sensors = CardSensors(uses_card=True)
    began = time.monotonic()
    assert [sensors.read() for _ in range(50)] == [{}] * 50
    assert time.monotonic() - began < 2
    assert caplog.text.count("the card tells nothing of itself any more") == 1
    hanging.recovered.set()
    assert eventually(sensors.read, what="a reading")["gpu_celsius"] == 61
