"""Who may do what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from worker.domain.errors import Forbidden


class Role(StrEnum):
    """What an API key may do."""

    ADMIN = "admin"
    AGENT_MANAGER = "agent_manager"
    VIEWER = "viewer"


class Permission(StrEnum):
    """One thing that a role may be allowed to do."""

    CREATE_NUMBERS = "phone_numbers:create"
    READ = "read"
    #: Make, change and delete the users and agents that numbers refer to.
    MANAGE_DIRECTORY = "directory:manage"
    #: Change what the organisation says of itself.
    MANAGE_ORGANIZATION = "organization:manage"
    #: Make, list and revoke API keys.
    MANAGE_KEYS = "api_keys:manage"
    READ_AUDIT = "audit:read"


#: Role → what it may do.
PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.ADMIN: frozenset(Permission),
    Role.AGENT_MANAGER: frozenset(
        {Permission.READ, Permission.CREATE_NUMBERS, Permission.MANAGE_DIRECTORY}
    ),
    Role.VIEWER: frozenset({Permission.READ}),
}
assert PERMISSIONS.keys() == set(Role), "a role has no permissions"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, as an API key proved it."""

    organization_id: UUID
    role: Role
    key_id: UUID | None
    #: The key's public prefix, or "operator" for the command line: the audit log's actor.
    actor: str

    def require(self, permission: Permission) -> None:
        """Raises Forbidden unless the role holds the permission."""
        if permission not in PERMISSIONS[self.role]:
            able = " or ".join(role for role in Role if permission in PERMISSIONS[role])
            raise Forbidden(
                f"This API key's role does not allow that. Use a key with the role {able}."
            )

    def require_to_grant(self, role: Role) -> None:
        """Raises Forbidden if the role may do anything that the caller may not."""
        if not PERMISSIONS[role] <= PERMISSIONS[self.role]:
            raise Forbidden(f"Only a key with the role {role} can make another one.")
