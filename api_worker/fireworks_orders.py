"""What an order is at Fireworks: one of its two kinds of job, and the body of the request for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_worker.provider import Method, Tuned
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from api_worker.json_api import Answer
    from api_worker.provider import Order

VENDOR_MODELS = "accounts/fireworks"  # whose models everybody may start from
LONGEST_ID = 63  # characters of a model's id
NOT_IN_ID = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Kind:
    """One of the kinds of job, each with a collection of its own."""

    collection: str
    id_parameter: str


SFT = Kind("supervisedFineTuningJobs", "supervisedFineTuningJobId")
DPO = Kind("dpoJobs", "dpoJobId")


def request_of(account: str, path: str, order: Order, key: str) -> tuple[Kind, Answer]:
    """The kind of job that an order asks for, and the body of the request for it.

    Raises:
        Permanent: Fireworks cannot do what is asked
    """
    model = _model_id(key, order.suffix)
    if len(model) > LONGEST_ID:
        room = LONGEST_ID - len(key) - 1
        said = f'the suffix "{order.suffix}" is too long; {room} characters are the most'
        raise Invalid(f"{account}: {said}")
    if order.tuned == Tuned.FULL and order.lora_r is not None:
        raise Invalid(f"{account}: lora_r is of a LoRA's; leave it out, or tuned = full")
    asked = {
        "baseModel": _model_path(order.base_model),
        "outputModel": f"{path}/models/{model}",
        "epochs": order.epochs,
        "learningRate": order.learning_rate,
        "batchSizeSamples": order.batch_size,
        "loraRank": 0 if order.tuned == Tuned.FULL else order.lora_r,  # 0: all weights
    }
    config = {name: value for name, value in asked.items() if value is not None}
    body: Answer = {"dataset": order.training_file, "displayName": key}
    if order.method == Method.SFT:
        holdout = {"evaluationDataset": order.validation_file} if order.validation_file else {}
        return SFT, body | config | holdout
    if order.validation_file:
        raise Invalid(f"{account}: a job by DPO takes no validation file; leave it out")
    # the loss is named, as the documents contradict each other on which one it is otherwise
    return DPO, body | {"trainingConfig": config, "lossConfig": {"method": "DPO"}}


def _model_path(base_model: str) -> str:
    """A base model's full path; a name alone is one of Fireworks' own models, as in its command line."""
    return base_model if "/" in base_model else f"{VENDOR_MODELS}/models/{base_model}"


def _model_id(key: str, suffix: str | None) -> str:
    """The tuned model's id: the key makes it the only one, the suffix shows in it."""
    shown = NOT_IN_ID.sub("-", (suffix or "").lower())
    return f"{key}-{shown}".strip("-")
