"""Ports, and waiting for something to become true."""

from __future__ import annotations

import contextlib
import http.client
import secrets
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

LOOPBACK = "127.0.0.1"

# Below the range from which Linux takes ports for outgoing connections (32768 on): a server that is
# stopped for a while must find its port free when it comes back.
_FIRST_PORT = 20_000
_PORTS = 12_000
_POLL_SECONDS = 0.02


def is_free(port: int) -> bool:
    """Tells whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port with old connections in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(preferred: int | None = None) -> int:
    """Returns the preferred loopback port if it is free, else some free one."""
    if preferred is not None and is_free(preferred):
        return preferred
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        if is_free(port):
            return port


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Polls until the condition holds; False if it did not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def http_status(url: str, timeout_seconds: float = 2.0) -> int | None:
    """Returns the status of a GET of a plain http URL, or None while nothing answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or LOOPBACK, parts.port, timeout=timeout_seconds
    )
    with contextlib.closing(connection):
        try:
            connection.request("GET", parts.path or "/")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
