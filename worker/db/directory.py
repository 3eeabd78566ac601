"""Every query on what jobs refer to; those on credentials and the vault are in this module.

Organisations, users and agents are in :mod:`members`, API keys in :mod:`keys`, the log of who did
what in :mod:`audit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Engine, Row, Uuid, bindparam, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from worker.db.audit import AuditLog
from worker.db.engine import one_statement
from worker.db.erasure import Erasures
from worker.db.keys import Keys
from worker.db.members import Members
from worker.db.models import (
    Batch,
    Credential,
    ImportJob,
    JobStep,
    NumberEvent,
    Organization,
    PhoneNumber,
)
from worker.db.prepared import Prepared
from worker.domain.errors import CredentialInUse, CredentialNotFound
from worker.domain.job import OPEN
from worker.domain.values import NumberStatus

_Record = TypeVar("_Record")
_NOW: Final = func.clock_timestamp()


@dataclass(frozen=True, kw_only=True)
class CredentialRecord:
    """One row of credentials."""

    id: UUID
    organization_id: UUID
    provider: str
    account_ref: str
    label: str
    stored: bool
    external_id: str | None
    sealed: bytes
    created_at: datetime
    updated_at: datetime


_CREDENTIAL: Final = Prepared(
    select(Credential.__table__).where(
        Credential.id == bindparam("of_credential", type_=Uuid), Credential.deleted_at.is_(None)
    )
)


class Directory(Members, Keys, AuditLog, Erasures):
    """What imports refer to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._single = one_statement(engine)

    def ping(self) -> None:
        """Asks the database for anything at all; raises its error if it does not answer."""
        with self._single.connect() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        """Closes the connections of the pool; the next query opens new ones."""
        self._engine.dispose()

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
        with self._single.connect() as connection:
            row = _CREDENTIAL.execute(connection, of_credential=credential_id).first()
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
        with self._single.connect() as connection:
            rows = connection.execute(query.order_by(Credential.id.desc()).limit(limit))
            return [_read(CredentialRecord, row) for row in rows]

    def newest_credential(self, organization_id: UUID, provider: str) -> UUID | None:
        """Returns the id of an organisation's newest stored account at a provider."""
        query = (
            select(Credential.id)
            .where(
                Credential.organization_id == organization_id,
                Credential.provider == provider,
                Credential.stored,
                Credential.deleted_at.is_(None),
            )
            .order_by(Credential.id.desc())
            .limit(1)
        )
        with self._single.connect() as connection:
            return connection.execute(query).scalar()

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


def _after(columns: list[Any], last: tuple[Any, ...]) -> Any:  # noqa: ANN401 -- an expression
    """Rows behind the last one of the batch before, in the order of the key."""
    if len(columns) == 1:
        return columns[0] > last[0]
    first, second = columns
    return or_(first > last[0], (first == last[0]) & (second > last[1]))


def _read(kind: type[_Record], row: Row[Any]) -> _Record:
    names = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{name: getattr(row, name) for name in names})
