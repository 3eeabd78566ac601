"""What Twilio holds, per account."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

KeyKind = Literal["standard", "main", "restricted"]
AccountStatus = Literal["active", "suspended", "closed"]
AccountType = Literal["Full", "Trial"]
BundleStatus = Literal[
    "draft",
    "pending-review",
    "in-review",
    "twilio-rejected",
    "twilio-approved",
    "provisionally-approved",
]


def new_sid(prefix: str) -> str:
    """Two letters and 32 hexadecimal digits."""
    return prefix + secrets.token_hex(16)


def now() -> datetime:
    """The vendor's clock has seconds only."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(kw_only=True)
class Limits:
    """How much an account may hold.

    https://www.twilio.com/docs/sip-trunking/scale-and-limits (trunks; 1 on a trial account),
    https://www.twilio.com/docs/voice/sip/api/sip-credentiallist-resource (lists, credentials),
    https://www.twilio.com/docs/usage/api/applications (applications).
    The vendor raises them on request, hence fields. The one for origination URLs is unpublished.
    """

    trunks: int = 100
    credential_lists: int = 100
    credentials_per_list: int = 1000
    applications: int = 1000
    origination_urls_per_trunk: int = 10


@dataclass(kw_only=True)
class ApiKey:
    """`permissions` are patterns of this sandbox's operation names; only restricted keys have any.

    The vendor's own permission names are not modelled.
    """

    sid: str
    secret: str
    kind: KeyKind = "standard"
    permissions: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Stamped:
    """When a resource was made and last changed."""

    created: datetime = field(default_factory=now)
    updated: datetime = field(default_factory=now)

    def touch(self) -> None:
        """Notes a change."""
        self.updated = now()


@dataclass(kw_only=True)
class Hooks:
    """The webhook settings that numbers and applications share; an unset URL is empty."""

    voice_url: str = ""
    voice_method: str = "POST"
    voice_fallback_url: str = ""
    voice_fallback_method: str = "POST"
    voice_caller_id_lookup: bool = False
    status_callback: str = ""
    status_callback_method: str = "POST"
    sms_url: str = ""
    sms_method: str = "POST"
    sms_fallback_url: str = ""
    sms_fallback_method: str = "POST"


@dataclass(kw_only=True)
class PhoneNumber(Stamped, Hooks):
    """An incoming phone number; an unset SID is empty here, and null or empty on the wire."""

    sid: str = field(default_factory=lambda: new_sid("PN"))
    phone_number: str
    friendly_name: str
    capabilities: dict[str, bool] = field(
        default_factory=lambda: {"voice": True, "sms": True, "mms": True, "fax": False}
    )
    voice_application_sid: str = ""
    sms_application_sid: str = ""
    trunk_sid: str = ""
    voice_receive_mode: str = "voice"
    status: str = "in-use"
    type: str = "local"
    origin: str = "twilio"
    beta: bool = False
    api_version: str = "2010-04-01"
    address_requirements: str = "none"
    address_sid: str = ""
    bundle_sid: str = ""
    identity_sid: str = ""
    emergency_status: str = "Inactive"
    emergency_address_sid: str = ""
    emergency_address_status: str = "unregistered"
    #: Where its calls are processed; a number has an initial region from when it is bought.
    voice_region: str = "us1"


@dataclass(kw_only=True)
class Application(Stamped, Hooks):
    """A TwiML application: a set of webhook settings that numbers can share."""

    sid: str = field(default_factory=lambda: new_sid("AP"))
    friendly_name: str = ""
    api_version: str = "2010-04-01"
    sms_status_callback: str = ""
    message_status_callback: str = ""
    public_application_connect_enabled: bool = False


@dataclass(kw_only=True)
class Credential(Stamped):
    """A user name and password that may call through a mapped trunk."""

    sid: str = field(default_factory=lambda: new_sid("CR"))
    username: str
    password: str


@dataclass(kw_only=True)
class CredentialList(Stamped):
    """Credentials under one name, to be mapped to trunks."""

    sid: str = field(default_factory=lambda: new_sid("CL"))
    friendly_name: str
    credentials: dict[str, Credential] = field(default_factory=dict)


@dataclass(kw_only=True)
class OriginationUrl(Stamped):
    """Where a trunk sends calls from the telephone network."""

    sid: str = field(default_factory=lambda: new_sid("OU"))
    friendly_name: str
    sip_url: str
    weight: int
    priority: int
    enabled: bool


