"""What Telnyx holds, per account."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

AccountStatus = Literal["active", "suspended"]
Store = Literal["connections", "fqdns", "outbound_voice_profiles", "messaging_profiles"]


def new_id() -> str:
    """A 64-bit number as text, as numbers, connections and voice profiles have it."""
    return str(10**18 + secrets.randbelow(8 * 10**18))


def new_uuid() -> str:
    """As messaging profiles have it."""
    return str(uuid.uuid4())


def now() -> datetime:
    """The vendor's clock has seconds only, where it matters here."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(kw_only=True)
class Rules:
    """What the vendor does where it is not documented: the strict guess, or the other one."""

    #: `connection_id: null` takes a number off its connection; the strict guess is a refusal.
    null_unassigns: bool = False
    #: Names of connections and profiles are unique; nothing says so, and duplicates make a
    #: client that creates blindly visible, so they are allowed unless this is set.
    unique_names: bool = False
    #: Connections and profiles can be deleted while something uses them. Documented for external
    #: connections only: "deletion may be prevented if the application is in use by phone numbers".
    deletes_in_use: bool = False


@dataclass(kw_only=True)
class ApiKey:
    """`scopes` are patterns of this sandbox's operation names; None is everything.

    The vendor's own scope names are not modelled.
    """

    key: str
    scopes: tuple[str, ...] | None = None


@dataclass(kw_only=True)
class PhoneNumber:
    """A number that the account has."""

    id: str = field(default_factory=new_id)
    phone_number: str
    country_iso_alpha2: str
    status: str = "active"
    phone_number_type: str = "local"
    connection_id: str | None = None
    messaging_profile_id: str | None = None
    messaging_product: str = "A2P"
    tags: list[str] = field(default_factory=list)
    customer_reference: str | None = None
    hd_voice_enabled: bool = False
    deletion_lock_enabled: bool = False
    #: Whether the number can do SMS at all.
    sms: bool = True
    #: Where calls are forwarded instead of to the connection; None is nowhere.
    forwards_to: str | None = None
    forwarding_type: str | None = None
    call_forwarding_enabled: bool = True
    #: What the called number is rewritten to before the call is routed.
    translated_number: str = ""
    inbound_call_screening: str = "disabled"
    emergency_status: str = "disabled"
    call_recording_enabled: bool = False
    created: datetime = field(default_factory=now)
    updated: datetime = field(default_factory=now)


@dataclass(kw_only=True)
class Resource:
    """A connection, an FQDN or a profile: whatever has fields and is created, read and deleted."""

    id: str
    record_type: str
    values: dict[str, object]
    created: datetime = field(default_factory=now)
    updated: datetime = field(default_factory=now)

    def text(self, name: str) -> str:
        """The field as text; absent is empty."""
        return str(self.values.get(name) or "")

    @property
    def name(self) -> str:
        """Whatever this kind calls its name."""
        names = ("connection_name", "application_name", "friendly_name", "name", "fqdn")
        return next((self.text(name) for name in names if name in self.values), "")

    @property
    def outbound_voice_profile_id(self) -> str:
        """The profile that outbound calls need; empty if there is none."""
        match self.values.get("outbound"):
            case {"outbound_voice_profile_id": str(profile)}:
                return profile
            case _:
                return self.text("outbound_voice_profile_id")


@dataclass(kw_only=True)
class Account:
    """An account with everything in it, each kind in order of creation."""

    id: str
    status: AccountStatus = "active"
    balance: str = "100.00"
    rules: Rules = field(default_factory=Rules)
    #: Documented for accounts made on or after 2026-09-08: a password is shown only in the answer
    #: that set it, and as `********` from then on. Older accounts show it always.
    hides_passwords: bool = False
    #: Signs the account's webhooks; customers see the public half in the portal.
    signing_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    keys: dict[str, ApiKey] = field(default_factory=dict)
    numbers: dict[str, PhoneNumber] = field(default_factory=dict)
    #: All kinds together: a number points at any of them with one field.
    connections: dict[str, Resource] = field(default_factory=dict)
    fqdns: dict[str, Resource] = field(default_factory=dict)
    outbound_voice_profiles: dict[str, Resource] = field(default_factory=dict)
    messaging_profiles: dict[str, Resource] = field(default_factory=dict)
    #: Numbers that somebody deleted, which at the vendor gives them away.
    released_numbers: list[str] = field(default_factory=list)
    _by_phone: dict[str, PhoneNumber] = field(default_factory=dict)
    _directory: str | None = None

    def resources(self, store: Store) -> dict[str, Resource]:
        """The objects of one store."""
        found: dict[str, Resource] = getattr(self, store)
        return found

    def add_number(self, number: PhoneNumber) -> None:
        """Puts a number into the account."""
        self.numbers[number.id] = number
        self._by_phone[number.phone_number] = number
        self._directory = None

    def remove_number(self, number: PhoneNumber) -> None:
        """Takes a number out of the account."""
        del self.numbers[number.id]
        del self._by_phone[number.phone_number]
        self._directory = None

    def number_by_phone(self, phone_number: str) -> PhoneNumber | None:
        """The number with exactly this E.164."""
        return self._by_phone.get(phone_number)

    def numbers_containing(self, digits: str) -> Iterator[PhoneNumber]:
        """The numbers that contain the digits, searched in one text with a line for each."""
        if self._directory is None:
            self._directory = "\n".join(self._by_phone) + "\n"
        text, end = self._directory, 0
        while (hit := text.find(digits, end)) >= 0:
            end = text.index("\n", hit)
            yield self._by_phone[text[text.rfind("\n", 0, hit) + 1 : end]]

    def numbers_on(self, connection_id: str) -> list[PhoneNumber]:
        """The numbers whose calls go to the connection."""
        return [item for item in self.numbers.values() if item.connection_id == connection_id]


@dataclass
class TelnyxState:
    """Everything at Telnyx."""

    accounts: dict[str, Account] = field(default_factory=dict)
    #: Which account each API key belongs to.
    key_owners: dict[str, Account] = field(default_factory=dict)
    #: Every number of every account: a number exists once.
    taken_numbers: set[str] = field(default_factory=set)
    #: SIP user names in use, with the connection's id.
    user_names: dict[str, str] = field(default_factory=dict)
