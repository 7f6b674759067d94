"""Together, over plain HTTP.

Its SDK (3.1.1) is left out: a `create` of its makes three requests, sends each of them up to three times, and cannot be
told otherwise for one call; besides, it needs an older `rich` than our own screen. What it knows of paths and fields is
heeded where it differs from the older OpenAPI document.

The list of jobs has neither filter nor pages. So the submission key ends the suffix, which ends the tuned model's name.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from api_worker import together_answers as answers
from api_worker.cancelling import cancel_unless_ended
from api_worker.provider import Estimate, Method, Offer, RemoteResult, RemoteState, Tuned, progress_of
from api_worker.refusals import Refusal, cause_of_words, error_of
from api_worker.together_api import Api, quoted
from api_worker.together_jobs import Jobs, path_of
from queue_app.errors import Invalid, NotFound, Permanent, Unauthorized
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api_worker.provider import Order, RemoteJob
    from settings import ProviderSettings

VENDOR_URL = "https://api.together.ai/v1"
FILE_TYPES = ("jsonl", "parquet", "csv")
LARGEST_BYTES = 5 * 1024**3  # that Together's own client sends in one piece; it takes larger ones in parts
SUFFIX_LIMIT = 40
RECENT = timedelta(hours=1)  # of a running job's figures, that a look at it asks for
HEIR_SHOWN = timedelta(hours=1)  # after a restart that shows no heir, a cancel has nothing more to wait for
SMALL_BALANCE = "; Together refuses an upload in this way also for want of balance (the least was 5 USD when last seen)"


class Account:
    """One account. Its key must be set."""

    takes = frozenset({"validation_file", "tuned", "epochs", "suffix", "seed", "learning_rate", "batch_size", "lora_r"})
    methods = frozenset(Method)

    def __init__(self, name: str, account: ProviderSettings) -> None:
        assert account.api_key is not None
        self._name = name
        self._api = Api(name, account.base_url or VENDOR_URL, account.api_key)
        self._jobs = Jobs(name, self._api)

    def close(self) -> None:
        self._api.close()

    # -- files ----------------------------------------------------------------------------------------------------

    def upload(self, path: Path) -> str:
        """Ask where to put the file, put it there, and have it looked through."""
        reserved = self._api.reserve(self._form(path))
        if isinstance(reserved, str):
            return reserved
        if isinstance(reserved, Refusal):
            error = error_of(self._name, reserved)
            raise Unauthorized(f"{error}{SMALL_BALANCE}", cause=Cause.PROVIDER) if reserved.status == 401 else error
        file, place = reserved
        self._api.deliver(place, path, {})
        return self._api.typed(answers.File, self._api.send("POST", f"files/{quoted(file)}/preprocess")).id

    def _form(self, path: Path) -> dict[str, str]:
        kind, size = path.suffix.removeprefix("."), path.stat().st_size
        if kind not in FILE_TYPES:
            raise Permanent(f"{self._name} takes files that end in {', '.join(FILE_TYPES)}, not {path.name}")
        if size > LARGEST_BYTES:
            raise Permanent(f"{path.name} has {size:,} bytes; {self._name} is sent {LARGEST_BYTES:,} at the most")
        with path.open("rb") as content:
            checksum = hashlib.file_digest(content, "sha256").hexdigest()
        return {"purpose": "fine-tune", "file_name": path.name, "file_type": kind, "checksum": checksum}

    def is_ready(self, file: str) -> bool:
        told = self._api.look(f"files/{quoted(file)}")
        if isinstance(told, Refusal):
            if told.status != 404:
                raise error_of(self._name, told)
            raise NotFound(f"{self._name}: there is no file {file}; a retry sends it again", cause=Cause.PROVIDER)
        found = self._api.typed(answers.File, told)
        status = found.processing_status
        if status in ("INVALID_FORMAT", "FAILED"):
            why = found.validation_report.error if found.validation_report else None
            cause = Cause.DATA if status == "INVALID_FORMAT" else cause_of_words(why)
            said = f"{self._name}: the file {file} was refused: {why or 'no reason was given'} ({status})"
            raise Permanent(said, cause=cause)
        return status == "COMPLETED" if status else found.processed is not False

    # -- jobs -----------------------------------------------------------------------------------------------------

    def start(self, order: Order, key: str) -> str:
        suffix = "-".join(filter(None, (order.suffix, key)))
        if len(suffix) > SUFFIX_LIMIT:
            room = SUFFIX_LIMIT - len(key) - 1
            raise Invalid(f'{self._name}: the suffix "{order.suffix}" is too long; {room} characters are the most')
        wishes = {
            "suffix": suffix,
            "random_seed": order.seed,
            "learning_rate": order.learning_rate,
            "batch_size": order.batch_size,
        }
        asked = self._priced(order) | {name: value for name, value in wishes.items() if value is not None}
        return self._api.typed(answers.Job, self._api.send("POST", "fine-tunes", json=asked)).id

    def _priced(self, order: Order) -> dict[str, Any]:
        """The part of an order that its price follows from."""
        if order.tuned == Tuned.FULL and order.lora_r is not None:
            raise Invalid(f"{self._name}: lora_r is asked for, and all weights are to be tuned; leave one out")
        sft = {"method": "sft", "train_on_inputs": "auto"}
        asked: dict[str, Any] = {
            "model": order.base_model,
            "training_file": order.training_file,
            "training_method": sft if order.method == Method.SFT else {"method": "dpo"},
        }
        if order.epochs is not None:
            asked["n_epochs"] = order.epochs
        if order.validation_file is not None:  # of itself it is never looked at; each look is billed
            asked |= {"validation_file": order.validation_file, "n_evals": order.epochs or 1}
        if order.tuned == Tuned.FULL:
            asked["training_type"] = {"type": "Full"}
        elif order.lora_r is not None:  # where it is not asked for, Together makes a LoRA of the model's usual rank
            asked["training_type"] = {"type": "Lora", "lora_r": order.lora_r, "lora_alpha": 2 * order.lora_r}
        return asked

    def find(self, key: str) -> str | None:
        return next((job.id for job in self._jobs.newest() if job.carries(key)), None)

    def listed(self) -> Iterator[RemoteJob]:
        for job in self._jobs.newest():
            yield answers.seen(job, job.events or ())

    def state(self, remote_id: str) -> RemoteJob:
        job, events = self._jobs.followed(remote_id)[-1]
        look = answers.seen(job, events)
        if job.state == RemoteState.CANCELLED:
            return self._as_billed(look)
        if look.state != RemoteState.RUNNING:
            return look
        since = (datetime.now(UTC) - RECENT).isoformat(timespec="seconds")
        try:
            rows = self._jobs.series(job.id, logged_at_from=since)
        except Permanent:  # it has none yet, or the server knows none: the look itself stands
            return look
        told = progress_of(reversed(rows))
        return replace(look, step=told["step"] or look.step, train_loss=told["train_loss"])

    def _as_billed(self, look: RemoteJob) -> RemoteJob:
        """A cancelled job with the steps that it had completed, which are what is billed."""
        try:
            rows = self._jobs.series(look.id)
        except Permanent:  # whether there were any is not known then
            return look
        step = max([look.step or 0, *(int(row["step"]) for row in rows)])
        return replace(look, step=step or None, is_billed=step > 0)

    def cancel(self, remote_id: str) -> RemoteState:
        job, _ = self._jobs.followed(remote_id, patience=HEIR_SHOWN)[-1]

        def send() -> RemoteState:
            return self._api.typed(answers.Job, self._api.send("POST", f"{path_of(job.id)}/cancel")).state

        return cancel_unless_ended(job.state, send, lambda: self._jobs.get(job.id).state)

    def result(self, remote_id: str) -> RemoteResult:
        chain = self._jobs.followed(remote_id)
        job = chain[-1][0]
        if job.state != RemoteState.SUCCEEDED or not job.tuned_model:
            said = f'{self._name}: job {job.id} is "{job.status}" and names no model; look for it at the provider'
            raise Permanent(said, cause=Cause.PROVIDER)
        warnings = [event.message or event.kind for _, events in chain for event in events if event.is_warning]
        series: tuple[dict[str, float], ...] = ()
        try:
            series = self._jobs.series(job.id)
        except Permanent as error:  # the model is there and paid for, with its figures or without
            warnings.append(f"the figures of the steps could not be read: {error}")
        return RemoteResult(
            model=job.tuned_model,
            trained_tokens=None if job.token_count is None else int(job.token_count),
            usd=job.usd,
            series=series,
            warnings=tuple(warnings),
        )

    # -- prices and models ----------------------------------------------------------------------------------------

    def estimate(self, order: Order) -> Estimate | None:
        told = self._api.send("POST", "fine-tunes/estimate-price", json=self._priced(order))
        price = self._api.typed(answers.Price, told)
        usd = price.estimated_total_price
        if not price.estimation_available or usd is None:  # such as while the file is still looked through
            return None
        counts = (price.estimated_train_token_count, price.estimated_eval_token_count)
        tokens = [int(count) for count in counts if count is not None]
        allowed = price.allowed_to_proceed is not False
        limit = "" if price.user_limit is None else f" of {price.user_limit:.2f} USD"
        why = "" if allowed else f"the price of {usd:.2f} USD is over the account's limit{limit}"
        return Estimate(usd, sum(tokens) if tokens else None, allowed, why)

    def offers(self) -> Iterator[Offer]:
        for model in self._api.typed(answers.Supported, self._api.get("fine-tunes/models/supported")).models:
            yield Offer(model, max_tokens=self._limits(model).max_seq_length_sft)
        for job in self._jobs.newest():
            if job.state == RemoteState.SUCCEEDED and job.tuned_model:
                yield Offer(job.tuned_model, tuned=True)

    def _limits(self, model: str) -> answers.Limits:
        told = self._api.look("fine-tunes/models/limits", model_name=model)
        if isinstance(told, Refusal) and told.status == 404:  # it is listed, and yet nothing is known of it
            return answers.Limits()
        return self._api.typed(answers.Limits, told)
