"""The audit log over HTTP: each deed once, for the organisation's admins, and for good."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import exc

from tests.integration.api.conftest import SID, TOKEN, Platform, Tenant, problem
from tests.integration.api.test_directory import make


def entries(tenant: Tenant, **params: Any) -> list[dict[str, Any]]:
    answer = tenant.http.get("/v1/audit", params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_every_change_of_the_directory_leaves_one_entry(tenant: Tenant) -> None:
    http, actor = tenant.http, tenant.key.split("_")[1]
    user = make(tenant, "users")["id"]
    agent = make(tenant, "agents", external_id="mine")["id"]
    http.patch(f"/v1/users/{user}", json={"name": "Grace"})
    http.patch("/v1/agents/mine", json={"dispatch_name": "b", "name": "B"})
    http.delete("/v1/agents/mine")
    http.delete(f"/v1/users/{user}")
    http.patch("/v1/organizations/current", json={"name": "Acme"})
    key = http.post("/v1/api-keys", json={"name": "k", "role": "viewer"}).json()
    http.delete(f"/v1/api-keys/{key['id']}")

    found = [(one["action"], one["subject"], one["detail"]) for one in entries(tenant)]

    organization = tenant.organization_id
    assert found[:-1] == [
        ("key.revoke", key["id"], {}),
        ("key.create", key["id"], {"prefix": key["prefix"], "role": "viewer"}),
        ("organization.change", organization, {}),
        ("user.delete", user, {}),
        ("agent.delete", agent, {}),
        ("agent.change", agent, {"fields": ["dispatch_name", "name"]}),
        ("user.change", user, {"fields": ["name"]}),
        ("agent.create", agent, {}),
        ("user.create", user, {}),
    ]
    # The tenant's own first key, which the operator made.
    assert (found[-1][0], entries(tenant)[-1]["actor"]) == ("key.create", "operator")
    assert {one["actor"] for one in entries(tenant)[:-1]} == {actor}


def test_what_was_refused_leaves_none(tenant: Tenant) -> None:
    make(tenant, "agents", external_id="one")
    agent = make(tenant, "agents")["id"]
    tenant.submit()
    before = entries(tenant)
    own = tenant.http.get("/v1/api-keys").json()["items"][0]["id"]

    for answer in (
        tenant.http.post(
            "/v1/agents", json={"name": "a", "dispatch_name": "a", "external_id": "one"}
        ),
        tenant.http.patch(f"/v1/agents/{agent}", json={"external_id": "one"}),
        tenant.http.delete(f"/v1/api-keys/{own}"),
        tenant.http.delete(f"/v1/agents/agt_{'0' * 32}"),
    ):
        assert answer.status_code in (404, 409)
    tenant.http.patch(f"/v1/agents/{agent}", json={})

    assert entries(tenant) == before


def test_pages_and_filters(tenant: Tenant, other: Tenant) -> None:
    agents = [make(tenant, "agents")["id"] for _ in range(3)]
    user = make(tenant, "users")["id"]
    make(other, "agents")
    first = tenant.http.get("/v1/audit", params={"limit": 2, "action": "agent.create"}).json()
    cursor = first["next_cursor"]
    second = tenant.http.get(
        "/v1/audit", params={"limit": 2, "action": "agent.create", "cursor": cursor}
    ).json()

    assert [one["subject"] for one in first["items"] + second["items"]] == agents[::-1]
    assert second["next_cursor"] is None
    assert [one["action"] for one in entries(tenant, subject=user)] == ["user.create"]
    assert entries(tenant, subject=user, action="agent.create") == []
    assert entries(tenant, cursor=f"aud_{'f' * 32}") == entries(tenant)
    for wrong in ({"cursor": "x"}, {"action": "a b"}, {"subject": "\0"}, {"actor": "x"}):
        problem(tenant.http.get("/v1/audit", params=wrong), 400, "invalid_request")


def test_others_see_nothing_of_it(tenant: Tenant, other: Tenant) -> None:
    agent = make(tenant, "agents")["id"]

    assert entries(other, subject=agent) == []
    subjects = {one["subject"] for one in entries(other)}
    assert subjects.isdisjoint(one["subject"] for one in entries(tenant))


def test_no_secret_is_in_it(tenant: Tenant) -> None:
    tenant.submit()
    credential = tenant.store()
    tenant.http.get("/v1/signing-secret")
    secret = tenant.http.get("/v1/signing-secret").json()["secret"]
    key = tenant.http.post("/v1/api-keys", json={"name": "k", "role": "viewer"}).json()["key"]

    told = tenant.http.get("/v1/audit").text

    assert credential in told
    for hidden in (TOKEN, SID, secret, key, key.split("_", 2)[2], tenant.key):
        assert hidden not in told


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "TRUNCATE audit_log CASCADE",
    ],
)
def test_the_database_itself_refuses_to_change_it(
    platform: Platform, tenant: Tenant, statement: str
) -> None:
    make(tenant, "agents")
    before = entries(tenant)

    with pytest.raises(exc.ProgrammingError, match="only ever added to"):
        platform.sql(statement)

    assert entries(tenant) == before
