"""`tuneyard gpu …`: what a training will take and where that fits; the cards of this host."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queue_app.cli import context, output, recipes
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_worker.fitting.machine import Machine
    from tasks.commands.fitting.picture import Device, Plan
    from tasks.commands.fitting.trainings import PlannedTraining

app = typer.Typer(name="gpu", help="Plan what fits a GPU; see the cards.", no_args_is_help=True, add_completion=False)

GIB = 2**30
TOO_LARGE = 2  # the exit code of what says no


@app.command()
def plan(
    recipe: recipes.RecipePath,
    card: Annotated[str | None, typer.Option(help="A well-known card, such as 'RTX 5090'.")] = None,
    vram: Annotated[float | None, typer.Option(metavar="GIB", min=0.1, help="A card of so much memory.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="The CPU and RAM of this machine.")] = False,
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Take this for the base model; its config.json will do.")
    ] = None,
    overrides: recipes.Overrides = None,
    as_json: output.AsJson = False,
) -> None:
    """Predict the memory and disk of a recipe's trainings, and say where they fit. Needs no GPU."""
    from tasks.commands.fitting.picture import plan_for, show

    if sum((card is not None, vram is not None, cpu)) > 1:
        raise Invalid("--card, --vram and --cpu exclude each other")
    devices = _devices(card, vram, cpu=cpu)
    plans = [plan_for(each, _machine(each, cpu=cpu), devices) for each in _trainings(recipe, overrides, model)]
    if as_json:
        output.write_json([each.as_json for each in plans])
    elif not plans:
        output.hint("the recipe trains nothing here: it has no step adapter.train, axolotl.train or model.train")
    else:
        for each in plans:
            show(each)
    if _says_no(plans):
        raise typer.Exit(TOO_LARGE)
    if plans and not as_json:
        output.next_commands(f"tuneyard run {recipes.as_typed(recipe, overrides)}")


@app.command("ls")
def list_cards(as_json: output.AsJson = False) -> None:
    """List the cards of this host, their memory, and who computes on them."""
    from gpu_worker.fitting.cards import cards_here

    found = cards_here()
    if as_json:
        output.write_json([asdict(card) for card in found])
    elif not found:
        output.hint("no NVIDIA driver answers here: training runs on the CPU, for small models")
    else:
        rows = [
            [
                card.number,
                card.name,
                card.arch,
                f"{card.free_bytes / GIB:.1f} of {card.total_bytes / GIB:.1f}",
                f"{card.driver} (CUDA {card.cuda[0]}.{card.cuda[1]})",
                ", ".join(map(str, card.holders)) or "–",
            ]
            for card in found
        ]
        output.table(["#", "CARD", "ARCH", "GIB FREE", "DRIVER", "HELD BY"], rows)


def _devices(card: str | None, vram: float | None, *, cpu: bool) -> Sequence[Device]:
    """What was asked for; else the cards of this host, and where it has none, the well-known ones."""
    from gpu_worker.fitting.cards import KNOWN_CARDS, cards_here, known_room
    from gpu_worker.memory import memory_limit_bytes
    from tasks.commands.fitting.picture import Device

    if card is not None:
        return [Device(card, known_room(card))]
    if vram is not None:
        return [Device(f"{vram:g} GiB", int(vram * GIB))]
    if cpu:
        limit = memory_limit_bytes()
        if limit is None:
            raise Invalid("--cpu: this system does not tell how much RAM there is; --vram GIB takes a figure")
        return [Device("this machine's RAM", limit)]
    here = [Device(each.name, each.total_bytes) for each in cards_here()]
    return here or [Device(name, int(gib * GIB)) for name, gib in KNOWN_CARDS.items()]


def _machine(training: PlannedTraining, *, cpu: bool) -> Machine:
    from gpu_worker.fitting.machine import Machine, this_cpu

    return this_cpu(training.engine) if cpu else Machine("cuda", training.engine)


def _trainings(recipe: Path, overrides: list[str] | None, model: Path | None) -> list[PlannedTraining]:
    from tasks.commands.fitting.trainings import find_trainings

    def artifact(ref: str) -> Path:
        return context.runner("plan").artifacts.fetch(context.read().artifacts.find(ref).id)

    read = recipes.read_recipe(recipe, overrides)
    return list(find_trainings(read, model, context.settings().training.engine, artifact))


def _says_no(plans: Sequence[Plan]) -> bool:
    """Whether something does not fit the one device that was asked for."""
    from gpu_worker.fitting.prediction import Verdict

    return any(len(each.fits) == 1 and each.fits[0].verdict == Verdict.TOO_LARGE for each in plans)
