"""Every query on batches: store one with all its imports, show, and cancel.

A batch is stored in one transaction with all that came of its rows, so there is never a part of
one. Its jobs are then held, and :mod:`worker.db.places` lets them go, a few of each provider
account at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from worker.db.engine import one_statement
from worker.db.members import hold_named
from worker.db.models import Batch, BatchRow, Credential, ImportJob, PhoneNumber
from worker.db.moves import NOW, Moves
from worker.db.places import lock_feeding
from worker.db.records import NewJob
from worker.db.storing import job_row, number_row
from worker.domain.errors import (
    AgentNotFound,
    CredentialNotFound,
    InvalidState,
    NumberAlreadyImported,
    PermanentError,
    UserNotFound,
)
from worker.domain.job import JobState, StepName, read_step_name, read_word
from worker.domain.values import NumberStatus, format_id

_Item = TypeVar("_Item")

#: Rows of one statement.
_CHUNK: Final = 1000
_REFUSED: Final = "refused"


@dataclass(frozen=True, kw_only=True)
class NewRow:
    """One row of a new batch: the import that it asks for, or why it cannot be one."""

    line: int
    e164: str | None
    job: NewJob | None
    error: PermanentError | None


@dataclass(frozen=True, kw_only=True)
class NewBatch:
    """What submit stores."""

    id: UUID
    organization_id: UUID
    api_key_id: UUID | None
    idempotency_key: str | None
    sealed: bytes = field(repr=False)
    rows: Sequence[NewRow]
    #: Rows of credentials that came inline, each once.
    credentials: Sequence[Mapping[str, Any]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class BatchRecord:
    """One row of batches, with how many of its rows are where."""

    id: UUID
    organization_id: UUID
    sealed: bytes = field(repr=False)
    cancel_requested_at: datetime | None
    created_at: datetime
    #: A state of a job, or "refused" → how many.
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class RowRecord:
    """One row of a batch, with where its import is."""

    line: int
    e164: str | None
    job_id: UUID | None
    #: None where the row was refused.
    state: JobState | None
    error_code: str | None
    error_message: str | None
    error_step: StepName | None


class Batches:
    """Batches and their rows."""

    def __init__(self, engine: Engine, *, resend_after_seconds: float) -> None:
        self._engine = engine
        self._single = one_statement(engine)
        self._resend_after = resend_after_seconds
        self._moves = Moves(resend_after_seconds=resend_after_seconds)

    # Submitting

    def submit(self, batch: NewBatch) -> bool:
        """Stores a batch and what came of its rows; False if its key has been used before.

        A number that is already imported, or a credential that was deleted just now, refuses its
        row alone.

        Safe to repeat: with an idempotency key.
        """
        with self._engine.begin() as connection:
            made = connection.execute(
                insert(Batch)
                .values(
                    id=batch.id,
                    organization_id=batch.organization_id,
                    api_key_id=batch.api_key_id,
                    idempotency_key=batch.idempotency_key,
                    sealed=batch.sealed,
                )
                .on_conflict_do_nothing(
                    index_elements=["organization_id", "idempotency_key"],
                    index_where=text("idempotency_key IS NOT NULL"),
                )
                .returning(Batch.id)
            ).scalar()
            if made is None:
                connection.rollback()
                return False
            if batch.credentials:
                connection.execute(insert(Credential), list(batch.credentials))
            refused = _store_jobs(connection, [row.job for row in batch.rows if row.job])
            rows = [_refuse(row, refused) for row in batch.rows]
            for chunk in _chunks(rows):
                connection.execute(
                    insert(BatchRow).values(batch_id=batch.id), [_row_values(row) for row in chunk]
                )
            return True

    # Reading

    def get(self, batch_id: UUID) -> BatchRecord | None:
        """Returns a batch."""
        return next(iter(self._read(select(Batch.__table__).where(Batch.id == batch_id))), None)

    def find_by_idempotency_key(self, organization_id: UUID, key: str) -> BatchRecord | None:
        """Returns the batch that an earlier request with this key made."""
        query = select(Batch.__table__).where(
            Batch.organization_id == organization_id, Batch.idempotency_key == key
        )
        return next(iter(self._read(query)), None)

    def list_batches(
        self, organization_id: UUID, *, limit: int, before: UUID | None
    ) -> list[BatchRecord]:
        """Returns an organisation's batches, newest first."""
        query = select(Batch.__table__).where(Batch.organization_id == organization_id)
        if before is not None:
            query = query.where(Batch.id < before)
        return self._read(query.order_by(Batch.id.desc()).limit(limit))

    def _read(self, query: Select[Any]) -> list[BatchRecord]:
        with self._single.connect() as connection:
            found = connection.execute(query).all()
            counts: dict[UUID, dict[str, int]] = {row.id: {} for row in found}
            counting = (
                select(
                    BatchRow.batch_id,
                    func.coalesce(ImportJob.state, _REFUSED).label("state"),
                    func.count().label("jobs"),
                )
                .outerjoin(ImportJob, ImportJob.id == BatchRow.job_id)
                .where(BatchRow.batch_id.in_(counts))
                .group_by(BatchRow.batch_id, text("2"))
            )
            for row in connection.execute(counting):
                counts[row.batch_id][row.state] = row.jobs
            return [
                BatchRecord(
                    id=row.id,
                    organization_id=row.organization_id,
                    sealed=row.sealed,
                    cancel_requested_at=row.cancel_requested_at,
                    created_at=row.created_at,
                    counts=counts[row.id],
                )
                for row in found
            ]

    def rows(
        self, batch_id: UUID, *, limit: int, after: int, status: str | None
    ) -> list[RowRecord]:
        """Returns rows of a batch in their order; ``status`` is a job's state, or "refused"."""
        query = (
            select(
                BatchRow.line,
                BatchRow.e164,
                BatchRow.job_id,
                ImportJob.state,
                func.coalesce(BatchRow.error_code, ImportJob.error_code).label("error_code"),
                func.coalesce(BatchRow.error_message, ImportJob.error_message).label(
                    "error_message"
                ),
                ImportJob.error_step,
            )
            .outerjoin(ImportJob, ImportJob.id == BatchRow.job_id)
            .where(BatchRow.batch_id == batch_id, BatchRow.line > after)
        )
        if status is not None:
            query = query.where(func.coalesce(ImportJob.state, _REFUSED) == status)
        with self._single.connect() as connection:
            found = connection.execute(query.order_by(BatchRow.line).limit(limit))
            return [
                RowRecord(
                    **{
                        **row._asdict(),
                        "state": None if row.state is None else read_word(JobState, row.state),
                        "error_step": (
                            None if row.error_step is None else read_step_name(row.error_step)
                        ),
                    }
                )
                for row in found
            ]

    # Cancelling

    def cancel(self, batch_id: UUID) -> list[UUID]:
        """Cancels what nobody has begun; returns the jobs that are under way.

        Raises:
            InvalidState: everything has ended, and not because of an earlier cancellation.

        Safe to repeat: yes.
        """
        with self._engine.begin() as connection:
            lock_feeding(connection)
            held = self._moves.cancel_held(connection, batch_id)
            under_way = connection.execute(
                select(ImportJob.id)
                .where(
                    ImportJob.batch_id == batch_id,
                    ImportJob.state.in_((JobState.QUEUED, JobState.RUNNING)),
                )
                .order_by(ImportJob.id)
            ).scalars()
            found = list(under_way)
            unless = [] if held or found else [Batch.cancel_requested_at.is_not(None)]
            asked = connection.execute(
                update(Batch)
                .where(Batch.id == batch_id, *unless)
                .values(cancel_requested_at=func.coalesce(Batch.cancel_requested_at, NOW))
            )
            if asked.rowcount == 0:
                raise InvalidState("Every import of the batch has ended; none can be cancelled.")
            return found


