"""Celery glue: one named task a step, one for its undo, the start of a chain, and the sweep.

Start, resume after a crash, retry by an operator and rescue by the sweep are the same call: a chain
from wherever the row's cursor stands. A task carries one job id and returns nothing; the row
decides.
"""

from __future__ import annotations

import threading
from typing import Any, Final
from uuid import UUID

import celery
import structlog

from worker import metrics
from worker.celery_app import BATCH_QUEUE, BROKER_ERRORS, QUEUE, app, queue_length
from worker.checking import Opened
from worker.db.claims import Claims
from worker.db.engine import DATABASE_ERRORS, make_engine
from worker.db.notifications import Notifications
from worker.db.numbers import Numbers
from worker.db.places import Places
from worker.db.repository import JobRepository
from worker.db.vault import Vault
from worker.domain.errors import TransientError, TrunklineError
from worker.domain.job import PLANS, JobState
from worker.domain.values import NumberStatus, format_id, parse_id
from worker.notifications import Courier
from worker.pipeline import STEPS
from worker.settings import load
from worker.steps._core import Runtime, Step
from worker.steps._guard import Failed, Guard, Next, Outcome, RetryIn

_log = structlog.get_logger()

#: Jobs that one sweep sends at most; the next one is a second away.
SWEEP_LIMIT: Final = 500
#: With fewer messages than this in the queues there is time for what can wait.
SHORT_QUEUE: Final = 100
#: Held jobs that one feeding sends at most; the sweep, only while fewer messages than this wait in
#: the backlog's queue.
FEED_LIMIT: Final = 16
#: Checks that one sweep asks for; each takes some seconds of a thread.
_CHECKS_AT_ONCE: Final = 4
#: A number that could not be looked at, or whose check was lost, is due again after this.
_CHECK_AGAIN_SECONDS: Final = 300.0
#: Tasks of a process that deliver at the same time, and for how long each goes on.
_COURIERS: Final = 4
_DELIVERY_SECONDS: Final = 10.0

_guard: Guard | None = None
_runtime: Runtime | None = None
_places: Places | None = None
_postman: Courier | None = None
_lock = threading.Lock()
#: Most threads of a process are for imports.
_looking = threading.BoundedSemaphore(_CHECKS_AT_ONCE)
_delivering = threading.BoundedSemaphore(_COURIERS)


def _worker() -> tuple[Runtime, Guard]:
    """What this process needs, made on first use: after any fork, once."""
    global _guard, _places, _runtime  # noqa: PLW0603 -- one of each per process
    with _lock:
        if _runtime is None or _guard is None:
            settings = load()
            engine = make_engine(settings)
            _runtime = Runtime(
                settings=settings,
                jobs=JobRepository(
                    engine,
                    resend_after_seconds=settings.resend_after_seconds,
                    organization_concurrency=settings.organization_concurrency,
                ),
                claims=Claims(engine, resend_after_seconds=settings.resend_after_seconds),
                numbers=Numbers(engine),
                notifications=Notifications(engine),
                vault=Vault(settings.vault_keys),
            )
            _guard = Guard(_runtime)
            _places = Places(engine, resend_after_seconds=settings.resend_after_seconds)
        return _runtime, _guard


def _courier() -> Courier:
    """Who delivers notifications: one a process, since it knows which receivers rest."""
    global _postman  # noqa: PLW0603 -- one of each per process
    runtime, _ = _worker()
    with _lock:
        if _postman is None:
            _postman = Courier(runtime.settings, runtime.notifications, runtime.vault)
        return _postman


def _uuid(import_id: str) -> UUID:
    job_id = parse_id("imp", import_id)
    if job_id is None:
        raise ValueError("a message must carry an import id")
    return job_id


def _obey(task: Any, outcome: Outcome, import_id: str) -> None:  # noqa: ANN401 -- a Celery task
    """Does with this copy of the chain what the guard says."""
    match outcome:
        case Next.GO_ON:
            return
        case RetryIn(seconds=seconds, error=error):
            # The chain's rest travels with the retry. Never inside a broad except: Retry is raised
            # after its message was sent.
            raise task.retry(exc=error, countdown=seconds)
        case Next.END:
            _end(task)
            _feed_after(import_id)
        case Next.UNDO:
            _end(task)
            _send(import_id)
        case Failed(error=error, stuck=stuck):
            if not stuck:
                _send(import_id)
            # Flower shows the step as failed, with code and sentence; a failure ends the chain.
            raise error


def _end(task: Any) -> None:  # noqa: ANN401 -- a Celery task
    """Ends this copy of the chain without calling it a failure."""
    task.request.chain = None


def _make(step: Step) -> tuple[Any, Any]:
    # How often is the step's policy to say; Celery itself would give up after three retries.
    options: dict[str, Any] = {"bind": True, "throws": (TrunklineError,), "max_retries": None}

    @app.task(name=f"imports.{step.name}", **options)
    def run(self: Any, import_id: str) -> None:  # noqa: ANN401 -- a Celery task
        _obey(self, _worker()[1].run(step, _uuid(import_id)), import_id)

    @app.task(name=f"imports.{step.name}.undo", **options)
    def undo(self: Any, import_id: str) -> None:  # noqa: ANN401 -- a Celery task
        _obey(self, _worker()[1].undo(step, _uuid(import_id)), import_id)

    return run, undo


#: Step → its task and its undo's task.
TASKS: Final = {step.name: _make(step) for step in STEPS}


