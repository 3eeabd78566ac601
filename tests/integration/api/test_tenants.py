from __future__ import annotations

import re

import httpx
import pytest

from tests.integration.api.conftest import (
    SID,
    TOKEN,
    Platform,
    Tenant,
    new_request,
    problem,
    without,
)
from worker.service import Role

NOTHING = {"import_jobs": 0, "phone_numbers": 0, "credentials": 0}
ID = "0" * 32
#: Every route that needs a key.
ROUTES = [
    ("POST", "/v1/imports", "writes"),
    ("GET", "/v1/imports", "reads"),
    ("GET", "/v1/imports/counts", "reads"),
    ("GET", f"/v1/imports/imp_{ID}", "reads"),
    ("POST", f"/v1/imports/imp_{ID}/cancel", "writes"),
    ("POST", f"/v1/imports/imp_{ID}/retry", "writes"),
    ("POST", "/v1/imports/preflight", "writes"),
    ("POST", "/v1/credentials", "writes"),
    ("GET", "/v1/credentials", "reads"),
    ("GET", f"/v1/credentials/cred_{ID}", "reads"),
    ("PATCH", f"/v1/credentials/cred_{ID}", "writes"),
    ("GET", f"/v1/credentials/cred_{ID}/numbers", "writes"),
    ("DELETE", f"/v1/credentials/cred_{ID}", "writes"),
    ("POST", "/v1/batches", "writes"),
    ("GET", "/v1/batches", "reads"),
    ("GET", f"/v1/batches/bat_{ID}", "reads"),
    ("POST", f"/v1/batches/bat_{ID}/cancel", "writes"),
    ("GET", "/v1/phone-numbers", "reads"),
    ("GET", f"/v1/phone-numbers/num_{ID}", "reads"),
    ("PATCH", f"/v1/phone-numbers/num_{ID}", "writes"),
    ("DELETE", f"/v1/phone-numbers/num_{ID}", "writes"),
    ("POST", f"/v1/phone-numbers/num_{ID}/check", "writes"),
    ("GET", f"/v1/phone-numbers/num_{ID}/events", "reads"),
    ("GET", "/v1/signing-secret", "writes"),
    ("POST", "/v1/signing-secret/rotate", "writes"),
    ("GET", f"/v1/organizations/org_{ID}", "reads"),
    ("PATCH", f"/v1/organizations/org_{ID}", "administers"),
    ("POST", "/v1/users", "writes"),
    ("GET", "/v1/users", "reads"),
    ("GET", f"/v1/users/usr_{ID}", "reads"),
    ("PATCH", f"/v1/users/usr_{ID}", "writes"),
    ("DELETE", f"/v1/users/usr_{ID}", "writes"),
    ("POST", "/v1/agents", "writes"),
    ("GET", "/v1/agents", "reads"),
    ("GET", f"/v1/agents/agt_{ID}", "reads"),
    ("PATCH", f"/v1/agents/agt_{ID}", "writes"),
    ("DELETE", f"/v1/agents/agt_{ID}", "writes"),
    ("POST", "/v1/api-keys", "administers"),
    ("GET", "/v1/api-keys", "administers"),
    ("DELETE", f"/v1/api-keys/key_{ID}", "administers"),
    ("GET", "/v1/audit", "administers"),
]


def ask(client: httpx.Client, method: str, path: str, **more: object) -> httpx.Response:
    imports = path in ("/v1/imports", "/v1/imports/preflight")
    body = new_request() if imports else without(new_request(), "phone_number")
    sent = {"POST": body, "PATCH": {}}.get(method)
    return client.request(method, path, json=sent, **more)  # type: ignore[arg-type]


def test_every_route_is_listed_here(platform: Platform) -> None:
    paths = platform.client().get("/openapi.json").json()["paths"]

    documented = [
        (method.upper(), re.sub(r"{[a-z_]+}", ID, path))
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/v1/")
    ]

    listed = [
        (method, re.sub(r"(imp|bat|cred|num|org|usr|agt|key)_0+", ID, path))
        for method, path, _ in ROUTES
    ]
    assert sorted(documented) == sorted(listed)


