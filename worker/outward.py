"""Requests to addresses that customers name: they reach the public internet and nothing else.

A customer's URL must not make us talk to our own network. The name is resolved once, every address
it has is vetted, and the connection goes to exactly those addresses, with the name in the Host
header and the TLS handshake: a name that answers differently a second time changes nothing. No
redirect is followed and no proxy of the environment is used.

What may be called: https on port 443 or any port from 1024 on; the ports between belong to mail,
DNS and other services that must never see a line of ours.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import httpcore

from worker.addresses import (
    Address,
    NotReached,
    Resolver,
    TooSlow,
    ask_dns,
    ask_system,
    is_inside_name,
    is_public,
    read_literal,
    resolve,
)
from worker.domain.errors import InvalidRequest

#: From the first byte of the DNS question to the last one of the answer.
TOTAL_SECONDS: Final = 10.0
#: How long a submit waits for the DNS; delivery asks again anyway.
_VET_SECONDS: Final = 2.0
_LONGEST_URL: Final = 2048
_LONGEST_BODY_READ: Final = 4096
_HTTPS: Final = 443
_FIRST_FREE_PORT: Final = 1024
_DEFAULT_PORTS: Final = {"https": _HTTPS, "http": 80}
#: One parser, and nothing in the URL that another one might read differently.
_PLAIN: Final = re.compile(r"[!-~]+")
#: No empty label, and a last one that no resolver takes for a part of an IPv4 address (127.1).
_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the other side answered; its body is nobody's business."""

    status: int
    retry_after: str | None


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a URL leads, read once."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)
    literal: Address | None

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def vet_url(
    url: str, *, allow_loopback: bool, look_up: bool, resolver: Resolver | None = None
) -> None:
    """Checks a URL that a customer wants to be called at.

    ``look_up`` also asks the DNS, or the given resolver; a name that is not there right now passes,
    as delivery looks again each time.

    Raises:
        InvalidRequest: it cannot be called, or leads to an address that is not public.

    Safe to repeat: yes.
    """
    place = _read(url, allow_loopback=allow_loopback)
    addresses: Iterable[Address] = () if place.literal is None else (place.literal,)
    if look_up and place.literal is None:
        with contextlib.suppress(NotReached):
            deadline = time.monotonic() + _VET_SECONDS
            addresses = resolve(place.host, deadline, resolver or _resolver(allow_loopback))
    for address in addresses:
        _require_allowed(place, address, allow_loopback=allow_loopback)


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allow_loopback: bool,
    timeout_seconds: float = TOTAL_SECONDS,
    trust: ssl.SSLContext | None = None,
    resolver: Resolver | None = None,
) -> Reply:
    """Sends one POST and returns how it was answered, whatever the status.

    ``timeout_seconds`` bounds all of it, also against an answer that trickles. ``trust`` replaces
    the public certificate authorities, ``resolver`` the DNS.

    Raises:
        InvalidRequest: the URL may not be called.
        NotReached: no answer came; TooSlow if the time ran out.

    Safe to repeat: as far as the receiver makes it so.
    """
    deadline = time.monotonic() + timeout_seconds
    place = _read(url, allow_loopback=allow_loopback)
    if place.literal is not None:
        addresses = [place.literal]
    else:
        addresses = resolve(place.host, deadline, resolver or _resolver(allow_loopback))
    for address in addresses:
        _require_allowed(place, address, allow_loopback=allow_loopback)
    complete = {
        "Host": place.host_header,
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    request = httpcore.Request(
        "POST",
        httpcore.URL(
            scheme=place.scheme.encode(),
            host=place.host.encode(),
            port=place.port,
            target=place.target.encode(),
        ),
        headers=list(complete.items()),
        content=body,
    )
    backend = _VettedBackend(addresses, deadline)
    context = trust or _public_authorities()
    try:
        with httpcore.ConnectionPool(context, network_backend=backend) as pool:
            response = pool.handle_request(request)
            with contextlib.closing(response):
                return _reply(response)
    except httpcore.TimeoutException:
        raise TooSlow(f"There was no answer within {timeout_seconds:g} seconds.") from None
    except httpcore.ConnectError as error:
        raise NotReached(_why_not_connected(error.args[0])) from None
    except httpcore.ProtocolError:
        raise NotReached("The answer was not HTTP, or was cut off.") from None
    except httpcore.NetworkError:
        raise NotReached("The connection was cut before an answer came.") from None


def _reply(response: httpcore.Response) -> Reply:
    # A receiver that still writes when we hang up may count its own answer as failed: the first few
    # KiB are let through. What has gone wrong by then changes no status.
    read = 0
    with contextlib.suppress(
        httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError
    ):
        for part in response.iter_stream():
            read += len(part)
            if read >= _LONGEST_BODY_READ:
                break
    found = {name.lower(): value for name, value in response.headers}
    retry_after = found.get(b"retry-after")
    return Reply(
        status=response.status,
        retry_after=None if retry_after is None else retry_after.decode("latin-1"),
    )


@lru_cache(maxsize=1)
def _public_authorities() -> ssl.SSLContext:
    return httpcore.default_ssl_context()


def _why_not_connected(cause: OSError) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"The TLS certificate was not accepted: {cause.verify_message}."
    if isinstance(cause, ssl.SSLError):
        return "The TLS handshake failed."
    if isinstance(cause, ConnectionRefusedError):
        return "The connection was refused."
    return "No connection could be made."


def parse_retry_after(header: str | None, *, now: datetime) -> float | None:
    """Returns the seconds that a Retry-After header asks for; None if it cannot be read. Pure.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after, and fractions, which some vendors send.
    """
    if header is None:
        return None
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", header):
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds())


