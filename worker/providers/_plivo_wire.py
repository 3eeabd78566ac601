"""What lies between Plivo's SDK and the network, and what its failures mean to us.

How a request is sent, repeated and logged, how a list is read to its end, which of our errors an
answer is. What is asked, and what a refusal of it means, is left to the callers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

import requests
import structlog
from requests.adapters import BaseAdapter

from worker.domain.errors import (
    InsufficientPermission,
    InternalError,
    InvalidCredentials,
    ProviderRateLimited,
    ProviderUnavailable,
    TrunklineError,
)
from worker.domain.job import Attempt
from worker.providers._core import retrying
from worker.providers._http import asked_wait, connections, unanswered
from worker.settings import Settings
from worker.vendor_calls import observed

#: What a 4xx or a 404 means, as whoever asked says.
Failure: TypeAlias = Callable[[], TrunklineError]

Sdk: TypeAlias = Any  # the SDK ships no types
_T = TypeVar("_T")

# Under the adapter's name: who reads logs asks for the provider.
_log = structlog.get_logger("worker.providers.plivo")

API: Final = "https://api.plivo.com"
LARGEST_PAGE: Final = 20


class Refused(Exception):
    """An answer that is no success: the SDK would keep little of it but a text."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(answer.status_code)
        self.status = answer.status_code
        self.retry_after = answer.headers.get("Retry-After")
        document = None
        with suppress(ValueError):
            document = json.loads(answer.content)
        #: Else it comes from something in between that knows nothing of Plivo.
        self.is_plivos = isinstance(document, dict)
        self.request = str(document.get("api_id", "")) if isinstance(document, dict) else ""


class Wire(BaseAdapter):
    """The way to Plivo: our lease and our name on every request, no answer without sense."""

    def __init__(self, settings: Settings, attempt: Attempt) -> None:
        super().__init__()
        self._base = settings.plivo_api_base_url or API
        self._call_seconds = settings.call_seconds
        self._attempt = attempt

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]  # noqa: ANN401 -- all options are passed on
        """Sends one request, if the lease outlives it; follows no redirect.

        Raises:
            Refused: an answer that is no success.
            ValueError: a success that says nothing; the SDK would make a None of it.
        """
        self._attempt.lease.require(self._call_seconds)
        request.headers["X-Trunkline-Attempt"] = str(self._attempt)
        request.url = f"{self._base}{str(request.url).removeprefix(API)}"
        method = str(request.method)
        with observed(self._attempt, "plivo", method=method, url=request.url) as call:
            answer = connections(os.getpid()).send(request, **options)
            call.status = answer.status_code
        # Read before anything is raised: else its connection is never given back.
        content = answer.content
        if answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise Refused(answer)
        gone = request.method == "DELETE" and answer.status_code == HTTPStatus.NO_CONTENT
        if not gone and not isinstance(json.loads(content), dict):
            raise ValueError("an answer about nothing")
        return answer

    def close(self) -> None:
        """Does nothing: the connections are the process's."""


#: HTTP status → our error; Plivo has no codes. What is not listed depends on what was asked.
ERRORS: Final = MappingProxyType[int, type[TrunklineError]](
    {
        401: InvalidCredentials,
        403: InsufficientPermission,
        408: ProviderUnavailable,
        429: ProviderRateLimited,
    }
)
#: The SDK takes the shape of a success for granted, so nonsense fails wherever it is first used.
_NONSENSE: Final = (ValueError, KeyError, TypeError, AttributeError)


def translate(
    exc: Exception,
    *,
    write: bool,
    now: datetime,
    refused: Failure = InternalError,
    missing: Failure = InternalError,
) -> TrunklineError:
    """Turns what a call raised into our error; the caller says what a 4xx and a 404 mean. Pure."""
    if not isinstance(exc, Refused):
        return _without_status(exc, write=write, refused=refused)
    kind = ERRORS.get(exc.status)
    retry_after = asked_wait(exc.retry_after, now=now)
    if kind is ProviderRateLimited:
        return ProviderRateLimited(retry_after=retry_after)
    if kind is None and exc.status == HTTPStatus.NOT_FOUND and exc.is_plivos:
        return missing()
    if kind is None and exc.status in range(400, 500) and exc.status != HTTPStatus.NOT_FOUND:
        return refused()
    if kind is None or kind is ProviderUnavailable:
        return ProviderUnavailable(retry_after=retry_after, outcome_unknown=write)
    return kind()


