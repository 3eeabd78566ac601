"""The record of every vendor request, in order of arrival."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Final

from deploy.sandbox.vendor import Call, masked

ATTEMPT_HEADER: Final = "X-Trunkline-Attempt"
#: Enough for a bench of 20,000 imports; older entries are dropped and counted.
KEPT_ENTRIES: Final = 250_000


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which attempt of which step made a request, from its `X-Trunkline-Attempt` header."""

    import_id: str | None = None
    step: str | None = None
    attempt: int | None = None

    @classmethod
    def parse(cls, header: str | None) -> Attribution:
        """Splits `<import_id>/<step>/<n>`; anything else attributes nothing."""
        parts = (header or "").split("/")
        match parts:
            case [import_id, step, number] if import_id and step and number.isdecimal():
                return cls(import_id, step, int(number))
            case _:
                return cls()

    def in_step(self, pattern: str) -> bool:
        """Whether a step made the request and its name matches; the pattern may hold wildcards."""
        return self.step is not None and fnmatchcase(self.step, pattern)


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request: who, what, what it was answered and what was done to it on the way."""

    seq: int
    at: float
    vendor: str
    operation: str
    write: bool
    method: str
    path: str
    account: str | None
    made_by: Attribution
    fields: Callable[[], Mapping[str, object]]
    #: What the vendor's own code answered; None while it was not reached.
    vendor_status: int | None = None
    #: What the client was sent; None while in flight, or for good when the connection was cut.
    status: int | None = None
    #: `answered`, `cut`, or `in_flight`.
    outcome: str = "in_flight"
    faults: list[dict[str, str]] = field(default_factory=list)
    duration_ms: float | None = None
    started: float = field(default_factory=time.perf_counter)

    def close(self, status: int | None) -> None:
        """Notes the end of the request; no status means that the connection was cut."""
        self.status = status
        self.outcome = "cut" if status is None else "answered"
        self.duration_ms = round((time.perf_counter() - self.started) * 1000, 3)

    def document(self) -> dict[str, object]:
        """The entry as JSON, secrets masked."""
        return {
            "seq": self.seq,
            "time": datetime.fromtimestamp(self.at, UTC).isoformat(),
            "vendor": self.vendor,
            "operation": self.operation,
            "write": self.write,
            "method": self.method,
            "path": self.path,
            "account": self.account,
            "import_id": self.made_by.import_id,
            "step": self.made_by.step,
            "attempt": self.made_by.attempt,
            "body": masked(self.fields()),
            "status": self.status,
            "vendor_status": self.vendor_status,
            "applied": self.applied,
            "outcome": self.outcome,
            "faults": self.faults,
            "duration_ms": self.duration_ms,
        }

    @property
    def applied(self) -> bool:
        """Whether the vendor did what was asked, whatever the client was told."""
        return self.vendor_status is not None and self.vendor_status < 400  # noqa: PLR2004 - HTTP's own border


class Journal:
    """The entries, oldest first."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT_ENTRIES)
        self.last = 0

    def open(self, *, vendor: str, call: Call, method: str, path: str, header: str | None) -> Entry:
        """Records that a request arrived."""
        self.last += 1
        entry = Entry(
            seq=self.last,
            at=time.time(),
            vendor=vendor,
            operation=call.operation,
            write=call.write,
            method=method,
            path=path,
            account=call.account,
            made_by=Attribution.parse(header),
            fields=call.fields,
        )
        self._entries.append(entry)
        return entry

    @property
    def dropped(self) -> int:
        """How many of the oldest entries are no longer kept."""
        return self.last - len(self._entries)

    def select(
        self,
        *,
        after: int = 0,
        import_id: str | None = None,
        vendor: str | None = None,
        operation: str | None = None,
        step: str | None = None,
    ) -> Iterator[Entry]:
        """The entries that match all given conditions; operation and step may hold wildcards."""
        for entry in self._entries:
            if (
                entry.seq > after
                and (import_id is None or entry.made_by.import_id == import_id)
                and (vendor is None or entry.vendor == vendor)
                and (operation is None or fnmatchcase(entry.operation, operation))
                and (step is None or entry.made_by.in_step(step))
            ):
                yield entry
