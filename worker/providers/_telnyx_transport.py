"""What httpx sends Telnyx's requests with; imported with the SDK, when it is first used."""

from __future__ import annotations

import os
from functools import lru_cache

import httpx

from worker.domain.job import Attempt
from worker.vendor_calls import observed


class Transport(httpx.BaseTransport):
    """The connections of the process, for the requests of one attempt.

    A client keeps cookies, so each account has its own. Connections carry nothing over from one
    request to the next: all share them. So closing a client leaves them open.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._shared = _connections(os.getpid())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request, and observes it."""
        url = str(request.url)
        with observed(self._attempt, "telnyx", method=request.method, url=url) as call:
            answer = self._shared.handle_request(request)
            call.status = answer.status_code
            return answer


@lru_cache(maxsize=1)
def _connections(process: int) -> httpx.BaseTransport:
    """Returns the connections of a process: a fork must not use its parent's."""
    del process
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=32)
    return httpx.HTTPTransport(trust_env=False, limits=limits)
