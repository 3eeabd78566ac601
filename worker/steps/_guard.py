"""The guard around every step and every undo: begin, work, finish.

It decides nothing about Celery: it returns what the caller's copy of the chain has to do next.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar
from uuid import UUID

import structlog

from worker import logs, metrics, tracing
from worker.db.engine import DATABASE_ERRORS, outlast
from worker.db.records import Claim, NoClaim
from worker.domain.errors import (
    InternalError,
    LeaseLost,
    NotSettled,
    PermanentError,
    ProviderRateLimited,
    TransientError,
    TrunklineError,
    UndoFailed,
)
from worker.domain.job import FINAL, Retry
from worker.steps._core import UNDO, Context, Done, Runtime, Step
from worker.steps._leases import Leases

_log = structlog.get_logger()

Result = TypeVar("Result")

#: The longest wait that a message spends as a countdown, in the memory of some worker, and lost if
#: that dies. Longer ones stand in the row alone, which nobody loses, and the sweep ends them. It
#: must stay far below the visibility timeout, or the broker would deliver again and again.
LONGEST_COUNTDOWN: Final = 2.0
#: For this long after its start a job waits out rate limits without using up attempts.
RATE_LIMIT_PATIENCE: Final = 1800.0


class Next(Enum):
    """What the caller's copy of the chain does next."""

    #: The step is done, now or before: go on with the next one.
    GO_ON = "go on"
    #: Somebody else owns the job, or a later message will go on: end this copy.
    END = "end"
    #: The job has ended, and none of its organisation waits for the place.
    REST = "rest"
    #: The job has been turned round, or begins elsewhere: start a chain from its cursor.
    UNDO = "undo"


