from __future__ import annotations

from uuid import UUID

import pytest

from worker.domain.access import PERMISSIONS, Caller, Permission, Role
from worker.domain.errors import Forbidden


def caller(role: Role) -> Caller:
    return Caller(organization_id=UUID(int=1), role=role, key_id=None, actor="a")


@pytest.mark.parametrize(
    ("permission", "roles"),
    [
        (Permission.READ, "admin, agent_manager, viewer"),
        (Permission.CREATE_NUMBERS, "admin, agent_manager"),
        (Permission.MANAGE_DIRECTORY, "admin, agent_manager"),
        (Permission.MANAGE_ORGANIZATION, "admin"),
        (Permission.MANAGE_KEYS, "admin"),
        (Permission.READ_AUDIT, "admin"),
    ],
)
def test_a_permission_is_held_by_these_roles(permission: Permission, roles: str) -> None:
    assert ", ".join(role for role in Role if permission in PERMISSIONS[role]) == roles


def test_a_refusal_says_which_role_it_takes() -> None:
    with pytest.raises(Forbidden, match=r"Use a key with the role admin\.$"):
        caller(Role.AGENT_MANAGER).require(Permission.MANAGE_KEYS)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("granted", Role)
def test_nobody_grants_a_role_above_their_own(role: Role, granted: Role) -> None:
    rank = [Role.VIEWER, Role.AGENT_MANAGER, Role.ADMIN].index
    if rank(granted) <= rank(role):
        caller(role).require_to_grant(granted)
    else:
        with pytest.raises(Forbidden):
            caller(role).require_to_grant(granted)
