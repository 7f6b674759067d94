"""The truth: jobs, their events and everything else that must survive. The only place that speaks SQL."""

from queue_app.store.database import Database
from queue_app.store.jobs import Store
from queue_app.store.new_job import NewJob
from queue_app.store.tables import Artifact, Job, JobEvent, Memo, Run

__all__ = ["Artifact", "Database", "Job", "JobEvent", "Memo", "NewJob", "Run", "Store"]