@dataclass(frozen=True, kw_only=True)
class RetryIn:
    """The attempt failed and the next one is due after some seconds, by the same message."""

    seconds: float
    error: TrunklineError


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The step failed for good; the job has begun to be undone, or is stuck."""

    error: TrunklineError
    stuck: bool


@dataclass(frozen=True, kw_only=True)
class Held:
    """The step is done, and the next one is claimed already: go on with it at once."""

    claim: Claim
    granted_at: float


Outcome = Next | Held | RetryIn | Failed


class Guard:
    """Runs steps and undos under a claim."""

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        self._runtime = runtime
        self._lease_seconds = settings.lease_seconds
        self._leases = Leases(
            runtime.claims,
            lease_seconds=settings.lease_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
        )

    def begin(self, job_id: UUID) -> Held | None:
        """Claims the first step of an import that nobody has begun; None if it is none.

        Raises:
            DATABASE_ERRORS: the database is away.

        Safe to repeat: yes, also concurrently; one of them claims it.
        """

        def once() -> Held | None:
            granted_at = time.monotonic()
            claim = self._runtime.claims.begin_first(job_id, lease_seconds=self._lease_seconds)
            return None if claim is None else Held(claim=claim, granted_at=granted_at)

        return self._outlast(once)

    def run(
        self,
        step: Step,
        job_id: UUID,
        *,
        held: Held | None = None,
        then: Callable[[], Step | None] = lambda: None,
    ) -> Outcome:
        """Does one attempt at a step, which may have been claimed already.

        ``then`` says, once the step is done, which one to claim in its turn.

        Safe to repeat: yes, also concurrently; only the holder of the claim works.
        """
        if held is not None:
            return self._run(step, held.claim, held.granted_at, then)
        begun = self._begin(
            lambda: self._runtime.claims.begin_step(
                job_id,
                step.name,
                attempts=step.retry.attempts,
                lease_seconds=self._lease_seconds,
            )
        )
        if isinstance(begun, Next):
            return begun
        claim, granted_at = begun
        return self._run(step, claim, granted_at, then)

    def _run(
        self, step: Step, claim: Claim, granted_at: float, then: Callable[[], Step | None]
    ) -> Outcome:
        def work(ctx: Context) -> Next | Held:
            done = step.run(ctx)
            sealed = None if done.secret is None else self._runtime.vault.seal(done.secret)
            number = done.number
            following = then() if number is None else None
            if following is not None:
                going = self._outlast(lambda: self._go_on(claim, done, sealed, following))
                if going is not None:
                    return going
            if number is not None:
                awaited = self._outlast(
                    lambda: self._runtime.claims.end(
                        claim, output=done.output, sealed=sealed, number=number
                    )
                )
                if awaited is not None:
                    return Next.END if awaited else Next.REST
            after = self._outlast(
                lambda: self._runtime.claims.finish_step(
                    claim, output=done.output, sealed=sealed, number=number
                )
            )
            return Next.GO_ON if after is not None else self._after_last(claim.job.id)

        return self._attempt(claim, granted_at, work, step.retry)

    def _go_on(
        self, claim: Claim, done: Done, sealed: bytes | None, following: Step
    ) -> Held | None:
        granted_at = time.monotonic()
        claimed = self._runtime.claims.go_on(
            claim,
            output=done.output,
            sealed=sealed,
            to=following.name,
            attempts=following.retry.attempts,
            lease_seconds=self._lease_seconds,
        )
        return None if claimed is None else Held(claim=claimed, granted_at=granted_at)

    def undo(self, step: Step, job_id: UUID) -> Outcome:
        """Does one attempt at undoing a step.

        Safe to repeat: yes, also concurrently; only the holder of the claim works.
        """
        begun = self._begin(
            lambda: self._runtime.claims.begin_undo(
                job_id, step.name, attempts=UNDO.attempts, lease_seconds=self._lease_seconds
            )
        )
        if isinstance(begun, Next):
            return begun
        claim, granted_at = begun

        def work(ctx: Context) -> Next:
            step.undo(ctx)
            following = self._outlast(lambda: self._runtime.claims.finish_undo(claim))
            return Next.END if following is None else Next.GO_ON

        return self._attempt(claim, granted_at, work, UNDO)

    def _begin(self, claim: Callable[[], Claim | NoClaim]) -> tuple[Claim, float] | Next:
        """Claims, and returns the time before which the lease was not granted; or what to do."""

        def once() -> tuple[Claim | NoClaim, float]:
            granted_at = time.monotonic()
            return claim(), granted_at

        try:
            claimed, granted_at = self._outlast(once)
        except DATABASE_ERRORS as error:
            # Whether the claim was committed is unknown; either way the row says when it is due.
            _log.warning("database unavailable", error=type(error).__name__)
            return Next.END
        return _NO_CLAIM[claimed] if isinstance(claimed, NoClaim) else (claimed, granted_at)

    def _outlast(self, call: Callable[[], Result]) -> Result:
        """Waits out a restart of the database, for as long as a lease lasts.

        Else a worker would throw away a message a millisecond while the database is away. Every
        write here is fenced: where the first one was done and its answer lost, the second finds
        that the lease has been given back, and the sweep goes on.
        """
        return outlast(call, seconds=self._lease_seconds)

    def _after_last(self, job_id: UUID) -> Next:
        """After the last step the job is active; or undoing, if it was cancelled meanwhile."""
        found = self._runtime.jobs.versions([job_id]).get(job_id)
        return Next.END if found is None or found[1] in FINAL else Next.UNDO

    def _attempt(  # noqa: PLR0911 -- one line an ending
        self, claim: Claim, granted_at: float, work: Callable[[Context], Next | Held], retry: Retry
    ) -> Outcome:
        with (
            self._leases.hold(claim, granted_at=granted_at) as lease,
            logs.bound(
                job_id=str(claim.job.id),
                step=claim.step,
                undo=claim.undo,
                attempt=claim.attempt,
                provider=claim.job.provider,
            ),
            metrics.step_timer(claim.step, undo=claim.undo) as outcome,
            tracing.attempt(
                claim.job.id,
                step=claim.step,
                undo=claim.undo,
                number=claim.attempt,
                provider=claim.job.provider,
                outcome=lambda: outcome.name,
            ) as span,
        ):
            try:
                try:
                    result = work(Context(self._runtime, claim, lease, span))
                except TransientError as error:
                    outcome.set(error.code)
                    return self._later(claim, error, retry)
                except PermanentError as error:
                    outcome.set(error.code)
                    return self._give_up(claim, error)
                except (LeaseLost, *DATABASE_ERRORS):
                    raise
                except Exception as error:  # noqa: BLE001 -- a bug must not leave a job half-done
                    _log.exception("step raised what it must not", error=type(error).__name__)
                    outcome.set(InternalError.code)
                    if claim.undo:
                        return self._later(claim, NotSettled(), retry)
                    return self._give_up(claim, InternalError())
            except LeaseLost:
                outcome.set(LeaseLost.code)
                _log.warning("lease lost, the job has another owner")
                return Next.END
            except DATABASE_ERRORS as error:
                # The row still says that we hold the lease; when it runs out the sweep goes on.
                outcome.set("database_unavailable")
                _log.warning("database unavailable", error=type(error).__name__)
                return Next.END
            outcome.set("done")
            _log.info("step undone" if claim.undo else "step done")
            return result

    def _later(self, claim: Claim, error: TransientError, retry: Retry) -> Outcome:
        if claim.attempt >= retry.attempts:
            return self._give_up(claim, error)
        settings = self._runtime.settings
        delay = retry.delay(claim.attempt, spread=random.random()) * settings.retry_scale  # noqa: S311 -- jitter
        settle = settings.settle_seconds if error.outcome_unknown else None
        if error.retry_after is not None:
            delay = error.retry_after
        # Looking again too early could miss a write that has not landed yet, and do it twice.
        delay = max(delay, settle or 0.0)
        refund = False
        if isinstance(error, ProviderRateLimited):
            self._runtime.claims.limit_account(
                claim.job.provider, claim.job.account_ref, seconds=delay
            )
            metrics.count_rate_limit(claim.job.provider, seconds=delay)
            # Everybody who waited starts at the same time otherwise, and is limited again.
            delay += random.random() * min(delay, 5.0)  # noqa: S311 -- jitter
            refund = not claim.undo and _age(claim) < RATE_LIMIT_PATIENCE
        by_sweep = delay > LONGEST_COUNTDOWN
        _log.warning(
            "step will be tried again", code=error.code, seconds=round(delay, 3), by_sweep=by_sweep
        )
        waits = self._outlast(
            lambda: self._runtime.claims.retry_later(
                claim, error, delay=delay, by_sweep=by_sweep, settle=settle, refund=refund
            )
        )
        if not waits:
            return Next.UNDO
        metrics.count_retry(claim.step, undo=claim.undo, code=error.code)
        return Next.END if by_sweep else RetryIn(seconds=delay, error=error)

    def _give_up(self, claim: Claim, error: TrunklineError) -> Failed:
        settings = self._runtime.settings
        if claim.undo:
            _log.error("undo failed, the job is stuck", code=error.code)
            self._outlast(lambda: self._runtime.claims.stick(claim, UndoFailed(error.message)))
            return Failed(error=error, stuck=True)
        unknown = isinstance(error, TransientError) and error.outcome_unknown
        _log.warning("step failed", code=error.code)
        settle = settings.settle_seconds if unknown else None
        self._outlast(lambda: self._runtime.claims.fail(claim, error, settle=settle))
        return Failed(error=error, stuck=False)


_NO_CLAIM: Final = {
    NoClaim.PASSED: Next.GO_ON,
    NoClaim.NOT_OURS: Next.END,
    NoClaim.UNDOING: Next.UNDO,
    NoClaim.MOVED: Next.UNDO,
}
assert _NO_CLAIM.keys() == set(NoClaim), "a reason has no outcome"


def _age(claim: Claim) -> float:
    """Seconds since the job's first claim, by this machine's clock: only a rough measure."""
    started = claim.job.started_at
    return 0.0 if started is None else time.time() - started.timestamp()
