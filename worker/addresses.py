"""Which addresses are somebody's on the public internet, and which names lead there.

Whatever a customer names, here or at LiveKit, is held against this before anything connects to it.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Asks for a name's addresses; ends when it likes. Raises OSError or answers nothing: not there.
Resolver: TypeAlias = Callable[[str], Iterable[str]]
#: https://www.iana.org/assignments/iana-ipv4-special-registry, multicast, and 168.63.129.16, which
#: is public but the host's own agent inside Azure:
#: https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
_REFUSED_IPV4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
#: Nothing outside it is global unicast: neither ::1, nor fe80::, nor fc00::, nor ::ffff:10.0.0.1.
_GLOBAL_IPV6: Final = ipaddress.IPv6Network("2000::/3")
#: https://www.iana.org/assignments/iana-ipv6-special-registry: Teredo and other protocols,
#: documentation, 6to4, documentation.
_REFUSED_IPV6: Final = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
)
#: Where a network without IPv4 reaches it; the last 32 bits are the address that is meant:
#: https://www.rfc-editor.org/rfc/rfc6052
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
#: Last labels that the public DNS does not have or that mean something of this network: a resolver
#: inside one may know them, also by an address that is public. RFC 6761, 6762 (appendix G), 7686,
#: 8375 and 9476; .corp, .home, .internal and .mail are kept out of the root by ICANN, and .svc is
#: what a Kubernetes cluster's own names end with where its search list is used.
_INSIDE: Final = frozenset(
    {
        *("alt", "arpa", "corp", "home", "internal", "intranet", "lan", "local", "localdomain"),
        *("localhost", "mail", "onion", "private", "svc"),
    }
)


class NotReached(Exception):
    """No answer came; the text is a sentence fit for the customer, without the URL's path."""


class TooSlow(NotReached):
    """No answer came in time: the time was used up, unlike by a refusal."""


def is_public(address: Address) -> bool:
    """Whether an address is somebody's on the public internet. Pure."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _REFUSED_IPV4)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(address.packed[-4:]))
    return address in _GLOBAL_IPV6 and not any(address in network for network in _REFUSED_IPV6)


def is_inside_name(host: str) -> bool:
    """Whether a host's name is one of somebody's own network. Pure."""
    return host.rpartition(".")[2].lower() in _INSIDE


def read_literal(host: str) -> Address | None:
    """Returns the address that a host is written as; None for a name. Pure."""
    try:
        # With a zone (%eth0) it is no address of the internet.
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def ask_dns(host: str) -> list[str]:
    """Returns a name's addresses; the search list and the hosts file of this machine are not asked.

    Raises:
        OSError: there are none, or nobody could say.
    """
    # With the dot nothing is appended: "pay.example" is never "pay.example.svc.cluster.local".
    found = socket.getaddrinfo(f"{host}.", None, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def ask_system(host: str) -> list[str]:
    """Returns a name's addresses as this machine knows it, its own names among them.

    Raises:
        OSError: there are none, or nobody could say.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def resolve(host: str, deadline: float, resolver: Resolver) -> list[Address]:
    """Asks a resolver, which knows no timeout of its own, in a thread that may be left behind.

    Raises:
        NotReached: the name has no address; its cause is the resolver's error, if it had one.
        TooSlow: there was no answer by the deadline of the monotonic clock.
    """
    answers: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put([ipaddress.ip_address(one) for one in resolver(host)])
        except OSError as error:
            answers.put(error)
        except ValueError:
            answers.put([])

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        found = answers.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise TooSlow("The DNS did not answer for the host in time.") from None
    if isinstance(found, OSError):
        raise NotReached("The host is not in the DNS.") from found
    if not found:
        raise NotReached("The host is not in the DNS.")
    return list(dict.fromkeys(found))