@pytest.mark.parametrize(("method", "path", "_kind"), ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer tl_unknown_key"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "nonsense"},
        {"X-Api-Key": ""},
        {"X-Api-Key": "tl_unknown_key"},
        {"X-Api-Key": "x" * 300},
        {"X-Api-Key": "two words"},
    ],
    ids=str,
)
def test_without_a_valid_key_nothing_is_answered(
    platform: Platform, method: str, path: str, _kind: str, headers: dict[str, str]
) -> None:
    answer = ask(platform.client(), method, path, headers=headers)

    problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="trunkline"'


def test_a_key_is_judged_before_the_body(platform: Platform) -> None:
    answer = platform.client().post("/v1/imports", content=b"{nonsense")

    problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize("change", ["prefix", "secret", "short", "long", "case"])
def test_a_key_that_is_nearly_right_is_refused(
    platform: Platform, tenant: Tenant, change: str
) -> None:
    start, prefix, secret = tenant.key.split("_", 2)
    key = {
        "prefix": f"{start}_{prefix[:-1]}_{secret}",
        "secret": f"{start}_{prefix}_{'A' if secret[0] != 'A' else 'B'}{secret[1:]}",
        "short": tenant.key[:-1],
        "long": f"{tenant.key}x",
        "case": tenant.key.swapcase(),
    }[change]

    problem(platform.client(**{"X-Api-Key": key}).get("/v1/imports"), 401, "unauthenticated")


def test_a_revoked_key_is_refused(platform: Platform, tenant: Tenant) -> None:
    key, client = tenant.add_key(Role.ADMIN)
    assert client.get("/v1/imports").status_code == 200

    platform.sql(
        "UPDATE api_keys SET revoked_at = now() WHERE prefix = :prefix", prefix=key.split("_")[1]
    )

    problem(client.get("/v1/imports"), 401, "unauthenticated")


def test_either_header_carries_a_key_but_not_two(
    platform: Platform, tenant: Tenant, other: Tenant
) -> None:
    for headers in (
        {"Authorization": f"Bearer {tenant.key}"},
        {"Authorization": f"bearer {tenant.key}"},
        {"X-Api-Key": tenant.key},
        {"X-Api-Key": tenant.key, "Authorization": f"Bearer {tenant.key}"},
        {"X-Api-Key": tenant.key, "Authorization": "Basic dXNlcjpwYXNz"},
    ):
        assert platform.client(**headers).get("/v1/imports").status_code == 200

    two = {"X-Api-Key": tenant.key, "Authorization": f"Bearer {other.key}"}
    problem(platform.client(**two).get("/v1/imports"), 401, "unauthenticated")


#: Kind of route → who may call it.
ALLOWED = {
    "reads": set(Role),
    "writes": {Role.ADMIN, Role.AGENT_MANAGER},
    "administers": {Role.ADMIN},
}


@pytest.mark.parametrize(("method", "path", "kind"), ROUTES)
def test_a_route_is_open_to_its_roles_only(
    platform: Platform, tenant: Tenant, method: str, path: str, kind: str
) -> None:
    # The least first: what is stored then was not for it to store.
    for role in (Role.VIEWER, Role.AGENT_MANAGER, Role.ADMIN):
        _, client = tenant.add_key(role)
        answer = ask(client, method, path)
        if role in ALLOWED[kind]:
            assert answer.status_code not in (401, 403, 405, 500), answer.text
        else:
            problem(answer, 403, "forbidden")
            assert platform.rows(tenant) == NOTHING


def test_a_viewer_is_refused_before_the_body_is_judged(tenant: Tenant) -> None:
    _, viewer = tenant.add_key(Role.VIEWER)

    problem(viewer.post("/v1/imports", content=b"{nonsense"), 403, "forbidden")
    problem(viewer.post("/v1/imports", json={"nonsense": 1}), 403, "forbidden")


def test_a_viewer_changes_nothing_of_what_is_there(platform: Platform, tenant: Tenant) -> None:
    _, viewer = tenant.add_key(Role.VIEWER)
    credential_id = tenant.store()
    path = f"/v1/imports/{tenant.submit()['id']}"
    before = viewer.get(path).json()

    problem(viewer.post(f"{path}/cancel"), 403, "forbidden")
    problem(viewer.post(f"{path}/retry"), 403, "forbidden")
    problem(viewer.delete(f"/v1/credentials/{credential_id}"), 403, "forbidden")

    assert viewer.get(path).json() == before
    assert platform.rows(tenant) == {"import_jobs": 1, "phone_numbers": 1, "credentials": 2}


