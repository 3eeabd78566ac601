"""Every query on API keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Engine, Text, bindparam, exists, func, insert, select, update

from worker.db.audit import Deed, note
from worker.db.models import ApiKey, Organization
from worker.db.prepared import Prepared
from worker.domain.access import Role
from worker.domain.errors import LastAdminKey, NotFound

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
class ListedKey:
    """An API key as those who manage keys see it: nothing that opens anything."""

    id: UUID
    name: str
    role: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


_LISTED: Final = tuple(getattr(ApiKey, name) for name in ListedKey.__dataclass_fields__)


#: Read at each request.
_KEY: Final = Prepared(
    select(*(getattr(ApiKey, name) for name in KeyRecord.__dataclass_fields__)).where(
        ApiKey.prefix == bindparam("given", type_=Text), ApiKey.revoked_at.is_(None)
    )
)


class Keys:
    """API keys: the public half and the hash of the secret one."""

    _engine: Engine
    _single: Engine

    def create_key(
        self,
        deed: Deed,
        key_id: UUID,
        *,
        name: str,
        role: str,
        prefix: str,
        secret_hash: bytes,
    ) -> None:
        """Stores a key of the organisation in which the deed is done."""
        with self._engine.begin() as connection:
            connection.execute(
                insert(ApiKey).values(
                    id=key_id,
                    organization_id=deed.organization_id,
                    name=name,
                    role=role,
                    prefix=prefix,
                    secret_hash=secret_hash,
                )
            )
            note(connection, deed)

    def find_key(self, prefix: str) -> KeyRecord | None:
        """Returns a key that is not revoked."""
        with self._single.connect() as connection:
            row = _KEY.execute(connection, given=prefix).first()
            return None if row is None else KeyRecord(**row._asdict())

    def note_key_use(self, key: KeyRecord) -> None:
        """Writes down that a key was used, to the minute: not every request needs a write."""
        if key.is_fresh:
            return
        with self._engine.begin() as connection:
            connection.execute(update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=_NOW))

    def get_key(self, organization_id: UUID, key_id: UUID) -> ListedKey | None:
        """Returns a key of an organisation, also a revoked one."""
        query = select(*_LISTED).where(
            ApiKey.id == key_id, ApiKey.organization_id == organization_id
        )
        with self._single.connect() as connection:
            row = connection.execute(query).first()
            return None if row is None else ListedKey(**row._asdict())

    def list_keys(
        self, organization_id: UUID, *, limit: int, before: UUID | None
    ) -> list[ListedKey]:
        """Returns an organisation's keys, newest first, with those that are revoked."""
        query = select(*_LISTED).where(ApiKey.organization_id == organization_id)
        if before is not None:
            query = query.where(ApiKey.id < before)
        with self._single.connect() as connection:
            rows = connection.execute(query.order_by(ApiKey.id.desc()).limit(limit))
            return [ListedKey(**row._asdict()) for row in rows]

    def revoke_key(self, deed: Deed, key_id: UUID) -> None:
        """Makes a key of the deed's organisation useless from its next request on.

        Raises:
            NotFound: the organisation has no such key.
            LastAdminKey: nobody could make another one.

        Safe to repeat: yes, once it is revoked nothing happens.
        """
        organization_id = deed.organization_id
        with self._engine.begin() as connection:
            # One at a time: of the last two admins who revoke each other, one is refused.
            connection.execute(
                select(Organization.id)
                .where(Organization.id == organization_id)
                .with_for_update(key_share=True)
            )
            key = connection.execute(
                select(ApiKey.role, ApiKey.revoked_at).where(
                    ApiKey.id == key_id, ApiKey.organization_id == organization_id
                )
            ).first()
            if key is None:
                raise NotFound("There is no API key with this id.")
            if key.revoked_at is not None:
                return
            other_admin = exists().where(
                ApiKey.organization_id == organization_id,
                ApiKey.id != key_id,
                ApiKey.role == Role.ADMIN,
                ApiKey.revoked_at.is_(None),
            )
            if key.role == Role.ADMIN and not connection.execute(select(other_admin)).scalar():
                raise LastAdminKey
            connection.execute(update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=_NOW))
            note(connection, deed)
