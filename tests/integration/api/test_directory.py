"""Organisations, users and agents over HTTP, and every spelling of their ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tests.integration.api.conftest import Platform, Tenant, new_request, problem
from worker.domain.errors import ExternalIdTaken

KINDS = ("users", "agents")
BODY: dict[str, dict[str, Any]] = {
    "users": {"name": "Ada"},
    "agents": {"name": "Front desk", "dispatch_name": "receptionist"},
}
NOT_FOUND = {"users": "user_not_found", "agents": "agent_not_found"}
#: What clients of published contracts send as ids.
EXTERNAL = [
    "65f1a0b2c3d4e5f6a7b8c9d0",
    "agent_0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "550e8400-e29b-41d4-a716-446655440000",
    "a.b:c_d-E",
]


def make(tenant: Tenant, kind: str, **changes: Any) -> dict[str, Any]:
    answer = tenant.http.post(f"/v1/{kind}", json={**BODY[kind], **changes})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/v1/{kind}/{made['id']}"
    return made


# Organisations


def test_an_organisation_sees_itself_and_no_other(tenant: Tenant, other: Tenant) -> None:
    found = tenant.http.get("/v1/organizations/current").json()

    assert found["id"] == tenant.organization_id
    assert tenant.http.get(f"/v1/organizations/{found['id']}").json() == found
    unknown = tenant.http.get(f"/v1/organizations/org_{'0' * 32}")
    theirs = tenant.http.get(f"/v1/organizations/{other.organization_id}")
    assert problem(theirs, 404, "not_found") == problem(unknown, 404, "not_found")
    renamed = tenant.http.patch(
        f"/v1/organizations/{other.organization_id}", json={"name": "Mine now"}
    )
    problem(renamed, 404, "not_found")
    assert other.http.get("/v1/organizations/current").json()["name"] != "Mine now"


def test_a_tenant_cannot_take_the_name_by_which_the_operator_finds_another(
    platform: Platform, tenant: Tenant, other: Tenant
) -> None:
    name = other.http.get("/v1/organizations/current").json()["name"]

    answer = tenant.http.patch("/v1/organizations/current", json={"name": name})

    assert answer.json()["name"] == name
    assert tenant.http.get("/v1/organizations/current").json() == answer.json()
    assert platform.service.bootstrap(name)[0] == other.organization_id
    assert platform.service.operator(name).organization_id == other.uuid


# Users and agents


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_made_is_read_listed_and_changed(tenant: Tenant, kind: str) -> None:
    made = make(tenant, kind, external_id="mine-1")
    path = f"/v1/{kind}/{made['id']}"
    given = {name: made[name] for name in (*BODY[kind], "external_id")}
    assert given == {**BODY[kind], "external_id": "mine-1"}
    assert tenant.http.get(path).json() == made
    assert tenant.http.get(f"/v1/{kind}").json() == {"items": [made], "next_cursor": None}

    changed = tenant.http.patch(path, json={"name": "Grace"})

    assert changed.json() == {**made, "name": "Grace"}
    assert tenant.http.patch(path, json={}).json() == changed.json()
    cleared = tenant.http.patch(path, json={"externalId": None}).json()
    assert cleared == {**made, "name": "Grace", "external_id": None}
    problem(tenant.http.get(f"/v1/{kind}/mine-1"), 404, NOT_FOUND[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_pages_hold_each_once_newest_first(tenant: Tenant, kind: str) -> None:
    ids = [make(tenant, kind)["id"] for _ in range(3)]

    first = tenant.http.get(f"/v1/{kind}", params={"limit": 2}).json()
    second = tenant.http.get(
        f"/v1/{kind}", params={"limit": 2, "cursor": first["next_cursor"]}
    ).json()

    assert [one["id"] for one in first["items"] + second["items"]] == ids[::-1]
    assert second["next_cursor"] is None
    problem(tenant.http.get(f"/v1/{kind}", params={"cursor": "x"}), 400, "invalid_request")


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        ("users", {}, "name"),
        ("users", {"name": ""}, "name"),
        ("users", {"name": "  "}, "name"),
        ("users", {"name": "x" * 101}, "name"),
        ("users", {"name": "a", "external_id": "a b"}, "external_id"),
        ("users", {"name": "a", "external_id": ""}, "external_id"),
        ("users", {"name": "a", "external_id": "x" * 65}, "external_id"),
        ("users", {"name": "a", "role": "admin"}, "role"),
        ("agents", {"name": "a"}, "dispatch_name"),
        ("agents", {"name": "a", "dispatch_name": ""}, "dispatch_name"),
        ("agents", {"name": "a", "dispatch_name": " "}, "dispatch_name"),
    ],
)
def test_a_wrong_field_is_named(
    tenant: Tenant, kind: str, body: dict[str, Any], field: str
) -> None:
    found = problem(tenant.http.post(f"/v1/{kind}", json=body), 400, "invalid_request")

    assert [one["field"] for one in found["errors"]] == [field]
    assert tenant.http.get(f"/v1/{kind}").json()["items"] == []


@pytest.mark.parametrize("change", [{"name": None}, {"dispatch_name": None}, {"dispatch_name": ""}])
def test_an_agent_cannot_lose_its_names(tenant: Tenant, change: dict[str, Any]) -> None:
    agent = make(tenant, "agents")
    path = f"/v1/agents/{agent['id']}"

    problem(tenant.http.patch(path, json=change), 400, "invalid_request")

    assert tenant.http.get(path).json() == agent


@pytest.mark.parametrize("kind", KINDS)
def test_those_of_others_are_neither_seen_nor_changed(
    tenant: Tenant, other: Tenant, kind: str
) -> None:
    # Without an external id, as theirs has none that a caller of this organisation could mean.
    mine, theirs = make(tenant, kind), make(other, kind, external_id="theirs")
    status, code = (404, "user_not_found") if kind == "users" else (403, "agent_not_owned")
    path = f"/v1/{kind}/{theirs['id']}"

    problem(tenant.http.get(path), status, code)
    problem(tenant.http.patch(path, json={"name": "Mine now"}), status, code)
    problem(tenant.http.delete(path), status, code)
    problem(tenant.http.get(f"/v1/{kind}/theirs"), 404, NOT_FOUND[kind])

    assert tenant.http.get(f"/v1/{kind}").json()["items"] == [mine]
    assert other.http.get(path).json() == theirs


# External ids


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("external_id", EXTERNAL)
def test_an_external_id_names_it_in_its_own_organisation(
    tenant: Tenant, other: Tenant, kind: str, external_id: str
) -> None:
    mine = make(tenant, kind, external_id=external_id)
    theirs = make(other, kind, external_id=external_id)

    for owner, made in ((tenant, mine), (other, theirs)):
        uuid = UUID(hex=made["id"][4:])
        for spelling in (external_id, str(uuid), str(uuid).upper(), uuid.hex, uuid.urn):
            assert owner.http.get(f"/v1/{kind}/{spelling}").json() == made


@pytest.mark.parametrize("kind", KINDS)
def test_an_external_id_is_given_once(tenant: Tenant, kind: str) -> None:
    first, second = make(tenant, kind, external_id="one"), make(tenant, kind)
    path = f"/v1/{kind}/{second['id']}"

    again = tenant.http.post(f"/v1/{kind}", json={**BODY[kind], "external_id": "one"})
    problem(again, 409, "external_id_taken")
    problem(tenant.http.patch(path, json={"external_id": "one"}), 409, "external_id_taken")
    assert tenant.http.get(path).json() == second

    assert tenant.http.delete(f"/v1/{kind}/{first['id']}").status_code == 204
    problem(tenant.http.get(f"/v1/{kind}/one"), 404, NOT_FOUND[kind])
    assert tenant.http.patch(path, json={"external_id": "one"}).status_code == 200
    assert tenant.http.get(f"/v1/{kind}/one").json()["id"] == second["id"]


def test_of_many_with_the_same_external_id_one_is_made(
    tenant: Tenant, at_once: Callable[[int, Callable[[int], Any]], list[Any]]
) -> None:
    body = {**BODY["agents"], "external_id": "one"}

    answers = at_once(4, lambda _: tenant.http.post("/v1/agents", json=body).status_code)

    assert sorted(answers) == [201, 409, 409, 409]
    assert len(tenant.http.get("/v1/agents").json()["items"]) == 1


def test_an_external_id_cannot_pass_for_one_of_ours(tenant: Tenant) -> None:
    agent = make(tenant, "agents")
    body = {**BODY["agents"], "external_id": agent["id"]}

    problem(tenant.http.post("/v1/agents", json=body), 400, "invalid_request")


def test_our_id_comes_before_an_external_one_that_reads_the_same(tenant: Tenant) -> None:
    agent = make(tenant, "agents")
    uuid = str(UUID(hex=agent["id"][4:]))
    make(tenant, "agents", external_id=uuid)

    assert tenant.http.get(f"/v1/agents/{uuid}").json() == agent


def test_an_external_id_that_is_somebody_else_s_uuid_names_the_caller_s_own(
    tenant: Tenant, other: Tenant
) -> None:
    uuid = str(UUID(hex=make(other, "agents")["id"][4:]))
    problem(tenant.http.get(f"/v1/agents/{uuid}"), 403, "agent_not_owned")

    mine = make(tenant, "agents", external_id=uuid)

    assert tenant.http.get(f"/v1/agents/{uuid}").json() == mine


@pytest.mark.parametrize(
    "text", [f"agt_{'0' * 32}", "0" * 32, "%00", "a%20b", "%F0%9F%92%A5", "x" * 300, "'--"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_is_no_id_names_nothing(tenant: Tenant, kind: str, text: str) -> None:
    make(tenant, kind)
    problem(tenant.http.get(f"/v1/{kind}/{text}"), 404, NOT_FOUND[kind])


def test_an_import_takes_any_spelling_and_keeps_ours(platform: Platform, tenant: Tenant) -> None:
    agent = make(tenant, "agents", external_id="65f1a0b2c3d4e5f6a7b8c9d0")
    night = make(tenant, "agents", external_id="night", dispatch_name="night-shift")
    user = make(tenant, "users", external_id="user-42")
    credential = tenant.store()
    caller = platform.service.authenticate(tenant.key)
    platform.service.name_credential(caller, credential, "main-account")
    for spelled in (
        ("65f1a0b2c3d4e5f6a7b8c9d0", "night", "user-42", "main-account"),
        tuple(
            str(UUID(hex=one.partition("_")[2])).upper()
            for one in (agent["id"], night["id"], user["id"], credential)
        ),
    ):
        request = new_request(
            agent_id=spelled[0],
            inbound={"fallback_agent_id": spelled[1]},
            user_id=spelled[2],
            credential_id=spelled[3],
        )
        del request["credentials"]

        job = tenant.submit(request)

        assert job["agent_id"] == agent["id"]
        assert job["user_id"] == user["id"]
        assert job["credential_id"] == credential
        kept = platform.job(job["id"]).request
        assert (kept["agent_id"], kept["user_id"]) == (agent["id"], user["id"])
        # What a worker's query for the fallback agent reads.
        assert kept["fallback_agent_id"] == night["id"]
        assert platform.begin(job["id"]).fallback_dispatch_name == "night-shift"


def test_a_number_is_given_to_an_agent_by_its_external_id(
    platform: Platform, tenant: Tenant
) -> None:
    make(tenant, "agents", external_id="day")
    night = make(tenant, "agents", external_id="night")
    import_id = tenant.submit(new_request(agent_id="day"))["id"]
    platform.finish_all(import_id)
    number = tenant.http.get(f"/v1/imports/{import_id}").json()["phone_number_id"]

    same = tenant.http.patch(f"/v1/phone-numbers/{number}", json={"agent_id": "day"})
    change = {"agent_id": "night", "inbound": {"fallback_agent_id": "day"}}
    rebound = tenant.http.patch(f"/v1/phone-numbers/{number}", json=change)

    assert same.status_code == 200, same.text
    assert (rebound.status_code, rebound.json()["agent_id"]) == (202, night["id"])


def test_the_same_external_id_of_a_credential_is_given_once(
    platform: Platform, tenant: Tenant, other: Tenant
) -> None:
    service, caller = platform.service, platform.service.authenticate(tenant.key)
    first, second, theirs = tenant.store(), tenant.store(), other.store()
    service.name_credential(caller, first, "main")
    assert tenant.http.get("/v1/credentials/main").json()["id"] == first
    problem(other.http.get("/v1/credentials/main"), 404, "credential_not_found")
    problem(tenant.http.get(f"/v1/credentials/{theirs}"), 403, "credential_not_owned")

    with pytest.raises(ExternalIdTaken):
        service.name_credential(caller, second, "main")
    assert tenant.http.delete("/v1/credentials/main").status_code == 204
    service.name_credential(caller, second, "main")

    assert tenant.http.get("/v1/credentials/main").json()["id"] == second
    assert (
        tenant.http.get("/v1/audit", params={"subject": first}).json()["items"][0]["action"]
        == "credential.delete"
    )
