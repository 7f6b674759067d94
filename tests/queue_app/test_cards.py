"""Cards and slices, shared out to workers; workers that sign on, and hosts that join."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from queue_app.cards import Card, Load, find_cards, look, own_card, share_out
from queue_app.cli import context
from queue_app.cli.application import run
from queue_app.doctor import examine
from queue_app.errors import Invalid
from queue_app.presence import present
from queue_app.store import NewJob
from queue_app.store.rows import Worker
from settings import WorkerSettings, get_settings
from tests.conftest import eventually
from tests.driver_stand_in import MISMATCH, StandInCard, StandInDriver, install

if TYPE_CHECKING:
    from queue_app.store import Store

CARD = "GPU-5f1c2d3e-0000-4000-8000-000000000001"
SLICES = ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"]


CUT = StandInCard(
    "GPU-5f1c2d3e-0000-4000-8000-000000000002",
    "NVIDIA A100-SXM4-40GB",
    slices=[StandInCard(uuid, "NVIDIA A100-SXM4-40GB MIG 3g.20gb", 20096, 96) for uuid in SLICES],
)


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> StandInDriver:
    """A host with a card, and one that is cut into two slices; its driver is a stand-in."""
    driver = StandInDriver([StandInCard(CARD, "NVIDIA GeForce RTX 5090", used_mib=20480, percent=97), CUT])
    install(monkeypatch, driver)
    return driver


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that the commands see."""
    get_settings.cache_clear()
    context.store.cache_clear()
    return context.store()


@pytest.mark.usefixtures("two_cards")
def test_a_card_that_is_cut_into_slices_is_its_slices():
    found = find_cards()
    assert [card.uuid for card in found] == [CARD, *SLICES]
    assert (found[0].name, found[0].number) == ("NVIDIA GeForce RTX 5090", "0")
    assert (found[1].name, found[1].number) == ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "1")


@pytest.mark.usefixtures("two_cards")
def test_a_slice_tells_its_memory_and_not_how_busy_it_is():
    card, piece, _ = find_cards()
    assert look(card) == Load(20480, 32607, 97)
    assert look(piece) == Load(96, 20096, None)
    assert look(Card("GPU-that-was-taken-out", "a card", "2")) == Load()


def test_a_card_that_is_lost_is_named_and_the_others_are_handed_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    install(monkeypatch, StandInDriver([StandInCard("GPU-1", "a card", is_lost=True), StandInCard("GPU-2", "another")]))
    assert share_out(WorkerSettings(), None) == ["GPU-2"]
    assert "card 0 of this host is left out: nvmlDeviceGetHandleByIndex_v2 answered 15" in caplog.text
    with pytest.raises(Invalid, match=r"has no card 0 that answers \(card 0 .*; 1 is another \(GPU-2\)\)"):
        own_card({})


def test_a_driver_that_does_not_work_is_told_and_no_worker_falls_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch):
    driver = StandInDriver([], init_status=MISMATCH)
    install(monkeypatch, driver)
    with pytest.raises(Invalid, match="the NVIDIA driver: nvmlInit_v2 answered 18"):
        share_out(WorkerSettings(), None)
    with pytest.raises(Invalid, match="the NVIDIA driver"):
        own_card({})
    assert look(Card(CARD, "a card", "0")) == Load()


def test_the_doctor_names_the_cards_and_those_that_do_not_answer(monkeypatch: pytest.MonkeyPatch):
    def told() -> list[tuple[str, str]]:
        return [(found.grade, found.finding) for found in examine(get_settings()) if found.check == "gpu"]

    cards = [StandInCard(CARD, "RTX 5090", 32768, 20480), CUT, StandInCard("GPU-9", "a card", is_lost=True)]
    install(monkeypatch, StandInDriver(cards))
    [lost, card, *slices] = told()
    assert lost[0] == "blocking"
    assert lost[1].startswith("card 2 of this host is left out")
    assert card == ("ok", "RTX 5090, driver 575.51.03, 12.0 of 32.0 GiB free")
    assert len(slices) == 2
    install(monkeypatch, StandInDriver([], init_status=MISMATCH))
    assert [grade for grade, _ in told()] == ["blocking"]
    install(monkeypatch, None)
    assert told() == [("note", "no NVIDIA driver here: training runs on the CPU, for small models")]


