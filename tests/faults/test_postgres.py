"""Postgres goes away in the middle of imports, in each of its ways, and comes back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.faults.scenes import Scene, verdict
from tests.rig import Rig

WEBHOOK = Scene(mode="webhook", fails=False)


def _restart(rig: Rig) -> None:
    rig.stack.postgres.restart()


def _down_at_once(rig: Rig) -> None:
    """Immediate shutdown: no goodbye to anybody, and recovery at the next start."""
    pid = rig.stack.postgres.pid
    assert pid is not None
    os.kill(pid, signal.SIGQUIT)
    time.sleep(3)
    rig.stack.postgres.start()


def _kill(rig: Rig) -> None:
    rig.stack.postgres.kill()
    time.sleep(1)
    rig.stack.postgres.start()


class Client:
    """Asks the API all the time, as callers do, and notes what is not as promised."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._ended = threading.Event()
        self.wrong: list[str] = []
        self.answers = 0

    @contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _ask(self) -> None:
        while not self._ended.wait(0.02):
            for path in ("/v1/imports?limit=1", "/readyz", "/healthz"):
                self._judge(path, self._rig.api.get(path))

    def _judge(self, path: str, answer: httpx.Response) -> None:
        self.answers += 1
        if answer.status_code == 200:
            return
        in_words = answer.status_code == 503 and path != "/healthz"
        if not in_words or (path.startswith("/v1") and "Retry-After" not in answer.headers):
            self.wrong.append(f"{path}: {answer.status_code} {answer.text}")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("away", [_restart, _down_at_once, _kill])
def test_no_import_is_lost_and_the_parts_go_on(rig: Rig, away: Callable[[Rig], None]) -> None:
    worker, beat = rig.stack.workers[0], rig.stack.beat
    worker.start()
    customers = {}
    for _ in range(12):
        customer = rig.customer()
        rig.fault(account=customer.sid, write=True, action="delay", seconds=0.3, times=None)
        customers[rig.submit(customer)["id"]] = customer
    pids = worker.pid, beat.pid, rig.stack.api.pid
    time.sleep(0.7)
    client = Client(rig)
    with client.asking():
        away(rig)
        back = time.monotonic()
        time.sleep(0.5)
    rig.wait(customers, seconds=60)
    # Whoever waited for the database goes on with its step; a lease (3 s) or a message (1 s) that
    # was lost nevertheless is found by the sweep, and the work that was left takes about 2 s.
    assert time.monotonic() - back < 20
    fresh = rig.customer()
    customers[rig.submit(fresh)["id"]] = fresh
    rig.wait(customers, seconds=30)
    assert client.answers > 0
    assert client.wrong == []
    assert (worker.pid, beat.pid, rig.stack.api.pid) == pids
    assert (worker.alive, beat.alive) == (True, True)
    worker.stop()
    assert not verdict(rig, WEBHOOK, customers)
