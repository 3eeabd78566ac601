"""What LiveKit does with a SIP INVITE: the trunk that takes it, the login, the rule, the agent.

After livekit/protocol sip/sip.go (MatchTrunkDetailed, MatchDispatchRuleIter, EvaluateDispatchRule),
livekit/livekit pkg/service/ioservice_sip.go and livekit/sip pkg/sip/inbound.go.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from livekit.protocol.sip import (
    SIP_MEDIA_ENCRYPT_DISABLE,
    SIP_MEDIA_ENCRYPT_REQUIRE,
    SIPDispatchRuleInfo,
    SIPInboundTrunkInfo,
)

from deploy.sandbox.livekit_rules import (
    TwirpError,
    normalized,
    pin_of,
    rule_conflict,
    rule_keys,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.sandbox.livekit_store import Project

#: How long LiveKit lets a call ring when its trunk says nothing (pkg/sip: defaultRingingTimeout).
RING_SECONDS: Final = 180
_NO_MASK: Final = frozenset("()+*;, \t\n\r")
#: Which kind of rule goes first among those that match.
_KIND_RANK: Final = {
    "dispatch_rule_direct": 0,
    "dispatch_rule_individual": 1,
    "dispatch_rule_callee": 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a caller answers a digest challenge with."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """A call as it reaches LiveKit's SIP port."""

    #: The user part of the address that was called; a number, or any other text.
    called: str
    calling: str
    #: The IP address that the request comes from.
    source: str
    login: Login | None
    #: Whether the caller encrypts its media.
    srtp: bool
    #: What the caller types when asked, followed by #; None types nothing, "" only #.
    pin: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """LiveKit's answer: refused with a SIP status, or a room to ring."""

    #: The SIP status if it ends here; 200 where the call goes to a room or asks for a PIN.
    status: int = HTTPStatus.OK
    #: Why it ends here, in LiveKit's own words where it has any; empty if it does not.
    refusal: str = ""
    trunk: str | None = None
    rule: str | None = None
    #: None where the rule names no agent: then agents join that join every room.
    agent_name: str | None = None
    #: The prefix of the room's name, or the name of a room that is always the same.
    room_prefix: str | None = None
    ring_seconds: int = RING_SECONDS
    #: Whether the call was answered before it was known where it goes, to ask for a PIN.
    asked_for_pin: bool = False


def dispatch(project: Project, invite: Invite) -> Dispatch:
    """Decides where a call goes."""
    try:
        trunk = match_trunk(project.inbound.items.values(), invite)
    except TwirpError as conflict:
        # A look-up that fails is answered like one that could not be made.
        return Dispatch(status=HTTPStatus.SERVICE_UNAVAILABLE, refusal=conflict.message)
    if trunk is None and project.inbound.items:
        return Dispatch(status=HTTPStatus.NOT_FOUND, refusal="Does not match any SIP Trunks")
    name = trunk.sip_trunk_id if trunk else None
    if trunk is not None and (refusal := _login_refusal(trunk, invite.login)):
        return Dispatch(status=HTTPStatus.UNAUTHORIZED, refusal=refusal, trunk=name)
    return _to_room(project, trunk, invite)


def match_trunk(
    trunks: Iterable[SIPInboundTrunkInfo], invite: Invite
) -> SIPInboundTrunkInfo | None:
    """The trunk for the called number, else the one for any; raises TwirpError if two match.

    A number that a trunk names twice matches twice, as it does in the server.
    """
    specific: list[SIPInboundTrunkInfo] = []
    wildcards: list[SIPInboundTrunkInfo] = []
    for trunk in trunks:
        if not _is_listed(invite.calling, trunk.allowed_numbers):
            continue
        if not _is_admitted(invite.source, trunk.allowed_addresses):
            continue
        if not trunk.numbers:
            wildcards.append(trunk)
        specific += [trunk for number in trunk.numbers if _is_same(invite.called, number)]
    if len(specific) > 1:
        raise _precondition(f'Multiple SIP Trunks matched for "{invite.called}"')
    if not specific and len(wildcards) > 1:
        raise _precondition(f'Multiple default SIP Trunks matched for "{invite.called}"')
    return next(iter(specific or wildcards), None)


def match_rule(
    rules: Iterable[SIPDispatchRuleInfo],
    trunk: SIPInboundTrunkInfo | None,
    invite: Invite,
    *,
    pin: str = "",
    no_pin: bool = False,
) -> SIPDispatchRuleInfo | None:
    """The best rule: one for the trunk before one for any. Raises TwirpError if two conflict.

    All rules that the trunk could use are compared first: a conflict between any two of them fails
    the call, also when neither would take it.
    """
    usable = [
        rule
        for rule in rules
        if not rule.trunk_ids or trunk is None or trunk.sip_trunk_id in rule.trunk_ids
    ]
    _refuse_conflicts(usable)
    matching = [rule for rule in usable if _takes(rule, invite, pin=pin, no_pin=no_pin)]
    specific = [rule for rule in matching if rule.trunk_ids and trunk is not None]
    wildcards = [rule for rule in matching if not rule.trunk_ids]
    return min(specific or wildcards, key=_priority, default=None)


