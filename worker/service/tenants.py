"""Organisations, and who may speak for them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from uuid_utils.compat import uuid7

from worker.db.audit import AuditRecord
from worker.db.keys import ListedKey
from worker.db.members import OrganizationRecord
from worker.domain.access import Caller, Permission, Role
from worker.domain.allowances import Allowance, Spent
from worker.domain.errors import NotFound, Unauthenticated
from worker.domain.values import format_id, parse_id
from worker.service._core import Part, cursor_of

_PREFIX_LETTERS: Final = string.ascii_lowercase + string.digits


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """An API key at the only moment at which its secret is known."""

    listed: ListedKey
    key: str = field(repr=False)


class Tenants(Part):
    """Requests about organisations, their API keys, and what was done with them."""

    def authenticate(self, key: str) -> Caller:
        """Returns who holds an API key.

        Raises:
            Unauthenticated: unknown, malformed or revoked.
        """
        prefix, _, secret = key.removeprefix("tl_").partition("_")
        record = self._directory.find_key(prefix)
        # An unknown prefix costs the same comparison as a wrong secret.
        known = record.secret_hash if record is not None else bytes(32)
        if not hmac.compare_digest(known, _hash(secret)) or record is None:
            raise Unauthenticated
        self._directory.note_key_use(record)
        return Caller(
            organization_id=record.organization_id,
            role=Role(record.role),
            key_id=record.id,
            actor=record.prefix,
        )

    def spend(self, caller: Caller, allowance: Allowance) -> Spent | None:
        """Counts a request of the caller's key; None if nothing limits it.

        Safe to repeat: no, each counts.
        """
        if caller.key_id is None:
            return None
        return self._limiter.spend(allowance, format_id("key", caller.key_id))

    def operator(self, organization: str) -> Caller:
        """Returns the command line's own caller for an organisation, by the operator's name for it.

        Raises:
            NotFound: there is no such organisation.
        """
        found = self._directory.find_organization(organization)
        if found is None:
            raise NotFound(
                f"There is no organisation {organization!r}; make one with "
                "`trunkline admin bootstrap`."
            )
        return Caller(organization_id=found, role=Role.ADMIN, key_id=None, actor="operator")

    def bootstrap(self, organization: str, *, role: Role = Role.ADMIN) -> tuple[str, str]:
        """Makes an organisation, if there is none of that name, and a key of it.

        Returns the organisation's id and the key, which is shown this once.
        """
        found = self._directory.find_organization(organization)
        organization_id = found or self._directory.create_organization(organization)
        operator = Caller(
            organization_id=organization_id, role=Role.ADMIN, key_id=None, actor="operator"
        )
        _, key = self._make_key(operator, name="bootstrap", role=role)
        return format_id("org", organization_id), key

    # The organisation

    def get_organization(self, caller: Caller, organization_id: str) -> OrganizationRecord:
        """Returns the caller's own organisation, which is also called ``current``.

        Raises:
            NotFound: it is another one.
        """
        caller.require(Permission.READ)
        self._require_own(caller, organization_id)
        return self._directory.get_organization(caller.organization_id)

    def rename_organization(
        self, caller: Caller, organization_id: str, *, name: str
    ) -> OrganizationRecord:
        """Changes what the organisation calls itself; the operator goes on finding it as before.

        Raises:
            NotFound: it is another one.

        Safe to repeat: yes.
        """
        caller.require(Permission.MANAGE_ORGANIZATION)
        self._require_own(caller, organization_id)
        subject = format_id("org", caller.organization_id)
        self._directory.rename_organization(
            self._deed(caller, "organization.change", subject), name
        )
        return self._directory.get_organization(caller.organization_id)

    @staticmethod
    def _require_own(caller: Caller, organization_id: str) -> None:
        if organization_id not in ("current", format_id("org", caller.organization_id)):
            raise NotFound("There is no organisation with this id.")

    # API keys

    def create_key(self, caller: Caller, *, name: str, role: Role) -> NewKey:
        """Makes an API key of the caller's organisation; only this answer ever holds it.

        Raises:
            Forbidden: the role may do what the caller may not.

        Safe to repeat: no, each makes another key.
        """
        caller.require(Permission.MANAGE_KEYS)
        caller.require_to_grant(role)
        key_id, key = self._make_key(caller, name=name, role=role)
        listed = self._directory.get_key(caller.organization_id, key_id)
        assert listed is not None, "it was stored just now, and keys are never deleted"
        return NewKey(listed=listed, key=key)

    def list_keys(self, caller: Caller, *, limit: int, cursor: str | None) -> list[ListedKey]:
        """Returns the organisation's keys, newest first, also those that are revoked."""
        caller.require(Permission.MANAGE_KEYS)
        return self._directory.list_keys(
            caller.organization_id, limit=limit, before=cursor_of("key", cursor)
        )

    def revoke_key(self, caller: Caller, key_id: str) -> None:
        """Makes a key useless from its next request on.

        Raises:
            NotFound: the caller's organisation has no such key.
            LastAdminKey: nobody could make another one.

        Safe to repeat: yes.
        """
        caller.require(Permission.MANAGE_KEYS)
        found = parse_id("key", key_id)
        if found is None:
            raise NotFound("There is no API key with this id.")
        self._directory.revoke_key(self._deed(caller, "key.revoke", key_id), found)

    def _make_key(self, caller: Caller, *, name: str, role: Role) -> tuple[UUID, str]:
        key_id = uuid7()
        prefix = "".join(secrets.choice(_PREFIX_LETTERS) for _ in range(10))
        secret = secrets.token_urlsafe(32)
        self._directory.create_key(
            self._deed(caller, "key.create", format_id("key", key_id), prefix=prefix, role=role),
            key_id,
            name=name,
            role=role,
            prefix=prefix,
            secret_hash=_hash(secret),
        )
        return key_id, f"tl_{prefix}_{secret}"

    # The audit log

    def list_audit(
        self,
        caller: Caller,
        *,
        limit: int,
        cursor: str | None,
        action: str | None = None,
        subject: str | None = None,
    ) -> list[AuditRecord]:
        """Returns who did what in the organisation, newest first."""
        caller.require(Permission.READ_AUDIT)
        return self._directory.list_audit(
            caller.organization_id,
            limit=limit,
            before=cursor_of("aud", cursor),
            action=action,
            subject=subject,
        )


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
