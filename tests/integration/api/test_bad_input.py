from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import (
    SID,
    TOKEN,
    Platform,
    Tenant,
    new_number,
    new_request,
    problem,
    without,
)

NOTHING = {"import_jobs": 0, "phone_numbers": 0, "credentials": 0}
JSON = {"Content-Type": "application/json"}
KEY_SID = SID.replace("AC", "SK")


def send(tenant: Tenant, request: Any) -> httpx.Response:
    return tenant.http.post("/v1/imports", json=request)


def fields(found: dict[str, Any]) -> list[str]:
    return [error["field"] for error in found["errors"]]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"phone_number": 14155550100}, "phone_number"),
        ({"phone_number": None}, "phone_number"),
        ({"phoneNumber": "+14155550100"}, "phoneNumber"),
        ({"provider": "acme"}, "provider"),
        ({"provider": 7}, "provider"),
        ({"provider": None}, "provider"),
        ({"routing_mode": "carrier_pigeon"}, "routing_mode"),
        ({"supports_inbound": "maybe"}, "supports_inbound"),
        ({"friendly_name": "x" * 65}, "friendly_name"),
        ({"number_sid": "x" * 65}, "number_sid"),
        ({"supports_inbound": "no"}, "supports_inbound"),
        ({"replace_existing_routing": 1}, "replace_existing_routing"),
        ({"price": -1}, "price"),
        ({"price": "much"}, "price"),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": None}, "metadata"),
        ({"agent_id": 7}, "agent_id"),
        ({"sip": "sip.example.com"}, "sip"),
        ({"sip": None}, "sip"),
        ({"sip": {"adress": "sip.example.com"}}, "sip.adress"),
        ({"sip": {"trunkName": 7}}, "sip.trunk_name"),
        ({"sip": {"allowedAddresses": [7]}}, "sip.allowed_addresses.0"),
        ({"sip": {"transport": "smoke"}}, "sip.transport"),
        ({"sip": {"media_encryption": "maybe"}}, "sip.media_encryption"),
        ({"sip": {"password": "x" * 256}}, "sip.password"),
        ({"sip": {"password": ""}}, "sip.password"),
        ({"sip": {"username": ""}}, "sip.username"),
        ({"inbound": {"pin": 1234}}, "inbound.pin"),
        ({"inbound": {"roomPattern": ""}}, "inbound.room_pattern"),
        ({"inbound": {"voicemail_message": "x" * 1001}}, "inbound.voicemail_message"),
        ({"nonsense": 1}, "nonsense"),
        ({"agentID": "agt_1"}, "agentID"),
        ({"callback_url": 7}, "callback_url"),
        ({"callbackUrl": "https://example.com/" + "x" * 2048}, "callback_url"),
        ({"credentials": None}, None),
        ({"credentials": "AC"}, "credentials"),
        ({"credentials": []}, "credentials"),
        ({"credential_id": 7, "credentials": None}, "credential_id"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(
    platform: Platform, tenant: Tenant, changes: dict[str, Any], field: str | None
) -> None:
    found = problem(send(tenant, new_request(**changes)), 400, "invalid_request")

    if field is not None:
        assert fields(found) == [field]
    assert platform.rows(tenant) == NOTHING


def test_missing_fields_are_named_all_at_once(tenant: Tenant) -> None:
    found = problem(send(tenant, {"price": -1}), 400, "invalid_request")

    assert fields(found) == ["phone_number", "provider", "price"]
    assert found["errors"][0]["message"] == "This field is required."
    assert found["detail"].startswith("phone_number: This field is required.; provider: ")


def test_no_more_faults_are_listed_than_anybody_reads(tenant: Tenant) -> None:
    found = problem(
        send(tenant, new_request(**{"x" * n: 1 for n in range(1, 60)})), 400, "invalid_request"
    )

    assert len(found["errors"]) == 20


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b'"text"',
        b"17",
        b"null",
        b'{"phone_number": "+14155550100",}',
        b"{'phone_number': '+14155550100'}",
        b"\xff\xfe{\x00}\x00",
        b'{"phone_number": "\xff"}',
        b'\xef\xbb\xbf{"phone_number": "+14155550100"}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_is_no_json_object_is_refused(
    platform: Platform, tenant: Tenant, body: bytes
) -> None:
    answer = tenant.http.post("/v1/imports", content=body, headers=JSON)

    assert fields(problem(answer, 400, "invalid_request")) == ["body"]
    assert platform.rows(tenant) == NOTHING


