"""Predictions, limits, cards and what counts as memory that ran out."""

from __future__ import annotations

import errno
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker import memory
from gpu_worker.backends import trl_model
from gpu_worker.backends.hardware import Hardware, find_hardware
from gpu_worker.card_sensors import CardSensors
from gpu_worker.fitting import estimated
from gpu_worker.fitting.cards import KNOWN_CARDS, Card, cards_here, held_cards, known_room, own_card
from gpu_worker.fitting.known_models import known_shape
from gpu_worker.fitting.largest import find_largest
from gpu_worker.fitting.machine import Machine, has_fast_bf16
from gpu_worker.fitting.prediction import GIB, Verdict, predict, verdict
from gpu_worker.fitting.shape import read_shape
from gpu_worker.fitting.torch_build import TorchBuild, ask_torch, problem_with
from gpu_worker.out_of_memory import ran_out_of_memory, says_out_of_memory
from gpu_worker.training_config import TrainingConfig
from queue_app.errors import Invalid, Transient
from tests.driver_stand_in import MIB, NOBODY_TELLS, StandInCard, StandInDriver, install
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

LLAMA = "meta-llama/Llama-3.1-8B"
CARD = Machine("cuda")
FIVE_THOUSAND = Card("0", "RTX 5090", "GPU-1", 32 * GIB, 31 * GIB, (12, 0), (12, 8), "575.51", ())


def llama(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{"lora_r": 64, "sequence_len": 4096, "gradient_accumulation_steps": 8} | changes)


def test_the_run_this_was_built_for_fits_its_card() -> None:
    predicted = predict(known_shape(LLAMA), llama(), CARD)
    assert 13 * GIB < predicted.device_bytes < 15 * GIB
    assert predicted.verdict(known_room("RTX 5090")) == Verdict.FITS
    stored = predict(known_shape(LLAMA), llama(gradient_checkpointing=False), CARD)
    assert stored.verdict(known_room("RTX 5090")) == Verdict.TOO_LARGE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(
    "changes", [{"lora_r": 64}, {"target_modules": ("q_proj", "v_proj")}, {"lora_dropout": 0.1}], ids=str
)
def test_a_layers_activations_are_what_autograd_saves(
    tmp_path: Path, dtype: torch.dtype, changes: dict[str, Any]
) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    config = TrainingConfig(method="lora", **changes)
    model = trl_model.load(folder, config, Hardware("cpu", "any", dtype))[0].train()
    model.enable_input_require_grads()
    standing = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    saved: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in standing:
            saved[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.base_model.model.model(input_ids=torch.ones((2, 256), dtype=torch.long))
    shape = read_shape(folder)
    per_layer = estimated.layer_bytes(shape, config, Machine("cpu", number_bytes=2 if dtype == torch.bfloat16 else 4))
    real = sum(each.untyped_storage().nbytes() for each in saved.values())
    assert 512 * per_layer * shape.layers == pytest.approx(real, rel=0.07)  # the last norm stands outside the layers


@settings(max_examples=30)
@given(st.integers(1, 64), st.integers(8, 16_384), st.integers(1, 256), st.sampled_from(["lora", "qlora"]))
def test_more_of_anything_never_takes_less(micro: int, length: int, rank: int, method: Any) -> None:
    config = TrainingConfig(method=method, micro_batch_size=micro, sequence_len=length, lora_r=rank)
    for machine in (CARD, Machine("cuda", "unsloth"), Machine("cpu", number_bytes=4)):
        needed = predict(known_shape(LLAMA), config, machine).device_bytes
        for more in ({"micro_batch_size": micro + 1}, {"sequence_len": length + 1}, {"lora_r": rank + 1}):
            grown = predict(known_shape(LLAMA), config.model_copy(update=more), machine).device_bytes
            assert grown >= needed


@pytest.mark.parametrize(("needed", "found"), [(86, "fits"), (87, "at risk"), (117, "at risk"), (118, "does not fit")])
def test_a_verdict_reckons_with_the_predictions_error(needed: int, found: str) -> None:
    assert verdict(needed, 100) == found


@pytest.mark.parametrize("name", ["sequence_len", "micro_batch_size", "lora_r"])
def test_the_largest_setting_fits_and_the_next_one_does_not(name: str) -> None:
    shape, room = known_shape(LLAMA), known_room("RTX 4090")
    largest = getattr(find_largest(shape, llama(), CARD, room), name)
    step = 64 if name == "sequence_len" else 1

    def at(value: int) -> Verdict:
        return predict(shape, llama(**{name: value}), CARD).verdict(room)

    assert at(largest) == Verdict.FITS
    assert at(largest + step) != Verdict.FITS
    assert getattr(find_largest(shape, llama(), CARD, GIB), name) is None


def test_known_cards_are_found_by_their_names_and_others_are_not_guessed() -> None:
    assert known_room("NVIDIA GeForce RTX 5090") == known_room("rtx5090") == 32 * GIB
    with pytest.raises(Invalid, match='no card is known as "RTX 5091"; did you mean "RTX 5090".*--vram GIB'):
        known_room("RTX 5091")
    assert all(8 <= gib <= 200 for gib in KNOWN_CARDS.values())


def test_a_host_without_a_driver_has_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    assert cards_here() == []
    assert own_card() is None
    assert CardSensors(uses_card=True).read() == {}


def test_a_worker_sees_the_memory_and_the_holders_of_its_slice_and_the_architecture_of_its_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    piece = StandInCard("MIG-1", "A100 MIG 3g.20gb", 20096, 1024, processes=[(2**22 + 7, NOBODY_TELLS)])
    install(monkeypatch, StandInDriver([StandInCard("GPU-1", "A100", slices=[piece])]))
    assert own_card() == cards_here()[0]
    own = own_card()
    assert own is not None
    assert (own.uuid, own.total_bytes, own.free_bytes) == ("MIG-1", 20096 * MIB, 19072 * MIB)
    assert (own.arch, own.cuda, own.driver) == ("sm_120", (12, 8), "575.51.03")
    assert [str(holder) for holder in own.holders] == [f"a process not seen from here (pid {2**22 + 7})"]


def test_a_run_that_is_to_be_on_a_card_is_none_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_hardware().device == "cpu"
    with pytest.raises(Transient, match="the card failed .CUDA finds none, although the driver shows one"):
        find_hardware(on_card=True)


def test_a_card_tells_what_it_reads_and_its_energy_from_the_beginning_of_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = StandInCard("GPU-1", "a card", used_mib=2048, percent=88, milliwatts=300_500, millijoules=10**12)
    driver = StandInDriver([StandInCard("GPU-0", "another"), card])
    install(monkeypatch, driver)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    sensors = CardSensors(uses_card=True)
    card.millijoules = 10**12 + 61_500
    told = {"gpu_percent": 88.0, "vram_mib": 2048.0, "gpu_celsius": 61.0, "gpu_watts": 300.5, "gpu_joules": 61.5}
    assert sensors.read() == told
    card.percent = card.milliwatts = card.millijoules = None
    assert sensors.read() == {"vram_mib": 2048.0, "gpu_celsius": 61.0}
    assert CardSensors(uses_card=False).read() == {}


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (TorchBuild("2.13", "12.8", ("sm_90", "sm_120")), None),
        (TorchBuild("2.13", "12.8", ("sm_90", "compute_90")), None),  # compiled when it starts
        (TorchBuild("2.13", "12.4", ("sm_80", "sm_90")), "built for sm_80, sm_90, and the RTX 5090 is sm_120; install"),
        (TorchBuild("2.13", "12.8", ("sm_90a", "compute_90a")), "is sm_120"),
        (TorchBuild("2.13", "13.0", ("sm_120",)), "needs CUDA 13.0, the driver 575.51 runs CUDA 12.8; update"),
        (TorchBuild("2.13+cpu", None, ()), "is a build for CPUs, and would leave the RTX 5090 idle"),
    ],
)
def test_a_torch_that_cannot_use_the_card_is_named_with_what_to_install(build: TorchBuild, problem: str | None) -> None:
    found = problem_with(build, FIVE_THOUSAND)
    assert (found is None) if problem is None else (found is not None and problem in found)


