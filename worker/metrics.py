"""Prometheus metrics of one process: how jobs and steps end, how long they take, and vendors, too.

Labels are words of ours, so that there are never more than a few hundred series: no id, no number,
no tenant, and nothing that a caller or a vendor wrote. What is counted over all processes is asked
of the database at each scrape (:mod:`worker.service.figures`).
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from worker.domain.allowances import Allowance
from worker.domain.errors import BY_CODE
from worker.domain.values import ProviderName

# When each series began, for every counter: twice as many series, and Prometheus does not need it.
disable_created_metrics()  # type: ignore[no-untyped-call]

#: Stands for every word that this release does not know.
OTHER: Final = "other"
#: The error code of what ended well.
NO_ERROR: Final = "none"

BUILD = Gauge("trunkline_build_info", "The release that runs; always 1", ["version"])
BUILD.labels(importlib.metadata.version("trunkline")).set(1)

STEP_SECONDS = Histogram(
    "trunkline_step_seconds",
    "Duration of one attempt at a step, by step, direction and outcome (done or an error code)",
    ["step", "direction", "outcome"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
STEP_RETRIES = Counter(
    "trunkline_step_retries_total",
    "Attempts at a step that failed and are to be followed by another one",
    ["step", "direction", "error_code"],
)
JOBS_ENDED = Counter(
    "trunkline_jobs_ended_total",
    "Jobs that came to an end, by final state and error code; stuck ones wait for an operator",
    ["kind", "provider", "state", "error_code"],
)
JOB_SECONDS = Histogram(
    "trunkline_job_seconds",
    "Time from the submit of a job to its end",
    ["kind", "provider", "state"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600),
)
VENDOR_CALL_SECONDS = Histogram(
    "trunkline_vendor_call_seconds",
    "Time from a request to a vendor or to LiveKit until its answer begins, by outcome",
    ["vendor", "method", "outcome"],
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
RATE_LIMIT_WAIT_SECONDS = Histogram(
    "trunkline_rate_limit_wait_seconds",
    "For how long an account's jobs are held back, each time its provider asks to slow down",
    ["provider"],
    buckets=(1, 2.5, 5, 10, 30, 60, 120, 300),
)
SWEEP_RESCUES = Counter(
    "trunkline_sweep_rescues_total",
    "Jobs that the sweep sent because their worker died or their message was lost",
)
CHECKS = Counter(
    "trunkline_checks_total",
    "Periodic checks of numbers, by verdict, or the error that kept us from looking",
    ["provider", "verdict"],
)
DRIFT_FOUND = Counter(
    "trunkline_drift_found_total", "Numbers that a periodic check found changed", ["provider"]
)
SUBMITS = Counter("trunkline_submits_total", "Imports accepted", ["provider"])
RATE_LIMITED = Counter(
    "trunkline_rate_limited_total", "Requests refused because a key sent too many", ["allowance"]
)
NOTIFICATIONS = Counter(
    "trunkline_notifications_total",
    "Attempts at delivering a notification, by outcome (delivered, retried or given_up)",
    ["outcome"],
)


_PROVIDERS: Final = frozenset(ProviderName)
#: The codes for which neither the customer nor the number is to blame: what alerts are about.
OURS: Final = (
    "callbacks_unreachable",
    "internal_error",
    "livekit_misconfigured",
    "livekit_unavailable",
    "provider_rate_limited",
    "provider_unavailable",
    OTHER,
)
# A series that began with its first failure would hide it: only what rises is seen.
for _provider in ProviderName:
    JOBS_ENDED.labels("import", _provider, "active", NO_ERROR)
    JOBS_ENDED.labels("import", _provider, "stuck", "undo_failed")
    for _ours in OURS:
        JOBS_ENDED.labels("import", _provider, "failed", _ours)
    DRIFT_FOUND.labels(_provider)
for _outcome in ("delivered", "retried", "given_up"):
    NOTIFICATIONS.labels(_outcome)
for _allowance in Allowance:
    RATE_LIMITED.labels(_allowance)


def _code(code: str | None) -> str:
    """A row may hold a code of another release."""
    return NO_ERROR if code is None else code if code in BY_CODE else OTHER


# Looking a series up by its labels costs more than counting: each is looked up once.


@cache
def _step_seconds(step: str, direction: str, outcome: str) -> Histogram:
    return STEP_SECONDS.labels(step, direction, outcome)


@cache
def _vendor_call_seconds(vendor: str, method: str, outcome: str) -> Histogram:
    return VENDOR_CALL_SECONDS.labels(vendor, method, outcome)


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
        seconds = time.perf_counter() - started
        _step_seconds(step, _direction(undo=undo), outcome.name).observe(seconds)


def _direction(*, undo: bool) -> str:
    return "undo" if undo else "forward"


def count_retry(step: str, *, undo: bool, code: str) -> None:
    """Counts an attempt that is to be followed by another one."""
    STEP_RETRIES.labels(step, _direction(undo=undo), _code(code)).inc()


def count_end(*, kind: str, provider: str, state: str, code: str | None, seconds: float) -> None:
    """Counts a job that came to an end, and how long it took from its submit."""
    provider = provider if provider in _PROVIDERS else OTHER
    JOBS_ENDED.labels(kind, provider, state, _code(code)).inc()
    JOB_SECONDS.labels(kind, provider, state).observe(seconds)


def count_rate_limit(provider: str, *, seconds: float) -> None:
    """Counts that a provider asked an account to slow down, and for how long."""
    provider = provider if provider in _PROVIDERS else OTHER
    RATE_LIMIT_WAIT_SECONDS.labels(provider).observe(seconds)


#: HTTP methods that adapters use; whatever else there may be is folded.
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
#: What an answer of a vendor is, by its status; the first row that holds it wins.
_ANSWERS: Final = (
    (range(200, 300), "ok"),
    (range(404, 405), "not_found"),
    (range(429, 430), "rate_limited"),
    (range(300, 500), "refused"),
)


def count_vendor_call(vendor: str, method: str, status: int | None, seconds: float) -> None:
    """Counts one request to a vendor; no status means that no answer came."""
    method = method if method in _METHODS else OTHER
    _vendor_call_seconds(vendor, method, _answer(status)).observe(seconds)


@cache
def _answer(status: int | None) -> str:
    if status is None:
        return "unanswered"
    return next((word for statuses, word in _ANSWERS if status in statuses), "failed")
