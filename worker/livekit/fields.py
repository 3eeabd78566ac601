"""What LiveKit holds, field by field, beside what we set; and who else takes the same calls. Pure.

How LiveKit chooses the trunk and the rule of a call:
https://github.com/livekit/protocol/blob/main/sip/sip.go
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Final, TypeAlias

from worker.domain.values import Fields
from worker.livekit import client
from worker.livekit.requests import Info, id_of
from worker.livekit.specs import (
    FALLBACK_INBOUND,
    FALLBACK_RULE,
    INBOUND,
    OUTBOUND,
    RULE,
    DispatchRule,
    SipSetup,
    inbound_info,
    outbound_info,
    rule_info,
)

if TYPE_CHECKING:
    from livekit import api


if not TYPE_CHECKING:
    # Taken from the client, so that the SDK is imported when it is first used.
    api = client.api

Key = tuple[str, ...]
Trunk: TypeAlias = "api.SIPInboundTrunkInfo | api.SIPOutboundTrunkInfo"

#: Stands for the id of a trunk that is not there yet.
_PLANNED: Final = "planned"
#: The fields that a spec decides, over all kinds of objects; the server may fill in others.
_DECIDED: Final = (
    *("name", "metadata", "numbers", "allowed_addresses", "allowed_numbers", "auth_username"),
    *("auth_password", "address", "transport"),
    *("trunk_ids", "inbound_numbers", "rule", "room_config", "attributes"),
)


def same(one: Info, other: Info) -> bool:
    """Whether two objects agree in everything that a spec decides."""
    agree = all(getattr(one, field, None) == getattr(other, field, None) for field in _DECIDED)
    return agree and _encryption(one) == _encryption(other)


# What we set, and what is there


def planned_objects(setup: SipSetup) -> Mapping[str, Fields]:
    """Returns everything that an import makes at LiveKit, and with which settings. Pure.

    Keyed as the steps record the ids, in the order of making; the fields carry LiveKit's names.
    Instead of passwords, PINs and texts that carry ids it says "as set" or "none". Equal to what
    ``LiveKit.read_objects`` reads right after the import.
    """
    planned: dict[str, Fields] = {}
    trunks = {INBOUND: setup.inbound, FALLBACK_INBOUND: setup.fallback and setup.fallback.trunk}
    rules = {RULE: setup.rule, FALLBACK_RULE: setup.fallback and setup.fallback.rule}
    for key in (INBOUND, OUTBOUND, RULE, FALLBACK_INBOUND, FALLBACK_RULE):
        if trunk := trunks.get(key):
            inbound = inbound_info(trunk, "")
            planned[key] = inbound_fields(inbound, inbound)
        elif key == OUTBOUND and setup.outbound:
            outbound = outbound_info(setup.outbound, "")
            planned[key] = outbound_fields(outbound, outbound)
        elif spec := rules.get(key):
            rule = wanted_rule(spec, "", "")
            planned[key] = rule_fields(rule, rule)
    return planned


def wanted_rule(spec: DispatchRule, trunk_id: str, import_id: str) -> api.SIPDispatchRuleInfo:
    """Returns the rule as it should be on this trunk, also where there is none yet."""
    return rule_info(replace(spec, trunk_id=trunk_id or _PLANNED), import_id)


def inbound_fields(
    found: api.SIPInboundTrunkInfo, wanted: api.SIPInboundTrunkInfo, shadows: Iterable[str] = ()
) -> Fields:
    """Describes a trunk that was found."""
    return {
        **_trunk_fields(found, wanted),
        "allowed_addresses": ",".join(found.allowed_addresses),
        "allowed_numbers": ",".join(found.allowed_numbers),
        "shadowed_by": ",".join(shadows),
    }


def outbound_fields(found: api.SIPOutboundTrunkInfo, wanted: api.SIPOutboundTrunkInfo) -> Fields:
    """Describes a trunk that was found."""
    transport = api.SIPTransport.Name(found.transport)
    return {
        **_trunk_fields(found, wanted),
        "address": found.address,
        "transport": transport.removeprefix("SIP_TRANSPORT_").lower(),
    }


def rule_fields(
    found: api.SIPDispatchRuleInfo, wanted: api.SIPDispatchRuleInfo, shadows: Iterable[str] = ()
) -> Fields:
    """Describes a rule that was found."""
    kind, each = _kind(found)
    theirs = "another" if found.trunk_ids else "none"
    encryption = _encryption(found)
    return {
        "name": _compared(found.name, wanted.name),
        "metadata": _compared(found.metadata, wanted.metadata),
        "trunk_ids": "ours" if found.trunk_ids == wanted.trunk_ids else theirs,
        "inbound_numbers": ",".join(found.inbound_numbers),
        "numbers": ",".join(found.numbers),
        "rule": kind.removeprefix("dispatch_rule_"),
        "room_prefix": getattr(each, "room_prefix", ""),
        "no_randomness": str(getattr(each, "no_randomness", False)).lower(),
        "pin": _compared(pin_of(found), pin_of(wanted)),
        "agent_name": ",".join(agent.agent_name for agent in found.room_config.agents),
        "room_config": _compared(
            found.room_config.SerializeToString(deterministic=True),
            wanted.room_config.SerializeToString(deterministic=True),
        ),
        "attributes": _compared(dict(found.attributes), dict(wanted.attributes)),
        # Whatever else it is overrides the trunk's.
        "media_encryption": "" if encryption == "disable" else encryption,
        "shadowed_by": ",".join(shadows),
    }


def _trunk_fields(found: Trunk, wanted: Trunk) -> dict[str, str]:
    return {
        "name": _compared(found.name, wanted.name),
        "metadata": _compared(found.metadata, wanted.metadata),
        "numbers": ",".join(found.numbers),
        "auth_username": found.auth_username,
        "auth_password": _compared(found.auth_password, wanted.auth_password),
        "media_encryption": _encryption(found),
    }


def _compared(found: object, wanted: object) -> str:
    if not found:
        return "none"
    return "as set" if found == wanted else "another"


def _encryption(info: Trunk | api.SIPDispatchRuleInfo) -> str:
    # A server too old to know `media` leaves it out.
    known = info.media.HasField("encryption")
    value = info.media.encryption if known else info.media_encryption
    return api.SIPMediaEncryption.Name(value).removeprefix("SIP_MEDIA_ENCRYPT_").lower()


# Who else takes the same calls


def normalized(number: str) -> str:
    """Returns a called or calling number as LiveKit compares it; other text as it is."""
    if re.fullmatch(r"\+?[0-9 ()-]+", number) is None:
        return number
    return "+" + re.sub(r"[ ()+-]", "", number)


def answers(trunk: api.SIPInboundTrunkInfo, called: str) -> bool:
    """Whether the trunk names the called number or user."""
    return normalized(called) in map(normalized, trunk.numbers)


def trunk_rivals(trunks: Iterable[api.SIPInboundTrunkInfo], called: str) -> tuple[str, ...]:
    """Returns who would make the creation of a trunk for the number fail.

    Who answers it for every caller; and who conflicts with another one among all that a create is
    compared with, since such a conflict fails every create.
    """
    near = [trunk for trunk in trunks if answers(trunk, called) or not trunk.numbers]
    taking = [trunk for trunk in near if trunk.numbers and not trunk.allowed_numbers]
    return _sorted_ids([*taking, *_tied(near, _trunk_keys)])


def trunk_shadows(others: Iterable[api.SIPInboundTrunkInfo], called: str) -> tuple[str, ...]:
    """Returns who else answers the number: LiveKit refuses a call that two trunks match.

    Also who does it for chosen callers only, whose calls then match both.
    """
    return _sorted_ids(trunk for trunk in others if answers(trunk, called))


def rule_shadows(
    others: Iterable[api.SIPDispatchRuleInfo], ours: api.SIPDispatchRuleInfo, called: str
) -> tuple[str, ...]:
    """Returns which rules take calls of our rule's trunk before it, or make LiveKit refuse them.

    It refuses every call of a trunk while two of its rules, or two for any trunk, hold the same
    PIN, trunk and numbers.
    """
    [trunk_id] = ours.trunk_ids
    near = [rule for rule in others if trunk_id in rule.trunk_ids or not rule.trunk_ids]
    # A rule for any trunk comes after all that name the call's own.
    taking = [rule for rule in near if rule.trunk_ids and _wins(rule, ours, called)]
    return _sorted_ids([*taking, *_tied([ours, *near], _rule_keys)])


def pin_of(rule: api.SIPDispatchRuleInfo) -> str:
    """Returns the rule's PIN, "" for none."""
    return getattr(_kind(rule)[1], "pin", "")


