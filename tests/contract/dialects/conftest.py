from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.contract.dialects.world import World
from tests.rig import FAST, Rig, running


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    # Short, since some cases wait for its end.
    with running(env={**FAST, "TRUNKLINE_DIALECT_WAIT_SECONDS": "8"}) as started:
        yield started


@pytest.fixture(scope="session")
def tenants(rig: Rig) -> dict[str, dict[str, str]]:
    """Keys: an administrator's and a viewer's of one organisation, and another organisation's."""

    def bootstrap(organization: str, role: str) -> dict[str, str]:
        arguments = ("admin", "bootstrap", "--organization", organization, "--role", role, "--json")
        made: dict[str, str] = json.loads(rig.stack.command("bootstrap", *arguments))
        return made

    return {
        "admin": bootstrap("Acme", "admin"),
        "viewer": bootstrap("Acme", "viewer"),
        "other": bootstrap("Umbrella", "admin"),
    }


@pytest.fixture
def world(rig: Rig, tenants: dict[str, dict[str, str]]) -> World:
    return World(
        rig=rig,
        key=tenants["admin"]["api_key"],
        viewer_key=tenants["viewer"]["api_key"],
        other_key=tenants["other"]["api_key"],
        organization_id=tenants["admin"]["organization_id"],
        other_organization_id=tenants["other"]["organization_id"],
    )
