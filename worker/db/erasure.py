"""What is left of an organisation that has gone: its audit log, and nothing that it gave us."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Delete, Engine, delete, func, or_, select, update

from worker.db.audit import Deed, note
from worker.db.models import (
    Agent,
    ApiKey,
    Batch,
    BatchRow,
    Credential,
    ImportJob,
    JobStep,
    Notification,
    NumberEvent,
    Organization,
    PhoneNumber,
    User,
)
from worker.domain.errors import InvalidState
from worker.domain.job import FINAL, JobState
from worker.domain.values import NumberStatus

#: Rows of one transaction: others wait for none of these, and an interrupted run has done most.
_AT_ONCE: Final = 1000
_OPEN: Final = ImportJob.state.not_in([*(FINAL - {JobState.STUCK})])
_GOING: Final = (JobState.QUEUED, JobState.RUNNING)
_HELD: Final = PhoneNumber.status.in_([NumberStatus.ACTIVE, NumberStatus.RELEASING])


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What of an organisation is still in use outside; ids."""

    #: Job → its state.
    jobs: Mapping[UUID, JobState]
    #: Those of them that nobody has asked to stop yet.
    going: tuple[UUID, ...]
    #: Numbers that answer, with none of these jobs at work on them.
    numbers: tuple[UUID, ...]

    @property
    def stuck(self) -> tuple[UUID, ...]:
        """Jobs that wait for an operator."""
        return tuple(key for key, state in self.jobs.items() if state is JobState.STUCK)

    def __bool__(self) -> bool:
        """Whether anything is left outside."""
        return bool(self.jobs or self.numbers)


class Erasures:
    """How an organisation goes."""

    _engine: Engine
    _single: Engine

    def revoke_all_keys(self, organization_id: UUID) -> None:
        """Makes every key of an organisation useless: nothing new is asked for."""
        revoked = (
            update(ApiKey)
            .where(ApiKey.organization_id == organization_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=func.now())
        )
        with self._single.connect() as connection:
            connection.execute(revoked)

    def holdings(self, organization_id: UUID) -> Holdings:
        """Returns what an organisation still holds outside, as far as its rows say."""
        columns = (ImportJob.id, ImportJob.state, ImportJob.phone_number_id)
        jobs = select(*columns, ImportJob.cancel_requested_at).where(
            ImportJob.organization_id == organization_id, _OPEN
        )
        numbers = select(PhoneNumber.id).where(
            PhoneNumber.organization_id == organization_id, _HELD
        )
        with self._single.connect() as connection:
            rows = connection.execute(jobs).all()
            busy = {row.phone_number_id for row in rows}
            return Holdings(
                jobs={row.id: JobState(row.state) for row in rows},
                going=tuple(
                    row.id
                    for row in rows
                    if row.state in _GOING and row.cancel_requested_at is None
                ),
                numbers=tuple(
                    key for key in connection.execute(numbers).scalars() if key not in busy
                ),
            )

    def erase(self, deed: Deed, organization_id: UUID) -> dict[str, int]:
        """Deletes everything that an organisation gave us; returns the rows, by table.

        Its audit log stays, which holds ids and words of ours, and its own row without its names.

        Raises:
            InvalidState: something of it is in use, or can still be asked for.

        Safe to repeat: yes, also after it was interrupted.
        """
        gone: Counter[str] = Counter()
        while step := self._erase_some(organization_id):
            gone.update(step)
        with self._engine.begin() as connection:
            self._lock_ended(connection, organization_id)
            for model in (Batch, Credential, Agent, User, ApiKey):
                owned: Any = model
                found = connection.execute(
                    delete(owned).where(owned.organization_id == organization_id)
                )
                gone[owned.__tablename__] += found.rowcount
            connection.execute(
                update(Organization)
                .where(Organization.id == organization_id)
                .values(name=f"erased {organization_id}", display_name=None, sealed=None)
            )
            note(connection, deed)
        return dict(gone)

    def _erase_some(self, organization_id: UUID) -> Counter[str]:
        """Deletes some numbers and jobs with all that hangs on them; nothing when none is left."""
        numbers = select(PhoneNumber.id).where(PhoneNumber.organization_id == organization_id)
        jobs = select(ImportJob.id).where(ImportJob.organization_id == organization_id)
        gone: Counter[str] = Counter()
        with self._engine.begin() as connection:
            self._lock_ended(connection, organization_id)
            chosen = list(connection.execute(numbers.limit(_AT_ONCE)).scalars())
            if chosen:
                events = select(NumberEvent.id).where(NumberEvent.phone_number_id.in_(chosen))
                return _deleted(
                    connection,
                    delete(Notification).where(Notification.event_id.in_(events)),
                    delete(NumberEvent).where(NumberEvent.phone_number_id.in_(chosen)),
                    delete(PhoneNumber).where(PhoneNumber.id.in_(chosen)),
                )
            # The newest first: a job on a number stands after the import that brought it in.
            newest = jobs.order_by(ImportJob.id.desc()).limit(_AT_ONCE)
            if chosen := list(connection.execute(newest).scalars()):
                of_jobs = or_(Notification.job_id.in_(chosen), Notification.secrets_of.in_(chosen))
                return _deleted(
                    connection,
                    delete(Notification).where(of_jobs),
                    delete(BatchRow).where(BatchRow.job_id.in_(chosen)),
                    delete(JobStep).where(JobStep.job_id.in_(chosen)),
                    delete(ImportJob).where(ImportJob.id.in_(chosen)),
                )
            # Those that became no job.
            batches = select(Batch.id).where(Batch.organization_id == organization_id)
            gone += _deleted(connection, delete(BatchRow).where(BatchRow.batch_id.in_(batches)))
        return gone

    @staticmethod
    def _lock_ended(connection: Connection, organization_id: UUID) -> None:
        """Locks an organisation that has ended: nobody stores anything for it meanwhile."""
        connection.execute(
            select(Organization.id).where(Organization.id == organization_id).with_for_update()
        )
        key = select(ApiKey.id).where(
            ApiKey.organization_id == organization_id, ApiKey.revoked_at.is_(None)
        )
        job = select(ImportJob.id).where(ImportJob.organization_id == organization_id, _OPEN)
        number = select(PhoneNumber.id).where(PhoneNumber.organization_id == organization_id, _HELD)
        for query in (key, job, number):
            if connection.execute(query.limit(1)).first() is not None:
                raise InvalidState(
                    "The organisation still has valid keys, open jobs or active numbers."
                )


def _deleted(connection: Connection, *statements: Delete) -> Counter[str]:
    gone: Counter[str] = Counter()
    for statement in statements:
        if rows := connection.execute(statement).rowcount:
            gone[str(statement.table)] += rows
    return gone
