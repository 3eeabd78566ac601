"""What a LiveKit server refuses: validation and conflicts, with its own words.

After livekit/protocol (livekit/sip.go, sip/sip.go) and livekit/livekit (pkg/service/sip.go).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from livekit.protocol.sip import (
    SIPDispatchRuleInfo,
    SIPInboundTrunkInfo,
    SIPMediaConfig,
    SIPOutboundTrunkInfo,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from livekit.protocol.models import ListUpdate

Trunk = SIPInboundTrunkInfo | SIPOutboundTrunkInfo

_NUMBER: Final = re.compile(r"\+?[0-9\- ()]+")
_FORMATTING: Final = str.maketrans("", "", " -()")
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
_MAX_HEADER_NAME: Final = 255
_MAX_HEADER_VALUE: Final = 1024
_MAX_MEDIA_TIMEOUT_SECONDS: Final = 600
#: SIP headers that the server sets itself, with their short forms.
_OWN_HEADERS: Final = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "allow", "allow-events", "call-id"),
        *("contact", "content-encoding", "content-length", "content-type", "cseq", "event"),
        *("expires", "from", "max-forwards", "record-route", "refer-to", "reply-to"),
        *("k", "l", "m", "o", "r", "t", "u", "v"),
    }
)


class TwirpError(Exception):
    """An error as Twirp puts it on the wire."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def invalid(message: str) -> TwirpError:
    """The code of everything that is wrong with a request, conflicts included."""
    return TwirpError("invalid_argument", message)


def normalized(number: str) -> str:
    """A number as the server compares it: no formatting, a leading plus; other text as it is."""
    if _NUMBER.fullmatch(number) is None:
        return number
    digits = number.translate(_FORMATTING)
    return digits if digits.startswith("+") else f"+{digits}"


def validate_inbound(trunk: SIPInboundTrunkInfo) -> None:
    """Raises TwirpError."""
    if not (trunk.auth_username or trunk.auth_password or trunk.allowed_addresses or trunk.numbers):
        raise invalid(
            "for security, one of the fields must be set: "
            "AuthUsername+AuthPassword, AllowedAddresses or Numbers"
        )
    _validate_headers(trunk)
    _validate_media(trunk.media)


def validate_outbound(trunk: SIPOutboundTrunkInfo) -> None:
    """Raises TwirpError."""
    if not trunk.numbers:
        raise invalid("no trunk numbers specified")
    if not trunk.address:
        raise invalid("no outbound address specified")
    _validate_host(trunk.address, "trunk address")
    _validate_host(trunk.from_host, "from_host")
    _validate_headers(trunk)
    _validate_media(trunk.media)


def validate_rule(rule: SIPDispatchRuleInfo) -> None:
    """Raises TwirpError."""
    if not rule.HasField("rule"):
        raise invalid("missing rule")
    _validate_media(rule.media)


def validate_list_update(update: ListUpdate) -> None:
    """Raises TwirpError."""
    changes = bool(update.set or update.add or update.remove)
    if not update.clear and not changes:
        raise invalid("unsupported list update operation")
    if update.clear and changes:
        raise invalid("cannot clear and change the list at the same time")
    if update.set and (update.add or update.remove):
        raise invalid("cannot set and change the list at the same time")
    if "" in (*update.set, *update.add, *update.remove):
        raise invalid("empty element in the list")


def updated_list(current: Iterable[str], update: ListUpdate) -> list[str]:
    """The list after a valid update."""
    if update.clear:
        return []
    if update.set:
        return list(update.set)
    result = [item for item in current if item not in update.remove]
    result.extend(item for item in update.add if item not in result)
    return result


def pin_of(rule: SIPDispatchRuleInfo) -> str:
    """The PIN of whichever kind of rule it is. Raises TwirpError for a rule without a kind."""
    kind = rule.rule.WhichOneof("rule")
    if kind is None:
        # A plain error inside the server, which Twirp reports as internal.
        raise TwirpError("internal", "Unsupported SIP Dispatch Rule: <nil>")
    return str(getattr(rule.rule, kind).pin)


def trunk_keys(trunk: SIPInboundTrunkInfo) -> Iterator[tuple[str, str]]:
    """What no two inbound trunks may share: a called number with a calling one; empty is any."""
    for number in [normalized(item) for item in trunk.numbers] or [""]:
        for allowed in [normalized(item) for item in trunk.allowed_numbers] or [""]:
            yield number, allowed