@dataclass(kw_only=True)
class Trunk(Stamped):
    """An Elastic SIP trunk."""

    sid: str = field(default_factory=lambda: new_sid("TK"))
    friendly_name: str = ""
    domain_name: str = ""
    secure: bool = False
    cnam_lookup_enabled: bool = False
    disaster_recovery_url: str = ""
    disaster_recovery_method: str = "POST"
    transfer_mode: str = "disable-all"
    transfer_caller_id: str = "from-transferee"
    origination_urls: dict[str, OriginationUrl] = field(default_factory=dict)
    credential_list_sids: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Bundle(Stamped):
    """A regulatory bundle: documents that a number's country asks for."""

    sid: str = field(default_factory=lambda: new_sid("BU"))
    status: BundleStatus = "draft"


@dataclass(kw_only=True)
class MessagingService(Stamped):
    """Numbers whose SMS it receives, unless it defers to each number's own webhook."""

    sid: str = field(default_factory=lambda: new_sid("MG"))
    friendly_name: str = ""
    inbound_request_url: str = ""
    use_inbound_webhook_on_number: bool = False
    number_sids: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Account:
    """An account or subaccount with everything in it, each kind in order of creation."""

    sid: str
    auth_token: str
    #: The second token of a rotation: the REST API takes it, webhooks are never signed with it.
    secondary_auth_token: str = ""
    #: Whether the account shows its primary token to who holds the secondary one. Not documented;
    #: by default it does not, which is the harder case.
    shows_token_to_secondary: bool = False
    friendly_name: str = "sandbox"
    status: AccountStatus = "active"
    type: AccountType = "Full"
    #: The parent's SID; an account without a parent owns itself.
    owner_account_sid: str = ""
    created: datetime = field(default_factory=now)
    limits: Limits = field(default_factory=Limits)
    api_keys: dict[str, ApiKey] = field(default_factory=dict)
    numbers: dict[str, PhoneNumber] = field(default_factory=dict)
    applications: dict[str, Application] = field(default_factory=dict)
    credential_lists: dict[str, CredentialList] = field(default_factory=dict)
    trunks: dict[str, Trunk] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)
    messaging_services: dict[str, MessagingService] = field(default_factory=dict)
    #: Numbers that somebody deleted, which at the vendor gives them away for good.
    released_numbers: list[str] = field(default_factory=list)
    _by_phone: dict[str, PhoneNumber] = field(default_factory=dict)
    _directory: str | None = None

    def __post_init__(self) -> None:
        self.owner_account_sid = self.owner_account_sid or self.sid

    def add_number(self, number: PhoneNumber) -> None:
        """Puts a number into the account."""
        self.numbers[number.sid] = number
        self._by_phone[number.phone_number] = number
        self._directory = None

    def remove_number(self, number: PhoneNumber) -> None:
        """Takes a number out of the account."""
        del self.numbers[number.sid]
        del self._by_phone[number.phone_number]
        self._directory = None

    def number_by_phone(self, phone_number: str) -> PhoneNumber | None:
        """The number with exactly this E.164."""
        return self._by_phone.get(phone_number)

    def numbers_containing(self, part: str) -> list[PhoneNumber]:
        """The numbers whose E.164 contains the part; `*` stands for any digit.

        All numbers are kept in one text, a line each: searching it costs some 100 microseconds
        even with 20,000 of them.
        """
        if self._directory is None:
            self._directory = "\n".join(self._by_phone)
        text = self._directory
        found: dict[str, None] = {}
        for hit in re.finditer(re.escape(part).replace(r"\*", "[0-9]"), text):
            start = text.rfind("\n", 0, hit.start()) + 1
            end = text.find("\n", hit.start())
            found[text[start : end if end >= 0 else None]] = None
        return [self._by_phone[line] for line in found]

    def numbers_on(self, trunk: Trunk) -> list[PhoneNumber]:
        """The numbers whose calls go to the trunk."""
        return [number for number in self.numbers.values() if number.trunk_sid == trunk.sid]


@dataclass
class TwilioState:
    """Everything at Twilio."""

    accounts: dict[str, Account] = field(default_factory=dict)
    #: Which account each API key belongs to.
    key_owners: dict[str, Account] = field(default_factory=dict)
    #: Every number of every account: a number exists once.
    taken_numbers: set[str] = field(default_factory=set)
    #: Trunk domains in use, lower case, with the trunk's SID.
    domains: dict[str, str] = field(default_factory=dict)
    #: Domains of deleted or renamed trunks. The vendor keeps them back for up to 30 days:
    #: https://support.twilio.com/hc/en-us/articles/51034176439707
    reserved_domains: set[str] = field(default_factory=set)

    def reserve_domain(self, trunk: Trunk) -> None:
        """The trunk gives its domain up; nobody gets it, not even the same account."""
        if trunk.domain_name:
            self.domains.pop(trunk.domain_name.lower(), None)
            self.reserved_domains.add(trunk.domain_name.lower())
