"""The sandbox inside this process, in a thread with its own event loop: for tests."""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deploy.sandbox.app import Sandbox, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def running(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves a sandbox while the context lasts; gives its base URL."""
    started: queue.Queue[str | BaseException] = queue.Queue()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving(Sandbox(), host, port) as url:
            started.put(url)
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as problem:  # noqa: BLE001 - handed to the thread that waits
            started.put(problem)
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="sandbox", daemon=True)
    thread.start()
    url = started.get()
    if isinstance(url, BaseException):
        raise url
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