def _wins(rule: api.SIPDispatchRuleInfo, ours: api.SIPDispatchRuleInfo, called: str) -> bool:
    if rule.numbers and normalized(called) not in map(normalized, rule.numbers):
        return False
    if pin_of(ours) and pin_of(rule) and pin_of(ours) != pin_of(rule):
        return False  # either asks for a PIN, and the one that is typed decides
    return _priority(rule) < _priority(ours)


def _priority(rule: api.SIPDispatchRuleInfo) -> int:
    """LiveKit's own: the lowest wins. After DispatchRulePriority in sip/sip.go."""
    kinds = ("dispatch_rule_direct", "dispatch_rule_individual", "dispatch_rule_callee")
    kind, _ = _kind(rule)
    if not kind:
        return 2**31 - 1
    open_to_all = 0 if pin_of(rule) else 100
    any_number = 1000 * (not rule.inbound_numbers) + 1000 * (not rule.numbers)
    return kinds.index(kind) + open_to_all + any_number


def _kind(rule: api.SIPDispatchRuleInfo) -> tuple[str, object]:
    kind = rule.rule.WhichOneof("rule")
    return (kind, getattr(rule.rule, kind)) if kind else ("", None)


def _trunk_keys(trunk: api.SIPInboundTrunkInfo) -> Iterable[Key]:
    return product(_any(trunk.numbers), _any(trunk.allowed_numbers))


def _rule_keys(rule: api.SIPDispatchRuleInfo) -> Iterable[Key]:
    trunks = rule.trunk_ids or [""]
    return product([pin_of(rule)], trunks, _any(rule.inbound_numbers), _any(rule.numbers))


def _any(numbers: Iterable[str]) -> list[str]:
    return [normalized(number) for number in numbers] or [""]


def _tied(infos: Iterable[Info], keys: Callable[[Info], Iterable[Key]]) -> list[Info]:
    """Returns the objects that hold a key together with another one."""
    holders: defaultdict[Key, list[Info]] = defaultdict(list)
    for info in infos:
        for key in set(keys(info)):
            holders[key].append(info)
    return [info for tied in holders.values() if len(tied) > 1 for info in tied]


def _sorted_ids(infos: Iterable[Info]) -> tuple[str, ...]:
    return tuple(sorted({id_of(info) for info in infos} - {""}))
