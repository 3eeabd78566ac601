"""Who may work on a step, and what an attempt leaves: every query of the guard.

Each method is one transaction; none is open while a provider is called. A claim's fence makes a
write of a worker that was given up for dead change nothing: it gets ``LeaseLost`` instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Connection,
    Engine,
    Integer,
    Text,
    Uuid,
    and_,
    bindparam,
    func,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from worker.db.engine import one_statement
from worker.db.models import Agent, Credential, ImportJob, JobStep, ProviderLimit
from worker.db.moves import (
    CLOSED,
    FALLBACK_AGENT,
    NOW,
    ORDER,
    Moves,
    count_end,
    in_seconds,
    is_fallback_agent,
    is_leased,
    last_begun,
    notify_end,
    rename_steps,
    steps_of,
    update_job,
    update_step,
)
from worker.db.onward import activate, begin, begin_step_of, end, go_on
from worker.db.prepared import Prepared
from worker.db.records import Claim, JobRecord, NoClaim, NumberFacts, read_job, with_values
from worker.domain.errors import LeaseLost, TrunklineError
from worker.domain.job import PLANS, JobState, StepName, StepState, stored_names

#: A message may arrive this much before its time: clocks of two machines are never quite equal.
_EARLY: Final = timedelta(milliseconds=250)
_RECORD: Final = Prepared(
    update(JobStep)
    .where(
        JobStep.job_id == bindparam("of_job", type_=Uuid),
        JobStep.step == func.any(bindparam("names", type_=ARRAY(Text))),
        ImportJob.id == JobStep.job_id,
        ImportJob.fence == bindparam("held_fence", type_=Integer),
        ImportJob.lease_until.is_not(None),
    )
    .values(objects=JobStep.objects.concat(bindparam("made", type_=JobStep.objects.type)))
)


class Claims:
    """The rights to work on jobs: taken, kept alive, and given back with what was done."""

    def __init__(self, engine: Engine, *, resend_after_seconds: float) -> None:
        self._engine = engine
        self._single = one_statement(engine)
        self._resend_after = resend_after_seconds
        self._moves = Moves(resend_after_seconds=resend_after_seconds)

    def begin_first(self, job_id: UUID, *, lease_seconds: float) -> Claim | None:
        """Reads an import that nobody has begun and claims its first step, in one statement.

        None, and nothing was written, if there is none or anything stands in the way:
        ``begin_step`` tells what.
        """
        with self._single.connect() as connection:
            return begin(connection, job_id, lease=timedelta(seconds=lease_seconds))

    def begin_step(  # noqa: PLR0911 -- one line a reason, in the order in which they decide
        self, job_id: UUID, step: StepName, *, attempts: int, lease_seconds: float
    ) -> Claim | NoClaim:
        """Claims a step: counts the attempt and takes the lease, before any work.

        ``attempts`` is how many the step's policy allows; a job that has used them up (its worker
        died each time) is sent to be undone. While a write of the step may still land, of an
        earlier attempt or of the change before, nobody looks what is there.
        """
        with self._engine.begin() as connection:
            found = self._lock(connection, job_id)
            if found is None:
                return NoClaim.NOT_OURS
            job, (credential, dispatch_name, fallback_name), limited_for, now = found
            if job.state not in (JobState.QUEUED, JobState.RUNNING) or job.step is None:
                return NoClaim.NOT_OURS
            first = PLANS[job.kind][0]
            if job.state is JobState.QUEUED and job.step is not first:
                # The release that took it had no such step yet, and nobody has begun.
                connection.execute(update_job(job).values(step=first))
                return NoClaim.MOVED
            if ORDER.index(step) < ORDER.index(job.step):
                return NoClaim.PASSED
            if step is not job.step or is_leased(job, now):
                return NoClaim.NOT_OURS
            if job.cancel_requested_at is not None:
                self._moves.start_undo(connection, job, None)
                return NoClaim.UNDOING
            if job.next_attempt_at is not None and job.next_attempt_at > now + _EARLY:
                return NoClaim.NOT_OURS
            wait = max(limited_for, _unsettled_for(job, step, now))
            if wait > 0:
                self._moves.postpone(connection, job, wait, by_sweep=True)
                return NoClaim.NOT_OURS
            used = job.steps[step].attempts if step in job.steps else 0
            if used >= attempts:
                self._moves.start_undo(connection, job, _exhausted(job, step))
                return NoClaim.UNDOING
            return self._claim(
                connection,
                job,
                Claim(
                    job=job,
                    step=step,
                    undo=False,
                    attempt=used + 1,
                    fence=0,
                    credential_sealed=credential,
                    agent_dispatch_name=dispatch_name,
                    fallback_dispatch_name=fallback_name,
                ),
                lease_seconds,
            )

    def begin_undo(  # noqa: PLR0911 -- as begin_step
        self, job_id: UUID, step: StepName, *, attempts: int, lease_seconds: float
    ) -> Claim | NoClaim:
        """Claims the undo of a step.

        It waits, as begin_step does, while a write of the step may still land.
        """
        with self._engine.begin() as connection:
            found = self._lock(connection, job_id)
            if found is None:
                return NoClaim.NOT_OURS
            job, (credential, dispatch_name, fallback_name), limited_for, now = found
            if job.state is not JobState.UNDOING or job.step is None:
                return NoClaim.NOT_OURS
            last = last_begun(job, before=None)
            if last is not None and last is not job.step and not is_leased(job, now):
                # A release that does not know a step of ours has turned the job round.
                connection.execute(update_job(job).values(step=last))
                return NoClaim.MOVED
            if ORDER.index(step) > ORDER.index(job.step):
                return NoClaim.PASSED
            if step is not job.step or is_leased(job, now):
                return NoClaim.NOT_OURS
            if job.next_attempt_at is not None and job.next_attempt_at > now + _EARLY:
                return NoClaim.NOT_OURS
            wait = max(limited_for, _unsettled_for(job, step, now))
            if wait > 0:
                self._moves.postpone(connection, job, wait, by_sweep=True)
                return NoClaim.NOT_OURS
            record = job.steps[step]
            if record.undo_attempts >= attempts:
                self._moves.stick(connection, job, step, "undo_failed", record.error_message or "")
                return NoClaim.NOT_OURS
            return self._claim(
                connection,
                job,
                Claim(
                    job=job,
                    step=step,
                    undo=True,
                    attempt=record.undo_attempts + 1,
                    fence=0,
                    credential_sealed=credential,
                    agent_dispatch_name=dispatch_name,
                    fallback_dispatch_name=fallback_name,
                ),
                lease_seconds,
            )

    def _lock(
        self, connection: Connection, job_id: UUID
    ) -> tuple[JobRecord, tuple[bytes, str | None, str | None], float, datetime] | None:
        """Locks a job; also returns its credential and agents, its rate limit, and the time.

        The limit is in seconds from now; 0 if there is none. None instead of all if there is no
        such job, or only a newer release may work on it.
        """
        query = (
            select(
                ImportJob.__table__,
                Credential.sealed.label("credential_sealed"),
                Agent.dispatch_name,
                FALLBACK_AGENT.dispatch_name.label("fallback_name"),
                ProviderLimit.until.label("limited_until"),
                NOW.label("now"),
            )
            .join(Credential, Credential.id == ImportJob.credential_id)
            .outerjoin(Agent, Agent.id == ImportJob.agent_id)
            .outerjoin(FALLBACK_AGENT, is_fallback_agent())
            .outerjoin(
                ProviderLimit,
                and_(
                    ProviderLimit.provider == ImportJob.provider,
                    ProviderLimit.account_ref == ImportJob.account_ref,
                ),
            )
            .where(ImportJob.id == job_id)
            .with_for_update(of=ImportJob.__table__)
        )
        row = connection.execute(query).first()
        if row is None:
            return None
        limited_for = 0.0
        if row.limited_until is not None:
            limited_for = max(0.0, (row.limited_until - row.now).total_seconds())
        job = read_job(row, steps_of(connection, job_id))
        if not job.is_understood:
            return None
        names = (row.credential_sealed, row.dispatch_name, row.fallback_name)
        return job, names, limited_for, row.now

    def _claim(
        self, connection: Connection, job: JobRecord, claim: Claim, lease_seconds: float
    ) -> Claim:
        rename_steps(connection, job.id)
        values = {
            "fence": ImportJob.fence + 1,
            # As it is called now.
            "step": claim.step,
            "lease_until": in_seconds(lease_seconds),
            "due_at": in_seconds(lease_seconds),
            "next_attempt_at": None,
            "started_at": func.coalesce(ImportJob.started_at, NOW),
        }
        if job.state is JobState.QUEUED:
            fence = self._moves.move(connection, job, JobState.RUNNING, **values)
        else:
            fence = connection.execute(
                update(ImportJob)
                .where(ImportJob.id == job.id)
                .values(**values, version=ImportJob.version + 1, updated_at=NOW)
                .returning(ImportJob.fence)
            ).scalar_one()
        if claim.undo:
            connection.execute(
                update_step(job.id, claim.step).values(
                    state=StepState.UNDOING, undo_attempts=JobStep.undo_attempts + 1
                )
            )
        else:
            connection.execute(
                begin_step_of(select(literal(job.id, Uuid), literal(claim.step, Text)))
            )
        return Claim(**{**vars(claim), "fence": fence})

    def heartbeat(
        self, held: Sequence[tuple[UUID, int]], *, lease_seconds: float
    ) -> set[tuple[UUID, int]]:
        """Extends the leases of a living worker; returns the (job, fence) that are still its."""
        with self._single.connect() as connection:
            rows = connection.execute(
                update(ImportJob)
                .where(
                    tuple_(ImportJob.id, ImportJob.fence).in_(held),
                    ImportJob.lease_until.is_not(None),
                )
                .values(lease_until=in_seconds(lease_seconds), due_at=in_seconds(lease_seconds))
                .returning(ImportJob.id, ImportJob.fence)
            )
            return {(row.id, row.fence) for row in rows}

    # While working

    def record_objects(self, claim: Claim, objects: Mapping[str, str]) -> None:
        """Writes down ids of outside objects at once, before anything depends on them.

        Raises:
            LeaseLost: the claim is no longer the latest.
        """
        with self._single.connect() as connection:
            written = _RECORD.execute(
                connection,
                of_job=claim.job.id,
                names=list(stored_names(claim.step)),
                held_fence=claim.fence,
                made=dict(objects),
            )
            if written.rowcount == 0:
                raise LeaseLost

    # Ending an attempt

    def go_on(
        self,
        claim: Claim,
        *,
        output: Mapping[str, Any],
        sealed: bytes | None,
        to: StepName,
        attempts: int,
        lease_seconds: float,
    ) -> Claim | None:
        """Writes what the step found and claims the next one at once, in one statement.

        None, and nothing was written, if anything stands in the way: ``finish_step`` tells what.
        ``attempts`` is how many the next step's policy allows.
        """
        lease = timedelta(seconds=lease_seconds)
        with self._single.connect() as connection:
            return go_on(
                connection,
                claim,
                output=output,
                sealed=sealed,
                to=to,
                attempts=attempts,
                lease=lease,
            )

    def end(
        self, claim: Claim, *, output: Mapping[str, Any], sealed: bytes | None, number: NumberFacts
    ) -> bool | None:
        """Writes what the last step found and makes job and number active, in one statement.

        Returns whether another job of the organisation waits for the place. None, and nothing was
        written, if anything stands in the way, a step that is left to do for one: ``finish_step``
        tells what.
        """
        if claim.step is not PLANS[claim.job.kind][-1]:
            return None
        job = with_values(claim.job, state=JobState.ACTIVE)
        # What is told to a customer's URL is written with it.
        way = self._engine.begin() if job.notify else self._single.connect()
        with way as connection:
            ended = end(connection, claim, output=output, sealed=sealed, number=number)
            if ended is None:
                return None
            if job.notify:
                notify_end(connection, job, JobState.ACTIVE, {})
        at, is_awaited = ended
        count_end(job, code=None, at=at)
        return is_awaited

    def finish_step(
        self,
        claim: Claim,
        *,
        output: Mapping[str, Any],
        sealed: bytes | None,
        number: NumberFacts | None = None,
    ) -> StepName | None:
        """Writes what the step found and moves the cursor; returns the next step.

        None means that there is nothing more to do forwards: the job is active or, if it was
        cancelled meanwhile, undoing. ``number`` is what its number is with the end of this step.

        Raises:
            LeaseLost: the claim is no longer the latest; nothing was written.
        """
        plan = PLANS[claim.job.kind]
        place = plan.index(claim.step) + 1
        following = plan[place] if place < len(plan) else None
        with self._engine.begin() as connection:
            job = self._fenced(connection, claim)
            connection.execute(
                update_step(job.id, claim.step).values(
                    state=StepState.DONE,
                    output=dict(output),
                    sealed=sealed,
                    unsettled_until=None,
                    error_code=None,
                    error_message=None,
                    finished_at=NOW,
                )
            )
            if job.cancel_requested_at is not None:
                self._moves.start_undo(connection, job, None)
                return None
            if number is not None and not activate(connection, job, number):
                raise LeaseLost
            if following is None:
                self._moves.move(connection, job, JobState.ACTIVE, **CLOSED)
                return None
            connection.execute(
                update_job(job).values(
                    step=following, lease_until=None, due_at=in_seconds(self._resend_after)
                )
            )
            return following

    def retry_later(
        self,
        claim: Claim,
        error: TrunklineError,
        *,
        delay: float,
        by_sweep: bool,
        settle: float | None,
        refund: bool = False,
    ) -> bool:
        """Ends an attempt that may succeed later; False if a cancellation makes it undo instead.

        ``by_sweep`` says that no message is sent for the next attempt: the sweep starts it.
        ``refund`` does not count the attempt.
        ``settle`` is the time in seconds for which a lost write may still land.

        Raises:
            LeaseLost: the claim is no longer the latest; nothing was written.
        """
        with self._engine.begin() as connection:
            job = self._fenced(connection, claim)
            refunded = {"attempts": JobStep.attempts - 1} if refund else {}
            self._note_error(connection, claim, error, settle, **refunded)
            if job.cancel_requested_at is not None and not claim.undo:
                self._moves.start_undo(connection, job, None)
                return False
            self._moves.postpone(connection, job, delay, by_sweep=by_sweep)
            return True

    def fail(self, claim: Claim, error: TrunklineError, *, settle: float | None) -> None:
        """Ends a step that failed for good: the job begins to be undone, from this step on.

        Raises:
            LeaseLost: the claim is no longer the latest; nothing was written.
        """
        with self._engine.begin() as connection:
            job = self._fenced(connection, claim)
            self._note_error(connection, claim, error, settle, state=StepState.FAILED)
            self._moves.start_undo(connection, job, (claim.step, error.code, error.message))

    def finish_undo(self, claim: Claim) -> StepName | None:
        """Notes that nothing of a step is left; returns the step to undo next, None at the end.

        Raises:
            LeaseLost: the claim is no longer the latest; nothing was written.
        """
        with self._engine.begin() as connection:
            job = self._fenced(connection, claim)
            connection.execute(
                update_step(job.id, claim.step).values(state=StepState.UNDONE, finished_at=NOW)
            )
            following = last_begun(job, before=claim.step)
            if following is None:
                self._moves.end_undo(connection, job)
            else:
                connection.execute(
                    update_job(job).values(
                        step=following, lease_until=None, due_at=in_seconds(self._resend_after)
                    )
                )
            return following

    def stick(self, claim: Claim, error: TrunklineError) -> None:
        """Ends an undo that failed for good: the job waits for an operator.

        Raises:
            LeaseLost: the claim is no longer the latest; nothing was written.
        """
        with self._engine.begin() as connection:
            job = self._fenced(connection, claim)
            self._moves.stick(connection, job, claim.step, error.code, error.message)

    def limit_account(self, provider: str, account_ref: str, *, seconds: float) -> None:
        """Holds back every job of an account that its provider limits."""
        limited = insert(ProviderLimit).values(
            provider=provider, account_ref=account_ref, until=in_seconds(seconds)
        )
        with self._single.connect() as connection:
            connection.execute(
                limited.on_conflict_do_update(
                    index_elements=["provider", "account_ref"],
                    set_={"until": func.greatest(ProviderLimit.until, limited.excluded.until)},
                )
            )

    def _fenced(self, connection: Connection, claim: Claim) -> JobRecord:
        """Locks the claimed job; LeaseLost if it was claimed since, or turned round."""
        query = select(ImportJob.__table__).where(ImportJob.id == claim.job.id).with_for_update()
        row = connection.execute(query).first()
        if row is None or row.fence != claim.fence or row.lease_until is None:
            raise LeaseLost
        return read_job(row, steps_of(connection, claim.job.id))

    @staticmethod
    def _note_error(
        connection: Connection,
        claim: Claim,
        error: TrunklineError,
        settle: float | None,
        **values: Any,  # noqa: ANN401 -- columns of the table
    ) -> None:
        if settle is not None:
            values["unsettled_until"] = in_seconds(settle)
        connection.execute(
            update_step(claim.job.id, claim.step).values(
                error_code=error.code, error_message=error.message, **values
            )
        )


def _unsettled_for(job: JobRecord, step: StepName, now: datetime) -> float:
    """For how many seconds a lost write of a step may still land; 0 if there is none."""
    until = job.steps[step].unsettled_until if step in job.steps else None
    return 0.0 if until is None else max(0.0, (until - now).total_seconds())


def _exhausted(job: JobRecord, step: StepName) -> tuple[StepName, str, str]:
    """The error of a step that ran out of attempts without ever ending one: its worker died."""
    record = job.steps[step]
    if record.error_code is not None and record.error_message is not None:
        return step, record.error_code, record.error_message
    return step, "internal_error", "The step was interrupted each time it was tried."
