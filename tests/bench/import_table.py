"""The second table: real imports, with the vendors' own SDKs against the full sandbox.

The clock is Postgres' own, from the row's insert to its end. "in steps" is the time between a
step's claim and its end, of which "at sandbox" is what the vendors' side took; the rest is SDKs,
database and Python. "between steps" is the queue.

The longest path is the longest row of calls of which each began when the one before it had ended,
as the sandbox saw them while every call took a while. What an import takes then, as a multiple of
what such a row of calls takes, shows what everything else costs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psutil

from tests.bench.figures import Spread, spreads
from tests.rig import Rig, running
from tests.vendors import VENDORS, Vendor, order_of

MODES: Final = ("webhook", "sip_trunk")
#: What every call takes in the slow runs.
SLOW_MS: Final = 200
#: A caller may have its answer before the sandbox has noted the end of the call.
_SLACK_MS: Final = 20.0
#: Between two imports, so that each one finds the stack idle.
_IDLE_SECONDS: Final = 0.3


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many imports of each kind are measured, at either latency."""

    fast: int
    slow: int


FULL: Final = Size(fast=10, slow=3)
QUICK: Final = Size(fast=2, slow=1)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One provider in one mode."""

    calls: int
    #: The longest row of calls, one after the other.
    chain: tuple[str, ...]
    fast: dict[str, Spread]
    slow: dict[str, Spread]

    @property
    def path(self) -> int:
        """How many calls wait for each other."""
        return len(self.chain)

    @property
    def ratio(self) -> float:
        """What an import takes at the slow latency, as a multiple of its path."""
        return self.slow["total"].median / (self.path * SLOW_MS)


@dataclass(frozen=True, kw_only=True)
class ImportTable:
    """What was found."""

    #: "twilio webhook" and so on.
    rows: dict[str, Row]
    #: The worker's resident memory, after imports at each provider in turn.
    memory_mb: dict[str, float]


def measure(size: Size) -> ImportTable:
    """Measures imports alone on an idle stack, through every provider and mode."""
    rows: dict[str, Row] = {}
    with running(without={"flower"}, env={}, fsync=True) as rig:
        memory = _memory(rig)
        for vendor in VENDORS:
            for mode in MODES:
                one(rig, vendor, mode)  # the first one pays for imports and connections
                fast = [one(rig, vendor, mode)[0] for _ in range(size.fast)]
                slow = [one(rig, vendor, mode, delay_ms=SLOW_MS) for _ in range(size.slow)]
                rows[f"{vendor.name} {mode}"] = Row(
                    calls=round(fast[0]["calls"]),
                    # A call more or less, as when a poll came late, is no part of the path.
                    chain=min((longest_chain(entries) for _, entries in slow), key=len),
                    fast=spreads(fast),
                    slow=spreads(figures for figures, _ in slow),
                )
    return ImportTable(rows=rows, memory_mb=memory)


def longest_chain(entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Returns the most calls of which each began when the one before it had ended."""
    chains: list[tuple[float, tuple[str, ...]]] = []
    for entry in sorted(entries, key=lambda one: str(one["time"])):
        began = datetime.fromisoformat(entry["time"]).timestamp() * 1000
        ended_before = (chain for ended, chain in chains if ended <= began + _SLACK_MS)
        before = max(ended_before, key=len, default=())
        operation = f"{entry['vendor']} {entry['operation']}"
        chains.append((began + entry["duration_ms"], (*before, operation)))
    return max((chain for _, chain in chains), key=len, default=())


def one(
    rig: Rig, vendor: Vendor, mode: str, *, delay_ms: float = 0.0
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Runs one import and returns its times in milliseconds, and its outside calls."""
    time.sleep(_IDLE_SECONDS)
    order = order_of(rig, vendor, mode)
    if delay_ms:
        rig.control("faults", {"action": "delay", "seconds": delay_ms / 1000, "times": None})
    answer = rig.api.post("/v1/imports", json=order.body)
    assert answer.status_code == 202, answer.text
    import_id: str = answer.json()["id"]
    job = rig.wait([import_id])[import_id]
    if delay_ms:
        rig.sandbox.delete("/_sandbox/faults")
    if job["status"] != "active":
        raise SystemExit(f"an import ended {job['status']}: {job['error']}")
    ((total, in_steps),) = rig.sql(
        f"""
        SELECT extract(epoch FROM j.finished_at - j.created_at) * 1000,
               sum(extract(epoch FROM s.finished_at - s.started_at)) * 1000
        FROM import_jobs j JOIN job_steps s ON s.job_id = j.id
        WHERE j.id = '{import_id.removeprefix("imp_")}' GROUP BY j.id
        """  # noqa: S608 -- our own id
    )
    entries = rig.journal(import_id)
    figures = {
        "total": float(total),
        "in_steps": float(in_steps),
        "between_steps": float(total) - float(in_steps),
        "at_sandbox": sum(entry["duration_ms"] for entry in entries),
        "calls": float(len(entries)),
    }
    return figures, entries


def _memory(rig: Rig) -> dict[str, float]:
    """Returns the worker's resident memory in MB after ten imports at each provider in turn."""
    pid = rig.stack.workers[0].pid
    assert pid is not None
    found = {"at start": psutil.Process(pid).memory_info().rss / 2**20}
    for vendor in VENDORS:
        orders = [order_of(rig, vendor, "webhook") for _ in range(10)]
        ids = [rig.api.post("/v1/imports", json=order.body).json()["id"] for order in orders]
        ended = rig.wait(ids)
        assert {job["status"] for job in ended.values()} == {"active"}, ended
        found[f"after {vendor.name}"] = psutil.Process(pid).memory_info().rss / 2**20
    return found
