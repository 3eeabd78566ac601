"""How much one key may ask for: over two API processes, with Redis and without."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import httpx
import pytest
import redis
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import SecretStr

from api_stub.app import build
from deploy.local.redis import EmbeddedRedis
from deploy.local.service import Service as Process
from deploy.local.waiting import LOOPBACK, free_port
from tests.integration.api.conftest import (
    Platform,
    Tenant,
    api_process,
    new_number,
    new_request,
    problem,
)
from worker.service import Role

ID: Final = "0" * 32
NO_HEADERS: Final[Mapping[str, str]] = {}
IMPORTS, BATCHES, LOOKS = 5, 2, 3
PER_MINUTE: Final = {"imports": IMPORTS, "batches": BATCHES, "looks": LOOKS}
#: Every call that a key may send only so often, and which allowance it is of.
COUNTED: Final = {
    ("POST", "/v1/imports"): "imports",
    ("POST", "/v1/imports/{import_id}/retry"): "imports",
    ("PATCH", "/v1/phone-numbers/{number_id}"): "imports",
    ("DELETE", "/v1/phone-numbers/{number_id}"): "imports",
    ("POST", "/dialects/ravan/api/v1/phone-numbers/add-twilio"): "imports",
    ("POST", "/dialects/butter/api/phone-numbers"): "imports",
    ("POST", "/dialects/weya/api/call/add-phone"): "imports",
    ("POST", "/dialects/nixflex/v1/phone-numbers"): "imports",
    ("POST", "/dialects/oneinbox/v1/phone-numbers"): "imports",
    ("POST", "/v1/batches"): "batches",
    ("POST", "/v1/imports/preflight"): "looks",
    ("POST", "/v1/phone-numbers/{number_id}/check"): "looks",
    ("PATCH", "/v1/credentials/{credential_id}"): "looks",
    ("GET", "/v1/credentials/{credential_id}/numbers"): "looks",
}
#: What is neither read nor counted, and why not.
UNCOUNTED: Final = {
    # The remedy of too many imports must not be refused for their number.
    ("POST", "/v1/imports/{import_id}/cancel"),
    ("POST", "/v1/batches/{batch_id}/cancel"),
    # One row here, nothing at a vendor; customers keep thousands of users in step by these.
    ("POST", "/v1/credentials"),
    ("DELETE", "/v1/credentials/{credential_id}"),
    ("PATCH", "/v1/organizations/{organization_id}"),
    ("POST", "/v1/users"),
    ("PATCH", "/v1/users/{user_id}"),
    ("DELETE", "/v1/users/{user_id}"),
    ("POST", "/v1/agents"),
    ("PATCH", "/v1/agents/{agent_id}"),
    ("DELETE", "/v1/agents/{agent_id}"),
    ("POST", "/v1/api-keys"),
    ("DELETE", "/v1/api-keys/{key_id}"),
    ("POST", "/v1/signing-secret/rotate"),
    # Signed by the provider, not sent with a key; a call that is refused is a caller who hears it.
    ("POST", "/callbacks/{provider}/{kind}/{number_id}"),
}


@dataclass(frozen=True, kw_only=True)
class Limited:
    """Two API processes with small allowances, and the Redis in which they count."""

    urls: tuple[str, ...]
    server: EmbeddedRedis

    def client(
        self, key: str, process: int = 0, headers: Mapping[str, str] = NO_HEADERS
    ) -> httpx.Client:
        return httpx.Client(
            base_url=self.urls[process],
            headers={"X-Api-Key": key, **headers},
            timeout=30,
            trust_env=False,
        )

    def counters(self) -> redis.Redis:
        return redis.Redis(host=LOOPBACK, port=self.server.port)

    def post(self, key: str, process: int = 0, path: str = "/v1/imports") -> httpx.Response:
        with self.client(key, process) as client:
            return client.post(path, json=new_request())


@pytest.fixture(scope="module")
def limited(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    directory = tmp_path_factory.mktemp("limited")
    urls = {name: f"http://{LOOPBACK}:{free_port()}" for name in ("first", "second")}
    with EmbeddedRedis(directory / "redis") as server:
        allowances = {f"{name}_per_minute": count for name, count in PER_MINUTE.items()}
        settings = platform.settings.model_copy(
            update={"broker_url": SecretStr(server.url), **allowances}
        )
        processes = [api_process(settings, directory / name, url) for name, url in urls.items()]
        try:
            with ThreadPoolExecutor(len(processes)) as pool:
                list(pool.map(Process.start, processes))
            yield Limited(urls=tuple(urls.values()), server=server)
        finally:
            for process in processes:
                process.stop()


def rate(answer: httpx.Response) -> tuple[str, int, int]:
    """The allowance, what is left of it, and when there is more, as the headers have it."""
    found = re.fullmatch(r'"([a-z]+)";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
    assert found is not None, answer.headers
    name = found[1]
    assert answer.headers["RateLimit-Policy"] == f'"{name}";q={PER_MINUTE[name]};w=60'
    return name, int(found[2]), int(found[3])


def test_a_key_is_refused_after_its_allowance_over_all_processes(
    platform: Platform, limited: Limited, tenant: Tenant
) -> None:
    for count in range(IMPORTS):
        answer = limited.post(tenant.key, process=count % 2)
        assert answer.status_code == 202, answer.text
        name, left, more = rate(answer)
        assert (name, left) == ("imports", IMPORTS - 1 - count)
        assert 0 < more <= 61
    before = platform.rows(tenant)

    for process in (0, 1):
        answer = limited.post(tenant.key, process)
        found = problem(answer, 429, "rate_limited")
        name, left, more = rate(answer)
        assert (name, left) == ("imports", 0)
        assert answer.headers["Retry-After"] == str(more)
        assert 1 <= more <= 61
        assert "/v1/batches" in found["detail"]
    assert platform.rows(tenant) == before


def test_each_key_and_each_allowance_is_counted_for_itself(
    limited: Limited, tenant: Tenant
) -> None:
    other, _ = tenant.add_key(Role.AGENT_MANAGER)
    for _ in range(IMPORTS):
        limited.post(tenant.key)
    problem(limited.post(tenant.key), 429, "rate_limited")

    assert limited.post(other).status_code == 202
    assert rate(limited.post(tenant.key, path="/v1/imports/preflight"))[:2] == ("looks", LOOKS - 1)
    with limited.client(tenant.key) as client:
        for _ in range(IMPORTS + 1):
            answer = client.get("/v1/imports")
            assert answer.status_code == 200
            assert "RateLimit" not in answer.headers


def test_what_is_refused_anyway_counts_too_but_not_what_no_key_sent(
    limited: Limited, tenant: Tenant
) -> None:
    _, viewer = tenant.add_key(Role.VIEWER)
    viewers_key = viewer.headers["Authorization"].removeprefix("Bearer ")
    problem(limited.post("tl_nobody_knows"), 401, "unauthenticated")
    answer = limited.post(viewers_key)
    problem(answer, 403, "forbidden")
    assert "RateLimit" not in answer.headers
    with limited.client(tenant.key) as client:
        for left in reversed(range(IMPORTS)):
            answer = client.post("/v1/imports", json={})
            problem(answer, 400, "invalid_request")
            assert rate(answer)[1] == left
        problem(client.post("/v1/imports", json={}), 429, "rate_limited")


def test_after_retry_after_there_is_room_again(limited: Limited, tenant: Tenant) -> None:
    for _ in range(IMPORTS):
        limited.post(tenant.key)
    refused = limited.post(tenant.key)
    problem(refused, 429, "rate_limited")
    # The window itself is not waited for: all of it is let run out in Redis.
    with limited.counters() as client:
        for name in client.scan_iter("trunkline:limits*"):
            client.pexpire(name, 1)
        time.sleep(0.05)
    assert limited.post(tenant.key).status_code == 202


def test_nothing_in_redis_tells_of_a_key_but_its_id(limited: Limited, tenant: Tenant) -> None:
    limited.post(tenant.key)
    with limited.counters() as client:
        names = [name.decode() for name in client.scan_iter("trunkline:limits*")]
        lasting = [name for name in names if client.ttl(name) < 0]
    prefix, secret = tenant.key.split("_", 2)[1:]
    assert names
    assert not lasting
    assert not any(prefix in name or secret in name for name in names)


def test_without_redis_each_process_counts_for_itself(limited: Limited, tenant: Tenant) -> None:
    limited.post(tenant.key)
    limited.server.kill()
    try:
        for process in (0, 1):
            begun = time.monotonic()
            answers = [limited.post(tenant.key, process) for _ in range(IMPORTS + 1)]
            # None waited for Redis longer than its patience, and those behind it not at all.
            assert time.monotonic() - begun < 3
            assert [one.status_code for one in answers] == [202] * IMPORTS + [429]
            assert [rate(one)[1] for one in answers[:IMPORTS]] == [4, 3, 2, 1, 0]
            assert int(answers[-1].headers["Retry-After"]) >= 1
    finally:
        limited.server.start()
        _rested()
    # And counts with the others again.
    assert limited.post(tenant.key).status_code == 202


def test_a_redis_that_hangs_holds_nobody_up(limited: Limited, tenant: Tenant) -> None:
    limited.post(tenant.key)
    pid = limited.server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with limited.client(tenant.key) as client:
            answers = [client.post("/v1/imports", json={}) for _ in range(IMPORTS + 1)]
        took = time.monotonic() - begun
    finally:
        os.kill(pid, signal.SIGCONT)
        _rested()
    assert [one.status_code for one in answers] == [400] * IMPORTS + [429]
    # It waits for a quarter of a second, twice at most, and then not for a second.
    assert took < 3


def _rested() -> None:
    """Waits until Redis is asked again."""
    time.sleep(1.1)


# The dialects, each in its contract's words


def nixflex(answer: httpx.Response) -> None:
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limited")


def weya(answer: httpx.Response) -> None:
    body = answer.json()
    assert (body["status"], body["code"], body["data"]) == (False, 429, None)
    assert "too many requests" in body["errorMessage"]


def envelope(answer: httpx.Response) -> None:
    body = answer.json()
    assert body["success"] is False
    assert "too many requests" in body["message"]


def oneinbox(answer: httpx.Response) -> None:
    assert answer.json()["detail"]["code"] == "RATE_LIMITED"


DIALECTS: Final = {
    "/dialects/ravan/api/v1/phone-numbers/add-twilio": envelope,
    "/dialects/butter/api/phone-numbers": envelope,
    "/dialects/weya/api/call/add-phone": weya,
    "/dialects/nixflex/v1/phone-numbers": nixflex,
    "/dialects/oneinbox/v1/phone-numbers": oneinbox,
}


@pytest.mark.parametrize("path", DIALECTS)
def test_a_dialect_refuses_in_its_own_words(limited: Limited, tenant: Tenant, path: str) -> None:
    for _ in range(IMPORTS):
        limited.post(tenant.key)
    with limited.client(tenant.key, headers=own_headers(path, tenant)) as client:
        answer = client.post(path, json={})

    assert answer.status_code == 429, answer.text
    assert rate(answer)[:2] == ("imports", 0)
    assert 1 <= int(answer.headers["Retry-After"]) <= 61
    DIALECTS[path](answer)


def own_headers(path: str, tenant: Tenant) -> dict[str, str]:
    if "nixflex" in path:
        key_id, secret = tenant.key.removeprefix("tl_").split("_", 1)
        return {"Authorization": f"Bearer {key_id}:{secret}"}
    return {"X-Organization-Id": tenant.organization_id}


# Every route


def test_every_route_that_changes_something_is_counted_or_says_why_not(platform: Platform) -> None:
    routes = {
        (method, str(context.path))
        for context in iter_route_contexts(build(platform.service, threads=1).routes)
        if isinstance(context.route, APIRoute)
        for method in context.route.methods or ()
    }
    changing = {one for one in routes if one[0] != "GET"}
    assert changing == {one for one in COUNTED if one[0] != "GET"} | UNCOUNTED
    assert COUNTED.keys() <= routes


@pytest.mark.parametrize(("method", "path"), COUNTED, ids=lambda one: one)
def test_a_counted_route_is_counted(
    limited: Limited, tenant: Tenant, method: str, path: str
) -> None:
    allowance = COUNTED[method, path]
    real = re.sub(r"{[a-z_]+}", f"num_{ID}", path)
    with limited.client(tenant.key, headers=own_headers(path, tenant)) as client:
        answers = [
            client.request(method, real, json={"phone_number": new_number()})
            for _ in range(PER_MINUTE[allowance] + 1)
        ]

    assert [rate(one)[0] for one in answers] == [allowance] * len(answers)
    assert [one.status_code == 429 for one in answers] == [False] * (len(answers) - 1) + [True]
