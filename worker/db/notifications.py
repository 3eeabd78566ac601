"""Notifications: stored in the transaction of what they tell, delivered later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert
from uuid_utils.compat import uuid7

from worker.db.models import Notification


def add_job_notification(
    connection: Connection,
    *,
    organization_id: UUID,
    job_id: UUID,
    type: str,  # noqa: A002 -- the specification's word
    payload: Mapping[str, Any],
) -> None:
    """Stores the notification of a job's end, in the transaction that ends it."""
    connection.execute(
        insert(Notification).values(
            id=uuid7(),
            organization_id=organization_id,
            job_id=job_id,
            secrets_of=job_id,
            type=type,
            payload=dict(payload),
        )
    )


def add_event_notification(
    connection: Connection,
    *,
    organization_id: UUID,
    secrets_of: UUID,
    event_id: UUID,
    type: str,  # noqa: A002 -- the specification's word
    payload: Mapping[str, Any],
) -> None:
    """Stores the notification of an event, in the transaction that stores the event."""
    connection.execute(
        insert(Notification).values(
            id=uuid7(),
            organization_id=organization_id,
            secrets_of=secrets_of,
            event_id=event_id,
            type=type,
            payload=dict(payload),
        )
    )
