"""Together, over plain HTTP.

Its SDK (3.1.1) is left out: a `create` of its makes three requests, sends each of them up to three times, and cannot be
told otherwise for one call; besides, it needs an older `rich` than our own screen. What it knows of paths and fields is
heeded where it differs from the older OpenAPI document.

The list of jobs has neither filter nor pages. So the submission key ends the suffix, which ends the tuned model's name.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from api_worker import together_answers as answers
from api_worker.json_api import Answer, JsonApi
from api_worker.provider import Estimate, Method, Offer, RemoteResult, RemoteState, Tuned, progress_of
from api_worker.refusals import Meaning, Refusal, cause_of_words, error_of
from queue_app.errors import Invalid, NotFound, Permanent, Unauthorized, Unsettled
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
HEIR_SECONDS = 30.0  # pause while a job was restarted, and nothing shows yet as what
HEIR_SHOWN = timedelta(hours=1)  # after a restart that shows no heir, a cancel has nothing more to wait for

# Together does not document the error codes of its fine-tuning API. Of the statuses it documents 402 (the account's
# spending limit), and 503, 504, 524 and 529 as passing; `billing_limit` is the type of an event, and is heeded here in
# case it is a code as well. Neither is it documented how many jobs an account may have at once, nor how one too many is
# refused: a 429 that speaks of jobs is taken for that, any other for too many requests.
MEANINGS = {"billing_limit": Meaning.ACCOUNT}
OF_JOBS = re.compile(r"\b(?:jobs|fine-?tunes)\b", re.IGNORECASE)
SMALL_BALANCE = "; Together refuses an upload in this way also for want of balance (the least was 5 USD when last seen)"


class Api(JsonApi):
    """Together's, with the one request that is answered in headers."""

    def reserve(self, form: dict[str, str]) -> tuple[str, str] | str | Refusal:
        """A new file's id and the URL that takes its content, or the id of a file with that content that is there."""
        try:
            fields = {name: (None, value) for name, value in form.items()}
            response = self._client.post("files", files=fields, follow_redirects=False)
        except httpx.HTTPError as error:
            return self._clean(Refusal(f"no answer from {self._shown}: {str(error) or type(error).__name__}"))
        file, place = response.headers.get("x-together-file-id"), response.headers.get("location")
        if file and place and response.status_code < 400:
            return file, place
        if response.status_code == 409 and (known := _known_file(response)):
            return known
        answer = self._answer(response)
        if isinstance(answer, Refusal) and not response.is_redirect:
            return answer
        return Refusal(f"{self._shown} did not say where to put the file; check the account's base_url", 200)


