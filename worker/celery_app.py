"""The Celery object, and every setting with the failure that it prevents.

Redis, or another broker, carries only "go" messages with a job's id; Postgres is the truth. So a
message may be lost, doubled or late without hurting a job.
"""

from __future__ import annotations

import time
from typing import Any, Final

import celery
import kombu.exceptions
import kombu.pools
import redis.exceptions
import structlog
from celery.signals import setup_logging

from worker import logs
from worker.settings import Settings, load

_log = structlog.get_logger()

#: Steps and their undo.
QUEUE: Final = "imports"
#: The same of jobs that wait for others of their organisation: rows of batches, and all beyond an
#: organisation's first few at a time. A worker takes from its queues in turns, so an import that
#: comes alone waits for the next free thread at most, however many of these there are.
BATCH_QUEUE: Final = "batches"
#: The sweep alone: it must not wait behind the jobs that it rescues.
CONTROL_QUEUE: Final = "control"
#: After a failed publish nothing is sent for this long: a dead broker must not slow every submit
#: down, and the sweep sends what was left out.
_BROKER_REST_SECONDS: Final = 1.0
#: How long a caller of the API waits for the broker.
_PATIENCE_SECONDS: Final = 1.0


def configuration(settings: Settings) -> dict[str, Any]:
    """Returns all of Celery's settings."""
    return {
        "broker_url": settings.broker_url.get_secret_value(),
        "imports": ("worker.tasks",),
        # State lives in Postgres. A result backend costs a tenth of the throughput and would keep
        # copies of errors in Redis.
        "result_backend": None,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        # JSON only: a pickled message can run code.
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": QUEUE,
        "task_queues": {QUEUE: {}, BATCH_QUEUE: {}, CONTROL_QUEUE: {}},
        "task_routes": {"imports.sweep": {"queue": CONTROL_QUEUE}},
        # Late: a message is acknowledged after its work, so a killed worker's message comes back.
        # The guard makes that harmless; the sweep is there when it does not come back.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # A failed step is written to its row by the task itself; the message has done its duty.
        "task_acks_on_failure": True,
        # One message a free slot: a fuller window would sit in a busy worker while another is idle.
        "worker_prefetch_multiplier": 1,
        # Restarting children costs half the throughput, and we do not leak.
        "worker_max_tasks_per_child": None,
        "broker_transport_options": {
            # Longer than any step and any countdown (15 s), short enough to matter. Below a
            # countdown Redis would deliver the message again and again.
            "visibility_timeout": 60,
            # kombu looks for unacknowledged messages every interval x throttle; the defaults make
            # that about 100 s whatever the visibility timeout is.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            # The default of 10 runs out when many threads acknowledge at once.
            "max_connections": 256,
            # A half-open connection is noticed instead of blocking a publish for ever.
            "socket_timeout": 30,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 25,
            # A submit must not wait for a broker that refuses connections: kombu would try three
            # times in six seconds. Whoever may wait says so: a worker's consumer, a publish with a
            # retry policy.
            "max_retries": 0,
        },
        "visibility_timeout": 60,
        # A worker that cannot reach the broker keeps trying, also at start; its supervisor and its
        # health check decide when that is too long.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Publishing the next step waits out a short restart of the broker. Longer ones are the
        # sweep's: the row says what is due, so nothing is gained by holding a thread here.
        "task_publish_retry_policy": {
            "max_retries": 5,
            "interval_start": 0.1,
            "interval_step": 0.3,
            "interval_max": 1.0,
        },
        # On loss of the connection the broker gives our messages to others; the guard keeps those
        # copies from working at the same time, so the running steps need not be cancelled.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Events feed Flower (-E); the sent-event doubles their cost and tells Flower nothing new.
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        # Our own logging, with redaction; Celery's would replace the handlers.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "timezone": "UTC",
        # No file that a second beat could corrupt: the schedule is this one line.
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": 1.0,
        "beat_schedule": {
            "sweep": {
                "task": "imports.sweep",
                "schedule": settings.sweep_seconds,
                # A sweep that waited longer than this is followed by a fresher one.
                "options": {"expires": max(settings.sweep_seconds * 5, 5.0)},
            }
        },
    }


#: How a broker that is away shows itself.
BROKER_ERRORS: Final = (
    kombu.exceptions.OperationalError,
    kombu.exceptions.ConnectionLimitExceeded,
    redis.exceptions.RedisError,
    OSError,
)

app = celery.Celery("trunkline", set_as_current=False)
app.add_defaults(lambda: configuration(load()))


@setup_logging.connect(weak=False)
def _configure_logging(**_: object) -> None:
    """Takes the place of Celery's logging set-up in worker, beat and Flower."""
    settings = load()
    logs.configure(level=settings.log_level, log_format=settings.log_format)


def _impatient_connection() -> Any:  # noqa: ANN401 -- kombu is untyped
    """A connection for somebody who waits: a broker that hangs counts as one that is away."""
    patience = {
        "socket_timeout": _PATIENCE_SECONDS,
        "socket_connect_timeout": _PATIENCE_SECONDS,
        "max_retries": 0,
    }
    return app.connection_for_write(transport_options=patience)


class Sender:
    """Hands jobs to the workers: best effort, never an exception, never a long wait."""

    def __init__(self) -> None:
        self._resting_until = 0.0
        self._producers: Any = None

    def start(self, import_id: str, *, backlog: bool = False) -> bool:
        """Asks a worker to start or resume a job; False if the broker did not take the message.

        Safe to repeat: yes.
        """
        if time.monotonic() < self._resting_until:
            return False
        if self._producers is None:
            self._producers = kombu.pools.producers[_impatient_connection()]
        try:
            with self._producers.acquire(block=True, timeout=_PATIENCE_SECONDS) as producer:
                app.send_task(
                    "imports.start",
                    args=[import_id],
                    queue=BATCH_QUEUE if backlog else QUEUE,
                    producer=producer,
                    retry=False,
                    ignore_result=True,
                )
        except BROKER_ERRORS as error:
            self._resting_until = time.monotonic() + _BROKER_REST_SECONDS
            _log.warning("broker unavailable, the sweep will send", error=type(error).__name__)
            return False
        return True


def ping_broker() -> None:
    """Connects to the broker.

    Raises:
        OSError: it cannot be reached within two seconds.
    """
    try:
        with _impatient_connection() as connection:
            connection.ensure_connection(max_retries=0, timeout=2)
    except BROKER_ERRORS as error:
        raise OSError("the broker cannot be reached") from error


def queue_length(queue: str) -> int:
    """Returns how many messages wait in one queue of the broker for a worker.

    Raises:
        OSError: the broker cannot be reached.
    """
    try:
        with app.connection_for_read() as connection:
            declared = connection.default_channel.queue_declare(queue, passive=True)
            length: int = declared.message_count
            return length
    except BROKER_ERRORS as error:
        raise OSError("the broker cannot be reached") from error
    except kombu.exceptions.ChannelError:
        # RabbitMQ and Redis both say so of a queue that nothing was ever sent to.
        return 0
