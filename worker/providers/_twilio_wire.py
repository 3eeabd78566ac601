"""What lies between Twilio's SDK and the network, and what its failures mean to us.

Here are the client that sends, the calls made with it, the table of errors and the check of an
answer. What to ask for, and what a refusal means there, is left to whoever asks.

The SDK loads a product's resources when they are first used: its import costs a process 6 MB and
30 ms, what the adapter uses of it 8 MB more, so it stands at the top like any other.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar

import requests
import structlog
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from worker.domain.errors import (
    AccountSuspended,
    InsufficientPermission,
    InternalError,
    InvalidCredentials,
    ProviderRateLimited,
    ProviderUnavailable,
    SipTrunkProvisionFailed,
    TrunklineError,
)
from worker.domain.job import Attempt
from worker.providers._core import retrying
from worker.providers._http import asked_wait, connections, unanswered
from worker.settings import Settings
from worker.vendor_calls import observed

Sdk: TypeAlias = Any  # the SDK ships no types
#: What a 4xx or a 404 means, as whoever asked says.
Failure: TypeAlias = Callable[[], TrunklineError]

_T = TypeVar("_T")

_log = structlog.get_logger()

_NOT_FOUND_CODE: Final = 20404
#: https://www.twilio.com/docs/api/errors/21481
INVALID_PAGE: Final = 21481


class Http(TwilioHttpClient):  # type: ignore[misc] # the SDK ships no types
    """The SDK's HTTP client with our limits, our lease and our name on every request."""

    def __init__(self, settings: Settings, attempt: Attempt) -> None:
        # The SDK logs URLs, and with them phone numbers, at INFO.
        silent = logging.Logger("silent", level=logging.CRITICAL)  # noqa: LOG001 -- of no tree
        super().__init__(logger=silent)
        # The SDK's own parameter takes one number; requests takes this.
        self.timeout = (settings.connect_timeout_seconds, settings.read_timeout_seconds)
        self._call_seconds = settings.call_seconds
        self._attempt = attempt
        #: Of the last answer: the SDK's exceptions drop the headers.
        self.retry_after: str | None = None
        self.request_id: str | None = None
        # No proxy and no .netrc of the environment: credentials go to Twilio only.
        self.session.trust_env = False
        for scheme in ("https://", "http://"):
            self.session.mount(scheme, connections(os.getpid()))

    def request(
        self,
        method: str,
        url: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        **rest: object,
    ) -> Response:
        """Sends one request, if the lease outlives it."""
        self.retry_after = self.request_id = None
        self._attempt.lease.require(self._call_seconds)
        headers = {**(headers or {}), "X-Trunkline-Attempt": str(self._attempt)}
        with observed(self._attempt, "twilio", method=method, url=url) as call:
            answer = super().request(method, url, params, data, headers, **rest)
            call.status = answer.status_code
        self.retry_after = answer.headers.get("Retry-After")
        self.request_id = answer.headers.get("Twilio-Request-Id")
        # The SDK takes an empty answer for a success, and to a deletion any answer.
        no_content = answer.status_code == HTTPStatus.NO_CONTENT
        if answer.ok and not no_content and (method == "DELETE" or not answer.text):
            json.loads(answer.text)
        return answer


def log_in(user: str, secret: str, account_sid: str, http: Http, settings: Settings) -> Sdk:
    """Returns the SDK's client for an account; makes no call."""
    client = Client(
        user,
        secret,
        account_sid,
        http_client=http,
        # Not empty: the SDK would take an empty mapping for None and read os.environ.
        environment={"_": ""},
        user_agent_extensions=["trunkline"],
    )
    client.api.base_url = settings.twilio_api_base_url or client.api.base_url
    return client


class Calls:
    """Calls of the SDK during one attempt: whatever it raises, ours comes out."""

    def __init__(self, http: Http, attempt: Attempt) -> None:
        self._http = http
        self._attempt = attempt

    def read(
        self,
        send: Callable[[], _T],
        *,
        refused: Failure = InternalError,
        missing: Failure = InternalError,
    ) -> _T:
        """Makes a call that changes nothing, again where that may help."""
        result: _T = retrying()(self._call, send, write=False, refused=refused, missing=missing)
        return result

    def write(
        self,
        send: Callable[[], _T],
        *,
        refused: Failure = SipTrunkProvisionFailed,
        missing: Failure = ProviderUnavailable,
    ) -> _T:
        """Makes a call that changes something, once."""
        return self._call(send, write=True, refused=refused, missing=missing)

    def _call(
        self, send: Callable[[], _T], *, write: bool, refused: Failure, missing: Failure
    ) -> _T:
        try:
            return send()
        except TrunklineError:
            raise
        except Exception as exc:  # noqa: BLE001 -- translate sorts out what the SDK lets through
            status, code = facts(exc)
            retry_after = asked_wait(self._http.retry_after, now=datetime.now(UTC))
            error = translate(
                exc, write=write, refused=refused, missing=missing, retry_after=retry_after
            )
            # What is gone is often what one hopes to find gone.
            log = _log.info if code == _NOT_FOUND_CODE else _log.warning
            log(
                "twilio call failed",
                attempt=str(self._attempt),
                write=write,
                status=status,
                vendor_code=code,
                vendor_request=self._http.request_id,
                cause=type(exc).__name__,
                error=error.code,
            )
        # Out here the SDK's exception, which holds the request and its login, is not even context.
        raise error


