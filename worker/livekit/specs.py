"""What LiveKit is to hold for one import, and the messages that say so.

:mod:`worker.livekit` brings it about, :mod:`worker.livekit.fields` compares it with what is there.

https://docs.livekit.io/reference/telephony/sip-api/
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NewType

from worker.domain.values import E164, ImportTag, MediaEncryption, SipLogin, SipTransport
from worker.livekit import client

if TYPE_CHECKING:
    from livekit import api


if not TYPE_CHECKING:
    # Taken from the client, so that the SDK is imported when it is first used.
    api = client.api

#: Under which keys the steps record the ids.
INBOUND: Final = "livekit_inbound_trunk"
OUTBOUND: Final = "livekit_outbound_trunk"
RULE: Final = "dispatch_rule"
FALLBACK_INBOUND: Final = "fallback_inbound_trunk"
FALLBACK_RULE: Final = "fallback_dispatch_rule"

#: The user part of a SIP address that a call is sent to, where it is no phone number.
CalledUser = NewType("CalledUser", str)


@dataclass(frozen=True, kw_only=True)
class InboundTrunk:
    """Who may call in on a number: somebody with the login, from the addresses, or both."""

    name: str
    #: A fallback route is called by its user instead.
    number: E164 | CalledUser
    login: SipLogin | None
    #: IP addresses or networks; empty allows all, so then there must be a login.
    allowed_addresses: tuple[str, ...]
    encryption: MediaEncryption
    metadata: str = ""

    def __post_init__(self) -> None:
        # LiveKit takes a trunk that only names its number, and one for 0.0.0.0/0; both answer
        # anybody.
        if self.login is None and not self.allowed_addresses:
            raise ValueError("an inbound trunk needs a login or allowed addresses")
        if not all(ipaddress.ip_network(a, strict=False).prefixlen for a in self.allowed_addresses):
            raise ValueError("an allowed address of /0 opens the trunk to the whole internet")


@dataclass(frozen=True, kw_only=True)
class OutboundTrunk:
    """Where calls from a number are sent: host[:port] and, if the carrier wants one, a login."""

    name: str
    number: E164
    address: str
    login: SipLogin | None
    transport: SipTransport
    encryption: MediaEncryption
    metadata: str = ""


@dataclass(frozen=True, kw_only=True)
class DispatchRule:
    """What a call to the trunk gets: a room of its own, an agent in it, perhaps a PIN before it."""

    name: str
    #: "" while the trunk is only planned; such a rule is never sent.
    trunk_id: str
    #: Not sent: the trunk already matches on it, and a second match could only refuse calls.
    number: E164
    #: The room is called "{room_prefix}_{caller}_{random}".
    room_prefix: str
    #: "" asks the caller for none.
    pin: str = field(repr=False)
    #: Dispatched into the room by this name; None leaves it to agents that join every room.
    agent_name: str | None
    agent_metadata: str
    attributes: Mapping[str, str]
    metadata: str = ""


@dataclass(frozen=True, kw_only=True)
class FallbackRoute:
    """A second way in, to another agent, for a call that nobody answered on the first.

    It shares no object with the main route, so that neither can break the other.
    """

    trunk: InboundTrunk
    #: Its trunk_id is "" until the trunk is there.
    rule: DispatchRule

    @property
    def user(self) -> str:
        """The user part of the SIP address that reaches it."""
        return self.trunk.number


@dataclass(frozen=True, kw_only=True)
class SipSetup:
    """Everything that LiveKit is to hold for one import; None is not wanted."""

    inbound: InboundTrunk | None
    outbound: OutboundTrunk | None
    rule: DispatchRule | None
    fallback: FallbackRoute | None


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names by which the objects of one import are found again."""

    inbound: str
    outbound: str
    rule: str
    fallback_inbound: str
    fallback_rule: str

    def __contains__(self, name: object) -> bool:
        return name in vars(self).values()