@pytest.mark.usefixtures("two_cards")
def test_each_worker_gets_a_card_of_its_own():
    assert share_out(WorkerSettings(), None) == [CARD, *SLICES]
    assert share_out(WorkerSettings(gpu=2), None) == [CARD, SLICES[0]]
    assert share_out(WorkerSettings(gpu=0), None) == []
    assert share_out(WorkerSettings(cards=(SLICES[1],)), None) == [SLICES[1]]
    assert share_out(WorkerSettings(), "1, 0") == ["1", "0"]
    assert share_out(WorkerSettings(), "1,-1,0") == ["1"]  # CUDA reads no further either
    with pytest.raises(Invalid, match="asks for 4 gpu workers, and there are 3 cards"):
        share_out(WorkerSettings(gpu=4), None)


def test_a_host_without_cards_trains_on_its_cpu(monkeypatch: pytest.MonkeyPatch):
    install(monkeypatch, None)
    assert share_out(WorkerSettings(), None) == [None]
    assert share_out(WorkerSettings(gpu=2), None) == [None, None]
    assert share_out(WorkerSettings(), "-1") == [None]
    assert own_card({}) is None


@pytest.mark.usefixtures("two_cards")
def test_a_worker_knows_the_card_it_was_given():
    assert own_card({}) == Card(CARD, "NVIDIA GeForce RTX 5090", number="0")
    assert own_card({"CUDA_VISIBLE_DEVICES": "0"}) == own_card({"CUDA_VISIBLE_DEVICES": CARD}) == own_card({})
    assert own_card({"CUDA_VISIBLE_DEVICES": CARD[:12] + ",1"}) != own_card({"CUDA_VISIBLE_DEVICES": SLICES[1]})
    by_slice, by_number = (own_card({"CUDA_VISIBLE_DEVICES": name}) for name in (SLICES[1], "1"))
    assert by_slice is not None
    assert by_number is not None
    assert (by_slice.uuid, by_number.uuid) == (SLICES[1], SLICES[0])
    assert own_card({"CUDA_VISIBLE_DEVICES": ""}) is None
    assert own_card({"CUDA_VISIBLE_DEVICES": "-1,0"}) is None
    with pytest.raises(Invalid, match="this host has no card 7 that answers"):
        own_card({"CUDA_VISIBLE_DEVICES": "7"})


@pytest.mark.parametrize("driver", [None, StandInDriver([])], ids=["no driver", "a driver without cards"])
def test_a_card_that_was_named_by_its_uuid_and_is_gone_with_all_others_is_no_reason_to_take_the_cpu(
    monkeypatch: pytest.MonkeyPatch, driver: StandInDriver | None
):
    install(monkeypatch, driver)
    for name in (CARD, SLICES[0]):
        with pytest.raises(Invalid, match=f"has no card {name} that answers .no driver, or one that knows no card"):
            own_card({"CUDA_VISIBLE_DEVICES": name})
    assert own_card({"CUDA_VISIBLE_DEVICES": "0"}) is None, "a host without cards may have that set"


