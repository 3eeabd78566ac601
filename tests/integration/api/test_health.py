from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api_stub.app import build
from tests.conftest import make_settings
from tests.integration.api.conftest import Platform, new_request, problem
from tests.rig import eventually
from tests.scrapes import total
from worker.service import Service

KEY = {"X-Api-Key": "tl_any_key"}


@pytest.fixture
def app_without_database(tmp_path: Path) -> Iterator[FastAPI]:
    nowhere = f"postgresql://postgres@/none?host={tmp_path}"
    service = Service.from_settings(make_settings(nowhere))
    yield build(service, threads=4)
    service.close()


def ask(app: FastAPI, method: str, path: str, **more: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.request(method, path, **more)

    return asyncio.run(once())


def test_the_process_is_alive(platform: Platform) -> None:
    answer = platform.client().get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_without_a_broker_it_is_degraded_and_still_ready(platform: Platform) -> None:
    answer = platform.client().get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["database"] == "ok"
    assert answer.json()["broker"] != "ok"


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/imports"), ("POST", "/v1/imports")])
def test_without_a_database_requests_are_told_to_come_back(
    app_without_database: FastAPI, method: str, path: str
) -> None:
    answer = ask(app_without_database, method, path, headers=KEY, json=new_request())

    problem(answer, 503, "service_unavailable")
    assert answer.headers["Retry-After"] == "2"


def test_what_the_database_told_is_told_again_for_some_seconds(platform: Platform) -> None:
    client = platform.client()

    def limited() -> float:
        told = client.get("/metrics").text
        return total([told], "trunkline_accounts_limited", provider="plivo")

    def limit(account: str) -> None:
        platform.sql(
            "INSERT INTO provider_limits VALUES ('plivo', :account, now() + interval '1 hour')",
            account=account,
        )

    before = limited()
    limit("seen-next")
    eventually(lambda: limited() == before + 1)
    limit("seen-later")

    assert limited() == before + 1
