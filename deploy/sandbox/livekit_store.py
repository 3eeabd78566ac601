"""What a LiveKit project holds, and the comparison that keeps conflicts out of it."""

from __future__ import annotations

import secrets
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from livekit.protocol.sip import SIPDispatchRuleInfo, SIPInboundTrunkInfo, SIPOutboundTrunkInfo

from deploy.sandbox.livekit_rules import (
    normalized,
    rule_conflict,
    rule_keys,
    trunk_conflict,
    trunk_keys,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from livekit.protocol.models import Pagination

_ID_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ID_LENGTH: Final = 12
_DEFAULT_PAGE: Final = 1000

Info = TypeVar("Info", SIPInboundTrunkInfo, SIPOutboundTrunkInfo, SIPDispatchRuleInfo)
Key = TypeVar("Key", bound=tuple[str, ...])


class Store(Generic[Info]):
    """Objects by id, and by the tags that list filters ask for; an empty tag stands for any."""

    def __init__(self, tags: Callable[[Info], Iterable[str]]) -> None:
        self.items: dict[str, Info] = {}
        self._tags: Callable[[Info], Iterable[str]] = tags
        self._tagged: defaultdict[str, set[str]] = defaultdict(set)

    def put(self, name: str, item: Info) -> None:
        """Stores the object, in place of the one with the same id."""
        self.pop(name)
        self.items[name] = item
        for tag in self._tags(item):
            self._tagged[tag].add(name)

    def pop(self, name: str) -> Info | None:
        """Removes the object if it is there."""
        item = self.items.pop(name, None)
        if item is not None:
            for tag in self._tags(item):
                self._tagged[tag].discard(name)
        return item

    def matches(self, item: Info, tags: set[str]) -> bool:
        """Whether a list filter lets the object through; no filter lets all, no tags mean any."""
        own = set(self._tags(item))
        return not tags or "" in own or bool(own & tags)

    def select(self, tags: set[str], page: Pagination | None) -> list[Info]:
        """The objects that a list filter lets through, in order of id."""
        names: Iterable[str] = self.items
        if tags:
            names = {name for tag in (*tags, "") for name in self._tagged.get(tag, ())}
        ordered = sorted(names)
        if page is not None:
            # An open-source server returns everything after `after_id`, whatever the limit; a
            # client that relies on that would miss objects elsewhere, so the limit holds here.
            ordered = [name for name in ordered if name > page.after_id]
            ordered = ordered[: page.limit or _DEFAULT_PAGE]
        return [self.items[name] for name in ordered]


class Claims(Generic[Key]):
    """Which objects hold which keys, so that a create need not compare with every object."""

    def __init__(self) -> None:
        self._holders: defaultdict[Key, list[str]] = defaultdict(list)
        #: Keys held twice: only seeding can do that, as two racing creates do at the vendor.
        self._crowded: set[Key] = set()

    def add(self, name: str, keys: Iterable[Key]) -> None:
        """The object takes its keys."""
        for key in keys:
            holders = self._holders[key]
            holders.append(name)
            if len(holders) > 1:
                self._crowded.add(key)

    def remove(self, name: str, keys: Iterable[Key]) -> None:
        """The object gives its keys up."""
        for key in keys:
            holders = self._holders[key]
            holders.remove(name)
            if len(holders) <= 1:
                self._crowded.discard(key)
            if not holders:
                del self._holders[key]

    def crowded(self) -> list[Key]:
        """The keys that more than one object holds."""
        return sorted(self._crowded)

    def others(self, key: Key, name: str) -> list[str]:
        """Who else than the named object holds the key, in order of id."""
        return sorted(holder for holder in self._holders.get(key, ()) if holder != name)


class Project:
    """Trunks and rules of one LiveKit project."""

    def __init__(self) -> None:
        self.inbound = Store[SIPInboundTrunkInfo](
            lambda trunk: {normalized(item) for item in trunk.numbers} or {""}
        )
        # Not normalised: the filter for outbound trunks compares text.
        self.outbound = Store[SIPOutboundTrunkInfo](lambda trunk: set(trunk.numbers) or {""})
        self.rules = Store[SIPDispatchRuleInfo](lambda rule: set(rule.trunk_ids) or {""})
        self._trunk_claims = Claims[tuple[str, str]]()
        self._rule_claims = Claims[tuple[str, str, str, str]]()

    def put_inbound(self, trunk: SIPInboundTrunkInfo) -> SIPInboundTrunkInfo:
        """Stores an inbound trunk; a new one gets its id."""
        trunk.sip_trunk_id = trunk.sip_trunk_id or _new_id("ST_")
        self.pop_inbound(trunk.sip_trunk_id)
        self.inbound.put(trunk.sip_trunk_id, trunk)
        self._trunk_claims.add(trunk.sip_trunk_id, trunk_keys(trunk))
        return trunk

    def pop_inbound(self, name: str) -> None:
        """Removes an inbound trunk if it is there."""
        trunk = self.inbound.pop(name)
        if trunk is not None:
            self._trunk_claims.remove(name, trunk_keys(trunk))

    def put_outbound(self, trunk: SIPOutboundTrunkInfo) -> SIPOutboundTrunkInfo:
        """Stores an outbound trunk; a new one gets its id."""
        trunk.sip_trunk_id = trunk.sip_trunk_id or _new_id("ST_")
        self.outbound.put(trunk.sip_trunk_id, trunk)
        return trunk

    def put_rule(self, rule: SIPDispatchRuleInfo) -> SIPDispatchRuleInfo:
        """Stores a rule; a new one gets its id."""
        rule.sip_dispatch_rule_id = rule.sip_dispatch_rule_id or _new_id("SDR_")
        self.pop_rule(rule.sip_dispatch_rule_id)
        self.rules.put(rule.sip_dispatch_rule_id, rule)
        self._rule_claims.add(rule.sip_dispatch_rule_id, rule_keys(rule))
        return rule

    def pop_rule(self, name: str) -> SIPDispatchRuleInfo | None:
        """Removes a rule if it is there."""
        rule = self.rules.pop(name)
        if rule is not None:
            self._rule_claims.remove(name, rule_keys(rule))
        return rule

    def refuse_trunk_conflicts(self, trunk: SIPInboundTrunkInfo) -> None:
        """Compares with the trunks that share a number and those that take any. Raises TwirpError.

        A conflict that those have among themselves fails this request too.
        """
        name = trunk.sip_trunk_id
        numbers = {normalized(item) for item in trunk.numbers}
        for key in self._trunk_claims.crowded():
            first, *rest = self._trunk_claims.others(key, name) or [""]
            if rest and (not numbers or key[0] in numbers | {""}):
                raise trunk_conflict(self.inbound.items[rest[0]], first, key)
        own: set[tuple[str, str]] = set()
        for key in trunk_keys(trunk):
            others = self._trunk_claims.others(key, name)
            if others or key in own:
                raise trunk_conflict(trunk, others[0] if others else name, key)
            own.add(key)

    def refuse_rule_conflicts(self, rule: SIPDispatchRuleInfo, scope: set[str]) -> None:
        """Compares with the rules of the given trunks and those for any; with all if none is given.

        A conflict that those have among themselves fails this request too. Raises TwirpError.
        """
        name = rule.sip_dispatch_rule_id
        for key in self._rule_claims.crowded():
            first, *rest = self._rule_claims.others(key, name) or [""]
            if rest and (not scope or key[1] in scope | {""}):
                raise rule_conflict(self.rules.items[first])
        own: set[tuple[str, str, str, str]] = set()
        for key in rule_keys(rule):
            others = self._rule_claims.others(key, name)
            if others or key in own:
                raise rule_conflict(self.rules.items[others[0]] if others else rule)
            own.add(key)


def _new_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