def test_torch_is_asked_in_a_process_of_its_own() -> None:
    asked = ask_torch()
    assert (asked.version, asked.cuda) == (torch.__version__, torch.version.cuda)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
    ],
    ids=repr,
)
def test_what_runs_out_of_memory_is_recognised_also_behind_another_error(error: Exception) -> None:
    assert ran_out_of_memory(error)
    outer = ValueError("could not be loaded")
    outer.__cause__ = error
    assert ran_out_of_memory(outer)


def test_a_real_allocation_that_is_refused_is_recognised_and_a_bug_is_not() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    assert ran_out_of_memory(refused.value)
    with pytest.raises(RuntimeError) as bug:
        torch.ones(2) @ torch.ones(3)
    assert not ran_out_of_memory(bug.value)
    assert says_out_of_memory("terminate called after throwing an instance of 'std::bad_alloc'")
    assert not says_out_of_memory("Segmentation fault")


def test_the_tightest_control_group_on_the_way_up_counts(tmp_path: Path) -> None:
    for path, limit, used, cached in (("", "max", 9, 0), ("a", 1000, 700, 100), ("a/b", 5000, 300, 0)):
        group = tmp_path / path
        group.mkdir(exist_ok=True)
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\n")
    names = ("memory.max", "memory.current")
    assert memory._up(tmp_path, "/a/b", names, "inactive_file") == [(5000, 300), (1000, 600)]
    assert memory._up(tmp_path, "/not/seen/from/here", names, "inactive_file") == []


def test_this_machine_tells_its_memory() -> None:
    limit, free = memory.memory_limit_bytes(), memory.memory_free_bytes()
    assert limit is not None
    assert free is not None
    assert 0 < free <= limit
    assert has_fast_bf16() in (True, False)


def test_longer_rows_and_larger_batches_go_together_in_what_is_kept() -> None:
    shape = known_shape(LLAMA)
    sizes = [predict(shape, llama(), CARD, length).device_bytes for length in (64, 512, 4096, 9999)]
    assert all(before < after for before, after in pairwise(sizes[:3]))
    assert sizes[2] == sizes[3], "no example is longer than sequence_len"


def test_the_cards_that_an_attempt_holds_are_looked_at_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, StandInDriver([StandInCard("GPU-1", "A100"), StandInCard("GPU-2", "A100")]))
    assert [card.uuid for card in held_cards(("GPU-2", "GPU-1"))] == ["GPU-2", "GPU-1"]
    with pytest.raises(Invalid, match="this host has no card GPU-3 that answers"):
        held_cards(("GPU-1", "GPU-3"))
