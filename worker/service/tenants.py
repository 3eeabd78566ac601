"""Organisations, their keys, agents and users."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string

from worker.domain.access import Caller, Permission, Role
from worker.domain.errors import NotFound, Unauthenticated
from worker.domain.values import format_id
from worker.service._core import Part


class Tenants(Part):
    """Requests about organisations and who may speak for them."""

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

    def operator(self, organization: str) -> Caller:
        """Returns the command line's own caller for an organisation, by name.

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
        prefix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(10))
        secret = secrets.token_urlsafe(32)
        self._directory.create_key(
            organization_id, name="bootstrap", role=role, prefix=prefix, secret_hash=_hash(secret)
        )
        self._directory.audit(
            organization_id=organization_id, actor="operator", action="key.create", subject=prefix
        )
        return format_id("org", organization_id), f"tl_{prefix}_{secret}"

    def create_agent(self, caller: Caller, *, name: str, dispatch_name: str) -> str:
        """Makes an agent that numbers can refer to; returns its id."""
        caller.require(Permission.CREATE_NUMBERS)
        agent = format_id(
            "agt", self._directory.create_agent(caller.organization_id, name, dispatch_name)
        )
        self._audit(caller, "agent.create", agent)
        return agent

    def create_user(self, caller: Caller, *, name: str) -> str:
        """Makes a user that numbers can belong to; returns their id."""
        caller.require(Permission.CREATE_NUMBERS)
        user = format_id("usr", self._directory.create_user(caller.organization_id, name))
        self._audit(caller, "user.create", user)
        return user


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
