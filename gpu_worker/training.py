"""The child's program: one training run, from its last checkpoint if it has one.

Resume equals no resume: with the same hyperparameters on the same kind of CPU, every later step's loss is the same to
the last bit. Not covered: CUDA kernels that are not deterministic, a change of machine or of libraries in between.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from gpu_worker import base_model, checkpoints
from gpu_worker.backends import load_backend
from gpu_worker.child_side import Channel, Stopped, child_main
from gpu_worker.memory import peak_rss_mib
from gpu_worker.out_of_memory import ran_out_of_memory
from gpu_worker.training_config import TrainingOrder
from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

    from gpu_worker.backends import Backend
    from gpu_worker.tokenising import Tokenised
    from gpu_worker.training_config import TrainingConfig
    from gpu_worker.watch import Watch

log = logging.getLogger(__name__)
TORCH_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Train as the order says, write the folder of the adapter or model, and return what was measured."""
    began = time.monotonic()
    order = TrainingOrder.model_validate(config)
    os.environ |= {"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1"}  # the model is a folder: nobody is asked
    os.environ |= {"WANDB_RUN_ID": order.name, "WANDB_RESUME": "allow"}  # an attempt goes on with the run's own curve
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as the driver numbers the cards
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one worker, one card: the trainer would take all it sees
    try:
        measured = _train(order, channel)
    except (RuntimeError, MemoryError, OSError, ImportError, SafetensorError) as error:
        if ran_out_of_memory(error):
            raise _out_of_memory(order, error) from error
        raise
    measured |= {"seconds": round(time.monotonic() - began, 1), "peak_rss_mib": peak_rss_mib()}
    (order.output / "training.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return measured


def _train(order: TrainingOrder, channel: Channel) -> dict[str, Any]:
    channel.progress(phase="loading")
    backend = load_backend(order.engine)
    import torch
    from transformers import set_seed

    from gpu_worker import sft
    from gpu_worker.backends.hardware import find_hardware
    from gpu_worker.watch import Watch

    hardware, hyper = find_hardware(), order.hyperparameters
    backend.validate(hyper, hardware)
    if hyper.objective == "dpo" and hardware.on_cpu:  # sums of log-probabilities: bfloat16 has steps of 0.25 at 50
        hardware = replace(hardware, dtype=torch.float32)
    set_seed(hyper.seed)
    model, tokenizer = backend.load(order.model_folder, hyper, hardware)
    channel.progress(phase="tokenising")
    sets = _sets(order, tokenizer)
    arguments = (
        sft.dpo_arguments(order, hardware, evaluates=len(sets) > 1)
        if hyper.objective == "dpo"
        else sft.sft_arguments(order, hardware, evaluates=len(sets) > 1, loss=_loss(backend, hyper))
    )
    trainer = sft.build_trainer(model, tokenizer, arguments, [each.dataset for each in sets])
    watch = Watch(channel, order)
    trainer.add_callback(watch)
    found = checkpoints.survey(order.checkpoints)
    for problem in found.passed_over:
        log.warning("passed over %s", problem)
    log.info("%s on %s, from %s", order.engine, hardware.name, found.newest or "the start")
    if not sft.finish(trainer, found.newest, channel):
        raise Stopped
    step = _take(trainer, order, evaluates=len(sets) > 1)
    _save(model, tokenizer, order)
    return _measured(order, trainer, watch, sets) | {
        "published_step": step,
        "resumed_from": found.step,
        "checkpoints_passed_over": len(found.passed_over),
        "device": hardware.device,
        "device_name": hardware.name,
        "dtype": str(hardware.dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in backend.PACKAGES},
    }


def _sets(order: TrainingOrder, tokenizer: PreTrainedTokenizerBase) -> list[Tokenised]:
    """What is trained on, and after it what is held out, if there is something."""
    from gpu_worker.tokenising import pack, tokenise, tokenise_preferences

    hyper, holdout = order.hyperparameters, order.holdout_rows
    if hyper.objective == "dpo":
        named = (("training", order.rows), ("holdout", holdout))
        return [tokenise_preferences(rows, tokenizer, hyper.sequence_len, name) for name, rows in named if rows]
    learned = pack(tokenise(order.rows, tokenizer, hyper.sequence_len, hyper.train_on), hyper)
    return [learned] if holdout is None else [learned, tokenise(holdout, tokenizer, hyper.sequence_len)]


def _take(trainer: Trainer, order: TrainingOrder, *, evaluates: bool) -> int:
    """Put the weights of the checkpoint that is to be published into the model; its step.

    Raises:
        Permanent: it is not there, or is damaged
    """
    from gpu_worker.watch import holdout_losses

    last = int(trainer.state.global_step)
    wanted = order.hyperparameters.checkpoint or ("best" if evaluates else "last")
    measured = holdout_losses(trainer.state)
    step = checkpoints.best(order.checkpoints, measured) if wanted == "best" else wanted
    if isinstance(step, int) and wanted == "best" and measured[step] > min(measured.values()):
        log.warning(
            "the checkpoint of the least holdout loss is damaged; taken is the best whole one, of step %d", step
        )
    if step is None:
        raise Permanent(
            "checkpoint: best: no checkpoint whose holdout loss was measured is whole; take checkpoint: last"
        )
    if step in (last, "last"):
        return last
    folder = checkpoints.at_step(order.checkpoints, int(step))
    if problem := checkpoints.problem_of(folder):
        raise Permanent(f"checkpoint: {step}: it cannot be published, for {problem}; take best or last")
    trainer._load_from_checkpoint(str(folder))
    return int(step)


def _loss(backend: Backend, hyper: TrainingConfig) -> str:
    """TRL cannot compute the loss in chunks through a head that has an adapter itself."""
    return "nll" if "lm_head" in hyper.target_modules else backend.LOSS


def _measured(order: TrainingOrder, trainer: Trainer, watch: Watch, sets: list[Tokenised]) -> dict[str, Any]:
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
        "examples": sets[0].examples,
        "weightless_examples": sets[0].weightless,
        "truncated_examples": sets[0].truncated,
        "dropped_examples": sets[0].dropped,
        "trained_tokens": int(trainer.state.num_input_tokens_seen),
        "tokens_per_second": watch.tokens_per_second,
        "training_seconds": round(watch.seconds, 1),
    }


def _save(model: PeftModel | PreTrainedModel, tokenizer: PreTrainedTokenizerBase, order: TrainingOrder) -> None:
    """Write the model, in the base's type, or the adapter: without the card that PEFT leaves to be filled in."""
    shutil.rmtree(order.output, ignore_errors=True)
    if order.hyperparameters.method == "full":
        import torch

        model.to(getattr(torch, TORCH_NAMES.get(base_model.read_model(order.model_folder).dtype, "float32")))
        model.save_pretrained(order.output)
        tokenizer.save_pretrained(order.output)
        for path in order.output.glob("*.safetensors"):
            path.chmod(0o644)
        return
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