def _to_room(project: Project, trunk: SIPInboundTrunkInfo | None, invite: Invite) -> Dispatch:
    name = trunk.sip_trunk_id if trunk else None
    rules = project.rules.items.values()
    asked = False
    try:
        rule = match_rule(rules, trunk, invite)
        if rule is not None and pin_of(rule):
            asked = True
            if invite.pin is None:
                return Dispatch(
                    refusal="LiveKit asks for a PIN and the caller types none",
                    trunk=name,
                    rule=rule.sip_dispatch_rule_id,
                    asked_for_pin=True,
                )
            rule = match_rule(rules, trunk, invite, pin=invite.pin, no_pin=not invite.pin)
    except TwirpError as conflict:
        return Dispatch(status=HTTPStatus.NOT_IMPLEMENTED, refusal=conflict.message, trunk=name)
    if rule is None:
        words = "wrong PIN" if asked else "Does not match Trunks or Dispatch Rules"
        status = HTTPStatus.OK if asked else HTTPStatus.NOT_FOUND
        return Dispatch(status=status, refusal=words, trunk=name, asked_for_pin=asked)
    if refusal := _media_refusal(trunk, rule, srtp=invite.srtp):
        return Dispatch(
            status=HTTPStatus.INTERNAL_SERVER_ERROR,
            refusal=refusal,
            trunk=name,
            rule=rule.sip_dispatch_rule_id,
        )
    kind = rule.rule.WhichOneof("rule")
    chosen = getattr(rule.rule, str(kind))
    agents = rule.room_config.agents
    own = trunk.ringing_timeout.seconds if trunk is not None else 0
    return Dispatch(
        trunk=name,
        rule=rule.sip_dispatch_rule_id,
        agent_name=agents[0].agent_name if agents else None,
        room_prefix=chosen.room_name if kind == "dispatch_rule_direct" else chosen.room_prefix,
        ring_seconds=own or RING_SECONDS,
        asked_for_pin=asked,
    )


def _login_refusal(trunk: SIPInboundTrunkInfo, login: Login | None) -> str:
    """Why the login does not do; empty if it does, or if none is asked for.

    The server asks only where both halves are set. It computes with the caller's own user name, so
    that a wrong one may pass there; here both must be right.
    """
    if not (trunk.auth_username and trunk.auth_password):
        return ""
    if login is None:
        return "LiveKit asks for a login and the call carries none"
    if (login.username, login.password) != (trunk.auth_username, trunk.auth_password):
        return "Unauthorized: the login is not the trunk's"
    return ""


def _media_refusal(
    trunk: SIPInboundTrunkInfo | None, rule: SIPDispatchRuleInfo, *, srtp: bool
) -> str:
    """Why the two sides cannot agree on encryption; empty if they can.

    A call that comes encrypted where none is allowed is refused here: read in no source, but the
    carriers that encrypt do not fall back to plain media.
    """
    wanted = SIP_MEDIA_ENCRYPT_DISABLE
    if trunk is not None:
        wanted = trunk.media.encryption or trunk.media_encryption
    wanted = rule.media.encryption or rule.media_encryption or wanted
    if wanted == SIP_MEDIA_ENCRYPT_REQUIRE and not srtp:
        return "no common crypto: the trunk requires encrypted media, the call has none"
    if wanted == SIP_MEDIA_ENCRYPT_DISABLE and srtp:
        return "no common crypto: the call's media are encrypted, the trunk allows none"
    return ""


def _refuse_conflicts(rules: Iterable[SIPDispatchRuleInfo]) -> None:
    holders: dict[tuple[str, str, str, str], SIPDispatchRuleInfo] = {}
    for rule in rules:
        for key in rule_keys(rule):
            if key in holders:
                raise rule_conflict(holders[key])
            holders[key] = rule


def _takes(rule: SIPDispatchRuleInfo, invite: Invite, *, pin: str, no_pin: bool) -> bool:
    # The server compares these two as they are, without normalising: a rule for 1415… does not
    # take a call from +1415….
    if rule.inbound_numbers and invite.calling not in rule.inbound_numbers:
        return False
    if rule.numbers and invite.called not in rule.numbers:
        return False
    own = pin_of(rule)
    if no_pin:
        return not own
    return not pin or own == pin


def _priority(rule: SIPDispatchRuleInfo) -> tuple[int, str, str]:
    """The lowest goes first: for chosen numbers, with a PIN, by kind, by the room's name."""
    kind = str(rule.rule.WhichOneof("rule"))
    chosen = getattr(rule.rule, kind)
    rank = _KIND_RANK[kind] + (0 if chosen.pin else 100)
    rank += 1000 * (not rule.inbound_numbers) + 1000 * (not rule.numbers)
    room = chosen.room_name if kind == "dispatch_rule_direct" else chosen.room_prefix
    # The server keeps the first of equals in whatever order its store lists them.
    return rank, room, rule.sip_dispatch_rule_id


def _is_same(number: str, other: str) -> bool:
    """Numbers are compared without formatting and with a plus, any other text as it is."""
    return number == other or normalized(number) == normalized(other)


def _is_listed(number: str, listed: Iterable[str]) -> bool:
    wanted = list(listed)
    return not wanted or any(_is_same(number, item) for item in wanted)


def _is_admitted(source: str, masks: Iterable[str]) -> bool:
    """Whether an address is one of the masks; what cannot be a mask does not count as one."""
    usable = [mask for mask in masks if not _NO_MASK & set(mask) and "://" not in mask]
    if not usable:
        return True
    address = ipaddress.ip_address(source)
    return any(_matches(address, mask) for mask in usable)


def _matches(address: ipaddress.IPv4Address | ipaddress.IPv6Address, mask: str) -> bool:
    try:
        return address in ipaddress.ip_network(mask, strict=False)
    except ValueError:
        # A host name; carriers send their address, not a name, in what it is compared with.
        return False


def _precondition(message: str) -> TwirpError:
    return TwirpError("failed_precondition", message)
