"""Waiting for an import without holding a thread, and the headers that ask for it.

``Prefer: wait`` is RFC 7240, ``ETag`` and ``If-None-Match`` are RFC 9110.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
#: One question asks for everybody whose time has come; while more than a few wait, those of this
#: long are put together.
_FEW: Final = 20
_GATHER_SECONDS: Final = 0.025
#: How often it is looked whether a client that waits has gone.
_GONE_SECONDS: Final = 1.0
#: Threads for asking: those who wait can never take the threads of other requests.
POLLING_THREADS: Final = 1

_LONGEST_HEADER: Final = 1000
_PREFERENCE: Final = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_ENTITY_TAG: Final = re.compile(r'(?:W/)?("[!#-~]*")')


@dataclass(kw_only=True, eq=False)
class _Waiter:
    """Somebody who waits for an import."""

    job_id: UUID
    reached: Callable[[int, JobState], bool]
    done: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    #: When to ask for it next, and how long to wait after that.
    next_at: float = 0.0
    pause: float = _FIRST_PAUSE_SECONDS


class Watch:
    """Watches imports for everybody who waits, by one query for all of them at a time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._threads = anyio.CapacityLimiter(POLLING_THREADS)
        self._waiting: set[_Waiter] = set()
        self._asking: asyncio.Task[None] | None = None
        self._came = asyncio.Event()

    async def until(
        self,
        reached: Callable[[int, JobState], bool],
        job_id: UUID,
        *,
        seconds: float,
        request: Request,
    ) -> None:
        """Returns once an import's version and state are as wanted, or the time is up.

        Also returns when the client has gone. A database that is away is asked again.
        """
        deadline = time.monotonic() + seconds
        waiter = _Waiter(job_id=job_id, reached=reached)
        self._waiting.add(waiter)
        self._came.set()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        try:
            while (left := deadline - time.monotonic()) > 0:
                with anyio.move_on_after(min(left, _GONE_SECONDS)):
                    await waiter.done.wait()
                if waiter.error is not None:
                    raise waiter.error
                if waiter.done.is_set() or await request.is_disconnected():
                    return
        finally:
            self._waiting.discard(waiter)

    async def _ask(self) -> None:
        """Asks until nobody waits any more."""
        while self._waiting:
            now = time.monotonic()
            due = [waiter for waiter in self._waiting if waiter.next_at <= now]
            if due:
                await self._ask_for(due)
            if not self._waiting:
                return
            if len(self._waiting) > _FEW:
                await asyncio.sleep(_GATHER_SECONDS)
            self._came.clear()
            next_at = min((waiter.next_at for waiter in self._waiting), default=0.0)
            with anyio.move_on_after(max(0.0, next_at - time.monotonic())):
                await self._came.wait()

    async def _ask_for(self, due: Sequence[_Waiter]) -> None:
        try:
            found = await anyio.to_thread.run_sync(
                self._service.import_versions,
                {waiter.job_id for waiter in due},
                limiter=self._threads,
            )
        except DATABASE_ERRORS as error:
            _log.warning("database unavailable", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 -- each request answers for itself
            for waiter in due:
                waiter.error = error
                waiter.done.set()
            return
        else:
            for waiter in due:
                answer = found.get(waiter.job_id)
                if answer is None or waiter.reached(*answer):
                    waiter.done.set()
        now = time.monotonic()
        for waiter in due:
            waiter.next_at = now + waiter.pause
            waiter.pause = min(waiter.pause * _PAUSE_GROWTH, _LONGEST_PAUSE_SECONDS)


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
