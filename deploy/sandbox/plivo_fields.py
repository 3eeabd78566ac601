"""Parameters of a JSON body: what each may hold, and which attribute it sets."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from deploy.sandbox.plivo_wire import refused

#: Takes the parameter's name and JSON value; returns what to store or raises PlivoError.
Check = Callable[[str, object], object]
#: Parameter name to attribute and check.
Parameters = Mapping[str, tuple[str, Check]]

_APP_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_SUBACCOUNT: Final = re.compile(r"SA[A-Z0-9]{18}")
#: Host and port as they stand in an origination URI, with a user before and parameters behind.
_SIP_ADDRESS: Final = re.compile(
    r"(?:[^@\s;:/]+@)?(?P<host>[A-Za-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:;[A-Za-z0-9-]+(?:=[A-Za-z0-9.-]+)?)*"
)
_MAX_PORT: Final = 65535


def text(name: str, value: object) -> str:
    """A string; it may be empty."""
    if not isinstance(value, str):
        raise refused(f"{name} must be a string")
    return value


def filled(name: str, value: object) -> str:
    """A string that is not empty."""
    if not text(name, value):
        raise refused(f"{name} must not be empty")
    return text(name, value)


def boolean(name: str, value: object) -> bool:
    """A JSON boolean; whether the vendor takes the words as well is not documented."""
    if not isinstance(value, bool):
        raise refused(f"{name} must be true or false")
    return value


def one_of(*values: str) -> Check:
    """One of the given words."""

    def check(name: str, value: object) -> str:
        if value not in values:
            raise refused(f"{name} must be one of {', '.join(values)}")
        return str(value)

    return check


def url(name: str, value: object) -> str:
    """An absolute http or https URL.

    The vendor's own SDK checks little more than that. Hosts that the public Internet cannot reach
    are refused here too: the vendor could not call them.
    """
    if not _is_public_url(text(name, value)):
        raise refused(f"{name} is not a valid URL")
    return text(name, value)


def optional_url(name: str, value: object) -> str:
    """As `url`; empty is none."""
    return url(name, value) if value != "" else ""


def app_name(name: str, value: object) -> str:
    """Letters, digits, `-` and `_` (docs.plivo.com/docs/account/api/application)."""
    if _APP_NAME.fullmatch(text(name, value)) is None:
        raise refused(f"{name} may hold letters, digits, - and _")
    return text(name, value)


def subaccount(name: str, value: object) -> str:
    """The auth id of a sub-account."""
    if _SUBACCOUNT.fullmatch(text(name, value)) is None:
        raise refused(f"{name} is not the auth id of a subaccount")
    return text(name, value)


def sip_address(name: str, value: object) -> str:
    """A host name or IPv4 address, without `sip:`.

    A port and `;transport=tcp` may follow. That a user may stand before it is only seen in an
    example of the documentation.
    """
    found = _SIP_ADDRESS.fullmatch(text(name, value))
    if found is None or not _is_host(found["host"]) or int(found["port"] or 1) > _MAX_PORT:
        raise refused(f"{name} must be a FQDN or an IP address")
    return text(name, value)


def addresses(name: str, value: object) -> tuple[str, ...]:
    """A list of single IP addresses; whether ranges are taken is not documented."""
    if not isinstance(value, list) or not value:
        raise refused(f"{name} must be a list of IP addresses")
    for item in value:
        try:
            ipaddress.ip_address(text(name, item))
        except ValueError as problem:
            raise refused(f"{name} must be a list of IP addresses") from problem
    return tuple(value)


_METHOD: Final = one_of("GET", "POST")

#: The settings of an application that can be changed later; its name cannot.
APPLICATION_PARAMETERS: Final[Parameters] = MappingProxyType(
    {
        "answer_url": ("answer_url", url),
        "answer_method": ("answer_method", _METHOD),
        "hangup_url": ("hangup_url", optional_url),
        "hangup_method": ("hangup_method", _METHOD),
        "fallback_answer_url": ("fallback_answer_url", optional_url),
        "fallback_method": ("fallback_method", _METHOD),
        "message_url": ("message_url", optional_url),
        "message_method": ("message_method", _METHOD),
        "default_number_app": ("default_number_app", boolean),
        "default_endpoint_app": ("default_endpoint_app", boolean),
        "subaccount": ("sub_account", subaccount),
        "log_incoming_messages": ("log_incoming_messages", boolean),
        "public_uri": ("public_uri", boolean),
    }
)
#: The settings of a number. The app_id is looked up by whoever has the account.
NUMBER_PARAMETERS: Final[Parameters] = MappingProxyType(
    {
        "app_id": ("app_id", filled),
        "subaccount": ("sub_account", subaccount),
        "alias": ("alias", text),
        "cnam_lookup": ("cnam_lookup", one_of("enabled", "disabled")),
    }
)
URI_PARAMETERS: Final[Parameters] = MappingProxyType(
    {
        "name": ("name", text),
        "uri": ("uri", sip_address),
        "authentication_needed": ("authentication_needed", boolean),
        "username": ("username", text),
        "password": ("password", text),
    }
)
CREDENTIAL_PARAMETERS: Final[Parameters] = MappingProxyType(
    {
        "name": ("name", text),
        "username": ("username", filled),
        "password": ("password", filled),
        # The spelling of older pages of the documentation.
        "Password": ("password", filled),
    }
)
ACCESS_LIST_PARAMETERS: Final[Parameters] = MappingProxyType(
    {"name": ("name", text), "ip_addresses": ("ip_addresses", addresses)}
)
TRUNK_PARAMETERS: Final[Parameters] = MappingProxyType(
    {
        "name": ("name", filled),
        "trunk_direction": ("trunk_direction", one_of("inbound", "outbound")),
        "trunk_status": ("trunk_status", one_of("enabled", "disabled")),
        "secure": ("secure", boolean),
        "primary_uri_uuid": ("primary_uri_uuid", filled),
        "fallback_uri_uuid": ("fallback_uri_uuid", filled),
        "credential_uuid": ("credential_uuid", filled),
        "ipacl_uuid": ("ipacl_uuid", filled),
    }
)


def checked(body: Mapping[str, object], parameters: Parameters) -> dict[str, Any]:
    """The body as attributes and values. Raises PlivoError.

    What the vendor does with parameters that it does not know is not documented. Here they are
    refused: a misspelt parameter must not look like a setting that took effect.
    """
    if unknown := body.keys() - parameters.keys():
        raise refused(f"unknown parameters: {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {}
    for name, value in body.items():
        attribute, check = parameters[name]
        values[attribute] = check(name, value)
    return values


def _is_public_url(address: str) -> bool:
    if not address.isascii() or not address.isprintable() or " " in address:
        return False
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and _is_host(host, must_be_public=True)


def _is_host(host: str, *, must_be_public: bool = False) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.split(".")
        return (
            len(labels) > 1
            and all(_LABEL.fullmatch(label) for label in labels)
            and not labels[-1].isdecimal()
        )
    return address.is_global or not must_be_public
