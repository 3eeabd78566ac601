"""The Celery object, and every setting with the failure that it prevents.

Redis, or another broker, carries only "go" messages with a job's id; Postgres is the truth. So a
message may be lost, doubled or late without hurting a job.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import amqp.exceptions
import celery
import celery.app.events
import celery.worker.request
import celery.worker.state
import kombu.exceptions
import kombu.pools
import kombu.utils.scheduling
import redis.exceptions
import structlog
from celery import signals
from celery.events.dispatcher import EventDispatcher

from worker import logs
from worker.broker import Amqp, lengths_of
from worker.domain.errors import BY_CODE, TrunklineError
from worker.domain.job import JOB_QUEUES, JobQueue
from worker.settings import Settings, load

_log = structlog.get_logger()

#: Steps and their undo, as ``imports.twilio``; under its own name all that is not about one job.
#: A worker takes from its queues in turns: an import waits for the next free threads, however many
#: wait for a vendor that is slow.
QUEUE: Final = "imports"
#: The same of jobs that wait for others of their organisation, as ``batches.twilio``: rows of
#: batches, and all beyond an organisation's first few at a time. So an import that comes alone
#: waits behind none of these.
BATCH_QUEUE: Final = "batches"
#: Jobs that had begun when their worker died: they go on before others begin, however many wait.
RESCUE_QUEUE: Final = "rescues"
#: Jobs that gave way to those of other vendors between two steps: they go on in turns with all.
RELAY_QUEUE: Final = "relays"
#: The sweep alone: it must not wait behind the jobs that it rescues.
CONTROL_QUEUE: Final = "control"
#: After a failed publish nothing is sent for this long: a dead broker must not slow every submit
#: down, and the sweep sends what was left out.
_BROKER_REST_SECONDS: Final = 1.0
#: How long a caller of the API waits for the broker.
PATIENCE_SECONDS: Final = 1.0


def queue_name(queue: JobQueue) -> str:
    """Returns the name that a queue has in the broker."""
    return f"{BATCH_QUEUE if queue.backlog else QUEUE}.{queue.provider}"


#: What every worker reads, and beside it a queue of its own. BATCH_QUEUE itself: the release before
#: this one sends to it, while both work side by side.
SHARED_QUEUES: Final = (
    *(QUEUE, RESCUE_QUEUE, RELAY_QUEUE, CONTROL_QUEUE, BATCH_QUEUE),
    *map(queue_name, JOB_QUEUES),
)

REDIS_OPTIONS: Final[Mapping[str, Any]] = {
    # Longer than any step and any countdown (2 s), short enough to matter. Below a
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
    "queue_order_strategy": "worker.celery_app:Turns",
    # No message has a priority. kombu would look into four lists for each queue, each time.
    "priority_steps": [0],
}
RABBIT_OPTIONS: Final[Mapping[str, Any]] = {
    # A message counts as sent when the queue has it: without, a restart of RabbitMQ takes what was
    # on its way, and the sweep finds out seconds later.
    "confirm_publish": True,
    # As with Redis, a half-open connection does not block a publish for ever, and no submit waits.
    "read_timeout": 30,
    "write_timeout": 30,
    "connect_timeout": 3,
    "max_retries": 0,
}


class Turns(kombu.utils.scheduling.round_robin_cycle):
    """In which order a worker looks into its queues, with Redis.

    The sweep first: it is one message a second, and whatever it rescues waits for it. Then jobs
    that had begun, but not twice running, with or without a sweep in between; then all others in
    turns.
    """

    def rotate(self, last_used: str) -> str:
        """Puts the queue that a message has just come from last."""
        super().rotate(last_used)  # type: ignore[no-untyped-call] # kombu is untyped
        # After a sweep whose turn it was before it stands: else the sweep, which looks every
        # second, would let begun jobs pass all others for as long as threads are free one by one.
        is_another = last_used not in {CONTROL_QUEUE, RESCUE_QUEUE}
        first = (CONTROL_QUEUE, *((RESCUE_QUEUE,) if is_another else ()))
        for queue in reversed(first):
            if queue in self.items:
                self.items.insert(0, self.items.pop(self.items.index(queue)))
        return last_used


def configuration(settings: Settings) -> dict[str, Any]:
    """Returns all of Celery's settings."""
    rabbit = settings.broker_url.get_secret_value().startswith(("amqp://", "amqps://"))
    # Copied to several nodes where there are several; Redis takes no notice of that.
    queue = {"queue_arguments": {"x-queue-type": "quorum"}} if rabbit else {}
    return {
        "broker_url": settings.broker_url.get_secret_value(),
        "imports": ("worker.tasks", "worker.pulse", "worker.exporter"),
        # State lives in Postgres. A result backend costs a tenth of the throughput and would keep
        # copies of errors in Redis.
        "result_backend": None,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        # JSON only: a pickled message can run code.
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": QUEUE,
        "task_queues": {name: dict(queue) for name in SHARED_QUEUES},
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
        "broker_transport_options": dict(RABBIT_OPTIONS if rabbit else REDIS_OPTIONS),
        # RabbitMQ alone: a half-open connection is noticed by both sides within twenty seconds.
        "broker_heartbeat": 10,
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
        "beat_scheduler": "worker.beat:Scheduler",
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
    # No connection or producer was free: the others wait for the broker.
    kombu.exceptions.LimitExceeded,
    redis.exceptions.RedisError,
    amqp.exceptions.AMQPError,
    OSError,
)

