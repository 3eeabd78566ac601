"""Notices a worker that lives but takes no more work, so that its supervisor can start it again.

Seen with Redis: the connection was lost and came back, the process went on, and nothing was taken
ever after. The only sign that counts is therefore that a task begins. Where none has begun for a
while the worker sends itself one, through a queue that nobody else reads: it takes the whole way
from the broker through the consumer to a free thread, or it does not arrive.

What this leaves to others: how such a task is sent and who calls :meth:`Watchdog.tick`
(worker/celery_app.py), and a process in which not even this thread runs any more (the pulse file
and whoever looks at its age).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

_log = structlog.get_logger()

#: Looks in vain, one after the other, before a worker counts as stalled.
LOOKS: Final = 9


class Watchdog:
    """Counts the looks in a row at which work should have begun and none did."""

    def __init__(
        self,
        *,
        places: int,
        send_pulse: Callable[[], bool],
        on_stall: Callable[[], None],
        pulse_file: Path | None = None,
    ) -> None:
        """``places`` is how many tasks run at a time.

        ``send_pulse`` sends the worker a task and tells whether the broker took it.
        """
        self._places = places
        self._send_pulse = send_pulse
        self._on_stall = on_stall
        self._pulse_file = pulse_file
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._begun = 0
        self._seen = 0
        self._vain = 0

    def began(self, task_id: str) -> None:
        """Notes that a task begins."""
        with self._lock:
            self._running.add(task_id)
            self._begun += 1

    def ended(self, task_id: str) -> None:
        """Notes that a task has ended."""
        with self._lock:
            self._running.discard(task_id)

    @property
    def running(self) -> int:
        """How many tasks run now."""
        with self._lock:
            return len(self._running)

    def tick(self) -> None:
        """Looks once.

        Looks are counted, not seconds: a machine that slept, or a process that was stopped, must
        get the time to take up its work again. A broker that is away is nobody's fault here and
        begins the count anew, and so does a worker whose every place is taken.
        """
        with self._lock:
            alive = self._begun != self._seen
            self._seen = self._begun
            busy = len(self._running) >= self._places
        if alive or busy:
            self._vain = 0
        elif self._send_pulse():
            self._vain += 1
        else:
            self._vain = 0
        if self._vain > LOOKS:
            _log.error("worker takes no more work", looks=self._vain, running=self.running)
            self._on_stall()
            return
        if self._pulse_file is not None:
            self._pulse_file.touch()
