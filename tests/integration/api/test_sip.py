"""Numbers at SIP carriers: asserted, and told what to set on the carrier's side."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api.conftest import Platform, Tenant, problem

NOTHING = {"import_jobs": 0, "phone_numbers": 0, "credentials": 0}
PASSWORD = "planted-sip-password"
LOGIN = {"address": "sip.example.com:5061", "username": "acme", "password": PASSWORD}


def _request(**changes: Any) -> dict[str, Any]:
    request = {"phone_number": "+14155550177", "provider": "sip", "sip": {**LOGIN}}
    return {**request, **changes}


def test_the_answer_says_what_to_set_and_never_the_password(tenant: Tenant) -> None:
    answer = tenant.http.post("/v1/imports", json=_request())
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert job["routing_mode"] == "sip_trunk"
    assert job["carrier"] == {
        "address": "sandbox.sip.livekit.example",
        "transport": "auto",
        "username": "acme",
    }
    assert "asserted" in " ".join(job["warnings"])
    assert PASSWORD not in answer.text


def test_an_asserted_claim_does_not_block_the_owner_who_proves_it(
    tenant: Tenant, platform: Platform
) -> None:
    asserted = tenant.http.post("/v1/imports", json=_request(phone_number="+14155550178"))
    assert asserted.status_code == 202
    proven = {
        "phone_number": "+14155550178",
        "provider": "twilio",
        "credentials": {"account_sid": "AC" + "0" * 32, "auth_token": "sandbox-token-1"},
    }
    assert tenant.http.post("/v1/imports", json=proven).status_code == 202
    again = tenant.http.post("/v1/imports", json=_request(phone_number="+14155550178"))
    problem(again, 409, "number_already_imported")
    assert platform.rows(tenant)["import_jobs"] == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sip": {}}, "sip_trunk_provision_failed"),
        ({"sip": {"address": "sip.example.com"}}, "sip_trunk_provision_failed"),
        ({"sip": {"username": "a", "password": "b"}}, "invalid_request"),
        ({"sip": {"address": "sip.example.com", "username": "a"}}, "invalid_request"),
        ({"sip": {}, "supports_outbound": False}, "invalid_request"),
        ({"routing_mode": "webhook"}, "invalid_request"),
        ({"credentials": {"password": PASSWORD}}, "invalid_request"),
        ({"number_sid": "PN1"}, "invalid_request"),
        ({"sip": {**LOGIN, "address": "sip:sip.example.com"}}, "invalid_request"),
        ({"sip": {**LOGIN, "allowed_addresses": ["0.0.0.0/0"]}}, "invalid_request"),
        *(
            ({"sip": {**LOGIN, "username": username}}, "invalid_request")
            for username in (
                "acme\r\nRoute: <sip:10.0.0.1>",
                'acme", realm="x',
                "acme\n",
                "acme>",
                "<acme",
                "ac me",
                "acme\\",
                "acme\x1b[2J",
                "acmé",
                " ",
            )
        ),
        ({"sip": {**LOGIN, "password": f"{PASSWORD}\r\nX: y"}}, "invalid_request"),
        ({"sip": {**LOGIN, "password": f"{PASSWORD}\x7f"}}, "invalid_request"),
    ],
    ids=str,
)
def test_what_a_carrier_cannot_do_is_refused(
    platform: Platform, tenant: Tenant, changes: dict[str, Any], code: str
) -> None:
    answer = tenant.http.post("/v1/imports", json=_request(**changes))
    assert answer.json()["code"] == code, answer.text
    assert PASSWORD not in answer.text
    assert platform.rows(tenant) == NOTHING


def test_inbound_alone_may_rest_on_addresses(tenant: Tenant) -> None:
    request = _request(
        phone_number="+14155550179",
        supports_outbound=False,
        sip={"allowed_addresses": ["203.0.113.0/30"]},
    )
    assert tenant.http.post("/v1/imports", json=request).status_code == 202


@pytest.mark.parametrize("username", ["acme", "user@realm.example", "+14155550100", "a.b-c_d~1%40"])
def test_user_names_as_carriers_give_them_are_taken(tenant: Tenant, username: str) -> None:
    request = _request(
        phone_number="+14155550180",
        sip={**LOGIN, "username": username, "password": 'sandbox: pässword "x" \\'},
    )
    answer = tenant.http.post("/v1/imports/preflight", json=request)
    assert answer.status_code == 200, answer.text
