"""The audit log: rows are added and read; the database itself refuses anything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Engine, insert, select

from worker.db.models import AuditEntry

#: Beyond every id: a cursor is anybody's text.
_LAST_ID: Final = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Deed:
    """What somebody did, as the log is to keep it: ids and words of ours, never a secret."""

    organization_id: UUID | None
    #: The API key's public prefix, or "operator".
    actor: str
    action: str
    #: The id of what it was done to.
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AuditRecord:
    """One row of the log."""

    #: Its serial number, shaped like every other id.
    id: UUID
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


def audit_row(deed: Deed) -> dict[str, Any]:
    """Returns what the log's row of a deed holds."""
    return {
        "organization_id": deed.organization_id,
        "actor": deed.actor,
        "action": deed.action,
        "subject": deed.subject,
        "detail": dict(deed.detail),
    }


def note(connection: Connection, deed: Deed) -> None:
    """Writes down a deed in the transaction that does it."""
    connection.execute(insert(AuditEntry).values(audit_row(deed)))


class AuditLog:
    """Who did what."""

    _engine: Engine
    _single: Engine

    def audit(self, deed: Deed) -> None:
        """Writes down what was done in a transaction of its own."""
        with self._engine.begin() as connection:
            note(connection, deed)

    def list_audit(
        self,
        organization_id: UUID,
        *,
        limit: int,
        before: UUID | None,
        action: str | None = None,
        subject: str | None = None,
    ) -> list[AuditRecord]:
        """Returns what was done in an organisation, newest first."""
        query = select(
            AuditEntry.id,
            AuditEntry.at,
            AuditEntry.actor,
            AuditEntry.action,
            AuditEntry.subject,
            AuditEntry.detail,
        ).where(AuditEntry.organization_id == organization_id)
        if before is not None:
            query = query.where(AuditEntry.id < min(before.int, _LAST_ID))
        if action is not None:
            query = query.where(AuditEntry.action == action)
        if subject is not None:
            query = query.where(AuditEntry.subject == subject)
        with self._single.connect() as connection:
            rows = connection.execute(query.order_by(AuditEntry.id.desc()).limit(limit))
            return [AuditRecord(**{**row._asdict(), "id": UUID(int=row.id)}) for row in rows]
