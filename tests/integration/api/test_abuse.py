"""Limits of what comes in, and what must never get out into a header."""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
from http.client import HTTPResponse
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.api.conftest import Platform, Tenant, new_request, problem
from worker.service import Role

JSON: Final = {"Content-Type": "application/json"}
NOTHING: Final = {"import_jobs": 0, "phone_numbers": 0, "credentials": 0}
CONTROLS: Final = ("\r\nX: y", "a\nb", "\x1b[31m", "\x7f", "\x85", "\u2028", "\t")


def put(body: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    name, dot, rest = place.partition(".")
    return {**body, name: put(body.get(name, {}), rest, value) if dot else value}


# Control characters


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
@pytest.mark.parametrize(
    "place",
    [
        *("friendly_name", "sip.trunk_name", "sip.username", "sip.password"),
        *("sip.address", "inbound.room_pattern"),
    ],
)
def test_no_control_character_gets_into_a_sip_message_or_a_name(
    platform: Platform, tenant: Tenant, place: str, control: str
) -> None:
    login = {"address": "sip.example.com", "username": "u", "password": "planted-p"}
    body = put(new_request(sip=login), place, f"a{control}b")

    found = problem(tenant.http.post("/v1/imports", json=body), 400, "invalid_request")
    assert control not in json.dumps(found)
    batch = tenant.http.post("/v1/batches", json={"items": [body]})

    assert [row["status"] for row in batch.json()["items"]] == ["refused"]
    assert platform.rows(tenant) == NOTHING


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_no_control_character_gets_into_the_directory(tenant: Tenant, control: str) -> None:
    name = f"a{control}b"
    account = new_request()
    bodies = {
        "/v1/users": {"name": name},
        "/v1/agents": {"name": name, "dispatch_name": "a"},
        "/v1/api-keys": {"name": name, "role": "viewer"},
        "/v1/credentials": {
            "provider": "twilio",
            "credentials": account["credentials"],
            "label": name,
        },
    }
    for path, body in bodies.items():
        problem(tenant.http.post(path, json=body), 400, "invalid_request")
    dispatch = {"name": "a", "dispatch_name": name}
    problem(tenant.http.post("/v1/agents", json=dispatch), 400, "invalid_request")
    current = tenant.http.patch("/v1/organizations/current", json={"name": name})
    problem(current, 400, "invalid_request")


def test_names_in_every_script_are_taken(tenant: Tenant) -> None:
    for name in ("Empfang Süd", "受付", "الاستقبال", "👩\u200d💻 desk", "\u202bעברית\u202c"):
        assert tenant.submit(new_request(friendly_name=name))["friendly_name"] == name


# Compressed bodies


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
def test_a_compressed_body_is_refused(platform: Platform, tenant: Tenant, encoding: str) -> None:
    body = gzip.compress(json.dumps(new_request()).encode())
    for path, type_ in (("/v1/imports", "application/json"), ("/v1/batches", "text/csv")):
        headers = {"Content-Type": type_, "Content-Encoding": encoding}
        answer = tenant.http.post(path, content=body, headers=headers)
        assert "Content-Encoding" in problem(answer, 400, "invalid_request")["detail"]
    assert platform.rows(tenant) == NOTHING


def test_a_body_that_says_it_is_as_it_is_is_taken(tenant: Tenant) -> None:
    body = json.dumps(new_request()).encode()
    for encoding in ("identity", "Identity"):
        headers = {**JSON, "Content-Encoding": encoding, "Idempotency-Key": "same"}
        assert tenant.http.post("/v1/imports", content=body, headers=headers).status_code == 202


# Heads


def raw(platform: Platform, head: bytes, *, more: bytes = b"") -> bytes:
    parts = urlsplit(platform.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 5) as connection:
        connection.settimeout(10)
        try:
            connection.sendall(head + more)
            return connection.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/imports?cursor=" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: api\r\n\r\n",
        b"GET /" + b"a/" * 60_000 + b" HTTP/1.1\r\nHost: api\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: api\r\nX-A: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: api\r\n" + b"X-A: 1\r\n" * 20_000 + b"\r\n",
    ],
    ids=["query", "path", "header", "headers"],
)
def test_a_head_without_end_is_refused(platform: Platform, head: bytes) -> None:
    answer = raw(platform, head)

    # 400 is the server's own, if it came in pieces; it may close before it has read all of it.
    assert re.match(rb"HTTP/1\.1 4(00|31) ", answer) or not answer
    assert platform.client().get("/healthz").status_code == 200


def test_a_head_of_some_size_is_taken_and_one_over_the_limit_is_a_problem(
    platform: Platform, tenant: Tenant
) -> None:
    assert tenant.http.get("/v1/imports", headers={"X-A": "x" * 30_000}).status_code == 200
    for path, headers in (
        ("/v1/imports", {"X-A": "x" * 33_000}),
        (f"/v1/imports?cursor={'x' * 33_000}", {}),
    ):
        answer = httpx.get(f"{platform.url}{path}", headers=headers, trust_env=False)
        problem(answer, 431, "head_too_large")


@pytest.mark.parametrize(("size", "status"), [(30_000, 200), (33_000, 431)])
def test_a_head_counts_the_same_in_pieces(
    platform: Platform, tenant: Tenant, size: int, status: int
) -> None:
    parts = urlsplit(platform.url)
    head = (
        f"GET /v1/imports HTTP/1.1\r\nHost: api\r\nX-Api-Key: {tenant.key}\r\n"
        f"X-A: {'x' * size}\r\n\r\n"
    ).encode()
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        for piece in (head[: size - 1000], head[size - 1000 :]):
            connection.sendall(piece)
            time.sleep(0.2)
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == status, answer.read()


