from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from worker.steps._core import _kept


class _Thing:
    def __init__(self, *, ready: bool) -> None:
        self.asked, self.ready = threading.Event(), threading.Event()
        if ready:
            self.ready.set()

    @_kept
    def made(self) -> object:
        """What takes a while to make."""
        self.asked.set()
        assert self.ready.wait(10)
        return object()


def test_who_makes_something_slow_holds_up_no_other() -> None:
    slow, quick = _Thing(ready=False), _Thing(ready=True)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(lambda: slow.made)
        assert slow.asked.wait(10)
        assert pool.submit(lambda: quick.made).result(5) is quick.made
        assert not waiting.done()
        slow.ready.set()
        assert waiting.result(5) is slow.made


def test_of_two_that_were_made_at_once_one_is_kept() -> None:
    thing = _Thing(ready=False)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(lambda: thing.made) for _ in range(2)]
        thing.ready.set()
        first, second = (one.result(5) for one in both)
    assert first is second is thing.made
