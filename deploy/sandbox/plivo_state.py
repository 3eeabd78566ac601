"""What Plivo holds, per main account. What a sub-account has is marked with its auth id."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field
from typing import Final, Literal

AccountType = Literal["standard", "developer"]
BillingMode = Literal["prepaid", "postpaid"]

#: What the domain of every outbound trunk ends with.
DOMAIN_SUFFIX: Final = ".zt.plivo.com"


def new_id() -> str:
    """Applications and trunks are called by 17 digits."""
    return f"{secrets.randbelow(9) + 1}{secrets.randbelow(10**16):016d}"


def new_uuid() -> str:
    """Requests and the other parts of Zentrunk are called by a UUID."""
    return str(uuid.uuid4())


@dataclass(kw_only=True)
class Number:
    """A rented number. It has one target for calls and messages alike."""

    number: str
    alias: str = ""
    #: An application or an inbound trunk; empty is neither.
    app_id: str = ""
    sub_account: str | None = None
    number_type: str = "local"
    carrier: str = "Plivo"
    country: str = "United States"
    region: str = "California, UNITED STATES"
    city: str | None = None
    voice_enabled: bool = True
    sms_enabled: bool = True
    mms_enabled: bool = False
    active: bool = True
    compliance_status: str | None = None
    cnam_lookup: str = "disabled"
    tendlc_registration_status: str | None = None
    toll_free_sms_verification: str | None = None
    added_on: str = "2024-01-15"
    renewal_date: str = "2035-01-15"


@dataclass(kw_only=True)
class Application:
    """A set of webhooks that numbers and SIP endpoints can share; an unset URL is empty."""

    id: str = field(default_factory=new_id)
    app_name: str = ""
    sub_account: str | None = None
    answer_url: str = ""
    answer_method: str = "POST"
    #: The vendor's default is the answer URL, and it shows it as if it had been sent.
    hangup_url: str = ""
    hangup_method: str = "POST"
    fallback_answer_url: str = ""
    fallback_method: str = "POST"
    message_url: str = ""
    message_method: str = "POST"
    default_number_app: bool = False
    default_endpoint_app: bool = False
    log_incoming_messages: bool = True
    public_uri: bool = False
    #: No parameter sets it; only whoever disables it by hand.
    enabled: bool = True


@dataclass(frozen=True, kw_only=True)
class OriginationUri:
    """Where an inbound trunk sends calls."""

    id: str = field(default_factory=new_uuid)
    name: str = ""
    uri: str = ""
    authentication_needed: bool = False
    username: str = ""
    password: str = ""


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A user name and password that may call through an outbound trunk."""

    id: str = field(default_factory=new_uuid)
    name: str = ""
    username: str = ""
    password: str = ""


@dataclass(frozen=True, kw_only=True)
class AccessList:
    """Addresses that may call through an outbound trunk."""

    id: str = field(default_factory=new_uuid)
    name: str = ""
    ip_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """A Zentrunk trunk; an unset reference is empty."""

    id: str = field(default_factory=new_id)
    name: str = ""
    trunk_direction: str = ""
    trunk_status: str = "enabled"
    secure: bool = False
    primary_uri_uuid: str = ""
    fallback_uri_uuid: str = ""
    credential_uuid: str = ""
    ipacl_uuid: str = ""

    @property
    def domain(self) -> str:
        """Where calls to the trunk are sent."""
        return f"{self.id}{DOMAIN_SUFFIX}"


@dataclass(kw_only=True)
class Zentrunk:
    """The SIP trunking of an account, each kind in order of creation."""

    uris: dict[str, OriginationUri] = field(default_factory=dict)
    credentials: dict[str, Credential] = field(default_factory=dict)
    access_lists: dict[str, AccessList] = field(default_factory=dict)
    trunks: dict[str, Trunk] = field(default_factory=dict)

    def is_broken(self, trunk: Trunk) -> bool:
        """Whether something that the trunk refers to was deleted."""
        return (
            any(uri and uri not in self.uris for uri in _uris_of(trunk))
            or bool(trunk.credential_uuid and trunk.credential_uuid not in self.credentials)
            or bool(trunk.ipacl_uuid and trunk.ipacl_uuid not in self.access_lists)
        )


def _uris_of(trunk: Trunk) -> tuple[str, str]:
    return trunk.primary_uri_uuid, trunk.fallback_uri_uuid


@dataclass(kw_only=True)
class Subaccount:
    """Credentials of their own for a part of an account's numbers and applications."""

    auth_id: str
    auth_token: str
    name: str = "sandbox"
    enabled: bool = True


@dataclass(kw_only=True)
class Account:
    """A main account with everything in it, each kind in order of creation."""

    auth_id: str
    auth_token: str
    name: str = "sandbox"
    account_type: AccountType = "standard"
    billing_mode: BillingMode = "prepaid"
    cash_credits: str = "100.00000"
    timezone: str = "America/New_York"
    #: The vendor enables SIP trunking on request; without it all of Zentrunk is a 403.
    sip_trunking: bool = True
    subaccounts: dict[str, Subaccount] = field(default_factory=dict)
    numbers: dict[str, Number] = field(default_factory=dict)
    applications: dict[str, Application] = field(default_factory=dict)
    #: SIP endpoints, by user name, with their application; empty when orphaned.
    endpoints: dict[str, str] = field(default_factory=dict)
    zentrunk: Zentrunk = field(default_factory=Zentrunk)
    #: Numbers that somebody deleted, which at the vendor gives them away for good.
    released_numbers: list[str] = field(default_factory=list)

    def numbers_at(self, target: str) -> list[str]:
        """The numbers whose calls go to the application or trunk."""
        return [item.number for item in self.numbers.values() if item.app_id == target]


@dataclass
class PlivoState:
    """Everything at Plivo."""

    accounts: dict[str, Account] = field(default_factory=dict)
    #: The main account of each sub-account.
    owners: dict[str, Account] = field(default_factory=dict)
    #: Every number of every account: a number exists once.
    taken_numbers: set[str] = field(default_factory=set)
