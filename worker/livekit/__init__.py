"""LiveKit SIP: the trunks, the dispatch rule and the fallback route of one import.

Objects are found by exact name before they are created, so a repeated, concurrent or half-answered
attempt ends with one of each. What they are made of is in :mod:`worker.livekit.specs`, how they
differ from what is there in :mod:`worker.livekit.fields`, and how a request gets there is
:mod:`worker.livekit.client`'s business.

https://docs.livekit.io/reference/telephony/sip-api/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Final

import structlog

from worker.domain.errors import LiveKitUnavailable, TrunkConflict
from worker.domain.job import Attempt
from worker.domain.values import E164, Fields, ImportTag, Objects
from worker.livekit import client
from worker.livekit.client import Client, P, T
from worker.livekit.fields import (
    answers,
    planned_objects,
    same,
    trunk_rivals,
)
from worker.livekit.reading import read_objects
from worker.livekit.requests import Info, Requests, id_of, settled, with_known
from worker.livekit.specs import (
    FALLBACK_INBOUND,
    FALLBACK_RULE,
    INBOUND,
    OUTBOUND,
    RULE,
    DispatchRule,
    FallbackRoute,
    InboundTrunk,
    OutboundTrunk,
    SipSetup,
    fallback_route,
    fallback_user,
    inbound_info,
    names,
    outbound_info,
    rule_info,
    rule_name,
)
from worker.settings import Settings

if TYPE_CHECKING:
    from livekit import api
    from livekit.api.sip_service import SipService


if not TYPE_CHECKING:
    # Taken from the client, so that the SDK is imported when it is first used.
    api = client.api

#: All that the steps and the service need; the rest is for tests.
__all__ = [
    "FALLBACK_INBOUND",
    "FALLBACK_RULE",
    "INBOUND",
    "OUTBOUND",
    "RULE",
    "DispatchRule",
    "FallbackRoute",
    "InboundTrunk",
    "LiveKit",
    "OutboundTrunk",
    "SipSetup",
    "fallback_route",
    "fallback_user",
    "names",
    "planned_objects",
]

_log: Final = structlog.get_logger(__name__)


def _ids(known: str | None, found: Iterable[Info]) -> list[str]:
    return list(dict.fromkeys([*([known] if known else []), *map(id_of, found)]))


def _ours(found: Iterable[Info], name: str, known: str | None = None) -> list[Info]:
    """Returns what carries the name or is known by id, oldest first.

    Never by name a catch-all, which has no number or trunk. Servers that keep no times leave the
    order to the ids: a listing comes in no order at all, and two workers that clean up at the same
    time must keep the same object.
    """
    return sorted(
        (
            info
            for info in found
            if id_of(info) and (id_of(info) == known or (info.name == name and _serves(info)))
        ),
        key=lambda info: (info.created_at.seconds, info.created_at.nanos, id_of(info)),
    )


def _serves(info: Info) -> list[str]:
    """Returns the trunks of a rule, the numbers of a trunk; nothing of a catch-all."""
    # A rule has numbers, too: they choose among the calls of its trunks.
    return list(getattr(info, "trunk_ids", info.numbers))


def _preferred(mine: list[Info], wanted: Info) -> list[Info]:
    """Puts first what serves our calls already: they may come while the others are removed."""
    return sorted(mine, key=lambda info: _serves(info) != _serves(wanted))


def _is_rival(info: api.SIPInboundTrunkInfo, spec: InboundTrunk) -> bool:
    """Whether a foreign trunk takes the same calls as ours: same number, no chosen callers."""
    return info.name != spec.name and answers(info, spec.number) and not info.allowed_numbers


def _blocking(
    method: Callable[Concatenate[LiveKit, P], Coroutine[object, object, T]],
) -> Callable[Concatenate[LiveKit, P], T]:
    @wraps(method)
    def run(self: LiveKit, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.client.wait_for(method(self, *args, **kwargs))

    return run


class LiveKit:
    """The LiveKit project as one attempt at a step uses it.

    Every method raises LiveKitMisconfigured if the project cannot be used as it is set up,
    LiveKitUnavailable if it does not answer, and LeaseLost instead of calling without a lease.
    Safe to repeat: all of them; what is there is adopted, and what is gone is done.
    """

    def __init__(self, settings: Settings, attempt: Attempt, tag: ImportTag) -> None:
        self.client = Client(settings, attempt)
        self._requests = Requests(self.client)
        self._attempt = attempt
        self._tag = tag

    @_blocking
    async def verify(self) -> None:
        """Proves the URL and the key with a cheap read."""
        request = api.ListSIPInboundTrunkRequest(page=api.Pagination(limit=1))
        await self.client.call(lambda sip: sip.list_inbound_trunk(request))

    @_blocking
    async def read_objects(self, setup: SipSetup, objects: Objects) -> Mapping[str, Fields | None]:
        """Returns the present settings of what an import made; None for what is gone.

        Found by recorded id. The keys are those of ``objects`` that ``planned_objects`` knows, and
        so are the fields. "shadowed_by" names who else takes the calls of a trunk or rule, or
        makes LiveKit refuse them.
        """
        return await read_objects(self._requests, setup, objects, self._tag.import_id)

    @_blocking
    async def rivals(self, number: E164) -> tuple[str, ...]:
        """Returns ids of foreign trunks for which an import of the number ends in trunk_conflict.

        Foreign is what carries none of this import's names.
        """
        own = names(self._tag)
        listed = await self._requests.inbound_trunks(number)
        return trunk_rivals((trunk for trunk in listed if trunk.name not in own), number)

    @_blocking
    async def ensure_inbound_trunk(self, spec: InboundTrunk, known: str | None = None) -> str:
        """Creates, adopts or corrects the trunk that takes calls for the number; returns its id.

        What has the ``known`` id is ours whatever became of its name and number.

        Raises:
            TrunkConflict: a foreign trunk claims the number.
            SipTrunkProvisionFailed: LiveKit refuses the values.
        """
        return await self._inbound(spec, known)

    @_blocking
    async def ensure_outbound_trunk(self, spec: OutboundTrunk, known: str | None = None) -> str:
        """Creates, adopts or corrects the trunk that places calls from the number; returns its id.

        Raises:
            SipTrunkProvisionFailed: LiveKit refuses the values.
        """
        return await self._outbound(spec, known)

    @_blocking
    async def ensure_trunks(
        self, inbound: InboundTrunk | None, outbound: OutboundTrunk | None
    ) -> tuple[str | None, str | None]:
        """Ensures both trunks side by side; raises as either does, once both have settled."""
        first, second = await settled(
            self._inbound(inbound, None) if inbound else asyncio.sleep(0, None),
            self._outbound(outbound, None) if outbound else asyncio.sleep(0, None),
        )
        return first, second

    @_blocking
    async def ensure_dispatch_rule(self, spec: DispatchRule, known: str | None = None) -> str:
        """Creates, adopts or corrects the rule that answers the trunk's calls; returns its id.

        A rule that is there is corrected in place: no moment is without one. What has the ``known``
        id is ours whatever became of its name and trunk.

        Raises:
            TrunkConflict: a foreign rule claims the trunk.
            SipTrunkProvisionFailed: LiveKit refuses the values.
        """
        wanted = rule_info(spec, self._tag.import_id)
        request = api.CreateSIPDispatchRuleRequest(dispatch_rule=wanted)

        async def find() -> list[api.SIPDispatchRuleInfo]:
            rules = await self._requests.rules(trunk_ids=[spec.trunk_id])
            # Only an earlier attempt can have left one on another trunk. The first spares itself
            # the listing of all rules, which grows with the project.
            if self._attempt.number > 1 and not _ours(rules, spec.name, known):
                rules = await self._requests.all_rules()
            return rules

        return await self._ensure(
            wanted,
            known,
            find=find,
            find_by_id=self._requests.rules_by_id,
            create=lambda sip: sip.create_dispatch_rule(request),
            update=lambda sip, rule_id: sip.update_dispatch_rule(rule_id, wanted),
            remove=self._requests.delete_rule,
        )

    def ensure_fallback(
        self, route: FallbackRoute, objects: Objects, *, record: Callable[[Objects], None]
    ) -> Objects:
        """Creates, adopts or corrects the fallback route's trunk, then its rule; returns their ids.

        ``objects`` are the ids known so far; ``record`` gets each new one before the next depends
        on it.

        Raises:
            TrunkConflict: a foreign trunk or rule claims the fallback user.
            SipTrunkProvisionFailed: LiveKit refuses the values.
        """
        trunk_id = self.ensure_inbound_trunk(route.trunk, objects.get(FALLBACK_INBOUND))
        record({FALLBACK_INBOUND: trunk_id})
        rule = replace(route.rule, trunk_id=trunk_id)
        rule_id = self.ensure_dispatch_rule(rule, objects.get(FALLBACK_RULE))
        record({FALLBACK_RULE: rule_id})
        return {FALLBACK_INBOUND: trunk_id, FALLBACK_RULE: rule_id}

    @_blocking
    async def remove_fallback(self, number: E164, objects: Objects) -> None:
        """Deletes the fallback route, by id and by name: its rule, then its trunk."""
        own = names(self._tag)
        found = _ours(
            await self._requests.inbound_trunks(fallback_user(number)), own.fallback_inbound
        )
        trunk_ids = _ids(objects.get(FALLBACK_INBOUND), found)
        # A trunk whose id is neither recorded nor found never had a rule: it is recorded before.
        rules = await self._requests.rules(trunk_ids=trunk_ids) if trunk_ids else []
        for each in _ids(objects.get(FALLBACK_RULE), _ours(rules, own.fallback_rule)):
            await self._requests.delete_rule(each)
        for each in trunk_ids:
            await self._requests.delete_trunk(each)

    @_blocking
    async def remove_dispatch_rule(self, name: str, number: E164, rule_id: str | None) -> None:
        """Deletes the rule, by id and by name."""
        if rule_id is None:
            # The answer to its create was lost, and the trunk may be gone: search all of them.
            rules = await self._requests.all_rules()
        else:
            trunks = await self._requests.inbound_trunks(number)
            trunk_ids = [id_of(info) for info in trunks if info.numbers]
            rules = await self._requests.rules(trunk_ids=trunk_ids) if trunk_ids else []
        for each in _ids(rule_id, _ours(rules, name)):
            await self._requests.delete_rule(each)

    @_blocking
    async def remove_inbound_trunk(self, name: str, number: E164, trunk_id: str | None) -> None:
        """Deletes the trunk, by id and by name, and before it our rule for it."""
        found = _ours(await self._requests.inbound_trunks(number), name)
        for each in _ids(trunk_id, found):
            await self._delete_inbound(name, each)

    @_blocking
    async def remove_outbound_trunk(self, name: str, number: E164, trunk_id: str | None) -> None:
        """Deletes the trunk, by id and by name."""
        found = _ours(await self._requests.outbound_trunks(number), name)
        for each in _ids(trunk_id, found):
            await self._requests.delete_trunk(each)

    async def _inbound(self, spec: InboundTrunk, known: str | None) -> str:
        wanted = inbound_info(spec, self._tag.import_id)
        request = api.CreateSIPInboundTrunkRequest(trunk=wanted)
        self.client.hide(spec.login)
        return await self._ensure(
            wanted,
            known,
            find=lambda: self._requests.inbound_trunks(spec.number),
            find_by_id=self._requests.inbound_by_id,
            create=lambda sip: sip.create_inbound_trunk(request),
            update=lambda sip, trunk_id: sip.update_inbound_trunk(trunk_id, wanted),
            remove=lambda trunk_id: self._delete_inbound(spec.name, trunk_id),
            is_rival=lambda info: id_of(info) != known and _is_rival(info, spec),
        )

    async def _outbound(self, spec: OutboundTrunk, known: str | None) -> str:
        wanted = outbound_info(spec, self._tag.import_id)
        request = api.CreateSIPOutboundTrunkRequest(trunk=wanted)
        self.client.hide(spec.login)
        return await self._ensure(
            wanted,
            known,
            find=lambda: self._requests.outbound_trunks(spec.number),
            find_by_id=self._requests.outbound_by_id,
            create=lambda sip: sip.create_outbound_trunk(request),
            update=lambda sip, trunk_id: sip.update_outbound_trunk(trunk_id, wanted),
            remove=self._requests.delete_trunk,
        )

    async def _ensure(
        self,
        wanted: Info,
        known: str | None,
        *,
        find: Callable[[], Awaitable[list[Info]]],
        find_by_id: Callable[[list[str]], Awaitable[list[Info]]],
        create: Callable[[SipService], Awaitable[Info]],
        update: Callable[[SipService, str], Awaitable[Info]],
        remove: Callable[[str], Awaitable[None]],
        is_rival: Callable[[Info], bool] | None = None,
    ) -> str:
        found = await with_known([known], find, find_by_id)
        created = ""
        if not _ours(found, wanted.name, known):
            try:
                created = id_of(await self.client.call(create, write=True))
            except TrunkConflict:
                found = await find()
                if not _ours(found, wanted.name, known):
                    raise
            else:
                # The server checks for conflicts and stores in two steps: two creates at the same
                # time both succeed, and then every call to the number fails. So look once more.
                found = await find() if is_rival else found
        if is_rival and any(is_rival(info) for info in found):
            if created:  # nothing depends on it yet, and it breaks the other's calls
                await remove(created)
            raise TrunkConflict
        mine = _preferred(_ours(found, wanted.name, known), wanted)
        kept = id_of(mine[0]) if mine else created
        if not kept:  # an answer without an id is none
            raise LiveKitUnavailable(outcome_unknown=True)
        for extra in map(id_of, mine[1:]):
            _log.warning("livekit duplicate removed", attempt=str(self._attempt), id=extra)
            await remove(extra)
        if kept != created and not same(mine[0], wanted):
            await self.client.call(lambda sip: update(sip, kept), write=True)
        return kept

    async def _delete_inbound(self, name: str, trunk_id: str) -> None:
        """Deletes a trunk, and before it what LiveKit would leave behind: our rule for it."""
        for rule in _ours(await self._requests.rules(trunk_ids=[trunk_id]), rule_name(name)):
            if set(rule.trunk_ids) == {trunk_id}:
                await self._requests.delete_rule(id_of(rule))
        await self._requests.delete_trunk(trunk_id)
