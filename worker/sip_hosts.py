"""Where a customer's SIP address may lead: LiveKit dials it, from inside the operator's network.

What the text alone tells is refused at submit; what the name leads to is looked up when the trunk
is made. LiveKit asks the DNS itself at every call, so a name that changes its mind later is kept
out by what LiveKit's own network lets through, see the runbook.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import Final

from worker.addresses import (
    Address,
    NotReached,
    Resolver,
    TooSlow,
    ask_dns,
    is_inside_name,
    is_public,
    read_literal,
    resolve,
)
from worker.domain.errors import InvalidRequest, ProviderUnavailable, SipTrunkProvisionFailed
from worker.domain.spec import ImportSpec
from worker.domain.values import parse_sip_host
from worker.settings import Settings

_LOOK_UP_SECONDS: Final = 2.0
#: TLS where nothing else is let out, and what no system service of old listens on: a line of SIP
#: means something to a mail server.
_HTTPS: Final = 443
_FIRST_FREE_PORT: Final = 1024


def read_sip_address(text: str, settings: Settings) -> str:
    """Returns a customer's SIP address, host with optional port, that LiveKit may be told. Pure.

    Raises:
        InvalidRequest: it is none, or not on the public internet.
    """
    host, _, port = parse_sip_host(text).partition(":")
    if port and int(port) != _HTTPS and int(port) < _FIRST_FREE_PORT:
        raise InvalidRequest("sip.address must use port 443 or one from 1024 on.")
    literal = read_literal(host)
    if literal is not None:
        if not _is_allowed(literal, settings):
            raise InvalidRequest("sip.address must not lead to a private or reserved address.")
    elif is_inside_name(host) and not settings.sip_private_networks:
        raise InvalidRequest("sip.address must name a host of the public DNS.")
    return text


def look_up_sip_address(
    spec: ImportSpec,
    settings: Settings,
    *,
    resolver: Resolver = ask_dns,
    seconds: float = _LOOK_UP_SECONDS,
) -> None:
    """Looks where an import's SIP address leads; the platform's own is the operator's business.

    A name that is not in the DNS passes unless the operator wants that checked: a carrier may have
    SRV records alone.

    Raises:
        SipTrunkProvisionFailed: to an address that is not public, or nowhere.
        ProviderUnavailable: that cannot be told right now, and the operator wants it checked.

    Safe to repeat: yes, reads only.
    """
    address = spec.sip_address
    carrier = spec.sip_carrier or spec.provider
    if address is None or address == settings.platform_sip(carrier)[0]:
        return
    host = address.partition(":")[0]
    literal = read_literal(host)
    found = [literal] if literal is not None else _look_up(host, settings, resolver, seconds)
    if not all(_is_allowed(one, settings) for one in found):
        raise SipTrunkProvisionFailed(
            "The SIP address leads to a private or reserved address. Check sip.address."
        )


def _look_up(host: str, settings: Settings, resolver: Resolver, seconds: float) -> list[Address]:
    try:
        return resolve(host, time.monotonic() + seconds, resolver)
    except NotReached as error:
        if not settings.sip_dns_check:
            return []
        cause = error.__cause__
        may_pass = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN
        if isinstance(error, TooSlow) or may_pass:
            raise ProviderUnavailable(
                "The SIP address could not be looked up; trying again."
            ) from None
        raise SipTrunkProvisionFailed(
            "The SIP address is not in the DNS. Check sip.address."
        ) from None


def _is_allowed(address: Address, settings: Settings) -> bool:
    return is_public(address) or any(
        address in ipaddress.ip_network(network) for network in settings.sip_private_networks
    )
