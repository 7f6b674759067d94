"""The ladder: what is made smaller when memory runs out, in which order, and what is never touched."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.fitting.ladder import Footing, next_rung
from gpu_worker.training_config import TrainingConfig

if TYPE_CHECKING:
    from gpu_worker.fitting.ladder import Rung, Shrinkable

BOTH: frozenset[Shrinkable] = frozenset({"sequence_len", "lora_r"})
configs = st.builds(
    TrainingConfig,
    method=st.sampled_from(["lora", "qlora"]),
    packing=st.sampled_from(["none", "wrapped"]),
    lora_r=st.integers(1, 256),
    lora_alpha=st.floats(0.5, 512),
    sequence_len=st.integers(8, 65_536),
    micro_batch_size=st.integers(1, 128),
    gradient_accumulation_steps=st.integers(1, 64),
    gradient_checkpointing=st.sampled_from([None, True, False]),
    optimizer=st.sampled_from(["adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit"]),
)
footings = st.builds(
    Footing,
    on_cpu=st.booleans(),
    has_checkpoint=st.booleans(),
    may_shrink=st.sampled_from([frozenset(), frozenset({"sequence_len"}), frozenset({"lora_r"}), BOTH]),
)


def descend(config: TrainingConfig, footing: Footing) -> tuple[list[Rung], TrainingConfig]:
    """All rungs, one after the other, and where they end."""
    taken = []
    while (rung := next_rung(config, footing)) is not None:
        taken.append(rung)
        config = config.model_copy(update=rung.after)
        assert len(taken) < 100, "it has an end"
    return taken, config


@given(configs, footings)
def test_every_rung_tells_what_was_and_keeps_the_effective_batch_and_the_adapters_scale(
    config: TrainingConfig, footing: Footing
) -> None:
    while (rung := next_rung(config, footing)) is not None:
        lower = config.model_copy(update=rung.after)
        assert rung.before == {name: getattr(config, name) for name in rung.after}
        assert rung.before != rung.after
        TrainingConfig.model_validate(lower.model_dump())  # it is one that a user could have asked for
        for each in (config, lower):
            each_batch = each.micro_batch_size * each.gradient_accumulation_steps
            assert each_batch == config.micro_batch_size * config.gradient_accumulation_steps
        assert lower.lora_alpha / lower.lora_r == pytest.approx(config.lora_alpha / config.lora_r)
        config = lower


@given(configs, footings)
def test_nothing_grows_and_nothing_is_touched_without_leave(config: TrainingConfig, footing: Footing) -> None:
    taken, last = descend(config, footing)
    assert last.micro_batch_size == 1
    assert last.sequence_len == config.sequence_len or "sequence_len" in footing.may_shrink
    assert last.lora_r == config.lora_r or "lora_r" in footing.may_shrink
    assert last.sequence_len <= config.sequence_len
    assert last.lora_r <= config.lora_r
    for rung in taken:
        touched = set(rung.after) - {"micro_batch_size", "gradient_accumulation_steps", "gradient_checkpointing"}
        assert touched <= {"optimizer", "sequence_len", "lora_r", "lora_alpha"}
        assert not (footing.has_checkpoint and "optimizer" in touched), "its state could not be read"


@given(configs, footings)
def test_the_cheapest_rungs_come_first(config: TrainingConfig, footing: Footing) -> None:
    order = ["micro_batch_size", "gradient_checkpointing", "optimizer", "sequence_len", "lora_r"]
    places = [order.index(next(iter(rung.after))) for rung in descend(config, footing)[0]]
    assert all(before <= after for before, after in pairwise(places))


@pytest.mark.parametrize(
    ("batch", "after"),
    [((32, 1), (16, 2)), ((2, 8), (1, 16)), ((3, 4), (1, 12)), ((5, 4), (2, 10)), ((7, 3), (3, 7)), ((7, 1), (1, 7))],
    ids=str,
)
def test_a_batch_is_halved_or_the_next_divisor_below_is_taken(batch: tuple[int, int], after: tuple[int, int]) -> None:
    config = TrainingConfig(micro_batch_size=batch[0], gradient_accumulation_steps=batch[1])
    rung = next_rung(config, Footing(on_cpu=False, has_checkpoint=True))
    assert rung is not None
    assert (rung.after["micro_batch_size"], rung.after["gradient_accumulation_steps"]) == after
    assert str(rung) == f"micro_batch_size {batch[0]} → {after[0]}, gradient_accumulation_steps {batch[1]} → {after[1]}"


@pytest.mark.parametrize(
    ("given_", "on_cpu", "turns_on"),
    [(None, True, True), (None, False, False), (False, False, True), (True, True, False)],
)
def test_activations_are_computed_anew_unless_they_are_already(given_: Any, on_cpu: bool, turns_on: bool) -> None:
    config = TrainingConfig(gradient_checkpointing=given_)
    rung = next_rung(config, Footing(on_cpu, has_checkpoint=False))
    assert rung is not None
    assert ("gradient_checkpointing" in rung.after) == turns_on


@pytest.mark.parametrize(
    ("optimizer", "on_cpu", "after"),
    [
        ("adamw_torch_fused", False, "paged_adamw_8bit"),
        ("adamw_torch_fused", True, "adamw_8bit"),
        ("adamw_8bit", False, "paged_adamw_8bit"),
        ("adamw_8bit", True, None),
        ("paged_adamw_8bit", False, None),
    ],
)
def test_the_optimizer_goes_to_8_bits_and_on_a_card_to_pages(optimizer: Any, on_cpu: bool, after: str | None) -> None:
    config = TrainingConfig(optimizer=optimizer, gradient_checkpointing=True)
    rung = next_rung(config, Footing(on_cpu, has_checkpoint=False))
    assert (rung.after if rung else None) == (after and {"optimizer": after})


def test_a_checkpoint_keeps_its_optimizer_and_the_next_rung_says_so() -> None:
    config = TrainingConfig(gradient_checkpointing=True, sequence_len=1000)
    assert next_rung(config, Footing(on_cpu=False, has_checkpoint=True)) is None
    rung = next_rung(config, Footing(False, True, may_shrink=BOTH))
    assert rung is not None
    assert str(rung) == "sequence_len 1000 → 448; optimizer stays adamw_torch_fused, for a checkpoint holds its state"
    assert not rung.starts_anew


def test_what_no_checkpoint_fits_begins_anew() -> None:
    footing = Footing(on_cpu=False, has_checkpoint=True, may_shrink=BOTH)
    small = TrainingConfig(gradient_checkpointing=True, sequence_len=128, lora_r=16, lora_alpha=32)
    rung = next_rung(small, footing)
    assert rung is not None
    assert (rung.after, rung.starts_anew) == ({"lora_r": 8, "lora_alpha": 16.0}, True)
    packed = next_rung(small.model_copy(update={"packing": "wrapped", "sequence_len": 512}), footing)
    assert packed is not None
    assert (packed.after, packed.starts_anew) == ({"sequence_len": 256}, True)


def test_it_ends_where_an_example_or_an_adapter_would_be_none_any_more() -> None:
    _, last = descend(TrainingConfig(sequence_len=4096, lora_r=64), Footing(False, False, may_shrink=BOTH))
    assert (last.sequence_len, last.lora_r) == (128, 4)
    _, full = descend(TrainingConfig(method="full", lora_r=64), Footing(False, False, may_shrink=BOTH))
    assert full.lora_r == 64
