from __future__ import annotations

from tests.integration.api.conftest import (
    SID,
    TOKEN,
    Platform,
    Tenant,
    new_request,
    problem,
)

KEY_SID = SID.replace("AC", "SK")


def test_a_credential_is_stored_without_ever_showing_its_secret(
    platform: Platform, tenant: Tenant
) -> None:
    body = {
        "provider": "twilio",
        "label": "Main account",
        "credentials": {"accountSid": SID, "authToken": TOKEN},
    }

    answer = tenant.http.post("/v1/credentials", json=body)

    assert answer.status_code == 201
    found = answer.json()
    assert answer.headers["Location"] == f"/v1/credentials/{found['id']}"
    assert found == {
        "id": found["id"],
        "provider": "twilio",
        "account_ref": SID,
        "label": "Main account",
        "stored": True,
        "created_at": found["created_at"],
        "updated_at": found["updated_at"],
        "warnings": [],
    }
    assert found["created_at"].endswith("Z")
    assert tenant.http.get(answer.headers["Location"]).json() == found
    assert tenant.http.get("/v1/credentials").json() == {"items": [found], "next_cursor": None}
    sealed = platform.sql(
        "SELECT sealed FROM credentials WHERE organization_id = :id", id=tenant.uuid
    )
    assert TOKEN.encode() not in bytes(sealed[0][0])


def test_every_kind_of_credential_is_taken(tenant: Tenant) -> None:
    for credentials in (
        {"account_sid": SID, "auth_token": TOKEN},
        {"account_sid": SID, "api_key_sid": KEY_SID, "api_key_secret": TOKEN},
        {"account_sid": SID, "auth_token": TOKEN, "apiKeySid": KEY_SID, "apiKeySecret": TOKEN},
        {"account_sid": SID, "auth_token": TOKEN, "parent_account_sid": f"AC{'0' * 32}"},
    ):
        body = {"provider": "twilio", "credentials": credentials}
        assert tenant.http.post("/v1/credentials", json=body).status_code == 201


def test_a_deleted_credential_is_gone(platform: Platform, tenant: Tenant) -> None:
    path = f"/v1/credentials/{tenant.store()}"

    deleted = tenant.http.delete(path)

    assert (deleted.status_code, deleted.content) == (204, b"")
    problem(tenant.http.get(path), 404, "credential_not_found")
    problem(tenant.http.delete(path), 404, "credential_not_found")
    assert tenant.http.get("/v1/credentials").json()["items"] == []
    sealed = platform.sql(
        "SELECT sealed FROM credentials WHERE organization_id = :id", id=tenant.uuid
    )
    assert bytes(sealed[0][0]) == b""


def test_a_credential_in_use_is_kept(platform: Platform, tenant: Tenant) -> None:
    credential_id = tenant.store()
    job = tenant.submit(new_request(credential_id=credential_id, credentials=None))
    path = f"/v1/credentials/{credential_id}"

    problem(tenant.http.delete(path), 409, "credential_in_use")
    platform.finish_all(job["id"])
    problem(tenant.http.delete(path), 409, "credential_in_use")

    assert tenant.http.get(path).status_code == 200


def test_an_import_whose_credential_is_gone_is_not_retried(tenant: Tenant) -> None:
    credential_id = tenant.store()
    job = tenant.submit(new_request(credential_id=credential_id, credentials=None))
    tenant.http.post(f"/v1/imports/{job['id']}/cancel")
    assert tenant.http.delete(f"/v1/credentials/{credential_id}").status_code == 204

    answer = tenant.http.post(f"/v1/imports/{job['id']}/retry")

    problem(answer, 404, "credential_not_found")


def test_inline_credentials_are_not_listed(tenant: Tenant) -> None:
    credential_id = tenant.submit()["credential_id"]

    assert tenant.http.get("/v1/credentials").json()["items"] == []
    assert tenant.http.get(f"/v1/credentials/{credential_id}").json()["stored"] is False
