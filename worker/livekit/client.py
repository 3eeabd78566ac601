"""How one request reaches LiveKit: the event loop, the session, the limits, and what answers mean.

The SDK is asynchronous and has no timeout that works. All calls of a process run on one loop, on a
thread of its own, and share its connections. What to ask for is :mod:`worker.livekit`'s business.

https://docs.livekit.io/reference/telephony/sip-api/
"""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from concurrent.futures import CancelledError, wait
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import PurePath
from traceback import extract_tb
from typing import TYPE_CHECKING, Final, NamedTuple, ParamSpec, TypeVar

import structlog
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from worker.domain.errors import (
    InternalError,
    LiveKitMisconfigured,
    LiveKitUnavailable,
    SipTrunkProvisionFailed,
    TrunkConflict,
    TrunklineError,
)
from worker.domain.job import Attempt
from worker.domain.values import SipLogin
from worker.settings import Settings
from worker.vendor_calls import observed

if TYPE_CHECKING:
    import aiohttp
    from google.protobuf import message as protobuf
    from livekit import api
    from livekit.api.sip_service import SipService


class Lazy:
    """Imports a module when it is first used: the SDK takes 155 ms and 31 MB."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        return getattr(import_module(self._name), attribute)


if not TYPE_CHECKING:
    aiohttp = Lazy("aiohttp")
    protobuf = Lazy("google.protobuf.message")
    api = Lazy("livekit.api")

_log: Final = structlog.get_logger(__name__)

_TRIES: Final = 3
_LONGEST_RETRY_WAIT: Final = 0.5
#: What a waiting thread grants the loop beyond one call: a wait between two tries, and delay.
_SLACK_SECONDS: Final = 1.5
_CLOSE_SECONDS: Final = 2.0


class Vanished(LiveKitUnavailable):
    """The object is gone: done for a delete, worth another look for the rest."""

    sentence = "A LiveKit object disappeared while it was being set up; it is being set up again."


class _Row(NamedTuple):
    """Answers of one kind and our error for them; "" stands for any code or text."""

    statuses: Collection[int]
    code: str
    text: str
    error: Callable[[], TrunklineError]


_NO_SIP: Final = (
    "LiveKit runs without SIP. The operator must connect its SIP service, which needs Redis."
)
_REFUSED: Final = (
    "LiveKit refused the SIP settings. Check the address, the allowed addresses and the login."
)
#: What an answer means; the first row that fits wins. A conflict has the code of any invalid
#: request, so its text tells: https://github.com/livekit/protocol/blob/main/sip/sip.go
ANSWERS: Final = (
    # The server runs without Redis: https://docs.livekit.io/transport/self-hosting/sip-server/
    _Row(range(600), "", "sip not connected", partial(LiveKitMisconfigured, _NO_SIP)),
    _Row(range(600), "unimplemented", "", LiveKitMisconfigured),
    _Row(range(600), "bad_route", "", LiveKitMisconfigured),
    _Row((401, 403), "", "", LiveKitMisconfigured),
    _Row((404,), "not_found", "", Vanished),
    _Row((404,), "", "", LiveKitMisconfigured),
    _Row((400,), "", "conflicting inbound sip trunks", TrunkConflict),
    _Row((400,), "", "dispatch rule for the same trunk", TrunkConflict),
    _Row((400,), "invalid_argument", "", partial(SipTrunkProvisionFailed, _REFUSED)),
    # Below 400: no answer of Twirp's; something else stands where LiveKit should.
    _Row((*range(400), 408, 409, 429, *range(500, 600)), "", "", LiveKitUnavailable),
    _Row(range(1000), "", "", InternalError),
)


def translate(
    error: BaseException, *, write: bool, retry_after: float | None = None
) -> TrunklineError:
    """Turns what the SDK raised into our error; the outcome of an unanswered write is unknown."""
    if isinstance(error, api.ServerError):
        text = str(error.message).lower()
        make = next(
            row.error
            for row in ANSWERS
            if error.status in row.statuses and row.code in ("", error.code) and row.text in text
        )
        if make is not LiveKitUnavailable:
            return make()
        refused = error.status == 429  # noqa: PLR2004 -- "too many requests": certainly not done
        return LiveKitUnavailable(retry_after=retry_after, outcome_unknown=write and not refused)
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return LiveKitMisconfigured()
    if isinstance(error, aiohttp.ClientConnectorError):
        return LiveKitUnavailable()
    if isinstance(error, (OSError, aiohttp.ClientError, protobuf.DecodeError)):
        return LiveKitUnavailable(outcome_unknown=write)
    return InternalError()


def redact(text: str, secrets: Iterable[str]) -> str:
    """Returns a vendor's text for the log: without our secrets, numbers and quoted values."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "…")
    return re.sub(r'"[^"]*"|\+?\d[\d() -]{2,}\d', "…", text)[:200]


