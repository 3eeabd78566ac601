"""Waiting for an import without holding a thread, and the headers that ask for it.

``Prefer: wait`` is RFC 7240, ``ETag`` and ``If-None-Match`` are RFC 9110.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final
from uuid import UUID

import anyio
import anyio.to_thread
import structlog
from fastapi import Request

from worker.domain.job import FINAL, JobState
from worker.service import DATABASE_ERRORS, Service

_log = structlog.get_logger()

LONGEST_WAIT_SECONDS: Final = 60
#: Most imports take less than a second, some take minutes: ask often at first, then rarely.
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 0.25
_PAUSE_GROWTH: Final = 1.3
#: Threads for asking, shared by all who wait: they can never take the threads of other requests.
#: One question takes about a millisecond.
POLLING_THREADS: Final = 4

_LONGEST_HEADER: Final = 1000
_PREFERENCE: Final = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_ENTITY_TAG: Final = re.compile(r'(?:W/)?("[!#-~]*")')


class Watch:
    """Watches imports for everybody who waits."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._threads = anyio.CapacityLimiter(POLLING_THREADS)
        self._ending = False

    @contextmanager
    def ended_by_sigterm(self) -> Iterator[None]:
        """Answers everybody who waits as soon as the server is asked to stop.

        The server would cut them off when its own patience ends. Only it may say what a signal
        does, so this listens in on it.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # a program that runs the API inside it has its own signals
            return
        server = signal.getsignal(signal.SIGTERM)

        def end(number: int, frame: FrameType | None) -> None:
            self._ending = True
            if callable(server):
                server(number, frame)
            else:
                signal.signal(number, server)
                signal.raise_signal(number)

        signal.signal(signal.SIGTERM, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, server)

    async def until(
        self,
        reached: Callable[[int, JobState], bool],
        job_id: UUID,
        *,
        seconds: float,
        request: Request,
    ) -> None:
        """Returns once an import's version and state are as wanted, or the time is up.

        Also returns when the client has gone, or the server is to stop. A database that is away is
        asked again.
        """
        deadline = anyio.current_time() + seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                found = await anyio.to_thread.run_sync(
                    self._service.import_version, job_id, limiter=self._threads
                )
            except DATABASE_ERRORS as error:
                _log.warning("database unavailable", error=type(error).__name__)
            else:
                if found is None or reached(*found):
                    return
            left = deadline - anyio.current_time()
            if left <= 0 or self._ending or await request.is_disconnected():
                return
            await anyio.sleep(min(pause, left))
            pause = min(pause * _PAUSE_GROWTH, _LONGEST_PAUSE_SECONDS)


def is_final(_version: int, state: JobState) -> bool:
    """Whether nothing moves the import on by itself."""
    return state in FINAL


def preferred_wait(values: Sequence[str]) -> int | None:
    """Returns the seconds of ``Prefer: wait=N``, at most a minute; None if it is not asked for.

    The first of several counts, and one that makes no sense is ignored, as RFC 7240 has it.
    """
    given = ",".join(values)
    # Quoted strings are matched in quadratic time; nobody prefers this much.
    for preference in _PREFERENCE.findall(given) if len(given) < _LONGEST_HEADER else ():
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            text = value.strip().strip('"')
            found = _SECONDS.fullmatch(text)
            return None if found is None else min(int(text), LONGEST_WAIT_SECONDS)
    return None


def entity_tag(version: int) -> str:
    """Returns an import's ETag.

    Weak: the same version always means the same, but another release may write it differently.
    """
    return f'W/"{version}"'


def matches(if_none_match: Sequence[str], tag: str) -> bool:
    """Whether an If-None-Match names this tag, by RFC 9110's weak comparison."""
    given = ",".join(if_none_match)
    return given.strip() == "*" or tag.removeprefix("W/") in _ENTITY_TAG.findall(given)
