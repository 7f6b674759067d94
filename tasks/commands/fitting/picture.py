"""A training's memory as tables: its parts, and where they fit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gpu_worker.backends import load_backend
from gpu_worker.fitting.largest import find_largest
from gpu_worker.fitting.prediction import BAND, GIB, Verdict, merged_bytes, predict
from queue_app.cli import output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_worker.fitting.largest import Largest
    from gpu_worker.fitting.machine import Machine
    from gpu_worker.fitting.prediction import Place, Prediction
    from tasks.commands.fitting.trainings import PlannedTraining

STYLES = {Verdict.FITS: "green", Verdict.AT_RISK: "yellow", Verdict.TOO_LARGE: "bold red"}


@dataclass(frozen=True)
class Device:
    """Something to fit into."""

    name: str
    room_bytes: int

    def shared_by(self, number: int) -> Device:
        """What each of so many processes has of it."""
        return self if number == 1 else Device(f"{self.name} / {number}", self.room_bytes // number)


@dataclass(frozen=True)
class Fit:
    """How a training does on a device."""

    device: Device
    verdict: Verdict
    largest: Largest


@dataclass(frozen=True)
class Plan:
    """A training, what it takes, and where that fits."""

    training: PlannedTraining
    machine: Machine
    prediction: Prediction
    fits: tuple[Fit, ...]

    @property
    def as_json(self) -> dict[str, Any]:
        training = self.training
        return {
            "step": training.step,
            "job": training.kind,
            "base_model": training.base_model,
            "shape_from": training.shape.source,
            "parameters": training.shape.parameters,
            "engine": training.engine,
            "device": self.machine.device,
            "sequence_len": self.prediction.length,
            "cards": training.config.cards,
            "effective_batch": training.config.effective_batch,
            "parts": [asdict(part) for part in self.prediction.parts],
            "device_bytes": self.prediction.device_bytes,
            "device_bytes_low": round(self.prediction.device_bytes * (1 - BAND)),
            "device_bytes_high": round(self.prediction.device_bytes * (1 + BAND)),
            "host_bytes": self.prediction.total("host"),
            "disk_bytes": self.prediction.total("disk"),
            "merged_bytes": merged_bytes(training.shape),
            "fits": [
                {
                    "device": fit.device.name,
                    "room_bytes": fit.device.room_bytes,
                    "verdict": fit.verdict.value,
                    "largest": asdict(fit.largest),
                }
                for fit in self.fits
            ],
        }


def plan_for(training: PlannedTraining, machine: Machine, devices: Sequence[Device]) -> Plan:
    """What a training takes on such a machine, and how it does in each room."""
    prediction = load_backend(training.engine).estimate(training.shape, training.config, machine)
    if machine.on_cpu:  # whose memory all ranks share; a card is each one's own
        devices = [device.shared_by(training.config.cards) for device in devices]
    fits = tuple(
        Fit(
            device,
            prediction.verdict(device.room_bytes),
            find_largest(training.shape, training.config, machine, device.room_bytes),
        )
        for device in devices
    )
    return Plan(training, machine, prediction, fits)


def show(plan: Plan) -> None:
    """A plan for people, at most 100 columns wide."""
    training, config = plan.training, plan.training.config
    rank = "" if config.method == "full" else f" r {config.lora_r}"
    batch = f"{config.micro_batch_size} × {config.gradient_accumulation_steps}"
    if config.cards > 1:
        batch += f" × {config.cards} cards = {config.effective_batch}"
    output.write(
        f"{training.step} ({training.kind}): {config.method}{rank} by {training.engine}, "
        f"{plan.prediction.length:,} tokens, batch {batch}"
    )
    output.write(f"{training.base_model}: {training.shape.parameters:,} parameters")
    output.write(f"  by {training.shape.source}")
    if plan.prediction.length < config.sequence_len:
        output.write(f"sequence_len {config.sequence_len:,} is more than the model's context: cut to that")
    output.write("")
    rows = [
        [part.name, _gib(part.size_bytes), "count" if part.is_counted else "estimate", part.how]
        for part in plan.prediction.parts
        if part.place == "device"
    ]
    needed = plan.prediction.device_bytes
    if config.cards > 1:
        output.write(f"on each of {config.cards} cards, which hold all of it alike:")
    band = f"{_gib(needed * (1 - BAND))} – {_gib(needed * (1 + BAND))} with an error of {BAND:.0%}"
    output.table(["PART", "GIB", "KNOWN BY", "HOW"], [*rows, ["together", _gib(needed), "", band]])
    output.write(_beside(plan))
    output.write("")
    _show_fits(plan)


def _beside(plan: Plan) -> str:
    places: tuple[tuple[Place, str], ...] = (("host", "in RAM beside it"), ("disk", "on the disk"))
    said = [f"{_gib(plan.prediction.total(place))} GiB {words}" for place, words in places]
    merged = f"{_gib(merged_bytes(plan.training.shape))} GiB for the merged model"
    return " · ".join([*(each for each in said if not each.startswith("0.00")), merged])


def _show_fits(plan: Plan) -> None:
    from rich.text import Text

    rows = [
        [
            fit.device.name,
            f"{fit.device.room_bytes / GIB:.1f}",
            Text(fit.verdict, style=STYLES[fit.verdict]),
            _or_none(fit.largest.sequence_len),
            _or_none(fit.largest.micro_batch_size),
            "–" if plan.training.config.method == "full" else _or_none(fit.largest.lora_r),
        ]
        for fit in plan.fits
    ]
    output.table(["ON", "GIB", "VERDICT", "SEQUENCE_LEN ≤", "MICRO_BATCH_SIZE ≤", "LORA_R ≤"], rows)
    for fit in plan.fits if len(plan.fits) == 1 else ():
        if fit.verdict != Verdict.FITS:
            output.hint(f"{plan.training.step} {_is(fit.verdict)} on {fit.device.name}; any of these makes it fit:")
            for way in _ways_to_fit(plan, fit) or ["a smaller model, or more memory: no single setting does"]:
                output.hint(f"  {way}")


def _ways_to_fit(plan: Plan, fit: Fit) -> list[str]:
    """The single changes that make it fit."""
    training, config, largest = plan.training, plan.training.config, fit.largest
    batch = config.micro_batch_size * config.gradient_accumulation_steps
    ways = []
    if largest.micro_batch_size:
        micro = next(size for size in range(largest.micro_batch_size, 0, -1) if batch % size == 0)
        ways.append(f"micro_batch_size {micro} with gradient_accumulation_steps {batch // micro}")
    if largest.sequence_len:
        ways.append(f"sequence_len {largest.sequence_len}")
    if largest.lora_r and config.method != "full":
        ways.append(f"lora_r {largest.lora_r}")
    switches = {"gradient_checkpointing": True, "optimizer": "adamw_8bit", "method": "qlora"}
    for name, value in switches.items():
        changed = config.model_copy(update={name: value})
        fits = predict(training.shape, changed, plan.machine).verdict(fit.device.room_bytes) == Verdict.FITS
        if fits and getattr(config, name) != value:
            elsewhere = "job adapter.train with " if name == "method" and config.method == "full" else ""
            ways.append(f"{elsewhere}{name} {str(value).lower()}")
    return ways


def _is(found: Verdict) -> str:
    return "is at risk" if found == Verdict.AT_RISK else str(found)


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / GIB:.2f}"


def _or_none(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"
