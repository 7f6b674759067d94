"""Celery, and all there is of it: one task, the doorbell, and the workers that answer it.

The settings follow from measurements on Celery 5.7 over Redis: with `ack_emulation` off there is no visibility timeout
that runs a long task twice, and no crash of a worker whose broker restarts; losing a message is the price, and the
sweeper pays it.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import worker_shutting_down
from kombu import pools
from kombu.exceptions import BatchPublishError, OperationalError  # type: ignore[attr-defined]
from redis.exceptions import RedisError

from queue_app.errors import Transient

if TYPE_CHECKING:
    from queue_app.runner import Runner

WAKE = "tuneyard.wake"
BATCH_SIZE = 200
CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    RedisError,
    OperationalError,
    BatchPublishError,
    OSError,
    AttributeError,  # see `Doorbell._answering`
)
log = logging.getLogger("tuneyard.worker")


def make_app(broker_url: str) -> Celery:
    """A Celery application on this broker."""
    app = Celery("tuneyard", broker=broker_url)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a broker's restart ends no training
        worker_hijack_root_logger=False,
        worker_send_task_events=True,  # for Flower
        task_send_sent_event=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "ack_emulation": False,
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )
    return app


class Doorbell:
    """Rings queues, and counts the rings that stand in them."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
        self.app = make_app(broker_url)

    def ring(self, rings: Mapping[str, Sequence[str]]) -> None:
        """Say of each job that it is due.

        Raises:
            Transient: the broker does not answer; some rings may have gone out
        """
        with (
            self._answering(),
            self.app.producer_pool.acquire(block=True, timeout=5) as producer,
            producer.batch(max_size=BATCH_SIZE),  # type: ignore[attr-defined]
        ):
            for queue, ids in rings.items():
                for job_id in ids:
                    self.app.send_task(WAKE, (job_id,), queue=queue, producer=producer, retry=False)

    def depth(self, queue: str) -> int:
        """How many rings stand in a queue.

        Raises:
            Transient: the broker does not answer
        """
        with self._answering(), self.app.connection_or_acquire() as connection, connection.channel() as channel:
            return int(channel.queue_declare(queue=queue, passive=False).message_count)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Begin with fresh connections after a broker went away: kombu 5.7 keeps the broken ones in its pools.

        Such a one shows as an AttributeError on the None that its transport has become.
        """
        try:
            yield
        except CONNECTION_ERRORS as error:
            pools.reset()
            self.app = make_app(self._broker_url)
            raise Transient(f"the broker does not answer ({error}); `tuneyard doctor` tells more") from error


def answer(runner: Runner, queue: str, job_id: str) -> None:
    """Run what is due now, whichever job was rung for; a ring that finds nothing due is counted as stale."""
    try:
        if not runner.run(queue=queue) and not runner.stopping.is_set():
            runner.store.count("stale_messages")
    except Transient as error:  # the sweeper rings again
        log.warning("job %s was not taken up: %s", job_id, error)


def work(runner: Runner, broker_url: str, *, queue: str, threads: int) -> None:
    """Answer a queue's doorbell until the process is told to stop.

    One thread means the solo pool: the job runs in the main thread, in the process whose death the store notices. The
    first SIGTERM or SIGINT asks bodies to hand their jobs back (see `Released`); the second one is Celery's cold stop.
    """
    app, runner = make_app(broker_url), replace(runner, ring=Doorbell(broker_url).ring)

    @app.task(name=WAKE)
    def wake(job_id: str) -> None:
        answer(runner, queue, job_id)

    @worker_shutting_down.connect(weak=False)
    def stop(**_: Any) -> None:
        runner.stopping.set()

    pool = ["--pool=solo"] if threads == 1 else ["--pool=threads", f"--concurrency={threads}"]
    name = f"{queue}-{os.getpid()}@{socket.gethostname()}"
    flags = ["--without-gossip", "--without-mingle", "--loglevel=WARNING"]
    warnings.simplefilter("ignore", SecurityWarning)  # about root and pickle: only JSON is accepted here
    app.worker_main(["--quiet", "worker", *pool, f"--queues={queue}", f"--hostname={name}", *flags])


def show_flower(broker_url: str, *, port: int) -> None:
    """Serve Flower on loopback: what workers and wake-ups do. The jobs themselves are in the store."""
    app = make_app(broker_url)
    app.start(["flower", "--address=127.0.0.1", f"--port={port}", "--logging=warning"])
