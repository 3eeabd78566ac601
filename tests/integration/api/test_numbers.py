"""Changing, checking and releasing a number over HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import (
    TOKEN,
    Platform,
    Tenant,
    new_request,
    problem,
)
from tests.integration.api.lines import active, pending
from worker.domain.values import parse_id
from worker.service import Role

JSON = {"Content-Type": "application/json"}
IDS = ["num_0", "num_", "imp_" + "0" * 32, "num_" + "G" * 32, "num_" + "0" * 31, "%00", "x" * 500]


@pytest.fixture
def path(platform: Platform, tenant: Tenant) -> str:
    line = active(
        platform,
        tenant,
        friendly_name="Front desk",
        price=2.5,
        metadata={"a": 1},
        inbound={"voicemail_message": "Please wait.", "pin": "4711"},
    )
    return f"/v1/phone-numbers/{line.id}"


def request_of(platform: Platform, path: str) -> dict[str, Any]:
    """What the number is set up by, with its secrets."""
    number_id = parse_id("num", path.rpartition("/")[2])
    [(request, sealed)] = platform.sql(
        "SELECT j.request, j.sealed FROM phone_numbers n "
        "JOIN import_jobs j ON j.id = coalesce(n.job_id, n.import_id) WHERE n.id = :id",
        id=number_id,
    )
    return {**request, **platform.vault.open(bytes(sealed))}


# --- PATCH /v1/phone-numbers/{id} -------------------------------------------------------------


def test_what_is_left_out_stays_and_null_clears(
    platform: Platform, tenant: Tenant, path: str
) -> None:
    before = tenant.http.get(path).json()

    unchanged = tenant.http.patch(path, json={})
    assert (unchanged.status_code, unchanged.json()["friendly_name"]) == (200, "Front desk")
    renamed = tenant.http.patch(path, json={"friendlyName": "Back office"}).json()
    assert renamed == {
        **before,
        "friendly_name": "Back office",
        "updated_at": renamed["updated_at"],
    }
    cleared = tenant.http.patch(path, json={"friendly_name": None, "price": None}).json()
    assert (cleared["friendly_name"], cleared["price"]) == (None, None)
    assert cleared["metadata"] == {"a": 1}
    emptied = tenant.http.patch(path, json={"metadata": None}).json()
    assert emptied["metadata"] == {}
    kept = request_of(platform, path)
    assert (kept["voicemail_message"], kept["pin"]) == ("Please wait.", "4711")


def test_a_callback_url_is_set_and_cleared_and_never_shown(
    platform: Platform, tenant: Tenant, path: str
) -> None:
    url = "https://1.1.1.1/hook?key=planted-query"

    answer = tenant.http.patch(path, json={"callbackUrl": url})
    assert answer.status_code == 200
    assert "planted-query" not in answer.text
    assert request_of(platform, path)["callback_url"] == url
    assert tenant.http.patch(path, json={"price": 1}).status_code == 200
    assert request_of(platform, path)["callback_url"] == url
    assert tenant.http.patch(path, json={"callback_url": None}).status_code == 200
    assert request_of(platform, path)["callback_url"] is None
    assert "planted-query" not in platform.log()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "http://1.1.1.1/hook",
        "https://127.0.0.1/hook",
        "https://10.0.0.1/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/hook",
        "https://user:planted-password@1.1.1.1/hook",
        "ftp://1.1.1.1/hook",
    ],
)
def test_a_callback_url_that_leads_inside_is_refused(
    platform: Platform, tenant: Tenant, path: str, url: str
) -> None:
    for answer in (
        tenant.http.patch(path, json={"callback_url": url}),
        tenant.http.post("/v1/imports", json=new_request(callback_url=url)),
    ):
        found = problem(answer, 400, "invalid_request")
        assert "callback_url" in found["detail"]
        assert "planted-password" not in answer.text
    assert request_of(platform, path)["callback_url"] is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"inbound": {"voicemail_message": None}}, {"voicemail_message": None, "pin": "4711"}),
        ({"inbound": {"pin": None}}, {"voicemail_message": "Please wait.", "pin": ""}),
        ({"inbound": {"roomPattern": "r-"}}, {"room_prefix": "r-", "pin": "4711"}),
    ],
    ids=str,
)
def test_what_reaches_livekit_is_a_job(
    platform: Platform, tenant: Tenant, path: str, body: Any, status: dict[str, Any]
) -> None:
    answer = tenant.http.patch(path, json=body)

    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/imports/{job['id']}"
    assert (job["kind"], job["status"]) == ("rebind", "queued")
    record = platform.job(job["id"])
    wanted = {**record.request, **platform.vault.open(record.sealed)}
    assert {name: wanted[name] for name in status} == status
    # Until then the number is what it was, and no second change gets in between.
    assert request_of(platform, path)["pin"] == "4711"
    problem(tenant.http.patch(path, json={"price": 1}), 409, "number_busy")
    problem(tenant.http.patch(path, json=body), 409, "number_busy")
    problem(tenant.http.delete(path), 409, "number_busy")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"phone_number": "+14155550100"}, "phone_number"),
        ({"agent_id": 7}, "agent_id"),
        ({"friendly_name": "x" * 65}, "friendly_name"),
        ({"friendly_name": ["x"]}, "friendly_name"),
        ({"price": -1}, "price"),
        ({"price": "much"}, "price"),
        ({"metadata": []}, "metadata"),
        ({"inbound": None}, "inbound"),
        ({"inbound": []}, "inbound"),
        ({"inbound": {"pin": 4711}}, "inbound.pin"),
        ({"inbound": {"room_pattern": ""}}, "inbound.room_pattern"),
        ({"inbound": {"voicemailMessage": "x" * 1001}}, "inbound.voicemail_message"),
        ({"inbound": {"nonsense": 1}}, "inbound.nonsense"),
        ({"callback_url": 7}, "callback_url"),
        ({"inbound": {"pin": "12"}}, None),
        ({"inbound": {"pin": "planted"}}, None),
        ([], "body"),
        (None, "body"),
        ("text", "body"),
    ],
    ids=str,
)
def test_a_wrong_change_is_refused_and_changes_nothing(
    platform: Platform, tenant: Tenant, path: str, body: Any, field: str | None
) -> None:
    before = (tenant.http.get(path).json(), request_of(platform, path))

    answer = tenant.http.patch(path, content=json.dumps(body), headers=JSON)

    found = problem(answer, 400, "invalid_request")
    if field is not None:
        assert [error["field"] for error in found["errors"]] == [field]
    assert "planted" not in answer.text
    assert (tenant.http.get(path).json(), request_of(platform, path)) == before


def test_agents_that_are_not_ones_own_are_refused(
    platform: Platform, tenant: Tenant, other: Tenant, path: str
) -> None:
    caller = platform.service.authenticate(other.key)
    theirs = platform.service.create_agent(caller, name="a", dispatch_name="a")
    for body in ({"agent_id": theirs}, {"inbound": {"fallback_agent_id": theirs}}):
        problem(tenant.http.patch(path, json=body), 403, "agent_not_owned")
    for text in ("agt_0", "", f"agt_{'0' * 32}", theirs.replace("agt", "usr")):
        problem(tenant.http.patch(path, json={"agent_id": text}), 404, "agent_not_found")


def test_inbound_settings_of_a_number_without_inbound_do_not_change(
    platform: Platform, tenant: Tenant
) -> None:
    line = active(platform, tenant, supports_inbound=False)
    path = f"/v1/phone-numbers/{line.id}"

    problem(tenant.http.patch(path, json={"agent_id": None}), 400, "invalid_request")
    problem(tenant.http.patch(path, json={"inbound": {"pin": "1234"}}), 400, "invalid_request")
    assert tenant.http.patch(path, json={"friendly_name": "x"}).status_code == 200


# --- every route of a number ------------------------------------------------------------------


def ask_all(client: httpx.Client, path: str) -> list[httpx.Response]:
    return [
        client.patch(path, json={"friendly_name": "taken over"}),
        client.delete(path),
        client.post(f"{path}/check"),
        client.post(f"{path}/check?repair=true"),
        client.get(f"{path}/events"),
    ]


def test_numbers_of_others_are_not_there(
    platform: Platform, tenant: Tenant, other: Tenant, path: str
) -> None:
    before = tenant.http.get(path).json()
    unknown = other.http.get(f"/v1/phone-numbers/num_{'0' * 32}").json()

    for answer in ask_all(other.http, path):
        assert problem(answer, 404, "not_found") == unknown
    assert tenant.http.get(path).json() == before
    assert platform.rows(other) == {"import_jobs": 0, "phone_numbers": 0, "credentials": 0}


@pytest.mark.parametrize("number_id", IDS)
def test_an_id_that_is_none_is_not_found(tenant: Tenant, number_id: str) -> None:
    for answer in ask_all(tenant.http, f"/v1/phone-numbers/{number_id}"):
        problem(answer, 404, "not_found")


def test_a_viewer_only_reads_events(tenant: Tenant, path: str) -> None:
    _, viewer = tenant.add_key(Role.VIEWER)
    before = tenant.http.get(path).json()

    *writes, events = ask_all(viewer, path)

    for answer in writes:
        problem(answer, 403, "forbidden")
    assert events.json() == {"items": [], "next_cursor": None}
    # Refused before anything is said of the body.
    problem(viewer.patch(path, content=b"{nonsense"), 403, "forbidden")
    assert tenant.http.get(path).json() == before


def test_a_number_whose_import_is_under_way_is_not_there_yet(
    platform: Platform, tenant: Tenant
) -> None:
    line = pending(platform, tenant)

    for answer in ask_all(tenant.http, f"/v1/phone-numbers/{line.id}")[:-1]:
        problem(answer, 404, "not_found")


@pytest.mark.parametrize(
    "path", ["/v1/imports/preflight", "/v1/phone-numbers/num_0", "/v1/credentials/cred_0"]
)
def test_bodies_are_strict_json_everywhere(tenant: Tenant, path: str) -> None:
    method = "POST" if path.endswith("preflight") else "PATCH"

    def send(body: bytes, **headers: str) -> httpx.Response:
        return tenant.http.request(method, path, content=body, headers={**JSON, **headers})

    for body in (
        b"",
        b"{",
        b"[]",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"\xff",
        b'{"a": "\\u0000"}',
    ):
        problem(send(body), 400, "invalid_request")
    problem(send(b"[" * 50000), 400, "invalid_request")
    problem(send(b'{"a": "' + b"x" * 65536 + b'"}'), 413, "payload_too_large")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        problem(send(b'{"friendly_name": "x"}', **{"Content-Type": kind}), 400, "invalid_request")


# --- DELETE and check -------------------------------------------------------------------------


def test_a_release_is_a_job_and_the_same_one_when_asked_again(
    platform: Platform, tenant: Tenant, path: str
) -> None:
    first, second = tenant.http.delete(path), tenant.http.delete(path)

    assert (first.status_code, first.json()["kind"]) == (202, "release")
    assert first.headers["Location"] == f"/v1/imports/{first.json()['id']}"
    assert second.status_code == 202
    assert second.json()["id"] == first.json()["id"]
    waited = tenant.http.delete(path, headers={"Prefer": "wait=0"})
    assert (waited.status_code, waited.headers["Preference-Applied"]) == (202, "wait=0")
    problem(tenant.http.post(f"{path}/check?repair=true"), 409, "number_busy")
    problem(tenant.http.patch(path, json={"price": 3}), 409, "number_busy")
    count = "SELECT count(*) FROM import_jobs WHERE organization_id = :id AND kind = 'release'"
    assert platform.sql(count, id=tenant.uuid) == [(1,)]


def test_many_who_release_at_once_get_one_job(tenant: Tenant, path: str, at_once: Any) -> None:
    answers = at_once(8, lambda _: tenant.http.delete(path))

    assert {answer.status_code for answer in answers} == {202}, [one.text for one in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize("query", ["repair=maybe", "repair=2", "repair="])
def test_a_check_s_query_is_judged(tenant: Tenant, path: str, query: str) -> None:
    problem(tenant.http.post(f"{path}/check?{query}"), 400, "invalid_request")


def test_a_check_at_a_vendor_that_is_away_says_so(
    platform: Platform, tenant: Tenant, path: str, account: str
) -> None:
    del account
    for status, expected, code in (
        (500, 503, "provider_unavailable"),
        (429, 429, "provider_rate_limited"),
    ):
        fault = {"action": "status", "status": status, "times": None}
        platform.control("faults", {"match": {"vendor": "twilio"}, **fault})
        answer = tenant.http.post(f"{path}/check")
        problem(answer, expected, code)
        assert TOKEN not in answer.text
        httpx.delete(f"{platform.sandbox_url}/_sandbox/faults", trust_env=False)