@dataclass
class _Call:
    """One request: what it carries, and what becomes known of it on its way."""

    attempt: Attempt
    read_seconds: float
    limit: asyncio.Timeout | None = None
    sent: bool = False
    status: int | None = None
    retry_after: float | None = None

    def begin(self, limit: asyncio.Timeout) -> None:
        """Forgets an earlier try."""
        self.limit, self.sent, self.status, self.retry_after = limit, False, None, None

    def may_repeat(self, error: BaseException, *, write: bool) -> bool:
        """Whether it is worth another try within a second; never if a write may have arrived."""
        if self.retry_after is not None or (write and self.sent):
            return False
        if isinstance(error, api.ServerError):
            return error.status >= 500  # noqa: PLR2004 -- the server's own fault
        # A timeout is none of these: it was no short fault.
        return isinstance(error, (aiohttp.ClientError, protobuf.DecodeError))


_CALL: ContextVar[_Call] = ContextVar("livekit_call")


async def _note_sent(*_: object) -> None:
    """Swaps the connect timeout for the read timeout, just before the first byte is written."""
    call = _CALL.get()
    call.sent = True
    assert call.limit is not None
    with suppress(RuntimeError):  # it has run out at this very moment
        call.limit.reschedule(asyncio.get_running_loop().time() + call.read_seconds)


