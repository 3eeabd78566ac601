"""Form parameters: what each may hold, and which attribute it sets."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from deploy.sandbox.twilio_wire import refused

#: Takes the parameter's name and text; returns the value to store or raises TwilioError.
Check = Callable[[str, str], str | bool | int]
#: Parameter name to attribute and check.
Parameters = Mapping[str, tuple[str, Check]]

_MAX_NAME: Final = 64
#: The only figure published, for message status callbacks: /docs/api/errors/21609.
_MAX_URL: Final = 4000
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
#: What every trunk domain ends with.
DOMAIN_SUFFIX: Final = ".pstn.twilio.com"
_REGIONAL_DOMAIN: Final = re.compile(r".+\.pstn\.[a-z0-9-]+\.twilio\.com", re.IGNORECASE)
_MAX_WEIGHT: Final = 65535
_SIP_URL: Final = re.compile(
    r"sip:(?:[^@\s;]+@)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?(?:;[^\s]*)?"
)


def friendly_name(name: str, text: str) -> str:
    """Up to 64 characters."""
    if len(text) > _MAX_NAME:
        raise refused(20002, f"{name} must be {_MAX_NAME} characters or less")
    return text


def url(name: str, text: str) -> str:
    """An absolute http or https URL that the public Internet can reach; empty clears it."""
    if text and not is_public_url(text):
        raise refused(21402, f"{name} is not a valid URL: {text}")
    return text


def callback(name: str, text: str) -> str:
    """As `url`, with the code for callbacks."""
    if text and not is_public_url(text):
        raise refused(21502, f"{name} is not a valid URL: {text}")
    return text


def method(name: str, text: str) -> str:
    """GET or POST."""
    if text not in {"GET", "POST"}:
        raise refused(21403, f"{name} is not valid: {text}")
    return text


def boolean(name: str, text: str) -> bool:
    """`true` or `false`."""
    if text.lower() not in {"true", "false"}:
        raise refused(20001, f"{name} must be true or false")
    return text.lower() == "true"


def whole_number(lowest: int, highest: int) -> Check:
    """A number within bounds, both included."""

    def check(name: str, text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not lowest <= int(text) <= highest:
            raise refused(20001, f"{name} must be an integer from {lowest} to {highest}")
        return int(text)

    return check


def one_of(*values: str) -> Check:
    """One of the given words."""

    def check(name: str, text: str) -> str:
        if text not in values:
            raise refused(20001, f"{name} must be one of {', '.join(values)}")
        return text

    return check


def sid(prefix: str) -> Check:
    """A well-formed SID, or empty."""
    pattern = re.compile(rf"{prefix}[0-9a-fA-F]{{32}}")

    def check(name: str, text: str) -> str:
        if text and pattern.fullmatch(text) is None:
            raise refused(20423, f"{name} {text} is not a valid SID")
        return text

    return check


def trunk_domain(name: str, text: str) -> str:
    """Letters, digits and hyphens below pstn.twilio.com.

    The localized form `{name}.pstn.{edge}.twilio.com` is an address of an existing domain; as a
    name of its own it is refused here with 21252, "Invalid Region".
    """
    if not text:
        return text
    if _REGIONAL_DOMAIN.fullmatch(text):
        raise refused(21252, f"{name} {text} names a region")
    labels = text.lower().removesuffix(DOMAIN_SUFFIX).split(".")
    if not text.lower().endswith(DOMAIN_SUFFIX) or not all(
        _LABEL.fullmatch(part) for part in labels
    ):
        raise refused(
            21245,
            f"{name} {text} must be letters, digits and -, before {DOMAIN_SUFFIX}",
        )
    return text


def sip_url(name: str, text: str) -> str:
    """A `sip:` URL; `sips:` is not supported."""
    if _SIP_URL.fullmatch(text) is None:
        raise refused(20001, f"{name} {text} is not a valid sip: URL")
    return text


#: The webhook settings of numbers and applications.
HOOK_PARAMETERS: Final[Parameters] = MappingProxyType(
    {
        "FriendlyName": ("friendly_name", friendly_name),
        "ApiVersion": ("api_version", one_of("2010-04-01", "2008-08-01")),
        "VoiceUrl": ("voice_url", url),
        "VoiceMethod": ("voice_method", method),
        "VoiceFallbackUrl": ("voice_fallback_url", url),
        "VoiceFallbackMethod": ("voice_fallback_method", method),
        "VoiceCallerIdLookup": ("voice_caller_id_lookup", boolean),
        "StatusCallback": ("status_callback", callback),
        "StatusCallbackMethod": ("status_callback_method", method),
        "SmsUrl": ("sms_url", url),
        "SmsMethod": ("sms_method", method),
        "SmsFallbackUrl": ("sms_fallback_url", url),
        "SmsFallbackMethod": ("sms_fallback_method", method),
    }
)
#: The settings of a trunk.
TRUNK_PARAMETERS: Final[Parameters] = MappingProxyType(
    {
        "FriendlyName": ("friendly_name", friendly_name),
        "DomainName": ("domain_name", trunk_domain),
        "DisasterRecoveryUrl": ("disaster_recovery_url", url),
        "DisasterRecoveryMethod": ("disaster_recovery_method", method),
        "TransferMode": ("transfer_mode", one_of("disable-all", "enable-all", "sip-only")),
        "TransferCallerId": ("transfer_caller_id", one_of("from-transferee", "from-transferor")),
        "Secure": ("secure", boolean),
        "CnamLookupEnabled": ("cnam_lookup_enabled", boolean),
    }
)
#: The settings of an origination URL.
ORIGINATION_PARAMETERS: Final[Parameters] = MappingProxyType(
    {
        "Weight": ("weight", whole_number(1, _MAX_WEIGHT)),
        "Priority": ("priority", whole_number(0, _MAX_WEIGHT)),
        "Enabled": ("enabled", boolean),
        "FriendlyName": ("friendly_name", friendly_name),
        "SipUrl": ("sip_url", sip_url),
    }
)


def checked(form: Mapping[str, str], parameters: Parameters) -> dict[str, str | bool | int]:
    """The form as attributes and values. Raises TwilioError.

    The vendor ignores parameters that it does not know, or so its documentation suggests by
    calling them a warning (/docs/api/errors/20001). Here they are refused: a misspelt parameter
    must not look like a setting that took effect.
    """
    if unknown := form.keys() - parameters.keys():
        raise refused(20001, f"Unknown parameters: {', '.join(sorted(unknown))}")
    values = {}
    for name, text in form.items():
        attribute, check = parameters[name]
        values[attribute] = check(name, text)
    return values


def is_public_url(text: str) -> bool:
    """What the vendor takes for a webhook.

    Seen to be refused: relative URLs, `localhost`, hosts without a dot, labels that end in a
    hyphen. Documented (/docs/api/errors/11100): private and local addresses cannot be used; here
    they are refused when the setting is made.
    """
    if len(text) > _MAX_URL or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and _is_public_host(host)


def _is_public_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        labels = host.split(".")
        return (
            len(labels) > 1
            and all(_LABEL.fullmatch(label) for label in labels)
            and not labels[-1].isdecimal()
        )
