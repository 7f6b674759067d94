"""The truth: jobs, their events and everything else that must survive. The only place that speaks SQL."""

from typing import TYPE_CHECKING, Any

from queue_app.store.database import Database
from queue_app.store.new_job import NewJob
from queue_app.store.readings import Readings
from queue_app.store.rows import Account, Ancestor, Artifact, Bill, Job, JobEvent, Memo, Pool, RemoteLook, Run, Upload

if TYPE_CHECKING:
    from queue_app.store.jobs import Store
else:

    def __getattr__(name: str) -> Any:  # `Store` once it is wanted: who only reads does without SQLAlchemy
        if name != "Store":
            raise AttributeError(name)
        from queue_app.store.jobs import Store

        return Store


__all__ = [
    "Account",
    "Ancestor",
    "Artifact",
    "Bill",
    "Database",
    "Job",
    "JobEvent",
    "Memo",
    "NewJob",
    "Pool",
    "Readings",
    "RemoteLook",
    "Run",
    "Store",
    "Upload",
]
