"""The command that a container at Hugging Face Jobs runs: TRL's own command line, and the options of an order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from api_worker.provider import Tuned
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from api_worker.provider import Order

TRL = ("uv", "run", "--no-project", "--with", "trl[peft]==1.14.2", "trl")
MOUNTED = "/data"  # where the examples are, a folder a split
MODEL_NAME = "--model_name_or_path"
TUNED_NAME = "--hub_model_id"
LONGEST_NAME = 96  # of a repository, with whose it is


def command_of(order: Order, tuned_name: str) -> list[str]:
    """What the container runs."""
    told: dict[str, Any] = {
        MODEL_NAME: order.base_model,
        "--dataset_name": MOUNTED,
        "--num_train_epochs": order.epochs,
        "--learning_rate": order.learning_rate,
        "--per_device_train_batch_size": order.batch_size,
        "--gradient_accumulation_steps": None if order.batch_size is None else 1,
        "--seed": order.seed,
        "--eval_strategy": "epoch" if order.validation_file else "no",
        "--logging_steps": 1,
        "--report_to": "none",
        "--save_strategy": "no",
        "--output_dir": "/tmp/tuned",
        "--disable_tqdm": True,  # a bar would hide the figures
        "--push_to_hub": True,
        "--hub_private_repo": True,
        TUNED_NAME: tuned_name,
        "--use_peft": order.tuned != Tuned.FULL,
        "--lora_r": order.lora_r,
        "--lora_alpha": None if order.lora_r is None else 2 * order.lora_r,
    }
    options = [word for option, value in told.items() if value is not None for word in (option, str(value))]
    return [*TRL, "sft", *options]


def tuned_name(account: str, space: str, order: Order, key: str) -> str:
    """The repository that the tuned model goes to; its name ends with the submission key.

    Raises:
        Invalid: with the order's suffix it is no name that the Hub takes
    """
    plain = re.sub(r"[^\w.-]+", "-", order.base_model.rsplit("/", 1)[-1])
    name = "-".join(filter(None, (plain, order.suffix, key)))
    if len(f"{space}/{name}") > LONGEST_NAME or not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        said = f'with the suffix "{order.suffix}" the tuned model would be called "{space}/{name}"'
        raise Invalid(f"{account}: {said}; {LONGEST_NAME} characters of A-Z a-z 0-9 _ . - are the most")
    return f"{space}/{name}"