def _signatures(import_id: str) -> list[Any]:
    """The chain from the cursor on, forwards or back; empty if the job is final."""
    job = _worker()[0].jobs.get(_uuid(import_id))
    if job is None or job.is_final or job.step is None:
        return []
    order = PLANS[job.kind]
    place = order.index(job.step)
    queue = BATCH_QUEUE if job.backlog else QUEUE
    if job.state is JobState.UNDOING:
        names, way = reversed(order[: place + 1]), 1
    else:
        names, way = iter(order[place:]), 0
    return [TASKS[name][way].si(import_id).set(queue=queue) for name in names]


def _send(import_id: str) -> None:
    """Sends the chain of a job; if the broker is away the sweep does it later."""
    signatures = _signatures(import_id)
    if not signatures:
        return
    try:
        celery.chain(*signatures).apply_async()
    except BROKER_ERRORS as error:
        _log.warning("broker unavailable, the sweep will send", error=type(error).__name__)
        _worker()[0].jobs.sending_failed([_uuid(import_id)])


def _feed(*, after: UUID | None = None) -> None:
    """Sends held jobs, as many as their organisations and accounts have places for."""
    settings = _worker()[0].settings
    assert _places is not None, "made with the runtime"
    held = _places.take_held(
        per_organization=settings.organization_concurrency,
        per_account=settings.account_concurrency,
        limit=FEED_LIMIT,
        after=after,
    )
    for job_id in held:
        _send(format_id("imp", job_id))


def _feed_after(import_id: str) -> None:
    """Gives the place of a job that has ended to the next one of its organisation."""
    try:
        _feed(after=_uuid(import_id))
    except DATABASE_ERRORS as error:
        # The sweep does it later.
        _log.warning("database unavailable", error=type(error).__name__)


@app.task(name="imports.start")
def start(import_id: str) -> None:
    """Starts or resumes one job."""
    _send(import_id)


@app.task(name="numbers.check")
def check_number(number_id: str) -> None:
    """Compares what is outside for one number with what was set, and writes down the difference.

    Safe to repeat: yes, reads only.
    """
    if not _looking.acquire(blocking=False):
        return  # due again once its lease has run out
    try:
        _check(number_id)
    finally:
        _looking.release()


def _check(number_id: str) -> None:
    runtime, _ = _worker()
    found = parse_id("num", number_id)
    setup = None if found is None else runtime.numbers.setup(found)
    if found is None or setup is None or setup.number.status is not NumberStatus.ACTIVE:
        return
    interval = runtime.settings.check_seconds or None
    try:
        opened = Opened(setup, settings=runtime.settings, vault=runtime.vault, doing="check")
        diagnosis = opened.check()
        drifted = runtime.numbers.note_check(setup, diagnosis.to_json(), again_in=interval)
    except TransientError as error:
        # Could not look: says nothing about the number.
        again = error.retry_after or _CHECK_AGAIN_SECONDS
        runtime.numbers.postpone_check(found, seconds=again)
        metrics.CHECKS.labels(setup.number.provider, error.code).inc()
        return
    metrics.CHECKS.labels(setup.number.provider, diagnosis.verdict).inc()
    if drifted:
        metrics.DRIFT_FOUND.labels(setup.number.provider).inc()
        _log.warning(
            "number drifted",
            number_id=number_id,
            provider=setup.number.provider,
            findings=[f"{one.object}:{one.code}" for one in diagnosis.findings],
        )


@app.task(name="notifications.deliver")
def deliver_notifications() -> None:
    """Delivers what is due to customers' URLs, one after the other, for a while.

    Safe to repeat: yes, also concurrently; each takes others.
    """
    if not _delivering.acquire(blocking=False):
        return  # the others go on until nothing is due
    try:
        _courier().deliver_due(_DELIVERY_SECONDS)
    finally:
        _delivering.release()


@app.task(name="imports.sweep")
def sweep() -> None:
    """Sends the chains of jobs that somebody should have moved on by now.

    Safe to repeat: yes, also concurrently; each sweep takes other jobs.
    """
    runtime, _ = _worker()
    try:
        waiting, backlog = queue_length(QUEUE), queue_length(BATCH_QUEUE)
        short = waiting + backlog < SHORT_QUEUE
        due = runtime.jobs.take_due(
            limit=SWEEP_LIMIT, queue_is_short=waiting == 0, backlog_is_short=backlog == 0
        )
        if backlog < FEED_LIMIT:
            _feed()
        checks, letters = [], 0
        if short:
            # These can wait until whoever imports has been served.
            checks = runtime.numbers.take_check_due(
                limit=_CHECKS_AT_ONCE, lease_seconds=_CHECK_AGAIN_SECONDS
            )
            letters = min(runtime.notifications.count_due(), _COURIERS)
    except (*DATABASE_ERRORS, OSError) as error:
        _log.warning("sweep skipped", error=type(error).__name__)
        return
    for job_id in due:
        metrics.SWEEP_RESCUES.inc()
        _send(format_id("imp", job_id))
    if due:
        _log.info("sweep sent jobs again", jobs=len(due))
    for number_id in checks:
        _ask(check_number, format_id("num", number_id))
    for _ in range(letters):
        _ask(deliver_notifications)


def _ask(task: Any, *args: str) -> None:  # noqa: ANN401 -- a Celery task
    """Sends what the next sweep would send again."""
    try:
        task.apply_async(args)
    except BROKER_ERRORS as error:
        _log.warning("broker unavailable", error=type(error).__name__)
