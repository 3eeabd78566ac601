"""Every query on what jobs refer to: organisations, keys, agents, credentials; and the audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Engine, Row, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from worker.db.models import (
    Agent,
    ApiKey,
    AuditEntry,
    Batch,
    Credential,
    ImportJob,
    JobStep,
    NumberEvent,
    Organization,
    PhoneNumber,
    User,
)
from worker.domain.errors import CredentialInUse, CredentialNotFound
from worker.domain.job import OPEN
from worker.domain.values import NumberStatus

_Record = TypeVar("_Record")
_NOW: Final = func.clock_timestamp()


@dataclass(frozen=True, kw_only=True)
class KeyRecord:
    """An API key as it authorises a request."""

    id: UUID
    organization_id: UUID
    role: str
    prefix: str
    secret_hash: bytes
    last_used_at: datetime | None

    @property
    def is_fresh(self) -> bool:
        """Whether its last use was written down within the last minute."""
        if self.last_used_at is None:
            return False
        return datetime.now(UTC) - self.last_used_at < timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class CredentialRecord:
    """One row of credentials."""

    id: UUID
    organization_id: UUID
    provider: str
    account_ref: str
    label: str
    stored: bool
    sealed: bytes
    created_at: datetime
    updated_at: datetime


class Directory:
    """What imports refer to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ping(self) -> None:
        """Asks the database for anything at all; raises its error if it does not answer."""
        with self._engine.connect() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        """Closes the connections of the pool; the next query opens new ones."""
        self._engine.dispose()

    # Organisations, users, agents

    def create_organization(self, name: str) -> UUID:
        """Stores a tenant; returns its id."""
        return self._insert(Organization, name=name)

    def find_organization(self, name: str) -> UUID | None:
        """Returns the oldest organisation of that name."""
        query = select(Organization.id).where(Organization.name == name).order_by(Organization.id)
        with self._engine.connect() as connection:
            return connection.execute(query.limit(1)).scalar()

    def create_user(self, organization_id: UUID, name: str) -> UUID:
        """Stores a person; returns their id."""
        return self._insert(User, organization_id=organization_id, name=name)

    def user_organization(self, user_id: UUID) -> UUID | None:
        """Returns whose user this is."""
        return self._owner(User, user_id)

    def create_agent(self, organization_id: UUID, name: str, dispatch_name: str) -> UUID:
        """Stores an agent; returns its id."""
        return self._insert(
            Agent, organization_id=organization_id, name=name, dispatch_name=dispatch_name
        )

    def agent_organization(self, agent_id: UUID) -> UUID | None:
        """Returns whose agent this is."""
        return self._owner(Agent, agent_id)

    def agent_dispatch_name(self, agent_id: UUID | None) -> str | None:
        """Returns the agent_name under which an agent's workers register at LiveKit."""
        query = select(Agent.dispatch_name).where(Agent.id == agent_id)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar()

    # API keys

    def create_key(
        self, organization_id: UUID, *, name: str, role: str, prefix: str, secret_hash: bytes
    ) -> UUID:
        """Stores a key's public half and the hash of its secret; returns its id."""
        return self._insert(
            ApiKey,
            organization_id=organization_id,
            name=name,
            role=role,
            prefix=prefix,
            secret_hash=secret_hash,
        )

    def find_key(self, prefix: str) -> KeyRecord | None:
        """Returns a key that is not revoked."""
        query = select(
            ApiKey.id,
            ApiKey.organization_id,
            ApiKey.role,
            ApiKey.prefix,
            ApiKey.secret_hash,
            ApiKey.last_used_at,
        ).where(ApiKey.prefix == prefix, ApiKey.revoked_at.is_(None))
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
            return None if row is None else KeyRecord(**row._asdict())

    def note_key_use(self, key: KeyRecord) -> None:
        """Writes down that a key was used, to the minute: not every request needs a write."""
        if key.is_fresh:
            return
        with self._engine.begin() as connection:
            connection.execute(update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=_NOW))

    # Credentials

    def create_credential(
        self,
        organization_id: UUID,
        *,
        provider: str,
        account_ref: str,
        label: str,
        sealed: bytes,
    ) -> UUID:
        """Stores a provider account; returns its id."""
        return self._insert(
            Credential,
            organization_id=organization_id,
            provider=provider,
            account_ref=account_ref,
            label=label,
            stored=True,
            sealed=sealed,
        )

    def get_credential(self, credential_id: UUID) -> CredentialRecord | None:
        """Returns a credential of any organisation: whose it is, is for the caller to judge."""
        query = select(Credential.__table__).where(
            Credential.id == credential_id, Credential.deleted_at.is_(None)
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
            return None if row is None else _read(CredentialRecord, row)

    def list_credentials(
        self, organization_id: UUID, *, limit: int, before: UUID | None
    ) -> list[CredentialRecord]:
        """Returns an organisation's stored credentials, newest first."""
        query = select(Credential.__table__).where(
            Credential.organization_id == organization_id,
            Credential.stored,
            Credential.deleted_at.is_(None),
        )
        if before is not None:
            query = query.where(Credential.id < before)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(Credential.id.desc()).limit(limit))
            return [_read(CredentialRecord, row) for row in rows]

    def delete_credential(self, credential_id: UUID) -> None:
        """Forgets a stored credential's secret.

        Raises:
            CredentialInUse: a number or an unfinished import needs it.

        Safe to repeat: yes.
        """
        in_use = or_(
            exists().where(
                PhoneNumber.credential_id == credential_id,
                PhoneNumber.status != NumberStatus.RELEASED,
            ),
            exists().where(ImportJob.credential_id == credential_id, ImportJob.state.in_(OPEN)),
        )
        with self._engine.begin() as connection:
            # The lock orders this against a submit, whose insert takes a share lock on the row.
            connection.execute(
                select(Credential.id).where(Credential.id == credential_id).with_for_update()
            )
            if connection.execute(select(in_use)).scalar():
                raise CredentialInUse
            connection.execute(
                update(Credential)
                .where(Credential.id == credential_id)
                .values(sealed=b"", replaced_sealed=None, deleted_at=_NOW)
            )

    def rotate_credential(
        self,
        credential_id: UUID,
        *,
        label: str | None = None,
        account_ref: str | None = None,
        sealed: bytes | None = None,
        overlap_seconds: int = 0,
    ) -> None:
        """Changes what is given; a secret that is replaced verifies signatures for the overlap.

        Numbers that it serves are checked soon, and jobs under way go on with the new secret.

        Raises:
            CredentialNotFound: it was deleted meanwhile.

        Safe to repeat: yes.
        """
        values: dict[str, Any] = {"updated_at": _NOW}
        if label is not None:
            values["label"] = label
        if sealed is not None:
            replaced = overlap_seconds > 0
            values |= {
                "sealed": sealed,
                "account_ref": account_ref,
                "replaced_sealed": Credential.sealed if replaced else None,
                "replaced_until": _NOW + timedelta(seconds=overlap_seconds) if replaced else None,
            }
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(Credential)
                .where(Credential.id == credential_id, Credential.deleted_at.is_(None))
                .values(**values)
            )
            if changed.rowcount == 0:
                raise CredentialNotFound
            if sealed is None:
                return
            # A vendor without account ids counts its rate limit by the key.
            connection.execute(
                update(ImportJob)
                .where(ImportJob.credential_id == credential_id, ImportJob.state.in_(OPEN))
                .values(account_ref=account_ref)
            )
            connection.execute(
                update(PhoneNumber)
                .where(
                    PhoneNumber.credential_id == credential_id,
                    PhoneNumber.status == NumberStatus.ACTIVE,
                    PhoneNumber.check_due_at.is_not(None),
                )
                .values(check_due_at=_NOW)
            )

    # The audit log

    def audit(
        self,
        *,
        organization_id: UUID | None,
        actor: str,
        action: str,
        subject: str,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes down who did what."""
        with self._engine.begin() as connection:
            connection.execute(
                insert(AuditEntry).values(
                    organization_id=organization_id,
                    actor=actor,
                    action=action,
                    subject=subject,
                    detail=dict(detail or {}),
                )
            )

    # Key rotation

    def reseal_all(self, reseal: Callable[[bytes], bytes]) -> Iterator[int]:
        """Seals every value again, in batches of one transaction each; yields each batch's size.

        Safe to repeat: yes, also after it was interrupted.
        """
        sealed: list[tuple[Any, tuple[str, ...], str]] = [
            (Organization.__table__, ("id",), "sealed"),
            (Credential.__table__, ("id",), "sealed"),
            (Credential.__table__, ("id",), "replaced_sealed"),
            (ImportJob.__table__, ("id",), "sealed"),
            (JobStep.__table__, ("job_id", "step"), "sealed"),
            (NumberEvent.__table__, ("id",), "sealed"),
            (Batch.__table__, ("id",), "sealed"),
        ]
        for table, keys, name in sealed:
            columns = [table.c[key] for key in keys]
            vault = table.c[name]
            last: tuple[Any, ...] | None = None
            while True:
                query = (
                    select(*columns, vault.label("sealed"))
                    .where(vault.is_not(None), func.length(vault) > 0)
                    .order_by(*columns)
                    .limit(500)
                    # Keys stay as they are: what refers to the rows may be inserted meanwhile.
                    .with_for_update(key_share=True)
                )
                if last is not None:
                    query = query.where(_after(columns, last))
                with self._engine.begin() as connection:
                    rows = connection.execute(query).all()
                    for row in rows:
                        connection.execute(
                            update(table)
                            .where(*(column == row[i] for i, column in enumerate(columns)))
                            .values({name: reseal(row.sealed)})
                        )
                if not rows:
                    break
                last = tuple(rows[-1][: len(columns)])
                yield len(rows)

    # Helpers

    def _insert(self, model: Any, **values: Any) -> UUID:  # noqa: ANN401 -- a model, its columns
        new_id = uuid7()
        with self._engine.begin() as connection:
            connection.execute(insert(model).values(id=new_id, **values))
        return new_id

    def _owner(self, model: Any, row_id: UUID) -> UUID | None:  # noqa: ANN401 -- a model
        with self._engine.connect() as connection:
            owner: UUID | None = connection.execute(
                select(model.organization_id).where(model.id == row_id)
            ).scalar()
            return owner


def _after(columns: list[Any], last: tuple[Any, ...]) -> Any:  # noqa: ANN401 -- an expression
    """Rows behind the last one of the batch before, in the order of the key."""
    if len(columns) == 1:
        return columns[0] > last[0]
    first, second = columns
    return or_(first > last[0], (first == last[0]) & (second > last[1]))


def _read(kind: type[_Record], row: Row[Any]) -> _Record:
    names = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{name: getattr(row, name) for name in names})
