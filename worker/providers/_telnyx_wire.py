"""What lies between Telnyx's SDK and the network, and what its failures mean to us.

What is asked of Telnyx, and what a refusal means there, is up to whoever asks.

The SDK is imported when it is first used: see ``telnyx``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import structlog

from worker.domain.errors import (
    AccountSuspended,
    InsufficientPermission,
    InternalError,
    InvalidCredentials,
    NotFound,
    NumberNotActive,
    ProviderRateLimited,
    ProviderUnavailable,
    TrunklineError,
)
from worker.domain.job import Attempt
from worker.providers._core import retrying
from worker.providers._http import asked_wait
from worker.settings import Settings

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")
Sdk: TypeAlias = Any  # its types are not looked into: see pyproject.toml
#: What a 4xx or a 404 means, as whoever asked says.
Failure: TypeAlias = Callable[[], TrunklineError]

_log = structlog.get_logger()

_BASE_URL: Final = "https://api.telnyx.com/v2"
_LARGEST_PAGE: Final = 250


class Wire:
    """The way to Telnyx of one account during one attempt."""

    def __init__(self, key: str, settings: Settings, attempt: Attempt) -> None:
        self.client = _client(key, settings, attempt)
        self._attempt = attempt

    def list_all(self, listing: Callable[..., Sdk], *args: str, **filters: object) -> list[Sdk]:
        """Reads every page of a list; empty if what it is asked of is gone."""

        def every_page() -> list[Sdk]:
            pages = listing(*args, page_size=_LARGEST_PAGE, **filters).iter_pages()
            return [row for page in pages for row in rows_of(page)]

        try:
            # An id in the path may be gone; a list itself cannot.
            return self.read(every_page, missing=NotFound if args else ProviderUnavailable)
        except NotFound:
            return []

    def read(self, send: Callable[[], _T], *, missing: Failure = ProviderUnavailable) -> _T:
        """Sends a read, again on short network faults; ``missing`` is what a 404 means."""
        result: _T = retrying()(
            self._call, send, write=False, refused=InternalError, missing=missing
        )
        return result

    def write(
        self, send: Callable[[], _T], *, refused: Failure, missing: Failure = ProviderUnavailable
    ) -> _T:
        """Sends a write, once; ``refused`` is what a 4xx means, ``missing`` what a 404 does."""
        return self._call(send, write=True, refused=refused, missing=missing)

    def _call(
        self, send: Callable[[], _T], *, write: bool, refused: Failure, missing: Failure
    ) -> _T:
        try:
            return send()
        except Exception as exc:  # noqa: BLE001 -- translate sorts out what the SDK lets through
            cause = exc.__cause__
            if isinstance(cause, TrunklineError):
                error = cause  # the lease, which is asked where the SDK sees network errors only
            else:
                error = translate(
                    exc, write=write, refused=refused, missing=missing, now=datetime.now(UTC)
                )
                self._report(exc, error, write=write)
        # Out here the SDK's exception, which holds the request and its key, is not even context.
        raise error

    def _report(self, exc: Exception, error: TrunklineError, *, write: bool) -> None:
        status, code = facts(exc)
        # What is gone is often what one hopes to find gone.
        log = _log.info if status == HTTPStatus.NOT_FOUND else _log.warning
        log(
            "telnyx call failed",
            attempt=str(self._attempt),
            write=write,
            status=status,
            vendor_code=code,
            vendor_request=_headers(exc).get("x-request-id"),
            cause=type(exc.__cause__ or exc).__name__,
            error=error.code,
        )


def _client(key: str, settings: Settings, attempt: Attempt) -> Sdk:
    import httpx  # noqa: PLC0415 -- with the SDK, see above
    import telnyx  # noqa: PLC0415

    from worker.providers._telnyx_transport import Transport  # noqa: PLC0415 -- it needs httpx

    # At DEBUG it logs bodies, and with them passwords; TELNYX_LOG would ask it to.
    logging.getLogger("telnyx").setLevel(logging.WARNING)
    timeout = telnyx.Timeout(
        settings.read_timeout_seconds, connect=settings.connect_timeout_seconds
    )

    def ask_lease(_: httpx.Request) -> None:
        attempt.lease.require(settings.call_seconds)

    client = telnyx.Telnyx(
        # What is None is taken from os.environ. With a client id the SDK would log in by OAuth.
        api_key=key,
        public_key="",
        client_id="",
        client_secret="",
        base_url=settings.telnyx_api_base_url or _BASE_URL,
        # The SDK repeats a POST, too, and without an idempotency key.
        max_retries=0,
        timeout=timeout,
        http_client=httpx.Client(
            transport=Transport(attempt),
            timeout=timeout,
            # No proxy and no .netrc of the environment: credentials go to Telnyx only.
            trust_env=False,
            follow_redirects=False,
            event_hooks={"request": [ask_lease]},
        ),
    )
    # Not by the parameter, which only adds to TELNYX_CUSTOM_HEADERS of the environment.
    client._custom_headers = {"X-Trunkline-Attempt": str(attempt)}  # noqa: SLF001
    return client


#: Vendor code or, where it is not listed, HTTP status → our error. What is not listed depends on
#: what was asked. https://developers.telnyx.com/development/api-fundamentals/api-errors
ERRORS: Final = MappingProxyType[int, type[TrunklineError]](
    {
        10001: NumberNotActive,
        10007: ProviderUnavailable,
        10008: ProviderUnavailable,
        10009: InvalidCredentials,
        10010: InsufficientPermission,
        10011: ProviderRateLimited,
        401: InvalidCredentials,
        403: InsufficientPermission,
        408: ProviderUnavailable,
        429: ProviderRateLimited,
    }
)
#: No code tells a suspended account from a narrow key, only words, which are not documented either.
_SUSPENDED: Final = re.compile(
    r"account\b.*\b(suspended|disabled|blocked|closed|inactive|not active)", re.IGNORECASE
)
#: The SDK takes the shape of a 2xx for granted, so nonsense fails wherever it is first used.
_NONSENSE: Final = (ValueError, KeyError, TypeError, AttributeError)


def translate(
    exc: Exception,
    *,
    now: datetime,
    write: bool,
    refused: Failure = InternalError,
    missing: Failure = InternalError,
) -> TrunklineError:
    """Turns what the SDK raised into our error; the caller says what a 4xx and a 404 mean. Pure."""
    status, code = facts(exc)
    if status is None:
        return _unanswered(exc, write=write)
    wait = asked_wait(_headers(exc).get("retry-after"), now=now)
    kind = ERRORS.get(code or 0) or ERRORS.get(status)
    if kind is ProviderRateLimited:
        # https://developers.telnyx.com/development/api-fundamentals/rate-limiting: in seconds
        reset = asked_wait(_headers(exc).get("x-ratelimit-reset"), now=now)
        return ProviderRateLimited(retry_after=reset if wait is None else wait)
    if kind is InsufficientPermission and _SUSPENDED.search(_detail(exc)):
        return AccountSuspended()
    # A 404 without Telnyx's code comes from something in between that knows nothing of Telnyx.
    by_nobody = status == HTTPStatus.NOT_FOUND and code is None
    if kind is None and status in range(400, 500) and not by_nobody:
        return missing() if status == HTTPStatus.NOT_FOUND else refused()
    if kind is None or kind is ProviderUnavailable:
        return ProviderUnavailable(retry_after=wait, outcome_unknown=write)
    return kind()


def _unanswered(exc: Exception, *, write: bool) -> TrunklineError:
    import httpx  # noqa: PLC0415 -- with the SDK, see above
    import telnyx  # noqa: PLC0415

    cause = exc.__cause__ if isinstance(exc, telnyx.APIConnectionError) else exc
    # The key does not go into a header, which is built before anything is sent.
    if isinstance(cause, httpx.LocalProtocolError | UnicodeEncodeError):
        return InvalidCredentials()
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return ProviderUnavailable()  # it never left this machine
    known = isinstance(cause, (httpx.RequestError, telnyx.APIResponseValidationError, *_NONSENSE))
    return ProviderUnavailable(outcome_unknown=write) if known else InternalError()


def facts(exc: Exception) -> tuple[int | None, int | None]:
    """Returns HTTP status and vendor code, as far as the exception knows them. Pure."""
    status = getattr(exc, "status_code", None)
    code = str(_first_error(exc).get("code") or "")
    return (
        status if isinstance(status, int) and status >= HTTPStatus.MULTIPLE_CHOICES else None,
        int(code) if code.isascii() and code.isdigit() else None,
    )


def _first_error(exc: Exception) -> Mapping[str, object]:
    match getattr(exc, "body", None):
        case {"errors": [dict() as first, *_]}:
            return first
        case _:
            return {}


def _detail(exc: Exception) -> str:
    return str(_first_error(exc).get("detail") or "")


def _headers(exc: Exception) -> Mapping[str, str]:
    return getattr(getattr(exc, "response", None), "headers", None) or {}


def rows_of(page: Sdk) -> list[Sdk]:
    """Lets a list through; anything else would pass for an empty one, but is no answer."""
    rows = page.data
    if not isinstance(rows, list) or not all(row.id for row in rows):
        raise TypeError("an answer that lists nothing")
    return rows


def real(answer: Sdk, found: str | None = None) -> Sdk:
    """Lets an object with an id through, or the very one; anything else is no answer."""
    row = answer.data
    if not row.id or found not in (None, str(row.id)):
        raise ValueError("an answer about nothing, or about something else")
    return row
