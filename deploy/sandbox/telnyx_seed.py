"""Accounts as a test describes them. Vendor rules hold here too; changes are in telnyx_edit.py.

    {"accounts": [{
        "id"?, "api_key", "scopes"?, "api_keys"?: [{"api_key", "scopes"?}], "status"?, "balance"?,
        "hides_passwords"?, "webhook_private_key"?, "rules"?: {see telnyx_state.Rules},
        "outbound_voice_profiles"?: [{"id"?, ...}], "messaging_profiles"?: [{"id"?, ...}],
        "connections"?: [{"record_type", "id"?, ...}], "fqdns"?: [{"id"?, ...}],
        "numbers"?: [{"phone_number", "id"?, "connection_id"?, ...}]
    }]}

An account is named by `id`, which defaults to a fingerprint of its first key; journal and state
never show keys. An account that exists is changed and added to.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final, Literal

import phonenumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field

from deploy.sandbox import telnyx_numbers
from deploy.sandbox.telnyx_fields import check_fields, replaced
from deploy.sandbox.telnyx_kinds import (
    FOREIGN_FIELDS,
    FOREIGN_RECORD_TYPES,
    FQDNS,
    KINDS,
    MESSAGING_PROFILES,
    OUTBOUND_VOICE_PROFILES,
    Kind,
)
from deploy.sandbox.telnyx_resources import add
from deploy.sandbox.telnyx_state import (
    Account,
    AccountStatus,
    ApiKey,
    PhoneNumber,
    Resource,
    Rules,
    TelnyxState,
    new_id,
)
from deploy.sandbox.telnyx_wire import TelnyxError, refused
from deploy.sandbox.vendor import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

NumberStatus = Literal[
    "purchase-pending",
    "purchase-failed",
    "port-pending",
    "port-failed",
    "active",
    "deleted",
    "emergency-only",
    "ported-out",
    "port-out-pending",
    "requirement-info-pending",
    "requirement-info-under-review",
    "requirement-info-exception",
    "provision-pending",
]
EmergencyStatus = Literal[
    "active", "deprovisioning", "disabled", "provisioning", "provisioning-failed"
]
_CONNECTION_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {kind.record_type: kind for kind in KINDS if kind.store == "connections"}
)
_CAN_BE_NULL: Final = frozenset(
    {
        "connection_id",
        "messaging_profile_id",
        "customer_reference",
        "forwards_to",
        "forwarding_type",
    }
)
_E164: Final = r"^\+[1-9][0-9]{1,14}$"


class Strict(BaseModel):
    """A document without unknown fields."""

    model_config = ConfigDict(extra="forbid")


class _WithFields(BaseModel):
    """What is not declared is the vendor's own fields."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None

    def body(self) -> dict[str, object]:
        """The fields as a request would send them."""
        return dict(self.model_extra or {})


class ConnectionSeed(_WithFields):
    """A connection or application of any kind."""

    record_type: str


class NumberFields(Strict):
    """What a number can be given, by seed or by hand; what is not given is left as it is."""

    connection_id: str | None = None
    messaging_profile_id: str | None = None
    status: NumberStatus | None = None
    phone_number_type: str | None = None
    country_iso_alpha2: str | None = None
    tags: list[str] | None = None
    customer_reference: str | None = None
    hd_voice_enabled: bool | None = None
    deletion_lock_enabled: bool | None = None
    sms: bool | None = None
    forwards_to: str | None = None
    forwarding_type: Literal["always", "on-failure"] | None = None
    call_forwarding_enabled: bool | None = None
    translated_number: str | None = None
    inbound_call_screening: Literal["disabled", "reject_calls", "flag_calls"] | None = None
    emergency_status: EmergencyStatus | None = None
    call_recording_enabled: bool | None = None


class NumberSeed(NumberFields):
    """A number."""

    phone_number: Annotated[str, Field(pattern=_E164)]
    id: str | None = None


class KeySeed(Strict):
    """A further key of an account."""

    api_key: Annotated[str, Field(min_length=1)]
    scopes: tuple[str, ...] | None = None


class RulesSeed(Strict):
    """Other answers than the strict ones."""

    null_unassigns: bool = False
    unique_names: bool = False
    deletes_in_use: bool = False


class AccountSeed(KeySeed):
    """A new account, or changes and additions to one that exists."""

    id: str | None = None
    api_keys: list[KeySeed] = []
    status: AccountStatus | None = None
    balance: str | None = None
    hides_passwords: bool | None = None
    #: Ed25519, 32 bytes in base64; generated if not given.
    webhook_private_key: str | None = None
    rules: RulesSeed | None = None
    outbound_voice_profiles: list[_WithFields] = []
    messaging_profiles: list[_WithFields] = []
    connections: list[ConnectionSeed] = []
    fqdns: list[_WithFields] = []
    numbers: list[NumberSeed] = []


