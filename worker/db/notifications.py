"""Notifications: stored with what they tell, taken by one sender at a time; and what signs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Engine, func, insert, literal_column, select, update

from worker.db.engine import one_statement
from worker.db.models import ImportJob, Notification, NumberEvent, Organization
from worker.db.records import NotificationRecord, read_notification
from worker.domain.calls import NotificationState

_NOW: Final = func.clock_timestamp()
#: Written out, so that every plan may use the index of what is pending; and as of the transaction's
#: begin, as a time that changes within a query could not end its search.
_PENDING: Final = Notification.state == literal_column(f"'{NotificationState.PENDING}'")
_DUE: Final = _PENDING & (Notification.due_at <= func.now())


@dataclass(frozen=True, kw_only=True)
class DueNotification:
    """A notification that its taker is to deliver now."""

    id: UUID
    organization_id: UUID
    type: str
    payload: Mapping[str, Any]
    created_at: datetime
    #: Which attempt this is: 1, 2, …
    attempt: int
    #: What signs it; None until it is first needed.
    organization_sealed: bytes | None = field(repr=False)
    #: Holds the URL.
    job_sealed: bytes = field(repr=False)
    #: The data of the event that it tells, if it tells one.
    event_sealed: bytes | None = field(repr=False)


def add_job_notification(
    connection: Connection,
    *,
    organization_id: UUID,
    job_id: UUID,
    type: str,  # noqa: A002 -- the column's name
    payload: Mapping[str, Any],
) -> None:
    """Stores that a job's callback_url is to be told how it ended.

    In the transaction that ends the job: there is never the one without the other.
    """
    _add(
        connection,
        organization_id=organization_id,
        job_id=job_id,
        secrets_of=job_id,
        type=type,
        payload=payload,
    )


def add_number_notification(
    connection: Connection,
    *,
    organization_id: UUID,
    secrets_of: UUID,
    event_id: UUID | None,
    type: str,  # noqa: A002 -- the column's name
    payload: Mapping[str, Any],
) -> None:
    """Stores that a callback_url, which the job ``secrets_of`` names, is to be told of a number.

    In the transaction that stores what is told. The sealed data of an event, if it is one, are told
    with it, beside ``payload``.
    """
    _add(
        connection,
        organization_id=organization_id,
        event_id=event_id,
        secrets_of=secrets_of,
        type=type,
        payload=payload,
    )


def _add(connection: Connection, *, payload: Mapping[str, Any], **values: object) -> None:
    connection.execute(insert(Notification).values(payload=dict(payload), **values))


def notifications_of(connection: Connection, job_id: UUID) -> list[NotificationRecord]:
    """Returns what a job's callback_url was or is to be told of its end, oldest first."""
    query = (
        select(Notification.__table__)
        .where(Notification.job_id == job_id)
        .order_by(Notification.id)
    )
    return [read_notification(row) for row in connection.execute(query)]


class Notifications:
    """What is to be delivered, and what came of it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._single = one_statement(engine)

    def take_due(self, lease_seconds: float) -> DueNotification | None:
        """Takes the notification that has been due the longest; None if none is.

        Until the lease has run out it is nobody else's. Its attempt is counted now, so that one
        that kills its sender runs out of attempts too.
        """
        oldest = (
            select(
                Notification.id,
                Notification.organization_id,
                Notification.type,
                Notification.payload,
                Notification.created_at,
                (Notification.attempts + 1).label("attempt"),
                Organization.sealed.label("organization_sealed"),
                ImportJob.sealed.label("job_sealed"),
                NumberEvent.sealed.label("event_sealed"),
            )
            .join(Organization, Organization.id == Notification.organization_id)
            .join(ImportJob, ImportJob.id == Notification.secrets_of)
            .outerjoin(NumberEvent, NumberEvent.id == Notification.event_id)
            .where(_DUE)
            .order_by(Notification.due_at)
            .limit(1)
            .with_for_update(of=Notification, skip_locked=True)
        )
        with self._engine.begin() as connection:
            row = connection.execute(oldest).first()
            if row is None:
                return None
            connection.execute(
                update(Notification)
                .where(Notification.id == row.id)
                .values(attempts=row.attempt, due_at=_NOW + timedelta(seconds=lease_seconds))
            )
            return DueNotification(**row._asdict())

    def delivered(self, notification_id: UUID) -> None:
        """Writes down that it arrived.

        Safe to repeat: yes.
        """
        self._finish(notification_id, NotificationState.DELIVERED, error=None)

    def failed(
        self, notification_id: UUID, error: str, retry_in: timedelta | None, *, attempt: int
    ) -> None:
        """Writes down why an attempt failed and when the next is due; None gives it up.

        Safe to repeat: yes. An attempt that is no longer the latest changes nothing: its successor
        is on its way.
        """
        if retry_in is None:
            self._finish(
                notification_id, NotificationState.FAILED, error=error, only_attempt=attempt
            )
            return
        with self._engine.begin() as connection:
            connection.execute(
                update(Notification)
                .where(
                    Notification.id == notification_id, _PENDING, Notification.attempts == attempt
                )
                .values(error=error, due_at=_NOW + retry_in)
            )

    def _finish(
        self,
        notification_id: UUID,
        state: NotificationState,
        *,
        error: str | None,
        only_attempt: int | None = None,
    ) -> None:
        change = update(Notification).where(Notification.id == notification_id, _PENDING)
        if only_attempt is not None:
            change = change.where(Notification.attempts == only_attempt)
        with self._engine.begin() as connection:
            connection.execute(
                change.values(state=state, error=error, due_at=None, finished_at=_NOW)
            )

    def of_job(self, job_id: UUID) -> list[NotificationRecord]:
        """Returns what a job's callback_url was or is to be told of its end, oldest first."""
        with self._single.connect() as connection:
            return notifications_of(connection, job_id)

    # What they are signed with

    def signing_sealed(self, organization_id: UUID) -> bytes | None:
        """Returns what an organisation's notifications are signed with; None before first use."""
        query = select(Organization.sealed).where(Organization.id == organization_id)
        with self._single.connect() as connection:
            return connection.execute(query).scalar()

    def change_signing(
        self, organization_id: UUID, change: Callable[[bytes | None], bytes | None]
    ) -> bytes | None:
        """Replaces what an organisation signs with by what ``change`` makes of it; None keeps it.

        One change at a time: each sees what the one before it made. Returns what holds now.
        """
        # No foreign key points at the column: inserts of what refers to the row need not wait.
        query = (
            select(Organization.sealed)
            .where(Organization.id == organization_id)
            .with_for_update(key_share=True)
        )
        with self._engine.begin() as connection:
            found = connection.execute(query).scalar()
            changed = change(found)
            if changed is None:
                return found
            connection.execute(
                update(Organization)
                .where(Organization.id == organization_id)
                .values(sealed=changed)
            )
            return changed
