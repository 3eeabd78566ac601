"""Plain values that travel between the layers: parsed once at the edge, trusted inside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self
from uuid import UUID

import phonenumbers

from worker.domain.errors import InvalidPhoneNumber, InvalidRequest, PermanentError

#: One group of a vendor's settings on a number, by the vendor's own names; "" means unset.
Fields = Mapping[str, str]
#: Ids of things that we made outside, by what they are: {"trunk": "TK…"}.
Objects = Mapping[str, str]

_E164: Final = re.compile(r"\+[1-9][0-9]{1,14}")
_HOST_LABELS: Final = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9](-?[a-z0-9])*\.)+[a-z]{2,}", re.IGNORECASE
)
#: Without leading zeros, which some read as octal.
_IPV4: Final = re.compile(
    r"((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}"
    r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
)
#: C0, DEL, C1, and the two line breaks that Unicode adds.
_CONTROL: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")
_PIN: Final = re.compile(r"[0-9]{4,10}")


class ProviderName(StrEnum):
    """Where the customer bought the number."""

    #: Twilio, by Account SID with auth token or API key.
    TWILIO = "twilio"
    #: Any carrier that speaks SIP; there is no API to ask.
    SIP = "sip"
    #: Plivo, by auth id and auth token.
    PLIVO = "plivo"
    #: Telnyx, by API key; its public key verifies webhooks.
    TELNYX = "telnyx"


class RoutingMode(StrEnum):
    """How a call gets from the provider to LiveKit; a number has one voice target, so one mode."""

    #: The provider calls our voice webhook, whose answer dials LiveKit.
    WEBHOOK = "webhook"
    #: The provider's SIP trunk sends calls straight to LiveKit.
    SIP_TRUNK = "sip_trunk"


class Ownership(StrEnum):
    """How sure we are that the customer owns the number."""

    #: The provider's account lists it.
    PROVEN = "proven"
    #: The customer says so; a SIP carrier has no API to ask.
    ASSERTED = "asserted"


class NumberStatus(StrEnum):
    """What a number of ours is."""

    #: Claimed by an import that has not ended.
    PENDING = "pending"
    #: Imported: its calls are ours to answer.
    ACTIVE = "active"
    #: Being given back.
    RELEASING = "releasing"
    #: Given back; kept so that a call that still comes finds its way.
    RELEASED = "released"


class MediaEncryption(StrEnum):
    """SRTP on the LiveKit side of a trunk."""

    DISABLE = "disable"
    ALLOW = "allow"
    REQUIRE = "require"


class SipTransport(StrEnum):
    """Transport of SIP signalling."""

    AUTO = "auto"
    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class E164(str):
    """A phone number in E.164 format, such as +14155550100; :meth:`parse` makes one from input."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses exactly E.164: ASCII digits after a plus, nothing around them.

        Raises:
            InvalidPhoneNumber: the text is anything else, or no country has such a length.
        """
        # The expression goes first: phonenumbers also takes Arabic digits and ";ext=5", and "$"
        # would let a trailing newline through.
        if _E164.fullmatch(text) is None:
            raise InvalidPhoneNumber
        try:
            parsed = phonenumbers.parse(text, None)
        except phonenumbers.NumberParseException as exc:
            raise InvalidPhoneNumber from exc
        # "Possible" checks the length only. "Valid" checks against known ranges, which lag behind
        # the carriers; the provider's own list of numbers is the real gate.
        if not phonenumbers.is_possible_number(parsed):
            raise InvalidPhoneNumber
        return cls(text)

    @property
    def region(self) -> str | None:
        """ISO 3166 alpha-2 country of the number, None if it belongs to none (+800, +870)."""
        region = phonenumbers.region_code_for_number(phonenumbers.parse(self, None))
        return None if region in (None, "001") else region

    @property
    def is_in_known_range(self) -> bool:
        """Whether the number lies in a range that its country is known to have given out."""
        return phonenumbers.is_valid_number(phonenumbers.parse(self, None))


def parse_sip_host(text: str) -> str:
    """Returns a SIP host with optional port, such as sip.example.com or 203.0.113.5:5061.

    LiveKit refuses the rest: https://docs.livekit.io/sip/trunk-outbound/

    Raises:
        InvalidRequest: a URI scheme, a user part, parameters, or no host.
    """
    host, _, port = text.partition(":")
    if text.lower().startswith(("sip:", "sips:")):
        raise InvalidRequest("Give the SIP address without `sip:`, such as sip.example.com:5060.")
    if "@" in text or ";" in text:
        raise InvalidRequest("Give the SIP address as host[:port], without a user or parameters.")
    if _HOST_LABELS.fullmatch(host) is None and _IPV4.fullmatch(host) is None:
        raise InvalidRequest("The SIP address is not a host name or an IPv4 address.")
    if ":" in text and not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):  # noqa: PLR2004 -- highest port
        raise InvalidRequest("The port of the SIP address must be between 1 and 65535.")
    return text


def require_one_line(text: str) -> str:
    """Returns a text that can stand in a header, a SIP message, a log or a table as it is.

    Raises:
        ValueError: it has a line break, or another character that is not to be seen but to control.
    """
    if _CONTROL.search(text) is not None:
        raise ValueError("must be one line of text, without control characters")
    return text


def parse_pin(text: str) -> str:
    """Returns a PIN that a caller can type; LiveKit itself checks no format.

    Raises:
        InvalidRequest: anything but 4 to 10 ASCII digits.
    """
    if _PIN.fullmatch(text) is None:
        raise InvalidRequest("The PIN must have 4 to 10 digits.")
    return text


@dataclass(frozen=True, kw_only=True)
class ImportTag:
    """The name that everything made for one import carries: it is found again, and only it."""

    #: The import's id, such as imp_01890a5d….
    import_id: str

    @property
    def name(self) -> str:
        """Name of objects at a provider: letters, digits and hyphens, which every vendor takes."""
        return f"trunkline-{self.import_id.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class SipLogin:
    """A SIP user name and password; the password never shows in a repr."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where one kind of traffic of a number goes."""

    #: "none", "url", "application", "trunk" or "connection".
    kind: str
    #: The URL or id; "" for none.
    value: str

    def __str__(self) -> str:
        # A foreign URL may carry a secret in its query string (or user part): never show it.
        return self.kind if self.kind == "none" else f"{self.kind} {redact_url(self.value)}"