class Account:
    """One account. Its key must be set."""

    takes = frozenset({"validation_file", "tuned", "epochs", "suffix", "seed", "learning_rate", "batch_size", "lora_r"})
    methods = frozenset(Method)

    def __init__(self, name: str, account: ProviderSettings) -> None:
        assert account.api_key is not None
        self._name = name
        self._api = Api(name, account.base_url or VENDOR_URL, account.api_key, _refusal)

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
        return self._api.typed(answers.File, self._api.send("POST", f"files/{_quoted(file)}/preprocess")).id

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
        told = self._api.look(f"files/{_quoted(file)}")
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
        return next((job.id for job in self._newest() if job.carries(key)), None)

    def listed(self) -> Iterator[RemoteJob]:
        for job in self._newest():
            yield answers.seen(job, job.events or ())

    def state(self, remote_id: str) -> RemoteJob:
        job, events = self._followed(remote_id)[-1]
        look = answers.seen(job, events)
        if job.state == RemoteState.CANCELLED:
            return self._as_billed(look)
        if look.state != RemoteState.RUNNING:
            return look
        since = (datetime.now(UTC) - RECENT).isoformat(timespec="seconds")
        try:
            rows = self._series(job.id, logged_at_from=since)
        except Permanent:  # it has none yet, or the server knows none: the look itself stands
            return look
        told = progress_of(reversed(rows))
        return replace(look, step=told["step"] or look.step, train_loss=told["train_loss"])

    def _as_billed(self, look: RemoteJob) -> RemoteJob:
        """A cancelled job with the steps that it had completed, which are what is billed."""
        try:
            rows = self._series(look.id)
        except Permanent:  # whether there were any is not known then
            return look
        step = max([look.step or 0, *(int(row["step"]) for row in rows)])
        return replace(look, step=step or None, is_billed=step > 0)

    def cancel(self, remote_id: str) -> RemoteState:
        job, _ = self._followed(remote_id, patience=HEIR_SHOWN)[-1]
        if job.state.is_final or job.state == RemoteState.CANCELLING:
            return job.state
        try:
            return self._api.typed(answers.Job, self._api.send("POST", f"{_path(job.id)}/cancel")).state
        except Permanent:  # it may have ended in between
            now = self._job(job.id).state
            if not now.is_final:
                raise
            return now

    def result(self, remote_id: str) -> RemoteResult:
        chain = self._followed(remote_id)
        job = chain[-1][0]
        if job.state != RemoteState.SUCCEEDED or not job.tuned_model:
            said = f'{self._name}: job {job.id} is "{job.status}" and names no model; look for it at the provider'
            raise Permanent(said, cause=Cause.PROVIDER)
        warnings = [event.message or event.kind for _, events in chain for event in events if event.is_warning]
        series: tuple[dict[str, float], ...] = ()
        try:
            series = self._series(job.id)
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
        for job in self._newest():
            if job.state == RemoteState.SUCCEEDED and job.tuned_model:
                yield Offer(job.tuned_model, tuned=True)

    def _limits(self, model: str) -> answers.Limits:
        told = self._api.look("fine-tunes/models/limits", model_name=model)
        if isinstance(told, Refusal) and told.status == 404:  # it is listed, and yet nothing is known of it
            return answers.Limits()
        return self._api.typed(answers.Limits, told)

    # -- what is asked for in more than one place -----------------------------------------------------------------

    def _job(self, remote_id: str) -> answers.Job:
        return self._api.typed(answers.Job, self._api.get(_path(remote_id)))

    def _newest(self) -> list[answers.Job]:
        """The account's jobs, newest first; in which order Together lists them is not documented."""
        jobs = self._api.typed(answers.Jobs, self._api.get("fine-tunes")).data
        return sorted(jobs, key=lambda job: job.rank, reverse=True)

    def _events(self, job: answers.Job) -> list[answers.Event]:
        told = job.events
        if not told and job.state != RemoteState.QUEUED:  # then there is nothing to tell yet
            told = self._api.typed(answers.Events, self._api.get(f"{_path(job.id)}/events")).data
        return sorted(told or [], key=lambda event: event.created_at or "")

    def _series(self, job_id: str, **since: str) -> tuple[dict[str, float], ...]:
        return answers.series(self._api.typed(answers.Metrics, self._api.get(f"{_path(job_id)}/metrics", **since)))

    def _followed(
        self, remote_id: str, *, patience: timedelta | None = None
    ) -> list[tuple[answers.Job, list[answers.Event]]]:
        """The job, the one it was restarted as, and so on, each with its events; the last one is what counts.

        Raises:
            Unsettled: it was restarted, and nothing shows yet as what; with `patience`, not longer than that
        """
        job: answers.Job | None = self._job(remote_id)
        chain = []
        while job is not None:
            events = self._events(job)
            chain.append((job, events))
            job = self._heir(job, events, patience)
        return chain

    def _heir(self, job: answers.Job, events: list[answers.Event], patience: timedelta | None) -> answers.Job | None:
        """The job that this one was restarted as: a later one, which its events name, or else one like it in the list.

        Where an event names it is not documented, so it is looked for in the message. The heir's own events may name
        the job that it goes on with, which is no later one.
        """
        restarts = [event for event in events if event.kind == "job_restarted"]
        if job.state == RemoteState.SUCCEEDED or not (restarts or job.state == RemoteState.FAILED):
            return None
        ids = {found for event in restarts for found in answers.JOB_ID.findall(event.message or "")} - {job.id}
        kin = [self._named(one) for one in ids]
        if not any(one.rank > job.rank for one in kin):
            kin += self._kin(job, restarts)
        later = [one for one in kin if one.rank > job.rank]
        if later or not restarts or not job.state.is_final:
            return max(later, key=lambda one: one.rank, default=None)
        since = events[events.index(restarts[-1]) :]
        if kin and any(event.is_complaint for event in since):  # it is the heir itself, and has ended by itself
            return None
        if patience is not None and datetime.now(UTC) - restarts[-1].at > patience:
            return None
        said = f"{self._name}: job {job.id} was restarted there, and its list does not show yet as which one"
        raise Unsettled(f"{said}; it is looked for again every {HEIR_SECONDS:.0f} s", HEIR_SECONDS)

    def _kin(self, job: answers.Job, restarts: list[answers.Event]) -> list[answers.Job]:
        """Those of the list that were made for the same submission: by the key, or like a restart just after one."""
        listed = self._newest()
        own = next((one for one in listed if one.id == job.id and one.key), job)  # a list is sure to name the key
        at = restarts[-1].at if restarts else None
        return [one for one in listed if one.is_kin_of(own) or (at is not None and one.may_follow(own, at))]

    def _named(self, remote_id: str) -> answers.Job:
        """A job that an event names; one that is not there may be so in a moment."""
        told = self._api.look(_path(remote_id))
        if isinstance(told, Refusal) and told.status == 404:
            said = f"{self._name}: a restart goes on as job {remote_id}, which is not there yet"
            raise Unsettled(said, HEIR_SECONDS)
        return self._api.typed(answers.Job, told)


def _refusal(status: int, body: Answer) -> Refusal:
    """What a refusal says: in `error`, as an object or a text, or at the top."""
    told = body.get("error", body)
    told = told if isinstance(told, dict) else {"message": told}
    code = told.get("code") or told.get("type")
    word = code if isinstance(code, str) else None
    said = str(told.get("message") or told.get("detail") or "no reason was given")
    meaning = Meaning.SLOT if status == 429 and OF_JOBS.search(said) else MEANINGS.get(word or "")
    return Refusal(said, status, word, meaning=meaning)


def _known_file(response: httpx.Response) -> str | None:
    try:
        told = response.json()
    except ValueError:
        return None
    file = told.get("file_id") if isinstance(told, dict) else None
    return file if isinstance(file, str) else None


def _path(job_id: str) -> str:
    return f"fine-tunes/{_quoted(job_id)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")
