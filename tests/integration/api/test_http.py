from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.api.conftest import Platform, Tenant, new_request, problem

LIMIT = 64 * 1024
Send = Callable[[bytes], bytes | Iterator[bytes]]
JSON = {"Content-Type": "application/json"}


def body_of(size: int) -> bytes:
    """A valid request of exactly this many bytes."""
    whole = json.dumps(new_request(metadata={"filler": ""}))
    return json.dumps(new_request(metadata={"filler": "x" * (size - len(whole))})).encode()


def chunked(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


def raw(platform: Platform, request: bytes) -> bytes:
    """Sends bytes as they are and returns the beginning of the answer."""
    parts = urlsplit(platform.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 5) as connection:
        connection.sendall(request)
        return connection.recv(65536)


@pytest.mark.parametrize("send", [bytes, chunked])
def test_a_body_may_have_64_kib(tenant: Tenant, send: Send) -> None:
    body = body_of(LIMIT)
    assert len(body) == LIMIT

    answer = tenant.http.post("/v1/imports", content=send(body), headers=JSON)

    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("size", [LIMIT + 1, 200_000, 5_000_000])
@pytest.mark.parametrize("send", [bytes, chunked])
@pytest.mark.parametrize("path", ["/v1/imports", "/v1/credentials", "/nowhere"])
def test_a_larger_body_is_refused(
    platform: Platform, tenant: Tenant, path: str, size: int, send: Send
) -> None:
    body = body_of(size)
    try:
        answer = tenant.http.post(path, content=send(body), headers=JSON)
    except httpx.WriteError:
        # The server need not take in megabytes only to refuse them.
        assert size > 1_000_000
    else:
        problem(answer, 413, "payload_too_large")
    assert platform.rows(tenant)["import_jobs"] == 0


def test_a_larger_body_is_refused_before_it_is_sent(platform: Platform, tenant: Tenant) -> None:
    parts = urlsplit(platform.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 5) as connection:
        connection.sendall(
            b"POST /v1/imports HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
            + f"X-Api-Key: {tenant.key}\r\nContent-Length: 70000\r\n".encode()
            + b"Expect: 100-continue\r\n\r\n"
        )
        received = connection.recv(65536)

    assert received.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "length", [b"99999999999999999999", b"-1", b"+5", b"1e3", b"0x10", b"5, 6", b"\xb2"]
)
def test_a_strange_length_is_refused(platform: Platform, tenant: Tenant, length: bytes) -> None:
    answer = raw(
        platform,
        b"POST /v1/imports HTTP/1.1\r\nHost: api\r\nConnection: close\r\n"
        b"X-Api-Key: " + tenant.key.encode() + b"\r\nContent-Length: " + length + b"\r\n\r\n{}",
    )

    assert re.match(rb"HTTP/1.1 4(00|13) ", answer), answer


def test_a_client_that_goes_away_in_its_body_leaves_nothing(
    platform: Platform, tenant: Tenant
) -> None:
    parts = urlsplit(platform.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 5) as connection:
        connection.sendall(
            b"POST /v1/imports HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
            + f"X-Api-Key: {tenant.key}\r\nX-Request-Id: half-a-body\r\n".encode()
            + b"Content-Length: 1000\r\n\r\n{"
        )

    assert platform.logged(1, "half-a-body")[0]["status"] == 499
    assert platform.rows(tenant)["import_jobs"] == 0


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/imports/", "/v2/imports", "/v1//imports", "/metrics/", "/redoc"]
)
def test_an_unknown_path_is_a_problem(tenant: Tenant, path: str) -> None:
    problem(tenant.http.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/imports", "GET, POST"),
        ("DELETE", "/v1/imports/imp_0", "GET"),
        ("GET", "/v1/imports/imp_0/cancel", "POST"),
        ("PUT", "/v1/credentials/cred_0", "DELETE, GET, PATCH"),
        ("POST", "/v1/phone-numbers/num_0", "DELETE, GET, PATCH"),
        ("GET", "/v1/phone-numbers/num_0/check", "POST"),
        ("DELETE", "/v1/phone-numbers/num_0/events", "GET"),
        ("POST", "/healthz", "GET"),
        ("POST", "/docs", "GET"),
        ("OPTIONS", "/v1/imports", "GET, POST"),
        ("BREW", "/v1/imports", "GET, POST"),
    ],
)
def test_a_wrong_method_is_a_problem(tenant: Tenant, method: str, path: str, allowed: str) -> None:
    answer = tenant.http.request(method, path)

    problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "name", ["", "imp_", "imp_0", "num_" + "0" * 32, "%00", "..%2f", "a" * 500]
)
@pytest.mark.parametrize("kind", ["imports", "phone-numbers"])
def test_an_id_that_is_none_names_nothing(tenant: Tenant, kind: str, name: str) -> None:
    if name:
        problem(tenant.http.get(f"/v1/{kind}/{name}x"), 404, "not_found")


