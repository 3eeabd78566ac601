"""Every query on jobs: who may work on a step, what it left, and which state a job is in.

``begin_*``, ``finish_*`` and the other methods that take a :class:`Claim` are the only writers of
the cursor, ``_move`` the only writer of the state. Each method is one transaction; none is open
while a provider is called. A claim's fence makes a write of a worker that was given up for dead
change nothing: it gets ``LeaseLost`` instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    and_,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from worker.db.models import Agent, Credential, ImportJob, JobStep, PhoneNumber, ProviderLimit
from worker.db.records import (
    Claim,
    JobRecord,
    NewJob,
    NoClaim,
    StepRecord,
    read_job,
    read_step,
    with_values,
)
from worker.domain.errors import (
    CredentialNotFound,
    InvalidState,
    LeaseLost,
    NumberAlreadyImported,
    TrunklineError,
)
from worker.domain.job import TRANSITIONS, JobState, StepName, StepState
from worker.domain.values import format_id

_ORDER: Final = tuple(StepName)
#: A message may arrive this much before its time: clocks of two machines are never quite equal.
_EARLY: Final = timedelta(milliseconds=250)
#: The database's clock, also inside a transaction that waited for a lock.
_NOW: Final = func.clock_timestamp()


def _in_seconds(seconds: float) -> Any:  # noqa: ANN401 -- SQLAlchemy's own type for an expression
    return _NOW + timedelta(seconds=seconds)


class JobRepository:
    """Jobs, their steps and the numbers that they claim."""

    def __init__(self, engine: Engine, *, resend_after_seconds: float) -> None:
        self._engine = engine
        self._resend_after = resend_after_seconds

    # Reading

    def get(self, job_id: UUID) -> JobRecord | None:
        """Returns a job with its steps."""
        with self._engine.connect() as connection:
            row = connection.execute(
                select(ImportJob.__table__).where(ImportJob.id == job_id)
            ).first()
            return None if row is None else read_job(row, self._steps(connection, job_id))

    def version(self, job_id: UUID) -> tuple[int, JobState] | None:
        """Returns what a waiting caller watches: the version and the state."""
        query = select(ImportJob.version, ImportJob.state).where(ImportJob.id == job_id)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
            return None if row is None else (row.version, JobState(row.state))

    def find_by_idempotency_key(self, organization_id: UUID, key: str) -> JobRecord | None:
        """Returns the job that an earlier request with this key made."""
        query = select(ImportJob.id).where(
            ImportJob.organization_id == organization_id, ImportJob.idempotency_key == key
        )
        with self._engine.connect() as connection:
            job_id = connection.execute(query).scalar()
        return None if job_id is None else self.get(job_id)

    def list_jobs(
        self,
        organization_id: UUID,
        *,
        limit: int,
        before: UUID | None = None,
        state: JobState | None = None,
        provider: str | None = None,
        e164: str | None = None,
    ) -> list[JobRecord]:
        """Returns an organisation's jobs, newest first, without their steps."""
        query: Select[Any] = select(ImportJob.__table__).where(
            ImportJob.organization_id == organization_id
        )
        if before is not None:
            query = query.where(ImportJob.id < before)
        if state is not None:
            query = query.where(ImportJob.state == state)
        if provider is not None:
            query = query.where(ImportJob.provider == provider)
        if e164 is not None:
            query = query.where(ImportJob.e164 == e164)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(ImportJob.id.desc()).limit(limit))
            return [read_job(row, {}) for row in rows]

    def original_routing(self, e164: str, provider_number_id: str) -> bytes | None:
        """Returns the newest saved original of a number, sealed; a re-import must not lose it."""
        query = (
            select(JobStep.sealed)
            .join(ImportJob, ImportJob.id == JobStep.job_id)
            .where(
                ImportJob.e164 == e164,
                JobStep.step == StepName.CHECK_OWNERSHIP,
                JobStep.output["number_id"].astext == provider_number_id,
                JobStep.sealed.is_not(None),
            )
            .order_by(ImportJob.id.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            return connection.execute(query).scalar()

    @staticmethod
    def _steps(connection: Connection, job_id: UUID) -> dict[StepName, StepRecord]:
        rows = connection.execute(select(JobStep.__table__).where(JobStep.job_id == job_id))
        return {record.step: record for record in map(read_step, rows)}

    # Submitting

    def submit(self, job: NewJob, inline_credential: Mapping[str, Any] | None) -> bool:
        """Stores a job and claims its number; False if its idempotency key has been used before.

        Raises:
            NumberAlreadyImported: the number is active or another import of it is under way.
            CredentialNotFound: the credential has just been deleted.

        Safe to repeat: with an idempotency key.
        """
        with self._engine.begin() as connection:
            if inline_credential is not None:
                connection.execute(insert(Credential).values(**inline_credential))
            self._hold_credential(connection, job.credential_id)
            made = connection.execute(
                insert(ImportJob)
                .values(
                    id=job.id,
                    organization_id=job.organization_id,
                    api_key_id=job.api_key_id,
                    idempotency_key=job.idempotency_key,
                    state=JobState.QUEUED,
                    provider=job.provider,
                    e164=job.e164,
                    credential_id=job.credential_id,
                    account_ref=job.account_ref,
                    agent_id=job.agent_id,
                    user_id=job.user_id,
                    phone_number_id=job.phone_number_id,
                    request=job.request,
                    sealed=job.sealed,
                    warnings=list(job.warnings),
                    step=_ORDER[0],
                    # As if it had been sent: the sender reports a failure, and a crash before it
                    # could send is found by the sweep once this time has come.
                    sent_at=_NOW,
                    due_at=_in_seconds(self._resend_after),
                )
                .on_conflict_do_nothing(
                    index_elements=["organization_id", "idempotency_key"],
                    index_where=text("idempotency_key IS NOT NULL"),
                )
                .returning(ImportJob.id)
            ).scalar()
            if made is None:
                connection.rollback()
                return False
            self._claim_number(connection, job)
            return True

    def _claim_number(self, connection: Connection, job: NewJob | JobRecord) -> None:
        request = job.request
        claimed = connection.execute(
            insert(PhoneNumber)
            .values(
                id=job.phone_number_id,
                organization_id=job.organization_id,
                import_id=job.id,
                e164=job.e164,
                provider=job.provider,
                ownership=request["ownership"],
                status="pending",
                credential_id=job.credential_id,
                agent_id=job.agent_id,
                user_id=job.user_id,
                friendly_name=request["friendly_name"],
                routing_mode=request["routing_mode"],
                supports_inbound=request["supports_inbound"],
                supports_outbound=request["supports_outbound"],
                details={"price": request["price"], "metadata": request["metadata"]},
            )
            .on_conflict_do_nothing()
            .returning(PhoneNumber.id)
        ).scalar()
        if claimed is None:
            raise self._taken(connection, job)

    @staticmethod
    def _hold_credential(connection: Connection, credential_id: UUID) -> None:
        """Keeps a credential from being deleted before the job that needs it is stored."""
        held = connection.execute(
            select(Credential.id)
            .where(Credential.id == credential_id, Credential.deleted_at.is_(None))
            .with_for_update(read=True)
        ).scalar()
        if held is None:
            raise CredentialNotFound

    @staticmethod
    def _taken(connection: Connection, job: NewJob | JobRecord) -> NumberAlreadyImported:
        """Names the import that holds the number, if the caller may know of it."""
        holder = connection.execute(
            select(PhoneNumber.import_id)
            .where(PhoneNumber.e164 == job.e164, PhoneNumber.organization_id == job.organization_id)
            .limit(1)
        ).scalar()
        if holder is None:
            return NumberAlreadyImported()
        return NumberAlreadyImported(
            f"This number belongs to the import {format_id('imp', holder)}: follow that one, or "
            "release the number first."
        )

    def sending_failed(self, job_ids: Iterable[UUID]) -> None:
        """Notes that no message is on its way: the sweep sends one as soon as it runs."""
        with self._engine.begin() as connection:
            connection.execute(
                update(ImportJob)
                .where(ImportJob.id.in_(list(job_ids)), ImportJob.due_at.is_not(None))
                .values(sent_at=None, due_at=_NOW)
            )

    # Claiming

    def begin_step(  # noqa: PLR0911 -- one line a reason, in the order in which they decide
        self, job_id: UUID, step: StepName, *, attempts: int, lease_seconds: float
    ) -> Claim | NoClaim:
        """Claims a step: counts the attempt and takes the lease, before any work.

        ``attempts`` is how many the step's policy allows; a job that has used them up (its worker
        died each time) is sent to be undone.
        """
        with self._engine.begin() as connection:
            found = self._lock(connection, job_id)
            if found is None:
                return NoClaim.NOT_OURS
            job, credential, dispatch_name, limited_for, now = found
            if job.state not in (JobState.QUEUED, JobState.RUNNING) or job.step is None:
                return NoClaim.NOT_OURS
            if _ORDER.index(step) < _ORDER.index(job.step):
                return NoClaim.PASSED
            if step is not job.step or _is_leased(job, now):
                return NoClaim.NOT_OURS
            if job.cancel_requested_at is not None:
                self._start_undo(connection, job, None)
                return NoClaim.UNDOING
            if job.next_attempt_at is not None and job.next_attempt_at > now + _EARLY:
                return NoClaim.NOT_OURS
            if limited_for is not None:
                self._postpone(connection, job, limited_for, by_sweep=True)
                return NoClaim.NOT_OURS
            used = job.steps[step].attempts if step in job.steps else 0
            if used >= attempts:
                self._start_undo(connection, job, _exhausted(job, step))
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
                ),
                lease_seconds,
            )

    def begin_undo(  # noqa: PLR0911 -- as begin_step
        self, job_id: UUID, step: StepName, *, attempts: int, lease_seconds: float
    ) -> Claim | NoClaim:
        """Claims the undo of a step; waits while a write of the step may still land."""
        with self._engine.begin() as connection:
            found = self._lock(connection, job_id)
            if found is None:
                return NoClaim.NOT_OURS
            job, credential, dispatch_name, limited_for, now = found
            if job.state is not JobState.UNDOING or job.step is None:
                return NoClaim.NOT_OURS
            if _ORDER.index(step) > _ORDER.index(job.step):
                return NoClaim.PASSED
            if step is not job.step or _is_leased(job, now):
                return NoClaim.NOT_OURS
            if job.next_attempt_at is not None and job.next_attempt_at > now + _EARLY:
                return NoClaim.NOT_OURS
            record = job.steps[step]
            wait = max(
                limited_for or 0.0,
                0.0
                if record.unsettled_until is None
                else (record.unsettled_until - now).total_seconds(),
            )
            if wait > 0:
                self._postpone(connection, job, wait, by_sweep=True)
                return NoClaim.NOT_OURS
            if record.undo_attempts >= attempts:
                self._stick(connection, job, step, "undo_failed", record.error_message or "")
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
                ),
                lease_seconds,
            )

    def _lock(
        self, connection: Connection, job_id: UUID
    ) -> tuple[JobRecord, bytes, str | None, float | None, datetime] | None:
        """Locks a job's row; also returns its secrets, its agent and its account's rate limit."""
        query = (
            select(
                ImportJob.__table__,
                Credential.sealed.label("credential_sealed"),
                Agent.dispatch_name,
                ProviderLimit.until.label("limited_until"),
                _NOW.label("now"),
            )
            .join(Credential, Credential.id == ImportJob.credential_id)
            .outerjoin(Agent, Agent.id == ImportJob.agent_id)
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
        limited_for = None
        if row.limited_until is not None and row.limited_until > row.now:
            limited_for = (row.limited_until - row.now).total_seconds()
        job = read_job(row, self._steps(connection, job_id))
        return job, row.credential_sealed, row.dispatch_name, limited_for, row.now

    def _claim(
        self, connection: Connection, job: JobRecord, claim: Claim, lease_seconds: float
    ) -> Claim:
        values = {
            "fence": ImportJob.fence + 1,
            "lease_until": _in_seconds(lease_seconds),
            "due_at": _in_seconds(lease_seconds),
            "next_attempt_at": None,
            "started_at": func.coalesce(ImportJob.started_at, _NOW),
        }
        if job.state is JobState.QUEUED:
            fence = self._move(connection, job, JobState.RUNNING, **values)
        else:
            fence = connection.execute(
                update(ImportJob)
                .where(ImportJob.id == job.id)
                .values(**values, version=ImportJob.version + 1, updated_at=_NOW)
                .returning(ImportJob.fence)
            ).scalar_one()
        if claim.undo:
            connection.execute(
                _at(job.id, claim.step).values(
                    state=StepState.UNDOING, undo_attempts=JobStep.undo_attempts + 1
                )
            )
        else:
            begun = insert(JobStep).values(
                job_id=job.id,
                step=claim.step,
                state=StepState.RUNNING,
                attempts=1,
                started_at=_NOW,
            )
            connection.execute(
                begun.on_conflict_do_update(
                    index_elements=["job_id", "step"],
                    set_={"state": StepState.RUNNING, "attempts": JobStep.attempts + 1},
                )
            )
        return Claim(**{**vars(claim), "fence": fence})

    def heartbeat(
        self, held: Sequence[tuple[UUID, int]], *, lease_seconds: float
    ) -> set[tuple[UUID, int]]:
        """Extends the leases of a living worker; returns the (job, fence) that are still its."""
        with self._engine.begin() as connection:
            rows = connection.execute(
                update(ImportJob)
                .where(
                    tuple_(ImportJob.id, ImportJob.fence).in_(held),
                    ImportJob.lease_until.is_not(None),
                )
                .values(lease_until=_in_seconds(lease_seconds), due_at=_in_seconds(lease_seconds))
                .returning(ImportJob.id, ImportJob.fence)
            )
            return {(row.id, row.fence) for row in rows}

    # While working

    def record_objects(self, claim: Claim, objects: Mapping[str, str]) -> None:
        """Writes down ids of outside objects at once, before anything depends on them.

        Raises:
            LeaseLost: the claim is no longer the latest.
        """
        with self._engine.begin() as connection:
            written = connection.execute(
                _at(claim.job.id, claim.step)
                .where(
                    ImportJob.id == JobStep.job_id,
                    ImportJob.fence == claim.fence,
                    ImportJob.lease_until.is_not(None),
                )
                .values(
                    objects=JobStep.objects.concat(literal(dict(objects), JobStep.objects.type))
                )
            )
            if written.rowcount == 0:
                raise LeaseLost

    # Ending an attempt

    def finish_step(
        self, claim: Claim, *, output: Mapping[str, Any], sealed: bytes | None
    ) -> StepName | None:
        """Writes what the step found and moves the cursor; returns the next step.

        None means that there is nothing more to do forwards: the job is active, or, if it was
        cancelled meanwhile, undoing.

        Raises:
            LeaseLost: the claim is no longer the latest; nothing was written.
        """
        place = _ORDER.index(claim.step) + 1
        following = _ORDER[place] if place < len(_ORDER) else None
        with self._engine.begin() as connection:
            job = self._fenced(connection, claim)
            connection.execute(
                _at(job.id, claim.step).values(
                    state=StepState.DONE,
                    output=dict(output),
                    sealed=sealed,
                    unsettled_until=None,
                    error_code=None,
                    error_message=None,
                    finished_at=_NOW,
                )
            )
            if job.cancel_requested_at is not None:
                self._start_undo(connection, job, None)
                return None
            if following is None:
                self._move(connection, job, JobState.ACTIVE, **_CLOSED)
                return None
            connection.execute(
                _of(job).values(
                    step=following, lease_until=None, due_at=_in_seconds(self._resend_after)
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
                self._start_undo(connection, job, None)
                return False
            self._postpone(connection, job, delay, by_sweep=by_sweep)
            return True

    def fail(self, claim: Claim, error: TrunklineError, *, settle: float | None) -> None:
        """Ends a step that failed for good: the job begins to be undone, from this step on.

        Raises:
            LeaseLost: the claim is no longer the latest; nothing was written.
        """
        with self._engine.begin() as connection:
            job = self._fenced(connection, claim)
            self._note_error(connection, claim, error, settle, state=StepState.FAILED)
            self._start_undo(connection, job, (claim.step, error.code, error.message))

    def finish_undo(self, claim: Claim) -> StepName | None:
        """Notes that nothing of a step is left; returns the step to undo next, None at the end.

        Raises:
            LeaseLost: the claim is no longer the latest; nothing was written.
        """
        with self._engine.begin() as connection:
            job = self._fenced(connection, claim)
            connection.execute(
                _at(job.id, claim.step).values(state=StepState.UNDONE, finished_at=_NOW)
            )
            following = _last_begun(job, before=claim.step)
            if following is None:
                self._end_undo(connection, job)
            else:
                connection.execute(
                    _of(job).values(
                        step=following, lease_until=None, due_at=_in_seconds(self._resend_after)
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
            self._stick(connection, job, claim.step, error.code, error.message)

    def limit_account(self, provider: str, account_ref: str, *, seconds: float) -> None:
        """Holds back every job of an account that its provider limits."""
        limited = insert(ProviderLimit).values(
            provider=provider, account_ref=account_ref, until=_in_seconds(seconds)
        )
        with self._engine.begin() as connection:
            connection.execute(
                limited.on_conflict_do_update(
                    index_elements=["provider", "account_ref"],
                    set_={"until": func.greatest(ProviderLimit.until, limited.excluded.until)},
                )
            )

    # The caller's and the operator's requests

    def cancel(self, job_id: UUID) -> JobState:
        """Asks for a job to be undone; at once if nobody works on it. Returns the state it is in.

        Raises:
            InvalidState: the job is final.

        Safe to repeat: yes.
        """
        with self._engine.begin() as connection:
            job, now = self._lock_only(connection, job_id)
            if job.cancel_requested_at is not None and job.state is not JobState.ACTIVE:
                return job.state
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                raise InvalidState(
                    f"The import is {job.state}; only a queued or running one can be cancelled."
                )
            connection.execute(_of(job).values(cancel_requested_at=_NOW))
            if _is_leased(job, now):
                return job.state
            self._start_undo(connection, job, None)
            return JobState.UNDOING

    def retry(self, job_id: UUID) -> JobState:
        """Resumes the undo of a stuck job, or starts a failed or cancelled one again.

        Raises:
            InvalidState: the job is none of these.
            NumberAlreadyImported: another import has claimed the number since.
            CredentialNotFound: its credential was deleted.
        """
        with self._engine.begin() as connection:
            job, _ = self._lock_only(connection, job_id)
            now_due = {
                "sent_at": _NOW,
                "due_at": _in_seconds(self._resend_after),
                "finished_at": None,
            }
            if job.state is JobState.STUCK:
                connection.execute(
                    update(JobStep).where(JobStep.job_id == job.id).values(undo_attempts=0)
                )
                self._move(
                    connection,
                    job,
                    JobState.UNDOING,
                    undo_error_code=None,
                    undo_error_message=None,
                    undo_error_step=None,
                    **now_due,
                )
                return JobState.UNDOING
            if job.state not in (JobState.FAILED, JobState.CANCELLED):
                raise InvalidState(
                    f"The import is {job.state}; retry takes a failed, cancelled or stuck one."
                )
            self._hold_credential(connection, job.credential_id)
            connection.execute(delete(JobStep).where(JobStep.job_id == job.id))
            self._claim_number(connection, job)
            self._move(
                connection,
                job,
                JobState.QUEUED,
                step=_ORDER[0],
                next_attempt_at=None,
                cancel_requested_at=None,
                error_code=None,
                error_message=None,
                error_step=None,
                **now_due,
            )
            return JobState.QUEUED

    # The sweep

    def take_due(self, *, limit: int, queue_is_short: bool) -> list[UUID]:
        """Takes jobs that somebody should have moved on by now, for their message to be sent again.

        While the broker's queue is long, a job whose message was sent is probably waiting in it:
        then only those are taken that were never sent or whose worker died. Many sweeps may run at
        the same time; each takes others.
        """
        due = select(ImportJob.id).where(ImportJob.due_at <= _NOW)
        if not queue_is_short:
            due = due.where(or_(ImportJob.sent_at.is_(None), ImportJob.lease_until.is_not(None)))
        due = due.order_by(ImportJob.due_at).limit(limit).with_for_update(skip_locked=True)
        with self._engine.begin() as connection:
            rows = connection.execute(
                update(ImportJob)
                .where(ImportJob.id.in_(due.scalar_subquery()))
                .values(sent_at=_NOW, due_at=_in_seconds(self._resend_after))
                .returning(ImportJob.id)
            )
            return list(rows.scalars())

    # The only writers of state and cursor

    def _move(
        self,
        connection: Connection,
        job: JobRecord,
        to: JobState,
        **values: Any,  # noqa: ANN401 -- columns of the table
    ) -> int:
        """Moves a locked job to another state, with whatever else changes; returns the fence."""
        if to not in TRANSITIONS[job.state]:
            raise InvalidState(f"An import that is {job.state} cannot become {to}.")
        fence: int = connection.execute(
            update(ImportJob)
            .where(ImportJob.id == job.id, ImportJob.state == job.state)
            .values(state=to, version=ImportJob.version + 1, updated_at=_NOW, **values)
            .returning(ImportJob.fence)
        ).scalar_one()
        return fence

    def _start_undo(
        self, connection: Connection, job: JobRecord, error: tuple[StepName, str, str] | None
    ) -> None:
        """Turns a job round: undo begins at the last step that began; there may be none."""
        step, code, message = error or (None, None, None)
        last = _last_begun(job, before=None)
        self._move(
            connection,
            job,
            JobState.UNDOING,
            step=last,
            lease_until=None,
            next_attempt_at=None,
            due_at=_in_seconds(self._resend_after),
            error_step=step,
            error_code=code,
            error_message=message,
        )
        if last is None:
            undoing = with_values(job, state=JobState.UNDOING, error_code=code)
            self._end_undo(connection, undoing)

    def _end_undo(self, connection: Connection, job: JobRecord) -> None:
        connection.execute(
            delete(PhoneNumber).where(
                PhoneNumber.import_id == job.id, PhoneNumber.status == "pending"
            )
        )
        cancelled = job.error_code is None
        self._move(connection, job, JobState.CANCELLED if cancelled else JobState.FAILED, **_CLOSED)

    def _stick(
        self, connection: Connection, job: JobRecord, step: StepName, code: str, message: str
    ) -> None:
        connection.execute(_at(job.id, step).values(state=StepState.STUCK))
        self._move(
            connection,
            job,
            JobState.STUCK,
            undo_error_code=code,
            undo_error_message=message,
            undo_error_step=step,
            **{**_CLOSED, "step": step},
        )

    def _postpone(
        self, connection: Connection, job: JobRecord, seconds: float, *, by_sweep: bool
    ) -> None:
        grace = 0 if by_sweep else self._resend_after
        connection.execute(
            _of(job).values(
                lease_until=None,
                next_attempt_at=_in_seconds(seconds),
                due_at=_in_seconds(seconds + grace),
                # Nothing waits in the broker for it, however long its queue is.
                sent_at=None if by_sweep else _NOW,
            )
        )

    def _fenced(self, connection: Connection, claim: Claim) -> JobRecord:
        """Locks the claimed job; LeaseLost if it was claimed since, or turned round."""
        query = select(ImportJob.__table__).where(ImportJob.id == claim.job.id).with_for_update()
        row = connection.execute(query).first()
        if row is None or row.fence != claim.fence or row.lease_until is None:
            raise LeaseLost
        return read_job(row, self._steps(connection, claim.job.id))

    def _lock_only(self, connection: Connection, job_id: UUID) -> tuple[JobRecord, datetime]:
        query = (
            select(ImportJob.__table__, _NOW.label("now"))
            .where(ImportJob.id == job_id)
            .with_for_update()
        )
        row = connection.execute(query).one()
        return read_job(row, self._steps(connection, job_id)), row.now

    @staticmethod
    def _note_error(
        connection: Connection,
        claim: Claim,
        error: TrunklineError,
        settle: float | None,
        **values: Any,  # noqa: ANN401 -- columns of the table
    ) -> None:
        if settle is not None:
            values["unsettled_until"] = _in_seconds(settle)
        connection.execute(
            _at(claim.job.id, claim.step).values(
                error_code=error.code, error_message=error.message, **values
            )
        )


#: What a job that has come to its end no longer has.
_CLOSED: Final[Mapping[str, Any]] = {
    "step": None,
    "lease_until": None,
    "next_attempt_at": None,
    "due_at": None,
    "finished_at": _NOW,
}


def _of(job: JobRecord) -> Any:  # noqa: ANN401 -- an Update without its values
    return (
        update(ImportJob)
        .where(ImportJob.id == job.id)
        .values(version=ImportJob.version + 1, updated_at=_NOW)
    )


def _at(job_id: UUID, step: StepName) -> Any:  # noqa: ANN401 -- an Update without its values
    return update(JobStep).where(JobStep.job_id == job_id, JobStep.step == step)


def _is_leased(job: JobRecord, now: datetime) -> bool:
    return job.lease_until is not None and job.lease_until > now


def _last_begun(job: JobRecord, *, before: StepName | None) -> StepName | None:
    """The last step, in order, that began and is not undone yet."""
    end = len(_ORDER) if before is None else _ORDER.index(before)
    for step in reversed(_ORDER[:end]):
        if step in job.steps and job.steps[step].state is not StepState.UNDONE:
            return step
    return None


def _exhausted(job: JobRecord, step: StepName) -> tuple[StepName, str, str]:
    """The error of a step that ran out of attempts without ever ending one: its worker died."""
    record = job.steps[step]
    if record.error_code is not None and record.error_message is not None:
        return step, record.error_code, record.error_message
    return step, "internal_error", "The step was interrupted each time it was tried."
