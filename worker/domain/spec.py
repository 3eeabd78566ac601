"""What one import is to do, as the caller asked and as the database keeps it: no secret in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from worker.domain.values import (
    E164,
    MediaEncryption,
    Ownership,
    ProviderName,
    RoutingMode,
    SipTransport,
)


@dataclass(frozen=True, kw_only=True)
class ImportSpec:
    """One import's request; secrets (SIP password, PIN) travel in :class:`ImportSecrets`."""

    phone_number: E164
    provider: ProviderName
    routing_mode: RoutingMode
    ownership: Ownership
    #: The vendor's id of the number, if the caller named it: then it must be this number's.
    number_sid: str | None
    friendly_name: str | None
    agent_id: str | None
    user_id: str | None
    supports_inbound: bool
    supports_outbound: bool
    replace_existing_routing: bool
    sms_enabled: bool
    sip_trunk_name: str | None
    sip_address: str | None
    sip_transport: SipTransport
    media_encryption: MediaEncryption
    allowed_addresses: tuple[str, ...]
    room_prefix: str
    fallback_agent_id: str | None
    voicemail_message: str | None
    price: float | None
    metadata: Mapping[str, Any]
    #: What the customer must set at a carrier that we cannot reach; no password.
    carrier: Mapping[str, str] | None = None
    #: Which carrier that is, if it is one whose signalling addresses are known.
    sip_carrier: ProviderName | None = None

    @property
    def records_only(self) -> bool:
        """Whether nothing is to come to us: the number is looked up and written down, untouched."""
        return not (self.supports_inbound or self.supports_outbound or self.sms_enabled)

    def to_json(self) -> dict[str, Any]:
        """Returns what a JSONB column holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Reads what :meth:`to_json` wrote."""
        sip_carrier = data.get("sip_carrier")
        return cls(
            **{
                **data,
                "sip_carrier": None if sip_carrier is None else ProviderName(sip_carrier),
                "phone_number": E164(data["phone_number"]),
                "provider": ProviderName(data["provider"]),
                "routing_mode": RoutingMode(data["routing_mode"]),
                "ownership": Ownership(data["ownership"]),
                "sip_transport": SipTransport(data["sip_transport"]),
                "media_encryption": MediaEncryption(data["media_encryption"]),
                "allowed_addresses": tuple(data["allowed_addresses"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class ImportSecrets:
    """One import's secrets; they exist in memory and in the vault only."""

    #: Login that a caller of the LiveKit inbound trunk must answer with: generated, or a SIP
    #: carrier's own; None where addresses decide.
    inbound_username: str | None
    inbound_password: str | None = field(repr=False)
    #: Login of the provider-side termination that we create; generated.
    termination_username: str
    termination_password: str = field(repr=False)
    #: The caller's own login for outbound calls.
    sip_username: str | None
    sip_password: str | None = field(repr=False)
    #: What a caller types before they are let in; "" for nothing.
    pin: str = field(repr=False)
    #: Fingerprint of the request: the same Idempotency-Key must come with the same body.
    fingerprint: str = field(repr=False)
    #: Where its end and the number's events are told; its query may hold a secret.
    callback_url: str | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Returns what the vault seals."""
        return asdict(self)
