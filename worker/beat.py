"""The scheduler that beat runs: Celery's, which sleeps until it is time."""

from __future__ import annotations

from typing import Any

import celery.beat


class Scheduler(celery.beat.Scheduler):  # type: ignore[misc] # celery is untyped
    """Sleeps until the next entry is due.

    Celery's wakes ten milliseconds early and turns without a pause until they are over: with one
    entry a second that is a hundredth of a core, most of what an idle system took.
    """

    def adjust(self, n: Any, drift: float = 0.0) -> Any:  # noqa: ANN401 -- as in celery
        """Returns for how long to sleep before something that is due in so many seconds."""
        return super().adjust(n, drift)
