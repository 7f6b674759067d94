"""`finetune.hosted`: a fine-tune at a provider, paid for once and waited for without a worker."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from pydantic import Field

from api_worker.provider import Method, RemoteState, Tuned
from api_worker.providers import account_of, open_provider
from queue_app.at_account import server_of
from queue_app.errors import Transient, TuneyardError
from queue_app.job_type import ArtifactRef, Attempt, PollAgain, Result, Spec, TakenBack, job
from tasks.hosting.billing import bill_end, billed
from tasks.hosting.desk import Desk
from tasks.hosting.looking import lag_of, look_at, pause_seconds
from tasks.hosting.reporting import progress_of, why_not, write_report
from tasks.hosting.training_file import origin

if TYPE_CHECKING:
    from settings import Settings

FILE_SECONDS = 5.0  # pause while a provider looks through a file


class HostedFinetune(Spec):
    """What to fine-tune, where, on what."""

    dataset: ArtifactRef = Field(description="the examples to train on")
    holdout: ArtifactRef | None = Field(None, description="examples that the provider measures on while it trains")
    provider: str = Field("sandbox", description="an account of the settings; the sandbox trains nothing and is free")
    base_model: str = Field(description="the provider's name for the model to start from")
    method: Method = Field(Method.SFT, description="sft: from answers; dpo: from preferred and rejected answers")
    tuned: Tuned | None = Field(None, description="lora or full; default: the provider's choice")
    epochs: int = Field(3, ge=1, le=50, description="passes over the dataset; the price grows with them")
    suffix: str | None = Field(None, min_length=1, max_length=64, description="shows in the tuned model's name")
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="of whatever the provider draws at random")
    learning_rate: float | None = Field(None, gt=0, lt=1, description="default: the provider's choice")
    batch_size: int | None = Field(None, ge=1, description="examples a step; default: the provider's choice")
    lora_r: int | None = Field(None, ge=1, description="rank of a LoRA; default: the provider's choice")
    cap_usd: float | None = Field(None, ge=0, description="the most that this may cost; more waits for approval")

    def done_at(self, settings: Settings) -> str:
        """The account's server: a rehearsal at another one is not the work itself."""
        try:
            return server_of(settings.provider(self.provider))
        except KeyError:  # the body says what is wrong with the name
            return ""


class HostedModel(Result):
    """The tuned model at the provider, and what the provider tells of its training."""

    model: str = Field(description="the name to call it by")
    provider: str
    base_model: str
    remote_job: str = Field(description="the provider's id of the job")
    examples: int
    holdout_examples: int
    dropped: dict[str, int] = Field(description="what the provider's format cannot hold, by field")
    trained_tokens: int | None = Field(description="what the provider bills")
    usd: float | None = Field(description="what it cost, where the provider tells")
    steps: int | None
    train_loss: float | None = Field(description="at the last step that tells one")
    holdout_loss: float | None = Field(description="at the last step that tells one")
    warnings: tuple[str, ...] = Field(description="the provider's own words, and what ends there soon")
    report: str = Field(description="artifact: every step's figures, and the result files as the provider gave them")


class NothingStarted(TuneyardError):
    """There is no remote job to take back."""

    undone = True


def cancel_remote(spec: HostedFinetune, attempt: Attempt) -> TakenBack:
    """Cancel the remote job, if there is one. What it has finished is paid for, and a retry collects it."""
    account = account_of(attempt.settings, spec.provider)
    with closing(open_provider(spec.provider, account)) as provider:
        lag = lag_of(account)
        try:
            remote_id = attempt.once("start", _start_nothing, find=provider.find, undo=provider.cancel, lag=lag)
        except NothingStarted:
            return TakenBack()
        state = provider.cancel(remote_id)
        if not state.is_final:
            raise Transient(f"{spec.provider}: job {remote_id} is {state} there")
        if state != RemoteState.SUCCEEDED:
            bill_end(attempt.at(spec.provider), provider.state(remote_id))
    forget = () if state == RemoteState.SUCCEEDED else ("start",)
    return TakenBack(forget, {"remote_job": remote_id, "remote": state.value})


@job("finetune.hosted", queues=("api",), on_cancel=cancel_remote)
def hosted_finetune(spec: HostedFinetune, attempt: Attempt) -> HostedModel | PollAgain:
    """Fine-tune at a hosted provider."""
    account, place = account_of(attempt.settings, spec.provider), attempt.at(spec.provider)
    datasets = {"dataset": spec.dataset, "holdout": spec.holdout}
    with closing(open_provider(spec.provider, account)) as provider, place.asked():
        desk = Desk(attempt, spec.provider, account, provider)
        order = desk.order(spec, datasets)
        if order is None:
            return PollAgain(FILE_SECONDS)
        remote_id = desk.start(order, spec.cap_usd)
        remote = look_at(provider, place, remote_id, account)
        if remote is not None:
            attempt.report(**progress_of(remote))
        if remote is None or not remote.state.is_final:
            desk.hold_slot(order)
            return PollAgain(pause_seconds(place.held(), account))
        if remote.state != RemoteState.SUCCEEDED:
            raise why_not(place, remote, origin(datasets))
        place.leave_slot()
        made = provider.result(remote.id)
        place.settle(billed(desk.rows, desk.wanted(order), made))
    return HostedModel(
        model=made.model,
        provider=spec.provider,
        base_model=spec.base_model,
        remote_job=remote.id,
        **desk.sent(),
        trained_tokens=made.trained_tokens,
        usd=made.usd,
        steps=int(made.series[-1]["step"]) if made.series else None,
        train_loss=made.last("train_loss"),
        holdout_loss=made.last("full_valid_loss", "valid_loss"),
        warnings=(*made.warnings, *desk.warnings(desk.wanted(order))),
        report=attempt.artifacts.publish(
            write_report(attempt.workdir, order, remote.id, made), kind="hosted-model", name=made.model
        ),
    )


def _start_nothing(_: str) -> str:
    raise NothingStarted