class TelnyxSeed(Strict):
    """Everything that can be seeded."""

    accounts: list[AccountSeed] = []


def sow(state: TelnyxState, seed: TelnyxSeed) -> None:
    """Adds accounts and what is in them. Raises ValueError; what came before it stays."""
    try:
        for item in seed.accounts:
            account = _account(state, item)
            for profile in item.outbound_voice_profiles:
                add(state, account, OUTBOUND_VOICE_PROFILES, profile.body(), profile.id)
            for profile in item.messaging_profiles:
                add(state, account, MESSAGING_PROFILES, profile.body(), profile.id)
            for connection in item.connections:
                _add_connection(state, account, connection)
            for fqdn in item.fqdns:
                add(state, account, FQDNS, fqdn.body(), fqdn.id)
            for number in item.numbers:
                _add_number(state, account, number)
    except TelnyxError as problem:
        raise ValueError(words(problem)) from problem


def _account(state: TelnyxState, item: AccountSeed) -> Account:
    owner = state.key_owners.get(item.api_key)
    account_id = item.id or (owner.id if owner else f"telnyx-{fingerprint(item.api_key)}")
    account = state.accounts.setdefault(account_id, Account(id=account_id))
    for key in (item, *item.api_keys):
        if state.key_owners.setdefault(key.api_key, account) is not account:
            msg = f"a key of {account_id} belongs to another account"
            raise ValueError(msg)
        if key.api_key not in account.keys or key.scopes is not None:
            account.keys[key.api_key] = ApiKey(key=key.api_key, scopes=key.scopes)
    if item.webhook_private_key is not None:
        raw = base64.b64decode(item.webhook_private_key, validate=True)
        account.signing_key = Ed25519PrivateKey.from_private_bytes(raw)
    if item.rules is not None:
        chosen: dict[str, bool] = item.rules.model_dump()
        account.rules = replace(Rules(), **chosen)
    for name in ("status", "balance", "hides_passwords"):
        if (value := getattr(item, name)) is not None:
            setattr(account, name, value)
    return account


def _add_connection(state: TelnyxState, account: Account, item: ConnectionSeed) -> None:
    if kind := _CONNECTION_KINDS.get(item.record_type):
        add(state, account, kind, item.body(), item.id)
        return
    if item.record_type not in FOREIGN_RECORD_TYPES:
        msg = f"no such kind of connection: {item.record_type}"
        raise ValueError(msg)
    check_fields(FOREIGN_FIELDS, item.body())
    foreign = Resource(
        id=item.id or new_id(),
        record_type=item.record_type,
        values=replaced(FOREIGN_FIELDS, item.body()),
    )
    account.connections[foreign.id] = foreign


def _add_number(state: TelnyxState, account: Account, item: NumberSeed) -> None:
    if item.phone_number in state.taken_numbers:
        msg = f"{item.phone_number} is already in an account"
        raise ValueError(msg)
    number = PhoneNumber(
        id=item.id or new_id(),
        phone_number=item.phone_number,
        country_iso_alpha2=_country(item.phone_number),
    )
    given = item.model_dump(exclude_unset=True, exclude={"id", "phone_number"})
    set_number(account, number, given)
    account.add_number(number)
    state.taken_numbers.add(number.phone_number)


def set_number(account: Account, number: PhoneNumber, given: dict[str, object]) -> None:
    """Applies fields, all or none. The portal can take a number off, so null can here."""
    connection_id = given.get("connection_id")
    if connection_id is not None and connection_id not in account.connections:
        raise refused("/connection_id", "", "10017")
    for name, value in given.items():
        if value is None and name not in _CAN_BE_NULL:
            raise refused(f"/{name}", f"{name} can't be null")
    if "sms" in given:
        number.sms = bool(given["sms"])
    if "messaging_profile_id" in given:
        profile = given.pop("messaging_profile_id") or ""
        telnyx_numbers.change_messaging(account, number, {"messaging_profile_id": profile})
    for name, value in given.items():
        setattr(number, name, value)


def _country(phone_number: str) -> str:
    """The country of the prefix; parsing is slow, and most numbers of a large seed are +1."""
    if phone_number.startswith("+1"):
        return "US"
    code = phonenumbers.parse(phone_number).country_code or 0
    return phonenumbers.region_code_for_country_code(code)


def words(problem: TelnyxError) -> str:
    """Which field is wrong, and how."""
    where = (problem.source or {}).get("pointer", "")
    return f"{where}: {problem.detail or problem.code}"
