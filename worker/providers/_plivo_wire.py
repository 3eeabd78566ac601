"""What lies between Plivo's SDK and the network, and what its failures mean to us."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import requests
from plivo.exceptions import ValidationError
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
from worker.providers._http import connections, parse_retry_after, unanswered
from worker.settings import Settings

#: What a 4xx or a 404 means, as whoever asked says.
Failure: TypeAlias = Callable[[], TrunklineError]

API: Final = "https://api.plivo.com"


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
        answer = connections(os.getpid()).send(request, **options)
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
    retry_after = parse_retry_after(exc.retry_after, now=now)
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
    if isinstance(exc, requests.RequestException):
        return unanswered(exc, write=write)
    if isinstance(exc, ValidationError):
        return refused()  # the SDK dislikes an argument: nothing was sent
    known = isinstance(exc, _NONSENSE)
    return ProviderUnavailable(outcome_unknown=write) if known else InternalError()