#: What is left in the broker of the queue of a worker that is gone goes, too, after this.
_OWN_QUEUE_SECONDS: Final = 600
_own_queue: Any = None

#: Events wait for each other for so long, and until they are so many.
_EVENTS_SECONDS: Final = 0.1
_EVENTS_AT_ONCE: Final = 500

#: Of an exception that shows itself as they usually do: its class, called.
_CLASS_NAME: Final = re.compile(r"[A-Za-z_.]+(?=\()")


def shown_error(exception: str) -> tuple[str, str]:
    """Returns what Flower may show of a task's exception: in short, and instead of a traceback.

    Our own errors speak for themselves. What anything else says may hold whatever it was busy with,
    SQL and its parameters for one; its name is enough to find it in the log.
    """
    code = exception.partition(":")[0]
    if code in BY_CODE:
        return code, exception
    named = _CLASS_NAME.match(exception)
    name = named[0] if named else "Exception"
    return name, f"{name}: not foreseen; the worker's log tells where."


class ShownRequest(celery.worker.request.Request):  # type: ignore[misc]
    """A message that is worked on, told to Flower without what only its log should hold."""

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002, ANN401 -- Celery's name
        """Sends an event; one that tells of an error names it, without frames of our code."""
        if "exception" in fields:
            fields["exception"], fields["traceback"] = shown_error(fields["exception"])
        super().send_event(type, **fields)


class _ShownTask(celery.Task):  # type: ignore[misc]
    """Every task of ours."""

    # By its name: Celery makes a class of its own of it, in the worker alone.
    Request = "worker.celery_app:ShownRequest"


class Dispatcher(EventDispatcher):  # type: ignore[misc]
    """Sends the events of a tenth of a second as one message.

    Celery's own publishes whatever there is as soon as the worker's loop turns, which is a message
    for nearly every event: three a step. Nobody who looks at Flower sees the difference; a worker
    that dies takes the last tenth of a second with it.
    """

    def __init__(self, *args: Any, on_send_buffered: Any = None, **options: Any) -> None:  # noqa: ANN401 -- Celery is untyped
        #: Has the loop flush its consumer's dispatcher: after a reconnect another one than this.
        self._flush_soon = on_send_buffered
        self._is_awaited = False
        buffered = None if on_send_buffered is None else self._send_soon
        super().__init__(*args, on_send_buffered=buffered, buffer_limit=_EVENTS_AT_ONCE, **options)

    def _send_soon(self) -> None:
        # Of two threads that both see it unset, the second flushes what is left: nothing.
        if not self._is_awaited:
            self._is_awaited = True
            # The consumer's: kombu forgets which one is current when a connection is lost.
            hub: Any = self._flush_soon.__self__.hub
            # By the loop's own thread: its timer is not for others.
            hub.call_soon(hub.call_later, _EVENTS_SECONDS, self._send_now)

    def _send_now(self) -> None:
        self._is_awaited = False
        self._flush_soon()


class _Events(celery.app.events.Events):  # type: ignore[misc]
    dispatcher_cls = "worker.celery_app:Dispatcher"


