"""What adapters share whose SDK sends with ``requests``."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from urllib3.exceptions import NewConnectionError

from worker.domain.errors import InternalError, ProviderUnavailable, TrunklineError

_LONGEST_WAIT_SECONDS: Final = 300.0
#: No answer, or half of one: the request may have been heard.
_CUT_OFF: Final = (
    requests.ConnectionError,
    requests.Timeout,
    ChunkedEncodingError,
    ContentDecodingError,
)


@lru_cache(maxsize=1)
def connections(process: int) -> HTTPAdapter:
    """Returns the connections of a process: a fork must not use its parent's.

    A session keeps cookies, so each account has its own. A connection carries nothing over from one
    request to the next, and opening one costs 15 ms of CPU for TLS: all share them.
    """
    del process
    return HTTPAdapter(pool_maxsize=256)


def unanswered(exc: requests.RequestException, *, write: bool) -> TrunklineError:
    """Names what came of a request that got no answer, or half of one. Pure."""
    refused = any(isinstance(getattr(arg, "reason", None), NewConnectionError) for arg in exc.args)
    if refused or isinstance(exc, requests.ConnectTimeout):
        return ProviderUnavailable()  # it never left this machine
    if isinstance(exc, _CUT_OFF):
        return ProviderUnavailable(outcome_unknown=write)
    return InternalError()


def parse_retry_after(header: str | None, *, now: datetime) -> float | None:
    """Returns the seconds that a Retry-After header asks for, at most five minutes. Pure."""
    if header is None:
        return None
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", header):
        seconds = float(header)
    else:
        try:
            until = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)