async def _label(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Adds our header to a request, and looks at what the SDK ignores of the answer."""
    call = _CALL.get()
    request.headers["X-Trunkline-Attempt"] = str(call.attempt)
    url = str(request.url)
    with observed(call.attempt, "livekit", method=request.method, url=url) as seen:
        response = await send(request)
        call.status = seen.status = response.status
    if (seconds := response.headers.get("Retry-After", "")).isdecimal():
        call.retry_after = float(seconds)
    if 300 <= response.status < 400:  # noqa: PLR2004 -- redirections
        response.close()
        # Following it would hand the SIP password to another place.
        raise api.ServerError("bad_route", "redirect", status=response.status)
    if response.status == 200 and response.content_type != "application/protobuf":  # noqa: PLR2004
        response.close()
        # An empty body would decode to "there is none", which this answer does not say.
        raise protobuf.DecodeError("not protobuf")
    return response


class _Loop:
    """The event loop of this process on its thread, and the session that all calls share."""

    def __init__(self) -> None:
        import_module("livekit.api")  # here, since on the loop it would hold up everybody's calls
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="livekit", daemon=True)
        self._thread.start()
        self.session = asyncio.run_coroutine_threadsafe(self._open(), self.loop).result()

    async def _open(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_sent)
        return aiohttp.ClientSession(
            # The worker's own concurrency is the limit: waiting here would eat the connect timeout.
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_label,),
            trace_configs=[trace],
        )

    def close(self) -> None:
        """Cuts off what is under way and ends the thread, or leaves it if it hangs."""
        wait([asyncio.run_coroutine_threadsafe(self._drain(), self.loop)], _CLOSE_SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            self.loop.close()

    async def _drain(self) -> None:
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self.session.close()


class _Process:
    """Holds this process's loop, which is made at first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        self._parents: list[_Loop] = []

    def loop(self) -> _Loop:
        with self._lock:
            self._loop = self._loop or _Loop()
            return self._loop

    def close(self) -> None:
        """Closes the connections; the next call opens new ones."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def forked(self) -> None:
        """Starts afresh in a child, which has a copy of the loop but not its thread.

        The copy is kept and not closed: its sockets are the parent's, too.
        """
        self._parents += [self._loop] if self._loop else []
        self._lock, self._loop = threading.Lock(), None


PROCESS: Final = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PROCESS.forked)
#: Closes this process's connections to LiveKit; exit does it, too.
close: Final = atexit.register(PROCESS.close)

P = ParamSpec("P")
T = TypeVar("T")


class Client:
    """Sends the requests of one attempt: in its lease, in time, under its name, with our errors."""

    def __init__(self, settings: Settings, attempt: Attempt) -> None:
        self._settings = settings
        self._attempt = attempt
        self._begun = 0
        self._secrets = {settings.livekit_api_secret.get_secret_value()}

    def hide(self, login: SipLogin | None) -> None:
        """Keeps a password out of the log, in case LiveKit quotes it."""
        self._secrets |= {login.password} if login else set()

    def wait_for(self, work: Coroutine[object, object, T]) -> T:
        """Lets this thread wait for work on the loop, while call follows call in time."""
        future = asyncio.run_coroutine_threadsafe(work, PROCESS.loop().loop)
        try:
            begun = -1
            while begun != self._begun:
                begun = self._begun
                if wait([future], self._settings.call_seconds + _SLACK_SECONDS).done:
                    return future.result()
        except CancelledError:  # by close()
            pass
        finally:
            future.cancel()
        raise LiveKitUnavailable(outcome_unknown=True)

    async def call(self, send: Callable[[SipService], Awaitable[T]], *, write: bool = False) -> T:
        """Sends one request; again after a short fault, but a write only if it never left."""
        call = _Call(self._attempt, self._settings.read_timeout_seconds)
        _CALL.set(call)

        async def once() -> T:
            self._attempt.lease.require(self._settings.call_seconds)
            self._begun += 1
            sip = self._sip()
            # The SDK's own timeout does not work: it hands aiohttp an explicit None.
            async with asyncio.timeout(self._settings.connect_timeout_seconds) as limit:
                call.begin(limit)
                return await send(sip)

        tries = AsyncRetrying(
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_RETRY_WAIT),
            retry=retry_if_exception(lambda error: call.may_repeat(error, write=write)),
            reraise=True,
        )
        try:
            return await tries(once)
        except TrunklineError:
            raise
        except Exception as error:  # noqa: BLE001 -- no exception of the SDK leaves
            failure = self._failure(error, call, write=write and call.sent)
        raise failure  # out here it has no context, which could quote a password

    def _sip(self) -> SipService:
        url, key = self._settings.livekit_url, self._settings.livekit_api_key
        secret = self._settings.livekit_api_secret.get_secret_value()
        if not (url and key and secret):
            raise LiveKitMisconfigured  # the SDK would look into the environment
        session = PROCESS.loop().session
        try:
            # failover=False, because it repeats writes.
            return api.LiveKitAPI(url, key, secret, session=session, failover=False).sip
        except ValueError:
            raise LiveKitMisconfigured from None

    def _failure(self, error: Exception, call: _Call, *, write: bool) -> TrunklineError:
        failure = translate(error, write=write, retry_after=call.retry_after)
        answer = error if isinstance(error, api.ServerError) else None
        if answer is None and isinstance(failure, InternalError) and call.status is not None:
            # The SDK stumbles over an error body that is JSON but no object.
            answer = api.ServerError("unknown", "", status=call.status)
            failure = translate(answer, write=write, retry_after=call.retry_after)
        if isinstance(failure, Vanished):  # nothing to look into
            return failure
        where = extract_tb(error.__traceback__)[-1]
        _log.warning(
            "livekit call failed",
            attempt=str(self._attempt),
            code=failure.code,
            outcome_unknown=getattr(failure, "outcome_unknown", False),
            error=type(error).__name__,
            where=f"{PurePath(where.filename).name}:{where.lineno}",
            status=call.status,
            said=redact(f"{answer.code}: {answer.message}", self._secrets) if answer else "",
        )
        return failure