def test_an_agent_manager_imports(tenant: Tenant) -> None:
    _, manager = tenant.add_key(Role.AGENT_MANAGER)

    assert manager.post("/v1/imports", json=new_request()).status_code == 202


def test_imports_of_others_look_as_if_they_did_not_exist(
    platform: Platform, tenant: Tenant, other: Tenant
) -> None:
    job = other.submit(new_request(), **{"Idempotency-Key": "theirs"})
    path = f"/v1/imports/{job['id']}"
    unknown = tenant.http.get(f"/v1/imports/imp_{ID}").json()

    for answer in (
        tenant.http.get(path),
        tenant.http.get(f"{path}?wait=20"),
        tenant.http.get(path, headers={"If-None-Match": "*"}),
        tenant.http.post(f"{path}/cancel"),
        tenant.http.post(f"{path}/retry"),
    ):
        assert problem(answer, 404, "not_found") == unknown
    assert tenant.http.get("/v1/imports").json()["items"] == []
    by_number = {"phone_number": job["phone_number"]}
    assert tenant.http.get("/v1/imports", params=by_number).json()["items"] == []
    assert tenant.http.get("/v1/imports", params={"cursor": f"imp_{'f' * 32}"}).json() == {
        "items": [],
        "next_cursor": None,
    }
    assert platform.job(job["id"]).cancel_requested_at is None


def test_numbers_of_others_look_as_if_they_did_not_exist(
    platform: Platform, tenant: Tenant, other: Tenant
) -> None:
    import_id = other.submit()["id"]
    platform.finish_all(import_id)
    number_id = other.http.get(f"/v1/imports/{import_id}").json()["phone_number_id"]
    assert other.http.get(f"/v1/phone-numbers/{number_id}").status_code == 200

    problem(tenant.http.get(f"/v1/phone-numbers/{number_id}"), 404, "not_found")
    assert tenant.http.get("/v1/phone-numbers").json()["items"] == []


def test_credentials_of_others_are_refused(
    platform: Platform, tenant: Tenant, other: Tenant
) -> None:
    theirs = other.store()
    inline = other.submit()["credential_id"]

    for credential_id in (theirs, inline):
        path = f"/v1/credentials/{credential_id}"
        request = new_request(credential_id=credential_id, credentials=None)
        problem(tenant.http.get(path), 403, "credential_not_owned")
        problem(tenant.http.delete(path), 403, "credential_not_owned")
        answer = tenant.http.post("/v1/imports", json=request)
        problem(answer, 403, "credential_not_owned")
    assert tenant.http.get("/v1/credentials").json()["items"] == []
    assert platform.rows(tenant) == NOTHING
    assert platform.rows(other) == {"import_jobs": 1, "phone_numbers": 1, "credentials": 2}


def test_agents_and_users_of_others_are_refused(
    platform: Platform, tenant: Tenant, other: Tenant
) -> None:
    caller = platform.service.authenticate(other.key)
    agent = platform.service.create_agent(caller, name="a", dispatch_name="a")
    user = platform.service.create_user(caller, name="u")

    for request, status, code in (
        (new_request(agent_id=agent), 403, "agent_not_owned"),
        (new_request(inbound={"fallback_agent_id": agent}), 403, "agent_not_owned"),
        (new_request(user_id=user), 404, "user_not_found"),
    ):
        problem(tenant.http.post("/v1/imports", json=request), status, code)
    assert platform.rows(tenant) == NOTHING


def test_the_audit_log_names_who_did_what(platform: Platform, tenant: Tenant) -> None:
    credential_id = tenant.store()
    job = tenant.submit(new_request(credentials={"account_sid": SID, "auth_token": TOKEN}))
    tenant.http.post(f"/v1/imports/{job['id']}/cancel")

    entries = platform.sql(
        "SELECT actor, action, subject FROM audit_log WHERE organization_id = :id "
        "AND actor <> 'operator' ORDER BY id",
        id=tenant.uuid,
    )

    actor = tenant.key.split("_")[1]
    assert entries == [
        (actor, "credential.create", credential_id),
        (actor, "import.submit", job["id"]),
        (actor, "import.cancel", job["id"]),
    ]