def _store_jobs(connection: Connection, jobs: Sequence[NewJob]) -> dict[UUID, PermanentError]:
    """Stores jobs and claims their numbers; returns those that could not be, and why.

    In the order of their numbers: two batches with the same ones wait for each other, never in a
    circle.
    """
    jobs = sorted(jobs, key=lambda job: job.e164)
    refused: dict[UUID, PermanentError] = {}
    held = _hold_credentials(connection, {job.credential_id for job in jobs})
    refused |= {job.id: CredentialNotFound() for job in jobs if job.credential_id not in held}
    refused |= _nameless(connection, jobs)
    for chunk in _chunks(job for job in jobs if job.id not in refused):
        connection.execute(insert(ImportJob), [{**job_row(job), "backlog": True} for job in chunk])
        claimed = connection.execute(
            insert(PhoneNumber).on_conflict_do_nothing().returning(PhoneNumber.import_id),
            [number_row(job) for job in chunk],
        )
        won = set(claimed.scalars())
        lost = [job for job in chunk if job.id not in won]
        if lost:
            connection.execute(delete(ImportJob).where(ImportJob.id.in_([job.id for job in lost])))
            refused |= _taken(connection, lost)
    return refused


def _nameless(connection: Connection, jobs: Sequence[NewJob]) -> dict[UUID, PermanentError]:
    """Keeps whom the jobs name from being deleted; returns those that name somebody gone."""
    gone: dict[tuple[Any, ...], PermanentError | None] = {}
    for job in jobs:
        named = (job.agent_id, job.request.get("fallback_agent_id"), job.user_id)
        if named in gone:
            continue
        gone[named] = None
        try:
            hold_named(connection, agent_id=job.agent_id, user_id=job.user_id, request=job.request)
        except (AgentNotFound, UserNotFound) as error:
            gone[named] = error
    found = {
        job.id: gone[job.agent_id, job.request.get("fallback_agent_id"), job.user_id]
        for job in jobs
    }
    return {job_id: error for job_id, error in found.items() if error is not None}


