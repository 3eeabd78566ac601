"""What makes a setting unsafe in production: one question a kind of setting, each pure.

Each returns a sentence that says what to do, or None; none repeats a value, which may be a secret.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from worker.addresses import read_literal

#: Of the sslmodes of libpq those that never go on in plain text, weakest first:
#: https://www.postgresql.org/docs/current/libpq-ssl.html
ENCRYPTED: Final = ("require", "verify-ca", "verify-full")
_KEY_BYTES: Final = 32
#: 32 random bytes have 30 different ones or so; less than half of that is no chance.
_FEWEST_DIFFERENT: Final = 16
_FEWEST_DIFFERENT_CHARACTERS: Final = 10
#: Words of secrets that somebody made up, as in examples and this project's own sandbox: refused.
_MADE_UP: Final = re.compile(
    r"change.?me|example|placeholder|sandbox|passw|your[-_]|secret|devkey|insecure|xxxx|12345678",
    re.IGNORECASE,
)
#: What brokers and databases come with, and what is tried first.
_GUESSED: Final = re.compile(
    r"(admin|change.?me|default|example|guest|password|postgres|qwerty|rabbitmq|redis|root|sandbox"
    r"|secret|test|trunkline|user)?[\W\d_]{0,8}",
    re.IGNORECASE,
)


_TRUST: Final = "name the host in TRUNKLINE_TRUSTED_HOSTS if only a private network lies between"


def is_near(host: str, trusted: Sequence[str]) -> bool:
    """Whether a host is this machine, a socket of it, or one that the operator trusts."""
    if host in {"", "localhost"} or host.startswith("/") or host in trusted:
        return True
    literal = read_literal(host)
    if literal is None:
        return False
    return literal.is_loopback or any(literal in network for network in _networks(trusted))


def _networks(trusted: Sequence[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for text in trusted:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            continue  # a name
    return found


def web_fault(url: str, trusted: Sequence[str] | None, *, schemes: Sequence[str]) -> str | None:
    """What is wrong with a URL that we call; plain text is for trusted hosts, if any are given."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if not host:
        return f"must begin with {schemes[0]}:// and name a host"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "must hold no user name, query or fragment"
    plain = {"https": "http", "wss": "ws"}
    advice = f"must be {' or '.join(f'{one}://' for one in schemes)} in production"
    if parts.scheme in schemes:
        return None
    if trusted is None or parts.scheme not in {plain[one] for one in schemes}:
        return advice
    return None if is_near(host, trusted) else f"{advice}; {_TRUST}"


def is_this_machine(url: str) -> bool:
    """Whether a URL names loopback, in words or as an address."""
    host = urlsplit(url).hostname or ""
    literal = read_literal(host)
    if literal is None:
        return host == "localhost" or host.endswith(".localhost")
    return literal.is_loopback or literal.is_unspecified


def database_fault(url: str, trusted: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """What is wrong with the way to Postgres."""
    try:
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        host = parts.hostname or ""
    except ValueError:
        return "is no URL"
    if not parts.scheme.startswith("postgres"):
        return "must begin with postgresql://"
    hosts = [one.partition(":")[0] for one in options.get("host", [])] or [unquote(host)]
    if all(is_near(one, trusted) for given in hosts for one in given.split(",")):
        return None
    mode = options.get("sslmode", [environment.get("PGSSLMODE", "prefer")])[-1]
    if mode not in ENCRYPTED:
        return (
            "must end with ?sslmode=verify-full (and sslrootcert=…) for a database on another "
            f"host; {_TRUST}"
        )
    password = unquote(parts.password or "")
    if password and _GUESSED.fullmatch(password):
        return "has a password that anybody would guess; give the role one of its own"
    return None


def broker_fault(url: str, trusted: Sequence[str]) -> str | None:
    """What is wrong with the way to the broker, or, of several, to one of them."""
    for one in re.split(r"[;\s]+", url.strip()):
        fault = _broker_fault(one, trusted)
        if fault is not None:
            return fault
    return None


def _broker_fault(url: str, trusted: Sequence[str]) -> str | None:
    try:
        parts = urlsplit(url)
        host, options = parts.hostname or "", parse_qs(parts.query)
        password = unquote(parts.password or "")
    except ValueError:
        return "is no URL"
    if "socket" in parts.scheme or is_near(host, trusted):
        return None
    if parts.scheme not in {"rediss", "amqps"}:
        return f"must be rediss:// or amqps:// for a broker on another host; {_TRUST}"
    if "none" in options.get("ssl_cert_reqs", [""])[-1].lower():
        return "must not switch off ssl_cert_reqs: anybody on the way could answer"
    if _GUESSED.fullmatch(password) and "ssl_certfile" not in options:
        return "must have a password that nobody guesses, or a client's certificate (ssl_certfile)"
    return None


def vault_key_fault(key: str) -> str | None:
    """What is wrong with a key of the vault."""
    try:
        found = base64.urlsafe_b64decode(key.encode())
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != _KEY_BYTES:
        return "holds something that is no key; `trunkline keys new` makes one"
    # One that somebody typed: `echo … | base64`.
    if len(set(found)) < _FEWEST_DIFFERENT or all(0x20 <= byte < 0x7F for byte in found):  # noqa: PLR2004 -- ASCII
        return "holds a key that is not random; `trunkline keys new` makes one"
    return None


def secret_fault(secret: str, *, shortest: int = 1) -> str | None:
    """What is wrong with a secret that signs, or with its name."""
    few = shortest > 1 and len(set(secret)) < _FEWEST_DIFFERENT_CHARACTERS
    if len(secret) < shortest or few or _MADE_UP.search(secret):
        return "is short, or looks like one of an example; make a random one"
    return None