def rule_keys(rule: SIPDispatchRuleInfo) -> Iterator[tuple[str, str, str, str]]:
    """What no two rules may share: PIN, trunk, calling number and called number; empty is any."""
    pin = pin_of(rule)
    for trunk in rule.trunk_ids or [""]:
        for calling in [normalized(item) for item in rule.inbound_numbers] or [""]:
            for called in [normalized(item) for item in rule.numbers] or [""]:
                yield pin, trunk, calling, called


def trunk_conflict(trunk: SIPInboundTrunkInfo, other_id: str, key: tuple[str, str]) -> TwirpError:
    """Two inbound trunks that could answer the same call."""
    numbers = _go_list(trunk.numbers) if trunk.numbers else "<any>"
    words = (
        f"Conflicting inbound SIP Trunks: {_go_quote(trunk.sip_trunk_id or '<new>')} and "
        f"{_go_quote(other_id or '<new>')}, using the same number(s) {numbers} "
    )
    _, allowed = key
    if not allowed:
        return invalid(f"{words}without AllowedNumbers set")
    as_given = next(item for item in trunk.allowed_numbers if normalized(item) == allowed)
    return invalid(f"{words}and AllowedNumber {_go_quote(as_given)}")


def rule_conflict(other: SIPDispatchRuleInfo) -> TwirpError:
    """Two rules that could take the same call."""
    return invalid(
        "Dispatch rule for the same trunk, inbound number, number, and PIN combination already "
        f"exists in dispatch rule {_go_quote(other.sip_dispatch_rule_id or '<new>')} "
        f"{_go_quote(other.name or '<blank name>')}"
    )


def _validate_host(value: str, name: str) -> None:
    if "transport=" in value:
        raise invalid(f"{name} should not contain transport parameter")
    if "@" in value or ";" in value or value.startswith(("sip:", "sips:")):
        raise invalid(f"{name} should be a hostname or IP, not SIP URI")


def _validate_headers(trunk: Trunk) -> None:
    for name, value in trunk.headers.items():
        _validate_header_name(name, may_be_own=False)
        _validate_header_value(name, value)
    names: Mapping[str, str] = trunk.attributes_to_headers
    for name in (*names.values(), *trunk.headers_to_attributes):
        _validate_header_name(name, may_be_own=True)


def _validate_header_name(name: str, *, may_be_own: bool) -> None:
    problem = ""
    if not name:
        problem = "header name cannot be empty"
    elif len(name) > _MAX_HEADER_NAME:
        problem = f"header name too long (max {_MAX_HEADER_NAME} characters)"
    elif _TOKEN.fullmatch(name) is None:
        problem = f"header name {name} contains invalid characters"
    elif not may_be_own and name.lower() in _OWN_HEADERS:
        problem = f"header name {name} not supported"
    if problem:
        raise invalid(f"invalid header name: {problem}")


def _validate_header_value(name: str, value: str) -> None:
    problem = ""
    if len(value) > _MAX_HEADER_VALUE:
        problem = f"value too long (max {_MAX_HEADER_VALUE} characters)"
    elif _HEADER_VALUE.fullmatch(value) is None:
        problem = "value: char not allowed"
    if problem:
        raise invalid(f"invalid header value for {name}: header {name}: {problem}")


def _validate_media(media: SIPMediaConfig) -> None:
    # The wording for a long timeout is not known; that ten minutes are the limit is.
    if media.media_timeout.ToSeconds() > _MAX_MEDIA_TIMEOUT_SECONDS:
        raise invalid("media timeout must not exceed 10 minutes")
    for codec in media.codecs:
        if not codec.name:
            raise invalid("missing codec name")
        if any(letter in codec.name for letter in " \t\n\r"):
            raise invalid("invalid codec name")
        if "/" in codec.name:
            raise invalid("codec name must not contain '/'")
        if not codec.rate:
            raise invalid("invalid codec sample rate")


def _go_quote(text: str) -> str:
    """Go's %q, for the text that occurs here."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _go_list(items: Iterable[str]) -> str:
    """Go's %q of a list of strings."""
    return f"[{' '.join(_go_quote(item) for item in items)}]"