app = celery.Celery(
    "trunkline", amqp=Amqp, events=_Events, task_cls=_ShownTask, set_as_current=False
)


def _defaults() -> dict[str, Any]:
    # Only Celery's own command line starts a Flower; a test runner may be given the word, too.
    if "celery.bin.celery" in sys.modules:
        require_flower_login(sys.argv[1:], os.environ)
    return configuration(load())


app.add_defaults(_defaults)


@signals.setup_logging.connect(weak=False)
def _configure_logging(**_: object) -> None:
    """Takes the place of Celery's logging set-up in worker, beat and Flower."""
    settings = load()
    logs.configure(level=settings.log_level, log_format=settings.log_format)
    logs.adopt_last_words()


@signals.celeryd_after_setup.connect(weak=False)
def _read_own_queue(sender: str, **_: object) -> None:
    global _own_queue  # noqa: PLW0603 -- one of each per process
    name = f"own.{sender}"
    _own_queue = kombu.entity.Queue(  # type: ignore[no-untyped-call]
        name,
        # The default exchange: it needs no binding, which would outlive the worker.
        kombu.entity.Exchange(""),  # type: ignore[no-untyped-call]
        routing_key=name,
        auto_delete=True,
        expires=_OWN_QUEUE_SECONDS,
    )
    app.amqp.queues.select_add(_own_queue)


def own_queue() -> Any:  # noqa: ANN401 -- kombu is untyped
    """Returns the queue that only this worker reads; None in a process that is none.

    By it a worker makes sure that it still takes work, and while workers of two releases run, one
    of the newer takes a job that needs it: the broker hands its messages to those who wait in
    turns, so that each of them can reach a worker of the older release.
    """
    return _own_queue


def impatient_connection() -> Any:  # noqa: ANN401 -- kombu is untyped
    """A connection for somebody who waits: a broker that hangs counts as one that is away."""
    patience = {
        # Redis, RabbitMQ
        **dict.fromkeys(("socket_timeout", "socket_connect_timeout"), PATIENCE_SECONDS),
        **dict.fromkeys(("read_timeout", "write_timeout", "connect_timeout"), PATIENCE_SECONDS),
        "max_retries": 0,
    }
    return app.connection_for_write(transport_options=patience)


#: What of Celery receives this process' messages: it alone knows the way to Flower.
_consumer: Any = None


@signals.worker_ready.connect(weak=False)
def _remember_consumer(sender: Any, **_: object) -> None:  # noqa: ANN401 -- Celery is untyped
    global _consumer  # noqa: PLW0603 -- one a process
    _consumer = sender


def is_stopping() -> bool:
    """Tells whether this worker has been asked to stop."""
    asked = (celery.worker.state.should_stop, celery.worker.state.should_terminate)
    # As Celery asks itself: an exit code of 0 is a yes.
    return any(code is not None and code is not False for code in asked)


def is_full() -> bool:
    """Tells whether this worker has no thread free."""
    return (
        _consumer is not None and len(celery.worker.state.active_requests) >= _consumer.pool.limit
    )


class StepShown:
    """A step that runs within another task's delivery, shown to Flower as the task that it is.

    Celery's own events tell of messages; these have the same names and fields:
    https://docs.celeryq.dev/en/stable/userguide/monitoring.html#task-events
    """

    def __init__(self, name: str, import_id: str, *, within: Any) -> None:  # noqa: ANN401 -- a Celery task
        self.task_id = str(uuid4())
        self._started = time.monotonic()
        self._send(
            "task-received",
            name=name,
            args=repr((import_id,)),
            kwargs="{}",
            root_id=within.request.root_id,
            parent_id=within.request.id,
            retries=0,
            eta=None,
            expires=None,
        )
        self._send("task-started")

    def succeeded(self) -> None:
        """The step ended well, or had ended before."""
        self._send("task-succeeded", result="None", runtime=time.monotonic() - self._started)

    def retried(self, error: TrunklineError) -> None:
        """The attempt failed; the next one is another message with the same id."""
        self._send("task-retried", exception=error.code, traceback=str(error))

    def failed(self, error: TrunklineError) -> None:
        """The step failed for good."""
        self._send("task-failed", exception=error.code, traceback=str(error))

    def _send(self, event: str, **fields: object) -> None:
        dispatcher = None if _consumer is None else _consumer.event_dispatcher
        if dispatcher is None or not dispatcher.enabled:
            return
        dispatcher.send(event, uuid=self.task_id, **fields)