def _hold_credentials(connection: Connection, ids: set[UUID]) -> set[UUID]:
    """Keeps credentials from being deleted before the jobs that need them are stored."""
    query = (
        select(Credential.id)
        .where(Credential.id.in_(ids), Credential.deleted_at.is_(None))
        .order_by(Credential.id)
        .with_for_update(read=True)
    )
    return set(connection.execute(query).scalars())


def _taken(connection: Connection, jobs: Sequence[NewJob]) -> dict[UUID, PermanentError]:
    """Names the imports that hold numbers already, where the caller may know of them."""
    query = select(PhoneNumber.e164, PhoneNumber.import_id).where(
        PhoneNumber.e164.in_([job.e164 for job in jobs]),
        PhoneNumber.organization_id == jobs[0].organization_id,
        PhoneNumber.status != NumberStatus.RELEASED,
    )
    holders = {row.e164: row.import_id for row in connection.execute(query)}
    found: dict[UUID, PermanentError] = {}
    for job in jobs:
        error = NumberAlreadyImported()
        if job.e164 in holders:
            error = NumberAlreadyImported(
                f"This number belongs to the import {format_id('imp', holders[job.e164])}: follow "
                "that one, or release the number first."
            )
        found[job.id] = error
    return found


def _refuse(row: NewRow, refused: Mapping[UUID, PermanentError]) -> NewRow:
    error = None if row.job is None else refused.get(row.job.id)
    return row if error is None else replace(row, job=None, error=error)


def _row_values(row: NewRow) -> dict[str, Any]:
    return {
        "line": row.line,
        "e164": row.e164,
        "job_id": None if row.job is None else row.job.id,
        "error_code": None if row.error is None else row.error.code,
        "error_message": None if row.error is None else row.error.message,
    }


def _chunks(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