@pytest.mark.parametrize(
    "metadata",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "9" * 5000,
        r'"\u0000"',
        r'"\ud800"',
        r'{"\u0000": 1}',
        r'{"\udfff": 1}',
        '{"a": 1, "a": 2}',
        "[" * 40 + "]" * 40,
    ],
    ids=lambda text: text[:20],
)
def test_json_that_the_database_could_not_keep_is_refused(
    platform: Platform, tenant: Tenant, metadata: str
) -> None:
    body = json.dumps(new_request(metadata={"planted": "HERE"})).replace('"HERE"', metadata)
    answer = tenant.http.post("/v1/imports", content=body, headers=JSON)

    assert fields(problem(answer, 400, "invalid_request")) == ["body"]
    assert platform.rows(tenant) == NOTHING


def test_unusual_json_that_the_database_can_keep_comes_back_as_it_was(tenant: Tenant) -> None:
    metadata = {
        "deep": [[[[[[[[[[1]]]]]]]]]],
        "große": "\N{GRINNING FACE} \u2028",
        "numbers": [9 * 10**400, -0.1, 1.5e-9, 2**63],
        "": None,
    }
    job = tenant.submit(new_request(metadata=metadata))

    assert job["metadata"] == metadata


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_json_has_to_be_called_json(tenant: Tenant, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = tenant.http.post(
        "/v1/imports", content=json.dumps(new_request()).encode(), headers=headers
    )

    found = problem(answer, 400, "invalid_request")
    assert "Content-Type: application/json" in found["detail"]


@pytest.mark.parametrize(
    "number",
    [
        "",
        "4155550100",
        "14155550100",
        "+0155550100",
        "+1415555010",
        "+141555501000000",
        "+1415555010012345",
        "+14155550100\n",
        "\n+14155550100",
        " +14155550100",
        "+14155550100 ",
        "+1 415 555 0100",
        "+1-415-555-0100",
        "+1(415)5550100",
        "+１４１５５５５０１００",
        "+1415555010٠",
        "+14155550100;ext=5",
        "+14155550100 ext. 5",
        "+14155550100x5",
        "tel:+14155550100",
        "+1415CALLNOW",
        "++14155550100",
        "+999123456789",
        "sip:+14155550100@example.com",
    ],
)
def test_a_number_that_is_not_e164_is_refused(
    platform: Platform, tenant: Tenant, number: str
) -> None:
    problem(send(tenant, new_request(phone_number=number)), 400, "invalid_phone_number")

    assert platform.rows(tenant) == NOTHING


@pytest.mark.parametrize(
    ("credentials", "named"),
    [
        ({}, ["credentials.account_sid"]),
        ({"account_sid": SID}, ["credentials"]),
        ({"account_sid": SID, "auth_token": ""}, ["credentials.auth_token"]),
        ({"account_sid": SID, "auth_token": " "}, ["credentials.auth_token"]),
        ({"account_sid": SID, "auth_token": f" {TOKEN}"}, ["credentials.auth_token"]),
        ({"account_sid": SID, "auth_token": f"{TOKEN} "}, ["credentials.auth_token"]),
        ({"account_sid": SID, "auth_token": f"{TOKEN}\n"}, ["credentials.auth_token"]),
        ({"account_sid": SID, "auth_token": f"\t{TOKEN}"}, ["credentials.auth_token"]),
        ({"account_sid": SID, "auth_token": "tökén"}, ["credentials.auth_token"]),
        ({"account_sid": SID, "auth_token": 7}, ["credentials.auth_token"]),
        ({"account_sid": SID, "auth_token": None}, ["credentials"]),
        ({"account_sid": "", "auth_token": TOKEN}, ["credentials.account_sid"]),
        ({"account_sid": f"{SID} ", "auth_token": TOKEN}, ["credentials.account_sid"]),
        ({"account_sid": f"{SID}\n", "auth_token": TOKEN}, ["credentials.account_sid"]),
        ({"account_sid": SID[:-1], "auth_token": TOKEN}, ["credentials.account_sid"]),
        ({"account_sid": f"{SID}0", "auth_token": TOKEN}, ["credentials.account_sid"]),
        ({"account_sid": KEY_SID, "auth_token": TOKEN}, ["credentials.account_sid"]),
        ({"account_sid": SID.lower(), "auth_token": TOKEN}, ["credentials.account_sid"]),
        ({"account_sid": f"{SID[:-1]}g", "auth_token": TOKEN}, ["credentials.account_sid"]),
        ({"account_sid": "AC../../../Accounts", "auth_token": TOKEN}, ["credentials.account_sid"]),
        (
            {"account_sid": SID, "api_key_sid": SID, "api_key_secret": TOKEN},
            ["credentials.api_key_sid"],
        ),
        ({"account_sid": SID, "api_key_sid": KEY_SID}, ["credentials"]),
        ({"account_sid": SID, "api_key_secret": TOKEN}, ["credentials"]),
        (
            {"account_sid": SID, "auth_token": TOKEN, "parent_account_sid": SID},
            ["credentials"],
        ),
        ({"account_sid": SID, "auth_token": TOKEN, "region": "ie"}, ["credentials.region"]),
        ({"account_sid": SID, "auth_token": TOKEN, "AUTH_TOKEN": "x"}, ["credentials.AUTH_TOKEN"]),
        ({"account_sid": SID, "auth_token": TOKEN, "authToken": TOKEN}, ["credentials"]),
        (
            {"account_sid": SID, "auth_token": TOKEN, TOKEN + "7": "x"},
            ["credentials.(name not shown)"],
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/imports", "/v1/credentials"])
def test_malformed_credentials_are_refused(
    platform: Platform, tenant: Tenant, path: str, credentials: dict[str, Any], named: list[str]
) -> None:
    request = new_request(credentials=credentials)
    if path == "/v1/credentials":
        request = without(request, "phone_number")
    answer = tenant.http.post(path, json=request)

    assert fields(problem(answer, 400, "invalid_request")) == named
    assert TOKEN not in answer.text
    assert platform.rows(tenant) == NOTHING


def test_credentials_come_stored_or_inline_not_both_and_not_neither(
    platform: Platform, tenant: Tenant
) -> None:
    both = new_request(credential_id=tenant.store())

    problem(send(tenant, both), 400, "invalid_request")
    problem(send(tenant, without(both, "credentials", "credential_id")), 400, "invalid_request")
    assert platform.rows(tenant) == {**NOTHING, "credentials": 1}


@pytest.mark.parametrize(
    "sip",
    [
        {"address": "sip:sip.example.com"},
        {"address": "SIP:sip.example.com"},
        {"address": "sips:sip.example.com"},
        {"address": "user@sip.example.com"},
        {"address": "sip.example.com;transport=tls"},
        {"address": ""},
        {"address": " sip.example.com"},
        {"address": "sip.example.com\n"},
        {"address": "sip.example.com:0"},
        {"address": "sip.example.com:65536"},
        {"address": "sip.example.com:٥"},
        {"address": "sip.example.com:"},
        {"address": "localhost"},
        {"address": "256.1.1.1"},
        {"address": "10.0.0.1:5060"},
        {"address": "169.254.169.254"},
        {"address": "redis.prod.svc.cluster.local"},
        {"address": "sip.example.com:25"},
        {"address": "-a.example.com"},
        {"address": "a" * 64 + "@" + "b" * 64},
        {"username": "user", "password": TOKEN},
        {"address": "sip.example.com", "username": "user"},
        {"address": "sip.example.com", "password": TOKEN},
        {"allowed_addresses": ["0.0.0.0/0"]},
        {"allowed_addresses": ["::/0"]},
        {"allowed_addresses": ["10.0.0.0/4"]},
        {"allowed_addresses": ["example.com"]},
        {"allowed_addresses": ["10.0.0.1/8"]},
    ],
    ids=str,
)
def test_a_sip_address_that_livekit_would_refuse_is_refused(
    platform: Platform, tenant: Tenant, sip: dict[str, Any]
) -> None:
    answer = send(tenant, new_request(sip=sip))

    problem(answer, 400, "invalid_request")
    assert TOKEN not in answer.text
    assert platform.rows(tenant) == NOTHING


@pytest.mark.parametrize(
    "pin", ["", "123", "12345678901", "12 34", "1234\n", "12a4", "١٢٣٤", "-1234", "1234.5"]
)
def test_a_pin_outside_four_to_ten_digits_is_refused(
    platform: Platform, tenant: Tenant, pin: str
) -> None:
    answer = send(tenant, new_request(inbound={"pin": pin}))

    found = problem(answer, 400, "invalid_request")
    assert not pin or pin not in json.dumps(found)
    assert platform.rows(tenant) == NOTHING


def test_webhooks_that_could_never_be_verified_are_refused(
    platform: Platform, tenant: Tenant
) -> None:
    key_only = {"account_sid": SID, "api_key_sid": KEY_SID, "api_key_secret": TOKEN}

    problem(send(tenant, new_request(credentials=key_only)), 400, "signatures_unverifiable")
    assert platform.rows(tenant) == NOTHING

    tenant.submit(new_request(credentials=key_only, routing_mode="sip_trunk"))


@pytest.mark.parametrize("name", ["agt_0", "agt_" + "0" * 32, "usr_" + "0" * 32, "", "\U0001f600"])
def test_an_unknown_agent_is_refused(platform: Platform, tenant: Tenant, name: str) -> None:
    problem(send(tenant, new_request(agent_id=name)), 404, "agent_not_found")
    problem(send(tenant, new_request(inbound={"fallbackAgentId": name})), 404, "agent_not_found")
    problem(send(tenant, new_request(user_id=name.replace("usr", "u"))), 404, "user_not_found")
    problem(
        send(tenant, without(new_request(credential_id=name), "credentials")),
        404,
        "credential_not_found",
    )
    assert platform.rows(tenant) == NOTHING


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "tab\tbed"])
def test_an_idempotency_key_is_short_and_plain(
    platform: Platform, tenant: Tenant, key: str
) -> None:
    answer = tenant.http.post("/v1/imports", json=new_request(), headers={"Idempotency-Key": key})

    assert fields(problem(answer, 400, "invalid_request")) == ["Idempotency-Key"]
    assert platform.rows(tenant) == NOTHING


def test_an_idempotency_key_in_another_script_is_refused(
    platform: Platform, tenant: Tenant
) -> None:
    headers = [(b"Idempotency-Key", "schlüssel".encode())]
    answer = tenant.http.post("/v1/imports", json=new_request(), headers=headers)

    assert fields(problem(answer, 400, "invalid_request")) == ["Idempotency-Key"]
    assert platform.rows(tenant) == NOTHING


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/imports?limit=0", "limit"),
        ("/v1/imports?limit=201", "limit"),
        ("/v1/imports?limit=all", "limit"),
        ("/v1/imports?status=done", "status"),
        ("/v1/imports?provider=acme", "provider"),
        ("/v1/imports?state=failed", "state"),
        ("/v1/phone-numbers?limit=0", "limit"),
        ("/v1/phone-numbers?agent=1", "agent"),
        ("/v1/credentials?limit=201", "limit"),
        ("/v1/imports/imp_0?wait=61", "wait"),
        ("/v1/imports/imp_0?wait=-1", "wait"),
        ("/v1/imports/imp_0?wait=long", "wait"),
    ],
)
def test_a_wrong_query_parameter_is_named(tenant: Tenant, path: str, field: str) -> None:
    assert fields(problem(tenant.http.get(path), 400, "invalid_request")) == [field]


