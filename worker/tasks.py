"""Celery glue: one named task a step, one for its undo, the start of a job, and the sweep.

Start, resume after a crash, retry by an operator and rescue by the sweep are the same message,
``imports.start``: go on from wherever the row's cursor stands. While each step ends well, the
worker goes on in the same delivery, and Flower is shown each step as the task it is. What has to
wait goes through the broker: a retry is sent as the chain of the steps from that one on. A task
carries one job id and returns nothing; the row decides.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final
from uuid import UUID

import celery
import structlog

from worker import metrics, tracing
from worker.celery_app import (
    BROKER_ERRORS,
    RELAY_QUEUE,
    RESCUE_QUEUE,
    StepShown,
    app,
    is_full,
    is_stopping,
    own_queue,
    queue_lengths,
    queue_name,
)
from worker.checking import Opened
from worker.db.claims import Claims
from worker.db.engine import DATABASE_ERRORS, make_engine, outlast
from worker.db.notifications import Notifications
from worker.db.numbers import Numbers
from worker.db.places import Places
from worker.db.records import JobRecord
from worker.db.repository import JobRepository
from worker.db.sweeps import NOTHING, Look, Sweeps
from worker.db.vault import Vault
from worker.domain.errors import TransientError, TrunklineError
from worker.domain.job import FORMER_NAMES, JOB_QUEUES, PLANS, JobQueue, JobState, StepName
from worker.domain.values import NumberStatus, format_id, parse_id
from worker.notifications import Courier
from worker.pipeline import STEPS
from worker.settings import load
from worker.steps._core import Runtime, Step
from worker.steps._guard import Failed, Guard, Held, Next, Outcome, RetryIn

_log = structlog.get_logger()

#: Jobs that one sweep sends at most; the next one is a second away.
SWEEP_LIMIT: Final = 500
#: Begun jobs whose message may only be late are sent again while fewer messages of begun jobs wait.
RESCUE_LIMIT: Final = 32
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
#: So long a delivery goes on at least; most imports end in it.
_TURN_SECONDS: Final = 2.0
#: Then it looks so often, at most, whether others wait.
_LOOK_SECONDS: Final = 0.25

_sweeps: Sweeps | None = None
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
    global _guard, _places, _runtime, _sweeps  # noqa: PLW0603 -- one of each per process
    with _lock:
        if _runtime is None or _guard is None:
            settings = load()
            tracing.configure(settings.otlp_endpoint, service="trunkline-worker")
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
            _sweeps = Sweeps(engine, resend_after_seconds=settings.resend_after_seconds)
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
        case Next.END | Next.REST:
            _end(task)
            if outcome is Next.END:
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


#: Name → what does a step's work.
_STEPS: Final = {step.name: step for step in STEPS}


def work_with(steps: Iterable[Step]) -> None:
    """Lets other steps do the work of the pipeline's, under their names; before any job is taken.

    For measurements of everything around a step: the guard, the rows, the broker, the worker.
    """
    _STEPS.update({step.name: step for step in steps})


def _make(name: StepName) -> tuple[Any, Any]:
    # How often is the step's policy to say; Celery itself would give up after three retries.
    options: dict[str, Any] = {"bind": True, "throws": (TrunklineError,), "max_retries": None}

    @app.task(name=f"imports.{name}", **options)
    def run(self: Any, import_id: str) -> None:  # noqa: ANN401 -- a Celery task
        _obey(self, _worker()[1].run(_STEPS[name], _uuid(import_id)), import_id)

    @app.task(name=f"imports.{name}.undo", **options)
    def undo(self: Any, import_id: str) -> None:  # noqa: ANN401 -- a Celery task
        _obey(self, _worker()[1].undo(_STEPS[name], _uuid(import_id)), import_id)

    return run, undo


#: Step → its task and its undo's task.
TASKS: Final = {name: _make(name) for name in _STEPS}


@dataclass(frozen=True, kw_only=True)
class _Leg:
    """One step of what is left of a job, forwards or back."""

    name: StepName
    undo: bool

    @property
    def task(self) -> Any:  # noqa: ANN401 -- a Celery task
        return TASKS[self.name][self.undo]

    def attempt(
        self,
        job: JobRecord,
        *,
        held: Held | None,
        then: _Leg | None,
        turn: _Turn,
    ) -> Outcome:
        """Does it once; ``held`` is its claim if it has one, ``then`` what comes next."""
        guard = _worker()[1]
        step = _STEPS[self.name]
        if self.undo:
            return guard.undo(step, job.id)

        def following() -> Step | None:
            return None if then is None or turn.is_over() else _STEPS[then.name]

        return guard.run(step, job.id, held=held, then=following)


class _Turn:
    """For how many steps one delivery keeps its thread."""

    def __init__(self, job: JobRecord) -> None:
        self._provider = job.provider
        #: When to look next whether others wait.
        self._looks_at = time.monotonic() + _TURN_SECONDS
        self._over = False

    def is_over(self) -> bool:
        """Whether the next step is for another delivery; once it is, it stays so.

        A worker that shuts down ends the step at hand. One whose every thread is taken gives way
        once in a while to the jobs of other vendors: a vendor that is slow would else keep them all
        for as long as whole jobs take.
        """
        self._over = self._over or is_stopping() or self._gives_way()
        return self._over

    def _gives_way(self) -> bool:
        if time.monotonic() < self._looks_at or not is_full():
            return False
        self._looks_at = time.monotonic() + _LOOK_SECONDS
        others = (queue_name(one) for one in JOB_QUEUES if one.provider != self._provider)
        try:
            return any(queue_lengths(others).values())
        except OSError:
            return False


def _legs(job: JobRecord | None) -> list[_Leg]:
    """What is left of a job from its cursor on; nothing if it is final."""
    if job is None or job.is_final or job.step is None or not job.is_understood:
        return []
    order = PLANS[job.kind]
    place = order.index(job.step)
    if job.state is JobState.UNDOING:
        return [_Leg(name=name, undo=True) for name in reversed(order[: place + 1])]
    return [_Leg(name=name, undo=False) for name in order[place:]]


def _send(import_id: str, *, queue: Any = None) -> None:  # noqa: ANN401 -- a name, or kombu's queue
    """Asks some worker to go on with a job."""
    if queue is None:
        job = _worker()[0].jobs.get(_uuid(import_id))
        if job is None or job.is_final:
            return
        queue = queue_name(job.queue)
    with _or_sweep(import_id):
        start.apply_async((import_id,), queue=queue)


def _send_chain(import_id: str, *, first_id: str, after_seconds: float) -> None:
    """Sends what is left of a job as a chain that begins after some seconds."""
    job = _worker()[0].jobs.get(_uuid(import_id))
    legs = _legs(job)
    if job is None or not legs:
        return
    signatures = [leg.task.si(import_id).set(queue=queue_name(job.queue)) for leg in legs]
    signatures[0].set(countdown=after_seconds, task_id=first_id)
    with _or_sweep(import_id):
        celery.chain(*signatures).apply_async()


@contextmanager
def _or_sweep(import_id: str) -> Iterator[None]:
    """Leaves a job whose message the broker does not take to the sweep."""
    try:
        yield
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


def _resume(task: Any, import_id: str) -> None:  # noqa: ANN401 -- a Celery task
    """Takes a message of the release before, whose step has another name now."""
    _end(task)
    _send(import_id)


for _former in FORMER_NAMES:
    for _way in ("", ".undo"):
        app.task(name=f"imports.{_former}{_way}", bind=True)(_resume)


@app.task(name="imports.start", bind=True)
def start(self: Any, import_id: str) -> None:  # noqa: ANN401 -- a Celery task
    """Starts or resumes one job, and goes on while each step ends well.

    Safe to repeat: yes, also concurrently; the guard lets one of them work.
    """
    try:
        held = None if is_stopping() else _worker()[1].begin(_uuid(import_id))
        # A worker would throw away a message a millisecond while the database is away.
        job = (
            outlast(lambda: _worker()[0].jobs.get(_uuid(import_id)), seconds=load().lease_seconds)
            if held is None
            else held.claim.job
        )
        if job is None:
            return
        legs, turn = _legs(job), _Turn(job)
        for leg, then in zip_longest(legs, legs[1:]):
            if held is None and turn.is_over():
                # Not behind those that have not begun.
                _send(import_id, queue=RESCUE_QUEUE if is_stopping() else RELAY_QUEUE)
                return
            outcome = _take(leg, job, held=held, then=then, turn=turn, within=self)
            if outcome is not Next.GO_ON and not isinstance(outcome, Held):
                return
            held = outcome if isinstance(outcome, Held) else None
    except DATABASE_ERRORS as error:
        # The row is as it was; the sweep goes on.
        _log.warning("database unavailable", error=type(error).__name__)


def _take(
    leg: _Leg,
    job: JobRecord,
    *,
    held: Held | None,
    then: _Leg | None,
    turn: _Turn,
    within: Any,  # noqa: ANN401 -- a Celery task
) -> Outcome:
    """Does one step within another task's delivery, and sends what has to go through the broker."""
    import_id = format_id("imp", job.id)
    shown = StepShown(leg.task.name, import_id, within=within)
    outcome = leg.attempt(job, held=held, then=then, turn=turn)
    match outcome:
        case RetryIn(seconds=seconds, error=error):
            shown.retried(error)
            _send_chain(import_id, first_id=shown.task_id, after_seconds=seconds)
        case Failed(error=error, stuck=stuck):
            shown.failed(error)
            if not stuck:
                _send(import_id)
        case _:
            shown.succeeded()
            if outcome is Next.END:
                _feed_after(import_id)
            elif outcome is Next.UNDO:
                _send(import_id)
    return outcome


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


