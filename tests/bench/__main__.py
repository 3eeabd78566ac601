"""Measures one import alone on an idle stack, and where its time goes: ``make bench``.

The clock is Postgres' own, from the row's insert to its end. "in steps" is the time between a
step's claim and its end, of which "at sandbox" is what the vendors' side took; the rest is SDKs,
database and Python. "between steps" is the queue: messages, and claiming the next step. The longest
path is the number of calls that wait for each other, told from a second run in which every call
takes longer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from tests.rig import Rig, running
from tests.vendors import VENDORS, order_of

#: A second run adds this to every call, to count those that wait for each other.
SLOW_SECONDS = 0.1
#: Between two imports, so that each one finds the stack idle.
IDLE_SECONDS = 0.3


def measure(rig: Rig, mode: str, *, delay: float = 0.0) -> dict[str, float]:
    """Runs one import and returns its times in milliseconds, and its number of outside calls."""
    customer = rig.customer(mode=mode)
    if delay:
        rig.control("faults", {"action": "delay", "seconds": delay, "times": None})
    import_id = rig.submit(customer)["id"]
    job = rig.wait([import_id])[import_id]
    if delay:
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
    return {
        "total": float(total),
        "in_steps": float(in_steps),
        "between_steps": float(total) - float(in_steps),
        "at_sandbox": sum(entry["duration_ms"] for entry in entries),
        "calls": len(entries),
    }


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Returns minimum, median and maximum of every figure."""
    return {
        name: {
            "min": round(min(row[name] for row in rows), 2),
            "median": round(statistics.median(row[name] for row in rows), 2),
            "max": round(max(row[name] for row in rows), 2),
        }
        for name in rows[0]
    }


def memory(rig: Rig) -> dict[str, float]:
    """Returns the worker's resident memory in MB after ten imports at each provider in turn."""
    pid = rig.stack.workers[0].pid
    assert pid is not None
    found = {"at_start": psutil.Process(pid).memory_info().rss / 2**20}
    for vendor in VENDORS:
        orders = [order_of(rig, vendor, "webhook") for _ in range(10)]
        ids = [rig.api.post("/v1/imports", json=order.body).json()["id"] for order in orders]
        ended = rig.wait(ids)
        assert {job["status"] for job in ended.values()} == {"active"}, ended
        found[f"after_{vendor.name}"] = psutil.Process(pid).memory_info().rss / 2**20
    return {name: round(value, 1) for name, value in found.items()}


def main() -> None:
    """Prints a table, or JSON with --json."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with running(without={"flower"}, env={}) as rig:
        used = memory(rig)
        for mode in ("webhook", "sip_trunk"):
            measure(rig, mode)  # the first one pays for imports and connections
            rows = []
            for _ in range(options.runs):
                time.sleep(IDLE_SECONDS)
                rows.append(measure(rig, mode))
            found[mode] = summary(rows)
            slow = measure(rig, mode, delay=SLOW_SECONDS)
            path = (slow["total"] - found[mode]["total"]["median"]) / (SLOW_SECONDS * 1000)
            found[mode]["longest_path_calls"] = round(path)
    if options.json:
        found["worker_memory_mb"] = used
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    growth = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in used.items())
    sys.stdout.write(f"\nworker memory (MB), ten imports at each provider in turn: {growth}\n")
    for mode, figures in found.items():
        calls, path = figures.pop("calls")["median"], figures.pop("longest_path_calls")
        sys.stdout.write(
            f"\none {mode} import alone, sandbox at 0 ms, {options.runs} runs: "
            f"{calls:.0f} outside calls, {path} of them one after the other\n"
        )
        for name, figure in figures.items():
            sys.stdout.write(
                f"  {name.replace('_', ' '):<14}"
                f"{figure['median']:8.1f} ms   ({figure['min']:.1f} - {figure['max']:.1f})\n"
            )


if __name__ == "__main__":
    main()
