from __future__ import annotations

import asyncio
import json
import re
from typing import Any, cast

import anyio.to_thread
import httpx
import pytest

from api_stub.app import build
from worker.service import Service

FAKE = re.compile(r"(AC|SK|PN)?0+")


class Stub:
    """A service that only knows what it can reach."""

    def __init__(self, **found: str | None) -> None:
        self.found = {"database": None, "broker": None, "sweep": None, **found}
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def check_readiness(self) -> dict[str, str | None]:
        return self.found


def ask(service: Any, path: str) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(build(cast("Service", service), threads=4))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.get(path)

    return asyncio.run(once())


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    """Our own API; the dialects speak as their contracts do: test_dialects.py."""
    found: dict[str, Any] = ask(Stub(), "/openapi.json").json()
    paths = found["paths"].items()
    found["paths"] = {path: it for path, it in paths if not path.startswith("/dialects/")}
    schemas = found["components"]["schemas"]
    named, waiting = set[str](), references(found["paths"]) | {"Problem"}
    while waiting:
        named |= waiting
        waiting = references([schemas[name] for name in waiting]) - named
    found["components"]["schemas"] = {name: schemas[name] for name in named}
    return found


def references(document: Any) -> set[str]:
    return set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))


@pytest.mark.parametrize(
    ("found", "status", "word"),
    [
        ({}, 200, "ready"),
        ({"broker": "the broker cannot be reached"}, 200, "degraded"),
        ({"sweep": "none for 40 s"}, 200, "degraded"),
        ({"database": "unreachable"}, 503, "unavailable"),
        ({"database": "unreachable", "broker": "the broker cannot be reached"}, 503, "unavailable"),
    ],
)
def test_readiness_depends_on_the_database_alone(
    found: dict[str, str], status: int, word: str
) -> None:
    answer = ask(Stub(**found), "/readyz")

    assert answer.status_code == status
    assert answer.json() == {
        "status": word,
        "database": "ok",
        "broker": "ok",
        "sweep": "ok",
        **found,
    }


def test_an_unforeseen_failure_is_an_internal_error() -> None:
    answer = ask(object(), "/readyz")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")


def test_the_application_limits_its_threads_and_closes_its_service() -> None:
    stub = Stub()
    app = build(cast("Service", stub), threads=7)

    async def live() -> float:
        async with app.router.lifespan_context(app):
            return anyio.to_thread.current_default_thread_limiter().total_tokens

    assert asyncio.run(live()) == 7
    assert stub.closed


def operations(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_is_described(openapi: dict[str, Any]) -> None:
    found = operations(openapi)

    assert len(found) == 45
    for operation in found.values():
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]
    ids = [operation["operationId"] for operation in found.values()]
    assert len(set(ids)) == len(ids)


def test_every_route_of_a_tenant_takes_either_header_and_documents_its_problems(
    openapi: dict[str, Any],
) -> None:
    schemes = openapi["components"]["securitySchemes"]
    assert schemes["Bearer"]["scheme"] == "bearer"
    assert (schemes["ApiKey"]["in"], schemes["ApiKey"]["name"]) == ("header", "X-Api-Key")
    for name, operation in operations(openapi).items():
        if " /v1/" in name:
            assert operation["security"] == [{"Bearer": []}, {"ApiKey": []}]
            for status in ("400", "401", "default"):
                assert operation["responses"][status]["content"].keys() == {
                    "application/problem+json"
                }
        else:
            assert "security" not in operation


def test_the_framework_s_own_validation_error_is_not_promised(openapi: dict[str, Any]) -> None:
    assert not {"HTTPValidationError", "ValidationError"} & openapi["components"]["schemas"].keys()


def test_every_reference_leads_somewhere(openapi: dict[str, Any]) -> None:
    names = references(openapi)

    assert names <= openapi["components"]["schemas"].keys()
    assert {"Problem", "FieldError", "JobOut", "NumberOut", "CredentialOut"} <= names


def test_examples_hold_no_secret_that_could_be_real(openapi: dict[str, Any]) -> None:
    schemas = openapi["components"]["schemas"]
    bodies = [schemas["ImportBody"], schemas["CredentialBody"]]

    for body in bodies:
        for example in body["examples"]:
            for value in example["credentials"].values():
                assert FAKE.fullmatch(value), value


def test_fields_are_shown_in_snake_case(openapi: dict[str, Any]) -> None:
    for schema in openapi["components"]["schemas"].values():
        for name in schema.get("properties", ()):
            assert name == name.lower()


def test_an_item_of_a_batch_may_leave_out_what_the_defaults_give(openapi: dict[str, Any]) -> None:
    content = openapi["paths"]["/v1/batches"]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    item = schema["properties"]["items"]["items"]

    assert item["properties"].keys() >= {"phone_number", "provider", "credentials", "sip"}
    assert "required" not in item
    for example in schema["examples"]:
        assert all(one.keys() <= item["properties"].keys() for one in example["items"])


def test_every_idempotency_key_says_which_characters_it_takes(openapi: dict[str, Any]) -> None:
    found = [
        parameter["schema"]["pattern"]
        for operation in operations(openapi).values()
        for parameter in operation.get("parameters", ())
        if parameter["name"] == "Idempotency-Key"
    ]

    assert found == ["^[!-~]{1,255}$"] * 2
