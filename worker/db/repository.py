"""Every query on jobs but the guard's: look up, submit, cancel, retry.

The guard's are in :mod:`claims`, the sweep's in :mod:`sweeps`, the writers of state and cursor in
:mod:`moves`, those on what jobs refer to in :mod:`directory`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    Select,
    Uuid,
    and_,
    bindparam,
    delete,
    exc,
    func,
    not_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from worker.db.audit import Deed
from worker.db.engine import one_statement
from worker.db.members import hold_named
from worker.db.models import Credential, ImportJob, JobStep, PhoneNumber
from worker.db.moves import (
    IS_KNOWN,
    NOW,
    Moves,
    copy_steps,
    is_leased,
    lock_job,
    reset_steps,
    steps_of,
    update_job,
)
from worker.db.notifications import notifications_of
from worker.db.places import Start, find_place
from worker.db.prepared import Prepared
from worker.db.records import JobRecord, NewChange, NewJob, read_job
from worker.db.storing import number_row, store
from worker.db.tally import Tally, tally
from worker.domain.errors import (
    CredentialNotFound,
    InvalidState,
    NotFound,
    NumberAlreadyImported,
    NumberBusy,
)
from worker.domain.job import (
    OPEN,
    PLANS,
    JobKind,
    JobState,
    StepName,
    StepState,
    read_word,
    stored_names,
)
from worker.domain.values import NumberStatus, format_id
from worker.settings import ORGANIZATION_CONCURRENCY

#: Read at each poll.
_JOB: Final = Prepared(
    select(ImportJob.__table__).where(ImportJob.id == bindparam("of_job", type_=Uuid))
)


class JobRepository:
    """Jobs, their steps and the numbers that they claim."""

    def __init__(
        self,
        engine: Engine,
        *,
        resend_after_seconds: float,
        organization_concurrency: int = ORGANIZATION_CONCURRENCY,
    ) -> None:
        self._engine = engine
        self._single = one_statement(engine)
        self._resend_after = resend_after_seconds
        self._places = organization_concurrency
        self._moves = Moves(resend_after_seconds=resend_after_seconds)

    # Reading

    def get(self, job_id: UUID) -> JobRecord | None:
        """Returns a job with its steps."""
        with self._single.connect() as connection:
            row = _JOB.execute(connection, of_job=job_id).first()
            if row is None:
                return None
            told = notifications_of(connection, job_id) if row.notify else ()
            return read_job(row, steps_of(connection, job_id), told)

    def versions(self, job_ids: Collection[UUID]) -> dict[UUID, tuple[int, JobState]]:
        """Returns what waiting callers watch: the version and the state of each job there is."""
        query = select(ImportJob.id, ImportJob.version, ImportJob.state)
        with self._single.connect() as connection:
            rows = connection.execute(query.where(ImportJob.id == func.any(list(job_ids))))
            return {row.id: (row.version, read_word(JobState, row.state)) for row in rows}

    def find_by_idempotency_key(self, organization_id: UUID, key: str) -> JobRecord | None:
        """Returns the job that an earlier request with this key made."""
        query = select(ImportJob.id).where(
            ImportJob.organization_id == organization_id, ImportJob.idempotency_key == key
        )
        with self._single.connect() as connection:
            job_id = connection.execute(query).scalar()
        return None if job_id is None else self.get(job_id)

    def open_job(self, number_id: UUID) -> JobRecord | None:
        """Returns the job that works on a number now, or is stuck on it."""
        query = select(ImportJob.id).where(
            ImportJob.phone_number_id == number_id, ImportJob.state.in_(OPEN)
        )
        with self._single.connect() as connection:
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
        kind: str | None = None,
        batch_id: UUID | None = None,
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
        if kind is not None:
            query = query.where(ImportJob.kind == kind)
        if batch_id is not None:
            query = query.where(ImportJob.batch_id == batch_id)
        if e164 is not None:
            query = query.where(ImportJob.e164 == e164)
        with self._single.connect() as connection:
            rows = connection.execute(query.order_by(ImportJob.id.desc()).limit(limit))
            return [read_job(row, {}) for row in rows]

    def tally(self, organization_id: UUID) -> Tally:
        """Returns how many of an organisation's jobs are in each state."""
        with self._single.connect() as connection:
            return tally(connection, organization_id)

    def original_routing(self, e164: str, provider_number_id: str) -> bytes | None:
        """Returns the newest saved original of a number, sealed; a re-import must not lose it."""
        query = (
            select(JobStep.sealed)
            .join(ImportJob, ImportJob.id == JobStep.job_id)
            .where(
                ImportJob.e164 == e164,
                JobStep.step.in_(stored_names(StepName.CHECK_OWNERSHIP)),
                JobStep.output["number_id"].astext == provider_number_id,
                JobStep.sealed.is_not(None),
            )
            .order_by(ImportJob.id.desc())
            .limit(1)
        )
        with self._single.connect() as connection:
            return connection.execute(query).scalar()

    def count_of_newer_release(self) -> int:
        """Returns how many jobs go on only in a worker of a newer release."""
        query = select(func.count()).where(ImportJob.due_at.is_not(None), not_(and_(*IS_KNOWN)))
        with self._single.connect() as connection:
            return connection.execute(query).scalar_one()

    # Submitting

    def submit(
        self, job: NewJob, inline_credential: Mapping[str, Any] | None, deed: Deed | None = None
    ) -> JobRecord | None:
        """Stores a job and claims its number; None if its idempotency key has been used before.

        ``deed`` is what the audit log keeps of it.

        Raises:
            NumberAlreadyImported: the number is active or another import of it is under way.
            CredentialNotFound: the credential has just been deleted.
            AgentNotFound: the agent or fallback agent has just been deleted.
            UserNotFound: the user has just been deleted.

        Safe to repeat: with an idempotency key.
        """
        with self._engine.begin() as connection:
            if inline_credential is not None:
                connection.execute(insert(Credential).values(**inline_credential))
            _hold_named(connection, job)
            start = self._find_place(connection, job.organization_id)
            made = store(
                connection, job, deed, start=start, resend_after_seconds=self._resend_after
            )
            if made.held_credential is None:
                raise CredentialNotFound
            if made.id is None:
                connection.rollback()
                return None
            if made.claimed_number is None:
                raise self._taken(connection, job)
            return read_job(made, {})

    def _find_place(
        self, connection: Connection, organization_id: UUID, *, undo: bool = False
    ) -> Start:
        return find_place(connection, organization_id, undo=undo, places=self._places)

    def _start(
        self, connection: Connection, organization_id: UUID, *, undo: bool = False
    ) -> dict[str, Any]:
        start = self._find_place(connection, organization_id, undo=undo)
        return start.columns(resend_after_seconds=self._resend_after)

    def _claim_number(self, connection: Connection, job: NewJob | JobRecord) -> None:
        claimed = connection.execute(
            insert(PhoneNumber)
            .values(number_row(job))
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
            .where(
                PhoneNumber.e164 == job.e164,
                PhoneNumber.organization_id == job.organization_id,
                PhoneNumber.status != NumberStatus.RELEASED,
            )
            .limit(1)
        ).scalar()
        if holder is None:
            return NumberAlreadyImported()
        return NumberAlreadyImported(
            f"This number belongs to the import {format_id('imp', holder)}: follow that one, or "
            "release the number first."
        )

    def submit_change(self, change: NewChange) -> None:
        """Stores a job on an active number.

        A release begins undoing at once: from then on the number is on its way out.

        Raises:
            NotFound: the organisation has no such number, or no longer.
            NumberBusy: another job works on the number, or has changed it just now.
        """
        release = change.kind is JobKind.RELEASE
        with self._engine.begin() as connection, _one_at_a_time():
            number = self._lock_active(connection, change.phone_number_id)
            if change.seen not in (None, number.updated_at):
                raise NumberBusy  # the request would take back what was changed just now
            last = number.job_id or number.import_id
            before = connection.execute(
                select(
                    ImportJob.request, ImportJob.sealed, ImportJob.notify, Credential.account_ref
                )
                .join(Credential, Credential.id == number.credential_id)
                .where(ImportJob.id == last)
            ).one()
            as_it_was = change.request is None or change.sealed is None
            if change.request is not None:
                hold_named(
                    connection, agent_id=change.agent_id, user_id=None, request=change.request
                )
            connection.execute(
                insert(ImportJob).values(
                    id=change.id,
                    organization_id=change.organization_id,
                    api_key_id=change.api_key_id,
                    kind=change.kind,
                    import_id=number.import_id,
                    state=JobState.UNDOING if release else JobState.QUEUED,
                    provider=number.provider,
                    e164=number.e164,
                    credential_id=number.credential_id,
                    account_ref=before.account_ref,
                    agent_id=number.agent_id if as_it_was else change.agent_id,
                    user_id=number.user_id,
                    phone_number_id=number.id,
                    request=before.request if as_it_was else change.request,
                    sealed=before.sealed if as_it_was else change.sealed,
                    notify=before.notify if as_it_was else change.notify,
                    step=PLANS[change.kind][-1 if release else 0],
                    **self._start(connection, change.organization_id, undo=release),
                )
            )
            state = StepState.DONE if release else StepState.WAITING
            copy_steps(connection, change.id, of=last, state=state)
            if release:
                connection.execute(
                    update(PhoneNumber)
                    .where(PhoneNumber.id == number.id)
                    .values(status=NumberStatus.RELEASING, updated_at=NOW)
                )

    @staticmethod
    def _lock_active(connection: Connection, number_id: UUID | None) -> Row[Any]:
        """Locks an active number's row."""
        query = select(PhoneNumber.__table__).where(PhoneNumber.id == number_id).with_for_update()
        row = connection.execute(query).first()
        if row is None or row.status not in (NumberStatus.ACTIVE, NumberStatus.RELEASING):
            raise NotFound("There is no phone number with this id.")
        if row.status == NumberStatus.RELEASING:
            raise NumberBusy("The number is being released.")
        return row

    def sending_failed(self, job_ids: Iterable[UUID]) -> None:
        """Notes that no message is on its way: the sweep sends one as soon as it runs."""
        with self._engine.begin() as connection:
            connection.execute(
                update(ImportJob)
                .where(ImportJob.id.in_(list(job_ids)), ImportJob.due_at.is_not(None))
                .values(sent_at=None, due_at=NOW)
            )

    # The caller's and the operator's requests

    def cancel(self, job_id: UUID) -> JobState:
        """Asks for a job to be undone; at once if nobody works on it. Returns the state it is in.

        Raises:
            InvalidState: the job is final.

        Safe to repeat: yes.
        """
        with self._engine.begin() as connection:
            job, now = lock_job(connection, job_id)
            if job.kind is not JobKind.IMPORT:
                raise InvalidState(f"A {job.kind} cannot be cancelled; only an import can.")
            if job.cancel_requested_at is not None and job.state is not JobState.ACTIVE:
                return job.state
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                raise InvalidState(
                    f"The import is {job.state}; only a queued or running one can be cancelled."
                )
            connection.execute(update_job(job).values(cancel_requested_at=NOW))
            if is_leased(job, now) or not job.is_understood:
                # Whoever works on it, or knows all that it has begun, turns it round.
                return job.state
            self._moves.start_undo(connection, job, None)
            return JobState.UNDOING

    def retry(self, job_id: UUID) -> JobState:
        """Resumes the undo of a stuck job, or starts a failed or cancelled one again.

        Raises:
            InvalidState: the job is none of these, or its number was changed since.
            NumberAlreadyImported: another import has claimed the number since.
            NumberBusy: another job works on the number.
            CredentialNotFound: its credential was deleted.
            AgentNotFound: its agent or fallback agent was deleted.
            UserNotFound: its user was deleted.
        """
        with self._engine.begin() as connection, _one_at_a_time():
            job, _ = lock_job(connection, job_id)
            stuck = job.state is JobState.STUCK
            start = self._start(connection, job.organization_id, undo=stuck)
            start["finished_at"] = None
            if stuck:
                connection.execute(
                    update(JobStep).where(JobStep.job_id == job.id).values(undo_attempts=0)
                )
                self._moves.move(
                    connection,
                    job,
                    JobState.UNDOING,
                    undo_error_code=None,
                    undo_error_message=None,
                    undo_error_step=None,
                    **start,
                )
                return JobState.UNDOING
            if job.kind not in PLANS:
                raise InvalidState(f"Only a newer release can retry a {job.kind}.")
            if job.state not in (JobState.FAILED, JobState.CANCELLED):
                raise InvalidState(
                    f"The import is {job.state}; retry takes a failed, cancelled or stuck one."
                )
            self._hold_credential(connection, job.credential_id)
            _hold_named(connection, job)
            if job.kind is JobKind.IMPORT:
                connection.execute(delete(JobStep).where(JobStep.job_id == job.id))
                self._claim_number(connection, job)
            else:
                self._begin_anew(connection, job)
            self._moves.move(
                connection,
                job,
                JobState.QUEUED,
                step=PLANS[job.kind][0],
                next_attempt_at=None,
                cancel_requested_at=None,
                error_code=None,
                error_message=None,
                error_step=None,
                **start,
            )
            return JobState.QUEUED

    def _begin_anew(self, connection: Connection, job: JobRecord) -> None:
        """Gives a change that failed what the number is by now: a repair sets that up again."""
        number = self._lock_active(connection, job.phone_number_id)
        last = number.job_id or number.import_id
        if last == job.id:
            # It failed after its number was written down: by the release before, or in a release
            # with steps after that one. What the number is, is what this job left.
            reset_steps(connection, job.id)
            return
        if job.kind is JobKind.REBIND and number.updated_at > job.created_at:
            raise InvalidState("The number was changed since. Send this change again instead.")
        connection.execute(delete(JobStep).where(JobStep.job_id == job.id))
        copy_steps(connection, job.id, of=last, state=StepState.WAITING)
        if job.kind is JobKind.REPAIR:
            columns = ("request", "sealed", "notify")
            query = select(*(getattr(ImportJob, name) for name in columns))
            found = connection.execute(query.where(ImportJob.id == last)).one()
            kept = dict(zip(columns, found, strict=True))
            connection.execute(update_job(job).values(**kept, agent_id=number.agent_id))


def _hold_named(connection: Connection, job: NewJob | JobRecord) -> None:
    hold_named(connection, agent_id=job.agent_id, user_id=job.user_id, request=job.request)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Names what the index on a number's open jobs refuses."""
    try:
        yield
    except exc.IntegrityError as error:
        if "uq_import_jobs_phone_number_id_open" in str(error.orig):
            raise NumberBusy from None
        raise
