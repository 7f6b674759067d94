"""A run of axolotl: its file is written, its program started in the child's process group, its plugin listened to.

Covered: everything that ends the child ends it too, for it shares the group; the child's own death, by the end of its
stdin; its end by a signal, for want of memory, or with an error. Proven on a CPU with axolotl 0.19; on a card it is
complete but unproven.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoTokenizer

from gpu_worker import base_model, checkpoints
from gpu_worker.axolotl.program import ask, environment
from gpu_worker.axolotl.relayed import Relay, Replay
from gpu_worker.axolotl.settings_file import CARDS_ALONE, in_words_of, settings_for, write
from gpu_worker.card_faults import lost, says_card_failed
from gpu_worker.child_side import Stopped
from gpu_worker.chosen_step import choose_step
from gpu_worker.fitting.machine import cpu_facts
from gpu_worker.measured import Measured, history_holdout_losses, history_losses
from gpu_worker.memory import oom_kills
from gpu_worker.out_of_memory import says_out_of_memory
from gpu_worker.silent_death import explain_death
from gpu_worker.tokenising import pack, tokenise
from gpu_worker.watch import holdout_losses
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from gpu_worker.axolotl.program import Schema
    from gpu_worker.child_side import Channel
    from gpu_worker.tokenising import Tokenised
    from gpu_worker.training_config import TrainingOrder

log = logging.getLogger(__name__)
SHORT_BYTES = 50  # what leaves room for the names that are made in a folder
LISTEN_SECONDS = 0.2  # between two looks at whether it lives, and whether it shall
LAST_WORDS = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b.*", re.MULTILINE)
KEPT = ("adapter_config.json", "adapter_model.safetensors")


def train(order: TrainingOrder, channel: Channel, checkpoint: Path | None) -> Measured:
    """Train and write the adapter; see `Backend.train`."""
    assert order.axolotl is not None
    scratch = Path(tempfile.mkdtemp(prefix="axolotl-"))
    schema = ask(order.axolotl.program, order.axolotl.settings)
    channel.progress(phase="tokenising")
    data, material = read_examples(order, scratch)
    settings = in_words_of(schema, settings_for(order, data, scratch, checkpoint))
    replay = Replay(channel, order, material, checkpoint, splits=bool(settings.get("val_set_size")))
    if not replay.is_done():
        channel.progress(phase="loading")
        _run(order, settings, scratch, replay)
    last = int(replay.state.global_step)
    measured = holdout_losses(replay.state)
    step = choose_step(order, last, measured, evaluates=bool(measured))
    _publish(order, step)
    return _figures(replay, schema, step)


def read_examples(order: TrainingOrder, scratch: Path) -> tuple[dict[str, Path], dict[str, int]]:
    """Rows of tokens for axolotl, and how many; what its own file names it reads itself.

    Raises:
        Invalid: the examples count differently
    """
    assert order.axolotl is not None
    hyper, own = order.hyperparameters, order.axolotl.settings
    tokenizer = AutoTokenizer.from_pretrained(order.model_folder, local_files_only=True)
    data: dict[str, Path] = {}
    material: dict[str, int] = {}
    if "datasets" not in own:
        learned = tokenise(order.rows, tokenizer, hyper.sequence_len, hyper.train_on)
        if "weight" in learned.dataset.column_names:
            raise Invalid("axolotl cannot weight examples; take engine: trl or unsloth, or leave the weights out")
        material |= {"examples": learned.examples, "truncated_examples": learned.truncated}
        material |= {"dropped_examples": learned.dropped, "weightless_examples": learned.weightless}
        packed = learned if own or hyper.packing == "bfd" else pack(learned, hyper)  # axolotl packs itself
        data["datasets"] = _rows(packed, scratch / "train.jsonl")
    if order.holdout_rows is not None:
        held = tokenise(order.holdout_rows, tokenizer, hyper.sequence_len)
        material["holdout_examples"] = held.examples
        data["test_datasets"] = _rows(held, scratch / "holdout.jsonl")
    return data, material


def _rows(tokenised: Tokenised, path: Path) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for row in tokenised.dataset:
            ids = row["input_ids"]
            file.write(json.dumps({"input_ids": ids, "labels": row["labels"], "attention_mask": [1] * len(ids)}) + "\n")
    return path


def _run(order: TrainingOrder, settings: dict[str, Any], scratch: Path, replay: Replay) -> None:
    """Run it to its last step.

    Raises:
        Stopped: it was asked to stop, and has saved what there was to save
        Permanent, Transient, ChildCrashed: it did not get there
    """
    assert order.axolotl is not None
    file, log_path = order.checkpoints.parent / "axolotl.yml", replay.channel.workdir / "logs" / "axolotl.log"
    for name, value in order.axolotl.settings.items():
        if name in CARDS_ALONE and not order.on_card and value and not settings.get(name):
            log.warning("%s: %s is for a card, and not taken on a CPU", name, value)
    write(file, settings)
    log_path.parent.mkdir(exist_ok=True)
    program, killed_before = order.axolotl.program, oom_kills()
    log.info("%s train %s; what it says is in %s", program, file, log_path)
    relay = Relay(scratch / "relay")
    with log_path.open("wb") as told:
        process = subprocess.Popen(
            [program, "train", file, "--launcher", "python"],
            stdin=subprocess.PIPE,  # what holds it alive
            stdout=told,
            stderr=subprocess.STDOUT,
            env=environment(program) | {"TUNEYARD_RELAY": str(relay.folder), "TMPDIR": _short(scratch)},
        )
    try:
        _listen(process, relay, replay)
    finally:
        relay.close()
    if process.returncode != 0 or replay.state.global_step < replay.state.max_steps or not replay.began:
        raise explain_end(process.returncode, log_path, replay, killed_before)


def _short(folder: Path) -> str:
    """A folder by a short name: axolotl's helpers make sockets in TMPDIR, and a socket's path has about 100 bytes."""
    here = Path(f"/proc/{os.getpid()}/cwd")
    if len(os.fsencode(folder)) <= SHORT_BYTES or not here.is_dir() or not folder.is_relative_to(Path.cwd()):
        return str(folder)
    return str(here / folder.relative_to(Path.cwd()))


def _listen(process: subprocess.Popen[bytes], relay: Relay, replay: Replay) -> None:
    """Hear it until it is gone.

    Raises:
        Stopped: it was asked to stop, and has saved what there was to save
    """
    asked, gone = False, False
    while not gone:
        gone = process.poll() is not None
        for event in relay.read(LISTEN_SECONDS):
            replay.take(event)
            gone = False  # there may be more to hear
        if replay.channel.stop_requested and not asked:
            if not replay.began:
                raise Stopped
            relay.stop()
            asked = True
        if asked and replay.is_over and replay.state.global_step < replay.state.max_steps:
            raise Stopped


def explain_end(status: int, log_path: Path, replay: Replay, killed_before: int) -> Exception:
    """The error that stands for a run that did not get to its end."""
    text = log_path.read_text(errors="replace")
    errors = [found.group() for found in LAST_WORDS.finditer(text)]
    said = (errors or [line for line in text.splitlines() if line.strip()] or ["nothing"])[-1]
    if status > 0 and says_out_of_memory(said):
        return Permanent(f"axolotl ended with status {status}, for memory ran out: {said}", cause=Cause.OOM)
    if status > 0 and says_card_failed(said):
        return lost(f"axolotl ended with status {status}: {said}")
    if status < 0 or replay.began:
        return explain_death("axolotl", status, log_path, oom_kills_before=killed_before)
    if not replay.is_loaded and not status:
        return Permanent(f"axolotl ended without having loaded Tuneyard's plugin; see {log_path}")
    return Permanent(f"axolotl ended before its first step: {said}; see {log_path}")


def _publish(order: TrainingOrder, step: int) -> None:
    """Write the folder of the adapter: that of the checkpoint, which is a PEFT adapter, under its base's own name."""
    shutil.rmtree(order.output, ignore_errors=True)
    order.output.mkdir(parents=True)
    folder = checkpoints.at_step(order.checkpoints, step)
    for name in KEPT:
        if not (folder / name).is_file():
            raise Permanent(f"{folder} holds no {name}; axolotl has not written a LoRA adapter")
        shutil.copyfile(folder / name, order.output / name)
    config = base_model.read_json(order.output / KEPT[0])
    config["base_model_name_or_path"] = order.base_model
    (order.output / KEPT[0]).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _figures(replay: Replay, schema: Schema, step: int) -> Measured:
    state, watch, began = replay.state, replay.watch, replay.began
    return Measured(
        device=began["device"],
        device_name=began["device_name"] or cpu_facts().get("model name", "the CPU"),
        dtype=began["dtype"],
        versions={"axolotl": schema.version, **began["versions"]},
        steps=state.global_step,
        epochs=round(state.epoch or 0.0, 2),
        losses=history_losses(state.log_history),
        holdout_losses=history_holdout_losses(state.log_history),
        published_step=step,
        trained_tokens=int(state.num_input_tokens_seen),
        tokens_per_second=watch.tokens_per_second if watch else None,
        training_seconds=round(watch.seconds, 1) if watch else 0.0,
        **replay.material,
    )
