"""Looks at remote jobs: one by one while they are few, and all of an account's in one list when they are many."""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING

from api_worker.provider import RemoteState
from queue_app.job_type import Lag
from queue_app.store.rows import RemoteLook

if TYPE_CHECKING:
    from api_worker.provider import Provider, RemoteJob
    from queue_app.at_account import AtAccount
    from settings import ProviderSettings

FEW = 10  # jobs that are looked at one by one, however short the pause
REQUESTS_A_SECOND = 0.5  # that single looks may make at one account, each being up to two requests
LISTED = 2000  # jobs of an account that a look goes through, newest first


def lag_of(account: ProviderSettings) -> Lag:
    """How late an account may show a job that was created there."""
    return Lag(account.listing_lag_seconds, account.answer_seconds)


def is_busy(held: int, account: ProviderSettings) -> bool:
    """Whether an account has too many jobs to look at each of them."""
    return held > _single_looks(account)


def _single_looks(account: ProviderSettings) -> float:
    """How many jobs can be looked at one by one in the time between two looks at each."""
    return max(FEW, account.poll_seconds * REQUESTS_A_SECOND)


def pause_seconds(held: int, account: ProviderSettings) -> float:
    """The pause before a job's next look; with many of them each waits its turn, and is called when it has ended."""
    turns = max(1.0, held / _single_looks(account))
    return account.poll_seconds * turns * random.uniform(0.9, 1.1)


def look_at(provider: Provider, place: AtAccount, remote_id: str, account: ProviderSettings) -> RemoteJob | None:
    """A remote job as it is; None: it is one of many, and the last look at all of them showed nothing new."""
    if not is_busy(place.held(), account):
        return provider.state(remote_id)
    if place.begin_look(every_seconds=account.poll_seconds):
        place.remember([_kept(place.name, job) for job in islice(provider.listed(), LISTED)])
    seen = place.seen(remote_id)
    if seen is None or seen.ended or seen.state == RemoteState.UNKNOWN:
        return provider.state(remote_id)  # its end, in full; or a list that does not show it
    return None


def _kept(account: str, job: RemoteJob) -> RemoteLook:
    return RemoteLook(
        account=account,
        remote_id=job.id,
        job_id=job_of_key(job.key),
        key=job.key,
        state=job.state.value,
        ended=job.state.is_final,
        base_model=job.base_model,
        created_at=job.created_at,
    )


def job_of_key(key: str | None) -> str | None:
    """The id of the job that a submission key names."""
    parts = (key or "").split("-")
    return parts[1] if len(parts) > 1 and parts[0] == "ty" else None