_TOO_MANY: Final = (
    "The Twilio account has as many SIP trunks or credential lists as it may have. Delete one, or "
    "ask Twilio for more."
)
#: Vendor code or, where it is not listed, HTTP status → our error, and its sentence if its own says
#: too little. What is not listed depends on what was asked.
ERRORS: Final = MappingProxyType[int, tuple[type[TrunklineError], str]](
    {
        10001: (AccountSuspended, ""),
        10002: (
            InsufficientPermission,
            "A Twilio trial account may not do this. Upgrade it first.",
        ),
        20005: (AccountSuspended, ""),
        20008: (InvalidCredentials, "These are Twilio test credentials. Use the live ones."),
        20429: (ProviderRateLimited, ""),
        21239: (SipTrunkProvisionFailed, _TOO_MANY),
        21244: (SipTrunkProvisionFailed, _TOO_MANY),
        INVALID_PAGE: (
            ProviderUnavailable,
            "",
        ),  # a page's token is stale: the list changed meanwhile
        70051: (InsufficientPermission, ""),
        90010: (AccountSuspended, ""),
        401: (InvalidCredentials, ""),
        403: (InsufficientPermission, ""),
        408: (ProviderUnavailable, ""),
        429: (ProviderRateLimited, ""),
    }
)
#: The SDK takes the shape of a 2xx for granted, so nonsense fails wherever it is first used.
_NONSENSE: Final = (ValueError, KeyError, TypeError, AttributeError)


def translate(
    exc: Exception,
    *,
    write: bool,
    refused: Failure = InternalError,
    missing: Failure = InternalError,
    retry_after: float | None = None,
) -> TrunklineError:
    """Turns what the SDK raised into our error; the caller says what a 4xx and a 404 mean. Pure."""
    status, code = facts(exc)
    if status is None:
        return _without_status(exc, write=write)
    kind, sentence = ERRORS.get(code or 0) or ERRORS.get(status) or (None, "")
    if kind is ProviderRateLimited:
        # "Never processed and always safe to retry": https://www.twilio.com/docs/api/errors/20429
        return ProviderRateLimited(retry_after=retry_after)
    if kind is None and code == _NOT_FOUND_CODE:
        return missing()
    # A 404 without Twilio's code comes from something in between that knows nothing of Twilio.
    if kind is None and status in range(400, 500) and status != HTTPStatus.NOT_FOUND:
        return refused()
    if kind is None or kind is ProviderUnavailable:
        return ProviderUnavailable(retry_after=retry_after, outcome_unknown=write)
    return kind(sentence)


def _without_status(exc: Exception, *, write: bool) -> TrunklineError:
    if isinstance(exc, requests.RequestException):
        return unanswered(exc, write=write)
    known = isinstance(exc, _NONSENSE)
    if isinstance(exc, TwilioException):
        known = "deserialized" in str(exc)
    return ProviderUnavailable(outcome_unknown=write) if known else InternalError()


def facts(exc: Exception) -> tuple[int | None, int | None]:
    """Returns HTTP status and vendor code, as far as the exception knows them. Pure."""
    if isinstance(exc, TwilioRestException | TwilioServiceException):
        return _whole_number(exc.status), _whole_number(exc.code)
    match exc:
        case TwilioException(args=(_, Response() as answer)):
            # Of a list call; only its second argument tells what happened.
            with suppress(ValueError, AttributeError):
                return answer.status_code, _whole_number(json.loads(answer.text).get("code"))
            return answer.status_code, None
        case _:
            return None, None


def _whole_number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def real(row: Sdk, sid: str | None = None) -> Sdk:
    """Lets an object with an id through, or the very one; anything else is no answer."""
    if not row.sid or sid not in (None, row.sid):
        raise ValueError("an answer about nothing, or about something else")
    return row


def text(value: object) -> str:
    """Returns a setting as we keep it: "" for unset, "true" and "false" for flags. Pure."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
