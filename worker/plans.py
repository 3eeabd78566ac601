"""What one import wants outside, as plain values.

The steps make it, a preflight shows it, a check compares what is there with it: one source for all
three. Pure, but that the adapter is asked which addresses its vendor signals from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from worker.domain.errors import NumberInUse, SipTrunkProvisionFailed
from worker.domain.spec import ImportSecrets, ImportSpec
from worker.domain.values import (
    NOWHERE,
    CallbackUrls,
    Fields,
    ImportTag,
    Objects,
    RoutingMode,
    SipLogin,
    SipTransport,
    TrunkPlan,
    format_id,
)
from worker.livekit import (
    DispatchRule,
    FallbackRoute,
    InboundTrunk,
    OutboundTrunk,
    SipSetup,
    fallback_route,
    names,
)
from worker.providers import Provider
from worker.settings import Settings

#: Key of provision_trunks' output: the host of the termination that was made.
TERMINATION_ADDRESS: Final = "termination_address"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One import's objects at its provider and at LiveKit, with all their settings."""

    spec: ImportSpec
    secrets: ImportSecrets
    settings: Settings
    provider: Provider
    tag: ImportTag
    number_id: UUID
    #: LiveKit's agent_name of the agent and of the fallback agent, where there are any.
    agent_name: str | None
    fallback_agent_name: str | None

    @property
    def urls(self) -> CallbackUrls:
        """Our public URLs for the number."""
        return CallbackUrls.of(self.settings.public_base_url, self.spec.provider, self.number_id)

    @property
    def needs_termination(self) -> bool:
        """Whether outbound calls go through a login that we make at the provider."""
        return self.spec.supports_outbound and self.spec.sip_address is None

    @property
    def trunk(self) -> TrunkPlan | None:
        """What the trunk at the provider must do; None if no call needs one."""
        inbound = self.spec.supports_inbound and self.spec.routing_mode is RoutingMode.SIP_TRUNK
        if not inbound and not self.needs_termination:
            return None
        return TrunkPlan(
            origination_host=self.settings.livekit_sip_host if inbound else None,
            origination_login=self.inbound_login if inbound else None,
            termination=self.termination if self.needs_termination else None,
            secure=self.spec.sip_transport is SipTransport.TLS,
        )

    @property
    def has_fallback(self) -> bool:
        """Whether calls that nobody answers go to a fallback agent; only our webhook dials it."""
        return self.is_called_back and self.fallback_agent_name is not None

    @property
    def is_called_back(self) -> bool:
        """Whether calls begin with a request to our voice URL."""
        return self.spec.routing_mode is RoutingMode.WEBHOOK and self.spec.supports_inbound

    def webhooks(self, objects: Objects) -> Mapping[str, Fields]:
        """Returns the fields that make everything but voice ours, by part; none of them if unused.

        ``objects`` are the ids of what carries our URLs.
        """
        if self.spec.records_only:
            return {}
        return self.provider.plan_webhooks(self.urls, objects, sms=self.spec.sms_enabled)

    def provider_objects(self, trunk: TrunkPlan | None) -> Mapping[str, Fields]:
        """Returns what is made at the provider; with ``trunk`` its objects are among them."""
        spec = self.spec
        if spec.records_only:
            return {}
        return self.provider.planned_objects(
            spec.routing_mode, self.urls, trunk, sms=spec.sms_enabled
        )

    @property
    def inbound_login(self) -> SipLogin | None:
        """What a call must answer LiveKit's challenge with, if it can."""
        if self.spec.routing_mode not in self.provider.authenticating_modes:
            return None
        username, password = self.secrets.inbound_username, self.secrets.inbound_password
        if username is None or password is None:
            return None
        return SipLogin(username=username, password=password)

    @property
    def termination(self) -> SipLogin:
        """Who may send calls through the termination that we make."""
        return SipLogin(
            username=self.secrets.termination_username,
            password=self.secrets.termination_password,
        )

    @property
    def replaced_parts(self) -> tuple[str, ...]:
        """The parts whose foreign target would be lost; a status callback answers nobody's call."""
        return ("voice",) * self.spec.supports_inbound + ("sms",) * self.spec.sms_enabled

    def require_free(self, part: str, fields: Fields) -> None:
        """Makes sure that a part of the number goes nowhere yet.

        Raises:
            NumberInUse: it goes to something foreign.
        """
        target = self.provider.target(part, fields)
        if target != NOWHERE:
            raise NumberInUse(
                f"The number's {part} traffic already goes to a {target}. Send "
                "replace_existing_routing: true to replace that; it is put back on release."
            )

    def inbound(self) -> InboundTrunk | None:
        """Returns the trunk that takes calls for the number; None if none are wanted.

        Who may call it is never the number alone: who can answer a challenge has to, from the
        others the carrier's own addresses are admitted.

        Raises:
            SipTrunkProvisionFailed: nobody could call it.
        """
        if not self.spec.supports_inbound:
            return None
        login = self.inbound_login
        addresses = self.spec.allowed_addresses
        if login is None and not addresses:
            addresses = self._signalling_addresses
        if login is None and not addresses:
            carrier = self.spec.sip_carrier or self.spec.provider
            raise SipTrunkProvisionFailed(
                "Nobody could call the inbound trunk: give sip.allowed_addresses, or let the "
                f"operator set TRUNKLINE_{carrier.upper()}_SIGNALLING_ADDRESSES."
            )
        return InboundTrunk(
            name=names(self.tag).inbound,
            number=self.spec.phone_number,
            login=login,
            allowed_addresses=addresses,
            encryption=self.spec.media_encryption,
            metadata=self._metadata,
        )

    @property
    def _signalling_addresses(self) -> tuple[str, ...]:
        """Where the calls of whoever holds the number come from."""
        if self.spec.sip_carrier is not None:
            return self.settings.signalling_addresses(self.spec.sip_carrier)
        return self.provider.signalling_addresses()

    def outbound(self, termination_address: str | None) -> OutboundTrunk | None:
        """Returns the trunk that places calls from the number; None if none are wanted.

        ``termination_address`` is that of the provider's trunk, where we made one.
        """
        if not self.spec.supports_outbound:
            return None
        address, login = self.spec.sip_address, None
        if self.secrets.sip_username is not None and self.secrets.sip_password is not None:
            login = SipLogin(username=self.secrets.sip_username, password=self.secrets.sip_password)
        if self.needs_termination:
            address, login = termination_address, self.termination
        assert address is not None, "submit makes sure of an address, or prepare_trunk returns one"
        return OutboundTrunk(
            name=names(self.tag).outbound,
            number=self.spec.phone_number,
            address=address,
            login=login,
            transport=self.spec.sip_transport,
            encryption=self.spec.media_encryption,
            metadata=self._metadata,
        )

    def rule(self, trunk_id: str) -> DispatchRule | None:
        """Returns what a call to the inbound trunk gets; None if no calls are wanted."""
        if not self.spec.supports_inbound:
            return None
        about = {
            "import_id": self.tag.import_id,
            "phone_number_id": format_id("num", self.number_id),
            "agent_id": self.spec.agent_id,
            "fallback_agent_id": self.spec.fallback_agent_id,
            "voicemail_message": self.spec.voicemail_message,
        }
        known = {name: value for name, value in about.items() if value is not None}
        return DispatchRule(
            name=names(self.tag).rule,
            trunk_id=trunk_id,
            number=self.spec.phone_number,
            room_prefix=self.spec.room_prefix,
            pin=self.secrets.pin,
            agent_name=self.agent_name,
            agent_metadata=json.dumps(known, sort_keys=True),
            attributes={f"trunkline.{name}": value for name, value in known.items()},
        )

    def fallback(self) -> FallbackRoute | None:
        """Returns the way in for calls that nobody answered; only our voice webhook can dial it."""
        inbound, rule = self.inbound(), self.rule("")
        if self.fallback_agent_name is None or inbound is None or rule is None:
            return None
        if not self.has_fallback:
            return None
        return fallback_route(inbound, rule, self.spec.phone_number, self.fallback_agent_name)

    def sip_setup(self, *, trunk_id: str, termination_address: str | None) -> SipSetup:
        """Returns everything that LiveKit is to hold.

        Raises:
            SipTrunkProvisionFailed: nobody could call the inbound trunk.
        """
        return SipSetup(
            inbound=self.inbound(),
            outbound=self.outbound(termination_address),
            rule=self.rule(trunk_id),
            fallback=self.fallback(),
        )

    @property
    def _metadata(self) -> str:
        """Whose trunk it is, and what the caller calls it; by its own name we find it."""
        about = {"import_id": self.tag.import_id, "trunk_name": self.spec.sip_trunk_name}
        return json.dumps({"trunkline": {name: text for name, text in about.items() if text}})