@pytest.mark.parametrize("key", ["limit", "cursor", "x"])
def test_a_query_of_thousands_of_parameters_is_answered_at_once(tenant: Tenant, key: str) -> None:
    query = "&".join(f"{key}=1" for _ in range(3_000))
    begun = time.monotonic()
    answer = tenant.http.get(f"/v1/imports?{query}")

    assert answer.status_code in (200, 400)
    assert len(answer.content) < 10_000
    assert time.monotonic() - begun < 3


def test_connections_that_dawdle_hold_up_nobody(platform: Platform, tenant: Tenant) -> None:
    parts = urlsplit(platform.url)
    head = (
        b"POST /v1/imports HTTP/1.1\r\nHost: api\r\nX-Api-Key: " + tenant.key.encode() + b"\r\n"
        b"Content-Type: application/json\r\nContent-Length: 500\r\n"
    )
    slow = []
    try:
        for place in range(200):
            one = socket.create_connection((parts.hostname or "", parts.port or 0), 5)
            slow.append(one)
            # Half stop within their head, half within their body: more than there are threads.
            one.sendall(head if place % 2 else head + b"\r\n{")
        begun = time.monotonic()
        tenant.submit()
        assert time.monotonic() - begun < 5
    finally:
        for one in slow:
            one.close()


# Headers that go out


def test_nothing_that_came_in_goes_out_in_a_header(platform: Platform, tenant: Tenant) -> None:
    planted = "planted-9042"
    headers = {
        "Host": f"{planted}.example.com",
        "X-Forwarded-Host": f"{planted}.example.com",
        "X-Forwarded-Proto": planted,
        "Forwarded": f"host={planted}.example.com",
        "X-Original-URL": f"/{planted}",
        "Origin": f"https://{planted}.example.com",
        "Idempotency-Key": planted,
        "Prefer": f"wait=0; {planted}",
        "If-None-Match": f'"{planted}"',
    }
    first = tenant.http.post("/v1/imports", json=(body := new_request()), headers=headers)
    again = tenant.http.post("/v1/imports", json=body, headers=headers)
    read = tenant.http.get(first.headers["Location"], headers=headers)
    asked = tenant.http.request("OPTIONS", "/v1/imports", headers=headers)
    found = tenant.http.get(f"/v1/imports/%0d%0aX-{planted}:1?cursor=%0d%0a{planted}")
    docs = tenant.http.get("/docs", headers=headers)

    assert (first.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert re.fullmatch(r"/v1/imports/imp_[0-9a-f]{32}", first.headers["Location"])
    for answer in (first, again, read, asked, found, docs):
        assert planted not in str(answer.headers), answer.headers
        assert "access-control-allow-origin" not in answer.headers
    # Nor in a page or a document that others might be shown.
    assert planted not in docs.text
    assert planted not in platform.client().get("/openapi.json", headers=headers).text


# Keys


def test_a_key_in_the_query_opens_nothing(platform: Platform, tenant: Tenant) -> None:
    # It would be in the logs of everything on its way.
    for name in ("key", "api_key", "x-api-key", "X-Api-Key", "access_token", "token", "bearer"):
        answer = platform.client().get(f"/v1/imports?{name}={tenant.key}")
        problem(answer, 401, "unauthenticated")
        assert tenant.key not in platform.log()


def test_of_several_headers_all_must_name_the_same_key(
    platform: Platform, tenant: Tenant, other: Tenant
) -> None:
    def status(*headers: tuple[str, str]) -> int:
        return platform.client().get("/v1/imports", headers=list(headers)).status_code

    mine, theirs = f"Bearer {tenant.key}", f"Bearer {other.key}"
    assert status(("Authorization", mine), ("X-Api-Key", tenant.key)) == 200
    for headers in (
        [("Authorization", mine), ("X-Api-Key", other.key)],
        [("Authorization", mine), ("Authorization", theirs)],
        [("Authorization", theirs), ("Authorization", mine)],
        [("X-Api-Key", tenant.key), ("X-Api-Key", other.key)],
        [("X-Api-Key", other.key), ("X-Api-Key", tenant.key)],
    ):
        assert status(*headers) == 401, headers


def test_a_key_that_is_revoked_opens_no_dialect_either(platform: Platform, tenant: Tenant) -> None:
    key, client = tenant.add_key(Role.ADMIN)
    made = client.get("/v1/api-keys").json()["items"]
    mine = next(one["id"] for one in made if one["prefix"] == key.split("_")[1])
    assert tenant.http.delete(f"/v1/api-keys/{mine}").status_code == 204

    for path in (
        "/dialects/ravan/api/v1/phone-numbers/add-twilio",
        "/dialects/weya/api/call/add-phone",
        "/dialects/oneinbox/v1/phone-numbers",
    ):
        assert _post(platform, path, {"X-Api-Key": key}) == 401
    pair = key.removeprefix("tl_").replace("_", ":", 1)
    bearer = {"Authorization": f"Bearer {pair}"}
    assert _post(platform, "/dialects/nixflex/v1/phone-numbers", bearer) == 401


def _post(platform: Platform, path: str, headers: dict[str, str]) -> int:
    # Not the tests' own client: the contracts list few of the statuses.
    url = f"{platform.url}{path}"
    return httpx.post(url, json={}, headers=headers, trust_env=False).status_code
