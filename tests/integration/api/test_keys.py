"""API keys over HTTP: made once, listed without what opens anything, revoked at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import Platform, Tenant, problem
from worker.service import Role


def make(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/api-keys", json={"name": "Billing", "role": "admin", **body})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


@pytest.mark.parametrize("role", Role)
def test_a_key_is_shown_once_and_opens_what_its_role_may(
    platform: Platform, tenant: Tenant, role: Role
) -> None:
    made = make(tenant.http, role=role)
    prefix, secret = made["prefix"], made["key"].split("_", 2)[2]
    assert made["key"] == f"tl_{prefix}_{secret}"

    client = platform.client(**{"X-Api-Key": made["key"]})
    assert client.get("/v1/organizations/current").json()["id"] == tenant.organization_id
    assert (client.get("/v1/audit").status_code == 200) == (role is Role.ADMIN)

    listed = tenant.http.get("/v1/api-keys")
    assert secret not in listed.text
    assert secret not in platform.log()
    used = listed.json()["items"][0]
    assert used["last_used_at"] is not None
    del made["key"]
    assert {**used, "last_used_at": None} == made
    stored = platform.sql("SELECT api_keys::text FROM api_keys WHERE prefix = :p", p=prefix)
    audited = platform.sql("SELECT audit_log::text FROM audit_log")
    assert len(stored) == 1
    assert not any(secret in row[0] for row in stored + audited)


def test_a_revoked_key_is_refused_from_its_next_request_on(
    platform: Platform, tenant: Tenant
) -> None:
    made = make(tenant.http)
    client = platform.client(**{"X-Api-Key": made["key"]})
    assert client.get("/v1/imports").status_code == 200

    assert tenant.http.delete(f"/v1/api-keys/{made['id']}").status_code == 204

    problem(client.get("/v1/imports"), 401, "unauthenticated")
    problem(
        client.post("/v1/api-keys", json={"name": "x", "role": "viewer"}), 401, "unauthenticated"
    )
    revoked = tenant.http.get("/v1/api-keys").json()["items"][0]
    assert revoked["id"] == made["id"]
    assert revoked["revoked_at"] is not None
    assert tenant.http.delete(f"/v1/api-keys/{made['id']}").status_code == 204
    assert tenant.http.get("/v1/api-keys").json()["items"][0] == revoked
    entries = tenant.http.get("/v1/audit", params={"subject": made["id"]}).json()["items"]
    assert [one["action"] for one in entries] == ["key.revoke", "key.create"]


def test_the_last_admin_key_stays(platform: Platform, tenant: Tenant) -> None:
    own = tenant.http.get("/v1/api-keys").json()["items"][0]
    make(tenant.http, role="agent_manager")
    problem(tenant.http.delete(f"/v1/api-keys/{own['id']}"), 409, "last_admin_key")
    assert tenant.http.get("/v1/imports").status_code == 200

    second = make(tenant.http)

    assert tenant.http.delete(f"/v1/api-keys/{own['id']}").status_code == 204
    problem(tenant.http.get("/v1/imports"), 401, "unauthenticated")
    client = platform.client(**{"X-Api-Key": second["key"]})
    problem(client.delete(f"/v1/api-keys/{second['id']}"), 409, "last_admin_key")


def test_of_two_admins_who_revoke_each_other_one_is_left(
    platform: Platform,
    at_once: Callable[[int, Callable[[int], Any]], list[Any]],
) -> None:
    for _ in range(5):
        owner = platform.tenant()
        first = owner.http.get("/v1/api-keys").json()["items"][0]["id"]
        second = make(owner.http)
        clients = [owner.http, platform.client(**{"X-Api-Key": second["key"]})]
        ids = [second["id"], first]

        def revoke(index: int, clients: Any = clients, ids: Any = ids) -> int:
            return int(clients[index].delete(f"/v1/api-keys/{ids[index]}").status_code)

        answers = at_once(2, revoke)

        assert sorted(answers) in ([204, 401], [204, 409])
        alive = [one.get("/v1/api-keys").status_code for one in clients]
        assert sorted(alive) == [200, 401]


def test_keys_of_others_are_neither_seen_nor_revoked(tenant: Tenant, other: Tenant) -> None:
    theirs = make(other.http)
    unknown = tenant.http.delete(f"/v1/api-keys/key_{'0' * 32}").json()

    answer = tenant.http.delete(f"/v1/api-keys/{theirs['id']}")

    assert problem(answer, 404, "not_found") == unknown
    listed = tenant.http.get("/v1/api-keys").json()["items"]
    assert theirs["id"] not in [one["id"] for one in listed]
    assert other.http.get("/v1/api-keys").json()["items"][0]["revoked_at"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a"},
        {"role": "admin"},
        {"name": "a", "role": "owner"},
        {"name": " ", "role": "admin"},
        {"name": "a", "role": "admin", "secret": "planted"},
    ],
)
def test_a_malformed_request_makes_no_key(tenant: Tenant, body: dict[str, Any]) -> None:
    problem(tenant.http.post("/v1/api-keys", json=body), 400, "invalid_request")

    assert len(tenant.http.get("/v1/api-keys").json()["items"]) == 1


@pytest.mark.parametrize("role", [Role.AGENT_MANAGER, Role.VIEWER])
def test_only_an_admin_makes_or_revokes_keys(tenant: Tenant, role: Role) -> None:
    own = tenant.http.get("/v1/api-keys").json()["items"][0]
    _, client = tenant.add_key(role)

    for granted in Role:
        answer = client.post("/v1/api-keys", json={"name": "a", "role": granted})
        assert "with the role admin." in problem(answer, 403, "forbidden")["detail"]
    problem(client.delete(f"/v1/api-keys/{own['id']}"), 403, "forbidden")
    problem(client.get("/v1/api-keys"), 403, "forbidden")
    assert len(tenant.http.get("/v1/api-keys").json()["items"]) == 2
