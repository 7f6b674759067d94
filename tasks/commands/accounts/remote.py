"""The jobs at a provider beside those of the store: whose they are, and which of ours nobody looks after."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from api_worker.provider import RemoteState
from api_worker.providers import open_provider
from queue_app.errors import Invalid, NotFound
from queue_app.lifecycle import FINAL
from queue_app.store.money import START
from tasks.hosting.looking import LISTED, job_of_key

if TYPE_CHECKING:
    from api_worker.provider import Provider, RemoteJob
    from queue_app.store import Job, Store
    from settings import ProviderSettings

WORTHLESS = (RemoteState.FAILED, RemoteState.CANCELLED)  # it costs nothing and has made nothing


@dataclass(frozen=True)
class Orphan:
    """A remote job that carries a key of ours, and that no job of the store looks after."""

    remote: RemoteJob
    job: Job | None  # whose key it is; None: the store has no such job
    has: str | None = None  # the remote job that it looks after instead

    @property
    def left_by(self) -> str | None:
        """The job whose own it is, and which has ended before it."""
        return self.job.id if self.job is not None and self.has == self.remote.id else None

    @property
    def why(self) -> str:
        if self.job is None:
            return "no job here has this key: it was started from another home, or the store was lost"
        if self.left_by is not None:
            return f"job {self.job.id} is {self.job.state} and looks after it no more; a retry does again"
        if self.has is not None:
            return f"job {self.job.id} has another one, {self.has}"
        return f"job {self.job.id} ({self.job.state}) knows of none"


def foreign(store: Store, name: str, account: ProviderSettings) -> Counter[str]:
    """How many unfinished jobs at an account are not of this store, by base model."""
    with closing(open_provider(name, account)) as provider:
        going = [job for job in islice(provider.listed(), LISTED) if not job.state.is_final]
    ours = _jobs(store, going)
    return Counter(job.base_model or "" for job in going if job_of_key(job.key) not in ours)


def orphans(store: Store, name: str, account: ProviderSettings) -> list[Orphan]:
    """The orphans at an account; what has failed or was cancelled there is none."""
    with closing(open_provider(name, account)) as provider:
        listed = [job for job in islice(provider.listed(), LISTED) if job_of_key(job.key) is not None]
        worth = [job for job in listed if job.state not in WORTHLESS]
        ours = _jobs(store, worth)
        looked_at = (_orphan(store, provider, job, ours.get(job_of_key(job.key) or "")) for job in worth)
        return [orphan for orphan in looked_at if orphan is not None]


def _orphan(store: Store, provider: Provider, remote: RemoteJob, job: Job | None) -> Orphan | None:
    if job is None:
        return Orphan(remote, None)
    memo = store.memos.get(job.id, START)
    if memo is None:
        return Orphan(remote, job)
    if memo.done:
        has = str(memo.value)
        is_its_own = has == remote.id or provider.state(has).id == remote.id  # restarted there under another id
        if not is_its_own:
            return Orphan(remote, job, has)
        return Orphan(remote, job, remote.id) if job.state in FINAL and not remote.state.is_final else None
    finds_it = memo.intended_at is not None and memo.key == remote.key and job.state not in FINAL
    return None if finds_it else Orphan(remote, job)


def adopt(store: Store, name: str, account: ProviderSettings, remote_id: str) -> Job:
    """Let the job whose key a remote job carries look after it.

    Raises:
        Invalid: it carries no key of ours, or its job has one of its own or is at work
        NotFound: the store has no such job
    """
    with closing(open_provider(name, account)) as provider:
        remote = provider.state(remote_id)
    job_id = job_of_key(remote.key)
    if job_id is None or remote.key is None:
        raise Invalid(f"{name}: job {remote.id} carries no key of ours, so no job can take it over")
    job = _jobs(store, [remote]).get(job_id)
    if job is None:
        raise NotFound(
            f"{name}: job {remote.id} is of job {job_id}, which is not here; `tuneyard providers cancel {name} "
            f"{remote.id}` stops it"
        )
    if job.kind != "finetune.hosted" or job.spec.get("provider", "sandbox") != name:
        raise Invalid(f"job {job.id} is no fine-tune at {name}")
    if store.bills.adopt(job, name, remote.key, remote.id):
        return job
    memo = store.memos.get(job.id, START)
    if memo is not None and memo.done:
        raise Invalid(f"job {job.id} has a remote job already: {memo.value}")
    raise Invalid(f"job {job.id} is at work in this moment, and looks for it by itself")


def cancel(store: Store, name: str, account: ProviderSettings, remote_id: str) -> RemoteState:
    """Stop a remote job of ours that nobody looks after.

    Raises:
        Invalid: it is not ours, or a job looks after it
    """
    with closing(open_provider(name, account)) as provider:
        remote = provider.state(remote_id)
        job_id = job_of_key(remote.key)
        if job_id is None:
            raise Invalid(
                f"{name}: job {remote.id} carries no key of ours: somebody else's is cancelled at the provider"
            )
        job = _jobs(store, [remote]).get(job_id)
        if job is not None and job.state not in FINAL and _orphan(store, provider, remote, job) is None:
            raise Invalid(f"job {job.id} looks after it; `tuneyard jobs cancel {job.id}` ends both")
        return provider.cancel(remote.id)


def _jobs(store: Store, remote: list[RemoteJob]) -> dict[str, Job]:
    """The jobs of the store whose keys remote jobs carry."""
    ids = {job_id for job in remote if (job_id := job_of_key(job.key))}
    return {job.id: job for job in store.read.ids(sorted(ids))}
