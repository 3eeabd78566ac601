"""What each fault does to a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from deploy.sandbox.faults import ACTIONS, Fault
from deploy.sandbox.holds import Holds
from deploy.sandbox.journal import Entry
from deploy.sandbox.vendor import Answer, Call, Vendor


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request on its way through the sandbox."""

    vendor: Vendor
    call: Call
    entry: Entry
    holds: Holds

    def apply(self) -> Answer:
        """Lets the vendor do what was asked."""
        answer = self.call.run()
        self.entry.vendor_status = answer.status
        return answer


#: Returns what the client gets; None cuts the connection.
FaultAction = Callable[[Exchange, Fault], Awaitable[Answer | None]]


async def _status(exchange: Exchange, fault: Fault) -> Answer:
    return _scripted_error(exchange, fault)


async def _cut(_exchange: Exchange, _fault: Fault) -> None:
    return None


async def _garbage(exchange: Exchange, _fault: Fault) -> Answer:
    return exchange.vendor.garbage()


async def _empty(_exchange: Exchange, _fault: Fault) -> Answer:
    return Answer(status=HTTPStatus.OK)


async def _lost(exchange: Exchange, _fault: Fault) -> None:
    exchange.apply()


async def _lost_status(exchange: Exchange, fault: Fault) -> Answer:
    exchange.apply()
    return _scripted_error(exchange, fault)


async def _hold(exchange: Exchange, fault: Fault) -> Answer | None:
    if fault.spec.when == "before":
        goes_on = await exchange.holds.park(exchange.entry, fault_id=fault.id, when="before")
        return exchange.apply() if goes_on else None
    answer = exchange.apply()
    goes_on = await exchange.holds.park(exchange.entry, fault_id=fault.id, when="after")
    return answer if goes_on else None


#: `delay` is not here: it only postpones, so app.py waits and then goes on.
FAULT_ACTIONS: Final[Mapping[str, FaultAction]] = MappingProxyType(
    {
        "status": _status,
        "cut": _cut,
        "garbage": _garbage,
        "empty": _empty,
        "lost": _lost,
        "lost_status": _lost_status,
        "hold": _hold,
    }
)
assert FAULT_ACTIONS.keys() | {"delay"} == set(ACTIONS)


def _scripted_error(exchange: Exchange, fault: Fault) -> Answer:
    spec = fault.spec
    assert spec.status is not None
    if spec.body is None:
        answer = exchange.vendor.error(spec.status, code=spec.code, message=spec.message)
    else:
        answer = Answer(status=spec.status, body=spec.body.encode(), content_type="text/html")
    if spec.retry_after is None:
        return answer
    return replace(answer, headers={**answer.headers, "Retry-After": f"{spec.retry_after}"})
