"""The watchdog of this worker process: what it sees of Celery, and how it sends a pulse.

What it makes of that is in worker/watchdog.py.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any, Final

import kombu.pools
import structlog
from celery import signals
from celery.concurrency.thread import TaskPool

from worker.celery_app import (
    BROKER_ERRORS,
    PATIENCE_SECONDS,
    app,
    impatient_connection,
    own_queue,
)
from worker.settings import load
from worker.watchdog import LOOKS, Watchdog

_log = structlog.get_logger()

#: How a worker that takes no more work ends; a supervisor starts it again.
STALLED_EXIT_CODE: Final = 70
#: How long such a worker waits for the tasks that it is still doing.
_FAREWELL_SECONDS: Final = 10.0


@app.task(name="workers.pulse", acks_late=False, send_events=False)
def pulse() -> None:
    """Does nothing: that it begins is what counts."""


@signals.worker_ready.connect(weak=False)
def _watch(sender: Any, **_: object) -> None:  # noqa: ANN401 -- Celery's consumer
    if not isinstance(sender.pool, TaskPool):
        # Tasks would begin where this process does not see them.
        _log.warning("no watchdog: it needs the threads pool", pool=type(sender.pool).__name__)
        return
    settings = load()
    every_seconds = settings.stall_seconds / LOOKS
    watchdog = Watchdog(
        places=sender.pool.limit,
        send_pulse=_Pulses(expires=2 * every_seconds).send,
        on_stall=lambda: _give_up(watchdog),
        pulse_file=settings.pulse_file,
    )
    stopping = threading.Event()
    # Celery's own sender of these is in the way of a plain method.
    signals.task_prerun.connect(lambda task_id, **_: watchdog.began(task_id), weak=False)
    signals.task_postrun.connect(lambda task_id, **_: watchdog.ended(task_id), weak=False)
    # A worker that was asked to stop takes no more work, and rightly so.
    signals.worker_shutting_down.connect(lambda **_: stopping.set(), weak=False)
    thread = threading.Thread(
        target=_look_forever, args=(watchdog, every_seconds, stopping), name="watchdog", daemon=True
    )
    thread.start()


class _Pulses:
    """Sends pulses to one worker, over a connection that has nothing to do with its consumer's."""

    def __init__(self, *, expires: float) -> None:
        #: One that nobody took is of no use to the worker that comes after.
        self._expires = expires
        self._producers = kombu.pools.producers[impatient_connection()]

    def send(self) -> bool:
        """Sends one; False if the broker did not take it."""
        try:
            with self._producers.acquire(block=True, timeout=PATIENCE_SECONDS) as producer:
                pulse.apply_async(
                    queue=own_queue(), producer=producer, retry=False, expires=self._expires
                )
        except BROKER_ERRORS:
            return False
        return True


def _look_forever(watchdog: Watchdog, every_seconds: float, stopping: threading.Event) -> None:
    while not stopping.wait(every_seconds):
        try:
            watchdog.tick()
            _tell_systemd()
        except Exception as error:  # noqa: BLE001 -- a watchdog that dies guards nothing
            _log.warning("watchdog could not look", error=type(error).__name__)


def _tell_systemd() -> None:
    """Says that this worker is well, where systemd waits for that (WatchdogSec).

    https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
        telling.sendto(b"WATCHDOG=1", address)


def _give_up(watchdog: Watchdog) -> None:
    deadline = time.monotonic() + _FAREWELL_SECONDS
    while watchdog.running and time.monotonic() < deadline:
        time.sleep(0.1)
    # Not sys.exit: it would wait for whatever hangs. To the jobs this is like a kill.
    os._exit(STALLED_EXIT_CODE)
