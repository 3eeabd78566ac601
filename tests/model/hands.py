"""Workers of the model: real threads of which one moves at a time, to its next gate and no further.

A worker stops at a gate before each call outside and after each write. Whoever drives the model
then says how the call fares, or lets the worker wait there while everything else goes on; a worker
that is told to die is gone as after SIGKILL: no line of the product notices.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

from worker.db.records import Claim

#: A worker that has not come to its next gate after this long is deadlocked.
_PATIENCE_SECONDS: Final = 60.0
_here = threading.local()


class Fate(Enum):
    """How the call before which a worker waits fares."""

    #: It is answered.
    ANSWERED = auto()
    #: Not applied; worth another try.
    FAILED = auto()
    #: The same, and the vendor says when: soon enough for the message to wait in the broker.
    FAILED_BRIEFLY = auto()
    #: Not applied; the account is to slow down.
    LIMITED = auto()
    #: Not applied, for good.
    REFUSED = auto()
    #: A bug of ours in its place.
    BUG = auto()
    #: Applied, and the answer lost.
    ANSWER_LOST = auto()
    #: Never applied, and nobody says so.
    REQUEST_LOST = auto()
    #: Applied some time after the caller gave up waiting.
    LANDS_LATE = auto()
    #: The worker dies before the call.
    DIES = auto()
    #: The worker dies in the middle; the call is applied some time later.
    DIES_LANDS_LATE = auto()


#: Fates of a write that leave it open whether it was applied.
UNKNOWN: Final = frozenset({Fate.ANSWER_LOST, Fate.REQUEST_LOST, Fate.LANDS_LATE})

#: Fates of a write of which its worker cannot tell what became of it.
LOSING: Final = (Fate.LANDS_LATE, Fate.ANSWER_LOST, Fate.DIES_LANDS_LATE)
#: Fates that a worker does not survive.
DEADLY: Final = (Fate.DIES, Fate.DIES_LANDS_LATE)


class Killed(BaseException):
    """SIGKILL, as seen by a thread: nothing of the product catches it."""


class Clock:
    """The ``time`` module as workers see it: time passes when the model says so."""

    def __init__(self) -> None:
        self.offset = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.offset

    def time(self) -> float:
        # The rows' times are moved back instead, see Model.pass_time.
        return time.time()

    def sleep(self, _seconds: float) -> None:
        # Only the heartbeat sleeps: it beats when the model says so.
        threading.Event().wait()


class Worker:
    """One delivery of a message, in a thread of its own that moves when it is told to."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._told: queue.SimpleQueue[Fate] = queue.SimpleQueue()
        self._stopped: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._live, name="worker", daemon=True)
        self._error: BaseException | None = None
        self.ended = False
        #: The claim under which it waits, and before what.
        self.claim: Claim | None = None
        self.gate = ""

    @property
    def is_to_write(self) -> bool:
        """Whether the call before which it waits changes something outside."""
        return self.gate.split()[0] in ("make", "point", "change", "delete")

    def start(self) -> None:
        """Lets it run to its first gate, or to its end."""
        self._thread.start()
        self._wait()

    def go_on(self, fate: Fate) -> None:
        """Lets it run to its next gate, or to its end."""
        self._told.put(fate)
        self._wait()

    def _wait(self) -> None:
        self._stopped.get(timeout=_PATIENCE_SECONDS)
        if self._error is not None:
            raise self._error

    def _live(self) -> None:
        _here.worker = self
        try:
            self._work()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 -- handed to the thread that waits
            self._error = error
        finally:
            self.ended = True
            self._stopped.put(None)

    def _park(self, claim: Claim, gate: str) -> Fate:
        self.claim, self.gate = claim, gate
        self._stopped.put(None)
        fate = self._told.get()
        if fate is Fate.DIES:
            raise Killed
        return fate


def gate(claim: Claim, name: str) -> Fate:
    """Waits, as the worker that calls, until the model says how to go on."""
    worker: Worker = _here.worker
    return worker._park(claim, name)
