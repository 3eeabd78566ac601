"""Beat sleeps until it is time, and is on time."""

from __future__ import annotations

import time
from typing import Any, Final

import celery

from tests.conftest import make_settings
from worker.beat import Scheduler
from worker.celery_app import configuration

_EVERY_SECONDS: Final = 0.1


class Noting(Scheduler):
    """Notes when something is due instead of sending it."""

    sent: list[float]
    #: Of no use without a broker.
    producer = None

    def apply_entry(self, entry: Any, producer: Any = None) -> None:  # noqa: ARG002 -- as in celery
        self.sent.append(time.monotonic())


def test_it_sleeps_until_the_next_entry_is_due_and_is_on_time() -> None:
    app = celery.Celery("beat-test", set_as_current=False)
    app.conf.beat_schedule = {"sweep": {"task": "sweep", "schedule": _EVERY_SECONDS}}
    beat: Any = Noting(app, max_interval=1.0)
    beat.sent = []
    looks, begun = 0, time.monotonic()
    # As celery.beat.Service has it.
    while len(beat.sent) < 6:
        looks += 1
        time.sleep(max(0.0, beat.tick()))
    assert looks < 30, "it turned without a pause"
    assert time.monotonic() - begun < 12 * _EVERY_SECONDS


def test_it_is_the_one_that_beat_runs() -> None:
    found = configuration(make_settings("postgresql://h/d"))
    assert found["beat_scheduler"] == f"{Scheduler.__module__}:{Scheduler.__qualname__}"
