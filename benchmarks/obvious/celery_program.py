"""Fine-tunes at an account of OpenAI's shape, as one would write them with Celery, Redis and the SDK at hand."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import openai
from celery import Celery, Task
from redis import Redis

from benchmarks.hosted.accounts import KEY, POLL_SECONDS

# A fine-tune takes an hour or more, and Celery redelivers after one; at the sandbox it takes 3 s.
SEMAPHORE_SECONDS, REDELIVERED_SECONDS = 12.0, 30.0


def obvious_app(broker_url: str) -> Celery:
    """One long task a job, late acknowledgement, retries with back-off, a semaphore in Redis, the SDK as it comes."""
    app = Celery("obvious", broker=broker_url)
    app.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        broker_transport_options={"visibility_timeout": REDELIVERED_SECONDS},
    )
    redis: Any = Redis(unix_socket_path=broker_url.removeprefix("redis+socket://"), decode_responses=True)

    @app.task(bind=True, name="fine_tune", autoretry_for=(Exception,), retry_backoff=1, max_retries=10)
    def fine_tune(self: Task[Any, Any], name: str, account: tuple[str, int], path: str) -> None:
        url, slots = account
        token = _take(redis, f"slots {url}", slots)
        if token is None:
            raise self.retry(countdown=1, max_retries=None)
        try:
            redis.hset("models", name, fine_tuned(openai.OpenAI(api_key=KEY, base_url=url), name, path))
        finally:
            redis.zrem(f"slots {url}", token)

    return app


def _take(redis: Any, name: str, slots: int) -> str | None:
    """A place in a semaphore whose holders are forgotten after a time."""
    token, now = uuid.uuid4().hex, time.time()
    redis.zremrangebyscore(name, 0, now - SEMAPHORE_SECONDS)
    redis.zadd(name, {token: now})
    if redis.zrank(name, token) < slots:
        return token
    redis.zrem(name, token)
    return None


def fine_tuned(client: openai.OpenAI, name: str, path: str) -> str:
    """A fine-tune as the SDK's own documents do it, and the model's name."""
    with Path(path).open("rb") as content:
        file = client.files.create(file=content, purpose="fine-tune")
    made = client.fine_tuning.jobs.create(model="sandbox-base", training_file=file.id, metadata={"tuneyard": name})
    while made.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(POLL_SECONDS)
        made = client.fine_tuning.jobs.retrieve(made.id)
    return made.fine_tuned_model or ""
