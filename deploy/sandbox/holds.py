"""Requests parked by a fault until a test lets them end: a parked request is one future."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from deploy.sandbox.journal import Entry

When = Literal["before", "after"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One parked request."""

    id: str
    fault_id: str
    when: When
    entry: Entry
    #: Resolves to True to go on, False to cut the connection.
    proceed: asyncio.Future[bool]

    def document(self) -> dict[str, object]:
        """The hold as JSON."""
        return {
            "id": self.id,
            "fault_id": self.fault_id,
            "when": self.when,
            "seq": self.entry.seq,
            "vendor": self.entry.vendor,
            "operation": self.entry.operation,
            "import_id": self.entry.made_by.import_id,
            "step": self.entry.made_by.step,
            "attempt": self.entry.made_by.attempt,
        }


class Holds:
    """Everything that is parked now, in the order it was parked."""

    def __init__(self) -> None:
        self._parked: dict[str, Hold] = {}
        self._count = 0
        self._closed = False

    def close(self) -> None:
        """Cuts everything that is parked, and everything that would be parked from now on."""
        self._closed = True
        self.release()

    async def park(self, entry: Entry, *, fault_id: str, when: When) -> bool:
        """Waits for release, however long; returns whether the request goes on."""
        if self._closed:
            return False
        self._count += 1
        hold = Hold(
            id=f"h{self._count}",
            fault_id=fault_id,
            when=when,
            entry=entry,
            proceed=asyncio.get_running_loop().create_future(),
        )
        self._parked[hold.id] = hold
        try:
            return await hold.proceed
        finally:
            self._parked.pop(hold.id, None)

    def release(self, ids: Iterable[str] | None = None, *, proceed: bool = False) -> list[str]:
        """Ends the given parked requests, or all of them; raises KeyError for an unknown id."""
        chosen = [self._parked[name] for name in (list(self._parked) if ids is None else ids)]
        for hold in chosen:
            # Removed here, not when its task wakes up: whoever lists right after sees the truth.
            self._parked.pop(hold.id, None)
            if not hold.proceed.done():
                hold.proceed.set_result(proceed)
        return [hold.id for hold in chosen]

    def document(self) -> list[dict[str, object]]:
        """All parked requests as JSON."""
        return [hold.document() for hold in self._parked.values()]
