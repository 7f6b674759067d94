"""A fine-tune on a GPU of one's own: hours by a speed that was measured or set, times what an hour costs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from api_worker.provider import Method, Tuned
from queue_app.errors import Invalid, NotFound
from queue_app.lifecycle import State
from tasks.commands.quoting.line import Line
from tasks.commands.quoting.work import OWN

if TYPE_CHECKING:
    from queue_app.store import Artifact, Readings
    from settings import OwnGpuSettings
    from tasks.commands.quoting.grounds import Grounds
    from tasks.commands.quoting.work import Work

PLACE = "own GPU"
HOUR = 3600.0
NOT_TO_BE_HAD = re.compile(r"(ft:)?(gpt-(?!oss)|chatgpt|o\d(-|$))")  # models whose weights nobody has
LOOKED_AT = 200  # earlier trainings
NO_SPEED = "no such training of this model was measured here; TUNEYARD_OWN_GPU__TOKENS_PER_SECOND sets a speed"
NO_RATE = "set TUNEYARD_OWN_GPU__USD_PER_HOUR, or __WATTS and __USD_PER_KWH, for a price"


def own_gpu_line(work: Work, grounds: Grounds) -> Line:
    """The line of the own GPU for a fine-tune."""
    base = base_artifact(grounds.store.read, work.base_model)
    line = Line(work.step, PLACE, work.model, chosen=work.account is None)
    if NOT_TO_BE_HAD.match(work.base_model):
        return replace(line, impossible=f"the weights of {work.base_model} are not to be had")
    if work.dataset is None:
        return replace(line, notes=(work.unknown,))
    folder = _folder(work, base, grounds)
    counted = grounds.counts.here(work.dataset, work.method, work.base_model, folder)
    if counted.refused:
        return replace(line, impossible=counted.refused)
    epochs = work.epochs(counted.examples)
    line = replace(line, tokens=counted.tokens, exact=counted.exact, epochs=epochs)
    return _priced(line, counted.tokens * epochs, _speed(work, base, grounds), grounds)


def _priced(line: Line, trained: float, known: tuple[float | None, str], grounds: Grounds) -> Line:
    speed, by = known
    rate = _usd_per_hour(grounds.settings.own_gpu)
    seconds = trained / speed if speed is not None else None
    price = seconds / HOUR * rate if seconds is not None and rate is not None else None
    missing = [word for value, word in ((speed, NO_SPEED), (rate, NO_RATE)) if value is None]
    return replace(
        line,
        low_usd=price,
        high_usd=price,
        run_seconds=seconds,
        run_seconds_by=by,
        notes=tuple(missing),
    )


def base_artifact(read: Readings, ref: str) -> Artifact | None:
    """The base model, where it is an artifact."""
    try:
        return read.artifacts.find(ref)
    except (NotFound, Invalid):
        return None


def _folder(work: Work, base: Artifact | None, grounds: Grounds) -> Path | None:
    """The folder of the model, where there is one."""
    if base is not None:
        return grounds.resolve(base.id)
    return Path(work.base_model) if Path(work.base_model).is_dir() else None


def _speed(work: Work, base: Artifact | None, grounds: Grounds) -> tuple[float | None, str]:
    """Tokens a second, and how that is known: by the newest training like it here, else by the settings."""
    read, kind = grounds.store.read, OWN[work.tuned or Tuned.LORA]
    for job in read.ls(states=[State.SUCCEEDED], kind=kind, limit=LOOKED_AT) if base is not None else ():
        made = job.result or {}
        speed = made.get("tokens_per_second")
        if not speed or job.spec.get("objective", Method.SFT) != work.method:
            continue
        if base and base.id in read.artifacts.parents(made["adapter" if "adapter" in made else "model"]):
            where = made.get("device_name") or made.get("device")
            return speed, f"{speed:,.0f} tokens/s measured by job {job.id} on {where}"
    set_speed = grounds.settings.own_gpu.tokens_per_second
    return set_speed, "" if set_speed is None else f"{set_speed:,.0f} tokens/s by the settings"


def _usd_per_hour(own: OwnGpuSettings) -> float | None:
    if own.usd_per_hour is not None:
        return own.usd_per_hour
    if own.watts is None or own.usd_per_kwh is None:
        return None
    return own.watts / 1000 * own.usd_per_kwh
