"""LiveKit SIP: the trunks and the dispatch rule of one import.

Objects are found by exact name before they are created, so a repeated, concurrent or half-answered
attempt ends with one of each. How a request gets there is :mod:`worker.livekit_client`'s business.

https://docs.livekit.io/reference/telephony/sip-api/
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, TypeVar

import structlog

from worker import livekit_client
from worker.domain.errors import (
    LeaseLost,
    LiveKitUnavailable,
    PermanentError,
    TrunkConflict,
)
from worker.domain.job import Attempt
from worker.domain.values import E164, ImportTag, MediaEncryption, SipLogin, SipTransport
from worker.livekit_client import Client, P, T, Vanished
from worker.settings import Settings

if TYPE_CHECKING:
    from livekit import api
    from livekit.api.sip_service import SipService


if not TYPE_CHECKING:
    # Taken from the client, so that the SDK is imported when it is first used.
    api = livekit_client.api

_log: Final = structlog.get_logger(__name__)

_RULES_PAGE: Final = 500


@dataclass(frozen=True, kw_only=True)
class InboundTrunk:
    """Who may call in on a number: somebody with the login, from the addresses, or both."""

    name: str
    number: E164
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
    trunk_id: str
    #: Not sent: the trunk already matches on it, and a second match could only refuse calls.
    number: E164
    #: The room is called "{room_prefix}_{caller}_{random}".
    room_prefix: str
    #: "" asks the caller for none.
    pin: str
    #: Dispatched into the room by this name; None leaves it to agents that join every room.
    agent_name: str | None
    agent_metadata: str
    attributes: Mapping[str, str]
    metadata: str = ""

    def __post_init__(self) -> None:
        if not self.trunk_id:
            raise ValueError("a dispatch rule without a trunk would answer for every trunk")


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names by which the objects of one import are found again."""

    inbound: str
    outbound: str
    rule: str


def names(tag: ImportTag) -> Names:
    """Returns the names of an import's objects."""
    prefix = f"trunkline:{tag.import_id}:"
    return Names(inbound=f"{prefix}inbound", outbound=f"{prefix}outbound", rule=f"{prefix}rule")


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


#: The fields that a spec decides, over all kinds of objects; the server may fill in others.
_DECIDED: Final = (
    *("name", "metadata", "numbers", "allowed_addresses", "allowed_numbers", "auth_username"),
    *("auth_password", "media_encryption", "address", "transport"),
    *("trunk_ids", "inbound_numbers", "rule", "room_config", "attributes"),
)
Info = TypeVar(
    "Info", "api.SIPInboundTrunkInfo", "api.SIPOutboundTrunkInfo", "api.SIPDispatchRuleInfo"
)


def _same(one: Info, other: Info) -> bool:
    return all(getattr(one, field, None) == getattr(other, field, None) for field in _DECIDED)


def _id(info: Info) -> str:
    return str(getattr(info, "sip_dispatch_rule_id", "") or getattr(info, "sip_trunk_id", ""))


def _ids(known: str | None, found: Iterable[Info]) -> list[str]:
    return list(dict.fromkeys([*([known] if known else []), *map(_id, found)]))


def _ours(found: Iterable[Info], name: str) -> list[Info]:
    """Returns what carries the name, oldest first; never a catch-all, which has no number or trunk.

    Servers that keep no times leave the order to the ids: a listing comes in no order at all, and
    two workers that clean up at the same time must keep the same object.
    """
    bound = "trunk_ids" if name.endswith(":rule") else "numbers"
    return sorted(
        (info for info in found if _id(info) and info.name == name and getattr(info, bound)),
        key=lambda info: (info.created_at.seconds, info.created_at.nanos, _id(info)),
    )


def _is_rival(info: api.SIPInboundTrunkInfo, spec: InboundTrunk) -> bool:
    """Whether a foreign trunk takes the same calls as ours: same number, no chosen callers."""
    numbers = {"+" + re.sub(r"[ ()+-]", "", number) for number in info.numbers}
    return info.name != spec.name and spec.number in numbers and not info.allowed_numbers