def names(tag: ImportTag) -> Names:
    """Returns the names of an import's objects."""
    prefix = f"trunkline:{tag.import_id}:"
    return Names(
        inbound=f"{prefix}inbound",
        outbound=f"{prefix}outbound",
        rule=f"{prefix}rule",
        fallback_inbound=_fallback_name(f"{prefix}inbound"),
        fallback_rule=_fallback_name(f"{prefix}rule"),
    )


def rule_name(trunk_name: str) -> str:
    """Returns the name of the rule that serves an inbound trunk."""
    return f"{trunk_name.removesuffix('inbound')}rule"


def _fallback_name(name: str) -> str:
    head, _, kind = name.rpartition(":")
    return f"{head}:fallback-{kind}"


def fallback_user(number: E164) -> CalledUser:
    """Returns the user that the voice webhook calls when nobody answered, no other number's.

    LiveKit compares what is no phone number as the exact text, in a trunk's ``numbers``, in the
    listing by number and for a call, whose called user is that of its To header:
    https://github.com/livekit/protocol/blob/main/sip/sip.go (NormalizeNumber, MatchTrunkDetailed),
    https://github.com/livekit/protocol/blob/main/livekit/sip.go (ListSIPInboundTrunkRequest.Filter)
    and https://github.com/livekit/sip/blob/main/pkg/sip/inbound.go (processInvite).
    """
    return CalledUser(f"{number.removeprefix('+')}-fallback")


def fallback_route(
    inbound: InboundTrunk, rule: DispatchRule, number: E164, agent_name: str
) -> FallbackRoute:
    """Returns the route to another agent, for the same callers, PIN and kind of room. Pure."""
    trunk = replace(inbound, name=_fallback_name(inbound.name), number=fallback_user(number))
    return FallbackRoute(
        trunk=trunk,
        rule=replace(rule, name=_fallback_name(rule.name), trunk_id="", agent_name=agent_name),
    )


def inbound_info(spec: InboundTrunk, import_id: str) -> api.SIPInboundTrunkInfo:
    """Returns the trunk as LiveKit wants it."""
    allowed = spec.allowed_addresses
    return api.SIPInboundTrunkInfo(allowed_addresses=allowed, **_trunk_fields(spec, import_id))


def outbound_info(spec: OutboundTrunk, import_id: str) -> api.SIPOutboundTrunkInfo:
    """Returns the trunk as LiveKit wants it."""
    transport = f"SIP_TRANSPORT_{spec.transport.name}"
    return api.SIPOutboundTrunkInfo(
        address=spec.address, transport=transport, **_trunk_fields(spec, import_id)
    )


def _trunk_fields(spec: InboundTrunk | OutboundTrunk, import_id: str) -> dict[str, Any]:
    encryption = f"SIP_MEDIA_ENCRYPT_{spec.encryption.name}"
    return {
        "name": spec.name,
        "metadata": spec.metadata or _metadata(import_id),
        "numbers": [spec.number],
        "auth_username": spec.login.username if spec.login else "",
        "auth_password": spec.login.password if spec.login else "",
        "media": api.SIPMediaConfig(encryption=encryption),
        # A server too old to know `media` reads the deprecated field; without it, it would carry
        # in the clear what the customer wants encrypted.
        "media_encryption": encryption,
    }


def rule_info(spec: DispatchRule, import_id: str) -> api.SIPDispatchRuleInfo:
    """Returns the rule as LiveKit wants it."""
    if not spec.trunk_id:
        raise ValueError("a dispatch rule without a trunk would answer for every trunk")
    each = api.SIPDispatchRuleIndividual(room_prefix=spec.room_prefix, pin=spec.pin)
    info = api.SIPDispatchRuleInfo(
        name=spec.name,
        metadata=spec.metadata or _metadata(import_id),
        attributes={"trunkline.import_id": import_id, **spec.attributes},
        trunk_ids=[spec.trunk_id],
        rule=api.SIPDispatchRule(dispatch_rule_individual=each),
    )
    if spec.agent_name is not None:
        info.room_config.agents.add(agent_name=spec.agent_name, metadata=spec.agent_metadata)
    return info


def _metadata(import_id: str) -> str:
    return json.dumps({"trunkline": {"import_id": import_id}})
