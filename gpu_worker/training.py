"""The child's program: one LoRA or QLoRA run, from its last checkpoint if it has one.

Resume equals no resume: with the same hyperparameters on the same kind of CPU, every later step's loss is the same to
the last bit. Not covered: CUDA kernels that are not deterministic, a change of machine or of libraries in between.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gpu_worker import base_model, checkpoints
from gpu_worker.backends import load_backend
from gpu_worker.child_side import Channel, Stopped, child_main
from gpu_worker.memory import peak_rss_mib
from gpu_worker.training_config import TrainingOrder
from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from peft import PeftModel
    from trl import SFTTrainer

    from gpu_worker.backends import Backend
    from gpu_worker.sft import Tokenised, Watch
    from gpu_worker.training_config import TrainingConfig

log = logging.getLogger(__name__)
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Train as the order says, write the adapter's folder, and return what was measured."""
    began = time.monotonic()
    order = TrainingOrder.model_validate(config)
    os.environ |= {"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1"}  # the model is a folder: nobody is asked
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one worker, one card: the trainer would take all it sees
    try:
        measured = _train(order, channel)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
            raise _out_of_memory(order, error) from error
        raise
    measured |= {"seconds": round(time.monotonic() - began, 1), "peak_rss_mib": peak_rss_mib()}
    (order.output / "training.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return measured


def _train(order: TrainingOrder, channel: Channel) -> dict[str, Any]:
    channel.progress(phase="loading")
    backend = load_backend(order.engine)
    from transformers import set_seed

    from gpu_worker import sft
    from gpu_worker.backends.hardware import find_hardware

    hardware, hyper = find_hardware(), order.hyperparameters
    set_seed(hyper.seed)
    model, tokenizer = backend.load(order.model_folder, hyper, hardware)
    channel.progress(phase="tokenising")
    named = (("training", order.rows), ("holdout", order.holdout_rows))
    sets = [sft.tokenise(rows, tokenizer, hyper.sequence_len, name) for name, rows in named if rows]
    arguments = sft.arguments(order, hardware, evaluates=len(sets) > 1, loss=_loss(backend, hyper))
    trainer = sft.build_trainer(model, tokenizer, arguments, [each.dataset for each in sets])
    watch = sft.Watch(channel)
    trainer.add_callback(watch)
    found = checkpoints.survey(order.checkpoints)
    for problem in found.passed_over:
        log.warning("passed over %s", problem)
    log.info("%s on %s, from %s", order.engine, hardware.name, found.newest or "the start")
    if not sft.finish(trainer, found.newest, channel):
        raise Stopped
    _save(model, order)
    return _measured(order, trainer, watch, sets) | {
        "resumed_from": found.step,
        "checkpoints_passed_over": len(found.passed_over),
        "device": hardware.device,
        "device_name": hardware.name,
        "dtype": str(hardware.dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in backend.PACKAGES},
    }


def _loss(backend: Backend, hyper: TrainingConfig) -> str:
    """TRL cannot compute the loss in chunks through a head that has an adapter itself."""
    return "nll" if "lm_head" in hyper.target_modules else backend.LOSS


def _measured(order: TrainingOrder, trainer: SFTTrainer, watch: Watch, sets: list[Tokenised]) -> dict[str, Any]:
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    holdout = [{"step": entry["step"], "loss": entry["eval_loss"]} for entry in history if "eval_loss" in entry]
    return {
        "engine": order.engine,
        "base_model": {"name": order.base_model, "fingerprint": base_model.fingerprint(order.model_folder)},
        "hyperparameters": order.hyperparameters.model_dump(mode="json"),
        "steps": trainer.state.global_step,
        "losses": losses,
        "holdout_losses": holdout,
        "examples": len(sets[0].dataset),
        "truncated_examples": sets[0].truncated,
        "dropped_examples": sets[0].dropped,
        "trained_tokens": int(trainer.state.num_input_tokens_seen),
        "tokens_per_second": watch.tokens_per_second,
        "training_seconds": round(watch.seconds, 1),
    }


def _save(model: PeftModel, order: TrainingOrder) -> None:
    """Write the adapter as a PEFT folder of this run's own, without the card that PEFT leaves to be filled in."""
    shutil.rmtree(order.output, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = order.base_model
    model.save_pretrained(order.output, save_embedding_layers=False)
    (order.output / "README.md").unlink(missing_ok=True)
    (order.output / "adapter_model.safetensors").chmod(0o644)  # safetensors leaves it to its owner alone


def _out_of_memory(order: TrainingOrder, error: BaseException) -> Permanent:
    hyper = order.hyperparameters
    return Permanent(
        f"memory ran out ({str(error).splitlines()[0] if str(error) else 'no message'}) at micro_batch_size "
        f"{hyper.micro_batch_size} and sequence_len {hyper.sequence_len}; halve micro_batch_size and double "
        f"gradient_accumulation_steps ({hyper.gradient_accumulation_steps}) to keep the effective batch, turn on "
        "gradient_checkpointing, or shorten sequence_len",
        cause=Cause.OOM,
    )


if __name__ == "__main__":
    child_main(run)