def _blocking(
    method: Callable[Concatenate[LiveKit, P], Coroutine[object, object, T]],
) -> Callable[Concatenate[LiveKit, P], T]:
    @wraps(method)
    def run(self: LiveKit, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.client.wait_for(method(self, *args, **kwargs))

    return run


def _rank(error: BaseException) -> tuple[bool, bool, bool]:
    """Which of two errors to raise, the lowest: losing the lease, then a write that may still land.

    A refusal comes after it: undoing at once could miss what lands late.
    """
    unknown = getattr(error, "outcome_unknown", False)
    return (not isinstance(error, LeaseLost), not unknown, not isinstance(error, PermanentError))


class LiveKit:
    """The LiveKit project as one attempt at a step uses it.

    Every method raises LiveKitMisconfigured if the project cannot be used as it is set up,
    LiveKitUnavailable if it does not answer, and LeaseLost instead of calling without a lease.
    Safe to repeat: all of them; what is there is adopted, and what is gone is done.
    """

    def __init__(self, settings: Settings, attempt: Attempt, tag: ImportTag) -> None:
        self.client = Client(settings, attempt)
        self._attempt = attempt
        self._tag = tag

    @_blocking
    async def verify(self) -> None:
        """Proves the URL and the key with a cheap read."""
        request = api.ListSIPInboundTrunkRequest(page=api.Pagination(limit=1))
        await self.client.call(lambda sip: sip.list_inbound_trunk(request))

    def ensure_inbound_trunk(self, spec: InboundTrunk) -> str:
        """Creates, adopts or corrects the trunk that takes calls for the number; returns its id.

        Raises:
            TrunkConflict: a foreign trunk claims the number.
            SipTrunkProvisionFailed: LiveKit refuses the values.
        """
        return str(self.ensure_trunks(spec, None)[0])

    def ensure_outbound_trunk(self, spec: OutboundTrunk) -> str:
        """Creates, adopts or corrects the trunk that places calls from the number; returns its id.

        Raises:
            SipTrunkProvisionFailed: LiveKit refuses the values.
        """
        return str(self.ensure_trunks(None, spec)[1])

    @_blocking
    async def ensure_trunks(
        self, inbound: InboundTrunk | None, outbound: OutboundTrunk | None
    ) -> tuple[str | None, str | None]:
        """Ensures both trunks side by side; raises as either does, once both have settled."""
        first, second = await asyncio.gather(
            self._inbound(inbound) if inbound else asyncio.sleep(0),
            self._outbound(outbound) if outbound else asyncio.sleep(0),
            return_exceptions=True,
        )
        if isinstance(first, BaseException) or isinstance(second, BaseException):
            errors = (half for half in (first, second) if isinstance(half, BaseException))
            raise min(errors, key=_rank)
        return first, second

    @_blocking
    async def ensure_dispatch_rule(self, spec: DispatchRule) -> str:
        """Creates, adopts or corrects the rule that answers the trunk's calls; returns its id.

        Raises:
            TrunkConflict: a foreign rule claims the trunk.
            SipTrunkProvisionFailed: LiveKit refuses the values.
        """
        wanted = rule_info(spec, self._tag.import_id)
        request = api.CreateSIPDispatchRuleRequest(dispatch_rule=wanted)

        async def find() -> list[api.SIPDispatchRuleInfo]:
            rules = await self._rules(trunk_ids=[spec.trunk_id])
            # Only an earlier attempt can have left one on another trunk. The first spares itself
            # the listing of all rules, which grows with the project.
            if self._attempt.number > 1 and not _ours(rules, spec.name):
                rules = await self._all_rules()
            return rules

        return await self._ensure(
            wanted,
            find=find,
            create=lambda sip: sip.create_dispatch_rule(request),
            update=lambda sip, rule_id: sip.update_dispatch_rule(rule_id, wanted),
            remove=self._delete_rule,
        )

    @_blocking
    async def remove_dispatch_rule(self, name: str, number: E164, rule_id: str | None) -> None:
        """Deletes the rule, by id and by name."""
        if rule_id is None:
            # The answer to its create was lost, and the trunk may be gone: search all of them.
            rules = await self._all_rules()
        else:
            trunk_ids = [_id(info) for info in await self._inbound_trunks(number) if info.numbers]
            rules = await self._rules(trunk_ids=trunk_ids) if trunk_ids else []
        for each in _ids(rule_id, _ours(rules, name)):
            await self._delete_rule(each)

    @_blocking
    async def remove_inbound_trunk(self, name: str, number: E164, trunk_id: str | None) -> None:
        """Deletes the trunk, by id and by name, and before it our rule for it."""
        found = _ours(await self._inbound_trunks(number), name)
        for each in _ids(trunk_id, found):
            await self._delete_inbound(name, each)

    @_blocking
    async def remove_outbound_trunk(self, name: str, number: E164, trunk_id: str | None) -> None:
        """Deletes the trunk, by id and by name."""
        found = _ours(await self._outbound_trunks(number), name)
        for each in _ids(trunk_id, found):
            await self._delete_trunk(each)

    async def _inbound(self, spec: InboundTrunk) -> str:
        wanted = inbound_info(spec, self._tag.import_id)
        request = api.CreateSIPInboundTrunkRequest(trunk=wanted)
        self.client.hide(spec.login)
        return await self._ensure(
            wanted,
            find=lambda: self._inbound_trunks(spec.number),
            create=lambda sip: sip.create_inbound_trunk(request),
            update=lambda sip, trunk_id: sip.update_inbound_trunk(trunk_id, wanted),
            remove=lambda trunk_id: self._delete_inbound(spec.name, trunk_id),
            is_rival=lambda info: _is_rival(info, spec),
        )

    async def _outbound(self, spec: OutboundTrunk) -> str:
        wanted = outbound_info(spec, self._tag.import_id)
        request = api.CreateSIPOutboundTrunkRequest(trunk=wanted)
        self.client.hide(spec.login)
        return await self._ensure(
            wanted,
            find=lambda: self._outbound_trunks(spec.number),
            create=lambda sip: sip.create_outbound_trunk(request),
            update=lambda sip, trunk_id: sip.update_outbound_trunk(trunk_id, wanted),
            remove=self._delete_trunk,
        )

    async def _ensure(
        self,
        wanted: Info,
        *,
        find: Callable[[], Awaitable[list[Info]]],
        create: Callable[[SipService], Awaitable[Info]],
        update: Callable[[SipService, str], Awaitable[Info]],
        remove: Callable[[str], Awaitable[None]],
        is_rival: Callable[[Info], bool] | None = None,
    ) -> str:
        found = await find()
        created = ""
        if not _ours(found, wanted.name):
            try:
                created = _id(await self.client.call(create, write=True))
            except TrunkConflict:
                found = await find()
                if not _ours(found, wanted.name):
                    raise
            else:
                # The server checks for conflicts and stores in two steps: two creates at the same
                # time both succeed, and then every call to the number fails. So look once more.
                found = await find() if is_rival else found
        if is_rival and any(is_rival(info) for info in found):
            if created:  # nothing depends on it yet, and it breaks the other's calls
                await remove(created)
            raise TrunkConflict
        mine = _ours(found, wanted.name)
        kept = _id(mine[0]) if mine else created
        if not kept:  # an answer without an id is none
            raise LiveKitUnavailable(outcome_unknown=True)
        for extra in map(_id, mine[1:]):
            _log.warning("livekit duplicate removed", attempt=str(self._attempt), id=extra)
            await remove(extra)
        if kept != created and not _same(mine[0], wanted):
            await self.client.call(lambda sip: update(sip, kept), write=True)
        return kept

    async def _delete_inbound(self, name: str, trunk_id: str) -> None:
        """Deletes a trunk, and before it what LiveKit would leave behind: our rule for it."""
        rule_name = f"{name.rpartition(':')[0]}:rule"
        for rule in _ours(await self._rules(trunk_ids=[trunk_id]), rule_name):
            if set(rule.trunk_ids) == {trunk_id}:
                await self._delete_rule(_id(rule))
        await self._delete_trunk(trunk_id)

    async def _delete_trunk(self, trunk_id: str) -> None:
        request = api.DeleteSIPTrunkRequest(sip_trunk_id=trunk_id)
        with suppress(Vanished):
            await self.client.call(lambda sip: sip.delete_trunk(request), write=True)

    async def _delete_rule(self, rule_id: str) -> None:
        request = api.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=rule_id)
        with suppress(Vanished):
            await self.client.call(lambda sip: sip.delete_dispatch_rule(request), write=True)

    async def _inbound_trunks(self, number: E164) -> list[api.SIPInboundTrunkInfo]:
        request = api.ListSIPInboundTrunkRequest(numbers=[number])
        return list((await self.client.call(lambda sip: sip.list_inbound_trunk(request))).items)

    async def _outbound_trunks(self, number: E164) -> list[api.SIPOutboundTrunkInfo]:
        # This filter compares exact strings, and ours is stored as this very string.
        request = api.ListSIPOutboundTrunkRequest(numbers=[number])
        return list((await self.client.call(lambda sip: sip.list_outbound_trunk(request))).items)

    async def _rules(
        self, *, trunk_ids: Iterable[str] = (), page: api.Pagination | None = None
    ) -> list[api.SIPDispatchRuleInfo]:
        request = api.ListSIPDispatchRuleRequest(trunk_ids=trunk_ids, page=page)
        return list((await self.client.call(lambda sip: sip.list_dispatch_rule(request))).items)

    async def _all_rules(self) -> list[api.SIPDispatchRuleInfo]:
        """Pages until nothing new comes: a server may cap the limit, or ignore pages altogether."""
        found: dict[str, api.SIPDispatchRuleInfo] = {}
        after = ""
        while page := await self._rules(page=api.Pagination(after_id=after, limit=_RULES_PAGE)):
            after, known = _id(page[-1]), len(found)
            found |= {_id(rule): rule for rule in page}
            if len(found) == known:
                break
        return list(found.values())
