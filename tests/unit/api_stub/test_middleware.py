from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
import structlog
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from api_stub.middleware import LARGEST_BODY, BodyLimit, RequestLog

SECRET = "planted-in-an-exception"


async def read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read(receive)
    await JSONResponse({"size": len(body)})(scope, receive, send)


def call(
    app: Any, parts: Iterable[bytes | None] = (b"",), headers: dict[str, str] | None = None
) -> tuple[int | None, dict[str, str], bytes]:
    """Calls an ASGI application with the parts of a body; None is a client that goes away."""
    given = list(parts)
    sent: list[Message] = []
    waiting: list[Message] = [
        {"type": "http.disconnect"}
        if part is None
        else {"type": "http.request", "body": part, "more_body": index < len(given) - 1}
        for index, part in enumerate(given)
    ]

    async def receive() -> Message:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    asyncio.run(app(scope, receive, send))
    if not sent:
        return None, {}, b""
    found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(part["body"] for part in sent[1:])


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"x" * LARGEST_BODY],
        [b"x" * (LARGEST_BODY - 1), b"x"],
        [b"x"] * 100,
        [b"", b"", b"x", b""],
    ],
    ids=lambda parts: f"{len(parts)} parts",
)
def test_a_body_within_the_limit_arrives_whole(parts: list[bytes]) -> None:
    status, _, body = call(BodyLimit(echo), parts)

    assert (status, json.loads(body)) == (200, {"size": sum(map(len, parts))})


@pytest.mark.parametrize(
    ("parts", "headers"),
    [
        ([b"x" * (LARGEST_BODY + 1)], {}),
        ([b"x" * LARGEST_BODY, b"x"], {}),
        ([b"x" * 1000] * 1000, {}),
        ([b"x"], {"Content-Length": str(LARGEST_BODY + 1)}),
        ([b"x"], {"Content-Length": "9" * 5000}),
        ([b"x"], {"Content-Length": "-1"}),
        ([b"x"], {"Content-Length": "many"}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_larger_body_never_reaches_the_application(
    parts: list[bytes], headers: dict[str, str]
) -> None:
    async def never(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError

    status, found, body = call(BodyLimit(never), parts, headers)

    assert (status, json.loads(body)["code"]) == (413, "payload_too_large")
    assert found["connection"] == "close"


def test_a_client_that_goes_away_in_its_body_never_reaches_the_application() -> None:
    assert call(BodyLimit(echo), [b"x", None]) == (None, {}, b"")


def test_a_client_that_goes_away_later_is_seen_by_the_application() -> None:
    seen: list[str] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        seen.extend([(await receive())["type"], (await receive())["type"]])

    call(BodyLimit(app), [b"x", None][:1])

    assert seen == ["http.request", "http.disconnect"]


def test_what_is_not_http_passes() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    for wrapped in (BodyLimit(app), RequestLog(app)):
        asyncio.run(wrapped({"type": "lifespan"}, nothing, nothing))

    assert seen == ["lifespan", "lifespan"]


def test_a_bug_is_answered_without_a_word_of_it_and_logged_without_its_message() -> None:
    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError(SECRET)

    with structlog.testing.capture_logs() as lines:
        status, headers, body = call(RequestLog(broken), headers={"X-Request-Id": "abc"})

    problem = json.loads(body)
    assert (status, problem["code"]) == (500, "internal_error")
    assert headers["x-request-id"] == "abc"
    assert headers["content-type"] == "application/problem+json"
    assert SECRET not in body.decode()
    assert [line["event"] for line in lines] == ["request failed", "request answered"]
    assert lines[0]["error"] == "ValueError"
    assert "test_middleware.py" in lines[0]["place"][-1]
    assert lines[1]["status"] == 500
    assert SECRET not in repr(lines)


def test_a_bug_in_the_middle_of_an_answer_cuts_it_off() -> None:
    async def broken(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError(SECRET)

    with structlog.testing.capture_logs() as lines, pytest.raises(RuntimeError) as caught:
        call(RequestLog(broken))

    assert caught.value.__suppress_context__
    assert SECRET not in repr(lines)


def test_headers_of_an_answer_are_kept() -> None:
    async def cached(scope: Scope, receive: Receive, send: Send) -> None:
        response = JSONResponse({}, headers={"Cache-Control": "private, no-cache"})
        await response(scope, receive, send)

    _, headers, _ = call(RequestLog(cached))

    assert headers["cache-control"] == "private, no-cache"
    assert headers["x-content-type-options"] == "nosniff"