@pytest.mark.parametrize("cursor", ["", "1", "imp_0", "imp_" + "g" * 32, "%00", "num_" + "0" * 32])
def test_a_cursor_is_one_that_was_given_out(tenant: Tenant, cursor: str) -> None:
    answer = tenant.http.get(f"/v1/imports?cursor={cursor}")

    problem(answer, 400, "invalid_request")


@pytest.mark.parametrize("number", ["x", "%00", "14155550100", "%2B1415555010%0A", ""])
def test_a_wrong_number_in_a_filter_is_refused(tenant: Tenant, number: str) -> None:
    answer = tenant.http.get(f"/v1/imports?phone_number={number}")

    problem(answer, 400, "invalid_phone_number")


@pytest.mark.parametrize("label", ["x" * 101, 7, None])
def test_a_label_is_a_short_text(platform: Platform, tenant: Tenant, label: Any) -> None:
    body = without(new_request(label=label), "phone_number")
    answer = tenant.http.post("/v1/credentials", json=body)

    assert fields(problem(answer, 400, "invalid_request")) == ["label"]
    assert platform.rows(tenant) == NOTHING


def test_camel_case_is_taken_at_every_depth(tenant: Tenant, platform: Platform) -> None:
    agent = platform.service.create_agent(
        platform.service.authenticate(tenant.key), name="a", dispatch_name="a"
    )
    number = new_number()
    answer = tenant.http.post(
        "/v1/imports",
        json={
            "phoneNumber": number,
            "provider": "twilio",
            "credentials": {"accountSid": SID, "authToken": TOKEN},
            "friendlyName": "Front desk",
            "routingMode": "sip_trunk",
            "supportsOutbound": False,
            "sip": {"trunkName": "main", "allowedAddresses": ["203.0.113.0/30"]},
            "inbound": {"roomPattern": "lobby-", "fallbackAgentId": agent},
        },
    )

    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["phone_number"], job["friendly_name"]) == (number, "Front desk")
    assert (job["routing_mode"], job["supports_outbound"]) == ("sip_trunk", False)
    request = platform.job(job["id"]).request
    assert (request["sip_trunk_name"], request["room_prefix"]) == ("main", "lobby-")
    assert request["fallback_agent_id"] == agent


@pytest.mark.parametrize(
    "sid", ["", "PN1", "PN" + "g" * 32, "AC" + "0" * 32, "PN" + "0" * 32 + "\n"]
)
def test_a_malformed_number_sid_is_refused(platform: Platform, tenant: Tenant, sid: str) -> None:
    answer = send(tenant, new_request(number_sid=sid))
    found = problem(answer, 400, "invalid_request")
    assert "number_sid" in found["detail"]
    assert platform.rows(tenant) == NOTHING
