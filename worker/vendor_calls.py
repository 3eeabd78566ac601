"""Every request to a vendor or to LiveKit, counted, timed and shown in its job's trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from worker import metrics, tracing
from worker.domain.job import Attempt
from worker.tracing import Call


@contextmanager
def observed(attempt: Attempt, vendor: str, *, method: str, url: str) -> Iterator[Call]:
    """Observes one request; whoever sends it notes the status of the answer, if one comes."""
    call = Call()
    started = time.perf_counter()
    try:
        with tracing.calling(attempt.trace_parent, vendor, method=method, url=url, call=call):
            yield call
    finally:
        seconds = time.perf_counter() - started
        metrics.count_vendor_call(vendor, method, call.status, seconds)
