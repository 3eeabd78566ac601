"""What adapters share whose SDK sends with ``requests``."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from urllib3.exceptions import NewConnectionError

from worker.domain.errors import InternalError, ProviderUnavailable, TrunklineError
from worker.outward import parse_retry_after

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


def asked_wait(header: str | None, *, now: datetime) -> float | None:
    """Returns the seconds that a Retry-After header asks for, at most five minutes. Pure."""
    seconds = parse_retry_after(header, now=now)
    return None if seconds is None else min(seconds, _LONGEST_WAIT_SECONDS)