# Where it may go


def _resolver(allow_loopback: bool) -> Resolver:  # noqa: FBT001 -- the setting itself
    # Names on loopback are this machine's own.
    return ask_system if allow_loopback else ask_dns


def _require_allowed(place: _Place, address: Address, *, allow_loopback: bool) -> None:
    if allow_loopback and address.is_loopback:
        return
    if not is_public(address):
        raise InvalidRequest("callback_url must not lead to a private or reserved address.")
    if place.scheme != "https":
        raise InvalidRequest("callback_url must begin with https://.")
    if place.port != _HTTPS and place.port < _FIRST_FREE_PORT:
        raise InvalidRequest("callback_url must use port 443 or one from 1024 on.")


def _read(url: str, *, allow_loopback: bool) -> _Place:
    if len(url) > _LONGEST_URL:
        raise InvalidRequest(f"callback_url must have at most {_LONGEST_URL} characters.")
    if _PLAIN.fullmatch(url) is None or "\\" in url:
        raise InvalidRequest(
            "callback_url must be ASCII without spaces; write other characters with % and other "
            "host names in their xn-- form."
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest("callback_url is not a URL.") from None
    scheme = parts.scheme.lower()
    if scheme != "https" and not (scheme == "http" and allow_loopback):
        raise InvalidRequest("callback_url must begin with https://.")
    if "@" in parts.netloc:
        raise InvalidRequest(
            "callback_url must not hold a user name or password; verify our signature instead."
        )
    if "#" in url:
        raise InvalidRequest("callback_url must not have a fragment (#).")
    if not host or port == 0:
        raise InvalidRequest("callback_url must name a host.")
    literal = read_literal(host)
    is_name = _HOST.fullmatch(host) is not None and (
        allow_loopback or ("." in host and not is_inside_name(host))
    )
    if literal is None and not is_name:
        raise InvalidRequest("callback_url must name a host of the public DNS.")
    port = port or _DEFAULT_PORTS[scheme]
    if not allow_loopback and port != _HTTPS and port < _FIRST_FREE_PORT:
        raise InvalidRequest("callback_url must use port 443 or one from 1024 on.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Place(scheme=scheme, host=host, port=port, target=target, literal=literal)


# How it gets there


class _VettedBackend(httpcore.NetworkBackend):
    """Connects to the vetted addresses only, whatever name it is asked for."""

    def __init__(self, addresses: Iterable[Address], deadline: float) -> None:
        self._addresses = tuple(addresses)
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        del host, timeout, local_address, socket_options
        last = OSError()
        for place, address in enumerate(self._addresses):
            v4 = isinstance(address, ipaddress.IPv4Address)
            connection = socket.socket(socket.AF_INET if v4 else socket.AF_INET6)
            try:
                # An address that swallows packets leaves time for those behind it.
                connection.settimeout(_left(self._deadline) / (len(self._addresses) - place))
                # A literal address: no resolver is asked.
                connection.connect((str(address), port))
            except OSError as error:
                connection.close()
                last = error
            else:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return _Stream(connection, self._deadline)
        if isinstance(last, TimeoutError):
            raise httpcore.ConnectTimeout from last
        # As an argument: the pool takes the cause off.
        raise httpcore.ConnectError(last) from last


class _Stream(httpcore.NetworkStream):
    """A socket every use of which ends at one deadline."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._socket = connection
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        try:
            self._socket.settimeout(_left(self._deadline))
            return self._socket.recv(min(max_bytes, _LONGEST_BODY_READ))
        except TimeoutError as error:
            raise httpcore.ReadTimeout from error
        except OSError as error:
            raise httpcore.ReadError from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        try:
            # An SSL socket's sendall would begin its timeout anew with every part.
            while buffer:
                self._socket.settimeout(_left(self._deadline))
                buffer = buffer[self._socket.send(buffer) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout from error
        except OSError as error:
            raise httpcore.WriteError from error

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        del timeout
        try:
            self._socket.settimeout(_left(self._deadline))
            secured = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout from error
        except OSError as error:
            self.close()
            raise httpcore.ConnectError(error) from error
        return _Stream(secured, self._deadline)

    def close(self) -> None:
        self._socket.close()


def _left(deadline: float) -> float:
    """Seconds until a deadline; raises TimeoutError behind it."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