# Not shown in Flower: one a second, they would crowd out the imports of a day.
@app.task(name="imports.sweep", send_events=False)
def sweep() -> None:
    """Sends the chains of jobs that somebody should have moved on by now.

    Safe to repeat: yes, also concurrently; each sweep takes other jobs.
    """
    _worker()
    assert _sweeps is not None, "made with the runtime"
    try:
        look = _sweeps.look(letters=_COURIERS)
        if look == NOTHING:
            return
        lengths = queue_lengths((RESCUE_QUEUE, RELAY_QUEUE, *map(queue_name, JOB_QUEUES)))
        waiting = {queue: length for queue in JOB_QUEUES if (length := lengths[queue_name(queue)])}
        if look.is_due or look.is_unpublished:
            begun = lengths[RESCUE_QUEUE] + lengths[RELAY_QUEUE]
            _rescue(look, _sweeps, begun=begun, waiting=waiting)
        in_backlog = sum(length for queue, length in waiting.items() if queue.backlog)
        if look.is_held and in_backlog < FEED_LIMIT:
            _feed()
        if sum(waiting.values()) < SHORT_QUEUE:
            _ask_for_the_rest(look)
        _sweeps.note()
    except (*DATABASE_ERRORS, OSError) as error:
        _log.warning("sweep skipped", error=type(error).__name__)