def test_a_worker_signs_on_with_what_has_become_of_its_card(
    monkeypatch: pytest.MonkeyPatch, here: Store, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    def seen(*, lost: bool) -> list[Worker]:
        return [worker for worker, _ in here.read.workers() if worker.card_lost is lost]

    def put_in(*, lost: bool) -> None:
        install(monkeypatch, StandInDriver([StandInCard(CARD, "a card", percent=97, is_lost=lost)]))

    put_in(lost=True)
    with present(here, "gpu:forge:1", queue="gpu", host="forge", every_seconds=0.05):
        [worker] = eventually(lambda: seen(lost=True), what="its sign of life")
        assert (worker.card, worker.gpu_percent) == (None, None)
        put_in(lost=False)
        [worker] = eventually(lambda: seen(lost=False), what="its card")
        assert (worker.card, worker.gpu_percent) == (CARD, 97)
        put_in(lost=True)
        [worker] = eventually(lambda: seen(lost=True), what="its loss")
        assert (worker.card, worker.gpu_percent) == (CARD, None)
        assert run(["workers"]) == 0
    assert "a card, lost" in capsys.readouterr().out
    assert caplog.text.count("this worker takes no jobs while there are others whose card answers") == 2


@pytest.mark.usefixtures("two_cards")
def test_workers_show_host_card_job_and_how_busy_the_card_is(here: Store, capsys: pytest.CaptureFixture[str]):
    new = NewJob(kind="dataset.split", queue="gpu", spec={"source": "x"})
    here.submit([new], actor="user:test")
    with (
        present(here, "gpu:forge:4331", queue="gpu", host="forge", every_seconds=60),
        present(here, "cpu:forge:4332", queue="cpu", host="forge", every_seconds=60),
    ):
        here.claim(worker="gpu:forge:4331", lease_seconds=60, job_id=new.id)
        long_ago = datetime.now(UTC) - timedelta(minutes=5)
        here.workers.see(Worker(name="cpu:gone:7", queue="cpu", host="gone", seen_at=long_ago))
        eventually(lambda: len(context.read().workers()) == 3, what="the sign of life of each")
        assert run(["workers"]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert run(["workers", "--json"]) == 0
        told = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    by_host = {(line.split()[0], line.split()[1]): line for line in shown[1:]}
    busy = by_host[("forge", "4331")]
    assert all(part in busy for part in ("NVIDIA GeForce RTX 5090", "20.0/32 GiB", "97 %", new.id))
    assert by_host[("forge", "4332")].split()[2:6] == ["cpu", "–", "–", "–"]
    assert by_host[("gone", "7")].endswith("silent")
    assert (told["gpu:forge:4331"]["card"], told["gpu:forge:4331"]["jobs"]) == (CARD, [new.id])
    assert [worker.name for worker, _ in context.read().workers()] == ["cpu:gone:7"]  # the others have signed off


def test_a_worker_that_was_silent_for_an_hour_is_forgotten(here: Store):
    now = datetime.now(UTC)
    here.workers.see(Worker(name="cpu:old:1", queue="cpu", host="old", seen_at=now - timedelta(hours=2)))
    here.workers.see(Worker(name="cpu:new:1", queue="cpu", host="new", seen_at=now))
    assert [worker.name for worker, _ in here.read.workers()] == ["cpu:new:1"]


def test_another_host_cannot_join_what_only_this_one_reaches(here: Store, capsys: pytest.CaptureFixture[str]):
    assert run(["workers", "join"]) == 3
    said = capsys.readouterr().err
    assert all(f"TUNEYARD_{name}__URL=" in said for name in ("STORE", "BROKER", "ARTIFACTS"))


def test_joining_is_one_command_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TUNEYARD_STORE__URL", "postgresql+psycopg://tuneyard:quiet-word@db.lan/tuneyard")
    monkeypatch.setenv("TUNEYARD_BROKER__URL", "redis://:other-word@broker.lan:6379/0")
    monkeypatch.setenv("TUNEYARD_ARTIFACTS__URL", f"file://{tmp_path}")
    get_settings.cache_clear()
    assert run(["workers", "join"]) == 0
    out, err = capsys.readouterr()
    [command] = out.splitlines()
    assert command.startswith("TUNEYARD_STORE__URL=")
    assert command.endswith(f"TUNEYARD_ARTIFACTS__URL=file://{tmp_path} tuneyard up --only cpu --only gpu")
    assert "broker.lan:6379/0" in command
    assert not any(secret in out + err for secret in ("quiet-word", "other-word"))
    assert "put the passwords back in" in err
