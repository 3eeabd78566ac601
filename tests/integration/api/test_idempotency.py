from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.api.conftest import Platform, Tenant, new_number, new_request, problem

AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]


def test_the_same_key_and_body_give_the_same_job(platform: Platform, tenant: Tenant) -> None:
    request, key = new_request(), {"Idempotency-Key": str(uuid4())}

    first = tenant.http.post("/v1/imports", json=request, headers=key)
    second = tenant.http.post("/v1/imports", json=request, headers=key)

    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert (second.status_code, second.json()) == (202, first.json())
    assert second.headers["Location"] == first.headers["Location"]
    assert platform.rows(tenant) == {"import_jobs": 1, "phone_numbers": 1, "credentials": 1}


def test_the_order_of_fields_and_their_case_are_not_another_body(tenant: Tenant) -> None:
    request, key = new_request(friendly_name="a"), {"Idempotency-Key": str(uuid4())}
    again = dict(reversed(request.items()))
    again["friendlyName"] = again.pop("friendly_name")
    again["credentials"] = {
        "authToken": request["credentials"]["auth_token"],
        "accountSid": request["credentials"]["account_sid"],
    }

    first = tenant.http.post("/v1/imports", json=request, headers=key)
    second = tenant.http.post("/v1/imports", json=again, headers=key)

    assert second.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    "changes",
    [
        {"friendly_name": "another"},
        {"phone_number": "+14155550199"},
        {"credentials": {"account_sid": "AC" + "0" * 32, "auth_token": "another-token"}},
        {"inbound": {"pin": "4321"}},
        {"sip": {"address": "sip.example.com", "username": "u", "password": "another"}},
        {"metadata": {"a": 1}},
    ],
    ids=str,
)
def test_the_same_key_with_another_body_is_refused(
    platform: Platform, tenant: Tenant, changes: dict[str, Any]
) -> None:
    request = new_request(
        inbound={"pin": "1234"},
        sip={"address": "sip.example.com", "username": "u", "password": "one"},
    )
    key = {"Idempotency-Key": "import-1"}
    tenant.submit(request, **key)

    answer = tenant.http.post("/v1/imports", json={**request, **changes}, headers=key)

    problem(answer, 422, "idempotency_key_reused")
    assert platform.rows(tenant) == {"import_jobs": 1, "phone_numbers": 1, "credentials": 1}


def test_a_key_is_an_organisations_own(tenant: Tenant, other: Tenant) -> None:
    key = {"Idempotency-Key": "import-1"}

    assert tenant.submit(new_request(), **key)["id"] != other.submit(new_request(), **key)["id"]


def test_a_refused_request_does_not_use_its_key_up(tenant: Tenant) -> None:
    key = {"Idempotency-Key": "import-1"}
    answer = tenant.http.post("/v1/imports", json=new_request(phone_number="nonsense"), headers=key)
    problem(answer, 400, "invalid_phone_number")

    tenant.submit(new_request(), **key)


def test_twenty_submits_with_one_key_make_one_job(
    platform: Platform, tenant: Tenant, at_once: AtOnce
) -> None:
    request, key = new_request(), {"Idempotency-Key": "one-key"}

    answers = at_once(20, lambda _: tenant.http.post("/v1/imports", json=request, headers=key))

    assert [answer.status_code for answer in answers] == [202] * 20
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 19
    assert platform.rows(tenant) == {"import_jobs": 1, "phone_numbers": 1, "credentials": 1}


def test_twenty_submits_of_one_number_make_one_job(
    platform: Platform, tenant: Tenant, at_once: AtOnce
) -> None:
    request = new_request()

    answers = at_once(
        20,
        lambda index: tenant.http.post(
            "/v1/imports", json=request, headers={"Idempotency-Key": f"key-{index}"}
        ),
    )

    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 19
    for answer in answers:
        if answer.status_code == 409:
            problem(answer, 409, "number_already_imported")
    assert platform.rows(tenant) == {"import_jobs": 1, "phone_numbers": 1, "credentials": 1}


def test_a_hundred_submits_at_once_are_all_accepted(
    platform: Platform, tenant: Tenant, at_once: AtOnce
) -> None:
    # More than there are threads and connections: they queue, none fails.
    answers = at_once(100, lambda _: tenant.http.post("/v1/imports", json=new_request()))

    assert {answer.status_code for answer in answers} == {202}
    assert platform.rows(tenant)["import_jobs"] == 100


def test_a_number_freed_by_a_cancelled_import_can_be_imported_again(tenant: Tenant) -> None:
    number = new_number()
    first = tenant.submit(new_request(phone_number=number))
    tenant.http.post(f"/v1/imports/{first['id']}/cancel")

    assert tenant.submit(new_request(phone_number=number))["id"] != first["id"]