class Sender:
    """Hands jobs to the workers: best effort, never an exception, never a long wait."""

    def __init__(self) -> None:
        self._resting_until = 0.0
        self._producers: Any = None

    def start(self, import_id: str, queue: JobQueue) -> bool:
        """Asks a worker to start or resume a job; False if the broker did not take the message.

        Safe to repeat: yes.
        """
        if time.monotonic() < self._resting_until:
            return False
        if self._producers is None:
            self._producers = kombu.pools.producers[impatient_connection()]
        try:
            with self._producers.acquire(block=True, timeout=PATIENCE_SECONDS) as producer:
                app.send_task(
                    "imports.start",
                    args=[import_id],
                    queue=queue_name(queue),
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
        with impatient_connection() as connection:
            connection.ensure_connection(max_retries=0, timeout=2)
    except BROKER_ERRORS as error:
        raise OSError("the broker cannot be reached") from error


def queue_lengths(queues: Iterable[str]) -> dict[str, int]:
    """Returns how many messages wait for a worker in each of some queues of the broker.

    Raises:
        OSError: the broker cannot be reached within two seconds.
    """
    # Kept from one time to the next: a connection costs more than all its answers.
    kept = kombu.pools.connections[impatient_connection()]
    try:
        with kept.acquire(block=True, timeout=PATIENCE_SECONDS) as connection:
            try:
                return lengths_of(connection, list(queues))
            except BROKER_ERRORS:
                connection.collect()
                raise
    except BROKER_ERRORS as error:
        raise OSError("the broker cannot be reached") from error


@dataclass(frozen=True, kw_only=True)
class BrokerFacts:
    """How a Redis broker is set; None where it does not say, as managed ones do."""

    #: What it does when its memory is full.
    maxmemory_policy: str | None
    #: Bytes, 0 for no limit.
    maxmemory: int | None
    #: Whether anything of it outlives a restart.
    persists: bool | None


def read_broker() -> BrokerFacts | None:
    """Connects to the broker and returns how it is set; None if it is no Redis.

    Raises:
        OSError: it cannot be reached within two seconds.
    """
    try:
        with impatient_connection() as connection:
            connection.ensure_connection(max_retries=0, timeout=2)
            if connection.transport.driver_type != "redis":
                return None
            client = connection.default_channel.client
            return BrokerFacts(
                maxmemory_policy=_configured(client, "maxmemory-policy"),
                maxmemory=None
                if (limit := _configured(client, "maxmemory")) is None
                else int(limit),
                persists=_persists(client),
            )
    except BROKER_ERRORS as error:
        raise OSError("the broker cannot be reached") from error


def _configured(client: Any, name: str) -> str | None:  # noqa: ANN401 -- kombu's is untyped
    try:
        found = client.config_get(name)
    except redis.exceptions.ResponseError:
        return None  # CONFIG is forbidden, as at most managed ones
    told = found.get(name, found.get(name.encode()))
    return told.decode() if isinstance(told, bytes) else told


def _persists(client: Any) -> bool | None:  # noqa: ANN401 -- kombu's is untyped
    saves, appends = _configured(client, "save"), _configured(client, "appendonly")
    if saves is None or appends is None:
        return None
    return saves != "" or appends == "yes"


def require_flower_login(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Ends a Flower that anybody could open: it shows every organisation's jobs.

    A login in a file that --conf names is not seen from here; the variables go with it.

    Raises:
        SystemExit: the command is Flower's, and no login is set.
    """
    if "flower" not in arguments:
        return
    for place, argument in enumerate(arguments):
        option, given, value = argument.partition("=")
        if option in {"--basic-auth", "--basic_auth", "--auth"}:
            following = arguments[place + 1 : place + 2]
            if value or (not given and following and not following[0].startswith("-")):
                return
    if any(environment.get(f"FLOWER_{name}") for name in ("BASIC_AUTH", "AUTH")):
        return
    sys.exit(
        "Flower does not start without a login: set FLOWER_BASIC_AUTH=user:password, or "
        "FLOWER_AUTH with an OAuth provider."
    )
