from __future__ import annotations

import json
from typing import Any

import httpx

from tests.integration.api.conftest import (
    SID,
    TOKEN,
    Platform,
    Tenant,
    new_request,
    without,
)

#: With a digit and without spaces, as tokens are; nothing else in any test looks like it.
SECRET = "s3cr3t0planted0everywhere"
PIN = "9081726354"
KEY_SID = SID.replace("AC", "SK")


def accepted() -> list[dict[str, Any]]:
    """Requests with a secret in every place that is made for one."""
    return [
        new_request(credentials={"account_sid": SID, "auth_token": SECRET}),
        new_request(
            credentials={
                "account_sid": SID,
                "auth_token": SECRET,
                "api_key_sid": KEY_SID,
                "api_key_secret": f"{SECRET}-2",
            },
            sip={"address": "sip.example.com", "username": "user", "password": SECRET},
            inbound={"pin": PIN},
        ),
    ]


def refused() -> list[dict[str, Any]]:
    """Requests with a secret where none belongs, or in the wrong form."""
    inline = {"account_sid": SID, "auth_token": SECRET}
    return [
        new_request(credentials=SECRET),
        new_request(credentials=[SECRET]),
        new_request(credentials={"account_sid": SECRET, "auth_token": SECRET}),
        new_request(credentials={"account_sid": SID, "auth_token": {"value": SECRET}}),
        new_request(credentials={"account_sid": SID, "auth_token": [SECRET]}),
        new_request(credentials={"account_sid": SID, "auth_token": f"{SECRET} "}),
        new_request(credentials={**inline, "api_key_sid": SECRET}),
        new_request(credentials={**inline, "api_key_secret": SECRET}),
        new_request(credentials={**inline, SECRET: SECRET}),
        new_request(credentials={**inline, "token": SECRET}),
        new_request(**{SECRET: SECRET}),
        new_request(auth_token=SECRET),
        new_request(phone_number=SECRET),
        new_request(provider=SECRET),
        new_request(routing_mode=SECRET),
        new_request(price=SECRET),
        new_request(metadata=SECRET),
        new_request(supports_inbound=SECRET),
        new_request(agent_id=SECRET),
        new_request(user_id=SECRET),
        new_request(friendly_name=SECRET * 3),
        without(new_request(credential_id=SECRET), "credentials"),
        new_request(credentials=inline, sip={"address": f"user:{SECRET}@sip.example.com"}),
        new_request(credentials=inline, sip={"address": f"sip:{SECRET}"}),
        new_request(credentials=inline, sip={"password": SECRET}),
        new_request(credentials=inline, sip={"password": SECRET * 20}),
        new_request(credentials=inline, sip={"transport": SECRET}),
        new_request(credentials=inline, sip={"allowed_addresses": [SECRET]}),
        new_request(credentials=inline, sip={SECRET: SECRET}),
        new_request(credentials=inline, sip=SECRET),
        new_request(credentials=inline, inbound={"pin": SECRET}),
        new_request(credentials=inline, inbound={"pin": {"value": SECRET}}),
        new_request(credentials=inline, inbound={"fallback_agent_id": SECRET}),
        new_request(credentials=inline, inbound=[SECRET]),
    ]


