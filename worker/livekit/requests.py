"""The requests that every part of the LiveKit adapter sends: finding objects, and deleting them.

How a request gets there is :mod:`worker.livekit.client`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from worker.domain.errors import LeaseLost, PermanentError
from worker.domain.values import E164
from worker.livekit import client
from worker.livekit.client import Client, T, Vanished

if TYPE_CHECKING:
    from livekit import api


if not TYPE_CHECKING:
    # Taken from the client, so that the SDK is imported when it is first used.
    api = client.api

Info = TypeVar(
    "Info", "api.SIPInboundTrunkInfo", "api.SIPOutboundTrunkInfo", "api.SIPDispatchRuleInfo"
)

_RULES_PAGE: Final = 500


def id_of(info: Info) -> str:
    """Returns the object's id; "" for the empty item that stands for one that is not there."""
    return str(getattr(info, "sip_dispatch_rule_id", "") or getattr(info, "sip_trunk_id", ""))


async def settled(*work: Awaitable[T]) -> list[T]:
    """Does things side by side; raises as one of them does, once all have settled."""
    results = await asyncio.gather(*work, return_exceptions=True)
    if errors := [each for each in results if isinstance(each, BaseException)]:
        raise min(errors, key=_rank)
    return [each for each in results if not isinstance(each, BaseException)]


def _rank(error: BaseException) -> tuple[bool, bool, bool]:
    """Which of two errors to raise, the lowest: losing the lease, then a write that may still land.

    A refusal comes after it: undoing at once could miss what lands late.
    """
    unknown = getattr(error, "outcome_unknown", False)
    return (not isinstance(error, LeaseLost), not unknown, not isinstance(error, PermanentError))


async def with_known(
    known: Iterable[str | None],
    find: Callable[[], Awaitable[list[Info]]],
    find_by_id: Callable[[list[str]], Awaitable[list[Info]]],
) -> list[Info]:
    """Finds objects by what they serve, and where somebody changed that, those known by id."""
    found: list[Info] = await find()
    there = {id_of(info) for info in found}
    missing: list[str] = [each for each in known if each and each not in there]
    return found + (await find_by_id(missing) if missing else [])


class Requests:
    """The requests of one attempt. Each listing is one request unless it says otherwise."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def inbound_trunks(self, *numbers: str) -> list[api.SIPInboundTrunkInfo]:
        """Lists the trunks that name a number in any spelling, and those that name none."""
        request = api.ListSIPInboundTrunkRequest(numbers=numbers)
        return list((await self._client.call(lambda sip: sip.list_inbound_trunk(request))).items)

    async def inbound_by_id(self, ids: list[str]) -> list[api.SIPInboundTrunkInfo]:
        """Lists these trunks, whatever they name."""
        request = api.ListSIPInboundTrunkRequest(trunk_ids=ids)
        return list((await self._client.call(lambda sip: sip.list_inbound_trunk(request))).items)

    async def outbound_trunks(self, number: E164) -> list[api.SIPOutboundTrunkInfo]:
        """Lists the trunks that name exactly this number."""
        # This filter compares exact strings, and ours is stored as this very string.
        request = api.ListSIPOutboundTrunkRequest(numbers=[number])
        return list((await self._client.call(lambda sip: sip.list_outbound_trunk(request))).items)

    async def outbound_by_id(self, ids: list[str]) -> list[api.SIPOutboundTrunkInfo]:
        """Lists these trunks, whatever they name."""
        request = api.ListSIPOutboundTrunkRequest(trunk_ids=ids)
        return list((await self._client.call(lambda sip: sip.list_outbound_trunk(request))).items)

    async def rules(
        self, *, trunk_ids: Iterable[str] = (), page: api.Pagination | None = None
    ) -> list[api.SIPDispatchRuleInfo]:
        """Lists the rules that name a trunk, and those that name none; all without trunks."""
        request = api.ListSIPDispatchRuleRequest(trunk_ids=trunk_ids, page=page)
        return list((await self._client.call(lambda sip: sip.list_dispatch_rule(request))).items)

    async def rules_by_id(self, ids: list[str]) -> list[api.SIPDispatchRuleInfo]:
        """Lists these rules, whatever they name."""
        request = api.ListSIPDispatchRuleRequest(dispatch_rule_ids=ids)
        return list((await self._client.call(lambda sip: sip.list_dispatch_rule(request))).items)

    async def all_rules(self) -> list[api.SIPDispatchRuleInfo]:
        """Lists every rule of the project, page by page.

        Until nothing new comes: a server may cap the limit, or ignore pages altogether.
        """
        found: dict[str, api.SIPDispatchRuleInfo] = {}
        after = ""
        while page := await self.rules(page=api.Pagination(after_id=after, limit=_RULES_PAGE)):
            after, known = id_of(page[-1]), len(found)
            found |= {id_of(rule): rule for rule in page}
            if len(found) == known:
                break
        return list(found.values())

    async def delete_trunk(self, trunk_id: str) -> None:
        """Deletes a trunk of either kind; absent is done."""
        request = api.DeleteSIPTrunkRequest(sip_trunk_id=trunk_id)
        with suppress(Vanished):
            await self._client.call(lambda sip: sip.delete_trunk(request), write=True)

    async def delete_rule(self, rule_id: str) -> None:
        """Deletes a rule; absent is done."""
        request = api.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=rule_id)
        with suppress(Vanished):
            await self._client.call(lambda sip: sip.delete_dispatch_rule(request), write=True)