NOWHERE: Final = Target(kind="none", value="")


def redact_url(text: str) -> str:
    """Returns a URL without query, fragment and user part, any of which may hold a secret."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    place = re.split(r"[?#]", rest, maxsplit=1)
    host, slash, path = place[0].partition("/")
    hidden = "?…" if len(place) > 1 else ""
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}{hidden}"


@dataclass(frozen=True, kw_only=True)
class Routing:
    """All settings of a number that decide where its traffic goes, complete enough to put back.

    ``parts`` maps a part ("voice", "sms", "status") to the vendor's fields of that part. A part is
    written, compared and restored as one thing.
    """

    parts: Mapping[str, Fields]

    def to_json(self) -> dict[str, dict[str, str]]:
        """Returns a copy that a database column can hold."""
        return {part: dict(fields) for part, fields in self.parts.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, str]]) -> Self:
        """Reads what :meth:`to_json` wrote."""
        return cls(parts={part: dict(fields) for part, fields in data.items()})


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a provider says of the account behind some credentials."""

    #: The vendor's account id.
    id: str
    #: Which kind of credentials proved it, such as "auth_token" or "restricted_key".
    credential_kind: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OwnedNumber:
    """A number as its provider's account holds it."""

    #: The vendor's id of the number.
    id: str
    e164: E164
    #: ISO 3166 alpha-2, None where unknown.
    country: str | None
    voice: bool
    sms: bool
    routing: Routing
    #: Settings beside the routing that bend calls away; kept with the original, never written.
    bends: Fields = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ListedNumber:
    """A number as a listing of its provider's account shows it."""

    #: The vendor's id of the number.
    id: str
    #: As the account has it; not every number of an account is E.164, such as a short code.
    phone_number: str
    #: ISO 3166 alpha-2, None where unknown.
    country: str | None
    voice: bool
    sms: bool
    #: Where its calls go now.
    target: Target
    #: Why it cannot be imported as it is, if the listing tells: not active, no voice.
    refusal: PermanentError | None = None


@dataclass(frozen=True, kw_only=True)
class NumberListing:
    """One page of an account's numbers."""

    numbers: tuple[ListedNumber, ...]
    #: What the adapter needs for the next page; None on the last one.
    following: str | None


@dataclass(frozen=True, kw_only=True)
class CallbackUrls:
    """Our public URLs that a provider calls for one number."""

    voice: str
    #: Asked what comes next when the call that we sent on has ended or was not answered.
    dialed: str
    status: str
    sms: str
    recording: str

    @classmethod
    def of(cls, public_base_url: str, provider: ProviderName, number_id: UUID) -> Self:
        """Returns the URLs of a number; the last segment of each names it."""

        def url(kind: str) -> str:
            number = format_id("num", number_id)
            return f"{public_base_url}/callbacks/{provider}/{kind}/{number}"

        return cls(
            voice=url("voice"),
            dialed=url("dialed"),
            status=url("status"),
            sms=url("sms"),
            recording=url("recording"),
        )


@dataclass(frozen=True, kw_only=True)
class TrunkPlan:
    """What the provider-side trunk of one import must do."""

    #: Where the trunk sends inbound calls: SIP host without scheme; None leaves inbound alone.
    origination_host: str | None
    #: What inbound calls answer LiveKit's challenge with, where the provider's trunk can.
    origination_login: SipLogin | None
    #: Who may send outbound calls through the trunk; None leaves outbound alone.
    termination: SipLogin | None
    secure: bool


@dataclass(frozen=True, kw_only=True)
class ProviderTrunk:
    """A provider-side trunk that exists."""

    objects: Objects
    #: Host that LiveKit sends outbound calls to; None when the trunk is inbound only.
    termination_address: str | None


def format_id(prefix: str, value: UUID) -> str:
    """Returns the id that callers see, such as imp_01890a5d…; the prefix tells what it names."""
    return f"{prefix}_{value.hex}"


def parse_id(prefix: str, text: str) -> UUID | None:
    """Reads what :func:`format_id` wrote; None if it is anything else, so that it names nothing."""
    head, separator, rest = text.partition("_")
    if head != prefix or not separator or re.fullmatch(r"[0-9a-f]{32}", rest) is None:
        return None
    return UUID(hex=rest)