def _rescue(look: Look, sweeps: Sweeps, *, begun: int, waiting: Mapping[JobQueue, int]) -> None:
    """Sends jobs again, beside so many messages of jobs that had begun and those that wait."""
    stranded: dict[UUID, bool] = {}
    due: dict[UUID, bool] = {}
    if look.is_due:
        stranded = sweeps.take_stranded(limit=RESCUE_LIMIT - begun)
        # At once: what comes next may fail.
        for job_id, unheeded in stranded.items():
            _send(format_id("imp", job_id), queue=own_queue() if unheeded else RESCUE_QUEUE)
        due = sweeps.take_due(limit=SWEEP_LIMIT, waiting=waiting)
    if look.is_unpublished:
        due |= sweeps.take_unpublished(limit=SWEEP_LIMIT, waiting=waiting)
    for job_id, unheeded in due.items():
        # What nobody has heeded this worker takes itself.
        _send(format_id("imp", job_id), queue=own_queue() if unheeded else None)
    if due or stranded:
        _log.info("sweep sent jobs again", jobs=len(due), stranded=len(stranded))


def _ask_for_the_rest(look: Look) -> None:
    """Asks for what can wait until whoever imports has been served."""
    if look.is_check_due:
        for number_id in _worker()[0].numbers.take_check_due(
            limit=_CHECKS_AT_ONCE, lease_seconds=_CHECK_AGAIN_SECONDS
        ):
            _ask(check_number, format_id("num", number_id))
    for _ in range(look.letters):
        _ask(deliver_notifications)


def _ask(task: Any, *args: str) -> None:  # noqa: ANN401 -- a Celery task
    """Sends what the next sweep would send again."""
    try:
        task.apply_async(args)
    except BROKER_ERRORS as error:
        _log.warning("broker unavailable", error=type(error).__name__)
