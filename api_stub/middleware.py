"""What surrounds every request: its id, its log line, its headers, and the limit of its body.

Pure ASGI: Starlette's BaseHTTPMiddleware would hide a client that went away from a waiting route.
"""

from __future__ import annotations

import re
import time
import traceback
from typing import Final
from uuid import uuid4

import anyio
import structlog
from prometheus_client import Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_stub import problems
from worker import logs, tracing
from worker.domain.errors import InternalError, PayloadTooLarge, TrunklineError

_log = structlog.get_logger()

REQUEST_SECONDS: Final = Histogram(
    "trunkline_http_request_seconds",
    "Duration of HTTP requests, with the time that a caller asked to wait",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)

#: URL and headers. The server's own limit counts only what did not come in one piece.
LARGEST_HEAD: Final = 32 * 1024
LARGEST_BODY: Final = 64 * 1024
#: Method and path → how large a body may be that is many requests in one. It is read by its route,
#: once the key is known: a stranger's is never kept in memory.
LARGER_BODIES: Final = {("POST", "/v1/batches"): 16 * 1024 * 1024}
#: How much of a refused body is read and thrown away, and for how long. Closing at once would reset
#: the connection of a client that is still sending, and it would never see why.
_DRAINED: Final = 16 * LARGEST_BODY
_DRAIN_SECONDS: Final = 2.0
_LENGTH: Final = re.compile(r"[0-9]{1,9}")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Asked every few seconds by machines: logged only when they fail.
_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
#: nginx's word in a log for a client that went away before its answer.
_CLIENT_GONE: Final = 499
_FIRST_ERROR: Final = 400
#: For answers that bring none of their own. What a browser may do with JSON: nothing.
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class RequestLog:
    """Gives every request an id, a log line and headers; turns a bug into ``internal_error``.

    The line names the route's template, never the path or the query: those hold ids and numbers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id", ""))
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers.update(scope.get("state", {}).get("rate_limit_headers", {}))
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        started = time.perf_counter()
        traceparent = Headers(scope=scope).get("traceparent", "")
        with logs.bound(request_id=request_id), tracing.receive(traceparent) as request:
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception as error:  # noqa: BLE001 -- the outermost frame that is ours
                _log_bug(error)
                if status is not None:
                    # Half an answer is out: only the server can cut it off.
                    raise RuntimeError("the answer broke off") from None
                await problems.answer(InternalError())(scope, receive, send_with_headers)
            finally:
                status = status or _CLIENT_GONE
                _note(scope, status, time.perf_counter() - started)
                method, route = _named(scope)
                tracing.answered(request, route=route, method=method, status=status)


def _request_id(given: str) -> str:
    """The caller's own id if it is short, of plain characters, and nothing that logs would hide."""
    if _REQUEST_ID.fullmatch(given) is not None and logs.redact(given) == given:
        return given
    return uuid4().hex


def _log_bug(error: BaseException) -> None:
    # Where it happened, without its message: that may repeat what the caller sent.
    place = [
        f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    _log.error("request failed", error=type(error).__name__, place=place)


def _note(scope: Scope, status: int, seconds: float) -> None:
    method, route = _named(scope)
    REQUEST_SECONDS.labels(method, route, status).observe(seconds)
    quiet = route in _PROBES and status < _FIRST_ERROR
    (_log.debug if quiet else _log.info)(
        "request answered",
        method=method,
        route=route,
        status=status,
        duration_ms=round(seconds * 1000, 1),
        organization_id=scope.get("state", {}).get("organization_id"),
    )


def _named(scope: Scope) -> tuple[str, str]:
    """Returns a request's method and its route's template, where they are ours."""
    method = scope["method"] if scope["method"] in _METHODS else "other"
    return method, getattr(scope.get("route"), "path", "other")


class BodyLimit:
    """Reads a body before anything else does, and refuses one over 64 KiB, chunked or not.

    A route that may take more reads for itself, and is stopped at its own limit.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _head_size(scope) > LARGEST_HEAD:
            await _refuse(receive, send, problems.HeadTooLarge())
            return
        announced = Headers(scope=scope).get("content-length", "0")
        larger = LARGER_BODIES.get((scope["method"], scope["path"]))
        largest = larger or LARGEST_BODY
        if _LENGTH.fullmatch(announced) is None or int(announced) > largest:
            await _refuse(receive, send, PayloadTooLarge())
            return
        if larger is not None:
            await self._app(scope, *_stopped_at(larger, receive, send))
            return
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client went away
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > LARGEST_BODY:
                await _refuse(receive, send, PayloadTooLarge())
                return
        whole: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

        async def replay() -> Message:
            nonlocal whole
            first, whole = whole, None
            return await receive() if first is None else first

        await self._app(scope, replay, send)


def _stopped_at(largest: int, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Lets a route read a body of this size; what it left unread is read before its answer ends."""
    read, more = 0, True

    async def limited() -> Message:
        nonlocal read, more
        message = await receive()
        read += len(message.get("body", b""))
        more = message.get("more_body", False)
        if read > largest:
            raise PayloadTooLarge
        return message

    async def drained(message: Message) -> None:
        if not more:
            await send(message)
        elif message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)
        else:
            await send({**message, "more_body": True})
            await _drain(receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return limited, drained


def _head_size(scope: Scope) -> int:
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope["path"]) + len(scope.get("query_string", b""))


async def _refuse(receive: Receive, send: Send, error: TrunklineError) -> None:
    # What is not read cannot be told from the next request.
    refusal = problems.answer(error, headers={"Connection": "close"})
    start: Message = {"type": "http.response.start", "status": refusal.status_code}
    await send({**start, "headers": refusal.raw_headers})
    await send({"type": "http.response.body", "body": refusal.body, "more_body": True})
    await _drain(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Receive) -> None:
    drained, more = 0, True
    with anyio.move_on_after(_DRAIN_SECONDS):
        while more and drained < _DRAINED:
            message = await receive()
            drained += len(message.get("body", b""))
            more = message.get("more_body", False)