def strange(platform: Platform, tenant: Tenant) -> list[httpx.Response]:
    """Answers to requests with a secret outside the fields of a body."""
    http, stranger = tenant.http, platform.client()
    post, request = http.post, new_request()
    json_type = {"Content-Type": "application/json"}
    return [
        http.get(f"/v1/imports/{SECRET}"),
        http.get(f"/v1/phone-numbers/{SECRET}"),
        http.get(f"/v1/credentials/{SECRET}"),
        http.delete(f"/v1/credentials/{SECRET}"),
        post(f"/v1/imports/{SECRET}/cancel"),
        http.get(f"/{SECRET}"),
        http.get("/v1/imports", params={"auth_token": SECRET}),
        http.get("/v1/imports", params={SECRET: SECRET}),
        http.get("/v1/imports", params={"cursor": SECRET}),
        http.get("/v1/imports", params={"status": SECRET}),
        http.get("/v1/imports", params={"phone_number": SECRET}),
        http.get("/v1/imports", params={"limit": SECRET}),
        http.get("/v1/imports", headers={"Cookie": f"session={SECRET}"}),
        http.get("/v1/imports", headers={"User-Agent": SECRET, "Referer": f"http://x/{SECRET}"}),
        http.get("/v1/imports", headers={"X-Request-Id": f"tl_abc_{SECRET}"}),
        http.get(f"/v1/imports/imp_{'0' * 32}", headers={"If-None-Match": SECRET}),
        stranger.get("/v1/imports", headers={"Authorization": f"Bearer tl_abc_{SECRET}"}),
        stranger.get("/v1/imports", headers={"Authorization": f"Basic {SECRET}"}),
        stranger.get("/v1/imports", headers={"X-Api-Key": SECRET}),
        stranger.get(f"/v1/imports?api_key={SECRET}"),
        http.request(SECRET.upper(), "/v1/imports"),
        post("/v1/imports", json=request, headers={"Idempotency-Key": f"{SECRET} {SECRET}"}),
        post("/v1/imports", json=request, headers={"Content-Type": f"text/{SECRET}"}),
        post("/v1/imports", content=f'{{"auth_token": "{SECRET}"', headers=json_type),
        post("/v1/imports", content=f'{{"{SECRET}": "\\x"}}', headers=json_type),
        post("/v1/imports", content=SECRET, headers=json_type),
        post("/v1/imports", content=f'"{SECRET}"', headers=json_type),
        post("/v1/imports", content=f'{{"a": "{SECRET}", "a": 1}}', headers=json_type),
        post("/v1/imports", content=SECRET * 5000, headers=json_type),
        post("/v1/credentials", json={"provider": "twilio", "credentials": SECRET}),
        post("/v1/credentials", json={"provider": SECRET, "credentials": {}}),
        post("/v1/credentials", json={"provider": "twilio", "credentials": {SECRET: SECRET}}),
    ]


def everything_stored(platform: Platform) -> str:
    """All rows of all tables but their sealed columns."""
    tables = platform.sql(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    assert len(tables) > 8
    query = "SELECT (to_jsonb(t) - 'sealed')::text FROM \"{}\" t"
    return "\n".join(row for (table,) in tables for (row,) in platform.sql(query.format(table)))


def test_a_secret_is_found_nowhere_but_in_the_vault(platform: Platform, tenant: Tenant) -> None:
    taken = [tenant.http.post("/v1/imports", json=request) for request in accepted()]
    assert [answer.status_code for answer in taken] == [202, 202]
    stored = tenant.http.post(
        "/v1/credentials",
        json={
            "provider": "twilio",
            "credentials": {"account_sid": SID, "auth_token": SECRET},
        },
    )
    assert stored.status_code == 201
    bad = [tenant.http.post("/v1/imports", json=request) for request in refused()]
    assert {answer.status_code // 100 for answer in bad} == {4}
    odd = strange(platform, tenant)
    assert {answer.status_code // 100 for answer in odd} == {2, 4}
    # Each of these names the jobs and credentials that were made.
    read = [tenant.http.get(answer.headers["Location"]) for answer in (*taken, stored)] + [
        tenant.http.get(f"/v1/{kind}") for kind in ("imports", "credentials", "phone-numbers")
    ]

    for answer in (*taken, stored, *bad, *odd, *read):
        whole = answer.text + json.dumps(dict(answer.headers))
        assert SECRET not in whole, answer.request.url
        assert PIN not in whole
    rows = everything_stored(platform)
    tenant.http.get("/v1/imports", headers={"X-Request-Id": "the-last"})
    platform.logged(1, "the-last")
    for place in (rows, platform.log()):
        for secret in (SECRET, PIN, TOKEN, tenant.key, tenant.key.split("_", 2)[2]):
            assert secret not in place
            assert secret.encode().hex() not in place
    assert platform.rows(tenant) == {"import_jobs": 2, "phone_numbers": 2, "credentials": 3}


def test_what_is_sealed_is_sealed(platform: Platform, tenant: Tenant) -> None:
    job = tenant.submit(accepted()[1])
    record = platform.job(job["id"])

    assert SECRET.encode() not in record.sealed
    assert PIN.encode() not in record.sealed


def test_the_log_holds_only_lines_of_json(platform: Platform, tenant: Tenant) -> None:
    tenant.http.get("/v1/imports")

    for line in platform.log().splitlines():
        json.loads(line)
