"""Preflight, what a provider's account holds, and the rotation of its secrets, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import (
    NUMBER_SID,
    SID,
    TOKEN,
    Platform,
    Tenant,
    new_request,
    problem,
)
from worker.domain.values import parse_id
from worker.service import Role

# --- preflight --------------------------------------------------------------------------------


def test_a_preflight_tells_all_and_changes_nothing(
    platform: Platform, tenant: Tenant, account: str
) -> None:
    state = f"{platform.sandbox_url}/_sandbox/state"
    before = httpx.get(state, trust_env=False).json()
    body = new_request(phone_number=account, agent_id=f"agt_{'0' * 32}")

    answer = tenant.http.post("/v1/imports/preflight", json=body)

    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["importable"] is False
    assert [one["code"] for one in found["refusals"]] == ["agent_not_found", "number_in_use"]
    free = tenant.http.post(
        "/v1/imports/preflight", json=new_request(phoneNumber=account) | {"x": 1}
    )
    problem(free, 400, "invalid_request")
    body = new_request(phone_number=account, replace_existing_routing=True)
    found = tenant.http.post("/v1/imports/preflight", json=body).json()
    assert (found["importable"], found["refusals"]) == (True, [])
    assert {change["where"] for change in found["changes"]} == {"twilio", "livekit"}
    assert "planted" not in json.dumps(found)
    assert httpx.get(state, trust_env=False).json() == before
    assert platform.rows(tenant) == {"import_jobs": 0, "phone_numbers": 0, "credentials": 0}


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"phone_number": "nonsense"}, 400, "invalid_phone_number"),
        ({"provider": "acme"}, 400, "invalid_request"),
        ({"number_sid": "nonsense"}, 400, "invalid_request"),
        ({"credentials": {"account_sid": SID}}, 400, "invalid_request"),
        ({"nonsense": 1}, 400, "invalid_request"),
        ({"inbound": {"pin": "1"}}, 400, "invalid_request"),
    ],
    ids=str,
)
def test_a_preflight_of_no_import_is_refused(
    tenant: Tenant, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = tenant.http.post("/v1/imports/preflight", json=new_request(**changes))

    problem(answer, status, code)
    assert TOKEN not in answer.text


@pytest.mark.parametrize("given", ["both", "neither", "theirs", "unknown"])
def test_a_preflight_names_what_is_wrong_with_its_credentials(
    tenant: Tenant, other: Tenant, given: str
) -> None:
    body = new_request()
    expected = "invalid_request"
    if given == "both":
        body["credential_id"] = tenant.store()
    elif given == "neither":
        body["credentials"] = None
    else:
        body["credentials"] = None
        body["credential_id"] = other.store() if given == "theirs" else f"cred_{'0' * 32}"
        expected = "credential_not_owned" if given == "theirs" else "credential_not_found"

    answer = tenant.http.post("/v1/imports/preflight", json=body)

    assert answer.status_code == 200, answer.text
    assert [one["code"] for one in answer.json()["refusals"]] == [expected]


# --- what an account holds, and its rotation --------------------------------------------------


def test_the_numbers_of_an_account(tenant: Tenant, account: str) -> None:
    answer = tenant.http.get(f"/v1/credentials/{tenant.store()}/numbers")

    assert answer.status_code == 200, answer.text
    [found] = answer.json()["items"]
    assert (found["phone_number"], found["number_sid"]) == (account, NUMBER_SID)
    assert (found["importable"], found["refusal"]["code"]) == (False, "number_in_use")
    assert answer.json()["next_cursor"] is None
    assert "planted" not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "nonsense=1",
        "cursor=nonsense",
        "cursor=%00",
        "cursor=https://evil.example.com/next",
        "cursor=" + "x" * 1001,
        "cursor=//evil.example.com",
        "cursor=%F0%9F%98%80",
    ],
)
def test_a_page_that_is_none_is_refused(tenant: Tenant, account: str, query: str) -> None:
    del account
    answer = tenant.http.get(f"/v1/credentials/{tenant.store()}/numbers?{query}")

    problem(answer, 400, "invalid_request")


def test_accounts_of_others_are_neither_listed_nor_rotated(
    platform: Platform, tenant: Tenant, other: Tenant
) -> None:
    path = f"/v1/credentials/{other.store()}"
    _, viewer = other.add_key(Role.VIEWER)

    problem(tenant.http.get(f"{path}/numbers"), 403, "credential_not_owned")
    problem(tenant.http.patch(path, json={"label": "mine"}), 403, "credential_not_owned")
    problem(viewer.get(f"{path}/numbers"), 403, "forbidden")
    problem(viewer.patch(path, json={"label": "mine"}), 403, "forbidden")
    for unknown in ("cred_0", f"cred_{'0' * 32}", f"num_{'0' * 32}", "%00"):
        unknown_path = f"/v1/credentials/{unknown}"
        problem(tenant.http.get(f"{unknown_path}/numbers"), 404, "credential_not_found")
        answer = tenant.http.patch(unknown_path, json={"label": "mine"})
        problem(answer, 404, "credential_not_found")
    assert other.http.get(path).json()["label"] == ""
    assert platform.rows(tenant)["credentials"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"provider": "telnyx"}, "provider"),
        ({"label": "x" * 101}, "label"),
        ({"label": 7}, "label"),
        ({"credentials": "planted"}, "credentials"),
        ({"credentials": []}, "credentials"),
        ({"credentials": {"account_sid": SID}}, "credentials"),
        (
            {"credentials": {"account_sid": "planted", "auth_token": TOKEN}},
            "credentials.account_sid",
        ),
        ({"credentials": {"api_key": "planted"}}, None),
        ({"overlap_seconds": -1}, "overlap_seconds"),
        ({"overlap_seconds": 86401}, "overlap_seconds"),
        ({"overlapSeconds": "60"}, "overlap_seconds"),
        ({"overlap_seconds": True}, "overlap_seconds"),
        ({"overlap_seconds": None}, "overlap_seconds"),
        ({"overlap_seconds": 1.5}, "overlap_seconds"),
    ],
    ids=str,
)
def test_a_wrong_rotation_is_refused(
    platform: Platform, tenant: Tenant, body: Any, field: str | None
) -> None:
    credential_id = tenant.store()
    path = f"/v1/credentials/{credential_id}"
    before = tenant.http.get(path).json()

    answer = tenant.http.patch(path, json=body)

    found = problem(answer, 400, "invalid_request")
    if field is not None:
        assert [error["field"] for error in found["errors"]] == [field]
    assert "planted" not in answer.text
    assert tenant.http.get(path).json() == before
    sealed = platform.sql(
        "SELECT sealed, replaced_sealed FROM credentials WHERE id = :id",
        id=parse_id("cred", credential_id),
    )
    assert platform.vault.open(bytes(sealed[0][0]))["auth_token"] == TOKEN
    assert sealed[0][1] is None


def test_a_label_changes_without_asking_the_provider(tenant: Tenant) -> None:
    path = f"/v1/credentials/{tenant.store()}"

    assert tenant.http.patch(path, json={"label": "Main"}).json()["label"] == "Main"
    assert tenant.http.patch(path, json={}).json()["label"] == "Main"
    assert tenant.http.patch(path, json={"label": ""}).json()["label"] == ""


def test_secrets_that_the_provider_refuses_replace_nothing(
    platform: Platform, tenant: Tenant, account: str
) -> None:
    del account
    credential_id = tenant.store()
    body = {"credentials": {"account_sid": SID, "auth_token": "planted-wrong-token"}}

    answer = tenant.http.patch(f"/v1/credentials/{credential_id}", json=body)

    problem(answer, 401, "invalid_credentials")
    assert "planted-wrong-token" not in answer.text
    [(sealed,)] = platform.sql(
        "SELECT sealed FROM credentials WHERE id = :id", id=parse_id("cred", credential_id)
    )
    assert platform.vault.open(bytes(sealed))["auth_token"] == TOKEN
    assert "planted-wrong-token" not in platform.log()