def test_a_request_id_is_kept_and_logged(platform: Platform, tenant: Tenant) -> None:
    given = "0af7651916cd43dd8448eb211c80319c"
    answer = tenant.http.get("/v1/imports", headers={"X-Request-Id": given})

    assert answer.headers["X-Request-Id"] == given
    [line] = platform.logged(1, given)
    assert line["event"] == "request answered"
    assert line["method"] == "GET"
    assert line["route"] == "/v1/imports"
    assert line["status"] == 200
    assert line["organization_id"] == tenant.organization_id
    assert line["duration_ms"] >= 0


@pytest.mark.parametrize(
    "given", ["", "x" * 65, "a b", 'a"b', "a/b", "tl_abc_planted-secret", "<script>", "a;b"]
)
def test_a_request_id_that_is_none_is_replaced(tenant: Tenant, given: str) -> None:
    answer = tenant.http.get("/v1/imports", headers={"X-Request-Id": given})

    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"])


def test_a_log_line_names_the_route_not_the_path(platform: Platform, tenant: Tenant) -> None:
    job = tenant.submit()
    headers = {"X-Request-Id": "template"}
    tenant.http.get(f"/v1/imports/{job['id']}?wait=0", headers=headers)
    tenant.http.get("/v1/nothing/here", headers=headers)
    tenant.http.request("PUT", "/v1/imports", headers=headers)

    lines = platform.logged(3, "template")
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GET", "/v1/imports/{import_id}", 200),
        ("GET", "other", 404),
        ("PUT", "/v1/imports", 405),
    ]
    assert job["id"] not in json.dumps(lines)


def test_probes_are_not_logged_while_they_are_well(platform: Platform, tenant: Tenant) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/v1/imports"):
        assert tenant.http.get(path, headers={"X-Request-Id": "probe"}).status_code == 200

    assert [line["route"] for line in platform.logged(1, "probe")] == ["/v1/imports"]


@pytest.mark.parametrize(
    ("path", "cached"),
    [
        ("/v1/imports", "no-store"),
        ("/v1/credentials", "no-store"),
        ("/healthz", "no-store"),
        ("/nowhere", "no-store"),
        ("/openapi.json", "no-store"),
    ],
)
def test_answers_carry_safe_headers(tenant: Tenant, path: str, cached: str) -> None:
    headers = tenant.http.get(path, headers={"Origin": "https://evil.example"}).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == cached
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_the_documentation_page_may_load_its_scripts_and_talk_to_us_only(tenant: Tenant) -> None:
    answer = tenant.http.get("/docs")

    assert answer.status_code == 200
    assert "swagger-ui" in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "connect-src 'self'" in policy
    assert "script-src https://cdn.jsdelivr.net" in policy


@pytest.mark.parametrize(
    "request_line",
    [b"GET", b"\x00\x01", b"GET /v1/imp\x00orts HTTP/1.1"],
)
def test_what_is_not_http_is_refused(platform: Platform, request_line: bytes) -> None:
    answer = raw(platform, request_line + b"\r\nHost: api\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ") or not answer


def test_metrics_count_requests_and_submits(tenant: Tenant) -> None:
    tenant.submit()
    answer = tenant.http.get("/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain")
    assert re.search(r'trunkline_submits_total\{provider="twilio"\} [1-9]', answer.text)
    assert re.search(
        r'trunkline_http_request_seconds_count\{method="POST",route="/v1/imports",status="202"\}',
        answer.text,
    )
    assert tenant.organization_id not in answer.text
