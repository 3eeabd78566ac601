"""Prometheus metrics of one process: how steps end, and how long they take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

STEP_SECONDS = Histogram(
    "trunkline_step_seconds",
    "Duration of one attempt at a step, by step, direction and outcome (done or an error code)",
    ["step", "direction", "outcome"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
SWEEP_RESCUES = Counter(
    "trunkline_sweep_rescues_total", "Jobs whose message the sweep had to send again"
)
CHECKS = Counter(
    "trunkline_checks_total",
    "Periodic checks of numbers, by verdict, or the error that kept us from looking",
    ["provider", "verdict"],
)
DRIFT_FOUND = Counter(
    "trunkline_drift_found_total", "Numbers that a periodic check found changed", ["provider"]
)
NUMBERS_DRIFTED = Gauge(
    "trunkline_numbers_drifted", "Active numbers last found changed by a check", ["provider"]
)
JOBS_HELD = Gauge(
    "trunkline_jobs_held", "Jobs that wait for a place among those of their organisation"
)
JOBS_STUCK = Gauge("trunkline_jobs_stuck", "Jobs that wait for an operator", ["kind"])
NOTIFICATIONS_PENDING = Gauge(
    "trunkline_notifications_pending", "Notifications that are not delivered and not given up"
)
NOTIFICATIONS_LATE = Gauge(
    "trunkline_notifications_late_seconds", "For how long the oldest due notification has been due"
)
SUBMITS = Counter("trunkline_submits_total", "Imports accepted", ["provider"])
NOTIFICATIONS = Counter(
    "trunkline_notifications_total",
    "Attempts at delivering a notification, by outcome (delivered, retried or given_up)",
    ["outcome"],
)


class Outcome:
    """How the timed attempt ended."""

    def __init__(self) -> None:
        self.name = "unknown"

    def set(self, name: str) -> None:
        """Names the outcome: "done", or an error code."""
        self.name = name


@contextmanager
def step_timer(step: str, *, undo: bool) -> Iterator[Outcome]:
    """Times one attempt at a step and counts it under its outcome."""
    outcome = Outcome()
    started = time.perf_counter()
    try:
        yield outcome
    finally:
        direction = "undo" if undo else "forward"
        STEP_SECONDS.labels(step, direction, outcome.name).observe(time.perf_counter() - started)