def _without_status(exc: Exception, *, write: bool, refused: Failure) -> TrunklineError:
    from plivo.exceptions import ValidationError  # noqa: PLC0415 -- see plivo.py

    if isinstance(exc, requests.RequestException):
        return unanswered(exc, write=write)
    if isinstance(exc, ValidationError):
        return refused()  # the SDK dislikes an argument: nothing was sent
    known = isinstance(exc, _NONSENSE)
    return ProviderUnavailable(outcome_unknown=write) if known else InternalError()


class Calls:
    """Sends what an adapter asks of one account, and lets only our errors out."""

    def __init__(self, client: Sdk, attempt: Attempt) -> None:
        self.client = client
        self._attempt = attempt

    def read(self, send: Callable[[], _T], *, missing: Failure = InternalError) -> _T:
        """Sends a read, again after a short fault of the network."""
        result: _T = retrying()(
            self._call, send, write=False, refused=InternalError, missing=missing
        )
        return result

    def write(
        self, send: Callable[[], _T], *, refused: Failure, missing: Failure = ProviderUnavailable
    ) -> _T:
        """Sends a write once."""
        return self._call(send, write=True, refused=refused, missing=missing)

    def _call(
        self, send: Callable[[], _T], *, write: bool, refused: Failure, missing: Failure
    ) -> _T:
        try:
            return send()
        except TrunklineError:
            raise
        except Exception as exc:  # noqa: BLE001 -- translate sorts out what the SDK lets through
            error = translate(
                exc, write=write, refused=refused, missing=missing, now=datetime.now(UTC)
            )
            status, request = (exc.status, exc.request) if isinstance(exc, Refused) else (None, "")
            # What is gone is often what one hopes to find gone.
            log = _log.info if status == HTTPStatus.NOT_FOUND else _log.warning
            log(
                "plivo call failed",
                attempt=str(self._attempt),
                write=write,
                status=status,
                vendor_request=request,
                cause=type(exc).__name__,
                error=error.code,
            )
        # Out here the SDK's exception, which holds the request and its login, is not even context.
        raise error

    def list_all(
        self, path: tuple[str, ...], pick: Callable[[Sdk], _T], **filters: str
    ) -> list[_T]:
        """Returns what is picked of every row, the oldest first, as far as Plivo's order goes."""
        found: dict[_T, None] = {}
        query: dict[str, object] | None = {**filters, "limit": LARGEST_PAGE, "offset": 0}
        while query is not None:
            send = partial(self.page, path, query, pick)
            rows, following = self.read(send, missing=ProviderUnavailable)
            # A row that moved to the next page meanwhile is there twice.
            found |= dict.fromkeys(rows)
            query = following if following != query else None  # a cursor that stands still
        return list(reversed(found))

    def page(
        self, path: tuple[str, ...], query: Mapping[str, object], pick: Callable[[Sdk], _T]
    ) -> tuple[list[_T], dict[str, object] | None]:
        """Returns what is picked of one page's rows, and the query of the next, if there is one."""
        answer = self.client.request("GET", path, dict(query))
        following = urlsplit(answer.meta.next or "").query
        # It holds an offset or a cursor, which does not go together with our offset.
        rest = {name: value for name, value in query.items() if name != "offset"}
        return (
            [pick(row) for row in answer.objects],
            {**rest, **dict(parse_qsl(following))} if following else None,
        )


def filled(answer: Sdk, name: str) -> str:
    """Lets only an answer that says this through."""
    value = getattr(answer, name)
    if not value:
        raise ValueError("an answer about nothing")
    return str(value)


def real(answer: Sdk, name: str, value: str) -> Sdk:
    """Lets only an answer about the very thing through."""
    if str(getattr(answer, name)).removeprefix("+") != value:
        raise ValueError("an answer about something else")
    return answer
